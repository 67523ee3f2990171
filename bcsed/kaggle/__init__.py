"""Kaggle: where inputs are, rehearsal or rerun, sessions that end, and folders that the official client pushes.

One function for each of the notebooks in ``kaggle_notebooks`` (`train`, `pseudolabel`, `submit`), and one for each
folder that is pushed (`dataset`, `kernel`). Importing this imports nothing of training: the scoring notebook must not
break on what only a training needs.
"""

from __future__ import annotations

from .datasets import dataset
from .inputs import find_bundles, find_input, find_inputs, kaggle_root
from .notebooks import kernel
from .session import pseudolabel, train
from .submission import Submission, submit, validate

__all__ = [
    "Submission",
    "dataset",
    "find_inputs",
    "find_bundles",
    "find_input",
    "kaggle_root",
    "kernel",
    "pseudolabel",
    "submit",
    "train",
    "validate",
]
