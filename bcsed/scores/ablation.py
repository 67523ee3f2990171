"""Ablation: the gain of each post-processing stage, each ensemble member and each kind of mean on labelled soundscapes.

The same stage has gained in one published solution and lost in another, so each is evaluated on and off. Gains are
paired: a line and the first line are evaluated on the same resamples of recordings, and their difference varies less
than the results do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from .checks.ids import parse_row_ids
from .metrics import align_tables, bootstrap_macro_auc, bootstrap_weights, class_auc, macro_auc
from .postprocess.combine import MEANS, combine
from .postprocess.parse import apply, check_stages
from .postprocess.stages import Stage
from .postprocess.weights import Weight, counted_classes

Floats = npt.NDArray[np.float64]
COLUMNS = ("part", "line", "auc", "n_classes", "gain", "gain_low", "gain_high", "n_rows", "n_recordings")
_MEANS = {"prob": "mean of probabilities", "logit": "mean of logits", "rank": "mean of ranks"}


def ablate(
    truth: pd.DataFrame,
    table: pd.DataFrame,
    stages: Sequence[Stage] = (),
    *,
    taxa: Mapping[str, str] | None = None,
    members: Mapping[str, pd.DataFrame] | None = None,
    weights: Sequence[Weight] | None = None,
    kind: str = "prob",
    n: int = 1000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Evaluate a table with stages on and off, and an ensemble with and without each member.

    `truth` is 0 and 1, for some rows and classes of `table`: the scores before post-processing, *all* rows of each
    recording, as stages use neighbouring, unlabelled rows. For `stages` and `taxa` see
    `bcsed.scores.postprocess.apply`. `members` are the scores of each ensemble member before post-processing: the rows
    of `table`, the classes of the member; `weights`, one per member, and `kind`, the mean of all members but one, are
    those of `combine`. `n` is the number of resamples of recordings.

    The result has a line for each of: the table as it is; each stage alone; all stages; all but each (of at least 3
    stages); each member alone; all but each; the three means. ``part`` (``table``, ``stage``, ``stages``, ``without
    stage``, ``member``, ``without member``, ``mean``), ``line`` (description), ``auc`` (macro ROC-AUC) over
    ``n_classes`` classes; ``gain`` over the first line on the classes of both, with its 95 % interval over recordings,
    ``gain_low`` and ``gain_high`` (NaN for a single recording); ``n_rows`` and ``n_recordings``.

    Errors as the stages and `combine`; DataError if the table lacks rows or classes of the truth, or has no ROC-AUC.
    """
    # Reports a class without positive or negative rows before anything is computed.
    macro_auc(truth, align_tables(truth, table, extra=True))
    evaluator = _PairedEvaluator(truth, table, n, rng)
    lines = [evaluator.line("table", "as it is", table)]
    lines += [evaluator.line(*variant) for variant in _stage_variants(table, check_stages(stages), taxa)]
    if members:
        lines += [evaluator.line(*variant) for variant in _member_variants(members, weights, kind)]
    ablation: pd.DataFrame = pd.DataFrame(lines, columns=list(COLUMNS))
    return ablation


def format_ablation(table: pd.DataFrame) -> str:
    """Return an ablation as text for the terminal: a header, a line each, and a legend."""
    cells = [["", "AUC", "classes", "gain", "95 %"]]
    for line in table.to_dict("records"):
        has_auc, has_gain, has_interval = (not math.isnan(line[name]) for name in ("auc", "gain", "gain_low"))
        is_first = len(cells) == 1
        auc = f"{line['auc']:.4f}" if has_auc else "none"
        gain = f"{line['gain']:+.4f}" if has_gain and not is_first else ""
        interval = f"{line['gain_low']:+.4f} to {line['gain_high']:+.4f}" if has_interval and not is_first else ""
        cells.append([str(line["line"]), auc, str(line["n_classes"]), gain, interval])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    first = table.iloc[0]
    legend = (
        f"AUC: macro ROC-AUC on {first['n_rows']} rows of {first['n_recordings']} recordings; gain: the paired "
        "difference to the first line, on the classes of both; 95 %: interval over recordings."
    )
    return "\n".join([*lines, "", legend])


