"""One recording -> the scores of its rows: the only code that cuts windows and pools them into rows.

Prediction, validation during training and pseudolabelling all come through here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch

from ..audio.decode import AudioInfo, AudioReader, read_there
from ..audio.spectrogram import LogMel
from ..audio.windows import WindowPlan, count_rows, plan_windows
from ..config.contract import Frontend
from ..errors import ConfigError
from ..models.backends import Array, OnResult
from ..models.ensemble import Ensemble
from ..models.network import pool

# Rows that are decoded and pictured together: four minutes of 5-s rows. A recording of any length passes in
# blocks of it, so memory does not follow its duration; windows that reach into two blocks are looked at in both.
BLOCK_ROWS = 48


@dataclass(frozen=True, kw_only=True)
class Windowing:
    """How recordings are cut into rows and looked at.

    Parameters
    ----------
    row_s : int
        Seconds per row.
    windows : {'centred', 'sliding'}
        See `bcsed.audio.windows.plan`.
    stride_s : float or None
        Stride of sliding windows.
    shifts_s : tuple of float
        Time shifts (s) of centred windows; every member scores once per shift, and the scores are averaged.
    """

    row_s: int = 5
    windows: str = "centred"
    stride_s: float | None = None
    shifts_s: tuple[float, ...] = (0.0,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shifts_s", tuple(dict.fromkeys(map(float, self.shifts_s))))
        if self.row_s < 1:
            raise ConfigError(f"a row must last at least 1 s, got {self.row_s}.")

    def plan(
        self, n_samples: int, frontend: Frontend, steps: int, block: tuple[int, int], shift_s: float = 0.0
    ) -> WindowPlan:
        """Plan a block of rows of a recording of `n_samples`."""
        return plan_windows(
            n_samples,
            frontend,
            steps,
            self.row_s,
            kind=self.windows,
            stride_s=self.stride_s,
            shift_s=shift_s,
            first_row=block[0],
            last_row=block[1],
        )


@dataclass(frozen=True, kw_only=True)
class View:
    """One member looking at recordings in one way.

    Parameters
    ----------
    place : int
        The member's place in its ensemble.
    cut : Windowing
    shift_s : float
        How much later its windows lie.
    """

    place: int
    windowing: Windowing
    shift_s: float = 0.0

    @property
    def name(self) -> str:
        """What its answers are called on disk, such as ``0-centred`` or ``1-centred+1.5``."""
        stride = "" if self.windowing.stride_s is None else f"-{self.windowing.stride_s:g}"
        return f"{self.place}-{self.windowing.windows}{stride}{f'{self.shift_s:+g}' if self.shift_s else ''}"


def make_views(ensemble: Ensemble, windowing: Windowing) -> tuple[View, ...]:
    """Return the views that score a recording: every member at every shift."""
    unshifted = replace(windowing, shifts_s=(0.0,))
    return tuple(
        View(place=place, windowing=unshifted, shift_s=shift_s)
        for place in range(len(ensemble.members))
        for shift_s in windowing.shifts_s
    )


def blocks(found: AudioInfo, rate: int, row_s: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open runs of rows in which a recording is scored."""
    total = count_rows(found.length(rate), rate, row_s)
    for first in range(0, total, BLOCK_ROWS):
        yield first, min(first + BLOCK_ROWS, total)


@dataclass(frozen=True)
class BlockSpectrograms:
    """What a block of a recording looks like: one dB picture per signal, and where it begins.

    Parameters
    ----------
    plans : tuple of Plan
        One per look.
    by_frontend : dict
        Signal -> (first frame, dB picture of shape (F, frames)).
    notes : tuple of str
        What was wrong with the recording although it could be read.
    silent : bool
        Whether the block holds nothing but digital silence.
    n_rows : int
        Rows of the block that begin before the recording really ends, which a file that was cut off does
        before its header says.
    """

    plans: tuple[WindowPlan, ...]
    by_frontend: dict[Frontend, tuple[int, Array]]
    notes: tuple[str, ...]
    silent: bool
    n_rows: int


def compute_spectrograms(
    found: AudioInfo,
    ensemble: Ensemble,
    views: Sequence[View],
    block: tuple[int, int],
    mels: dict[Frontend, LogMel],
    reader: AudioReader | None = None,
) -> BlockSpectrograms:
    """Decode a block and compute each signal's picture once, for all looks at it.

    Raises
    ------
    DataError
        If the recording cannot be decoded.
    """
    members = [ensemble.members[view.place] for view in views]
    frontends = [member.contract.frontend for member in members]
    plans = tuple(
        view.windowing.plan(found.length(frontend.sample_rate), frontend, member.steps, block, view.shift_s)
        for view, member, frontend in zip(views, members, frontends, strict=True)
    )
    spans = {
        frontend: _span(frontend, [p for p, s in zip(plans, frontends, strict=True) if s == frontend])
        for frontend in dict.fromkeys(frontends)
    }
    by_frontend: dict[Frontend, tuple[int, Array]] = {}
    waves: dict[int, tuple[int, Array]] = {}
    notes, silent, there = dict[str, None](), True, block[1] - block[0]
    for frontend, (first, last) in spans.items():
        rate = frontend.sample_rate
        if rate not in waves:
            # One decoding per sample rate serves every signal of that rate.
            reach = [mels[s].reach(*spans[s]) for s in spans if s.sample_rate == rate]
            begin, end = max(0, min(r[0] for r in reach)), max(r[1] for r in reach)
            wave, n_there, told = read_there(found, rate, begin, end, reader)
            waves[rate] = (begin, wave)
            silent &= not wave.any()
            notes.update(dict.fromkeys(told))
            if n_there < len(wave):
                there = min(there, max(0, count_rows(begin + n_there, rate, views[0].windowing.row_s) - block[0]))
        begin, wave = waves[rate]
        with torch.inference_mode():
            by_frontend[frontend] = first, mels[frontend].compute(wave, first, last, begin).numpy()
    return BlockSpectrograms(plans, by_frontend, tuple(notes), silent, there)


