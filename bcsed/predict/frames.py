"""What was heard in every step of time, on request: the network's frames, before rows are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..audio.decode import AudioInfo
from ..errors import ConfigError
from ..models.backends import Array
from ..models.ensemble import Ensemble
from .blocks import BlockSpectrograms, PendingBlock, View, Windowing


@dataclass(frozen=True)
class Frames:
    """Activity along a recording.

    Parameters
    ----------
    first : int
        The step at which `values` begins.
    step_s : Fraction
        Seconds per step.
    values : ndarray of float32, shape (steps, K)
        Probability that a class calls in each step.
    """

    first: int
    step_s: Fraction
    values: Array

    @staticmethod
    def joined(blocks: Sequence[Frames]) -> Frames:
        """Return consecutive blocks of a recording as one."""
        return Frames(blocks[0].first, blocks[0].step_s, np.concatenate([block.values for block in blocks]))


def step_s(ensemble: Ensemble, place: int) -> Fraction:
    """Return how long a member's steps are, in seconds."""
    member = ensemble.members[place]
    frontend = member.contract.frontend
    return Fraction(frontend.n_frames // member.steps * frontend.hop_length, frontend.sample_rate)


def check_frames(ensemble: Ensemble, windowing: Windowing) -> None:
    """Refuse what has no common line of time.

    Raises
    ------
    ConfigError
        If windows are not sliding, members' steps differ, or the mean is one of ranks.
    """
    if windowing.windows != "sliding":
        raise ConfigError("frames lie on the recording's own line of time only with sliding windows; use those.")
    lengths = {step_s(ensemble, place) for place in range(len(ensemble.members))}
    if len(lengths) > 1:
        shown = " and ".join(f"{float(length):g}" for length in sorted(lengths))
        raise ConfigError(f"the members answer in steps of {shown} s; frames need steps of one length.")
    if ensemble.mean == "rank":
        raise ConfigError("frames are probabilities; a mean of ranks has none.")


def frame_block(
    collector: PendingBlock,
    pictures: BlockSpectrograms,
    ensemble: Ensemble,
    views: Sequence[View],
    found: AudioInfo,
    block: tuple[int, int],
) -> Frames:
    """Return the frames that begin in a block's rows, averaged over windows and members."""
    answers, first, length = [], 0, step_s(ensemble, views[0].place)
    for (logits, _), chosen, view in zip(collector.answers, pictures.plans, views, strict=True):
        frontend = ensemble.members[view.place].contract.frontend
        # Twelve hours are 1.4e9 samples: whole numbers, never sums of seconds.
        step = int(length * frontend.sample_rate)
        row = view.windowing.row_s * frontend.sample_rate
        end = min(found.length(frontend.sample_rate), (block[0] + pictures.n_rows) * row)
        first, last = -(-block[0] * row // step), -(-end // step)
        begin = int(chosen.starts[0]) // (frontend.n_frames // ensemble.members[view.place].steps)
        probability = 1.0 / (1.0 + np.exp(-logits.reshape(-1, logits.shape[-1]).astype(np.float64)))
        total = np.zeros((chosen.n_cells, logits.shape[-1]))
        cells = chosen.cell.reshape(-1)
        np.add.at(total, cells, probability)
        mean = total / np.maximum(np.bincount(cells, minlength=chosen.n_cells), 1)[:, None]
        answers.append((view.place, mean[first - begin : last - begin].astype(np.float32)))
    return Frames(first, length, ensemble.combine(answers))
