"""Score tables of any notebook as members of an ensemble: rows in place of windows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config.strict import one_of
from ..errors import DataError
from ..files import sha256, shorten_list
from .checks.api import check
from .checks.finding import ERROR
from .checks.ids import parse_row_ids
from .table import read_table, row_ids, table_file

MISSING_ROWS = ("refuse", "others")
# Recordings of digital silence have equal rows; a table in which a larger share of recordings has is refused.
MAX_BROADCAST = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TableMember:
    """A score table that is averaged with the scores of networks or of other tables."""

    path: Path
    sha256: str  # of the file
    table: pd.DataFrame = field(compare=False, repr=False)  # float32 in [0, 1], by row id
    # Rows that it lacks are an error ('refuse'), or the mean of the other members ('others').
    missing_rows: str = "refuse"

    def __post_init__(self) -> None:
        one_of(self, "missing_rows", MISSING_ROWS)

    @property
    def name(self) -> str:
        """The name of the file, or of its folder if predict wrote it."""
        return self.path.resolve().stem

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(map(str, self.table.columns))

    @property
    def priors(self) -> tuple[float, ...]:
        """The mean of each class; the scores of a recording that cannot be read."""
        return tuple(map(float, self.table.to_numpy(np.float64).mean(axis=0)))

    @cached_property
    def lengths(self) -> Mapping[str, int]:
        """The last second of each recording of which it has rows."""
        ids = parse_row_ids(self.table.index)
        last = np.zeros(len(ids.stems), np.int64)
        np.maximum.at(last, ids.recording, ids.end_s)
        return dict(zip(ids.stems, last.tolist(), strict=True))

    def describe(self) -> dict[str, Any]:
        """Return its origin for a manifest, in the form of a bundle's."""
        return {"bundle": str(self.path), "experiment": "table", "fingerprint": "table", "sha256": self.sha256}

    def select(self, ids: list[str]) -> npt.NDArray[np.float32]:
        """Return the scores of some rows, NaN for a row that it lacks, (R, K)."""
        return np.asarray(self.table.reindex(ids).to_numpy(np.float32))

    def check_rows(self, n_rows: Mapping[str, int], row_s: int, form: str) -> list[str]:
        """Return the ids of rows of the recordings that it lacks.

        `n_rows` are the rows of each recording, `form` is that of `row_ids`. DataError if there are some and they are
        refused, or it has no row of the recordings.
        """
        ids = [row_id for stem, n in n_rows.items() for row_id in row_ids(stem, n, row_s, form)]
        known = set(self.table.index)
        missing = [row_id for row_id in ids if row_id not in known]
        n_other = len(self.table) - (len(ids) - len(missing))
        if n_other:
            _log.info("%s: %d rows that are not of the recordings are not used", self.path, n_other)
        if missing and (self.missing_rows == "refuse" or len(missing) == len(ids)):
            way_out = "complete it, or average these rows over the other members with --missing-rows others"
            if len(missing) == len(ids):
                first = shorten_list(map(repr, self.table.index), 1)
                way_out = f"its rows are of other recordings or of another length: {first}"
            raise DataError(f"{self.path} lacks {len(missing)} of {len(ids)} rows, {missing[0]!r} first; {way_out}.")
        return missing


def read_table_member(path: str | Path, missing_rows: str = "refuse") -> TableMember:
    """Read a score table as `read_table`, or that of a folder of predict, as a member.

    It is checked as by `bcsed.scores.checks`: warnings are logged, and an error is a DataError.
    """
    path = Path(path)
    file = table_file(path)
    table = read_table(file)
    n_recordings = len(parse_row_ids(table.index).stems)
    for finding in check(table):
        allowed = finding.name == "broadcast" and finding.count <= MAX_BROADCAST * n_recordings
        allowed |= finding.name == "missing rows" and missing_rows == "others"
        if finding.severity == ERROR and not allowed:
            raise DataError(f"{file}: {finding.sentence}")
        _log.warning("%s: %s", file, finding.sentence)
    values: pd.DataFrame = table.astype(np.float32)
    values.index, values.columns = (
        pd.Index(list(map(str, each)), dtype=object) for each in (table.index, table.columns)
    )
    return TableMember(path=path, sha256=sha256(file), table=values, missing_rows=missing_rows)
