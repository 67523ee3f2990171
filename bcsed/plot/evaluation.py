"""Plots of score distributions, calibration, members and ablations."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .style import RULE, axes, axes_legend, display_text, plain_numbers

# Parts of an ablation table in the order of the legend: label and colour.
_PARTS = {
    "stage": ("a stage of post-processing", "C0"),
    "stages": ("all stages", "C4"),
    "without stage": ("all stages but one", "C9"),
    "member": ("a member alone", "C1"),
    "without member": ("all members but one", "C8"),
    "mean": ("a kind of mean", "C2"),
}
_UNIT_SQUARE = {"xlim": (-0.02, 1.02), "ylim": (-0.02, 1.02)}
# A larger matrix has no numbers in its cells.
_MAX_NUMBERS = 12


def score_histogram(
    scores: npt.NDArray[Any],
    ax: Any = None,
    *,
    truth: npt.NDArray[Any] | None = None,
    ylabel: str = "scores (row and class)",
    title: str = "Scores",
) -> Any:
    """Draw a histogram of scores in [0, 1] with logarithmic counts, because most scores are low.

    With `truth` (0 or 1, of the same shape), true scores and the others have a histogram each.
    """
    ax = axes(ax)
    values = np.asarray(scores, np.float64).reshape(-1)
    bins = np.linspace(0, 1, 41)
    if truth is None:
        ax.hist(values, bins=bins, color="C0")
    else:
        known = np.asarray(truth).reshape(-1) > 0
        ax.hist(values[~known], bins=bins, color="C0", alpha=0.6, label=f"not true ({(~known).sum()})")
        ax.hist(values[known], bins=bins, histtype="step", color="C1", linewidth=1.6, label=f"true ({known.sum()})")
        ax.legend()
    if len(values):
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
        plain_numbers(ax.yaxis)
    ax.set(xlabel="score (0 to 1)", ylabel=ylabel, xlim=(0, 1), title=title)
    return ax


def reliability(bins: pd.DataFrame, ax: Any = None, *, ece: float | None = None) -> Any:
    """Draw a reliability diagram: the share of true rows over the mean score of each bin.

    `bins` are as from `bcsed.scores.calibration.reliability`; `ece` is the expected calibration error, for the title.
    """
    ax = axes(ax, 4.6, 3.8)
    filled = bins[bins["n"] > 0]
    ax.plot([0, 1], [0, 1], label="calibrated", **RULE)
    ax.plot(filled["mean_score"], filled["share_true"], color="C0", linewidth=1)
    size = 12 + 28 * np.log10(filled["n"].to_numpy(np.float64))
    ax.scatter(filled["mean_score"], filled["share_true"], s=size, color="C0", label="scores, larger: more of them")
    title = "Reliability" if ece is None else f"Reliability\nexpected calibration error {ece:.3f}"
    ax.set(xlabel="mean score (0 to 1)", ylabel="share that is true (0 to 1)", title=title, **_UNIT_SQUARE)
    ax.legend(loc="best")
    return ax


def precision_recall(
    truth: npt.NDArray[Any], scores: npt.NDArray[Any], ax: Any = None, *, thresholds: pd.DataFrame | None = None
) -> Any:
    """Draw precision over recall of all classes together; `truth` (0 or 1) and `scores` have the shape (N, K).

    Each class with a threshold in `thresholds`, as `bcsed.scores.calibration.Calibration.table` with ``precision``,
    ``recall`` and ``threshold``, is a dot.
    """
    from sklearn.metrics import precision_recall_curve

    ax = axes(ax, 4.6, 3.8)
    known = np.asarray(truth).reshape(-1) > 0
    if known.any():
        precision, recall, _ = precision_recall_curve(known, np.asarray(scores, np.float64).reshape(-1))
        # The last point, a recall of 0, does not belong to a threshold.
        ax.step(recall[:-1], precision[:-1], where="post", color="C0", label="all classes, one threshold")
    ax.axhline(known.mean() if len(known) else 0.0, label="chance", **RULE)
    if thresholds is not None:
        reached = thresholds[thresholds["threshold"].notna()]
        ax.plot(reached["recall"], reached["precision"], "o", color="C1", label="a class at its own threshold")
    ax.set(xlabel="recall (0 to 1)", ylabel="precision (0 to 1)", title="Precision and recall", **_UNIT_SQUARE)
    ax.legend(loc="best")
    return ax


def correlations(matrix: pd.DataFrame, ax: Any = None) -> Any:
    """Draw the rank correlations (Spearman) of M members, as from `bcsed.scores.postprocess.spearman`."""
    n = len(matrix)
    names = [display_text(str(name)) for name in matrix.columns]
    longest = max(map(len, names), default=0)
    ax = axes(ax, 2.6 + 0.12 * longest + 0.5 * n, 1.6 + 0.08 * longest + 0.45 * n)
    values = matrix.to_numpy(np.float64)
    image = ax.imshow(values, vmin=0, vmax=1, cmap="cividis")
    ax.set_xticks(range(n), names, rotation=30, ha="right", fontsize=8)
    ax.set_yticks(range(n), names, fontsize=8)
    for (row, column), value in np.ndenumerate(values) if n <= _MAX_NUMBERS else ():
        text = f"{value:.2f}" if np.isfinite(value) else "none"
        # Almost black and white: a web page may replace exact black and white by its own colours.
        colour = "#010101" if value > 0.6 else "#fefefe" if np.isfinite(value) else "grey"
        ax.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    ax.figure.colorbar(image, ax=ax, label="Spearman (0 to 1)")
    ax.set(xlabel="member", ylabel="member", title="Correlation of members")
    return ax


def ablation(table: pd.DataFrame, ax: Any = None) -> Any:
    """Draw the gain of each stage, member and kind of mean, as from `bcsed.scores.ablation.ablate`."""
    lines = table[(table["part"] != "table") & table["gain"].notna()].reset_index(drop=True)
    ax = axes(ax, 7.4, 1.6 + 0.3 * len(lines))
    for height, line in enumerate(lines.to_dict("records")):
        label, colour = _PARTS[line["part"]]
        ax.barh(height, line["gain"], color=colour, label=None if label in ax.get_legend_handles_labels()[1] else label)
        if np.isfinite(line["gain_low"]):
            ends = [line["gain_low"], line["gain_high"]]
            ax.plot(ends, [height, height], color="black", linewidth=1, marker="|", markersize=5)
    ax.axvline(0.0, **RULE)
    ax.set_yticks(range(len(lines)), [display_text(str(name)) for name in lines["line"]], fontsize=8)
    ax.set_ylim(max(len(lines), 1) - 0.4, -0.6)
    first = table.iloc[0]
    ax.set_title(f"Ablation\nas it is: macro ROC-AUC {first['auc']:.4f}, {first['n_classes']} classes")
    ax.set(xlabel="gain in macro ROC-AUC, paired, 95 % over recordings", ylabel="scores")
    axes_legend(ax)
    return ax
