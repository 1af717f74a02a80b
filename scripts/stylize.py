"""Paint photos: ``python scripts/stylize.py photo.jpg -c starry_night``."""

from allaprima.entrypoints.stylize import main

if __name__ == "__main__":
    main()
