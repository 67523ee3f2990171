"""Assemble the rows of a run from stored scores, recording by recording: means, post-processing, row ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..audio.headers import read_info
from ..audio.windows import count_rows
from ..errors import DataError
from ..models.backends import Array
from ..models.ensemble import EnsembleMean, Member
from ..scores import postprocess
from ..scores.table import ROW_ID, make_table, row_ids
from ..scores.table_member import TableMember
from .run import PredictionRun
from .store import Recording, StoredScores


@dataclass(frozen=True)
class RecordingScores:
    """The rows of one recording."""

    recording: Recording
    table: pd.DataFrame
    n_samples: int  # as stored; 0 if the recording was not scored
    sample_rate: int
    constant: bool  # equal rows are correct: the recording is silent, or was not scored


@dataclass
class ScoreAssembler:
    """Iterates over the rows of a run, recording by recording, in their order."""

    run: PredictionRun
    classes: Sequence[str]  # columns
    row_id: str = ROW_ID
    stages: Sequence[postprocess.Stage] = ()  # of the mean, and of single members before it
    taxa: Mapping[str, str] = field(default_factory=dict)
    fill: Array | None = None  # (K,), for recordings that were not scored; they have no rows without it
    fill_s: int = 60  # assumed duration of such a recording with an unreadable header
    tables: Sequence[TableMember] = ()

    def __post_init__(self) -> None:
        n_members = len(self.run.spec.averaging.weights)
        self._shared, self._own = postprocess.split_stages(self.stages, n_members)

    def __iter__(self) -> Iterator[RecordingScores]:
        averaging, members = self.run.spec.averaging, self._members()
        ranked = iter(self._ranked(members)) if averaging.mean == "rank" else None
        for recording in self.run.recordings:
            scores = self._stored(recording, members)
            if scores is not None:
                mean = (
                    next(ranked) if ranked is not None else averaging.combine(self._views(recording, scores, members))
                )
                table = self._table(recording, mean, self._shared)
                # Where no network has read the audio, equal rows are those of the tables, which were checked.
                constant = scores.silent or (not self.run.spec.members and bool((mean == mean[0]).all()))
                yield RecordingScores(recording, table, scores.n_samples, scores.sample_rate, constant)
            elif self.fill is not None:
                yield RecordingScores(recording, self._filled(recording, self.fill), 0, 0, True)

    def member(self, index: int) -> pd.DataFrame:
        """Return one member's scores of all rows after its own stages, with the member's classes."""
        classes = self._classes(index)
        ids: list[str] = []
        values = [np.empty((0, len(classes)), np.float32)]
        for recording in self.run.recordings:
            scores = self._stored(recording, [index] if index in self.run.spec.members else self._members())
            if scores is not None:
                ids += self._ids(recording, scores.n_rows)
                values.append(self._member_scores(recording, scores, index))
        return make_table(ids, classes, np.concatenate(values))

    def _members(self) -> list[int]:
        """Return the indices of the members that are averaged."""
        return [*self.run.usable_members(), *self.run.spec.tables]

    def _classes(self, member: int) -> tuple[str, ...]:
        n_networks, averaging = len(self.run.spec.members), self.run.spec.averaging
        return averaging.contracts[member].classes if member < n_networks else averaging.tables[member - n_networks]

    def _ids(self, recording: Recording, n_rows: int) -> list[str]:
        return row_ids(recording.name, n_rows, self.run.spec.row_s, self.row_id)

    def _stored(self, recording: Recording, members: Collection[int]) -> StoredScores | None:
        """Return the stored scores of a recording, if any of these members scored it."""
        return self.run.store.get(recording.key) if self.run.is_scored(recording, members) else None

    def _views(self, recording: Recording, scores: StoredScores, members: Collection[int]) -> list[tuple[int, Array]]:
        """Return the arrays whose mean is computed: members with their views, or with one after stages of their own."""
        views = []
        for k in members:
            if k in self.run.spec.tables or self._own[k]:
                views.append((k, self._member_scores(recording, scores, k)))
            else:
                views += [(k, scores.views[name]) for name in self.run.spec.views_for(scores.views, k)]
        return views

    def _member_scores(self, recording: Recording, scores: StoredScores, member: int) -> Array:
        """Return a member's rows after its own stages, NaN where it has none: the mean of its views, or a table's."""
        ids, names = self._ids(recording, scores.n_rows), self.run.spec.views_for(scores.views, member)
        values = np.full((len(ids), len(self._classes(member))), np.nan, np.float32)
        if member in self.run.spec.tables:
            values = self.tables[member - len(self.run.spec.members)].select(ids)
        elif names:
            values = np.stack([scores.views[name] for name in names]).mean(axis=0, dtype=np.float64).astype(np.float32)
        known = ~np.isnan(values).any(axis=1)
        if self._own[member] and known.any():
            table = make_table(list(np.array(ids, object)[known]), self._classes(member), values[known])
            values[known] = postprocess.apply(table, self._own[member], self.taxa).to_numpy()
        return values

    def _ranked(self, members: Collection[int]) -> list[Array]:
        """Return each recording's rows after a mean of ranks, which needs all rows at once."""
        recordings = self.run.recordings
        stored = [(each, scores) for each in recordings if (scores := self._stored(each, members)) is not None]
        if not stored:
            return []
        # A member's views are averaged first, as recordings may have different views.
        parts = {k: [self._member_scores(each, scores, k) for each, scores in stored] for k in members}
        values = [(k, np.concatenate(arrays)) for k, arrays in parts.items()]
        ends = np.cumsum([scores.n_rows for _, scores in stored])
        return np.split(self.run.spec.averaging.combine(values), ends[:-1])

    def _filled(self, recording: Recording, fill: Array) -> pd.DataFrame:
        """Return rows for a recording that was not scored."""
        rate = next((each.sample_rate for each in self.run.spec.averaging.frontends), 1)
        try:
            n_samples = read_info(recording.path).length(rate)
        except (DataError, OSError):
            n_samples = self.fill_s * rate
        n_rows = count_rows(n_samples, rate, self.run.spec.row_s)
        return self._table(recording, np.tile(fill, (n_rows, 1)), stages=())

    def _table(self, recording: Recording, scores: Array, stages: Sequence[postprocess.Stage]) -> pd.DataFrame:
        spec = self.run.spec
        if self.fill is not None:
            # NaN: classes only of members for which there was no time.
            scores = np.where(np.isnan(scores), self.fill, scores)
        table: pd.DataFrame = make_table(self._ids(recording, len(scores)), spec.averaging.classes, scores)
        if list(spec.averaging.classes) != list(self.classes):
            table = table[list(self.classes)]
        return postprocess.apply(table, stages, self.taxa) if stages else table


def class_priors(members: Sequence[Member], averaging: EnsembleMean) -> Array:
    """Return the mean of the members' class priors, (K,)."""
    priors = [(index, np.asarray([member.priors], np.float32)) for index, member in enumerate(members)]
    return np.asarray(dataclasses.replace(averaging, mean="prob").combine(priors)[0])


def join_scores(tables: Sequence[pd.DataFrame], classes: Sequence[str]) -> pd.DataFrame:
    """Return recordings' tables as one."""
    if not tables:
        return make_table([], classes, np.empty((0, len(classes)), np.float32))
    table = pd.concat(tables)
    table.index.name = "row_id"
    return table
