"""What a score table itself shows of how it was made: what makes it wrong, and what is only odd.

Conventions
-----------
A table is looked at as it is: indexed by row id (``<stem>_<end second>``), one column per class, values of any
kind. `examine` refuses nothing; each thing that is seen is a `Finding`, ``ill`` where the table will be scored
wrongly or not at all, ``odd`` where that may be as it should. It takes about half a second for 8,400 rows of 234
classes, so whoever writes a table can always look: `refuse` stops at what no table that is to be scored may show.
"""

from .api import FATAL, check, require_valid
from .finding import ERROR, WARNING, Finding
from .ids import RowIds, infer_row_s, parse_row_ids
from .values import find_broadcast, numeric_values

__all__ = [
    "Finding",
    "ERROR",
    "FATAL",
    "WARNING",
    "RowIds",
    "find_broadcast",
    "check",
    "numeric_values",
    "parse_row_ids",
    "require_valid",
    "infer_row_s",
]
