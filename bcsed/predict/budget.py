"""Time budgets: the time left, the cost of views, and the order in which views are worth their cost.

The first pass over all recordings is the cheapest that scores every row: one member, in windows that do not overlap.
The remaining time goes, most value per second first, to more members, to the requested windows, and to shifted ones.
A model is used only if it scored every recording, so that all rows use the same models; a member's scores of a
recording are the mean of the requested views that were computed, or else those of its cheapest view.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.headers import AudioInfo
from ..audio.windows import windows_per_row
from ..errors import ConfigError, DataError
from ..models.backends import Backend
from ..models.ensemble import Ensemble
from .blocks import compute_spectrograms, make_mels, row_blocks
from .spec import RunSpec, View, Windowing

# Gain of a view in macro ROC-AUC: the post-mortem's ensemble of three gained .025 over its best member, and shifted
# windows gain least. Only the order that follows from these figures matters.
GAIN_MEMBER, GAIN_WINDOWING, GAIN_SHIFT = 0.02, 0.005, 0.002
# Shares of the time left that may be planned: for all views at once, and for a pass that counts only if it completes.
SURE, LIKELY = 0.5, 0.8
# Exit statuses of a run in which some recordings, or all, have failed.
SOME_FAILED, ALL_FAILED = 3, 4
_IMPORTED_AT = time.monotonic()

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a run may take; a ConfigError if a value is out of range."""

    minutes: float  # from the start of this process, importing included
    elapsed_s: float = 0.0  # used before the process started, such as for an installation
    clock_start_s: float = 0.0  # age of the process (see `process_age_s`) from which time counts
    reserve_s: float | None = None  # for writing; a twentieth of the budget by default, at least 2 and at most 120
    end_process: bool = False  # a run that hangs beyond its time writes the table and ends the process with status 3

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise ConfigError(f"a budget must be a positive number of minutes, got {self.minutes:g}.")
        if not self.elapsed_s >= 0:
            raise ConfigError(f"the elapsed time must be at least 0 s, got {self.elapsed_s:g}.")
        if self.reserve_s is not None and not 0 <= self.reserve_s < 60 * self.minutes:
            raise ConfigError(f"the reserve must be at least 0 s and below the budget, got {self.reserve_s:g} s.")

    @property
    def reserve(self) -> float:
        """Seconds reserved for writing."""
        return min(120.0, max(2.0, 3.0 * self.minutes)) if self.reserve_s is None else self.reserve_s

    def left(self) -> float:
        """Return the seconds in which recordings may still be scored."""
        return 60 * self.minutes - self.elapsed_s - self.reserve - (process_age_s() - self.clock_start_s)


def process_age_s() -> float:
    """Return the seconds since this process started."""
    try:
        # The 22nd field is the start in clock ticks since boot; the 2nd may contain blanks.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED_AT


@contextmanager
def watchdog(budget: Budget, write: Callable[[], bool]) -> Iterator[None]:
    """Write from another thread, and end the process, when the time is exceeded by half of the reserve.

    This happens where the run itself cannot check the clock: a read from a drive that does not respond, or a window
    that was lost. `write` returns whether any recording was scored.
    """
    timer = threading.Timer(max(0.0, budget.left()) + budget.reserve / 2, _end_process, (write,))
    timer.daemon = True
    if budget.end_process:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if budget.end_process:
            timer.join()  # if it fires already, it ends the process: both must not write


def _end_process(write: Callable[[], bool]) -> None:
    try:
        status = SOME_FAILED if write() else ALL_FAILED
        written = "the scores available by then are written" if status == SOME_FAILED else "no recording was scored"
        print(f"bcsed: the run hung beyond its budget; {written}.", file=sys.stderr)
    except Exception:
        _log.exception("the run hung beyond its budget, and its scores could not be written")
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # The hanging thread cannot be ended otherwise.
    os._exit(status)


@dataclass
class CostModel:
    """Estimates the seconds that views take, on all cores."""

    spec: RunSpec
    window_s: Sequence[float]  # of one window, per member
    audio_s: float  # of decoding and the spectrograms of one second of audio
    factor: float = 1.0  # measured over estimated time of the passes so far

    def estimate(self, views: Sequence[View], seconds: float) -> float:
        """Estimate a pass of some views over so many seconds of audio."""
        network = sum(self.window_s[view.member] * self._windows_per_s(view) for view in views)
        return seconds * self.factor * (network + self.audio_s)

    def update(self, estimated_s: float, measured_s: float) -> None:
        """Correct the estimates by the time of a pass, or of a part of one."""
        if estimated_s > 0 and measured_s > 0:
            self.factor *= measured_s / estimated_s

    def _windows_per_s(self, view: View) -> float:
        frontend, row_s = self.spec.averaging.contracts[view.member].frontend, view.windowing.row_s
        if view.windowing.windows == "centred":
            return windows_per_row(frontend, row_s) / row_s
        return 1 / (view.windowing.stride_s or frontend.window_s / 2)


