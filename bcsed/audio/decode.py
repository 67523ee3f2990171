"""Decode recordings to mono waves at one sample rate.

All formats of libsndfile are supported (ogg, flac, wav, mp3, aiff and others), on local disks and in fsspec stores.
Defects of a usable file (truncation, samples that are not numbers) are described in *notes*.
"""

from __future__ import annotations

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
# libvorbisfile seeks to a wrong sample in the last page of a stream, because the time stamp of that page is where the
# audio is cut, not where the page ends. A page contains at most 255 packets, about 8 s.
_SEEK_MARGIN_S = 12
# Samples of context around an excerpt, so that the filter of the resampler (some hundreds) does not reach an edge.
_RESAMPLE_MARGIN = 8192
# Sizes in the log of libsndfile: in the header, and in the file.
_SIZE_MISMATCH = re.compile(r": (\d+) \(should be (\d+)\)")


@dataclass(frozen=True, kw_only=True)
class AudioInfo:
    """Header of a recording."""

    path: Path
    sample_rate: int  # Hz, as stored
    channels: int
    n_samples: int  # per channel, at the stored rate
    notes: tuple[str, ...] = ()  # defects of a usable file

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return self.n_samples / self.sample_rate

    def length(self, sample_rate: int) -> int:
        """Return the number of samples after resampling to `sample_rate` Hz."""
        return math.ceil(self.n_samples * sample_rate / self.sample_rate)


def read_info(path: str | Path) -> AudioInfo:
    """Read the header of a recording; DataError if it is missing, empty, not audio, or without samples."""
    import soundfile

    path = as_path(path)
    try:
        if not path.is_file():
            problem = "it is neither a file nor a link to one" if path.exists() else "there is no such file"
            raise DataError(f"{path}: {problem}.")
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"{path}: the file is empty (0 bytes).")
        with _open_file(path) as file:
            info = AudioInfo(
                path=path,
                sample_rate=file.samplerate,
                channels=file.channels,
                n_samples=file.frames,
                notes=_truncation_notes(path, file, size),
            )
    except (soundfile.LibsndfileError, OSError) as error:
        raise DataError(f"{path}: not readable as audio ({_reason(error)}).") from error
    if not 0 < info.n_samples < 2**62:
        raise DataError(f"{path}: the file contains a header but no samples.")
    return info


def read_audio(
    info: AudioInfo, sample_rate: int, start: int = 0, stop: int | None = None
) -> tuple[Wave, tuple[str, ...]]:
    """Decode a recording, or an excerpt of it, to mono; return the wave and the defects.

    The wave has `sample_rate` Hz; it is resampled with soxr HQ if the file has another rate. `start` and `stop` are a
    half-open range of samples *of the result*; None is the end. An excerpt equals this part of the complete wave:
    exactly without resampling, else to 1e-5. Raises DataError if the file cannot be opened, or the excerpt starts at 0
    and no sample of it can be decoded.
    """
    wave, n_decoded, notes = read_there(info, sample_rate, start, stop)
    if n_decoded < len(wave):
        notes = (*notes, f"{len(wave) - n_decoded} samples of its header are missing; they count as silence")
    return wave, notes


