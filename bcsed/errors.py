"""What goes wrong because of an input, told in one sentence each.

Every error that a user can cause derives from `BcsedError`; the command line prints it without a
traceback and exits with 2. Anything else is a defect of bcsed and keeps its traceback.
"""


class BcsedError(Exception):
    """The root: one sentence with the offending value in it, and the way out."""


class ConfigError(BcsedError, ValueError):
    """A setting is unknown, missing, of the wrong type or outside its range."""


class DataError(BcsedError, ValueError):
    """A recording, a label file or a score table cannot be used as it is."""


class BundleError(BcsedError, ValueError):
    """A bundle is incomplete, changed, contradicts itself, or does not answer as it did."""
