"""What a network made of a part of a recording: picture, answers step by step, rows; by `bcsed.predict`'s own code."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from ..audio.decode import AudioInfo, read_audio
from ..audio.spectrogram import LogMel
from ..audio.windows import count_rows
from ..config.contract import Frontend
from ..errors import DataError
from ..models.backends import Array
from ..models.ensemble import Ensemble
from ..predict.blocks import Windowing, compute_spectrograms, make_views, pool_block, submit_block

# A minute is what a soundscape of the competition has, and what can be looked at.
MOST_S = 60
# Of libsndfile's Vorbis: 0 is the best and largest, 1 the worst and smallest.
_COMPRESSION = 0.75
_RATE_HZ = 32_000


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of a recording, from `first_row` on.

    Parameters
    ----------
    db : ndarray, shape (F, T)
        The picture.
    first_frame : int
        At which it begins.
    step_s, first_s : float
        Seconds of a step, and where the first one begins.
    what, when : ndarray of float32, shape (t, K)
        The network's answers; no steps where there was no network to ask.
    rows : ndarray of float32, shape (R, K)
        Probabilities of the rows.
    """

    db: Array
    first_frame: int
    step_s: float = 0.0
    first_s: float = 0.0
    logits: Array
    attention: Array
    rows: Array

    def of(self, classes: Sequence[str], wanted: Sequence[str]) -> Excerpt:
        """Return the columns of some classes, bound by name."""
        place = {name: k for k, name in enumerate(classes)}
        columns = [place[name] for name in wanted]
        return replace(
            self, logits=self.logits[:, columns], attention=self.attention[:, columns], rows=self.rows[:, columns]
        )


def part_of(n_rows: int, row_s: int, middle: int) -> tuple[int, int]:
    """Return the half-open run of rows to show of a recording, around one of them."""
    n = max(1, MOST_S // row_s)
    first = max(0, min(middle - n // 2, n_rows - n))
    return first, min(first + n, n_rows)


def score_excerpt(ensemble: Ensemble, found: AudioInfo, row_s: int, block: tuple[int, int]) -> Excerpt:
    """Let a network hear some rows of a recording, window after window without overlap.

    Parameters
    ----------
    ensemble : Ensemble
        Its first member is heard.
    found : audio.AudioInfo
    row_s : int
    block : tuple of 2 int
        Half-open run of rows.

    Raises
    ------
    DataError
        If the recording cannot be decoded.
    """
    member = ensemble.members[0]
    alone = Ensemble((member,), (1.0,))
    frontend = member.contract.frontend
    windowing = Windowing(row_s=row_s, windows="sliding", stride_s=frontend.window_s)
    views = make_views(alone, windowing)
    pictures = compute_spectrograms(found, alone, views, block, {frontend: LogMel(frontend)})
    collector = submit_block(pictures, alone, views)
    member.finish()
    plan, (logits, attention) = pictures.plans[0], collector.answers[0]
    cells = np.arange(plan.n_cells)
    # The last window may lie over the one before: a step is answered by the later of the two.
    answer_of = np.zeros(plan.n_cells, np.int64)
    answer_of[plan.cell.reshape(-1)] = np.arange(plan.cell.size)
    logits, attention = (values.reshape(-1, values.shape[-1])[answer_of[cells]] for values in (logits, attention))
    step_s = frontend.window_s / member.steps
    first_step = int(plan.starts[0]) // (frontend.n_frames // member.steps)
    begin, end = _frames(found, frontend, row_s, block)
    first_frame, db = pictures.by_frontend[frontend]
    last = max(begin + 1, min(end, first_frame + db.shape[1]))
    inside = _inside(first_step + cells, step_s, begin, last, frontend)
    return Excerpt(
        db=db[:, begin - first_frame : last - first_frame],
        first_frame=begin,
        step_s=step_s,
        first_s=(first_step + int(inside[0])) * step_s,
        logits=logits[inside],
        attention=attention[inside],
        rows=pool_block(collector, pictures, alone, views)[0],
    )


def spectrogram_excerpt(found: AudioInfo, frontend: Frontend, row_s: int, block: tuple[int, int]) -> Excerpt:
    """Return only the picture of some rows, where there is no network to ask.

    Raises
    ------
    DataError
        If the recording cannot be decoded.
    """
    begin, end = _frames(found, frontend, row_s, block)
    mel = LogMel(frontend)
    first, last = mel.reach(begin, end)
    wave, _ = read_audio(found, frontend.sample_rate, max(0, first), last)
    with torch.inference_mode():
        db = mel.compute(wave, begin, end, max(0, first)).numpy()
    nothing = np.empty((0, 0), np.float32)
    return Excerpt(db=db, first_frame=begin, logits=nothing, attention=nothing, rows=nothing)


def n_rows(found: AudioInfo, row_s: int) -> int:
    """Return how many rows a recording has."""
    return count_rows(found.n_samples, found.sample_rate, row_s)


def ogg(found: AudioInfo, start_s: float, end_s: float) -> str:
    """Return a part of a recording as a data URI: mono Ogg Vorbis, small rather than fine.

    Raises
    ------
    DataError
        If it cannot be decoded, or nothing of it is there.
    """
    import soundfile

    rate = min(_RATE_HZ, found.sample_rate)
    wave, _ = read_audio(found, rate, round(start_s * rate), round(end_s * rate))
    if not len(wave):
        raise DataError(f"{found.path} has nothing from {start_s:g} to {end_s:g} s.")
    peak = float(np.abs(wave).max())
    # Field recordings are quiet; a page has no other volume control than that of the player.
    wave = wave * np.float32(0.9 / peak) if peak > 0 else wave
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", rate, 1, format="OGG", subtype="VORBIS", compression_level=_COMPRESSION
    ) as file:
        # Second by second: some versions of libsndfile fail on a long block.
        for start in range(0, len(wave), rate):
            file.write(wave[start : start + rate])
    return f"data:audio/ogg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _frames(found: AudioInfo, frontend: Frontend, row_s: int, block: tuple[int, int]) -> tuple[int, int]:
    """Return the half-open run of frames of some rows, to the recording's end at most."""
    row = row_s * frontend.sample_rate
    end = min(block[1] * row, found.length(frontend.sample_rate))
    begin = block[0] * row // frontend.hop_length
    return begin, max(begin + 1, -(-end // frontend.hop_length))


def _inside(
    steps: npt.NDArray[np.int64], step_s: float, begin: int, end: int, frontend: Frontend
) -> npt.NDArray[np.int64]:
    """Return the places of the steps that begin within some frames; one at least."""
    hop_s = frontend.hop_length / frontend.sample_rate
    at = steps * step_s
    inside = np.flatnonzero((at >= begin * hop_s - 1e-9) & (at < end * hop_s - 1e-9))
    return inside if len(inside) else np.array([0])
