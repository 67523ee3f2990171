"""Competitions as data: their files, class lists, labels and row ids.

Labels are always text: ``024`` is not ``24``. The class list is read from the files that define a submission, not from
the folders that exist (28 classes of 2026 have no recordings); only the layout for other recordings, `FOLDERS`, may.
"""

from .competitions import COMPETITIONS, FOLDERS, Competition, detect_competition, read_class_list, read_taxa
from .label_files import check_files, read_soundscape_labels, read_train, truth_table

__all__ = [
    "COMPETITIONS",
    "FOLDERS",
    "Competition",
    "check_files",
    "detect_competition",
    "read_class_list",
    "read_soundscape_labels",
    "read_taxa",
    "read_train",
    "truth_table",
]
