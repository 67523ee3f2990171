"""Read reviewed rows, and compute from them what detections are worth: precision, and thresholds of sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import DataError
from ...files import quote_list, read_csv
from .density import CONFIDENCE, Floats

ANSWERS = ("yes", "no", "other", "unsure", "")
_COLUMNS = ("recording", "start_s", "class", "score", "probability", "answer")
# Rows with a call at or above a threshold, at least.
_MIN_POSITIVES = 5


@dataclass(frozen=True, eq=False)
class Reviewed:
    """Rows with a clear answer: ``recording, start_s, class, score, positive, weight``; and the others' number."""

    table: pd.DataFrame
    n_unclear: int = 0  # unsure, or not answered


def read_reviews(path: str | Path) -> Reviewed:
    """Read a table of reviewed rows: those of `bcsed review` with a column ``answer``.

    ``answer`` is yes, no, other (another class alone), unsure or empty; the last two are missing at random within
    their ``stratum``. DataError if a column is missing or a value is not valid.
    """
    path = Path(path)
    table = read_csv(path, _COLUMNS)
    numbers = {}
    for name, low, high in (("start_s", 0, np.inf), ("score", 0, 1), ("probability", 0, 1)):
        values = pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64)
        invalid = ~((values >= low) & (values <= high)) | (name == "probability") * (values == 0)
        if invalid.any():
            k = int(invalid.argmax())
            raise DataError(
                f"{path}: line {k + 2}: {name} must be a number of {low} to {high}, got {table[name][k]!r}."
            )
        numbers[name] = values
    answers = table["answer"].str.strip().str.lower()
    unknown = ~answers.isin(ANSWERS)
    if unknown.any():
        k = int(unknown.to_numpy().argmax())
        raise DataError(
            f"{path}: line {k + 2}: the answer must be yes, no, other or unsure, got {table['answer'][k]!r}."
        )
    keys = table[["recording", "start_s", "class"]]
    if keys.duplicated().any():
        k = int(keys.duplicated().to_numpy().argmax())
        raise DataError(f"{path}: line {k + 2} repeats the row and class of an earlier line; keep one answer for each.")
    clear = answers.isin(("yes", "no", "other")).to_numpy()
    if not clear.any():
        raise DataError(f"{path}: no line has an answer (yes, no or other); answer some, or leave --review out.")
    stratum = table["stratum"] if "stratum" in table else pd.Series("", index=table.index)
    weight = pd.Series(1 / numbers["probability"])
    total, kept = (each.groupby(stratum).transform("sum") for each in (weight, weight * clear))
    lines: pd.DataFrame = table[["recording", "class"]].assign(
        start_s=numbers["start_s"].astype(np.int64),
        score=numbers["score"],
        positive=answers == "yes",
        weight=weight * total / kept.where(kept > 0, 1),
    )
    return Reviewed(lines[clear].reset_index(drop=True), int((~clear).sum()))


def locate(reviewed: Reviewed, names: Mapping[str, int], classes: Sequence[str]) -> pd.DataFrame:
    """Return the reviewed rows with the numbers of their recording and class; DataError if the scores lack one.

    `names` are the names and paths of the recordings in the scores, and their numbers.
    """
    table = reviewed.table
    missing = [name for name in table["recording"] if name not in names]
    if missing:
        raise DataError(f"the reviewed recording {missing[0]!r} is not in the scores ({len(missing)} such rows).")
    unknown = sorted(set(table["class"]) - set(classes))
    if unknown:
        raise DataError(f"the reviewed class {unknown[0]!r} is not in the scores, which have {quote_list(classes)}.")
    number = {name: k for k, name in enumerate(classes)}
    return table.assign(recording=table["recording"].map(names), column=table["class"].map(number))


def lowest_threshold(
    score: Floats, positive: npt.NDArray[np.bool_], weight: Floats, precision: float
) -> tuple[float, str]:
    """Return the lowest score from which on reviewed rows reach a precision, or NaN and the reason."""
    if positive.sum() < _MIN_POSITIVES:
        return float("nan"), f"{int(positive.sum())} reviewed rows with a call, {_MIN_POSITIVES} needed"
    order = np.argsort(-score, kind="stable")
    true, total = np.cumsum((weight * positive)[order]), np.cumsum(weight[order])
    last = np.append(np.diff(score[order]) != 0, True)  # of equal scores
    enough = last & (np.cumsum(positive[order]) >= _MIN_POSITIVES)
    reached = np.flatnonzero(enough & (true / total >= precision))
    if not len(reached):
        return float("nan"), f"precision reaches {(true / total)[enough].max():.2f} at most"
    return float(score[order][reached[-1]]), ""


def precision_above(
    table: pd.DataFrame, threshold: float, rng: np.random.Generator
) -> tuple[float, float, float] | None:
    """Return the precision of rows of a class at or above a threshold, and its interval; None if none is reviewed."""
    above = table[table["score"] >= threshold]
    if above.empty:
        return None
    weight, positive = above["weight"].to_numpy(), above["positive"].to_numpy()
    precision = float((weight * positive).sum() / weight.sum())
    n = weight.sum() ** 2 / (weight**2).sum()
    draws = rng.beta(0.5 + n * precision, 0.5 + n * (1 - precision), size=2000)
    low, high = np.quantile(draws, (0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2))
    return precision, float(low), float(high)
