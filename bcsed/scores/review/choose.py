"""Choose rows to listen to by random sampling, and estimate precision from the answers.

A candidate is a row and a class. Each has a known inclusion probability above 0, so that the answers estimate
properties of all rows without bias, however the candidates were chosen: every answer counts for the inverse of its
probability (Hájek's estimator). The order of the chosen rows is random, so that an unfinished review can be used too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...data.recorders import parse_name
from ...errors import ConfigError, DataError
from ...files import quote_list
from ..checks.ids import RowIds, infer_row_s, parse_row_ids
from ..detections.detect import parse_time
from ..table import check_table

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

COLUMNS = ("item", "row_id", "recording", "start_s", "end_s", "class", "score", "stratum", "probability")
WAYS = ("uncertain", "top", "bands", "site", "hour", "random")
# Least share of the mean inclusion probability that a candidate with a certain score has.
_FLOOR = 0.1
# Share of a class's lines that `top` draws from all but its highest scores, and the least number of them.
_REST, _MIN_REST = 0.5, 2
# Bands of a class at most, and rows in each at least; the lowest half, the next quarter and so on are a band.
_MAX_BANDS, _PER_BAND = 6, 2


def choose_rows(
    scores: pd.DataFrame,
    *,
    budget: int,
    by: str = "uncertain",
    classes: Sequence[str] = (),
    seed: int = 0,
    answered: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Choose `budget` candidates of a score table, a line each with `COLUMNS`, in random order.

    ``uncertain`` draws in proportion to p(1 - p) of the score p; ``site`` and ``hour`` do so with equal numbers for
    each site or hour in the names of the recordings; ``top`` takes the highest scores of each class, and as many others
    in proportion to p(1 - p); ``bands`` draws equal numbers from bands of each class's scores, the lowest half of the
    rows, the next quarter and so on (Navine et al. 2024); ``random`` draws all with equal probability. `classes` are
    those to review, by default all. Candidates in `answered`, the result of `match_answers`, are left out. ``stratum``
    is the set from which a line was drawn, ``probability`` its inclusion probability. Raises ConfigError or DataError
    if a value, the table or a row id is invalid, or the budget is too small or too large.
    """
    check_table(scores, where="the score table")
    if by not in WAYS:
        raise ConfigError(f"rows are chosen by {', '.join(WAYS)}; got {by!r}.")
    names = list(dict.fromkeys(classes)) or list(map(str, scores.columns))
    if unknown := [name for name in names if name not in scores.columns]:
        raise ConfigError(f"{unknown[0]!r} is not a class of the scores, which have {quote_list(scores.columns)}.")
    ids = parse_row_ids(scores.index)
    row_s = infer_row_s(ids)
    if row_s is None or (ids.end_s <= 0).any():
        first = scores.index[int(np.argmax(ids.end_s <= 0))]
        raise DataError(f"the row {first!r} does not end with its end second, as in <recording>_<second>.")
    p = scores[names].to_numpy(np.float64)
    left = np.ones(p.shape, bool)
    if answered is not None:
        answered_row, answered_class = pd.Index(answered["row_id"]), pd.Index(answered["class"])
        left[scores.index.get_indexer(answered_row), pd.Index(names).get_indexer(answered_class)] = False
    if not 2 <= budget <= left.sum():
        text = "the rows times the classes to review" + ("" if answered is None else ", without the answered ones")
        raise ConfigError(f"the budget must be 2 to {left.sum()}, {text}; got {budget}.")
    if seed < 0:
        raise ConfigError(f"the seed must be 0 or more, got {seed}.")
    rng = np.random.default_rng(seed)
    # Ranks of answered candidates follow all others; then only strata of the others are kept.
    all_strata, titles, full = _stratify(np.where(left, p, -1), names, ids, row_s, by, budget)
    candidates = np.flatnonzero(left)
    present, stratum = np.unique(all_strata[candidates], return_inverse=True)
    sizes = np.ones(len(candidates)) if by in ("bands", "random") else _uncertainty(p[left])
    drawn, probability = _draw(stratum, sizes, full[present], budget, rng)
    row, column = np.divmod(candidates[drawn], len(names))
    columns = {
        "item": np.arange(1, budget + 1),
        "row_id": scores.index.to_numpy(object)[row],
        "recording": np.array(ids.stems, object)[ids.recording[row]],
        "start_s": ids.end_s[row] - row_s,
        "end_s": ids.end_s[row],
        "class": np.array(names, object)[column],
        "score": p[row, column],
        "stratum": np.array(titles, object)[present[stratum[drawn]]],
        "probability": probability,
    }
    table: pd.DataFrame = pd.DataFrame(columns)
    return table


