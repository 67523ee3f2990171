"""Metrics of score tables: macro ROC-AUC, padded cmAP, LRAP, and confidence intervals over recordings.

Conventions
-----------
Truth is the first argument. Truth and scores are tables with a row per ``row_id`` and a column per class, aligned
*by name* (`align_tables`); or arrays of one shape (N, K), aligned by position. Truth is 0 or 1; scores are finite
numbers, in [0, 1] where a metric requires it.

The competition's scorer and this module skip classes without a positive row. A class that is positive in *every* row
has no ROC curve: it is skipped here, where scikit-learn raises an error or returns NaN, depending on its version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import ConfigError, DataError

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.intp]
Bools: TypeAlias = npt.NDArray[np.bool_]
Table: TypeAlias = "pd.DataFrame | npt.NDArray[Any]"


def align_tables(
    truth: pd.DataFrame, scores: pd.DataFrame, *, extra: bool = False, where: str = "the scores"
) -> pd.DataFrame:
    """Return the scores in the order of the truth's rows and columns, selected by name.

    Other rows and classes of the scores are dropped if `extra`. `where` names the scores in messages. Raises DataError
    if a name occurs twice, the scores lack a row or class of the truth, or have another one without `extra`.
    """
    for kind, left, right in (("row", truth.index, scores.index), ("class", truth.columns, scores.columns)):
        for table, names in (("the truth", left), (where, right)):
            if names.has_duplicates:
                raise DataError(f"{kind} {names[names.duplicated()][0]!r} occurs more than once in {table}.")
        missing, unknown = left.difference(right, sort=False), right.difference(left, sort=False)
        plural = "rows" if kind == "row" else "classes"
        if len(missing):
            raise DataError(
                f"{len(missing)} of {len(left)} {plural} of the truth are not in {where}, {missing[0]!r} first; "
                "predict them too, or remove them from the truth."
            )
        if len(unknown) and not extra:
            raise DataError(
                f"{len(unknown)} {plural} in {where} are not in the truth, {unknown[0]!r} first; select the {plural} "
                "of the truth."
            )
    aligned: pd.DataFrame = scores.loc[truth.index, truth.columns]
    return aligned


def _to_arrays(truth: Table, scores: Table) -> tuple[Bools, Floats]:
    """Align, check and convert truth and scores."""
    if isinstance(truth, pd.DataFrame) != isinstance(scores, pd.DataFrame):
        raise DataError("truth and scores must both be tables, which have names, or both arrays.")
    if isinstance(truth, pd.DataFrame) and isinstance(scores, pd.DataFrame):
        scores = align_tables(truth, scores)
    try:
        labels, values = np.asarray(truth, np.float64), np.asarray(scores, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"truth and scores must be numbers throughout: {error}.") from error
    if labels.ndim != 2 or labels.shape != values.shape or not labels.size:
        raise DataError(f"truth and scores must have one shape (rows, classes), got {labels.shape} and {values.shape}.")
    positive = check_truth(labels)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        if isinstance(truth, pd.DataFrame):
            row, column = repr(truth.index[row]), repr(truth.columns[column])
        raise DataError(f"the score of row {row}, class {column} is not a finite number.")
    return positive, values


def check_truth(truth: npt.NDArray[Any]) -> Bools:
    """Return truth of 0 and 1 as booleans; raise DataError for another value."""
    invalid = ~np.isin(truth, (0, 1))
    if invalid.any():
        raise DataError(f"truth must be 0 or 1, got {truth[invalid][0]:g}.")
    return np.asarray(truth == 1)


def class_auc(truth: Table, scores: Table) -> Floats:
    """Return the area under the ROC curve of each class, (K,), as scikit-learn's `roc_auc_score`.

    NaN without a positive or a negative row. Raises DataError if the tables do not align, truth is not 0 or 1, or a
    score is not a finite number.
    """
    positive, values = _to_arrays(truth, scores)
    # Mann and Whitney: the share of (positive, negative) pairs in the right order, from mean ranks.
    ranks = pd.DataFrame(values).rank().to_numpy(np.float64)
    n_positive = positive.sum(axis=0).astype(np.float64)
    n_pairs = n_positive * (len(values) - n_positive)
    n_ordered = np.where(positive, ranks, 0).sum(axis=0) - n_positive * (n_positive + 1) / 2
    auc: Floats = np.divide(n_ordered, n_pairs, out=np.full(len(n_pairs), np.nan), where=n_pairs > 0)
    return auc


def macro_auc(truth: Table, scores: Table) -> tuple[float, int]:
    """Return the mean of `class_auc` over the classes that have an AUC (BirdCLEF since 2024), and their number.

    Errors as `class_auc`; DataError if there is no such class.
    """
    auc = class_auc(truth, scores)
    n_scored = int(np.isfinite(auc).sum())
    if not n_scored:
        raise DataError(f"none of {len(auc)} classes has both a positive and a negative row: there is no ROC-AUC.")
    return float(np.nanmean(auc)), n_scored


def padded_cmap(truth: Table, scores: Table, padding: int = 5) -> float:
    """Return the mean average precision over all classes, after adding rows of ones to truth and scores.

    The metric of BirdCLEF 2023. The padding gives a class that never occurs a precision (1 if none of its scores is
    1), and reduces the influence of rare classes.

    Errors as `class_auc`; DataError for a score outside [0, 1], ConfigError for a `padding` (number of rows) below 1.
    """
    if padding < 1:
        raise ConfigError(f"padding must be at least 1, got {padding}.")
    positive, values = _to_arrays(truth, scores)
    if values.min() < 0 or values.max() > 1:
        worst = values.min() if values.min() < 0 else values.max()
        raise DataError(f"padded cmAP needs scores in [0, 1], got {worst:g}; pass probabilities.")
    ones = np.ones((padding, values.shape[1]))
    padded = np.vstack([positive, ones == 1]), np.vstack([values, ones])
    return float(_average_precision(*padded).mean())


def lrap(truth: Table, scores: Table) -> float:
    """Return label-ranking average precision (scikit-learn) of labelled rows; DataError if none, or as `class_auc`."""
    positive, values = _to_arrays(truth, scores)
    labelled = positive.any(axis=1)
    if not labelled.any():
        raise DataError(f"none of {len(positive)} rows has a label: LRAP is not defined.")
    return float(_average_precision(positive[labelled].T, values[labelled].T).mean())


def _average_precision(positive: Bools, values: Floats) -> Floats:
    """Return the average precision of each column, (K,), as scikit-learn's; NaN without a positive row.

    It is the mean, over the positive rows, of the precision among the rows with at least the score of that row.
    """
    table = pd.DataFrame(values)
    n_rows = table.rank(ascending=False, method="max")
    n_positive = table.where(positive).rank(ascending=False, method="max")
    precision: Floats = (n_positive / n_rows).mean().to_numpy(np.float64)
    return precision


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The three metrics, the number of classes in the mean AUC, and the number of rows."""

    macro_auc: float
    n_classes: int
    cmap: float
    lrap: float
    n_rows: int


