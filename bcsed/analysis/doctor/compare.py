"""Compare two score tables of the same recordings, and explain their difference in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...scores.checks.finding import Finding
from ...scores.checks.values import find_broadcast
from ..explained import Candidate, Explanation, Floats, explain
from .align import AlignedTables, Misalignment, align, correlate, find_misalignments, rank_columns
from .functions import find_functions
from .gap import describe_gap

# Processors, libraries and text of six digits differ by less.
TOLERANCE = 1e-4
# The share of recordings with equal rows from which on a table is called broadcast.
_MIN_BROADCAST = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """The difference of two tables."""

    verdict: str  # one sentence
    # Without a difference 'same' or 'missing' (rows, classes); a cause: 'broadcast', 'shift', 'columns', 'row order',
    # 'recordings', 'copies' or a name of `find_functions`; else the part that differs: 'some recordings', 'ends',
    # 'some rows', 'classes', 'small', 'everywhere' or 'no numbers'
    cause: str
    explained: bool  # whether a cause is named, which explains nearly all of the difference
    same: bool  # whether they agree to the tolerance
    findings: tuple[Finding, ...]  # rows and classes that only one table has
    spearman: pd.Series[float]  # rank correlation of each class
    # mean rank correlation with the second table's rows moved back by this number of rows; empty if not computed
    shifts: Mapping[int, float] = field(default_factory=dict)
    largest: pd.Series[float]  # largest difference in each recording, after the correction that the verdict names


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    names: tuple[str, str] = ("the first table", "the second"),
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare two score tables of the same recordings, aligned by the names of rows and classes.

    Rows and classes of one table only are reported and left out, rows with values that are not numbers are left out.
    Differences up to `tolerance` are ignored. A cause is named only if it explains nearly all of the squared difference
    (`bcsed.analysis.explained.MIN_SHARE`); otherwise the verdict states size and part. It contains `names`.

    Raises DataError if they have no row or class in common.
    """
    pair = align(first, second, names)
    if not pair.first.size:
        verdict = f"{names[1]} and {names[0]} have no row in which all values are numbers: nothing to compare."
        empty = pd.Series(dtype=np.float64)
        return Comparison(
            verdict=verdict,
            cause="no numbers",
            explained=False,
            same=False,
            findings=pair.findings,
            spearman=empty,
            largest=empty,
        )
    x, y = rank_columns(pair.first), rank_columns(pair.second)
    correlations = correlate(x, y)
    shifts: Mapping[int, float] = {}
    explained = False
    result = Difference(np.abs(pair.first - pair.second), pair.ids.recording)
    if result.gap.max() <= tolerance:
        cause, largest, shape = "same", result.gap.max(), result.gap.shape
        verdict = f"{names[1]} and {names[0]} agree to {largest:.1g} in {shape[0]} rows of {shape[1]} classes."
    else:
        misalignments, shifts = find_misalignments(pair, x, y)
        result, cause, verdict, explained = _explain(pair, misalignments, correlations, names, tolerance)
    if pair.missing:
        verdict = f"{'; '.join(pair.missing)}; of the common rows and classes, {verdict}"
    largest_of = pd.Series(result.gap.max(1)).groupby(result.recording).max()
    largest_of.index = pd.Index([pair.ids.stems[k] for k in largest_of.index], name="recording")
    return Comparison(
        verdict=verdict,
        cause="missing" if cause == "same" and pair.missing else cause,
        explained=explained or (cause == "same" and bool(pair.missing)),
        same=cause == "same" and not pair.missing,
        findings=pair.findings,
        spearman=pd.Series(correlations, index=pd.Index(pair.classes, name="class")),
        shifts=shifts,
        largest=largest_of.sort_values(ascending=False, kind="stable"),
    )


class Difference(NamedTuple):
    """What remains after the correction of a cause."""

    gap: Floats  # (R, K)
    recording: npt.NDArray[np.int64]  # (R,), of each row


class _Cause(NamedTuple):
    """A cause that explains nearly all of the difference."""

    name: str
    share: float
    sentence: str
    rest: Difference


def _explain(
    pair: AlignedTables,
    misalignments: Sequence[Misalignment],
    correlations: Floats,
    names: tuple[str, str],
    tolerance: float,
) -> tuple[Difference, str, str, bool]:
    """Return what remains, the name of the cause, the verdict, and whether a cause explains the difference."""
    broadcast = _find_broadcast(pair)
    cause = None
    if broadcast is not None:
        cause = _explain_broadcast(pair, names, *broadcast, tolerance)
    if cause is None:
        cause = _best(_causes(pair, misalignments, names, tolerance))
    if cause is not None and cause.share == 1:
        return cause.rest, cause.name, f"{cause.sentence}.", True
    gap = np.abs(pair.first - pair.second)
    whole = Difference(gap, pair.ids.recording)
    name, part, verdict = describe_gap(pair, gap, correlations, names, tolerance)
    if part is not None:
        selected = pair.select(*part)
        moved = find_misalignments(selected, *map(rank_columns, (selected.first, selected.second)))[0]
        cause_of_part = _best(_causes(selected, moved if name != "some rows" else (), names, tolerance))
        if cause_of_part is not None and cause_of_part.share >= (cause.share if cause is not None else 0):
            return whole, name, f"{verdict}; there, {cause_of_part.sentence}.", True
    if cause is not None:
        return cause.rest, cause.name, f"{cause.sentence}.", True
    if broadcast is not None:
        return whole, "broadcast", f"{_describe_broadcast(pair, names, *broadcast)}.", False
    return whole, name, f"{verdict}.", False