def match_answers(answers: pd.DataFrame, scores: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the lines of `answers`, those of earlier reviews, whose row and class are among the candidates.

    They have the scores of `scores`, the ``stratum`` "answered" and the ``probability`` 1: they are known. DataError if
    there are none, or their rows have another length.
    """
    matching = answers[answers["row_id"].isin(scores.index) & answers["class"].isin(names)]
    if matching.empty:
        raise DataError(f"none of the {len(answers)} answers is of a row and a class of the scores to review.")
    row_s = infer_row_s(parse_row_ids(scores.index))
    if (other := matching[matching["end_s"] - matching["start_s"] != row_s]).size:
        line = other.iloc[0]
        raise DataError(f"the answered row {line['row_id']} begins at {line['start_s']} s; rows have {row_s} s now.")
    row = scores.index.get_indexer(pd.Index(matching["row_id"]))
    values = scores.to_numpy(np.float64)[row, scores.columns.get_indexer(pd.Index(matching["class"]))]
    known: pd.DataFrame = matching.assign(score=values, stratum="answered", probability=1.0)
    return known


def _uncertainty(p: Floats) -> Floats:
    """Return sizes in proportion to p(1 - p), with a floor."""
    sizes = p * (1 - p)
    floor = _FLOOR * float(sizes.mean())
    return np.maximum(sizes, floor) if floor > 0 else np.ones(p.size)


def _stratify(
    p: Floats, names: Sequence[str], ids: RowIds, row_s: int, by: str, budget: int
) -> tuple[Ints, list[str], npt.NDArray[np.bool_]]:
    """Return the stratum of each candidate, (R * K,), the strata's names, and which of them are taken in full."""
    K = p.shape[1]
    if by in ("uncertain", "random"):
        return np.zeros(p.size, np.int64), ["all"], np.zeros(1, bool)
    if by in ("site", "hour"):
        texts = [_site(stem) for stem in ids.stems]
        labels = np.array(texts, object)[ids.recording]
        if by == "hour":
            times = [parse_time(stem) for stem in ids.stems]
            hours = [-1 if time is None else time.hour * 3600 + time.minute * 60 + time.second for time in times]
            hour = (np.array(hours)[ids.recording] + ids.end_s - row_s) // 3600 % 24
            unknown = np.array([time is None for time in times])[ids.recording]
            if unknown.all():
                raise DataError("no recording's name has its time, as in SITE_20250131_063000; choose by another rule.")
            labels = np.where(unknown, "unknown hour", [f"hour {number:02d}" for number in hour])
        codes, titles = pd.factorize(labels, sort=True)
        return np.repeat(codes.astype(np.int64), K), list(map(str, titles)), np.zeros(len(titles), bool)
    rank = np.argsort(np.argsort(-p, axis=0, kind="stable"), axis=0, kind="stable")  # 0 is the highest score
    each = budget // K
    if by == "top":
        suffixes: tuple[str, ...] = ("top", "rest")
        part = (rank >= each - max(_MIN_REST, round(_REST * each))).astype(np.int64)
    else:
        n_bands = max(1, min(_MAX_BANDS, each // _PER_BAND))
        suffixes = tuple(f"band {number} of {n_bands}" for number in range(1, n_bands + 1))
        n = np.maximum((p >= 0).sum(0), 1)
        part = np.clip(np.floor(-np.log2((rank + 0.5) / n)), 0, n_bands - 1).astype(np.int64)
    parts = len(suffixes)
    present, codes = np.unique(part + parts * np.arange(K), return_inverse=True)
    full = np.asarray((present % parts == 0) & (by == "top"), bool)
    listed = [f"{names[code // parts]} {suffixes[code % parts]}" for code in present]
    return codes.reshape(-1).astype(np.int64), listed, full


def _site(stem: str) -> str:
    """Return the site in a recording's name, else its folder; 'unknown site' if it has neither."""
    site = parse_name(f"{stem}.wav").site or PurePosixPath(stem).parent.name
    return f"site {site}" if site else "unknown site"


def _draw(
    stratum: Ints, sizes: Floats, full: npt.NDArray[np.bool_], budget: int, rng: np.random.Generator
) -> tuple[Ints, Floats]:
    """Draw candidates in each stratum with probabilities in proportion to `sizes`; return them in random order."""
    counts = np.bincount(stratum, minlength=len(full))
    n = np.where(full, counts, 0)
    while (left := budget - int(n.sum())) > 0:
        unfilled = np.flatnonzero(n < counts)
        share = left // len(unfilled)
        extra = rng.permutation(unfilled)[:left]
        n[extra] = np.minimum(counts[extra], n[extra] + max(1, share))
    if left or (n < np.minimum(counts, 2)).any():
        needed = int(n[full].sum()) + 2 * int((~full).sum())
        raise ConfigError(
            f"a budget of {budget} is too small for {len(counts)} strata, which need at least {needed}; raise it, "
            "review fewer classes, or choose rows by uncertain or random."
        )
    order = np.argsort(stratum, kind="stable")
    numbers, probabilities = [], []
    for members, number in zip(np.split(order, np.cumsum(counts)[:-1]), n, strict=True):
        inclusion = _inclusion(sizes[members], int(number))
        # Systematic sampling in random order: exact probabilities, and a fixed number of lines.
        shuffled = rng.permutation(len(members))
        edges = np.cumsum(inclusion[shuffled])
        edges[-1] = number
        picked = shuffled[np.searchsorted(edges, rng.random() + np.arange(number), side="right")]
        numbers.append(members[picked])
        probabilities.append(inclusion[picked])
    mixed = rng.permutation(budget)
    return np.concatenate(numbers)[mixed], np.concatenate(probabilities)[mixed]


def _inclusion(sizes: Floats, n: int) -> Floats:
    """Return inclusion probabilities in proportion to sizes, at most 1, that sum to n."""
    certain = np.zeros(len(sizes), bool)
    while True:
        rest = sizes * (~certain)
        left = n - int(certain.sum())
        inclusion = np.where(certain, 1.0, rest * (left / rest.sum()) if left else 0.0)
        above = (inclusion >= 1) & ~certain
        if not above.any():
            return inclusion
        certain |= above