class _PairedEvaluator:
    """Evaluates all lines with the same truth, first line and resamples of recordings."""

    def __init__(self, truth: pd.DataFrame, first: pd.DataFrame, n: int, rng: np.random.Generator) -> None:
        rows = parse_row_ids(truth.index)
        n_files = len(rows.stems)
        self._counts = bootstrap_weights(n_files, n, rng=rng) if n_files > 1 else None
        self._truth, self._first, self._file_of, self._size = truth, first, rows.recording, (len(truth), n_files)
        # Results of the first line by classes: most other lines have all classes.
        self._first_results: dict[tuple[str, ...], tuple[float, int, Floats]] = {}

    def line(self, part: str, line: str, scores: pd.DataFrame) -> tuple[object, ...]:
        """Evaluate a table that may lack classes of the truth; return the cells of `COLUMNS`."""
        classes = tuple(name for name in self._truth.columns if name in scores.columns)
        if classes not in self._first_results:
            self._first_results[classes] = self._evaluate(self._first, classes)
        auc, n_scored, resampled = self._evaluate(scores, classes)
        first_auc, _, first_resampled = self._first_results[classes]
        gains = resampled - first_resampled
        gains = gains[np.isfinite(gains)]
        low, high = np.quantile(gains, [0.025, 0.975]) if len(gains) else (np.nan, np.nan)
        return part, line, auc, n_scored, auc - first_auc, low, high, *self._size

    def _evaluate(self, table: pd.DataFrame, classes: tuple[str, ...]) -> tuple[float, int, Floats]:
        """Return the macro AUC, its number of classes, and the macro AUC of each resample."""
        if not classes:
            return np.nan, 0, np.empty(0)
        truth = self._truth[list(classes)]
        scores = align_tables(truth, table, extra=True)
        areas = class_auc(truth, scores)
        if not np.isfinite(areas).any():
            return np.nan, 0, np.empty(0)
        resampled = np.empty(0)
        if self._counts is not None:
            resampled = bootstrap_macro_auc(truth, scores, self._file_of, self._counts)
        return float(np.nanmean(areas)), int(np.isfinite(areas).sum()), resampled


def _stage_variants(
    table: pd.DataFrame, stages: tuple[Stage, ...], taxa: Mapping[str, str] | None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for stage in stages:
        yield "stage", " ".join(stage.spell()), stage(table, taxa)
    if len(stages) > 1:
        yield "stages", f"all {len(stages)} stages", apply(table, stages, taxa)
    for index, stage in enumerate(stages if len(stages) > 2 else ()):
        rest = stages[:index] + stages[index + 1 :]
        yield "without stage", f"all but {stage.name}", apply(table, rest, taxa)


def _member_variants(
    members: Mapping[str, pd.DataFrame], weights: Sequence[Weight] | None, kind: str
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    shares = tuple(weights) if weights is not None else (1.0,) * len(members)
    # Computed first, so that members or weights that do not fit are refused before the evaluation.
    means = [("mean", _MEANS[mean], combine(members, shares, mean)) for mean in MEANS]
    for name, scores in members.items():
        yield "member", name, scores
    for name in members if len(members) > 2 else ():
        # Without the classes that the others would not score.
        rest = [
            (other, scores[counted], share)
            for (other, scores), share in zip(members.items(), shares, strict=True)
            if other != name and (counted := counted_classes(share, list(scores.columns)))
        ]
        if rest:
            tables = {other: scores for other, scores, _ in rest}
            yield "without member", f"all but {name}", combine(tables, [share for *_, share in rest], kind)
    if len(members) > 1:
        yield from means
