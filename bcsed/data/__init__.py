"""Competitions as data: their files, class lists, labels and row ids.

Labels are always text: ``1139490`` is a taxon number, and ``024`` is not ``24``. The class list is read from the files
that define a submission, never from the folders that exist (28 classes of 2026 have no recordings). Only the layout for
other recordings, `FOLDERS`, may take its classes from folders. Paths in tables are joined to the data folder as given.
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
