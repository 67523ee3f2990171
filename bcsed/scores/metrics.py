"""Scoring of recordings cut into rows.

Conventions
-----------
Truth is the first argument. Truth and scores are tables with one row per ``row_id`` and one column per
class, paired *by name*, in whatever order they come; or arrays of one shape (N, K), paired by position.
Truth is 0 or 1; scores are any finite numbers, and lie in [0, 1] where a metric says so.

Metrics
-------
* `macro_auc` : mean area under the ROC curve over the classes that occur (BirdCLEF since 2024).
* `padded_cmap` : mean average precision over all classes, padded (BirdCLEF 2023).
* `lrap` : label-ranking average precision over the rows with a label.

Differences from the competition's scorer
-----------------------------------------
Classes without a positive row are skipped by both. A class that is positive in *every* row has no area; it
is skipped here, where scikit-learn raises or answers NaN, depending on its version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from ..errors import ConfigError, DataError

Floats: TypeAlias = npt.NDArray[np.float64]
Table: TypeAlias = "pd.DataFrame | npt.NDArray[Any]"


def class_auc(truth: Table, scores: Table) -> Floats:
    """Return the area under the ROC curve of each class; equal scores count one half.

    Parameters
    ----------
    truth, scores : DataFrame or ndarray, shape (N, K)

    Returns
    -------
    ndarray of float64, shape (K,)
        NaN where a class has no positive or no negative row; else as scikit-learn's `roc_auc_score`.

    Raises
    ------
    DataError
        If the two do not pair, truth is not 0 or 1, or a score is no finite number.
    """
    return _class_auc(*_pair(truth, scores))


def macro_auc(truth: Table, scores: Table) -> tuple[float, int]:
    """Return the mean of `class_auc` over the classes that have one, and their number.

    Raises
    ------
    DataError
        As `class_auc`, or if there is no such class.
    """
    auc = class_auc(truth, scores)
    n_scored = int(np.isfinite(auc).sum())
    if not n_scored:
        raise DataError(f"none of {len(auc)} classes has both a row with and a row without it: nothing to score.")
    return float(np.nanmean(auc)), n_scored


def padded_cmap(truth: Table, scores: Table, padding: int = 5) -> float:
    """Return the mean average precision over all classes, after adding rows of ones to truth and scores.

    The metric of BirdCLEF 2023: the padding gives a class that never occurs a precision (with none of its
    scores at 1, it is 1), and softens the scores of rare ones.

    Parameters
    ----------
    truth, scores : DataFrame or ndarray, shape (N, K)
        Scores in [0, 1].
    padding : int >= 1
        Rows added.

    Raises
    ------
    DataError
        As `class_auc`, or if a score lies outside [0, 1].
    ConfigError
        If `padding` is below 1.
    """
    if padding < 1:
        raise ConfigError(f"padding must be at least 1, got {padding}.")
    positive, values = _pair(truth, scores)
    if values.min() < 0 or values.max() > 1:
        worst = values.min() if values.min() < 0 else values.max()
        raise DataError(f"padded cmAP needs scores in [0, 1], got {worst:g}; pass probabilities.")
    pad = np.ones((padding, values.shape[1]))
    padded = np.vstack([positive, pad]), np.vstack([values, pad])
    return float(average_precision_score(*padded, average="macro"))


def lrap(truth: Table, scores: Table) -> float:
    """Return the label-ranking average precision (scikit-learn) over the rows that have a label.

    Raises
    ------
    DataError
        As `class_auc`, or if no row has a label.
    """
    positive, values = _pair(truth, scores)
    labelled = positive.any(axis=1)
    if not labelled.any():
        raise DataError(f"none of {len(positive)} rows has a label: there is nothing to rank.")
    return float(label_ranking_average_precision_score(positive[labelled], values[labelled]))


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The three metrics, how many classes the AUC is a mean of, and of how many rows."""

    macro_auc: float
    n_classes: int
    cmap: float
    lrap: float
    n_rows: int


def score_tables(truth: Table, scores: Table) -> Scores:
    """Return all metrics of a score table, in [0, 1]; errors as each of them."""
    auc, n_classes = macro_auc(truth, scores)
    cmap, ranking = padded_cmap(truth, scores), lrap(truth, scores)
    return Scores(macro_auc=auc, n_classes=n_classes, cmap=cmap, lrap=ranking, n_rows=len(truth))


