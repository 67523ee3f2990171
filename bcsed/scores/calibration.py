"""How far scores can be believed: precision and recall at thresholds, thresholds for a precision, reliability.

Thresholds are for those who must decide; ROC-AUC needs none. They hold for recordings like those they were found on,
and only where enough true rows stand behind them: a class that cannot reach the wanted precision gets none.

Conventions
-----------
A row counts as found if its score is at least the threshold. Precision is true rows among those found; recall is
those found among true rows; support is the number of true rows found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import ConfigError, DataError
from ..files import atomic_write
from .metrics import align_tables
from .table import check_table

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What thresholds are worth on labelled rows.

    Parameters
    ----------
    table : DataFrame
        A line per class: ``class, n_positive, threshold, precision, recall, n_found, why``; NaN and a reason where
        the wanted precision is not reached.
    thresholds : mapping of str to float
        Of the classes that reach it.
    reliability : DataFrame
        A line per bin of scores, see `reliability`.
    ece : float
        Expected calibration error, see `expected_calibration_error`.
    precision : float
        What was wanted.
    support : int
        True rows that a threshold must keep.
    n_rows : int
    """

    table: pd.DataFrame
    thresholds: Mapping[str, float]
    reliability: pd.DataFrame
    ece: float
    precision: float
    support: int
    n_rows: int


def calibrate(
    truth: pd.DataFrame, scores: pd.DataFrame, *, precision: float = 0.9, support: int = 5, n_bins: int = 10
) -> Calibration:
    """Find each class's lowest threshold from which on a precision is reached.

    Parameters
    ----------
    truth : DataFrame
        0 and 1, a row per ``row_id``, a column per class.
    scores : DataFrame
        Probabilities of at least these rows and classes; paired by name.
    precision : float in (0, 1]
        Wanted.
    support : int
        True rows that must lie at or above a threshold for it to be believed.
    n_bins : int
        Bins of the reliability.

    Raises
    ------
    ConfigError
        If `precision` or `support` is out of range.
    DataError
        If rows or classes are missing, truth is not 0 or 1, or a score is no probability.
    """
    if not 0 < precision <= 1:
        raise ConfigError(f"precision must be in (0, 1], got {precision:g}.")
    if support < 1:
        raise ConfigError(f"support must be at least 1 true row, got {support}.")
    known, values = _pair(truth, scores)
    lines = []
    for k, name in enumerate(truth.columns):
        found = find_threshold(known[:, k], values[:, k], precision=precision, support=support)
        lines.append({"class": str(name), "n_positive": int(known[:, k].sum()), **found})
    table: pd.DataFrame = pd.DataFrame(lines)
    reached = table[table["threshold"].notna()]
    bins = reliability(truth, scores, n_bins=n_bins)
    return Calibration(
        table=table,
        thresholds={
            str(name): float(value) for name, value in zip(reached["class"], reached["threshold"], strict=True)
        },
        reliability=bins,
        ece=_ece(bins),
        precision=precision,
        support=support,
        n_rows=len(truth),
    )


def find_threshold(known: npt.NDArray[Any], values: Floats, *, precision: float, support: int = 5) -> dict[str, Any]:
    """Return the lowest threshold with a precision, and what it is worth there.

    Parameters
    ----------
    known : ndarray of 0 and 1, shape (R,)
    values : ndarray, shape (R,)
    precision, support
        See `calibrate`.

    Returns
    -------
    dict
        ``threshold, precision, recall, n_found`` and ``why``: empty, or why there is none. Then ``precision`` is
        the best that any threshold with the support has.

    Examples
    --------
    >>> found = find_threshold(np.array([0, 1, 0, 1, 1]), np.array([0.1, 0.3, 0.4, 0.8, 0.9]), precision=1, support=2)
    >>> found["threshold"], round(found["recall"], 2), found["n_found"]
    (0.8, 0.67, 2)
    """
    none = {"threshold": np.nan, "precision": np.nan, "recall": np.nan, "n_found": 0}
    n_positive = int(known.sum())
    if n_positive < support:
        return {**none, "why": f"{n_positive} true rows, {support} needed"}
    curve = precision_recall(known, values)
    enough = curve[curve["n_true"] >= support]
    good = enough[enough["precision"] >= precision]
    if good.empty:
        best = enough.loc[enough["precision"].idxmax()]
        why = f"precision reaches {best['precision']:.3f} at most"
        return {**none, "precision": float(best["precision"]), "why": why}
    chosen = good.loc[good["threshold"].idxmin()]
    return {
        "threshold": float(chosen["threshold"]),
        "precision": float(chosen["precision"]),
        "recall": float(chosen["recall"]),
        "n_found": int(chosen["n_found"]),
        "why": "",
    }


