"""A year is data: where its files are, what its classes are called, how its rows are named.

Conventions
-----------
A label is text, always: ``1139490`` is a taxon number and ``024`` is not ``24``. The class list comes from
the files that say what a submission must hold, never from the folders that happen to exist (28 classes of
2026 have no recording); only the layout for one's own recordings, `FOLDERS`, may name its classes by
folders. Paths in the tables are as given by the caller, joined to the data folder.
"""

from __future__ import annotations

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
