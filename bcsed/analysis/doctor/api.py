"""What is wrong with a score table; where two tables of the same recordings part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ...scores.checks.api import check
from ...scores.checks.finding import ERROR, Finding
from ...scores.checks.ids import parse_row_ids
from ...scores.checks.values import find_broadcast, numeric_values
from .compare import TOLERANCE, Comparison, compare
from .read import read_durations, read_scores, silent_recordings, template_classes


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """What was found, and what follows.

    Parameters
    ----------
    findings : tuple of Finding
        Of the one table, or of both; the ill first.
    comparison : Comparison or None
        Where two tables were given.
    verdict : str
        One sentence.
    ill : bool
        Whether a table is ill, or the two do not agree.
    """

    findings: tuple[Finding, ...]
    comparison: Comparison | None
    verdict: str
    ill: bool


def diagnose(
    scores: str | Path,
    other: str | Path | None = None,
    *,
    recordings: Sequence[str | Path] = (),
    sample_submission: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> Diagnosis:
    """Examine a score table, or two of the same recordings.

    Parameters
    ----------
    scores : str or Path
        A table, see `read`.
    other : str or Path, optional
        Another path's answers for the same rows.
    recordings : sequence of str or Path
        Files and folders that the rows should be of.
    sample_submission : str or Path, optional
        The competition's template, whose columns count in their order.
    tolerance : float
        Differences up to this are none; processors and libraries differ by some 1e-6, text of six digits by 1e-6.

    Raises
    ------
    DataError
        If a file is no table at all, or the two have nothing in common.
    """
    given = [Path(scores)] if other is None else [Path(scores), Path(other)]
    tables = [read_scores(path) for path in given]
    named = names(given)
    found = [examine(table, recordings=recordings, sample_submission=sample_submission) for table in tables]
    if other is None:
        return Diagnosis(findings=found[0], comparison=None, verdict=_verdict(found[0]), ill=_is_ill(found[0]))
    comparison = compare(*tables, names=(named[0], named[1]), tolerance=tolerance)
    findings = tuple(
        Finding(**{**vars(finding), "sentence": f"{name}: {finding.sentence}"})
        for name, those in zip(named, found, strict=True)
        for finding in those
    )
    ill = _is_ill(findings) or not comparison.same
    return Diagnosis(
        findings=(*findings, *comparison.findings), comparison=comparison, verdict=comparison.verdict, ill=ill
    )


def examine(
    table: pd.DataFrame,
    *,
    recordings: Sequence[str | Path] = (),
    sample_submission: str | Path | None = None,
) -> tuple[Finding, ...]:
    """Say what one score table shows: `bcsed.scores.checks.examine`, with durations and silence of the recordings.

    Raises
    ------
    DataError
        If a recording or the template is not there, or two recordings share a name.
    """
    classes = template_classes(sample_submission) if sample_submission is not None else None
    if not recordings:
        return check(table, classes=classes)
    where = parse_row_ids(table.index)
    same = [where.stems[place] for place in find_broadcast(where, numeric_values(table))]
    return check(
        table,
        classes=classes,
        durations_s=read_durations(recordings),
        silent=silent_recordings(recordings, same),
    )


def names(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest ends of paths that tell them apart."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        short = tuple("/".join(path.parts[-depth:]) for path in paths)
        if len(set(short)) == len(paths):
            return short
    return tuple(f"{path} ({place})" for place, path in enumerate(map(str, paths), 1))


def _is_ill(findings: Sequence[Finding]) -> bool:
    return any(finding.severity == ERROR for finding in findings)


def _verdict(findings: Sequence[Finding]) -> str:
    ill = [finding for finding in findings if finding.severity == ERROR]
    if not ill:
        odd = f"; {len(findings)} things are odd" if len(findings) > 1 else "; one thing is odd" if findings else ""
        return f"nothing is wrong with this table{odd}."
    return f"this table is ill: {', '.join(dict.fromkeys(finding.name for finding in ill))}."
