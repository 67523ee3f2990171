"""Calibration of scores: precision and recall at thresholds, thresholds for a precision, reliability.

Thresholds are for decisions; ROC-AUC needs none. They are valid for recordings like those they were computed from, and
only with enough positive rows: a class that does not reach the required precision gets no threshold.

A row is detected if its score is at least the threshold. Precision is the share of detected rows that are positive,
recall the share of positive rows that are detected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import ConfigError, DataError
from ..files import check_schema, read_json, require_own_file, write_json
from .metrics import align_tables, check_truth
from .table import check_table

Floats = npt.NDArray[np.float64]
# Files of schema 1 are unnumbered, with "support" for "min_positives".
SCHEMA = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Thresholds and calibration on labelled rows.

    `table` has a line per class: ``class, n_positive, threshold, precision, recall, n_detected, reason``; NaN and a
    reason where the precision is not reached.
    """

    table: pd.DataFrame
    thresholds: Mapping[str, float]  # of the classes that reach the precision
    reliability: pd.DataFrame  # see `reliability`
    ece: float  # see `expected_calibration_error`
    precision: float  # as given to `calibrate`, as is `min_positives`
    min_positives: int
    n_rows: int


def calibrate(
    truth: pd.DataFrame, scores: pd.DataFrame, *, precision: float = 0.9, min_positives: int = 5, n_bins: int = 10
) -> Calibration:
    """Find the lowest threshold of each class that reaches a precision.

    `truth` is 0 and 1, a row per ``row_id`` and a column per class; `scores` are probabilities of at least these rows
    and classes, aligned by name. At least `min_positives` positive rows must be at or above a threshold. Raises
    ConfigError if a parameter is out of range; DataError if rows or classes are missing, truth is not 0 or 1, or a
    score is not a probability.
    """
    if not 0 < precision <= 1:
        raise ConfigError(f"precision must be in (0, 1], got {precision:g}.")
    if min_positives < 1:
        raise ConfigError(f"min_positives must be at least 1 positive row, got {min_positives}.")
    positive, values = _to_arrays(truth, scores)
    lines = []
    for name, labels, column in zip(map(str, truth.columns), positive.T, values.T, strict=True):
        threshold = find_threshold(labels, column, precision=precision, min_positives=min_positives)
        lines.append({"class": name, "n_positive": int(labels.sum()), **threshold})
    bins = reliability(truth, scores, n_bins=n_bins)
    return Calibration(
        table=pd.DataFrame(lines),
        thresholds={line["class"]: line["threshold"] for line in lines if np.isfinite(line["threshold"])},
        reliability=bins,
        ece=expected_calibration_error(bins),
        precision=precision,
        min_positives=min_positives,
        n_rows=len(truth),
    )


def _to_arrays(truth: pd.DataFrame, scores: pd.DataFrame) -> tuple[npt.NDArray[np.bool_], Floats]:
    aligned = align_tables(truth, scores, extra=True)
    check_table(aligned, where="the score table")
    return check_truth(truth.to_numpy(np.float64)), aligned.to_numpy(np.float64)


def find_threshold(
    truth: npt.NDArray[Any], scores: Floats, *, precision: float, min_positives: int = 5, weight: Floats | None = None
) -> dict[str, Any]:
    """Return the lowest threshold of one class that reaches a precision, from truth (0 and 1), scores and weights (R,).

    The keys are ``threshold, precision, recall, n_detected`` and ``reason``: empty, or why there is no threshold. Then
    ``precision`` is the highest that any threshold with at least `min_positives` positive rows has.

    >>> truth, scores = np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.3, 0.4, 0.8, 0.9])
    >>> best = find_threshold(truth, scores, precision=1, min_positives=2)
    >>> best["threshold"], round(best["recall"], 2), best["n_detected"]
    (0.8, 0.67, 2)
    """
    without: dict[str, Any] = {"threshold": np.nan, "precision": np.nan, "recall": np.nan, "n_detected": 0}
    n_positive = int(truth.sum())
    if n_positive < min_positives:
        return {**without, "reason": f"{n_positive} positive rows, {min_positives} needed"}
    curve = precision_recall(truth, scores, weight)
    enough = curve[(curve["n_true"] >= min_positives) & (curve["threshold"] > 0)]
    if enough.empty:
        return {**without, "reason": f"fewer than {min_positives} positive rows have a score above 0"}
    reached = enough[enough["precision"] >= precision]
    if reached.empty:
        highest = float(enough["precision"].max())
        return {**without, "precision": highest, "reason": f"precision reaches {highest:.3f} at most"}
    best = reached.loc[reached["threshold"].idxmin()]
    values = {name: float(best[name]) for name in ("threshold", "precision", "recall")}
    return {**values, "n_detected": int(best["n_detected"]), "reason": ""}


