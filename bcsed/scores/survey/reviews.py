"""Read reviewed rows, and compute from them what detections are worth: precision, and thresholds of sites."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ...data.deployments import path_names
from ...errors import ConfigError, DataError
from ...files import quote_list
from ..review import describe_gaps, estimate_share, read_answers, read_lines, weigh
from .rows import Rows

_log = logging.getLogger(__name__)

_COLUMNS = ("recording", "start_s", "class", "score", "stratum", "probability", "answer")
# Scores are equal to rounding in a table.
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Reviewed:
    """Rows with a clear answer: ``recording, start_s, class, score, stratum, probability, positive``."""

    table: pd.DataFrame
    n_unclear: int = 0  # rows without one: unsure, or not answered


def read_reviews(paths: Sequence[str | Path]) -> Reviewed:
    """Read a folder of `bcsed review` and its answers, or a table of answers of `bcsed review read`.

    Answers are those of `bcsed.scores.review.read_answers`. Rows without a clear answer are missing at random within
    their stratum. DataError if a file is invalid, a row and class occur twice, or there is no clear answer.
    """
    first = Path(paths[0])
    if first.is_dir():
        table = read_answers(first, paths[1:])
    elif len(paths) > 1:
        raise ConfigError(f"{first} is not a folder of `bcsed review`; name one before its answers, or one table.")
    else:
        table = read_lines(first, _COLUMNS)
    keys = table[["recording", "start_s", "class"]]
    if keys.duplicated().any():
        name, start_s, label = keys[keys.duplicated()].iloc[0]
        raise DataError(f"{first} has the row of {name} at {start_s} s and {label!r} twice; keep one answer for each.")
    if not table["answer"].isin(("yes", "no", "other")).any():
        raise DataError(f"{first}: no row has an answer (yes, no or other); answer some, or leave --review out.")
    if gaps := describe_gaps(table):
        _log.warning("%s: %s", first, gaps)
    lines = weigh(table)
    return Reviewed(lines, len(table) - len(lines))


def locate(reviewed: Reviewed, names: Mapping[str, int], classes: Sequence[str]) -> pd.DataFrame:
    """Return the reviewed rows with the numbers of their recording and class; DataError if the scores lack one.

    `names` are the names and paths of the recordings in the scores, and their numbers; a score table contains them
    without the ending of the file.
    """
    stems = {
        name: name if name in names else name.rpartition(".")[0] or name for name in set(reviewed.table["recording"])
    }
    table = reviewed.table.assign(recording=reviewed.table["recording"].map(stems))
    # Its name may have a folder because of another recording of its name that could not be scored.
    ends: dict[str, set[int]] = {name: set() for name in stems.values() if name not in names}
    for path, number in names.items() if ends else ():
        for name in ends.keys() & path_names(PurePosixPath(path)):
            ends[name].add(number)
    names = {**names, **{name: numbers.pop() for name, numbers in ends.items() if len(numbers) == 1}}
    missing = [name for name in table["recording"] if name not in names]
    if missing:
        raise DataError(f"the reviewed recording {missing[0]!r} is not in the scores ({len(missing)} such rows).")
    unknown = sorted(set(table["class"]) - set(classes))
    if unknown:
        raise DataError(f"the reviewed class {unknown[0]!r} is not in the scores, which have {quote_list(classes)}.")
    columns = {name: k for k, name in enumerate(classes)}
    located = {"recording": table["recording"].map(names), "column": table["class"].map(columns)}
    numbered: pd.DataFrame = table.assign(**located, weight=1 / table["probability"])
    return numbered


def score_answers(located: pd.DataFrame, rows: Rows) -> tuple[pd.DataFrame, int]:
    """Return the lines of `locate` with the scores of `rows`, and how many differ; DataError for a row that is missing.

    A network that was trained again has other scores than that whose rows were reviewed. The answers and the
    probabilities with which they were drawn stay valid; thresholds and bins are of the scores.
    """
    recording, start_s = (located[name].to_numpy(np.int64) for name in ("recording", "start_s"))
    size = int(max(rows.start_s.max(), start_s.max(initial=0))) + 1
    keys, wanted = rows.recording.astype(np.int64) * size + rows.start_s, recording * size + start_s
    order = np.argsort(keys, kind="stable")
    index = order[np.searchsorted(keys[order], wanted).clip(max=len(keys) - 1)]
    if (missing := np.flatnonzero(keys[index] != wanted)).size:
        k = missing[0]
        raise DataError(f"the reviewed row of {rows.recordings[recording[k]]} at {start_s[k]} s is not in the scores.")
    column, scores, first = located["column"].to_numpy(np.int64), np.zeros(len(located)), 0
    for values in rows.blocks():
        inside = (index >= first) & (index < first + len(values))
        scores[inside] = values[index[inside] - first, column[inside]]
        first += len(values)
    n_other = int((np.abs(scores - located["score"].to_numpy(np.float64)) > _TOLERANCE).sum())
    return located.assign(score=scores), n_other


def precision_above(table: pd.DataFrame, threshold: float) -> tuple[float, float, float] | None:
    """Return the precision of rows of a class at or above a threshold, and its interval; None if none is reviewed."""
    inside = table["score"].to_numpy(np.float32) >= np.float32(threshold)
    if not inside.any():
        return None
    positive, probability, stratum = (table[name].to_numpy() for name in ("positive", "probability", "stratum"))
    return estimate_share(positive, probability, stratum, inside)
