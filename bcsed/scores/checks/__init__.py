"""Checks of a score table by its ids and values alone.

A table is indexed by row id (``<recording>_<end second>``) and has one column per class. `check` accepts values of
any kind and raises nothing: each problem is a `Finding`, `ERROR` if the table would be scored incorrectly or not at
all, `WARNING` if it may be intended. A check takes about half a second for 8,400 rows of 234 classes.
"""

from .api import check
from .finding import ERROR, WARNING, Finding

__all__ = ["ERROR", "WARNING", "Finding", "check"]
