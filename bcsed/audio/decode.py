"""Recordings -> mono waves at one sample rate.

Everything that libsndfile reads is read: ogg, flac, wav, mp3, aiff and more, from a disk or, named by a
protocol, from fsspec's stores. What a file lacks is said in its *notes* (cut off, samples that are no numbers);
what cannot be heard at all is a `DataError`.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..files import as_path, is_remote

Wave = npt.NDArray[np.float32]

AUDIO_SUFFIXES = (".ogg", ".wav", ".flac", ".mp3", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64", ".caf", ".au")
# libvorbisfile lands beside the mark when it seeks into the last page of a stream, whose time stamp says
# where the audio is cut and not where the page ends. A page holds at most 255 packets, about 8 s.
_SEEK_MARGIN_S = 12
# Samples beyond an excerpt that the resampler is given, so that its filter (some hundreds) sees no edge.
_RESAMPLE_MARGIN = 8192

_SHOULD = re.compile(r": (\d+) \(should be (\d+)\)")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
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


def read_info(path: str | Path) -> AudioInfo:
    """Read a recording's header.

    Raises
    ------
    DataError
        If there is no such file, it is empty, no audio, or without samples.
    """
    import soundfile

    path = as_path(path)
    try:
        if not path.is_file():
            what = "it is neither a file nor a link to one" if path.exists() else "there is no such file"
            raise DataError(f"{path}: {what}.")
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes).")
        with _opened(path) as file:
            found = AudioInfo(
                path=path,
                sample_rate=file.samplerate,
                channels=file.channels,
                n_samples=file.frames,
                notes=_cut_off(path, file, size),
            )
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: not readable as audio ({_reason(error)}).") from error
    if not 0 < found.n_samples < 2**62:
        raise DataError(f"{path}: the file holds a header but no samples.")
    return found


def load_audio(path: str | Path, sample_rate: int, start: int = 0, stop: int | None = None) -> Wave:
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
    wave, notes = read_audio(read_info(path), sample_rate, start, stop)
    for note in notes:
        _log.warning("%s: %s", path, note)
    return wave


def read_audio(
    found: AudioInfo, sample_rate: int, start: int = 0, stop: int | None = None
) -> tuple[Wave, tuple[str, ...]]:
    """Decode like `load`, given the header; return the wave and what is wrong with it."""
    wave, n_there, notes = read_there(found, sample_rate, start, stop)
    if n_there < len(wave):
        notes = (*notes, f"{len(wave) - n_there} samples that its header promises are not there; they count as silence")
    return wave, notes


def read_there(
    found: AudioInfo, sample_rate: int, start: int = 0, stop: int | None = None, reader: AudioReader | None = None
) -> tuple[Wave, int, tuple[str, ...]]:
    """Decode like `read`, and say how much of it is really there; a `reader` stays open for the next excerpt.

    Returns
    -------
    wave : ndarray of float32, shape (n,)
        As `load` returns it; zero where the file ends before its header says.
    n_there : int
        Samples of `wave` before that end.
    notes : tuple of str

    Raises
    ------
    DataError
        If nothing of a part that begins with the recording can be decoded, or the file cannot be opened.
    """
    length = found.length(sample_rate)
    stop = length if stop is None else min(stop, length)
    start = min(max(start, 0), stop)
    if found.sample_rate == sample_rate:
        wave, n_there, notes = _decode(found, start, stop, reader)
        return wave, n_there, (*found.notes, *notes)
    import soxr

    # The excerpt begins where an input and an output sample coincide, so that the resampler's phase is that
    # of the whole recording.
    common = math.gcd(found.sample_rate, sample_rate)
    step_in, step_out = found.sample_rate // common, sample_rate // common
    period = max(0, (start - _RESAMPLE_MARGIN) // step_out)
    last = min(found.n_samples, -(-(stop + _RESAMPLE_MARGIN) // step_out) * step_in)
    native, n_native, notes = _decode(found, period * step_in, last, reader)
    wave = np.asarray(soxr.resample(native, found.sample_rate, sample_rate, quality="HQ"), np.float32)
    begin = start - period * step_out
    wave = wave[begin : begin + stop - start]
    if len(wave) < stop - start:
        # soxr rounds the length down where ours is rounded up.
        wave = np.pad(wave, (0, stop - start - len(wave)))
    n_there = len(wave) if n_native == len(native) else n_native * sample_rate // found.sample_rate - begin
    return wave, min(max(n_there, 0), len(wave)), (*found.notes, *notes)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Return the recordings that files and folders stand for, folders searched to any depth.

    Files are taken as they are named; in folders the suffix decides, upper or lower case. The order is that
    of the arguments, and alphabetical within a folder.

    Raises
    ------
    DataError
        If a path does not exist, or a folder holds no recording.
    """
    found: dict[Path, None] = {}
    for path in map(as_path, paths):
        if path.is_dir():
            inside = sorted(
                item for item in path.rglob("*") if item.suffix.lower() in AUDIO_SUFFIXES and not item.is_dir()
            )
            if not inside:
                raise DataError(f"{path}: no recordings in this folder (looked for {' '.join(AUDIO_SUFFIXES)}).")
            found.update(dict.fromkeys(inside))
        elif path.exists() or path.is_symlink():
            found[path] = None
        else:
            raise DataError(f"{path}: there is no such file or folder.")
    return list(found)


