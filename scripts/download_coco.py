"""Fetch the COCO photographs: ``python scripts/download_coco.py DATA_FOLDER``."""

from allaprima.entrypoints.download_coco import main

if __name__ == "__main__":
    main()
