"""Optimise pixels: ``python scripts/gatys.py style.image=painting.jpg output=swatch.png``."""

from allaprima.entrypoints.gatys import main

if __name__ == "__main__":
    main()
