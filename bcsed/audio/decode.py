"""Decode recordings to mono waves at one sample rate.

All formats of libsndfile are supported (ogg, flac, wav, mp3, aiff and others), on local disks and in fsspec stores.
Defects of a usable file (truncation, samples that are not numbers) are described in *notes*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..files import is_remote
from ..recordings import CONVERT
from .headers import AudioInfo, explain, open_audio, raise_read_error, unread_bytes

Wave = npt.NDArray[np.float32]

# libvorbisfile seeks to a wrong sample in the last page of a stream, because the time stamp of that page is where the
# audio is cut, not where the page ends. A page contains at most 255 packets, about 8 s.
_SEEK_MARGIN_S = 12
# Samples of context around an excerpt, so that the filter of the resampler (some hundreds) does not reach an edge.
_RESAMPLE_MARGIN = 8192
# Samples beyond this overflow in the power spectrum; 32-bit integers that are stored as floats reach 2e9.
_LARGEST = 1e15
# Share of the power of the channels that their mean keeps at least, unless they cancel each other.
_LEAST_SHARE = 1e-3
# Bytes of a compressed file behind its last sample that a tag may have.
_TAG_BYTES = 16_384


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


class AudioReader:
    """An open recording, with a decoder per thread, so that an mp3 of a day is not searched anew for each excerpt."""

    def __init__(self, info: AudioInfo) -> None:
        self.info = info
        self._idle: list[tuple[Any, ExitStack]] = []
        self._closed = False

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield a decoder."""
        if self._idle:
            file, stack = self._idle.pop()
        else:
            stack = ExitStack()
            file = stack.enter_context(open_audio(self.info.path, self.info.raw))
        try:
            yield file
        except BaseException:
            stack.close()
            raise
        self._idle.append((file, stack))
        if self._closed:
            self.close()

    def close(self) -> None:
        """Close all decoders, those in use once they are idle."""
        self._closed = True
        while self._idle:
            self._idle.pop()[1].close()


def _decode(info: AudioInfo, start: int, stop: int, reader: AudioReader | None) -> tuple[Wave, int, tuple[str, ...]]:
    """Decode native samples ``start`` to ``stop`` to mono, zero at a missing end; as `read_there`."""
    import soundfile

    notes = []
    seek = max(0, min(start, info.n_samples - _SEEK_MARGIN_S * info.sample_rate))
    opened: AbstractContextManager[Any] = open_audio(info.path, info.raw) if reader is None else reader.opened()
    mixer = _Mixer(0, info.channels)
    try:
        mixer = _Mixer(stop - seek, info.channels)
        with opened as file:
            if seek or reader is not None:
                file.seek(seek)
            # In pieces, which bound the memory of many channels, and keep the audio before damage.
            piece = max(1, min(info.sample_rate, (1 << 22) // info.channels))
            while mixer.n_samples < stop - seek and mixer.add(file, piece):
                pass
            raise_read_error(file)
            rest = unread_bytes(file) if seek + mixer.n_samples == info.n_samples else 0
    except (soundfile.LibsndfileError, OSError, MemoryError, ValueError) as error:
        reason, rest = explain(error), 0
        # A connection that fails is no damage of the recording, which another call may read.
        fails = isinstance(error, (MemoryError, ValueError)) or (isinstance(error, OSError) and is_remote(info.path))
        if fails or not (seek or mixer.n_samples):
            raise DataError(f"{info.path}: decoding failed: {reason}.") from error
        end_s = (seek + mixer.n_samples) / info.sample_rate
        notes.append(f"cannot be decoded beyond {end_s:.1f} s ({reason}); the audio before is used")
    if rest > _TAG_BYTES:
        end_s = info.n_samples / info.sample_rate
        notes.append(f"{rest} bytes behind the end that its header states ({end_s:.1f} s) are not read; {CONVERT}")
    wave = mixer.wave()[start - seek :]
    n_decoded = len(wave)
    if n_decoded < stop - start:
        if not notes:
            notes.append(f"ends at {(start + n_decoded) / info.sample_rate:.1f} s, before the end in its header")
        wave = np.pad(wave, (0, stop - start - n_decoded))
    return wave, n_decoded, (*notes, *mixer.notes(), *_clean(wave))


class _Mixer:
    """Read a recording piece by piece and mix it to mono."""

    def __init__(self, n: int, channels: int) -> None:
        self._wave, self.n_samples, self._channels = np.empty(n, np.float32), 0, channels
        self._power = [0.0, 0.0]  # sums over the samples: of the mean, and of the mean power of the channels

    def add(self, file: Any, n: int) -> bool:
        """Read at most `n` samples; return False at the end."""
        mono = self._wave[self.n_samples : self.n_samples + n]
        if self._channels == 1:
            n_read = len(file.read(out=mono))
        else:
            samples = file.read(len(mono), dtype="float32", always_2d=True)
            n_read = len(samples)
            with np.errstate(over="ignore", invalid="ignore"):
                mono = samples.mean(axis=1, dtype=np.float32, out=mono[:n_read])
                self._power[0] += float(np.vdot(mono, mono))
                self._power[1] += float(np.vdot(samples, samples)) / self._channels
        self.n_samples += n_read
        return n_read > 0

    def wave(self) -> Wave:
        """Return the samples that were read."""
        return self._wave[: self.n_samples]

    def notes(self) -> tuple[str, ...]:
        """Return a note if the channels cancel each other."""
        mean, channels = self._power
        cancelled = channels < math.inf and mean < _LEAST_SHARE * channels
        return ("its channels cancel each other in the mean; export one of them, or invert one",) if cancelled else ()


def _clean(wave: Wave) -> Iterator[str]:
    """Replace samples that cannot be used by zeros, and yield a note on each kind of them."""
    if not len(wave) or (wave.max() <= _LARGEST and wave.min() >= -_LARGEST):
        return
    finite = np.isfinite(wave)
    large = finite & ~(np.abs(wave) <= _LARGEST)
    for invalid, name in ((~finite, "are not numbers"), (large, f"are beyond {_LARGEST:g}")):
        if invalid.any():
            yield f"{int(invalid.sum())} of {len(wave)} samples {name}; they count as silence"
            wave[invalid] = 0.0
