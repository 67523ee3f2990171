"""Pseudolabels of soundscapes: a teacher's probabilities, the selection of labels, and their provenance.

A table has one row per row of each recording. A value is the teacher's probability (raised to `power`) where the label
is selected, else 0. On disk it is Parquet: ``filename``, ``start``, ``end`` (seconds), one float16 column per class; a
JSON file of the same stem contains the provenance and the SHA-256.
"""

from .api import Selection, label_with_truth, make_pseudolabels, scores_folder, select
from .table import Pseudolabels, check_broadcast, read_pseudolabels, write_pseudolabels

__all__ = [
    "Pseudolabels",
    "Selection",
    "check_broadcast",
    "label_with_truth",
    "make_pseudolabels",
    "read_pseudolabels",
    "scores_folder",
    "select",
    "write_pseudolabels",
]