def _best(causes: Iterable[_Cause]) -> _Cause | None:
    """Return the first exact cause, else the cause with the largest share."""
    best = None
    for cause in causes:
        if best is None or cause.share > best.share:
            best = cause
        if cause.share == 1:
            break
    return best


def _causes(
    pair: AlignedTables, misalignments: Sequence[Misalignment], names: tuple[str, str], tolerance: float
) -> Iterator[_Cause]:
    """Yield the causes that explain nearly all: functions, misalignments, and functions of aligned tables."""
    x, y = pair.first, pair.second
    whole = Difference(np.abs(x - y), pair.ids.recording)
    for name, explanation in _functions(x, y, tolerance):
        yield _Cause(name, explanation.share, f"{names[1]} is {_describe_function(explanation, names[0])}", whole)
    for change in misalignments:
        a = x[np.ix_(change.first_rows, change.first_columns)]
        part = np.ix_(change.second_rows, change.columns)
        b, subject = y[part], f"{names[1]} has {change.description}"
        rest = Difference(np.abs(a - b), pair.ids.recording[change.first_rows])
        moved = explain([Candidate("", a, b, x[part])], tolerance)
        # A copy of the most similar class or recording may be near by chance.
        if moved is not None and (moved.share == 1 or change.kind != "copies"):
            text = f"agree to {moved.largest:.1g}"
            if moved.share < 1:
                text = f"differ by up to {moved.largest:.2g}{moved.sentence()}"
            yield _Cause(change.kind, moved.share, f"{subject}; after correction the tables {text}", rest)
        elif moved is None and change.kind != "copies":
            for _, function in _functions(a, b, tolerance):
                if function.share == 1:
                    sentence = f"{subject}; its values are also {_describe_function(function, names[0])}"
                    yield _Cause(change.kind, 1.0, sentence, rest)
                    break


def _functions(x: Floats, y: Floats, tolerance: float) -> Iterator[tuple[str, Explanation]]:
    """Yield the functions that explain nearly all of the difference."""
    for name, candidate in find_functions(x, y):
        explanation = explain([candidate], tolerance)
        if explanation is not None:
            yield name, explanation


def _describe_function(explanation: Explanation, first: str) -> str:
    """Describe a function, its error, and what it means for the ROC-AUC."""
    text = explanation.sentence().format(first=first)
    text += f" (to {explanation.largest:.1g})" if explanation.largest > 0 and explanation.share == 1 else ""
    if explanation.share < 1:
        # What is not explained may reorder the many low scores, which hardly count in the squared difference.
        return f"{text}: thresholds are not the same, and ROC-AUC may differ"
    if explanation.cause.startswith("an increasing"):
        return f"{text}: ROC-AUC is unchanged, thresholds are not"
    return f"{text}: ROC-AUC is reversed" if explanation.cause.startswith("a falling") else text


def _find_broadcast(pair: AlignedTables) -> tuple[int, npt.NDArray[np.int64]] | None:
    """Return which table alone (0, 1) has equal rows in most recordings, and in which recordings."""
    n_several = int((pair.ids.n_rows > 1).sum())
    constant = [find_broadcast(pair.ids, values) for values in (pair.first, pair.second)]
    only = [np.setdiff1d(constant[0], constant[1]), np.setdiff1d(constant[1], constant[0])]
    table = int(len(only[1]) >= len(only[0]))
    if not n_several or len(only[table]) < max(1, _MIN_BROADCAST * n_several):
        return None
    return table, only[table]


def _explain_broadcast(
    pair: AlignedTables, names: tuple[str, str], table: int, recordings: npt.NDArray[np.int64], tolerance: float
) -> _Cause | None:
    """Return the repeated row: the row, mean or maximum of the other table that explains the difference."""
    constant, varied = (pair.second, pair.first) if table else (pair.first, pair.second)
    rows = np.isin(pair.ids.recording, recordings)

    def candidates() -> Iterator[Candidate]:
        for number in range(int(min(pair.ids.n_rows.max(), 60))):
            position = np.full(len(pair.ids.stems), -1)
            of_number = np.flatnonzero(pair.number == number)
            position[pair.ids.recording[of_number]] = of_number
            if (position[recordings] >= 0).all():
                fitted = np.where(rows[:, None], varied[position[pair.ids.recording]], varied)
                yield Candidate(f"row {number + 1}", fitted, constant, varied)
        grouped = pd.DataFrame(varied).groupby(pair.ids.recording)
        for name, function in (("the mean of the rows", "mean"), ("the maximum of the rows", "max")):
            pooled = grouped.transform(function).to_numpy(np.float64)
            yield Candidate(name, np.where(rows[:, None], pooled, varied), constant, varied)

    source = explain(candidates(), tolerance)
    if source is None:
        return None
    text = f"{_describe_broadcast(pair, names, table, recordings)}; the value is {source.cause} of {names[1 - table]}"
    gap = Difference(np.abs(pair.first - pair.second), pair.ids.recording)
    return _Cause("broadcast", source.share, f"{text} (to {source.largest:.1g})", gap)


def _describe_broadcast(
    pair: AlignedTables, names: tuple[str, str], table: int, recordings: npt.NDArray[np.int64]
) -> str:
    n_several = int((pair.ids.n_rows > 1).sum())
    return (
        f"{names[table]} has equal scores in all rows of a recording in {len(recordings)} of {n_several} recordings, "
        f"unlike {names[1 - table]}"
    )