def measure_costs(ensemble: Ensemble, spec: RunSpec, infos: Iterable[AudioInfo], jobs: int) -> CostModel:
    """Time the members on silence, and decoding on the first block of the first recording that can be decoded."""
    window_s = {member: _time_window(member) for member in dict.fromkeys(ensemble.members)}
    audio_s = 0.0
    views = [View(member=member, windowing=Windowing(row_s=spec.row_s)) for member in spec.members]
    mels = make_mels(ensemble.averaging.frontends)
    for info in infos:
        block = next(row_blocks(info, ensemble.averaging.frontends[0].sample_rate, spec.row_s))
        started = time.perf_counter()
        try:
            compute_spectrograms(info, ensemble, views, block, mels)
        except (DataError, OSError):
            continue  # the pass over all recordings reports it
        measured_s = time.perf_counter() - started
        audio_s = measured_s / ((block[1] - block[0]) * spec.row_s) / max(1, min(jobs, os.cpu_count() or 1))
        break
    return CostModel(spec, [window_s[member] for member in ensemble.members], audio_s)


def _time_window(member: Backend, n: int = 4) -> float:
    """Return the seconds of one of a member's windows in a sequence of windows."""
    frontend = member.contract.frontend
    window = np.full((frontend.n_mels, frontend.n_frames), -80.0, np.float32)
    measured_s = 0.0
    # The first round warms up.
    for times in (2, n):
        started = time.perf_counter()
        for _ in range(times):
            member.submit(window, lambda *_: None)
        member.finish()
        measured_s = (time.perf_counter() - started) / times
    return measured_s


@dataclass
class RefinementPlanner:
    """Chooses which views are computed, and in which order."""

    spec: RunSpec
    costs: CostModel

    def first(self) -> View:
        """Return the cheapest view that scores every row, of a member that has every class if there is one."""
        views, averaging = [*self.spec.cheapest, *self.spec.views], self.spec.averaging
        full = [view for view in views if len(averaging.columns[view.member]) == len(averaging.classes)]
        return min(full or views, key=lambda view: self.costs.estimate([view], 1.0))

    def next(self, tried: Mapping[View, bool], complete: Collection[int], seconds: float, left_s: float) -> list[View]:
        """Return the views of the next pass, most value per second first; empty if nothing more fits.

        `tried`: view -> whether it was computed for every recording; `complete`: members that scored every recording;
        `seconds` of audio, `left_s` of the budget.
        """
        rest = [view for view in self.spec.views if view not in tried]
        if rest and self.costs.estimate(rest, seconds) < LIKELY * left_s:
            return rest
        new = [view for view in self.spec.cheapest if view.member not in complete and view not in tried]
        cost = {view: self.costs.estimate([view], seconds) for view in (*rest, *new)}
        for view in sorted(cost, key=lambda view: -self._gain(view, complete) / cost[view]):
            # Another view of a complete member is useful wherever it was computed, so its pass need not complete.
            if view.member in complete or cost[view] < LIKELY * left_s:
                return [view] if left_s > 0 else []
        return []

    def _gain(self, view: View, complete: Collection[int]) -> float:
        weights = self.spec.averaging.weight_of.mean(axis=1)
        weight = float(weights[view.member] / weights.mean())
        if view.member not in complete:
            gain = GAIN_MEMBER * weight / max(1, len(complete))
            return gain if view in self.spec.views else gain - GAIN_WINDOWING / 2
        return (GAIN_SHIFT if view.shift_s else GAIN_WINDOWING) * weight

    def left_out(self, tried: Mapping[View, bool], complete: Collection[int]) -> list[str]:
        """Return sentences about what was requested and is missing in the table."""
        sentences = []
        for member in self.spec.members:
            missing = [view.name for view in self.spec.views if view.member == member and not tried.get(view)]
            if member not in complete:
                sentences.append(f"member {member + 1} was left out: the time did not suffice for every recording")
            elif missing:
                sentences.append(f"member {member + 1} lacks requested views in some recordings: {', '.join(missing)}")
        averaging, used = self.spec.averaging, (*complete, *self.spec.tables)
        n_missing = len(averaging.classes) - len({int(k) for member in used for k in averaging.columns[member]})
        if complete and n_missing:
            sentences.append(f"{n_missing} classes belong to no member that was used; their columns contain priors")
        return sentences