def read_there(
    info: AudioInfo, sample_rate: int, start: int = 0, stop: int | None = None, reader: AudioReader | None = None
) -> tuple[Wave, int, tuple[str, ...]]:
    """Decode as `read_audio`, with an optional open `reader`; return wave, number of decoded samples, and defects.

    The wave is zero after its decoded samples if the file is shorter than its header states.
    """
    length = info.length(sample_rate)
    stop = length if stop is None else min(stop, length)
    start = min(max(start, 0), stop)
    if info.sample_rate == sample_rate:
        wave, n_decoded, notes = _decode(info, start, stop, reader)
        return wave, n_decoded, (*info.notes, *notes)
    import soxr

    # The excerpt starts where an input sample and an output sample coincide, so that the resampler has the same phase
    # as for the complete recording.
    common = math.gcd(info.sample_rate, sample_rate)
    step_in, step_out = info.sample_rate // common, sample_rate // common
    period = max(0, (start - _RESAMPLE_MARGIN) // step_out)
    last = min(info.n_samples, -(-(stop + _RESAMPLE_MARGIN) // step_out) * step_in)
    native, n_native, notes = _decode(info, period * step_in, last, reader)
    wave = np.asarray(soxr.resample(native, info.sample_rate, sample_rate, quality="HQ"), np.float32)
    begin = start - period * step_out
    wave = wave[begin : begin + stop - start]
    if len(wave) < stop - start:
        # soxr rounds the length down, `AudioInfo.length` rounds it up.
        wave = np.pad(wave, (0, stop - start - len(wave)))
    n_decoded = len(wave) if n_native == len(native) else n_native * sample_rate // info.sample_rate - begin
    return wave, min(max(n_decoded, 0), len(wave)), (*info.notes, *notes)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Return the recordings in files and folders, in the order of the arguments, and alphabetical in a folder.

    Files may have any suffix; in folders and their subfolders, files with an audio suffix are returned. DataError if a
    path does not exist, or a folder contains no recording.
    """
    recordings: dict[Path, None] = {}
    for path in map(as_path, paths):
        if path.is_dir():
            items = (item for item in path.rglob("*") if item.suffix.lower() in AUDIO_SUFFIXES)
            files = sorted(item for item in items if not item.is_dir())
            if not files:
                raise DataError(f"{path}: no recordings in this folder (searched for {' '.join(AUDIO_SUFFIXES)}).")
            recordings.update(dict.fromkeys(files))
        elif path.exists() or path.is_symlink():
            recordings[path] = None
        else:
            raise DataError(f"{path}: there is no such file or folder.")
    return list(recordings)


def recording_names(paths: Sequence[Path]) -> list[str]:
    """Return a unique name of each recording: its stem, with suffix and parent folders only if needed.

    >>> recording_names([Path("a/0001.wav"), Path("b/0001.wav"), Path("b/0002.wav")])
    ['a/0001', 'b/0001', '0002']
    >>> recording_names([Path("a/0001.wav"), Path("a/0001.ogg")])
    ['0001.wav', '0001.ogg']
    """
    same_stem: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        same_stem.setdefault(path.stem, []).append(index)
    names = [path.stem for path in paths]
    for indices in same_stem.values():
        max_depth = max(len(paths[index].parts) for index in indices)
        for depth, with_suffix in ((d, s) for d in range(max_depth) for s in (False, True)):
            candidates = [_name(paths[index], depth, with_suffix=with_suffix) for index in indices]
            if len(set(candidates)) == len(candidates):
                for index, name in zip(indices, candidates, strict=True):
                    names[index] = name
                break
    return names


def _name(path: Path, depth: int, *, with_suffix: bool) -> str:
    """Return the file name below the last `depth` folders."""
    folders = path.parts[:-1]
    return "/".join((*folders[max(0, len(folders) - depth) :], path.name if with_suffix else path.stem))


class AudioReader:
    """An open recording, with a decoder per thread, so that an mp3 of a day is not searched anew for each excerpt."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[tuple[Any, ExitStack]] = []

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield a decoder."""
        if self._idle:
            file, stack = self._idle.pop()
        else:
            stack = ExitStack()
            file = stack.enter_context(_open_file(self.path))
        try:
            yield file
        except BaseException:
            stack.close()
            raise
        self._idle.append((file, stack))

    def close(self) -> None:
        """Close all decoders."""
        while self._idle:
            self._idle.pop()[1].close()


@contextmanager
def _open_file(path: Path) -> Iterator[Any]:
    import soundfile

    with ExitStack() as stack:
        source = stack.enter_context(path.open("rb")) if is_remote(path) else path
        yield stack.enter_context(soundfile.SoundFile(source))


def _decode(info: AudioInfo, start: int, stop: int, reader: AudioReader | None) -> tuple[Wave, int, tuple[str, ...]]:
    """Decode native samples ``start`` to ``stop`` to mono, zero at a missing end; as `read_there`."""
    import soundfile

    notes = []
    seek = max(0, min(start, info.n_samples - _SEEK_MARGIN_S * info.sample_rate))
    opened: AbstractContextManager[Any] = _open_file(info.path) if reader is None else reader.opened()
    try:
        with opened as file:
            if seek or reader is not None:
                file.seek(seek)
            samples = file.read(stop - seek, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, MemoryError) as error:
        samples, reason = _salvage(info, seek, stop), _reason(error)
        if samples is None:
            raise DataError(f"{info.path}: decoding failed ({reason}).") from error
        end_s = (seek + len(samples)) / info.sample_rate
        notes.append(f"cannot be decoded beyond {end_s:.1f} s ({reason}); the audio before is used")
    samples = samples[start - seek :]
    n_decoded = len(samples)
    if n_decoded < stop - start:
        if not notes:
            notes.append(f"ends at {(start + n_decoded) / info.sample_rate:.1f} s, before the end in its header")
        samples = np.pad(samples, ((0, stop - start - n_decoded), (0, 0)))
    wave = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)
    wave = np.ascontiguousarray(wave, np.float32)
    invalid = ~np.isfinite(wave)
    if invalid.any():
        notes.append(f"{int(invalid.sum())} of {len(wave)} samples are not numbers; they count as silence")
        wave[invalid] = 0.0
    return wave, n_decoded, tuple(notes)


def _salvage(info: AudioInfo, seek: int, stop: int) -> npt.NDArray[np.float32] | None:
    """Decode second by second up to the first error; return None if the first second of the recording fails."""
    import soundfile

    pieces = [np.empty((0, info.channels), np.float32)]
    try:
        with _open_file(info.path) as file:
            if seek:
                file.seek(seek)
            for start in range(seek, stop, info.sample_rate):
                n = min(info.sample_rate, stop - start)
                pieces.append(file.read(n, dtype="float32", always_2d=True))
                if len(pieces[-1]) < n:
                    break
    except (soundfile.LibsndfileError, OSError):
        pass
    except MemoryError:
        return None
    samples = np.concatenate(pieces)
    return samples if len(samples) or seek else None


def _truncation_notes(path: Path, file: Any, size: int) -> tuple[str, ...]:
    """Return a note if a file is shorter than its header states, which is not an error for libsndfile."""
    # wav, aiff and similar: from the log of libsndfile; ogg: the stream has no last page.
    for in_header, in_file in _SIZE_MISMATCH.findall(file.extra_info):
        # Chunks are padded to even sizes, and programs that write to a pipe state the maximum size.
        if int(in_header) - int(in_file) > 8 and int(in_header) < 0x7FFF_0000:
            return (f"the file is cut off: {in_header} bytes in its header, {in_file} in the file; these are used",)
    if file.format != "OGG":
        return ()
    with path.open("rb") as stream:
        stream.seek(max(0, size - 66_000))  # longer than the longest page
        tail = stream.read()
    page = tail.rfind(b"OggS")
    if page < 0 or len(tail) < page + 27:
        return ("the file is cut off or damaged near its end; the audio before is used",)
    n_segments = tail[page + 26]
    page_end = page + 27 + n_segments + sum(tail[page + 27 : page + 27 + n_segments])
    if not tail[page + 5] & 4 or page_end > len(tail):  # the flag of a last page
        return ("the file is cut off before the end of its stream; the audio before is used",)
    return ()


def _reason(error: BaseException) -> str:
    """Return the message of a library without the path."""
    text = str(error).strip().rstrip(".") or type(error).__name__
    return text.rsplit(": ", 1)[-1] if text.startswith("Error opening") else text
