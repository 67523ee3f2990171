"""Figures, made without a display."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_MARKS = {"clip_auc": "held-out clips", "row_auc": "soundscape rows"}


def learning_curves(history: pd.DataFrame, path: str | Path, *, title: str = "") -> None:
    """Draw a training's loss and macro ROC-AUC over its epochs into a PNG file.

    Parameters
    ----------
    history : DataFrame
        One row per epoch, as in ``metrics.csv``.
    path : str or Path
        Where to; its suffix does not matter.
    title : str
        Above the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    left.plot(history["epoch"], history["loss"], marker=".", label="training")
    left.set(xlabel="epoch", ylabel="loss", title="Loss")
    left.legend()
    for column, name in _MARKS.items():
        if column in history:
            right.plot(history["epoch"], history[column], marker=".", label=name)
    right.axhline(0.5, color="grey", linewidth=0.8, linestyle=":", label="chance")
    right.set(xlabel="epoch", ylabel="macro ROC-AUC", title="Validation", ylim=(0.4, 1.0))
    right.legend(loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)
