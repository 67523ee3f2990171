"""The passes of one run: which recordings and views are scored already, which are missing, and when to stop."""

from __future__ import annotations

import functools
import itertools
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import interrupt
from ..audio.headers import read_info
from ..errors import DataError
from ..models.ensemble import Ensemble
from .blocks import Frames
from .budget import SURE, Budget, CostModel, RefinementPlanner, measure_costs
from .pipeline import RecordingOutcome, ScoringPipeline
from .spec import ROWS, RunSpec, View
from .store import MAX_ROWS, FolderStore, MemoryStore, Recording, StoredScores

_log = logging.getLogger(__name__)


@dataclass
class PredictionRun:
    """A run in progress; it keeps no network, see `RunSpec`."""

    spec: RunSpec
    recordings: Sequence[Recording]
    store: MemoryStore | FolderStore
    shard: int = 1  # recordings that are written together
    jobs: int = 2
    write_frames: Callable[[Sequence[tuple[Recording, Frames]]], None] | None = None
    progress: Callable[[int, int], None] | None = None
    log: Callable[[str], None] = _log.info
    skipped: Sequence[tuple[str, str]] = ()  # folders, and what was skipped in them
    durations_s: dict[Path, float] = field(default_factory=dict)  # of readable recordings, within a budget
    failures: dict[Path, str] = field(default_factory=dict)
    passes: list[dict[str, Any]] = field(default_factory=list)  # for the manifest

    def score_within(self, ensemble: Ensemble, budget: Budget) -> list[str]:
        """Compute the views for which there is time; return sentences about what was left out."""
        infos = []
        for recording in self.recordings:
            try:
                infos.append(read_info(recording.path))
                self.durations_s[recording.path] = infos[-1].duration_s
            except (DataError, OSError) as error:
                self.failures[recording.path] = str(error)
        seconds = self._seconds(self.recordings)
        costs = measure_costs(ensemble, self.spec, infos, self.jobs)
        planner = RefinementPlanner(self.spec, costs)
        first = planner.first()
        # A resumed run has some views already.
        tried = {view: True for view in self.spec.views if self._is_complete(view)}
        rest = [view for view in self.spec.views if view not in tried]
        all_s = costs.estimate(rest, seconds)
        self.log(
            f"{budget.left():.0f} s are left for {seconds / 60:.0f} min of audio; all requested views would take about "
            f"{all_s:.0f} s, the cheapest pass {costs.estimate([first], seconds):.0f} s"
        )
        timed_pass = functools.partial(self._timed_pass, ensemble, budget, costs, tried)
        if rest and all_s < SURE * budget.left():
            timed_pass(rest, self.recordings, fallback=first)
        if not self.complete_members():
            missing = [recording for recording in self.recordings if not self.is_scored(recording, [first.member])]
            timed_pass([first], missing)
        while views := planner.next(tried, self.complete_members(), seconds, budget.left()):
            timed_pass(views, self.recordings)
        return planner.left_out(tried, self.complete_members())

    def complete_members(self) -> list[int]:
        """Return the members that scored every readable recording."""
        return [k for k in self.spec.members if all(self.is_scored(each, [k]) for each in self._readable())]

    def usable_members(self) -> list[int]:
        """Return the complete members, or else the one that scored most recordings."""
        if complete := self.complete_members():
            return complete
        n_scored = [sum(self.is_scored(each, [k]) for each in self._readable()) for k in self.spec.members]
        return [max(self.spec.members, key=n_scored.__getitem__)] if any(n_scored) else []

    def unfinished(self) -> list[Recording]:
        """Return the recordings that lack a requested view."""
        return [each for each in self.recordings if not self.spec.names <= set(self.store.views(each.key))]

    def is_scored(self, recording: Recording, members: Collection[int]) -> bool:
        """Return whether any of some members scored a recording, or whether it is one of score tables alone."""
        names = self.store.views(recording.key)
        return ROWS in names or any(self.spec.views_for(names, member) for member in members)

    def run(
        self,
        ensemble: Ensemble,
        views: Sequence[View],
        recordings: Sequence[Recording],
        stop: Callable[[], bool] = lambda: False,
        on_done: Callable[[Recording], None] | None = None,
    ) -> None:
        """Compute the views that some recordings lack; after an interruption, finish those that were begun."""
        groups: dict[tuple[View, ...], list[Recording]] = {}
        for recording in recordings:
            missing = tuple(view for view in views if view.name not in self.store.views(recording.key))
            if missing and recording.path not in self.failures:
                groups.setdefault(missing, []).append(recording)
        total, n_done = len(recordings), len(recordings) - sum(map(len, groups.values()))
        for missing, group in groups.items():
            pipeline = ScoringPipeline(ensemble, missing, self.jobs, self.write_frames is not None, stop)
            finished: list[RecordingOutcome] = []
            n_rows = 0
            try:
                for outcome in pipeline.score(itertools.takewhile(lambda _: not interrupt.asked(), group)):
                    n_done += 1
                    if outcome.scores is None:
                        self.failures[outcome.recording.path] = outcome.failure
                    else:
                        finished.append(outcome)
                        n_rows += outcome.scores.n_rows
                    if len(finished) >= self.shard or n_rows >= MAX_ROWS:
                        self._put(finished)
                        finished, n_rows = [], 0
                    if on_done is not None:
                        on_done(outcome.recording)
                    if self.progress is not None:
                        self.progress(n_done, total)
            finally:
                # Finished recordings are stored also if the run is interrupted.
                self._put(finished)

    def store_rows(self, scores: Mapping[str, StoredScores]) -> None:
        """Store the recordings of a run of tables alone, by key, as if they were scored."""
        new = [(each.key, scores[each.key]) for each in self.unfinished() if each.key in scores]
        for first in range(0, len(new), self.shard):
            self.store.put(new[first : first + self.shard])

    def _put(self, finished: Sequence[RecordingOutcome]) -> None:
        if not finished:
            return
        if self.write_frames is not None:
            self.write_frames([(each.recording, each.frames) for each in finished if each.frames is not None])
        self.store.put([(each.recording.key, each.scores) for each in finished if each.scores is not None])

    def _seconds(self, recordings: Iterable[Recording]) -> float:
        return sum(self.durations_s.get(recording.path, 0.0) for recording in recordings)

    def _readable(self) -> Iterable[Recording]:
        return (recording for recording in self.recordings if recording.path not in self.failures)

    def _is_complete(self, view: View) -> bool:
        return all(view.name in self.store.views(recording.key) for recording in self._readable())

    def _timed_pass(
        self,
        ensemble: Ensemble,
        budget: Budget,
        costs: CostModel,
        tried: dict[View, bool],
        views: Sequence[View],
        recordings: Sequence[Recording],
        fallback: View | None = None,
    ) -> None:
        """Run a pass and correct the costs; stop early if a pass of `fallback` over the rest would no longer fit.

        The shortest recordings are the first: a long one does not take the time of all others.
        """
        seconds = max(1e-9, self._seconds(recordings))
        estimated_s, started = costs.estimate(views, seconds), time.monotonic()
        names = [view.name for view in views]
        fallback_s = costs.estimate([fallback], seconds) if fallback is not None else 0.0
        recordings = sorted(recordings, key=lambda each: self.durations_s.get(each.path, 0.0))
        done = [each for each in recordings if {*names} <= set(self.store.views(each.key))]
        resumed, resumed_s = len(done), self._seconds(done)  # by an earlier run
        done_s = resumed_s

        def on_done(recording: Recording) -> None:
            nonlocal done_s
            done.append(recording)
            done_s += self._seconds([recording])

        def stop() -> bool:
            left_s, rest = budget.left(), 1 - done_s / seconds
            if fallback is None or len(done) == resumed:
                return left_s <= 0
            # The machine may have become slower: there must be time for the cheapest view of the rest.
            slower = max(1.0, (time.monotonic() - started) / max(1e-9, estimated_s * (done_s - resumed_s) / seconds))
            late = estimated_s * slower * rest > left_s and 1.5 * fallback_s * slower * rest > left_s
            return left_s <= 0 or late

        self.run(ensemble, views, recordings, stop, on_done)
        interrupt.check()
        measured_s = time.monotonic() - started
        costs.update(estimated_s * (done_s - resumed_s) / seconds, measured_s)
        tried.update({view: self._is_complete(view) for view in views})
        complete = all(tried[view] for view in views)
        times = {"estimated_s": round(estimated_s, 2), "measured_s": round(measured_s, 2)}
        self.passes.append({"views": names, **times, "n_recordings": len(done), "complete": complete})
        self.log(
            f"pass {len(self.passes)} ({', '.join(names)}): {len(done)} of {len(recordings)} recordings in "
            f"{measured_s:.1f} s, estimated {estimated_s:.1f} s for all; {max(0.0, budget.left()):.0f} s are left"
        )
