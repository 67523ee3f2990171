"""Frames: class probabilities in every time step of the network, before they are pooled into rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..audio.decode import AudioInfo
from ..config.contract import Frontend
from ..errors import ConfigError
from ..models.backends import Array, Backend
from ..models.ensemble import Ensemble
from .blocks import BlockSpectrograms, PendingBlock
from .spec import View, Windowing


@dataclass(frozen=True)
class Frames:
    """Probabilities of the time steps from step `first` on, shape (steps, K)."""

    first: int
    step_s: Fraction  # seconds per step
    values: Array

    @staticmethod
    def concatenate(blocks: Sequence[Frames]) -> Frames:
        """Join consecutive blocks of a recording."""
        return Frames(blocks[0].first, blocks[0].step_s, np.concatenate([block.values for block in blocks]))


def _step_s(member: Backend) -> Fraction:
    frontend: Frontend = member.contract.frontend
    return Fraction(frontend.n_frames // member.steps * frontend.hop_length, frontend.sample_rate)


def check_frames(ensemble: Ensemble, windowing: Windowing) -> None:
    """Raise ConfigError unless windows slide, members' steps have one length, and the mean is not of ranks."""
    if windowing.windows != "sliding":
        raise ConfigError("frames have a common time axis only with sliding windows; use those.")
    lengths = sorted({_step_s(member) for member in ensemble.members})
    if len(lengths) > 1:
        text = " and ".join(f"{float(length):g}" for length in lengths)
        raise ConfigError(f"the members have steps of {text} s; frames need steps of one length.")
    if ensemble.mean == "rank":
        raise ConfigError("frames are probabilities; a mean of ranks has none.")


def frame_block(
    pending: PendingBlock,
    spectrograms: BlockSpectrograms,
    ensemble: Ensemble,
    views: Sequence[View],
    info: AudioInfo,
    block: tuple[int, int],
) -> Frames:
    """Return the frames that begin in a block's rows, averaged over windows and members."""
    scores, first, length = [], 0, _step_s(ensemble.members[views[0].member])
    for (logits, _), plan, view in zip(pending.outputs, spectrograms.plans, views, strict=True):
        member = ensemble.members[view.member]
        frontend = member.contract.frontend
        # Twelve hours are 1.4e9 samples: integers, never sums of seconds.
        step = int(length * frontend.sample_rate)
        row = view.windowing.row_s * frontend.sample_rate
        end = min(info.length(frontend.sample_rate), (block[0] + spectrograms.n_rows) * row)
        first, last = -(-block[0] * row // step), -(-end // step)
        begin = int(plan.starts[0]) // (frontend.n_frames // member.steps)
        probability = 1.0 / (1.0 + np.exp(-logits.reshape(-1, logits.shape[-1]).astype(np.float64)))
        total = np.zeros((plan.n_cells, logits.shape[-1]))
        cells = plan.cell.reshape(-1)
        np.add.at(total, cells, probability)
        mean = total / np.maximum(np.bincount(cells, minlength=plan.n_cells), 1)[:, None]
        scores.append((view.member, mean[first - begin : last - begin].astype(np.float32)))
    return Frames(first, length, ensemble.combine(scores))
