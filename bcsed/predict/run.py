"""All passes of one run: what is scored already, what is to be, and when it is time to stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..audio.decode import AudioInfo, read_info, recording_names
from ..errors import DataError
from ..models.ensemble import Ensemble
from .blocks import View
from .budget import SURE, Budget, CostModel, RefinementPlanner, cheapest_view, measure
from .frames import Frames
from .pipeline import RecordingOutcome, ScoringPipeline
from .store import MOST_ROWS, FolderStore, MemoryStore, StoredScores, recording_key

_log = logging.getLogger(__name__)

# Recordings are written in at most about so many parts; a run of fewer keeps each by itself.
MOST_PARTS = 1000


@dataclass(frozen=True)
class Recording:
    """One recording of a run: where it is, what it is called in the rows, and what it is known by on disk.

    Parameters
    ----------
    path : Path
    name : str
    key : str
        Empty if the file could not even be found.
    """

    path: Path
    name: str
    key: str


def describe_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Name and mark recordings."""
    made = []
    for path, name in zip(paths, recording_names(paths), strict=True):
        try:
            key = recording_key(path)
        except OSError:
            key = ""
        made.append(Recording(path, name, key))
    return made


@dataclass
class PredictionRun:
    """A run under way.

    Parameters
    ----------
    ensemble : Ensemble
    recordings : sequence of Recording
    wanted : sequence of View
    store : Memory or Folder
    shard : int
        Recordings that are written together.
    jobs : int
    keep_frames : callable, optional
        Takes the frames of the recordings of a part, before it is written.
    progress, log : callable
    """

    ensemble: Ensemble
    recordings: Sequence[Recording]
    wanted: Sequence[View]
    store: MemoryStore | FolderStore
    shard: int = 1
    jobs: int = 2
    keep_frames: Callable[[Sequence[tuple[Recording, Frames]]], None] | None = None
    progress: Callable[[int, int], None] | None = None
    log: Callable[[str], None] = _log.info
    failures: dict[Path, str] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)

    def all(self) -> None:
        """Give every recording every look, in one pass."""
        self.run(self.wanted, self.recordings)

    def within(self, budget: Budget) -> list[str]:
        """Give the recordings the looks that there is time for; return what was left out."""
        infos = self._headers()
        seconds = sum(found.duration_s for found in infos)
        row_s = self.wanted[0].windowing.row_s
        costs = measure(self.ensemble, infos[0] if infos else None, row_s, self.jobs)
        plan = RefinementPlanner(self.ensemble, self.wanted)
        first = plan.first(costs)
        # A run that goes on has some already.
        had = {view: True for view in self.wanted if self._everywhere(view)}
        rest = [view for view in self.wanted if view not in had]
        whole = costs.of(rest, self.ensemble, seconds)
        self.log(
            f"{budget.left():.0f} s are left for {seconds / 60:.0f} min of audio; all that was asked for would take "
            f"about {whole:.0f} s, the cheapest pass {costs.of([first], self.ensemble, seconds):.0f} s"
        )
        if rest and whole < SURE * budget.left():
            self._timed(rest, self.recordings, budget, costs, seconds, had, retreat=first)
        if not self.heard():
            lacking = [one for one in self.recordings if not self._answered(one, first.place)]
            share = seconds * len(lacking) / max(1, len(self.recordings))
            self._timed([first], lacking, budget, costs, share, had)
        while views := plan.next(had, self.heard(), costs, seconds, budget.left()):
            self._timed(views, self.recordings, budget, costs, seconds, had)
        return plan.left_out(had, self.heard())

    def heard(self) -> list[int]:
        """Return the members that have answered every recording that can be read."""
        return [place for place in range(len(self.ensemble.members)) if self._heard(place)]

    def counted(self) -> list[int]:
        """Return the members whose answers make the table: those of `heard`, or else the one that got furthest."""
        heard = self.heard()
        if heard:
            return heard
        places = range(len(self.ensemble.members))
        n_answered = [sum(self._answered(one, place) for one in self._readable()) for place in places]
        return [max(places, key=n_answered.__getitem__)] if any(n_answered) else []

    def answered(self, one: Recording, places: Collection[int]) -> bool:
        """Say whether any of some members has answered a recording."""
        return any(self._answered(one, place) for place in places)

    def looks_at(self, part: StoredScores, place: int) -> list[str]:
        """Return the looks of a member that count for a recording: those asked for, or else the cheap one."""
        asked = [view.name for view in self.wanted if view.place == place and view.name in part.views]
        spare = cheapest_view(place, self.ensemble, self.wanted[0].windowing.row_s).name
        return asked or [name for name in (spare,) if name in part.views]

    def run(
        self,
        views: Sequence[View],
        recordings: Sequence[Recording],
        stop: Callable[[], bool] = lambda: False,
        done: Callable[[int], None] | None = None,
    ) -> None:
        """Give some recordings the looks that they lack."""
        groups: dict[tuple[View, ...], list[Recording]] = {}
        for one in recordings:
            lacking = tuple(view for view in views if view.name not in self.store.views(one.key))
            if lacking and one.path not in self.failures:
                groups.setdefault(lacking, []).append(one)
        total, n_done = len(recordings), len(recordings) - sum(map(len, groups.values()))
        for lacking, group in groups.items():
            by_path = {one.path: one for one in group}
            a_pass = ScoringPipeline(self.ensemble, lacking, self.jobs, self.keep_frames is not None, stop)
            finished: list[RecordingOutcome] = []
            n_rows = 0
            try:
                for made in a_pass.score(list(by_path)):
                    n_done += 1
                    if made.part is None:
                        self.failures[made.path] = made.failure
                    else:
                        finished.append(made)
                        n_rows += made.part.n_rows
                    if len(finished) >= self.shard or n_rows >= MOST_ROWS:
                        self._put(finished, by_path)
                        finished, n_rows = [], 0
                    if done is not None:
                        done(n_done)
                    if self.progress is not None:
                        self.progress(n_done, total)
            finally:
                # An interruption too leaves what is finished.
                self._put(finished, by_path)

    def _put(self, finished: Sequence[RecordingOutcome], by_path: Mapping[Path, Recording]) -> None:
        if not finished:
            return
        if self.keep_frames is not None:
            self.keep_frames([(by_path[one.path], one.frames) for one in finished if one.frames is not None])
        self.store.put([(one.key, one.part) for one in finished if one.part is not None])

    def _timed(
        self,
        views: Sequence[View],
        recordings: Sequence[Recording],
        budget: Budget,
        costs: CostModel,
        seconds: float,
        had: dict[View, bool],
        retreat: View | None = None,
    ) -> None:
        """Run a pass while there is time, and learn its pace."""
        told_s, began, n_done = costs.of(views, self.ensemble, seconds), time.monotonic(), 0
        spare_s = costs.of([retreat], self.ensemble, seconds) if retreat is not None else 0.0

        def done(n: int) -> None:
            nonlocal n_done
            n_done = n

        def stop() -> bool:
            left_s, rest = budget.left(), 1 - n_done / max(1, len(recordings))
            if retreat is None or not n_done:
                return left_s <= 0
            # The machine may have become slower than it was: there has to be time for a cheap look at the rest.
            slower = max(1.0, (time.monotonic() - began) / max(1e-9, told_s * (1 - rest)))
            late = told_s * slower * rest > left_s and 1.5 * spare_s * slower * rest > left_s
            return left_s <= 0 or late

        self.run(views, recordings, stop, done)
        share = n_done / max(1, len(recordings))
        took_s = time.monotonic() - began
        costs.learn(told_s * share, took_s)
        for view in views:
            had[view] = self._everywhere(view)
        names, complete = [view.name for view in views], all(had[view] for view in views)
        self.passes.append(
            {
                "looks": names,
                "foretold_s": round(told_s, 2),
                "took_s": round(took_s, 2),
                "recordings": n_done,
                "complete": complete,
            }
        )
        self.log(
            f"pass {len(self.passes)} ({', '.join(names)}): {n_done} of {len(recordings)} recordings in {took_s:.1f} "
            f"s, {told_s:.1f} s were foretold for all; {max(0.0, budget.left()):.0f} s are left"
        )

    def _headers(self) -> list[AudioInfo]:
        found = []
        for one in self.recordings:
            try:
                found.append(read_info(one.path))
            except (DataError, OSError) as error:
                self.failures[one.path] = str(error)
        return found

    def _readable(self) -> Iterable[Recording]:
        return (one for one in self.recordings if one.path not in self.failures)

    def _everywhere(self, view: View) -> bool:
        return all(view.name in self.store.views(one.key) for one in self._readable())

    def _heard(self, place: int) -> bool:
        return all(self._answered(one, place) for one in self._readable())

    def _answered(self, one: Recording, place: int) -> bool:
        names: Collection[str] = self.store.views(one.key)
        row_s = self.wanted[0].windowing.row_s
        return any(view.name in names for view in self.wanted if view.place == place) or (
            cheapest_view(place, self.ensemble, row_s).name in names
        )
