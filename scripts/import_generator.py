"""A model of PyTorch's example, made ours: ``python scripts/import_generator.py model.pth``."""

from allaprima.entrypoints.import_generator import main

if __name__ == "__main__":
    main()
