"""Kaggle: attached inputs, sessions with a time limit, submissions, and folders that the official client uploads.

Each notebook of ``kaggle_notebooks`` calls one function (`train`, `pseudolabel`, `rounds`, `embed`, `submit`) with its
settings; `dataset` and `kernel` write the folders to upload. Importing this package imports neither torch nor the code
of training, so that a scoring notebook does not need the packages of a training.
"""

from __future__ import annotations

from .datasets import dataset
from .embeddings import embed
from .inputs import find_bundles, find_input, find_inputs, kaggle_root
from .noisy_student import rounds
from .notebooks import EmbedSettings, PseudolabelSettings, RoundsSettings, SubmitSettings, TrainSettings, kernel
from .session import pseudolabel, train
from .submission import Submission, submit, validate

__all__ = [
    "EmbedSettings",
    "PseudolabelSettings",
    "RoundsSettings",
    "Submission",
    "SubmitSettings",
    "TrainSettings",
    "dataset",
    "embed",
    "find_bundles",
    "find_input",
    "find_inputs",
    "kaggle_root",
    "kernel",
    "pseudolabel",
    "rounds",
    "submit",
    "train",
    "validate",
]