def _span(frontend: Frontend, plans: list[WindowPlan]) -> tuple[int, int]:
    """Return the half-open run of frames that some plans look at."""
    first = min(int(p.starts.min()) for p in plans)
    return first, max(int(p.starts.max()) for p in plans) + frontend.n_frames


@dataclass
class PendingBlock:
    """Gathers the answers to one block's windows, from whichever thread they come.

    Parameters
    ----------
    answers : list of (ndarray, ndarray)
        One pair of what and when per look, (W, t, K) each.
    left : int
        Windows not answered yet.
    last : dict
        Place of a member -> the number of the last window that it was given. Not the member itself: what it still
        knows of its last windows leads here, and through OpenVINO no circle is ever found to be one.
    """

    answers: list[tuple[Array, Array]]
    left: int
    last: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ready: threading.Event = field(default_factory=threading.Event)

    def slot(self, member: int, window: int) -> OnResult:
        """Return the function that takes one window's answer."""

        def done(logits: Array, attention: Array) -> None:
            whats, whens = self.answers[member]
            whats[window], whens[window] = logits, attention
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self.ready.set()

        return done

    @property
    def n_windows(self) -> int:
        """Windows of the block, of all looks."""
        return sum(len(logits) for logits, _ in self.answers)


def submit_block(pictures: BlockSpectrograms, ensemble: Ensemble, views: Sequence[View]) -> PendingBlock:
    """Hand every window of a block to every member that looks at it."""
    members = [ensemble.members[view.place] for view in views]
    shapes = [(len(p.starts), m.steps, len(m.contract.classes)) for p, m in zip(pictures.plans, members, strict=True)]
    collector = PendingBlock(
        [(np.empty(s, np.float32), np.empty(s, np.float32)) for s in shapes], sum(s[0] for s in shapes)
    )
    for place, (view, member, chosen) in enumerate(zip(views, members, pictures.plans, strict=True)):
        first, db = pictures.by_frontend[member.contract.frontend]
        for window, start in enumerate(chosen.starts - first):
            windowing = db[:, start : start + member.contract.frontend.n_frames]
            collector.last[view.place] = member.submit(windowing, collector.slot(place, window))
    return collector


def pool_block(
    collector: PendingBlock, pictures: BlockSpectrograms, ensemble: Ensemble, views: Sequence[View]
) -> tuple[Array, ...]:
    """Pool a finished block into rows: each look's probabilities, (rows of the block, K of its member)."""
    return tuple(
        pool_rows(logits, attention, chosen, ensemble.members[view.place].contract.net.pool)
        for (logits, attention), chosen, view in zip(collector.answers, pictures.plans, views, strict=True)
    )


def pool_rows(logits: Array, attention: Array, chosen: WindowPlan, kind: str) -> Array:
    """Turn the answers to a plan's windows into probabilities of its rows.

    Parameters
    ----------
    what, when : ndarray, shape (W, t, K)
    chosen : Plan
    kind : {'prob', 'logit'}

    Returns
    -------
    ndarray of float32, shape (R, K)
    """
    K = logits.shape[-1]
    cells = chosen.cell.reshape(-1)
    whats, whens = logits.reshape(-1, K), attention.reshape(-1, K)
    if chosen.n_cells < len(cells):
        whats = _average(whats, cells, chosen.n_cells, as_probability=kind == "prob")
        whens = _average(whens, cells, chosen.n_cells, as_probability=False)
    pooled = pool(
        torch.from_numpy(whats[chosen.index]),
        torch.from_numpy(whens[chosen.index]),
        kind,
        torch.from_numpy(chosen.weight),
    )
    return pooled.numpy()


def _average(values: Array, cells: npt.NDArray[np.int64], n_cells: int, *, as_probability: bool) -> Array:
    """Average the answers that several windows gave for one cell; of probabilities, return the logit."""
    wide = values.astype(np.float64)
    if as_probability:
        wide = 1.0 / (1.0 + np.exp(-wide))
    total = np.zeros((n_cells, values.shape[1]))
    np.add.at(total, cells, wide)
    # A cell that no window covers lies beyond the recording and is pooled by no row.
    mean = total / np.maximum(np.bincount(cells, minlength=n_cells), 1)[:, None]
    if as_probability:
        mean = np.clip(mean, 1e-12, 1.0 - 1e-12)
        mean = np.log(mean) - np.log1p(-mean)
    return mean.astype(np.float32)


def score_recording(
    found: AudioInfo, ensemble: Ensemble, rows: Windowing, mels: dict[Frontend, LogMel] | None = None
) -> tuple[Array, tuple[str, ...]]:
    """Score one recording in the calling thread: probabilities (R, K), and what was wrong with it."""
    mels = mels or {frontend: LogMel(frontend) for frontend in ensemble.frontends}
    views = make_views(ensemble, rows)
    scored, notes = [], dict[str, None]()
    for block in blocks(found, ensemble.frontends[0].sample_rate, rows.row_s):
        pictures = compute_spectrograms(found, ensemble, views, block, mels)
        collector = submit_block(pictures, ensemble, views)
        for member in ensemble.members:
            member.finish()
        answers = pool_block(collector, pictures, ensemble, views)
        scored.append(ensemble.combine([(view.place, a) for view, a in zip(views, answers, strict=True)]))
        scored[-1] = scored[-1][: pictures.n_rows]
        notes.update(dict.fromkeys(pictures.notes))
        if pictures.n_rows < block[1] - block[0]:
            break
    return np.concatenate(scored), tuple(notes)
