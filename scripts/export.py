"""A generator for other programs: ``python scripts/export.py checkpoint=starry_night``."""

from allaprima.entrypoints.export import main

if __name__ == "__main__":
    main()