def score_tables(truth: Table, scores: Table) -> Scores:
    """Return all metrics of scores in [0, 1]; errors as the metrics."""
    auc, n_classes = macro_auc(truth, scores)
    cmap, ranking = padded_cmap(truth, scores), lrap(truth, scores)
    return Scores(macro_auc=auc, n_classes=n_classes, cmap=cmap, lrap=ranking, n_rows=len(truth))


def per_class(truth: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return a line per class: ``class``, ``n_positive``, ``auc`` and ``average_precision``.

    ``auc`` is NaN as in `class_auc`, ``average_precision`` without a positive row. Errors as `class_auc`.
    """
    positive, values = _to_arrays(truth, scores)
    columns = {
        "class": list(truth.columns),
        "n_positive": positive.sum(axis=0),
        "auc": class_auc(positive, values),
        "average_precision": _average_precision(positive, values),
    }
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def bootstrap_auc(
    truth: Table, scores: Table, files: Sequence[str], *, n: int = 1000, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the 95% confidence interval of the macro AUC, from `n` resamples of recordings with replacement.

    `files` names the recording of each row. Rows of one recording are correlated: resampling rows would give an
    interval that is too narrow. A class without a positive or a negative row in a resample is left out of its mean; a
    resample without any class is left out.

    Errors as `macro_auc`; DataError if `files` does not fit the rows or names fewer than two recordings.
    """
    macro_auc(truth, scores)
    file_of, names = pd.factorize(np.asarray(files, object))
    means = bootstrap_macro_auc(truth, scores, file_of, bootstrap_weights(len(names), n, rng=rng))
    means = means[np.isfinite(means)]
    if not len(means):
        raise DataError(f"none of {n} resamples of {len(names)} recordings has an AUC; add recordings.")
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_weights(n_files: int, n: int = 1000, *, rng: np.random.Generator) -> Floats:
    """Resample recordings (at least 2) with replacement; return the count of each per resample, (n, n_files)."""
    if n_files < 2:
        raise DataError(f"an interval needs at least two recordings, got {n_files}.")
    return rng.multinomial(n_files, np.full(n_files, 1 / n_files), size=n).astype(np.float64)


def bootstrap_macro_auc(truth: Table, scores: Table, file_of: Ints, counts: Floats) -> Floats:
    """Return the macro AUC of each resample of recordings.

    The mean is over the classes with a positive and a negative row in the resample; NaN without such a class. Score
    tables evaluated with the same `counts` are paired: the difference of their results varies less than the results do.

    `truth` and `scores` are (N, K); `file_of` (N,) is the column of each row's recording in `counts`, (n, files) from
    `bootstrap_weights`, which may have columns of recordings without rows.
    """
    positive, values = _to_arrays(truth, scores)
    if len(file_of) != len(positive):
        raise DataError(f"got {len(file_of)} recordings for {len(positive)} rows; name the recording of each row.")
    columns, file_of = np.unique(file_of, return_inverse=True)
    counts = counts[:, columns]
    order = np.argsort(file_of, kind="stable")
    first_rows = np.searchsorted(file_of[order], np.arange(len(columns)))
    total, n_scored = np.zeros(len(counts)), np.zeros(len(counts))
    for labels, column in zip(positive[order].T, values[order].T, strict=True):
        auc = _resampled_auc(labels, column, file_of[order], first_rows, counts)
        total += np.nan_to_num(auc)
        n_scored += np.isfinite(auc)
    means: Floats = np.divide(total, n_scored, out=np.full(len(counts), np.nan), where=n_scored > 0)
    return means


def _resampled_auc(labels: Bools, scores: Floats, file_of: Ints, first_rows: Ints, counts: Floats) -> Floats:
    """Return the AUC of one class in each resample, (n,); the rows are sorted by file."""
    positive_scores = scores[labels][:, None]
    # Twice the number of pairs in the right order, of each positive row with the negative rows of each file.
    ordered = 2 * (positive_scores > scores).astype(np.int8) + (positive_scores == scores)
    ordered = np.where(labels, 0, ordered).astype(np.int8)
    by_file = np.add.reduceat(ordered, first_rows, axis=1, dtype=np.int64)
    weight = counts[:, file_of[labels]]
    n_ordered = np.einsum("np,np->n", weight, counts @ by_file.T.astype(np.float64)) / 2
    n_pairs = weight.sum(axis=1) * (counts @ np.add.reduceat(~labels, first_rows, dtype=np.int64))
    auc: Floats = np.divide(n_ordered, n_pairs, out=np.full(len(counts), np.nan), where=n_pairs > 0)
    return auc
