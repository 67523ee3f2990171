"""Score table -> pseudolabels with provenance: which teacher said what of which row, and what of it is believed.

Conventions
-----------
A table has one row per row of each recording, in order, and one column per class *by name*. A value is the
teacher's probability (raised to `power`) where the class is believed to call in the row, and 0 elsewhere.
On disk it is Parquet: ``filename``, ``start``, ``end`` (seconds), then one float16 column per class; beside it
a JSON file of the same stem says where it came from and holds its SHA-256.
"""

from .api import answers_folder, make_pseudolabels
from .selection import Selection, select
from .table import Pseudolabels, check_broadcast, read_pseudolabels, write_pseudolabels

__all__ = [
    "Pseudolabels",
    "Selection",
    "answers_folder",
    "check_broadcast",
    "make_pseudolabels",
    "read_pseudolabels",
    "select",
    "write_pseudolabels",
]
