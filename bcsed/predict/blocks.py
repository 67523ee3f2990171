"""Score one recording in blocks of rows; the only code that cuts windows and pools them into rows and frames.

Prediction, validation during training and pseudolabelling all use it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio.decode import AudioReader, read_there
from ..audio.headers import AudioInfo
from ..audio.windows import WaveFrames, WindowPlan, count_rows
from ..config.contract import Frontend
from ..errors import ConfigError
from ..models.backends import Array, Backend, OnResult
from ..models.ensemble import Ensemble
from .spec import View, Windowing, make_views

if TYPE_CHECKING:
    from ..audio.spectrogram import LogMel

    Mels = Mapping[Frontend, LogMel | WaveFrames]

# Rows that are decoded together: four minutes of 5-s rows. Blocks bound the memory of long recordings; windows that
# reach into two blocks are computed in both.
BLOCK_ROWS = 48


def row_blocks(info: AudioInfo, rate: int, row_s: int) -> Iterator[tuple[int, int]]:
    """Yield the half-open ranges of rows in which a recording is scored."""
    total = count_rows(info.length(rate), rate, row_s)
    for first in range(0, total, BLOCK_ROWS):
        yield first, min(first + BLOCK_ROWS, total)


@dataclass(frozen=True)
class BlockSpectrograms:
    """The spectrograms of a block, one per front end, shared by its views."""

    plans: tuple[WindowPlan, ...]  # one per view
    by_frontend: dict[Frontend, tuple[int, Array]]  # first frame, and dB spectrogram (F, frames)
    notes: tuple[str, ...]  # defects of the recording that could be read nevertheless
    silent: bool  # nothing but digital silence
    n_rows: int  # rows that begin before the real end, which in a truncated file precedes the header's


def make_mels(frontends: Iterable[Frontend]) -> Mels:
    """Return what computes the spectrogram, or the frames of samples, of each front end."""
    # Here and below, torch is imported where it computes: neither scores that are read nor embeddings of waves need it,
    # and its import takes 3 s and several hundred MB.
    mels: dict[Frontend, LogMel | WaveFrames] = {}
    for frontend in frontends:
        if frontend.is_wave:
            mels[frontend] = WaveFrames(frontend)
        else:
            from ..audio.spectrogram import LogMel

            mels[frontend] = LogMel(frontend)
    return mels


def compute_spectrograms(
    info: AudioInfo,
    ensemble: Ensemble,
    views: Sequence[View],
    block: tuple[int, int],
    mels: Mels,
    reader: AudioReader | None = None,
) -> BlockSpectrograms:
    """Decode a block and compute each front end's spectrogram once; DataError if the recording cannot be decoded."""
    members = [ensemble.members[view.member] for view in views]
    frontends = [member.contract.frontend for member in members]
    plans = tuple(
        view.windowing.plan(info.length(frontend.sample_rate), frontend, member.steps, block, view.shift_s)
        for view, member, frontend in zip(views, members, frontends, strict=True)
    )
    spans: dict[Frontend, tuple[int, int]] = {}  # half-open ranges of the frames that the plans use
    for frontend in dict.fromkeys(frontends):
        starts = np.concatenate([p.starts for p, s in zip(plans, frontends, strict=True) if s == frontend])
        spans[frontend] = int(starts.min()), int(starts.max()) + frontend.n_frames
    by_frontend: dict[Frontend, tuple[int, Array]] = {}
    waves: dict[int, tuple[int, Array]] = {}
    notes, silent, n_rows = dict[str, None](), True, block[1] - block[0]
    for frontend, (first, last) in spans.items():
        rate = frontend.sample_rate
        if rate not in waves:
            # One decoding per sample rate serves every front end of that rate.
            reach = [s.reach(*spans[s]) for s in spans if s.sample_rate == rate]
            begin, end = max(0, min(r[0] for r in reach)), max(r[1] for r in reach)
            wave, n_samples, read_notes = read_there(info, rate, begin, end, reader)
            waves[rate] = (begin, wave)
            silent &= not wave.any()
            notes.update(dict.fromkeys(read_notes))
            if n_samples < len(wave):
                end_row = count_rows(begin + n_samples, rate, views[0].windowing.row_s)
                n_rows = min(n_rows, max(0, end_row - block[0]))
        begin, wave = waves[rate]
        by_frontend[frontend] = first, mels[frontend].compute(wave, first, last, begin)
    return BlockSpectrograms(plans, by_frontend, tuple(notes), silent, n_rows)


