"""Diagnose one score table, or the difference between two of the same recordings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import pandas as pd

from ...audio.decode import read_audio
from ...audio.headers import read_info
from ...errors import DataError
from ...files import read_columns, require_file
from ...recordings import find_recordings, printable
from ...scores.checks.api import check
from ...scores.checks.finding import ERROR, WARNING, Finding, make_finding, pluralize
from ...scores.checks.ids import parse_row_ids
from ...scores.checks.values import find_broadcast, numeric_values
from ...scores.table import is_parquet, read_parquet
from .compare import TOLERANCE, Comparison, compare

_TIMES = ("filename", "start", "end")


@dataclass(frozen=True, kw_only=True, eq=False)
class Diagnosis:
    """Findings and verdict."""

    findings: tuple[Finding, ...]  # of all tables and of their comparison; errors of a table first
    comparison: Comparison | None  # of two tables
    verdict: str  # one sentence
    failed: bool  # whether a table has errors, or the two differ


def diagnose(
    scores: str | Path,
    other: str | Path | None = None,
    *,
    recordings: Sequence[str | Path] = (),
    sample_submission: str | Path | None = None,
    tolerance: float = TOLERANCE,
) -> Diagnosis:
    """Check a score table, or two of the same recordings and their difference.

    For the tables see `read_scores`. `recordings` are files and folders with the recordings of the rows;
    `sample_submission` is the competition's template with the required columns, in order. Differences below `tolerance`
    are ignored: processors, libraries and text of six digits differ by about 1e-6. Raises DataError if a file is not a
    table, or the two have no row or class in common.
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

    DataError if a recording or the template does not exist, or two recordings share a name.
    """
    classes = None if sample_submission is None else list(read_scores(sample_submission).columns)
    column = table.attrs.get("id_column", "row_id")
    sentence = "the ids of rows are in the column {some}, which must be called 'row_id' in a submission."
    findings = () if column == "row_id" else (make_finding("id column", WARNING, [column], sentence),)
    if not recordings:
        return (*findings, *check(table, classes=classes))
    ids = parse_row_ids(table.index)
    constant = [ids.stems[index] for index in find_broadcast(ids, numeric_values(table))]
    durations_s, silent = _read_recordings(recordings, constant)
    return (*findings, *check(table, classes=classes, durations_s=durations_s, silent=silent))


def shorten_paths(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return the shortest endings of paths that are all different; numbered paths if they are equal."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        endings = tuple("/".join(path.parts[-depth:]) for path in paths)
        if len(set(endings)) == len(paths):
            return endings
    return tuple(f"{path} ({number})" for number, path in enumerate(paths, 1))


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a score table without validation: logits, NaN, text and duplicate columns are preserved.

    It is CSV or Parquet: ``row_id`` (or a first column of another name that contains text) and a column per class; or
    ``filename, start, end`` in seconds and a column per class, as in tables of pseudolabels. The result is indexed by
    ``row_id``, in the order of the file. Raises DataError if the file does not exist or is not a table.
    """
    path = Path(path)
    require_file(path)
    table: pd.DataFrame = read_parquet(path) if is_parquet(path) else _read_text(path)
    names = list(map(str, table.columns))
    if not names:
        raise DataError(f"{path}: the table has no columns.")
    if "row_id" not in names and set(_TIMES) <= set(names):
        stems = table["filename"].astype(str).map(lambda name: Path(name).stem)
        row_ids = stems + "_" + table["end"].astype(str).str.removesuffix(".0")
        table = table.drop(columns=list(_TIMES))
    else:
        column = names.index("row_id") if "row_id" in names else 0
        row_ids = table.iloc[:, column].astype(str)
        table = table.iloc[:, [k for k in range(len(names)) if k != column]]
    table.index = pd.Index(row_ids.to_numpy(object), dtype=object, name="row_id")
    table.columns = pd.Index(list(map(str, table.columns)), dtype=object)
    if "row_id" not in names and not set(_TIMES) <= set(names):
        table.attrs["id_column"] = names[0]
    return table


def _read_text(path: Path) -> pd.DataFrame:
    table = read_columns(path, texts=("row_id", "filename"), raw=True, low_memory=False)
    if not {"row_id", "filename"} & set(table.columns):
        table = read_columns(path, texts=table.columns[:1], raw=True, low_memory=False)
    return table


def _read_recordings(
    recordings: Sequence[str | Path], candidates: Collection[str]
) -> tuple[dict[str, Fraction], list[str]]:
    """Return the exact seconds of each readable recording by stem, and which of the candidates are digital silence.

    DataError if a file or folder does not exist, or two recordings share a stem.
    """
    durations, silent = dict[str, Fraction](), []
    for path in find_recordings(recordings):
        stem = printable(path.stem)
        if stem in durations:
            raise DataError(f"two recordings are called {stem!r}; rename one, as their rows have the same ids.")
        try:
            info = read_info(path)
            durations[stem] = Fraction(info.n_samples, info.sample_rate)
            if stem in candidates and not read_audio(info, info.sample_rate)[0].any():
                silent.append(stem)
        except DataError:
            continue  # prediction has already reported it
    return durations, silent
