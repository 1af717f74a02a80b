"""Measure a generator: ``python scripts/evaluate.py checkpoint=starry_night``."""

from allaprima.entrypoints.evaluate import main

if __name__ == "__main__":
    main()
