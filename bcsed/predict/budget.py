"""Time: what may be spent, what looks cost, and which are worth their cost.

The first pass over all recordings is the cheapest that answers every row: one member, in windows that do not
overlap. What time is left then goes, most value per second first, to more members, to the windows that were
asked for, and to shifted ones. A member counts when it has answered *every* recording, so that all rows are
answered by the same networks and stay comparable; a recording's answer by a member is the mean of the looks that
were asked for and had, or else that of the first, cheap one.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..audio.decode import AudioInfo
from ..audio.spectrogram import LogMel
from ..errors import ConfigError
from ..models.backends import Array, Backend
from ..models.ensemble import Ensemble
from .blocks import View, Windowing, blocks, compute_spectrograms

# What a look is worth, in macro ROC-AUC: the post-mortem's ensemble of three gained .025 over its best member,
# and the least gain is that of shifted windows. Only the order that follows from these figures matters.
GAIN_MEMBER, GAIN_CUT, GAIN_SHIFT = 0.02, 0.005, 0.002
# Shares of the time left that a plan may fill: all at once from the start, and a pass that counts only if it ends.
SURE, LIKELY = 0.5, 0.8
_BORN = time.monotonic()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a run may take.

    Parameters
    ----------
    minutes : float
        From the start of this process, importing included.
    elapsed_s : float
        Seconds that went before, such as an installation.
    clock_start_s : float
        The age of this process from which time counts, where it is older than the run: `process_age_s`.
    reserve_s : float or None
        Seconds kept for writing; a twentieth of the budget by default, at least 2 and at most 120.
    end_process : bool
        Whether, if the run hangs beyond its time, the table is written and the process ended with status 3.
    """

    minutes: float
    elapsed_s: float = 0.0
    clock_start_s: float = 0.0
    reserve_s: float | None = None
    end_process: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise ConfigError(f"a budget must be a positive number of minutes, got {self.minutes:g}.")
        if not self.elapsed_s >= 0:
            raise ConfigError(f"time already spent must be at least 0 s, got {self.elapsed_s:g}.")
        if self.reserve_s is not None and not 0 <= self.reserve_s < 60 * self.minutes:
            raise ConfigError(f"the reserve must be at least 0 s and below the budget, got {self.reserve_s:g} s.")

    @property
    def reserve(self) -> float:
        """Seconds kept for writing."""
        if self.reserve_s is not None:
            return self.reserve_s
        return min(120.0, max(2.0, 3.0 * self.minutes))

    def left(self) -> float:
        """Return the seconds in which recordings may still be scored."""
        return 60 * self.minutes - self.elapsed_s - self.reserve - (process_age_s() - self.clock_start_s)


def process_age_s() -> float:
    """Return the seconds since this process began."""
    try:
        # The 22nd field is the start in clock ticks since the machine booted; the 2nd may hold blanks.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _BORN


@dataclass
class CostModel:
    """Seconds that work takes, all cores at it.

    Parameters
    ----------
    window_s : sequence of float
        Of one window, for each member.
    picture_s : float
        Of decoding and picturing a second of audio.
    factor : float
        What passes took over what was foretold.
    """

    window_s: Sequence[float]
    picture_s: float
    factor: float = 1.0

    def of(self, views: Sequence[View], ensemble: Ensemble, seconds: float) -> float:
        """Foretell a pass of some looks over so many seconds of audio."""
        network = sum(self.window_s[view.place] * windows_per_s(view, ensemble) for view in views)
        return seconds * self.factor * (network + self.picture_s)

    def learn(self, told_s: float, took_s: float) -> None:
        """Correct what is foretold by what a pass, or a part of one, took."""
        if told_s > 0 and took_s > 0:
            self.factor *= took_s / told_s


def windows_per_s(view: View, ensemble: Ensemble) -> float:
    """Return the windows that a look takes per second of audio."""
    if view.windowing.windows == "centred":
        return 1 / view.windowing.row_s
    window_s = ensemble.members[view.place].contract.frontend.window_s
    return 1 / (view.windowing.stride_s or window_s / 2)


def measure(ensemble: Ensemble, found: AudioInfo | None, row_s: int, jobs: int) -> CostModel:
    """Time the members on silence, and decoding on a recording's first block."""
    window_s = {member: _time(member) for member in dict.fromkeys(ensemble.members)}
    picture_s = 0.0
    if found is not None:
        rate = ensemble.frontends[0].sample_rate
        views = [View(place=place, windowing=Windowing(row_s=row_s)) for place in range(len(ensemble.members))]
        block = next(blocks(found, rate, row_s))
        mels = {frontend: LogMel(frontend) for frontend in ensemble.frontends}
        began = time.perf_counter()
        compute_spectrograms(found, ensemble, views, block, mels)
        took = time.perf_counter() - began
        picture_s = took / ((block[1] - block[0]) * row_s) / max(1, min(jobs, os.cpu_count() or 1))
    return CostModel([window_s[member] for member in ensemble.members], picture_s)


