"""Fast feed-forward style transfer: a small network per style paints any photo in one pass."""

__version__ = "0.1.0"
