"""What a score table itself shows of how it was made: what makes it wrong, and what is only odd.

Conventions
-----------
A table is looked at as it is: indexed by row id (``<stem>_<end second>``), one column per class, values of any
kind. `examine` refuses nothing; each thing that is seen is a `Finding`, ``ill`` where the table will be scored
wrongly or not at all, ``odd`` where that may be as it should. It takes about half a second for 8,400 rows of 234
classes, so whoever writes a table can always look: `refuse` stops at what no table that is to be scored may show.
"""

from .api import LETHAL, examine, refuse
from .finding import ILL, ODD, Finding
from .ids import Places, places, row_seconds
from .values import broadcast, numbers

__all__ = [
    "Finding",
    "ILL",
    "LETHAL",
    "ODD",
    "Places",
    "broadcast",
    "examine",
    "numbers",
    "places",
    "refuse",
    "row_seconds",
]