def _time(member: Backend, n: int = 4) -> float:
    """Return the seconds that one of a member's windows takes among others."""
    frontend = member.contract.frontend
    window = np.full((frontend.n_mels, frontend.n_frames), -80.0, np.float32)
    took = 0.0
    # The first call also takes what first calls take.
    for times in (2, n):
        began = time.perf_counter()
        for _ in range(times):
            member.submit(window, _unheard)
        member.finish()
        took = (time.perf_counter() - began) / times
    return took


def _unheard(logits: Array, attention: Array) -> None:
    """Take an answer that only its time is wanted of."""


def cheapest_view(place: int, ensemble: Ensemble, row_s: int) -> View:
    """Return a member's cheapest look that answers every row: windows that do not overlap."""
    window_s = ensemble.members[place].contract.frontend.window_s
    return View(place=place, windowing=Windowing(row_s=row_s, windows="sliding", stride_s=window_s))


@dataclass
class RefinementPlanner:
    """Which looks are had, in which order.

    Parameters
    ----------
    ensemble : Ensemble
    wanted : sequence of View
        What was asked for: every member, at every shift.
    """

    ensemble: Ensemble
    wanted: Sequence[View]

    def first(self, costs: CostModel) -> View:
        """Return the cheapest look that answers every row, by a member that answers every class if there is one."""
        row_s, n_members = self.wanted[0].windowing.row_s, len(self.ensemble.members)
        tried = [cheapest_view(place, self.ensemble, row_s) for place in range(n_members)] + list(self.wanted)
        full = [view for view in tried if len(self.ensemble.columns[view.place]) == len(self.ensemble.classes)]
        return min(full or tried, key=lambda view: costs.of([view], self.ensemble, 1.0))

    def next(
        self, had: Mapping[View, bool], heard: Collection[int], costs: CostModel, seconds: float, left_s: float
    ) -> list[View]:
        """Return the looks of the next pass, most value per second first; none if nothing more fits.

        Parameters
        ----------
        had : mapping of View to bool
            Looks that were tried: whether every recording had it.
        heard : collection of int
            Members that have answered every recording.
        costs : Costs
        seconds : float
            Of audio.
        left_s : float
            Of the budget.
        """
        rest = [view for view in self.wanted if view not in had]
        if rest and costs.of(rest, self.ensemble, seconds) < LIKELY * left_s:
            return rest
        row_s = self.wanted[0].windowing.row_s
        new = [
            cheapest_view(place, self.ensemble, row_s)
            for place in range(len(self.ensemble.members))
            if place not in heard
        ]
        tried = [view for view in dict.fromkeys((*rest, *new)) if view not in had]
        cost = {view: costs.of([view], self.ensemble, seconds) for view in tried}
        for view in sorted(tried, key=lambda view: -self._gain(view, heard) / cost[view]):
            # A closer look by a member that counts is of use wherever it was had, so it need not end.
            if view.place in heard or cost[view] < LIKELY * left_s:
                return [view] if left_s > 0 else []
        return []

    def _gain(self, view: View, heard: Collection[int]) -> float:
        weight = self.ensemble.weights[view.place] / statistics.fmean(self.ensemble.weights)
        if view.place not in heard:
            gain = GAIN_MEMBER * weight / max(1, len(heard))
            return gain if view in self.wanted else gain - GAIN_CUT / 2
        return (GAIN_SHIFT if view.shift_s else GAIN_CUT) * weight

    def left_out(self, had: Mapping[View, bool], heard: Collection[int]) -> list[str]:
        """Say what the table lacks of what was asked for."""
        told = []
        for place in range(len(self.ensemble.members)):
            lacking = [view.name for view in self.wanted if view.place == place and not had.get(view)]
            if place not in heard:
                told.append(f"member {place + 1} was left out: there was no time for it on every recording")
            elif lacking:
                told.append(f"member {place + 1} looked less closely than asked: {', '.join(lacking)} not everywhere")
        answered = {int(k) for place in heard for k in self.ensemble.columns[place]}
        n_silent = len(self.ensemble.classes) - len(answered)
        if heard and n_silent:
            told.append(f"{n_silent} classes are answered by none of the members that count; their columns hold priors")
        return told
