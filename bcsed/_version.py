"""The version, used by setup.cfg, `bcsed versions` and bundles."""

__version__ = "0.1.0"
