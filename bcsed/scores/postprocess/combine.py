"""Several tables of the same rows: their mean, and how alike they are."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError, DataError
from ..table import check_table, make_table

Floats = npt.NDArray[np.float64]
MEANS = ("prob", "logit", "rank")
# Float32 next to 1 is 6e-8 below it; a score of exactly 0 or 1 must not outvote every other member.
LOGIT_EPS = 1e-7


def rank_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return each score's percentile among all rows of its class.

    Parameters
    ----------
    table : DataFrame, shape (R, K)
        All rows of a run: a percentile says nothing about a part of them.

    Returns
    -------
    DataFrame, shape (R, K)
        float32 in (0, 1]: mean rank / R, equal scores sharing theirs, as `scipy.stats.rankdata` / R.
    """
    ranked: pd.DataFrame = table.rank(pct=True).astype(np.float32)
    return ranked


def combine(
    tables: Mapping[str, pd.DataFrame],
    weights: Sequence[float] | None = None,
    kind: str = "prob",
    classes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the weighted mean of members' scores.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        A score table for each member. All have the same rows; a member that lacks a class does not count in that
        class's mean.
    weights : sequence of float, optional
        One per member, positive; they need not sum to 1. Equal by default.
    kind : {'prob', 'logit', 'rank'}
        Mean of probabilities; of logits (scores are held `LOGIT_EPS` away from 0 and 1), which listens more to
        those that are sure; or of percentiles within the class over all rows (`rank_columns`), which listens
        to order alone and needs all rows of the run at once.
    classes : sequence of str, optional
        The columns, in this order; by default all classes as they first appear.

    Returns
    -------
    DataFrame
        Rows in the order of the first member; float32 in [0, 1].

    Raises
    ------
    ConfigError
        If there is no member, the kind is unknown, weights do not fit, or no member answers one of `classes`.
    DataError
        If members do not have the same rows, or a table is none (`bcsed.scores.table.check`).
    """
    if kind not in MEANS:
        raise ConfigError(f"the mean of an ensemble is one of {', '.join(MEANS)}; got {kind!r}.")
    members = _same_rows(tables)
    shares = tuple(weights) if weights is not None else (1.0,) * len(members)
    if len(shares) != len(members):
        raise ConfigError(f"{len(shares)} weights for {len(members)} members; give one each.")
    if not all(0 < share < float("inf") for share in shares):
        raise ConfigError(f"weights must be positive numbers, got {', '.join(f'{share:g}' for share in shares)}.")
    answered = dict.fromkeys(str(name) for table in members.values() for name in table.columns)
    names = list(answered if classes is None else classes)
    unanswered = [name for name in names if name not in answered]
    if unanswered:
        raise ConfigError(f"no member answers class {unanswered[0]!r} ({len(unanswered)} such classes).")
    place = {name: column for column, name in enumerate(names)}
    index = next(iter(members.values())).index
    total, counted = np.zeros((len(index), len(names))), np.zeros(len(names))
    for share, table in zip(shares, members.values(), strict=True):
        own = [name for name in map(str, table.columns) if name in place]
        columns = [place[name] for name in own]
        total[:, columns] += share * _before(table[own], kind)
        counted[columns] += share
    mean = total / counted
    scores = np.clip(1 / (1 + np.exp(-mean)) if kind == "logit" else mean, 0, 1)
    return make_table(list(index), names, scores.astype(np.float32))


def spearman(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return how alike members order the rows.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        As in `combine`.

    Returns
    -------
    DataFrame, shape (members, members)
        The mean over classes of Spearman's rank correlation, 1 on the diagonal. A class counts where both members
        answer it and neither gives all rows one score; NaN where there is no such class.

    Raises
    ------
    ConfigError, DataError
        As `combine`.
    """
    members = _same_rows(tables)
    # Spearman's correlation is Pearson's of the ranks, so each table is ranked once.
    ranked = {name: table.loc[:, table.nunique() > 1].rank() for name, table in members.items()}
    matrix: pd.DataFrame = pd.DataFrame(np.eye(len(ranked)), index=list(ranked), columns=list(ranked))
    for left, right in itertools.combinations(ranked, 2):
        common = ranked[left].columns.intersection(ranked[right].columns, sort=False)
        each = ranked[left][common].corrwith(ranked[right][common])
        matrix.loc[left, right] = matrix.loc[right, left] = each.mean() if len(common) else np.nan
    return matrix


def _same_rows(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return members with their rows in the order of the first."""
    if not tables:
        raise ConfigError("an ensemble needs at least one member.")
    (first, table), *others = tables.items()
    for name, other in tables.items():
        check_table(other, where=f"member {name!r}")
    for name, other in others:
        differing = table.index.symmetric_difference(other.index)
        if len(differing):
            raise DataError(
                f"members {first!r} and {name!r} do not have the same rows: {differing[0]!r} is in one of them only "
                f"({len(differing)} such rows)."
            )
    return {name: other.loc[table.index] for name, other in tables.items()}


def _before(table: pd.DataFrame, kind: str) -> Floats:
    """Return what is averaged, (R, K)."""
    if kind == "rank":
        return rank_columns(table).to_numpy(np.float64)
    scores: Floats = table.to_numpy(np.float64)
    return scores if kind == "prob" else logits(scores)


def logits(scores: Floats) -> Floats:
    """Return the logits of scores, which are held `LOGIT_EPS` away from 0 and 1."""
    kept = np.clip(scores, LOGIT_EPS, 1 - LOGIT_EPS)
    made: Floats = np.log(kept) - np.log1p(-kept)
    return made
