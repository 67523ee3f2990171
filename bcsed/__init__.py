"""bcsed: sound event detection for animal recordings."""

from ._version import __version__

__all__ = ["__version__"]