def precision_recall(known: npt.NDArray[Any], values: Floats) -> pd.DataFrame:
    """Return precision and recall of one class at every threshold that its scores make.

    Parameters
    ----------
    known : ndarray of 0 and 1, shape (R,)
    values : ndarray, shape (R,)

    Returns
    -------
    DataFrame
        ``threshold, precision, recall, n_found, n_true``, thresholds falling; equal scores are found together.
        Recall is NaN where no row is true.
    """
    order = np.argsort(-values, kind="stable")
    sorted_values, true = values[order], np.cumsum(known[order] == 1)
    last = np.append(np.flatnonzero(np.diff(sorted_values) != 0), len(values) - 1)
    n_found, n_true = last + 1, true[last]
    total = max(int(true[-1]), 1) if true[-1] else np.nan
    table: pd.DataFrame = pd.DataFrame(
        {
            "threshold": sorted_values[last],
            "precision": n_true / n_found,
            "recall": n_true / total,
            "n_found": n_found,
            "n_true": n_true,
        }
    )
    return table


def at_thresholds(truth: pd.DataFrame, scores: pd.DataFrame, thresholds: Mapping[str, float] | float) -> pd.DataFrame:
    """Return what given thresholds are worth: one line per class that has one.

    Parameters
    ----------
    truth, scores : DataFrame
        As in `calibrate`.
    thresholds : mapping of str to float, or float
        By class, or one for all.

    Returns
    -------
    DataFrame
        ``class, threshold, n_positive, n_found, n_true, precision, recall, f1``; NaN where nothing is found or true.

    Raises
    ------
    DataError
        As `calibrate`, or if a threshold is of no class.
    """
    known, values = _pair(truth, scores)
    names = list(map(str, truth.columns))
    given = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(names, float(thresholds))
    unknown = [name for name in given if name not in names]
    if unknown:
        raise DataError(f"there is a threshold for {unknown[0]!r}, which is not among the {len(names)} classes.")
    lines = []
    for k, name in enumerate(names):
        if name not in given:
            continue
        found = values[:, k] >= given[name]
        n_true, n_found, n_positive = int((found & (known[:, k] == 1)).sum()), int(found.sum()), int(known[:, k].sum())
        lines.append(
            {
                "class": name,
                "threshold": given[name],
                "n_positive": n_positive,
                "n_found": n_found,
                "n_true": n_true,
                "precision": n_true / n_found if n_found else np.nan,
                "recall": n_true / n_positive if n_positive else np.nan,
                "f1": 2 * n_true / (n_found + n_positive) if n_found + n_positive else np.nan,
            }
        )
    table: pd.DataFrame = pd.DataFrame(lines)
    return table