def per_class(truth: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return one line per class, in the order of the truth's columns.

    Returns
    -------
    DataFrame
        ``class``, ``n_positive``, ``auc`` (NaN as in `class_auc`) and ``average_precision`` (NaN without a
        positive row).

    Raises
    ------
    DataError
        As `class_auc`.
    """
    positive, values = _pair(truth, scores)
    precision = [
        float(average_precision_score(known, given)) if known.any() else np.nan
        for known, given in zip(positive.T, values.T, strict=True)
    ]
    columns = {
        "class": list(truth.columns),
        "n_positive": positive.sum(axis=0),
        "auc": _class_auc(positive, values),
        "average_precision": precision,
    }
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def bootstrap_auc(
    truth: Table,
    scores: Table,
    files: Sequence[str] | pd.Series[str],
    *,
    n: int = 1000,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return a 95% interval of the macro AUC, resampling recordings.

    Rows of one recording resemble each other, so whole recordings are drawn, with replacement; rows drawn
    one by one would give an interval that is too narrow. A class without positive or negative row in a
    draw is left out of that draw's mean, and a draw without any class is left out.

    Parameters
    ----------
    truth, scores : DataFrame or ndarray, shape (N, K)
    files : sequence of N str, or Series indexed by row_id
        The recording of each row: in the order of `truth`, or by name.
    n : int
        Draws.
    rng : numpy.random.Generator

    Returns
    -------
    low, high : float
        The 2.5% and 97.5% quantiles.

    Raises
    ------
    DataError
        As `macro_auc`, or if `files` does not fit the rows or names fewer than two recordings.
    """
    macro_auc(truth, scores)
    positive, values = _pair(truth, scores)
    file_of, names = pd.factorize(_files(truth, files))
    drawn = bootstrap_weights(len(names), n, rng=rng)
    means = bootstrap_macro_auc(positive, values, file_of, drawn)
    means = means[np.isfinite(means)]
    if not len(means):
        raise DataError(f"none of {n} draws of {len(names)} recordings could be scored; give more recordings.")
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def bootstrap_weights(n_files: int, n: int = 1000, *, rng: np.random.Generator) -> Floats:
    """Draw recordings with replacement, as many as there are.

    Parameters
    ----------
    n_files : int >= 2
        Recordings.
    n : int
        Draws.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (n, n_files)
        How often each draw holds each recording: drawing is weighting.

    Raises
    ------
    DataError
        If there are fewer than two recordings.
    """
    if n_files < 2:
        raise DataError(f"an interval needs at least two recordings, got {n_files}.")
    drawn: Floats = rng.multinomial(n_files, np.full(n_files, 1 / n_files), size=n).astype(np.float64)
    return drawn


def bootstrap_macro_auc(truth: Table, scores: Table, file_of: npt.NDArray[np.intp], drawn: Floats) -> Floats:
    """Return the macro AUC of each draw of recordings.

    Score tables that are drawn by the same `drawn` are paired: the difference of their results varies less
    than the results do.

    Parameters
    ----------
    truth, scores : DataFrame or ndarray, shape (N, K)
    file_of : ndarray of int, shape (N,)
        The column of `drawn` that each row's recording is.
    drawn : ndarray of float64, shape (n, files)
        As from `bootstrap_draws`; it may hold recordings that no row is of.

    Returns
    -------
    ndarray of float64, shape (n,)
        The mean over the classes with a positive and a negative row in the draw; NaN where there is none.

    Raises
    ------
    DataError
        As `class_auc`, or if `file_of` does not fit the rows.
    """
    positive, values = _pair(truth, scores)
    if len(file_of) != len(positive):
        raise DataError(f"{len(file_of)} recordings are named for {len(positive)} rows; name one for each row.")
    columns, file_of = np.unique(file_of, return_inverse=True)
    drawn = drawn[:, columns]
    order = np.argsort(file_of, kind="stable")
    begins = np.searchsorted(file_of[order], np.arange(len(columns)))
    total, counted = np.zeros(len(drawn)), np.zeros(len(drawn))
    for known, given in zip(positive[order].T, values[order].T, strict=True):
        auc = _drawn_auc(known, given, file_of[order], begins, drawn)
        total += np.nan_to_num(auc)
        counted += np.isfinite(auc)
    means: Floats = np.divide(total, counted, out=np.full(len(drawn), np.nan), where=counted > 0)
    return means


def align_tables(truth: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores in the order of the truth's rows and columns, paired by name.

    Raises
    ------
    DataError
        If a row or class is in one table only, or stands twice.
    """
    for what, left, right in (
        ("row", truth.index, scores.index),
        ("class", truth.columns, scores.columns),
    ):
        for where, names in (("truth", left), ("scores", right)):
            if names.has_duplicates:
                raise DataError(f"the {what} {names[names.duplicated()][0]!r} stands more than once in the {where}.")
        missing, extra = left.difference(right, sort=False), right.difference(left, sort=False)
        if len(missing) or len(extra):
            told = [
                f"{len(names)} only in the {where} ({', '.join(map(repr, names[:3]))})"
                for where, names in (("truth", missing), ("scores", extra))
                if len(names)
            ]
            raise DataError(
                f"truth and scores do not have the same {what} names: {' and '.join(told)}; select what "
                "both have before scoring."
            )
    aligned: pd.DataFrame = scores.loc[truth.index, truth.columns]
    return aligned


def _pair(truth: Table, scores: Table) -> tuple[npt.NDArray[np.bool_], Floats]:
    if isinstance(truth, pd.DataFrame) != isinstance(scores, pd.DataFrame):
        raise DataError("truth and scores must both be tables, which have names, or both arrays.")
    if isinstance(truth, pd.DataFrame) and isinstance(scores, pd.DataFrame):
        scores = align_tables(truth, scores)
    try:
        known, values = np.asarray(truth, np.float64), np.asarray(scores, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"truth and scores must be numbers throughout: {error}.") from error
    if known.ndim != 2 or known.shape != values.shape or not known.size:
        raise DataError(f"truth and scores must have one shape (rows, classes), got {known.shape} and {values.shape}.")
    if not np.isin(known, (0, 1)).all():
        raise DataError(f"truth must be 0 or 1, got {known[~np.isin(known, (0, 1))][0]:g}.")
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        if isinstance(truth, pd.DataFrame):
            row, column = repr(truth.index[row]), repr(truth.columns[column])
        raise DataError(f"the score of row {row}, class {column} is no finite number.")
    return known == 1, values


def _class_auc(positive: npt.NDArray[np.bool_], values: Floats) -> Floats:
    # Mann and Whitney: the share of (positive, negative) pairs in the right order, from mean ranks.
    ranks = pd.DataFrame(values).rank().to_numpy(np.float64)
    n_positive = positive.sum(axis=0).astype(np.float64)
    pairs = n_positive * (len(values) - n_positive)
    won = np.where(positive, ranks, 0).sum(axis=0) - n_positive * (n_positive + 1) / 2
    auc: Floats = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return auc


def _files(truth: Table, files: Sequence[str] | pd.Series[str]) -> npt.NDArray[np.object_]:
    if isinstance(files, pd.Series) and isinstance(truth, pd.DataFrame):
        files = files[~files.index.duplicated()].reindex(truth.index)
        if files.isna().any():
            raise DataError(f"no recording is named for row {files.index[files.isna()][0]!r}.")
    if len(files) != len(truth):
        raise DataError(f"{len(files)} recordings are named for {len(truth)} rows; name one for each row.")
    return np.asarray(files, object)


def _drawn_auc(
    known: npt.NDArray[np.bool_],
    given: Floats,
    file_of: npt.NDArray[np.intp],
    begins: npt.NDArray[np.intp],
    drawn: Floats,
) -> Floats:
    """Return the AUC of one class in each draw, (n,); rows are sorted by file."""
    ours = given[known][:, None]
    # Twice the pairs that each positive row wins against the negative rows of each file.
    won = np.where(known, 0, 2 * (ours > given).astype(np.int8) + (ours == given)).astype(np.int8)
    won_by_file = np.add.reduceat(won, begins, axis=1, dtype=np.int64)
    weight = drawn[:, file_of[known]]
    wins = np.einsum("np,np->n", weight, drawn @ won_by_file.T.astype(np.float64)) / 2
    pairs = weight.sum(axis=1) * (drawn @ np.add.reduceat(~known, begins, dtype=np.int64))
    auc: Floats = np.divide(wins, pairs, out=np.full(len(drawn), np.nan), where=pairs > 0)
    return auc
