"""Measure: ``python scripts/evaluate.py checkpoint=wave style.image=FOLDER/wave.jpg``."""

from allaprima.entrypoints.evaluate import main

if __name__ == "__main__":
    main()