def precision_recall(truth: npt.NDArray[Any], scores: Floats, weight: Floats | None = None) -> pd.DataFrame:
    """Return precision and recall of one class, truth, scores and weights (R,), at each score as the threshold.

    A line per different score, the highest first: ``threshold, precision, recall, n_detected, n_true``; both numbers
    are of rows. Recall is NaN without a positive row. The rows of a sample weigh as many rows as they stand for.
    """
    order = np.argsort(-scores, kind="stable")
    sorted_scores, positive = scores[order], truth[order] == 1
    weight = np.ones(len(scores)) if weight is None else weight[order]
    last = np.append(np.flatnonzero(np.diff(sorted_scores) != 0), len(scores) - 1)
    true = np.cumsum(weight * positive)
    columns = {
        "threshold": sorted_scores[last],
        "precision": true[last] / np.cumsum(weight)[last],
        "recall": true[last] / (true[-1] or np.nan),
        "n_detected": last + 1,
        "n_true": np.cumsum(positive)[last],
    }
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def reliability(truth: pd.DataFrame, scores: pd.DataFrame, *, n_bins: int = 10) -> pd.DataFrame:
    """Return the share of positive rows and the mean score in `n_bins` bins of scores, over all classes.

    Truth, scores and errors are those of `calibrate`. The bins have equal width over [0, 1]; the last includes 1. The
    columns are ``low, high, n, mean_score, share_true``; the last two are NaN in an empty bin.
    """
    if n_bins < 1:
        raise ConfigError(f"n_bins must be at least 1, got {n_bins}.")
    positive, values = (array.reshape(-1) for array in _to_arrays(truth, scores))
    bin_of = np.minimum((values * n_bins).astype(np.int64), n_bins - 1)
    n = np.bincount(bin_of, minlength=n_bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_score = np.bincount(bin_of, weights=values, minlength=n_bins) / n
        share_true = np.bincount(bin_of, weights=positive, minlength=n_bins) / n
    edges = np.arange(n_bins + 1) / n_bins
    columns = {"low": edges[:-1], "high": edges[1:], "n": n, "mean_score": mean_score, "share_true": share_true}
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def expected_calibration_error(bins: pd.DataFrame) -> float:
    """Return the mean distance of score and share of positive rows over the bins of `reliability`, weighted by size.

    Naeini et al. 2015, for all classes together; 0 for calibrated scores.
    """
    filled = bins[bins["n"] > 0]
    distance = (filled["mean_score"] - filled["share_true"]).abs()
    return float((distance * filled["n"]).sum() / filled["n"].sum())


def write_thresholds(calibration: Calibration, path: str | Path) -> None:
    """Write the thresholds by class as JSON, with their settings and the classes without a threshold."""
    settings = {"precision": calibration.precision, "min_positives": calibration.min_positives}
    ece = {"expected_calibration_error": round(calibration.ece, 6)}
    write_threshold_table(calibration.table, path, {**settings, "n_rows": calibration.n_rows, **ece})


def write_threshold_table(table: pd.DataFrame, path: str | Path, settings: Mapping[str, Any]) -> None:
    """Write the thresholds of a table ``class, threshold, reason`` (NaN without one) for `read_thresholds`."""
    is_reached = table["threshold"].notna()
    reached, without = table[is_reached], table[~is_reached]
    values = {
        "schema": SCHEMA,
        "thresholds": dict(zip(reached["class"], reached["threshold"], strict=True)),
        "without": dict(zip(without["class"], without["reason"], strict=True)),
        **settings,
    }
    require_own_file(Path(path), '"thresholds"', "a file of thresholds")
    write_json(Path(path), values)


def read_thresholds(path: str | Path, classes: Sequence[str] | None = None) -> dict[str, float]:
    """Read thresholds by class: a file of `write_thresholds`, or a plain JSON object of class and threshold.

    Raises DataError if the file cannot be read, a threshold is not in [0, 1], or its class is not in `classes`.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file of thresholds; `bcsed calibrate` writes one.")
    values = read_json(path)
    if "thresholds" in values:
        check_schema(values, path, (1, SCHEMA))
        values = values["thresholds"]
    if not isinstance(values, dict):
        raise DataError(f"{path}: 'thresholds' must be an object of classes and thresholds.")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise DataError(f"{path}: the threshold of {name!r} must be in [0, 1], got {value!r}.")
    unknown = [name for name in values if classes is not None and name not in classes]
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is not one of the {len(classes or ())} classes ({len(unknown)} such).")
    return {name: float(value) for name, value in values.items()}
