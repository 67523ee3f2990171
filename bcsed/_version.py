"""The version: read by setup.cfg, by `bcsed versions` and by every bundle."""

__version__ = "0.1.0"
