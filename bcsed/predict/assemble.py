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
from ..models.bundle.bundle import Bundle
from ..models.ensemble import EnsembleMean
from ..scores import postprocess
from ..scores.table import ROW_ID, make_table, row_ids
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
    stages: Sequence[postprocess.Stage] = ()
    taxa: Mapping[str, str] = field(default_factory=dict)
    fill: Array | None = None  # (K,), for recordings that were not scored; they have no rows without it
    fill_s: int = 60  # assumed duration of such a recording with an unreadable header

    def __iter__(self) -> Iterator[RecordingScores]:
        averaging, members = self.run.spec.averaging, self.run.usable_members()
        ranked = iter(self._ranked(members)) if averaging.mean == "rank" else None
        for recording in self.run.recordings:
            scores = self._stored(recording, members)
            if scores is not None:
                mean = next(ranked) if ranked is not None else averaging.combine(self._views(scores, members))
                table = self._table(recording, mean, self.stages)
                yield RecordingScores(recording, table, scores.n_samples, scores.sample_rate, scores.silent)
            elif self.fill is not None:
                yield RecordingScores(recording, self._filled(recording, self.fill), 0, 0, True)

    def member(self, index: int) -> pd.DataFrame:
        """Return one member's scores of all rows, with the member's classes."""
        classes = self.run.spec.averaging.contracts[index].classes
        ids: list[str] = []
        values = [np.empty((0, len(classes)), np.float32)]
        for recording in self.run.recordings:
            scores = self._stored(recording, [index])
            if scores is not None:
                ids += row_ids(recording.name, scores.n_rows, self.run.spec.row_s, self.row_id)
                values.append(self._member_mean(scores, index))
        return make_table(ids, classes, np.concatenate(values))

    def _stored(self, recording: Recording, members: Collection[int]) -> StoredScores | None:
        """Return the stored scores of a recording, if any of these members scored it."""
        return self.run.store.get(recording.key) if self.run.is_scored(recording, members) else None

    def _views(self, scores: StoredScores, members: Collection[int]) -> list[tuple[int, Array]]:
        views_for = self.run.spec.views_for
        return [(k, scores.views[name]) for k in members for name in views_for(scores.views, k)]

    def _member_mean(self, scores: StoredScores, member: int) -> Array:
        """Return the mean of a member's views."""
        values = np.stack([values for _, values in self._views(scores, [member])])
        return np.asarray(values.mean(axis=0, dtype=np.float64), np.float32)

    def _ranked(self, members: Collection[int]) -> list[Array]:
        """Return each recording's rows after a mean of ranks, which needs all rows at once."""
        stored = [scores for each in self.run.recordings if (scores := self._stored(each, members)) is not None]
        if not stored:
            return []
        # A member's views are averaged first, as recordings may have different views.
        values = [(k, np.concatenate([self._member_mean(scores, k) for scores in stored])) for k in members]
        ends = np.cumsum([scores.n_rows for scores in stored])
        return np.split(self.run.spec.averaging.combine(values), ends[:-1])

    def _filled(self, recording: Recording, fill: Array) -> pd.DataFrame:
        """Return rows for a recording that was not scored."""
        rate = self.run.spec.averaging.frontends[0].sample_rate
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
        ids = row_ids(recording.name, len(scores), spec.row_s, self.row_id)
        table: pd.DataFrame = make_table(ids, spec.averaging.classes, scores)
        if list(spec.averaging.classes) != list(self.classes):
            table = table[list(self.classes)]
        return postprocess.apply(table, stages, self.taxa) if stages else table


def class_priors(bundles: Sequence[Bundle], averaging: EnsembleMean) -> Array:
    """Return the mean of the members' class priors, (K,)."""
    priors = [(index, np.asarray([bundle.priors], np.float32)) for index, bundle in enumerate(bundles)]
    return np.asarray(dataclasses.replace(averaging, mean="prob").combine(priors)[0])


def join_scores(tables: Sequence[pd.DataFrame], classes: Sequence[str]) -> pd.DataFrame:
    """Return recordings' tables as one."""
    if not tables:
        return make_table([], classes, np.empty((0, len(classes)), np.float32))
    table = pd.concat(tables)
    table.index.name = "row_id"
    return table