def recording_names(paths: Sequence[Path]) -> list[str]:
    """Return what to call each recording: its stem, and where stems are alike, as much of its path as differs.

    Examples
    --------
    >>> recording_names([Path("a/0001.wav"), Path("b/0001.wav"), Path("b/0002.wav")])
    ['a/0001', 'b/0001', '0002']
    >>> recording_names([Path("a/0001.wav"), Path("a/0001.ogg")])
    ['0001.wav', '0001.ogg']
    """
    alike: dict[str, list[int]] = {}
    for place, path in enumerate(paths):
        alike.setdefault(path.stem, []).append(place)
    called = [path.stem for path in paths]
    for places in alike.values():
        if len(places) == 1:
            continue
        folders = [paths[place].parts[:-1] for place in places]
        ends = [(paths[place].stem, paths[place].name) for place in places]
        for depth, whole in ((d, w) for d in range(1 + max(map(len, folders))) for w in (0, 1)):
            tried = [
                "/".join((*folder[max(0, len(folder) - depth) :], end[whole])) if depth else end[whole]
                for folder, end in zip(folders, ends, strict=True)
            ]
            if len(set(tried)) == len(tried):
                for place, name in zip(places, tried, strict=True):
                    called[place] = name
                break
    return called


class AudioReader:
    """Keeps a recording open between its excerpts.

    Without it an mp3 of a day is searched from its beginning for each of them. Several threads may read at once;
    each has a decoder of its own.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[tuple[Any, ExitStack]] = []

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give a decoder."""
        if self._idle:
            file, stack = self._idle.pop()
        else:
            stack = ExitStack()
            file = stack.enter_context(_opened(self.path))
        try:
            yield file
        except BaseException:
            stack.close()
            raise
        self._idle.append((file, stack))

    def close(self) -> None:
        """Close what is open."""
        while self._idle:
            self._idle.pop()[1].close()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import soundfile

    if is_remote(path):
        with path.open("rb") as stream, soundfile.SoundFile(stream) as file:
            yield file
        return
    with soundfile.SoundFile(path) as file:
        yield file


def _decode(found: AudioInfo, start: int, stop: int, reader: AudioReader | None) -> tuple[Wave, int, tuple[str, ...]]:
    """Decode native samples ``start`` to ``stop``, mixed to mono; missing ones at the end are zero.

    Also returns how many there were, and what was wrong.
    """
    import soundfile

    notes = []
    seek = max(0, min(start, found.n_samples - _SEEK_MARGIN_S * found.sample_rate))
    opened: AbstractContextManager[Any] = _opened(found.path) if reader is None else reader.opened()
    try:
        with opened as file:
            if seek or reader is not None:
                file.seek(seek)
            samples = file.read(stop - seek, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, MemoryError) as error:
        samples, reason = _salvage(found, seek, stop), _reason(error)
        if samples is None:
            raise DataError(f"{found.path}: decoding failed ({reason}).") from error
        ends_s = (seek + len(samples)) / found.sample_rate
        notes.append(f"cannot be decoded beyond {ends_s:.1f} s ({reason}); what comes before is used")
    samples = samples[start - seek :]
    n_there = len(samples)
    if n_there < stop - start:
        if not notes:
            notes.append(f"ends at {(start + n_there) / found.sample_rate:.1f} s, before its header says")
        samples = np.pad(samples, ((0, stop - start - n_there), (0, 0)))
    wave = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    wave = np.ascontiguousarray(wave, np.float32)
    bad = ~np.isfinite(wave)
    if bad.any():
        notes.append(f"{int(bad.sum())} of {len(wave)} samples are not numbers; they count as silence")
        wave[bad] = 0.0
    return wave, n_there, tuple(notes)


def _salvage(found: AudioInfo, seek: int, stop: int) -> npt.NDArray[np.float32] | None:
    """Decode second by second as far as it goes; None if not even the recording's first second can be had."""
    import soundfile

    pieces = [np.empty((0, found.channels), np.float32)]
    try:
        with _opened(found.path) as file:
            if seek:
                file.seek(seek)
            for place in range(seek, stop, found.sample_rate):
                piece = file.read(min(found.sample_rate, stop - place), dtype="float32", always_2d=True)
                pieces.append(piece)
                if len(piece) < min(found.sample_rate, stop - place):
                    break
    except (soundfile.LibsndfileError, OSError):
        pass
    except MemoryError:
        return None
    samples = np.concatenate(pieces)
    return samples if len(samples) or seek else None


def _cut_off(path: Path, opened: Any, size: int) -> tuple[str, ...]:
    """Say so if a file is shorter than it claims: libsndfile reads what is there without a word.

    Of wav, aiff and the like its log tells; an ogg stream lacks its last page.
    """
    for claimed, there in _SHOULD.findall(opened.extra_info):
        # Chunks are padded to even sizes; and who writes into a pipe claims as much as can be.
        if int(claimed) - int(there) > 8 and int(claimed) < 0x7FFF_0000:
            return (
                f"the file is cut off: its header claims {claimed} bytes, {there} are there; what is there is used",
            )
    if opened.format != "OGG":
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
