"""What each step of post-processing, each member and each kind of mean is worth on labelled soundscapes.

The same step has gained in one published solution and lost in another, so each is scored on and off. Gains are
paired: a line and the first are scored on the same draws of recordings, and their difference varies less than
they do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import DataError
from . import metrics, postprocess
from .checks.ids import parse_row_ids

Floats = npt.NDArray[np.float64]
COLUMNS = ("part", "line", "auc", "n_classes", "gain", "gain_low", "gain_high", "n_rows", "n_recordings")
_MEANS = {"prob": "mean of probabilities", "logit": "mean of logits", "rank": "mean of ranks"}


def ablate(
    truth: pd.DataFrame,
    table: pd.DataFrame,
    steps: Sequence[postprocess.Stage] = (),
    *,
    taxa: Mapping[str, str] | None = None,
    members: Mapping[str, pd.DataFrame] | None = None,
    weights: Sequence[float] | None = None,
    kind: str = "prob",
    n: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Score a table with steps on and off, and an ensemble with members in and out.

    Parameters
    ----------
    truth : DataFrame
        0 and 1, for some rows and classes of `table`.
    table : DataFrame
        The scores without any step: *all* rows of each recording, for a step looks at neighbours that may have
        no label.
    steps : sequence of Stage
        Each kind at most once.
    taxa : mapping of str to str, optional
        The taxonomic class of each class, where a step asks for it.
    members : mapping of str to DataFrame, optional
        The scores of each member of the ensemble, without any step; for the rows of `table`, and for the classes
        that the member answers.
    weights : sequence of float, optional
        One per member; equal by default.
    kind : {'prob', 'logit', 'rank'}
        The mean that is taken of all members but one.
    n : int
        Draws of recordings.
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame
        One line for each of: the table as it is; each step alone; all of them; all but each (of at least 3, for
        of 2 that is the other alone); each member alone; all but each; the three means. ``part`` (``table``,
        ``step``, ``steps``, ``but step``, ``member``, ``but member``, ``mean``), ``line`` (what it is), ``auc``
        (macro ROC-AUC) over ``n_classes`` classes; ``gain`` over the first line, on the classes that both
        answer, with its 95 % interval over recordings, ``gain_low`` and ``gain_high`` (NaN where there is one
        recording); ``n_rows`` and ``n_recordings`` that were scored.

    Raises
    ------
    DataError
        If the table lacks a row or class of the truth, members lack rows, no class can be scored, or a table is
        none.
    ConfigError
        As the steps and `bcsed.scores.postprocess.combine`.
    """
    _check_answers(truth, table)
    judge = _Judge(truth, table, n, rng)
    lines = [judge.line("table", "as it is", table)]
    for part, line, changed in _stepped(table, postprocess.check_stages(steps), taxa):
        lines.append(judge.line(part, line, changed))
    if members:
        for part, line, scores in _membered(members, weights, kind):
            lines.append(judge.line(part, line, scores))
    made: pd.DataFrame = pd.DataFrame(lines, columns=list(COLUMNS))
    return made


