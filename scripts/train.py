"""Train a style: ``python scripts/train.py style=starry_night``."""

from allaprima.entrypoints.train import main

if __name__ == "__main__":
    main()
