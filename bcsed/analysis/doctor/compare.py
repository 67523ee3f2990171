"""Where two score tables of the same recordings part, and what explains it: a verdict, with its evidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...scores.checks.finding import ERROR, Finding
from ...scores.checks.values import find_broadcast
from .align import AlignedTables, Floats, Misalignment, Ranks, align, find_misalignments, mean, ranked, spearman
from .transforms import find_transform

# What two processors, two libraries or six written digits may differ by.
TOLERANCE = 1e-4
# Up to here, and with the ranks hardly touched, tables differ as by another precision.
_ROUNDING = 0.02
# From this share of its recordings on, a table that repeats rows is told by that.
_MANY = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """What two tables are to one another.

    Parameters
    ----------
    verdict : str
        One sentence.
    cause : str
        In a word: 'same', 'broadcast', 'shift', 'columns', 'row order', 'recordings', the name of a function (see
        `bcsed.analysis.doctor.transforms`), 'rounding', 'some recordings', 'ends', 'some rows', 'classes', 'everywhere' or
        'no numbers'.
    same : bool
        Whether they agree to the tolerance.
    findings : tuple of Finding
        What one has and the other lacks.
    spearman : Series
        Rank correlation of each class, bound by name.
    shifts : mapping of int to float
        The mean of it, with the second table's rows moved back by so many rows; empty where that was not asked.
    largest : Series
        Largest difference in each recording, once what the verdict says is undone.
    """

    verdict: str
    cause: str
    same: bool
    findings: tuple[Finding, ...]
    spearman: pd.Series[float]
    shifts: Mapping[int, float]
    largest: pd.Series[float]


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    names: tuple[str, str] = ("the first table", "the second"),
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Compare two score tables of the same recordings, bound by the names of rows and classes.

    Parameters
    ----------
    first, second : DataFrame
        Indexed by row id. Rows and classes that only one has are told of and left out, and so are rows with values
        that are no numbers.
    names : two str
        What the verdict calls them.
    tolerance : float
        Differences up to this are none.

    Raises
    ------
    DataError
        If they have no row or class in common.
    """
    pair = align(first, second, names)
    if not pair.first.size:
        return _incomparable(pair, names)
    ours, theirs = ranked(pair.first), ranked(pair.second)
    by_class = spearman(ours, theirs)
    shifts: Mapping[int, float] = {}
    findings = list(pair.findings)
    gap = np.abs(pair.first - pair.second)
    if gap.max() <= tolerance:
        verdict = (
            f"{names[1]} and {names[0]} agree: to {gap.max():.1g} in {gap.shape[0]} rows of {gap.shape[1]} classes."
        )
        cause, same = "same", not any(finding.severity == ERROR for finding in findings)
    elif (unlike := _unequal_broadcast(pair)) is not None:
        cause, same = "broadcast", False
        verdict = _told_broadcast(pair, names, *unlike)
    else:
        same = False
        change, shifts = find_misalignments(pair, ours, theirs)
        cause, verdict, gap, pair = _explain(pair, ours, theirs, change, names, tolerance)
    recordings = pd.Series(gap.max(1)).groupby(pair.where.recording).max()
    recordings.index = pd.Index([pair.where.stems[k] for k in recordings.index], name="recording")
    return Comparison(
        verdict=verdict,
        cause=cause,
        same=same,
        findings=tuple(findings),
        spearman=pd.Series(by_class, index=pd.Index(pair.classes, name="class")),
        shifts=shifts,
        largest=recordings.sort_values(ascending=False, kind="stable"),
    )


def _incomparable(pair: AlignedTables, names: tuple[str, str]) -> Comparison:
    return Comparison(
        verdict=f"{names[1]} and {names[0]} have no row in which both hold numbers throughout: nothing to compare.",
        cause="no numbers",
        same=False,
        findings=pair.findings,
        spearman=pd.Series(dtype=np.float64),
        shifts={},
        largest=pd.Series(dtype=np.float64),
    )


def _explain(
    pair: AlignedTables, ours: Ranks, theirs: Ranks, change: Misalignment, names: tuple[str, str], tolerance: float
) -> tuple[str, str, Floats, AlignedTables]:
    """Undo a change, look for a function, and tell what remains; return cause, verdict, gap, and the pair it is of."""
    x, y = pair.first[change.first_rows], pair.second[np.ix_(change.second_rows, change.columns)]
    aligned = _aligned(pair, change)
    ranks = spearman(ours, theirs) if change.kind == "none" else spearman(ranked(x), ranked(y))
    function = find_transform(x, y, ranks, tolerance)
    gap: Floats = np.abs(x - y)
    if function is not None and function.name in ("monotone", "per class") and gap.max() <= _ROUNDING:
        function = None  # nothing but rounding that left the ranks alone
    told = []
    if change.kind != "none":
        told.append(f"{names[1]} has {change.told}")
    if function is not None:
        of = f"{names[1]} is {names[0]} through one rising function" if not told else "and through one rising function"
        of = of.replace("one rising function", "rising functions") if function.name == "per class" else of
        missed = f" (to {function.misses:.1g})" if np.isfinite(function.misses) else ""
        told.append(f"{of}, {function.told}{missed}: areas under the curve stay, thresholds do not")
    if told:
        if function is None:
            told.append(_afterwards(gap, mean(ranks), tolerance))
        cause = change.kind if change.kind != "none" else function.name if function is not None else "none"
        return cause, "; ".join(told) + ".", gap, aligned
    cause, verdict = _parting(pair, gap, ranks, names, tolerance)
    return cause, verdict, gap, aligned