def format_ablation(table: pd.DataFrame) -> str:
    """Return an ablation as lines for the terminal: a header, a line each, and what was scored."""
    cells = [["", "AUC", "classes", "gain", "95 %"]]
    for line in table.to_dict("records"):
        known = [not math.isnan(line[name]) for name in ("auc", "gain", "gain_low")]
        cells.append(
            [
                str(line["line"]),
                f"{line['auc']:.4f}" if known[0] else "none",
                str(line["n_classes"]),
                f"{line['gain']:+.4f}" if known[1] and len(cells) > 1 else "",
                f"{line['gain_low']:+.4f} to {line['gain_high']:+.4f}" if known[2] and len(cells) > 1 else "",
            ]
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    first = table.iloc[0]
    lines += [
        "",
        f"AUC: macro ROC-AUC on {first['n_rows']} rows of {first['n_recordings']} recordings; gain: the paired "
        "difference to the first line, on the classes that both answer; 95 %: interval over recordings.",
    ]
    return "\n".join(lines)


class _Judge:
    """What all lines are scored by: the truth, the first line, and the same draws of recordings."""

    def __init__(self, truth: pd.DataFrame, first: pd.DataFrame, n: int, rng: np.random.Generator) -> None:
        ids = parse_row_ids(truth.index)
        self._file_of, files = ids.recording, ids.stems
        self._drawn = metrics.bootstrap_weights(len(files), n, rng=rng) if len(files) > 1 else None
        self._truth, self._first = truth, first
        self._size = len(truth), len(files)
        # The first line on the classes of each other line: most answer all of them.
        self._measured: dict[tuple[str, ...], tuple[float, int, Floats]] = {}

    def line(self, part: str, line: str, scores: pd.DataFrame) -> tuple[object, ...]:
        """Score a table that may lack classes of the truth; return the cells of `COLUMNS`."""
        classes = tuple(name for name in self._truth.columns if name in scores.columns)
        if classes not in self._measured:
            self._measured[classes] = self._measure(self._first, classes)
        auc, n_scored, draws = self._measure(scores, classes)
        known, _, known_draws = self._measured[classes]
        gains = draws - known_draws
        gains = gains[np.isfinite(gains)]
        low, high = np.quantile(gains, [0.025, 0.975]) if len(gains) else (np.nan, np.nan)
        return part, line, auc, n_scored, auc - known, low, high, *self._size

    def _measure(self, table: pd.DataFrame, classes: tuple[str, ...]) -> tuple[float, int, Floats]:
        """Return the macro AUC, its number of classes, and the macro AUC of each draw."""
        nothing = np.nan, 0, np.empty(0)
        if not classes:
            return nothing
        truth = self._truth[list(classes)]
        scores = table.loc[truth.index, list(classes)]
        areas = metrics.class_auc(truth, scores)
        if not np.isfinite(areas).any():
            return nothing
        drawn = np.empty(0)
        if self._drawn is not None:
            drawn = metrics.bootstrap_macro_auc(truth, scores, self._file_of, self._drawn)
        return float(np.nanmean(areas)), int(np.isfinite(areas).sum()), drawn


def _check_answers(truth: pd.DataFrame, table: pd.DataFrame) -> None:
    for what, wanted, given in (("row", truth.index, table.index), ("class", truth.columns, table.columns)):
        missing = wanted.difference(given, sort=False)
        if len(missing):
            raise DataError(f"the scores lack {len(missing)} of {len(wanted)} true {what} names, {missing[0]!r} first.")
    # The one sentence that says that nothing can be scored.
    metrics.macro_auc(truth, table.loc[truth.index, truth.columns])


def _stepped(
    table: pd.DataFrame, steps: tuple[postprocess.Stage, ...], taxa: Mapping[str, str] | None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    told = [" ".join(step.spell()) for step in steps]
    for step, text in zip(steps, told, strict=True):
        yield "step", text, step(table, taxa)
    if len(steps) > 1:
        yield "steps", f"all {len(steps)} steps", postprocess.apply(table, steps, taxa)
    if len(steps) > 2:
        for place, step in enumerate(steps):
            rest = steps[:place] + steps[place + 1 :]
            yield "but step", f"all but {step.name}", postprocess.apply(table, rest, taxa)


def _membered(
    members: Mapping[str, pd.DataFrame], weights: Sequence[float] | None, kind: str
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    shares = tuple(weights) if weights is not None else (1.0,) * len(members)
    # First of all, so that what does not fit is refused before anything is scored.
    means = [("mean", _MEANS[mean], postprocess.combine(members, shares, mean)) for mean in postprocess.MEANS]
    for name, scores in members.items():
        yield "member", name, scores
    if len(members) > 2:
        for place, name in enumerate(members):
            rest = {other: scores for other, scores in members.items() if other != name}
            yield "but member", f"all but {name}", postprocess.combine(rest, shares[:place] + shares[place + 1 :], kind)
    if len(members) > 1:
        yield from means