@dataclass
class PendingBlock:
    """Collects the outputs of one block's windows, from any thread."""

    spectrograms: BlockSpectrograms
    outputs: list[tuple[Array, Array]]  # logits and attention per view, (W, t, K) each
    n_pending: int
    # Member -> number of its last window. Stores the index, not the member: OpenVINO hides the reference cycle from
    # the garbage collector, so the model would never be freed.
    last_window_of: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ready: threading.Event = field(default_factory=threading.Event)

    def callback_for(self, view: int, window: int) -> OnResult:
        """Return the function that stores one window's outputs."""

        def on_result(logits: Array, attention: Array) -> None:
            all_logits, all_attention = self.outputs[view]
            all_logits[window], all_attention[window] = logits, attention
            with self.lock:
                self.n_pending -= 1
                if self.n_pending == 0:
                    self.ready.set()

        return on_result


def submit_block(spectrograms: BlockSpectrograms, ensemble: Ensemble, views: Sequence[View]) -> PendingBlock:
    """Submit every window of a block, for all views."""
    members, plans = [ensemble.members[view.member] for view in views], spectrograms.plans
    shapes = [(len(p.starts), m.steps, len(m.contract.classes)) for p, m in zip(plans, members, strict=True)]
    outputs = [(np.empty(shape, np.float32), np.empty(shape, np.float32)) for shape in shapes]
    pending = PendingBlock(spectrograms, outputs, sum(shape[0] for shape in shapes))
    for index, (view, member, plan) in enumerate(zip(views, members, plans, strict=True)):
        first, db = spectrograms.by_frontend[member.contract.frontend]
        for window, start in enumerate(plan.starts - first):
            values = db[:, start : start + member.contract.frontend.n_frames]
            pending.last_window_of[view.member] = member.submit(values, pending.callback_for(index, window))
    return pending


def pool_block(pending: PendingBlock, ensemble: Ensemble, views: Sequence[View]) -> tuple[Array, ...]:
    """Pool a finished block into rows: each view's probabilities, (rows of the block, K of its member)."""
    return tuple(
        pool_rows(logits, attention, plan, view.pool(ensemble.members[view.member].contract.net.pool))
        for (logits, attention), plan, view in zip(pending.outputs, pending.spectrograms.plans, views, strict=True)
    )


def pool_rows(logits: Array, attention: Array, plan: WindowPlan, kind: str) -> Array:
    """Pool the outputs of a plan's windows, (W, t, K) each, into probabilities of its rows, (R, K) float32.

    `kind` is that of `bcsed.models.network.pool`, or 'mean': the embeddings are averaged by attention and overlap.
    """
    K = logits.shape[-1]
    logits, attention = logits.reshape(-1, K), attention.reshape(-1, K)
    if plan.n_cells < plan.cell.size:
        if kind not in ("logit", "mean"):
            mean = np.clip(_average(_sigmoid(logits), plan), 1e-12, 1.0 - 1e-12)
            logits = (np.log(mean) - np.log1p(-mean)).astype(np.float32)
        else:
            logits = _average(logits, plan).astype(np.float32)
        attention = _average(attention, plan).astype(np.float32)
    if kind == "mean":
        share = np.exp(attention[plan.index]) * plan.weight[..., None].astype(np.float32)
        vectors: Array = (share / share.sum(1, keepdims=True) * logits[plan.index]).sum(1)
        return vectors
    import torch

    from ..models.network import pool

    by_row = torch.from_numpy(logits[plan.index]), torch.from_numpy(attention[plan.index])
    return pool(*by_row, kind, torch.from_numpy(plan.weight)).numpy()


def _average(values: Array, plan: WindowPlan) -> Any:
    """Average the values of overlapping windows, (W * t, K), in each cell; float64."""
    cells, total = plan.cell.reshape(-1), np.zeros((plan.n_cells, values.shape[1]))
    np.add.at(total, cells, values.astype(np.float64))
    # A cell without a window lies beyond the recording and belongs to no row.
    return total / np.maximum(np.bincount(cells, minlength=plan.n_cells), 1)[:, None]


def _sigmoid(logits: Array) -> Any:
    return 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))


