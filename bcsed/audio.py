"""Recordings -> mono waves at one sample rate.

Everything that libsndfile reads is read: ogg, flac, wav, mp3, aiff and more. What a file lacks is said in
its *notes* (cut off, samples that are no numbers); what cannot be heard at all is a `DataError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .errors import DataError

Wave = npt.NDArray[np.float32]

SUFFIXES = (".ogg", ".wav", ".flac", ".mp3", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64", ".caf", ".au")
# libvorbisfile lands beside the mark when it seeks into the last page of a stream, whose time stamp says
# where the audio is cut and not where the page ends. A page holds at most 255 packets, about 8 s.
_SEEK_MARGIN_S = 12
# Samples beyond an excerpt that the resampler is given, so that its filter (some hundreds) sees no edge.
_RESAMPLE_MARGIN = 8192

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Info:
    """What a recording's header says.

    Parameters
    ----------
    path : Path
    sample_rate : int
        Hz, as stored.
    channels : int
    n_samples : int
        Per channel, at the stored rate.
    notes : tuple of str
        What is wrong with the file although it can be read.
    """

    path: Path
    sample_rate: int
    channels: int
    n_samples: int
    notes: tuple[str, ...] = ()

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.sample_rate

    def length(self, sample_rate: int) -> int:
        """Return the number of samples after resampling to `sample_rate` Hz."""
        return math.ceil(self.n_samples * sample_rate / self.sample_rate)


def info(path: str | Path) -> Info:
    """Read a recording's header.

    Raises
    ------
    DataError
        If there is no such file, it is empty, no audio, or without samples.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    size = path.stat().st_size
    if size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes).")
    try:
        with soundfile.SoundFile(path) as file:
            found = Info(
                path=path,
                sample_rate=file.samplerate,
                channels=file.channels,
                n_samples=file.frames,
                notes=_cut_off(path, file.format, size),
            )
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: not readable as audio ({_reason(error)}).") from error
    if not 0 < found.n_samples < 2**62:
        raise DataError(f"{path}: the file holds a header but no samples.")
    return found


def load(path: str | Path, sample_rate: int, start: int = 0, stop: int | None = None) -> Wave:
    """Decode a recording, or a part of it, to mono at `sample_rate`.

    Parameters
    ----------
    path : str or Path
    sample_rate : int
        Hz of the result; soxr's high quality where it differs from the file's.
    start, stop : int
        Half-open range of samples *of the result*; None is the end.

    Returns
    -------
    ndarray of float32, shape (n,)
        The mean of the channels. ``load(p, r, a, b)`` equals ``load(p, r)[a:b]``: exactly where nothing is
        resampled, else to 1e-5.

    Raises
    ------
    DataError
        If the file cannot be read.

    Notes
    -----
    What is wrong with a file that can still be read is logged as a warning; `read` returns it.
    """
    wave, notes = read(info(path), sample_rate, start, stop)
    for note in notes:
        _log.warning("%s: %s", path, note)
    return wave


def read(found: Info, sample_rate: int, start: int = 0, stop: int | None = None) -> tuple[Wave, tuple[str, ...]]:
    """Decode like `load`, given the header; return the wave and what is wrong with it."""
    length = found.length(sample_rate)
    stop = length if stop is None else min(stop, length)
    start = min(max(start, 0), stop)
    if found.sample_rate == sample_rate:
        wave, notes = _decode(found, start, stop)
        return wave, (*found.notes, *notes)
    import soxr

    # The excerpt begins where an input and an output sample coincide, so that the resampler's phase is that
    # of the whole recording.
    common = math.gcd(found.sample_rate, sample_rate)
    step_in, step_out = found.sample_rate // common, sample_rate // common
    period = max(0, (start - _RESAMPLE_MARGIN) // step_out)
    last = min(found.n_samples, -(-(stop + _RESAMPLE_MARGIN) // step_out) * step_in)
    native, notes = _decode(found, period * step_in, last)
    wave = np.asarray(soxr.resample(native, found.sample_rate, sample_rate, quality="HQ"), np.float32)
    begin = start - period * step_out
    wave = wave[begin : begin + stop - start]
    if len(wave) < stop - start:
        # soxr rounds the length down where ours is rounded up.
        wave = np.pad(wave, (0, stop - start - len(wave)))
    return wave, (*found.notes, *notes)


def find(paths: Iterable[str | Path]) -> list[Path]:
    """Return the recordings that files and folders stand for, folders searched to any depth.

    Files are taken as they are named; in folders the suffix decides, upper or lower case. The order is that
    of the arguments, and alphabetical within a folder.

    Raises
    ------
    DataError
        If a path does not exist, or a folder holds no recording.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(item for item in path.rglob("*") if item.suffix.lower() in SUFFIXES and not item.is_dir())
            if not inside:
                raise DataError(f"{path}: no recordings in this folder (looked for {' '.join(SUFFIXES)}).")
            found.update(dict.fromkeys(inside))
        elif path.exists() or path.is_symlink():
            found[path] = None
        else:
            raise DataError(f"{path}: there is no such file or folder.")
    return list(found)


def _decode(found: Info, start: int, stop: int) -> tuple[Wave, tuple[str, ...]]:
    """Decode native samples ``start`` to ``stop``, mixed to mono; missing ones at the end are zero."""
    import soundfile

    try:
        with soundfile.SoundFile(found.path) as file:
            seek = max(0, min(start, found.n_samples - _SEEK_MARGIN_S * found.sample_rate))
            if seek:
                file.seek(seek)
            samples = file.read(stop - seek, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, MemoryError) as error:
        raise DataError(f"{found.path}: decoding failed ({_reason(error)}).") from error
    samples = samples[start - seek :]
    notes = []
    if len(samples) < stop - start:
        notes.append(f"ends {stop - start - len(samples)} samples before its header says; they count as silence")
        samples = np.pad(samples, ((0, stop - start - len(samples)), (0, 0)))
    wave = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    wave = np.ascontiguousarray(wave, np.float32)
    bad = ~np.isfinite(wave)
    if bad.any():
        notes.append(f"{int(bad.sum())} of {len(wave)} samples are not numbers; they count as silence")
        wave[bad] = 0.0
    return wave, tuple(notes)


def _cut_off(path: Path, container: str, size: int) -> tuple[str, ...]:
    """Say so if an ogg stream lacks its last page: libsndfile reads what is there without a word."""
    if container != "OGG":
        return ()
    with path.open("rb") as file:
        file.seek(max(0, size - 66_000))  # longer than the longest page
        tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return ("the file is cut off or damaged near its end; what is there is used",)
    n_segments = tail[page + 26]
    page_end = page + 27 + n_segments + sum(tail[page + 27 : page + 27 + n_segments])
    is_last = tail[page + 5] & 4
    if not is_last or page_end > len(tail):
        return ("the file is cut off before the end of its stream; what is there is used",)
    return ()


def _reason(error: BaseException) -> str:
    """Return a library's message without the path that it may repeat."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text.rsplit(": ", 1)[-1] if text.startswith("Error opening") else text
