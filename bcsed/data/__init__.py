"""Competitions as data: their files, class lists, labels and row ids.

Labels are always text: ``1139490`` is a taxon number, and ``024`` is not ``24``. The class list is read from the files
that define a submission, never from the folders that exist (28 classes of 2026 have no recordings). Only the layout for
other recordings, `FOLDERS`, may take its classes from folders. Paths in tables are joined to the data folder as given.
"""

from .competitions import (
    AUDIO_SUFFIXES,
    BIRDCLEF_2025,
    BIRDCLEF_2026,
    COMPETITIONS,
    FOLDERS,
    Competition,
    RecordingName,
    detect_competition,
    parse_recording_name,
    read_class_list,
    read_taxa,
)
from .label_files import check_files, parse_labels, read_soundscape_labels, read_train, truth_table

__all__ = [
    "AUDIO_SUFFIXES",
    "BIRDCLEF_2025",
    "BIRDCLEF_2026",
    "COMPETITIONS",
    "FOLDERS",
    "Competition",
    "RecordingName",
    "check_files",
    "detect_competition",
    "parse_labels",
    "parse_recording_name",
    "read_class_list",
    "read_soundscape_labels",
    "read_taxa",
    "read_train",
    "truth_table",
]
