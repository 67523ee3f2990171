"""Score table -> detections, and files that people open: Raven, Audacity, CSV, Parquet.

Conventions
-----------
A detection says that a class is heard in a recording from ``start_s`` to ``end_s``. Times are whole rows, counted
and never added up, and the last one ends where the recording ends. `detect` works on one recording's rows or on
many; the writers take one recording after the other, hold little of them, and move each file into place when it
is whole. A recording without a detection has its table too, with a header and no lines; the label format of
Audacity has no header.

Exactly one file names a recording, by its ``name``: two recordings of one stem have names with folders, which
become folders of the output.
"""

from __future__ import annotations

from .detect import COLUMNS, DetectionSettings, Recording, detect, parse_time
from .raven_audacity import Writer, read_audacity, read_raven, write_audacity, write_raven
from .tables import read_detections, write_csv, write_parquet
from .taxonomy import ClassName, read_taxonomy
from .write import FORMATS, write

__all__ = [
    "COLUMNS",
    "FORMATS",
    "ClassName",
    "DetectionSettings",
    "Recording",
    "Writer",
    "detect",
    "parse_time",
    "read_audacity",
    "read_detections",
    "read_raven",
    "read_taxonomy",
    "write",
    "write_audacity",
    "write_csv",
    "write_parquet",
    "write_raven",
]
