"""Score tables as members of a run: their rows are compared with its recordings before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..audio.headers import read_info
from ..audio.windows import count_rows
from ..errors import DataError
from ..scores.table_member import TableMember
from .spec import ROWS, RunSpec
from .store import Recording, StoredScores


@dataclass(frozen=True)
class TableRows:
    """What is known of the recordings of a run with score tables before it is computed."""

    recordings: dict[str, StoredScores] = field(default_factory=dict)  # by key; for runs of tables alone
    failures: dict[Path, str] = field(default_factory=dict)  # recordings that cannot be read
    notes: tuple[tuple[str, str], ...] = ()  # tables, and the rows that they lack
    incomplete: frozenset[int] = frozenset()  # numbers of the members that lack rows


def table_recordings(tables: Sequence[TableMember]) -> list[Recording]:
    """Return the recordings of tables, for a run without audio."""
    names = dict.fromkeys(name for table in tables for name in table.lengths)
    return [Recording(Path(name), name, name) for name in names]


def match_tables(
    tables: Sequence[TableMember], recordings: Sequence[Recording], spec: RunSpec, form: str, *, audio: bool
) -> TableRows:
    """Compare the rows of tables with those of the recordings: as long as the audio, or as the tables without it.

    `form` is that of `row_ids`. DataError if a table lacks rows and these are refused, see `TableMember.check_rows`.
    """
    if not tables:
        return TableRows()
    rates = [frontend.sample_rate for frontend in spec.averaging.frontends]
    rows, failures, n_rows = dict[str, StoredScores](), dict[Path, str](), dict[str, int]()
    for recording in recordings:
        length_s, n_samples, rate = max(table.lengths.get(recording.name, 0) for table in tables), 0, 0
        n_rows[recording.name] = -(-length_s // spec.row_s)
        if audio:
            try:
                info = read_info(recording.path)
            except (DataError, OSError) as error:
                failures[recording.path] = str(error)
                del n_rows[recording.name]
                continue
            n_samples, rate = info.n_samples, info.sample_rate
            scored_at = rates[0] if rates else rate
            n_rows[recording.name] = count_rows(info.length(scored_at), scored_at, spec.row_s)
        values = np.zeros((n_rows[recording.name], 1), np.float32)
        rows[recording.key] = StoredScores({ROWS: values}, n_samples=n_samples, sample_rate=rate)
    notes, without, classes = [], dict[str, list[int]](), spec.averaging.classes
    for number, table in enumerate(tables, len(spec.averaging.contracts)):
        absent = [name for name in classes if name not in set(table.classes)]
        missing = table.check_rows(n_rows, spec.row_s, form)
        for n, of, kind, first in (
            (len(absent), len(classes), "classes", absent),
            (len(missing), sum(n_rows.values()), "rows", missing),
        ):
            if n:
                sentence = f"lacks {n} of {of} {kind}, {first[0]!r} first; they are the mean of the other members"
                notes.append((str(table.path), sentence))
        for row_id in missing:
            without.setdefault(row_id, []).append(number)
    _check_others(tables, without, spec)
    return TableRows(rows, failures, tuple(notes), frozenset(number for each in without.values() for number in each))


def _check_others(tables: Sequence[TableMember], without: Mapping[str, Sequence[int]], spec: RunSpec) -> None:
    """Raise DataError if no member with a weight has a class in a row; `without` are the members without each row."""
    weight_of = spec.averaging.weight_of
    for members in dict.fromkeys(map(tuple, without.values())):
        alone = np.flatnonzero(np.delete(weight_of, members, 0).sum(0) <= 0)
        if len(alone):
            row_id = next(row_id for row_id, each in without.items() if tuple(each) == members)
            paths = " and ".join(str(tables[number - len(spec.averaging.contracts)].path) for number in members)
            name = spec.averaging.classes[alone[0]]
            raise DataError(
                f"{paths} lacks the row {row_id!r}, and no other member has a weight for {name!r}; raise a weight, or "
                "complete the table."
            )
