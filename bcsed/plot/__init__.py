"""Figures without a display: as PNG files, and as matplotlib axes for notebooks.

Functions that draw axes take ``ax=None`` and return the `matplotlib.axes.Axes`; without `ax` they create a figure
(``ax.figure``). pyplot is not used, because its figures are global. Axes have the units of librosa (time in seconds,
mel bands in Hz, power in dB), a title, and a legend if colours have a meaning. A taxon has one colour in all figures.

* complete figures, written as PNG: `learning_curves`, `comparison`, `curves`, `pseudolabel_counts`;
* axes of recordings: `spectrogram`, `detections`, `attention`;
* of data: `class_counts`, `durations`, `folds`, `rows_per_class`, `rows_per_recording`;
* of trainings: `loss`, `validation`, `validations`, `variants`, `gains`;
* of scores: `class_auc_bars`, `score_histogram`, `reliability`, `precision_recall`, `correlations`, `ablation`;
* of surveys: `activity`.
"""

from __future__ import annotations

from .classes import class_auc_bars, class_counts, folds, pseudolabel_counts, rows_per_class
from .evaluation import ablation, correlations, precision_recall, reliability, score_histogram
from .recordings import attention, detections, durations, rows_per_recording, spectrogram
from .style import TAXON_COLOURS
from .survey import activity
from .training import comparison, curves, gains, learning_curves, loss, validation, validations, variants

__all__ = [
    "TAXON_COLOURS",
    "ablation",
    "activity",
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