def reliability(truth: pd.DataFrame, scores: pd.DataFrame, *, n_bins: int = 10) -> pd.DataFrame:
    """Return how often rows are true beside how probable they were called, all classes together.

    Parameters
    ----------
    truth, scores : DataFrame
        As in `calibrate`.
    n_bins : int
        Of equal width over [0, 1]; the last holds 1.

    Returns
    -------
    DataFrame
        ``low, high, n, mean_score, share_true``; the last two NaN in an empty bin.

    Raises
    ------
    ConfigError
        If there is no bin.
    DataError
        As `calibrate`.
    """
    if n_bins < 1:
        raise ConfigError(f"n_bins must be at least 1, got {n_bins}.")
    known, values = (part.reshape(-1) for part in _pair(truth, scores))
    place = np.minimum((values * n_bins).astype(np.int64), n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_score = np.bincount(place, weights=values, minlength=n_bins) / n
        share_true = np.bincount(place, weights=known, minlength=n_bins) / n
    edges = np.arange(n_bins + 1) / n_bins
    table: pd.DataFrame = pd.DataFrame(
        {"low": edges[:-1], "high": edges[1:], "n": n, "mean_score": mean_score, "share_true": share_true}
    )
    return table


def expected_calibration_error(truth: pd.DataFrame, scores: pd.DataFrame, *, n_bins: int = 10) -> float:
    """Return the mean distance between score and share of true rows over the bins, weighted by their size.

    Naeini et al. 2015, for all classes together; 0 is calibrated.
    """
    return _ece(reliability(truth, scores, n_bins=n_bins))


def _ece(bins: pd.DataFrame) -> float:
    filled = bins[bins["n"] > 0]
    distance = (filled["mean_score"] - filled["share_true"]).abs()
    return float((distance * filled["n"]).sum() / filled["n"].sum())


def write_thresholds(found: Calibration, path: str | Path) -> None:
    """Write the thresholds as JSON: by class, what they were made for, and which classes have none, and why.

    Raises
    ------
    DataError
        If the disk refuses.
    """
    without = found.table[found.table["threshold"].isna()]
    told = {
        "thresholds": dict(found.thresholds),
        "without": {str(name): str(why) for name, why in zip(without["class"], without["why"], strict=True)},
        "precision": found.precision,
        "support": found.support,
        "n_rows": found.n_rows,
        "expected_calibration_error": round(found.ece, 6),
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_thresholds(path: str | Path, classes: Sequence[str] | None = None) -> dict[str, float]:
    """Read thresholds by class: a file of `write`, or a plain JSON object of class and threshold.

    Parameters
    ----------
    path : str or Path
    classes : sequence of str, optional
        The classes that there are; a threshold of another is an error. Not every class must have one.

    Raises
    ------
    DataError
        If it cannot be read, or a threshold is not in [0, 1], or of a class that is not there.
    """
    path = Path(path)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: there is no such file of thresholds; `bcsed calibrate` makes one.") from error
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}).") from error
    values = told.get("thresholds", told) if isinstance(told, dict) else None
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold an object of classes and thresholds.")
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise DataError(f"{path}: the threshold of {name!r} must be in [0, 1], got {value!r}.")
    unknown = [name for name in values if classes is not None and name not in set(classes)]
    if unknown:
        raise DataError(f"{path}: {unknown[0]!r} is not among the {len(classes or ())} classes ({len(unknown)} such).")
    return {str(name): float(value) for name, value in values.items()}


def _pair(truth: pd.DataFrame, scores: pd.DataFrame) -> tuple[Floats, Floats]:
    missing = truth.index.difference(scores.index)
    if len(missing):
        raise DataError(f"the scores lack {len(missing)} of {len(truth)} true rows, {missing[0]!r} first.")
    lacking = [str(name) for name in truth.columns if name not in set(scores.columns)]
    if lacking:
        raise DataError(f"the scores lack {len(lacking)} of {truth.shape[1]} classes, {lacking[0]!r} first.")
    paired = align_tables(truth, scores.loc[scores.index.isin(truth.index), list(truth.columns)])
    check_table(paired, where="the scores")
    known = truth.to_numpy(np.float64)
    if not np.isin(known, (0, 1)).all():
        raise DataError(f"truth must be 0 or 1, got {known[~np.isin(known, (0, 1))][0]:g}.")
    return known, paired.to_numpy(np.float64)
