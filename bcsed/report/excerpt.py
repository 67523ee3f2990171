"""An excerpt of a recording: spectrogram, network outputs, row scores (by the code of `bcsed.predict`), and sound."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..audio.decode import read_audio
from ..audio.headers import AudioInfo
from ..audio.spectrogram import LogMel
from ..config.contract import WIDE_384, Frontend
from ..errors import DataError
from ..models.backends import Array, Backend
from ..models.ensemble import Ensemble
from ..predict.blocks import score_block
from ..predict.spec import Windowing, make_views

# The duration of a soundscape of the competition; a longer figure could not be read.
MAX_S = 60
# Scale of libsndfile's Vorbis encoder: 0 is the best and largest, 1 the worst and smallest.
_COMPRESSION = 0.75
_RATE_HZ = 32_000


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of a recording; without a network, only the spectrogram has values."""

    db: Array  # spectrogram (F, T)
    first_frame: int  # of the spectrogram, in the recording
    step_s: float = 0.0  # duration of a time step of the network
    first_s: float = 0.0  # start of the first time step
    logits: Array  # (t, K)
    attention: Array  # (t, K)
    rows: Array  # probabilities of the rows (R, K)


def excerpt_rows(n_rows: int, row_s: int, middle: int) -> tuple[int, int]:
    """Return the half-open range of at most `MAX_S` seconds of rows around one of them."""
    n = max(1, MAX_S // row_s)
    first = max(0, min(middle - n // 2, n_rows - n))
    return first, min(first + n, n_rows)


def score_excerpt(
    member: Backend, audio: AudioInfo, row_s: int, block: tuple[int, int], classes: Sequence[str]
) -> Excerpt:
    """Score a half-open range of rows with windows that do not overlap; `classes` gives the order of the columns.

    The spectrogram is that of `spectrogram_frontend`.
    """
    frontend, ensemble = member.contract.frontend, Ensemble((member,), (1.0,))
    views = make_views(ensemble, Windowing(row_s=row_s, windows="sliding", stride_s=frontend.window_s))
    spectrograms, outputs, by_view = score_block(audio, ensemble, views, block, {frontend: LogMel(frontend)})
    plan = spectrograms.plans[0]
    # The last window may overlap the one before it: the later of two outputs for a time step counts.
    output_of = np.zeros(plan.n_cells, np.int64)
    output_of[plan.cell.reshape(-1)] = np.arange(plan.cell.size)
    step_s = frontend.window_s / member.steps
    first_step = int(plan.starts[0]) // (frontend.n_frames // member.steps)
    begin, end = _frames(audio, frontend, row_s, block)
    first_frame, db = spectrograms.by_frontend[frontend]
    end = max(begin + 1, min(end, first_frame + db.shape[1]))
    # Time steps that begin inside the excerpt, at least one.
    start_s = (first_step + np.arange(plan.n_cells)) * step_s
    hop_s = frontend.hop_length / frontend.sample_rate
    inside = np.flatnonzero((start_s >= begin * hop_s - 1e-9) & (start_s < end * hop_s - 1e-9))
    inside = inside if len(inside) else np.array([0])
    if frontend.is_wave:
        drawn = spectrogram_excerpt(audio, spectrogram_frontend(member), row_s, block)
        db, begin, first_frame, end = (
            drawn.db,
            drawn.first_frame,
            drawn.first_frame,
            drawn.first_frame + drawn.db.shape[1],
        )
    columns = [member.contract.classes.index(name) for name in classes]
    logits, attention = (values.reshape(-1, values.shape[-1])[output_of[inside]][:, columns] for values in outputs[0])
    return Excerpt(
        db=db[:, begin - first_frame : end - first_frame],
        first_frame=begin,
        step_s=step_s,
        first_s=(first_step + int(inside[0])) * step_s,
        logits=logits,
        attention=attention,
        rows=by_view[0][:, columns],
    )


def spectrogram_frontend(member: Backend | None) -> Frontend:
    """Return the front end of a spectrogram to draw: that of the network, if it has one that is an image."""
    return WIDE_384 if member is None or member.contract.frontend.is_wave else member.contract.frontend


def spectrogram_excerpt(audio: AudioInfo, frontend: Frontend, row_s: int, block: tuple[int, int]) -> Excerpt:
    """Compute only the spectrogram of some rows."""
    begin, end = _frames(audio, frontend, row_s, block)
    first, last = frontend.reach(begin, end)
    wave, _ = read_audio(audio, frontend.sample_rate, max(0, first), last)
    with torch.inference_mode():
        db = LogMel(frontend).compute(wave, begin, end, max(0, first))
    empty = np.empty((0, 0), np.float32)
    return Excerpt(db=db, first_frame=begin, logits=empty, attention=empty, rows=empty)


def encode_ogg(audio: AudioInfo, start_s: float, end_s: float) -> str:
    """Return a part of a recording as a data URI of a small mono Ogg Vorbis file."""
    import soundfile

    rate = min(_RATE_HZ, audio.sample_rate)
    wave, _ = read_audio(audio, rate, round(start_s * rate), round(end_s * rate))
    if not len(wave):
        raise DataError(f"{audio.path} has no audio from {start_s:g} to {end_s:g} s.")
    peak = float(np.abs(wave).max())
    # Field recordings are quiet, and the player can only reduce the volume.
    wave = wave * np.float32(0.9 / peak) if peak > 0 else wave
    buffer = io.BytesIO()
    options: dict[str, Any] = {"format": "OGG", "subtype": "VORBIS", "compression_level": _COMPRESSION}
    with soundfile.SoundFile(buffer, "w", rate, 1, **options) as file:
        # One second at a time: some versions of libsndfile fail on a long block.
        for start in range(0, len(wave), rate):
            file.write(wave[start : start + rate])
    return f"data:audio/ogg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _frames(audio: AudioInfo, frontend: Frontend, row_s: int, block: tuple[int, int]) -> tuple[int, int]:
    """Return the half-open range of frames of some rows, at most to the end of the recording."""
    row = row_s * frontend.sample_rate
    end = min(block[1] * row, audio.length(frontend.sample_rate))
    begin = block[0] * row // frontend.hop_length
    return begin, max(begin + 1, -(-end // frontend.hop_length))
