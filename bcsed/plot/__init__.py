"""Figures, made without a display: as files, and as matplotlib axes for notebooks.

Conventions
-----------
What draws into axes takes ``ax=None`` and returns the axes; without one it makes a figure of its own (``ax.figure``),
and pyplot, whose figures are global, is never asked. Axes are as librosa's: time in seconds, mel bands in Hz, power in
dB. Every one has a title, units, and a legend where colours mean something. A taxon has one colour, everywhere.

Files
-----
`learning_curves`, `comparison`, `curves`, `pseudolabel_counts` : a whole figure each, written as PNG.

Axes
----
* of what was heard: `spectrogram`, `detections`, `attention`;
* of the data: `class_counts`, `durations`, `folds`, `rows_per_class`, `rows_per_recording`;
* of learning: `loss`, `validation`, `validations`, `variants`, `gains`;
* of scores: `class_auc_bars`, `score_histogram`, `reliability`, `precision_recall`, `correlations`, `ablation`.
"""

from __future__ import annotations

from .classes import class_auc_bars, class_counts, durations, folds, rows_per_class, rows_per_recording
from .evaluation import ablation, correlations, precision_recall, reliability, score_histogram
from .figures import comparison, curves, learning_curves, pseudolabel_counts
from .recordings import attention, detections, spectrogram
from .style import TAXON_COLOURS
from .training import gains, loss, validation, validations, variants

__all__ = [
    "TAXON_COLOURS",
    "ablation",
    "attention",
    "class_auc_bars",
    "class_counts",
    "comparison",
    "correlations",
    "curves",
    "detections",
    "durations",
    "folds",
    "gains",
    "learning_curves",
    "loss",
    "precision_recall",
    "pseudolabel_counts",
    "reliability",
    "rows_per_class",
    "rows_per_recording",
    "score_histogram",
    "spectrogram",
    "validation",
    "validations",
    "variants",
]
