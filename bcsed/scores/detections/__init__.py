"""Detections from a score table, and files of them for Raven, Audacity, CSV and Parquet.

A detection is a class in a recording from ``start_s`` to ``end_s``. Times are whole rows, computed as products and
never as sums; the last row ends at the end of the recording. The writers take one recording at a time and write each
file atomically. A recording without detections has a file too: a header only, or an empty file for Audacity.

Files are named after the recording's ``name``. Names of recordings with the same stem contain folders, which become
folders of the output.
"""

from .detect import COLUMNS, DetectionSettings, Recording, detect, parse_time
from .raven_audacity import Writer, write_audacity, write_raven
from .tables import FORMATS, read_detections, write, write_csv, write_parquet
from .taxonomy import ClassName, read_taxonomy

__all__ = [
    "COLUMNS",
    "FORMATS",
    "ClassName",
    "DetectionSettings",
    "Recording",
    "Writer",
    "detect",
    "parse_time",
    "read_detections",
    "read_taxonomy",
    "write",
    "write_audacity",
    "write_csv",
    "write_parquet",
    "write_raven",
]