def _aligned(pair: AlignedTables, change: Misalignment) -> AlignedTables:
    """Return the pair with the rows of the first table that a change leaves."""
    rows = change.first_rows
    where = type(pair.where)(pair.where.recording[rows], pair.where.stems, pair.where.end_s[rows])
    return AlignedTables(**{**vars(pair), "where": where, "number": pair.number[rows]})


def _afterwards(gap: Floats, agreement: float, tolerance: float) -> str:
    if gap.max() <= tolerance:
        return f"put right, the tables agree to {gap.max():.1g}"
    return f"put right, they still differ, by up to {gap.max():.2g} (mean Spearman {agreement:.3f})"


# ---- window 0 for all ----------------------------------------------------------------------------------------


def _unequal_broadcast(pair: AlignedTables) -> tuple[int, npt.NDArray[np.int64]] | None:
    """Return which table alone (0, 1) gives one answer to all rows of most recordings, and of which."""
    several = int((pair.where.n_rows > 1).sum())
    found = [find_broadcast(pair.where, values) for values in (pair.first, pair.second)]
    only = [np.setdiff1d(found[0], found[1]), np.setdiff1d(found[1], found[0])]
    place = int(len(only[1]) >= len(only[0]))
    if not several or len(only[place]) < max(1, _MANY * several):
        return None
    return place, only[place]


def _told_broadcast(pair: AlignedTables, names: tuple[str, str], place: int, which: npt.NDArray[np.int64]) -> str:
    repeating, varied = (pair.second, pair.first) if place else (pair.first, pair.second)
    bad, good = (names[1], names[0]) if place else names
    of = np.isin(pair.where.recording, which)
    rows, recording = np.flatnonzero(of), pair.where.recording[of]
    gap = np.abs(repeating - varied)
    candidates = {}
    for number in range(int(min(pair.where.n_rows[which].min(), 60))):
        at = rows[pair.number[rows] == number]
        if len(at):
            candidates[f"that of row {number + 1}"] = float(np.median(gap[at].max(1)))
    for name, how in (("the mean of its rows", "mean"), ("the maximum of its rows", "max")):
        pooled = pd.DataFrame(varied[rows]).groupby(recording).transform(how).to_numpy(np.float64)
        candidates[name] = float(np.median(np.abs(pooled - repeating[rows]).max(1)))
    nearest = min(candidates, key=lambda name: candidates[name])
    sure = candidates[nearest] <= 0.25 * max(float(np.median(list(candidates.values()))), 1e-12)
    source = f": {nearest} in {good} (to {candidates[nearest]:.1g})" if sure else ""
    n_several = int((pair.where.n_rows > 1).sum())
    return (
        f"{bad} gives one answer to all rows of a recording in {len(which)} of {n_several} recordings, where {good} "
        f"does not{source}; it was broadcast."
    )


# ---- no simple cause -----------------------------------------------------------------------------------------


def _parting(
    pair: AlignedTables, gap: Floats, ranks: Floats, names: tuple[str, str], tolerance: float
) -> tuple[str, str]:
    """Tell where the tables part: in which recordings, which rows, which classes; or everywhere."""
    of_row = gap.max(1) > tolerance
    parting = np.unique(pair.where.recording[of_row])
    n, agreement = len(pair.where.stems), mean(ranks)
    both = f"{names[1]} and {names[0]}"
    if gap.max() <= _ROUNDING and agreement > 0.995:
        return "rounding", (
            f"{both} differ by no more than {gap.max():.1g} (mean Spearman {agreement:.4f}): as by another precision, "
            "decoder or library."
        )
    if len(parting) <= 0.9 * n:
        shown = ", ".join(repr(pair.where.stems[k]) for k in parting[:3])
        return "some recordings", (
            f"{both} part in {len(parting)} of {n} recordings, {shown}, by up to {gap.max():.2g}, and agree in the "
            "others: look at how these files are read."
        )
    classes = np.asarray((gap > tolerance).any(0))
    if classes.mean() <= 0.5:
        shown = ", ".join(repr(pair.classes[k]) for k in np.flatnonzero(classes)[:3])
        return "classes", (
            f"{both} part in {int(classes.sum())} of {len(classes)} classes, {shown}, by up to {gap.max():.2g}, and "
            "agree in the others."
        )
    ends = _ends(pair, of_row)
    if ends:
        return (
            "ends",
            f"{both} part only in the {ends} of their recordings: what is beyond the ends is heard otherwise.",
        )
    share = float(of_row.mean())
    worst = pair.classes[int(np.nanargmin(ranks))] if np.isfinite(ranks).any() else pair.classes[0]
    told = f"mean Spearman {agreement:.3f}, lowest in class {worst!r}"
    if share <= 0.9:
        return "some rows", (
            f"{both} part in {int(of_row.sum())} of {len(of_row)} rows, by up to {gap.max():.2g} ({told}), and agree "
            "to the digit in the others: something is done to some windows and not to others."
        )
    return "everywhere", (
        f"{both} differ in {share:.0%} of their rows ({told}), and no shift, order or function explains it: "
        "they were heard or answered otherwise; `bcsed trace` names the stage."
    )


def _ends(pair: AlignedTables, of_row: npt.NDArray[np.bool_]) -> str:
    """Say which rows part if only the first or last of each recording do."""
    n_rows = pair.where.n_rows[pair.where.recording]
    if (n_rows < 4).all():
        return ""
    first, last = pair.number == 0, pair.number == n_rows - 1
    if (of_row & ~first & ~last).any():
        return ""
    told = [name for name, at in (("first", first), ("last", last)) if (of_row & at).any()]
    return f"{' and '.join(told)} row{'s' if len(told) > 1 else ''}"


__all__ = ["TOLERANCE", "Comparison", "compare"]
