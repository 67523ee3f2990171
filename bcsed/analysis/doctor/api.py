"""Diagnose one score table, or the difference between two of the same recordings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from ...scores.checks.api import check
from ...scores.checks.finding import ERROR, Finding, pluralize
from ...scores.checks.ids import parse_row_ids
from ...scores.checks.values import find_broadcast, numeric_values
from .compare import TOLERANCE, Comparison, compare
from .read import read_durations, read_scores, silent_recordings


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """Findings and verdict.

    Parameters
    ----------
    findings : tuple of Finding
        Of all tables and of their comparison; errors of a table first.
    comparison : Comparison or None
        Of two tables.
    verdict : str
        One sentence.
    failed : bool
        Whether a table has errors, or the two differ.
    """

    findings: tuple[Finding, ...]
    comparison: Comparison | None
    verdict: str
    failed: bool


def diagnose(
    scores: str | Path,
    other: str | Path | None = None,
    *,
    recordings: Sequence[str | Path] = (),
    sample_submission: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> Diagnosis:
    """Check a score table, or two of the same recordings and their difference.

    Parameters
    ----------
    scores, other : str or Path
        Tables of the same rows, see `read_scores`.
    recordings : sequence of str or Path
        Files and folders with the recordings of the rows.
    sample_submission : str or Path, optional
        The competition's template with the required columns, in order.
    tolerance : float
        Smaller differences are ignored; processors, libraries and text of six digits differ by about 1e-6.

    Raises
    ------
    DataError
        If a file is not a table, or the two have no row or class in common.
    """
    paths = [Path(path) for path in (scores, other) if path is not None]
    tables = [read_scores(path) for path in paths]
    findings_of = [examine(table, recordings=recordings, sample_submission=sample_submission) for table in tables]
    if other is None:
        errors = list(dict.fromkeys(finding.name for finding in findings_of[0] if finding.severity == ERROR))
        warnings = pluralize(len(findings_of[0]), "warning") if findings_of[0] else "no warnings"
        verdict = f"this table has errors: {', '.join(errors)}." if errors else f"no errors in this table, {warnings}."
        return Diagnosis(findings=findings_of[0], comparison=None, verdict=verdict, failed=bool(errors))
    names = shorten_paths(paths)
    comparison = compare(*tables, names=(names[0], names[1]), tolerance=tolerance)
    findings = [
        replace(finding, sentence=f"{name}: {finding.sentence}")
        for name, of_table in zip(names, findings_of, strict=True)
        for finding in of_table
    ]
    failed = any(finding.severity == ERROR for finding in findings) or not comparison.same
    findings += comparison.findings
    return Diagnosis(findings=tuple(findings), comparison=comparison, verdict=comparison.verdict, failed=failed)


def examine(
    table: pd.DataFrame, *, recordings: Sequence[str | Path] = (), sample_submission: str | Path | None = None
) -> tuple[Finding, ...]:
    """Check a score table as `bcsed.scores.checks.check`, with the durations and silence of the recordings.

    Raises
    ------
    DataError
        If a recording or the template does not exist, or two recordings share a name.
    """
    classes = None if sample_submission is None else list(read_scores(sample_submission).columns)
    if not recordings:
        return check(table, classes=classes)
    ids = parse_row_ids(table.index)
    constant = [ids.stems[index] for index in find_broadcast(ids, numeric_values(table))]
    silent = silent_recordings(recordings, constant)
    return check(table, classes=classes, durations_s=read_durations(recordings), silent=silent)


def shorten_paths(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest endings of paths that are all different; numbered paths if they are equal."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        endings = tuple("/".join(path.parts[-depth:]) for path in paths)
        if len(set(endings)) == len(paths):
            return endings
    return tuple(f"{path} ({number})" for number, path in enumerate(paths, 1))