@dataclass(frozen=True)
class Frames:
    """Class probabilities in time steps of the network, before they are pooled into rows."""

    first: int  # step
    step_s: Fraction  # seconds per step
    values: Array  # (steps, K)


def check_frames(ensemble: Ensemble, windowing: Windowing) -> None:
    """Raise ConfigError unless windows slide, all members have steps of one length, and the mean is not of ranks."""
    if ensemble.tables:
        raise ConfigError(f"{ensemble.tables[0].path} has rows and no time steps; leave it out, or the frames.")
    if windowing.windows != "sliding":
        raise ConfigError("frames have a common time axis only with sliding windows; use those.")
    lengths = sorted({_step_s(member) for member in ensemble.members})
    if len(lengths) > 1:
        text = " and ".join(f"{float(length):g}" for length in lengths)
        raise ConfigError(f"the members have steps of {text} s; frames need steps of one length.")
    strides_s = [m.contract.frontend.window_s for m in ensemble.members if m.steps == 1] if windowing.stride_s else []
    if any(windowing.stride_s != window_s for window_s in strides_s):
        raise ConfigError(f"frames of a network with one time step need its window as stride, {strides_s[0]:g} s.")
    if ensemble.mean == "rank":
        raise ConfigError("frames are probabilities; a mean of ranks has none.")


def _step_s(member: Backend) -> Fraction:
    frontend: Frontend = member.contract.frontend
    return Fraction(frontend.n_frames // member.steps * frontend.hop_length, frontend.sample_rate)


def frame_block(
    pending: PendingBlock, ensemble: Ensemble, views: Sequence[View], info: AudioInfo, block: tuple[int, int]
) -> Frames:
    """Return the frames that begin in a block's rows, averaged over windows and members."""
    scores, first, length = [], 0, _step_s(ensemble.members[views[0].member])
    for (logits, _), plan, view in zip(pending.outputs, pending.spectrograms.plans, views, strict=True):
        member = ensemble.members[view.member]
        frontend = member.contract.frontend
        # Twelve hours are 1.4e9 samples: integers, never sums of seconds.
        step = int(length * frontend.sample_rate)
        row = view.windowing.row_s * frontend.sample_rate
        end = min(info.length(frontend.sample_rate), (block[0] + pending.spectrograms.n_rows) * row)
        first, last = -(-block[0] * row // step), -(-end // step)
        begin = int(plan.starts[0]) // (frontend.n_frames // member.steps)
        mean = _average(_sigmoid(logits.reshape(-1, logits.shape[-1])), plan)
        scores.append((view.member, mean[first - begin : last - begin].astype(np.float32)))
    return Frames(first, length, ensemble.averaging.combine(scores))


def score_block(
    info: AudioInfo, ensemble: Ensemble, views: Sequence[View], block: tuple[int, int], mels: Mels
) -> tuple[BlockSpectrograms, list[tuple[Array, Array]], tuple[Array, ...]]:
    """Score one block in the calling thread; DataError if the recording cannot be decoded.

    Returns spectrograms, logits and attention of each view's windows, (W, t, K) each, and each view's probabilities of
    the rows, also of rows after the real end of a truncated file.
    """
    spectrograms = compute_spectrograms(info, ensemble, views, block, mels)
    pending = submit_block(spectrograms, ensemble, views)
    for member in ensemble.members:
        member.finish()
    return spectrograms, pending.outputs, pool_block(pending, ensemble, views)


def score_recording(
    info: AudioInfo, ensemble: Ensemble, windowing: Windowing, mels: Mels | None = None
) -> tuple[Array, tuple[str, ...]]:
    """Score one recording in the calling thread: probabilities (R, K), and notes on its defects."""
    mels = mels or make_mels(ensemble.averaging.frontends)
    views = make_views(ensemble, windowing)
    scores, notes = [], dict[str, None]()
    for block in row_blocks(info, ensemble.averaging.frontends[0].sample_rate, windowing.row_s):
        spectrograms, _, by_view = score_block(info, ensemble, views, block, mels)
        mean = ensemble.averaging.combine([(view.member, values) for view, values in zip(views, by_view, strict=True)])
        scores.append(mean[: spectrograms.n_rows])
        notes.update(dict.fromkeys(spectrograms.notes))
        if spectrograms.n_rows < block[1] - block[0]:
            break
    return np.concatenate(scores), tuple(notes)
