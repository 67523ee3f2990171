"""Errors caused by the user's input.

All of them derive from `BcsedError`; the command line prints them as one sentence without a traceback and exits with
status 2. Other exceptions are defects of bcsed and keep their traceback.
"""


class BcsedError(Exception):
    """Base class: one sentence with the invalid value and the way out."""

    def __str__(self) -> str:
        # File names may contain bytes that are not UTF-8; a message can always be printed and written.
        return super().__str__().encode("utf-8", "backslashreplace").decode("utf-8")


class ConfigError(BcsedError, ValueError):
    """A setting is unknown, missing, of the wrong type or out of range."""


class DataError(BcsedError, ValueError):
    """A recording, label file or score table is invalid."""


class BundleError(BcsedError, ValueError):
    """A bundle is incomplete, modified or inconsistent, or its output differs from its probe."""
