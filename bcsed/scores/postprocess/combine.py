"""The mean of several score tables, and the rank correlation between them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError, DataError
from ..table import check_table, make_table
from .weights import Weight, weight_rows

Floats = npt.NDArray[np.float64]
MEANS = ("prob", "logit", "rank")
# The float32 below 1 is 1 - 6e-8. Clipping keeps a score of exactly 0 or 1 from outweighing all other members.
LOGIT_EPS = 1e-7


def combine(
    tables: Mapping[str, pd.DataFrame],
    weights: Sequence[Weight] | None = None,
    kind: str = "prob",
    classes: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the weighted mean of the members' scores, in [0, 1], with the rows in the order of the first member.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        A score table per member, all with the same rows. A class's mean is over the members that have the class.
    weights : sequence of Weight, optional
        One per member, a positive number or `ClassWeights`; they need not sum to 1. Equal by default.
    kind : {'prob', 'logit', 'rank'}
        Mean of probabilities; of logits (of scores clipped to `LOGIT_EPS`), which gives confident members more
        influence; or of percentiles within the class (``scipy.stats.rankdata / R``), which needs all rows of
        the run.
    classes : sequence of str, optional
        The columns, in this order; by default all classes in order of first appearance.

    Raises ConfigError if there is no member, the kind is unknown, the weights do not fit, or a class is in no member;
    DataError if the members' rows differ, or a table is not a valid score table.
    """
    check_kind(kind)
    members = _same_rows(tables)
    shares = tuple(weights) if weights is not None else (1.0,) * len(members)
    known = dict.fromkeys(str(name) for table in members.values() for name in table.columns)
    names = list(known if classes is None else classes)
    missing = [name for name in names if name not in known]
    if missing:
        raise ConfigError(f"no member has class {missing[0]!r} ({len(missing)} such classes).")
    rows = weight_rows(shares, [list(map(str, table.columns)) for table in members.values()], names)
    parts = []
    for row, table in zip(rows, members.values(), strict=True):
        columns = np.flatnonzero(row)
        parts.append((table[[names[column] for column in columns]].to_numpy(np.float64), columns, row[columns]))
    scores = np.clip(weighted_mean(parts, len(names), kind), 0, 1)
    return make_table(list(next(iter(members.values())).index), names, scores.astype(np.float32))


def weighted_mean(
    parts: Sequence[tuple[npt.NDArray[np.floating], npt.NDArray[np.integer], Floats]], n_classes: int, kind: str
) -> Floats:
    """Return the weighted mean of score arrays of the same rows, (R, n_classes); NaN where no part has a score.

    A part is probabilities of shape (R, k), NaN in rows that it lacks, and for each of the k classes its column in the
    result and its positive weight.
    """
    total = np.zeros((len(parts[0][0]), n_classes))
    weights = np.zeros_like(total)
    for scores, columns, weight in parts:
        values = scores.astype(np.float64)
        if kind == "rank":
            values = np.asarray(pd.DataFrame(values).rank(pct=True), np.float64)
        elif kind == "logit":
            clipped = np.clip(values, LOGIT_EPS, 1 - LOGIT_EPS)
            values = np.log(clipped) - np.log1p(-clipped)
        known = ~np.isnan(values)
        total[:, columns] += weight * np.where(known, values, 0)
        weights[:, columns] += weight * known
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Floats = total / weights
    if kind == "logit":
        np.divide(1.0, 1.0 + np.exp(-mean), out=mean)
    return mean


def check_kind(kind: str) -> None:
    """Raise ConfigError for an unknown kind of mean."""
    if kind not in MEANS:
        raise ConfigError(f"the mean of an ensemble must be one of {', '.join(MEANS)}; got {kind!r}.")


def spearman(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return Spearman's rank correlation between members, (members, members); arguments and errors as `combine`.

    The mean over the classes that both members have and that are constant in neither; NaN without such a class, 1 on
    the diagonal.
    """
    members = _same_rows(tables)
    # Spearman's correlation is Pearson's of the ranks, so each table is ranked once.
    ranked = {name: table.loc[:, table.nunique() > 1].rank() for name, table in members.items()}
    matrix: pd.DataFrame = pd.DataFrame(np.eye(len(ranked)), index=list(ranked), columns=list(ranked))
    for left, right in itertools.combinations(ranked, 2):
        common = ranked[left].columns.intersection(ranked[right].columns, sort=False)
        by_class = ranked[left][common].corrwith(ranked[right][common])
        matrix.loc[left, right] = matrix.loc[right, left] = by_class.mean() if len(common) else np.nan
    return matrix


def _same_rows(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the members with their rows in the order of the first."""
    if not tables:
        raise ConfigError("an ensemble needs at least one member.")
    first, index = next((name, table.index) for name, table in tables.items())
    for name, table in tables.items():
        check_table(table, where=f"member {name!r}")
        differing = index.symmetric_difference(table.index)
        if len(differing):
            raise DataError(
                f"members {first!r} and {name!r} do not have the same rows: {differing[0]!r} is in one of them only "
                f"({len(differing)} such rows)."
            )
    return {name: table.loc[index] for name, table in tables.items()}
