"""What was scored -> the rows of a run, recording by recording: means, post-processing, names."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from ..audio.decode import read_info
from ..audio.windows import count_rows
from ..errors import DataError
from ..models.backends import Array
from ..models.bundle.bundle import Bundle
from ..models.ensemble import Ensemble
from ..scores import postprocess
from ..scores.table import ROW_ID, make_table, row_ids
from .run import PredictionRun, Recording
from .store import StoredScores


@dataclass(frozen=True)
class RecordingScores:
    """The rows of one recording.

    Parameters
    ----------
    recording : Recording
    table : DataFrame
        A score table.
    n_samples, sample_rate : int
        As stored; 0 if the recording could not be read.
    constant : bool
        Whether its rows are rightly all the same: it is silent, or could not be scored.
    """

    recording: Recording
    table: pd.DataFrame
    n_samples: int
    sample_rate: int
    constant: bool


@dataclass
class ScoreAssembler:
    """The score table of a run, made one recording at a time.

    Parameters
    ----------
    drive : PredictionRun
    order : sequence of str
        Columns.
    row_id : str
        Form of a row's id.
    steps : sequence of post-processing steps
    taxa : mapping of str to str
        The taxonomic class of each class.
    fill : ndarray, shape (K,), optional
        What the rows of a recording hold that was not scored; such recordings have no rows without it.
    fill_s : int
        Duration assumed for such a recording if even its header cannot be read.
    """

    drive: PredictionRun
    order: Sequence[str]
    row_id: str = ROW_ID
    steps: Sequence[postprocess.Stage] = ()
    taxa: Mapping[str, str] = field(default_factory=dict)
    fill: Array | None = None
    fill_s: int = 60

    def __iter__(self) -> Iterator[RecordingScores]:
        """Yield the recordings that have rows, in their order."""
        ensemble, heard = self.drive.ensemble, self.drive.counted()
        ranked = iter(self._ranked(heard)) if ensemble.mean == "rank" else None
        for one in self.drive.recordings:
            part = self.part(one, heard)
            if part is None:
                filled = self._filled(one)
                if filled is not None:
                    yield filled
                continue
            scores = next(ranked) if ranked is not None else ensemble.combine(self._answers(part, heard))
            yield RecordingScores(one, self._rows(one, scores), part.n_samples, part.sample_rate, part.silent)

    def member(self, place: int) -> pd.DataFrame:
        """Return one member's own answers to all rows, under its own classes."""
        contract = self.drive.ensemble.members[place].contract
        ids: list[str] = []
        scores: list[Array] = []
        for one in self.drive.recordings:
            part = self.part(one, [place])
            if part is not None:
                ids += row_ids(one.name, part.n_rows, self._row_s, self.row_id)
                scores.append(self._own(part, place))
        empty = np.empty((0, len(contract.classes)), np.float32)
        return make_table(ids, contract.classes, np.concatenate([empty, *scores]))

    @property
    def _row_s(self) -> int:
        return self.drive.wanted[0].windowing.row_s

    def part(self, one: Recording, heard: Collection[int]) -> StoredScores | None:
        """Return what is kept of a recording, if any of these members has answered it."""
        part = self.drive.store.get(one.key)
        return part if part is not None and self._answers(part, heard) else None

    def _own(self, part: StoredScores, place: int) -> Array:
        """Return the mean of a member's looks at a recording."""
        answers = np.stack([part.views[name] for name in self.drive.looks_at(part, place)])
        return np.asarray(answers.mean(axis=0, dtype=np.float64), np.float32)

    def _answers(self, part: StoredScores, heard: Collection[int]) -> list[tuple[int, Array]]:
        return [(place, part.views[name]) for place in heard for name in self.drive.looks_at(part, place)]

    def _ranked(self, heard: Collection[int]) -> list[Array]:
        """Return each recording's rows after a mean of ranks, for which all rows are needed at once."""
        parts = [part for one in self.drive.recordings if (part := self.part(one, heard)) is not None]
        if not parts:
            return []
        ensemble = self.drive.ensemble
        ends = np.cumsum([part.n_rows for part in parts])
        views: list[tuple[int, Array]] = []
        for place in heard:
            # A recording that had fewer of a member's looks than another counts by their mean.
            views.append((place, np.concatenate([self._own(part, place) for part in parts])))
        return np.split(ensemble.combine(views), ends[:-1])

    def _filled(self, one: Recording) -> RecordingScores | None:
        """Return rows for a recording that was not scored, if there are to be any."""
        if self.fill is None:
            return None
        rate = self.drive.ensemble.frontends[0].sample_rate
        try:
            n_samples = read_info(one.path).length(rate)
        except (DataError, OSError):
            n_samples = self.fill_s * rate
        scores = np.tile(self.fill, (count_rows(n_samples, rate, self._row_s), 1))
        return RecordingScores(one, self._rows(one, scores, plain=True), 0, 0, True)

    def _rows(self, one: Recording, scores: Array, *, plain: bool = False) -> pd.DataFrame:
        ids = row_ids(one.name, len(scores), self._row_s, self.row_id)
        if self.fill is not None:
            # A class that only members answer for which there was no time.
            scores = np.where(np.isnan(scores), self.fill, scores)
        classes = self.drive.ensemble.classes
        table: pd.DataFrame = make_table(ids, classes, scores)
        if list(classes) != list(self.order):
            table = table[list(self.order)]
        return table if plain else postprocess.apply(table, self.steps, self.taxa)


def class_priors(bundles: Sequence[Bundle], ensemble: Ensemble) -> Array:
    """Return what is known of a recording that cannot be heard: the mean of the members' class priors, (K,)."""
    plain = dataclasses.replace(ensemble, mean="prob")
    answers = [(place, np.asarray([bundle.priors], np.float32)) for place, bundle in enumerate(bundles)]
    return np.asarray(plain.combine(answers)[0])


def join_scores(scored: Sequence[pd.DataFrame], order: Sequence[str]) -> pd.DataFrame:
    """Return recordings' tables as one."""
    if not scored:
        return make_table([], order, np.empty((0, len(order)), np.float32))
    table = pd.concat(scored)
    table.index.name = "row_id"
    return table
