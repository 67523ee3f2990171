"""One recording -> the scores of its rows: the only code that cuts windows and pools them into rows.

Prediction, validation during training and pseudolabelling all come through here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from .. import audio
from ..config import Signal
from ..ensemble import Array, Done, Ensemble, Listener
from ..model import pool
from ..spectrogram import LogMel
from ..windows import Plan, n_rows, plan

# Rows that are decoded and pictured together: ten minutes of 5-s rows. A recording of any length passes in
# blocks of it, so memory does not follow its duration.
BLOCK_ROWS = 120


@dataclass(frozen=True, kw_only=True)
class Rows:
    """How recordings are cut into rows and looked at.

    Parameters
    ----------
    row_s : int
        Seconds per row.
    windows : {'centred', 'sliding'}
        See `bcsed.windows.plan`.
    stride_s : float or None
        Stride of sliding windows.
    """

    row_s: int = 5
    windows: str = "centred"
    stride_s: float | None = None

    def plan(self, n_samples: int, signal: Signal, steps: int, block: tuple[int, int]) -> Plan:
        """Plan a block of rows of a recording of `n_samples`."""
        return plan(
            n_samples,
            signal,
            steps,
            self.row_s,
            kind=self.windows,
            stride_s=self.stride_s,
            first_row=block[0],
            last_row=block[1],
        )


def blocks(found: audio.Info, ensemble: Ensemble, rows: Rows) -> Iterator[tuple[int, int]]:
    """Yield the half-open runs of rows in which a recording is scored."""
    rate = ensemble.signals[0].sample_rate
    total = n_rows(found.length(rate), rate, rows.row_s)
    for first in range(0, total, BLOCK_ROWS):
        yield first, min(first + BLOCK_ROWS, total)


@dataclass(frozen=True)
class Pictures:
    """What a block of a recording looks like: one dB picture per signal, and where it begins.

    Parameters
    ----------
    plans : tuple of Plan
        One per member.
    views : dict
        Signal -> (first frame, dB picture of shape (F, frames)).
    notes : tuple of str
        What was wrong with the recording although it could be read.
    silent : bool
        Whether the block holds nothing but digital silence.
    """

    plans: tuple[Plan, ...]
    views: dict[Signal, tuple[int, Array]]
    notes: tuple[str, ...]
    silent: bool


def picture_block(
    found: audio.Info, ensemble: Ensemble, rows: Rows, block: tuple[int, int], mels: dict[Signal, LogMel]
) -> Pictures:
    """Decode a block and compute each signal's picture once, for all members that hear it.

    Raises
    ------
    DataError
        If the recording cannot be decoded.
    """
    plans = tuple(
        rows.plan(found.length(m.contract.signal.sample_rate), m.contract.signal, m.steps, block)
        for m in ensemble.members
    )
    views: dict[Signal, tuple[int, Array]] = {}
    waves: dict[int, tuple[int, int, Array]] = {}
    notes: tuple[str, ...] = ()
    spans = {
        signal: _span(signal, [p for p, m in zip(plans, ensemble.members, strict=True) if m.contract.signal == signal])
        for signal in ensemble.signals
    }
    silent = True
    for signal, (first, last) in spans.items():
        rate = signal.sample_rate
        if rate not in waves:
            # One decoding per sample rate serves every signal of that rate.
            reach = [mels[s].reach(*spans[s]) for s in spans if s.sample_rate == rate]
            begin, end = max(0, min(r[0] for r in reach)), max(r[1] for r in reach)
            wave, notes = audio.read(found, rate, begin, end)
            waves[rate] = (begin, end, wave)
            silent &= not wave.any()
        begin, _, wave = waves[rate]
        with torch.inference_mode():
            views[signal] = first, mels[signal].picture(wave, first, last, begin).numpy()
    return Pictures(plans, views, notes, silent)


def _span(signal: Signal, plans: list[Plan]) -> tuple[int, int]:
    """Return the half-open run of frames that some plans look at."""
    first = min(int(p.starts.min()) for p in plans)
    return first, max(int(p.starts.max()) for p in plans) + signal.n_frames


@dataclass
class Collector:
    """Gathers the answers to one block's windows, from whichever thread they come."""

    answers: list[tuple[Array, Array]]
    left: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    ready: threading.Event = field(default_factory=threading.Event)

    def slot(self, member: int, window: int) -> Done:
        """Return the function that takes one window's answer."""

        def done(what: Array, when: Array) -> None:
            whats, whens = self.answers[member]
            whats[window], whens[window] = what, when
            with self.lock:
                self.left -= 1
                if self.left == 0:
                    self.ready.set()

        return done


def submit_block(pictures: Pictures, ensemble: Ensemble) -> Collector:
    """Hand every window of a block to every member."""
    K = len(ensemble.classes)
    shapes = [(len(p.starts), m.steps, K) for p, m in zip(pictures.plans, ensemble.members, strict=True)]
    collector = Collector(
        [(np.empty(s, np.float32), np.empty(s, np.float32)) for s in shapes], sum(s[0] for s in shapes)
    )
    for place, (member, chosen) in enumerate(zip(ensemble.members, pictures.plans, strict=True)):
        first, db = pictures.views[member.contract.signal]
        for window, start in enumerate(chosen.starts - first):
            cut = np.ascontiguousarray(db[:, start : start + member.contract.signal.n_frames])
            member.submit(cut, collector.slot(place, window))
    return collector


def pool_block(collector: Collector, pictures: Pictures, ensemble: Ensemble) -> Array:
    """Pool a finished block into rows: the weighted mean of the members' probabilities, (R, K)."""
    return ensemble.mean(
        [
            pool_rows(what, when, chosen, member.contract.net.pool)
            for (what, when), chosen, member in zip(collector.answers, pictures.plans, ensemble.members, strict=True)
        ]
    )


def pool_rows(what: Array, when: Array, chosen: Plan, kind: str) -> Array:
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
    K = what.shape[-1]
    cells = chosen.cell.reshape(-1)
    whats, whens = what.reshape(-1, K), when.reshape(-1, K)
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
    found: audio.Info, ensemble: Ensemble, rows: Rows, mels: dict[Signal, LogMel] | None = None
) -> tuple[Array, tuple[str, ...]]:
    """Score one recording in the calling thread: probabilities (R, K), and what was wrong with it."""
    mels = mels or {signal: LogMel(signal) for signal in ensemble.signals}
    scored, notes = [], dict[str, None]()
    for block in blocks(found, ensemble, rows):
        pictures = picture_block(found, ensemble, rows, block, mels)
        collector = submit_block(pictures, ensemble)
        for member in ensemble.members:
            member.finish()
        scored.append(pool_block(collector, pictures, ensemble))
        notes.update(dict.fromkeys(pictures.notes))
    return np.concatenate(scored), tuple(notes)


__all__ = [
    "BLOCK_ROWS",
    "Collector",
    "Listener",
    "Pictures",
    "Rows",
    "blocks",
    "picture_block",
    "pool_block",
    "pool_rows",
    "score_recording",
    "submit_block",
]
