"""Windows of recordings, decoded once where memory allows."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...audio.decode import Wave, read_audio
from ...audio.headers import AudioInfo, read_info
from ...audio.windows import cut_excerpt
from ...config.contract import Frontend
from ...config.recipe import Data
from ...errors import DataError
from ...recordings import printable

# Longer recordings are not cached; each window is read from the file.
_CACHED_S = 120.0
# Defects of recordings that are shown.
_MAX_NOTES = 20

_log = logging.getLogger(__name__)


class Clip(NamedTuple):
    """A window (n,), its targets and loss weights (K,), marks (steps, K), and a teacher's embedding of it (D,)."""

    wave: Wave
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    marks: npt.NDArray[np.float32]  # of its time steps, see `bcsed.train.dataset.events`; without strong labels, (0, K)
    embedding: npt.NDArray[np.float32]


class ClipReader:
    """Read windows of recordings, and cache decoded recordings of up to two minutes in `cache_gb` of memory.

    `marks` are the seconds of each recording that may be the centre of a 'marked' window.
    """

    def __init__(
        self,
        recordings: Sequence[AudioInfo],
        frontend: Frontend,
        data: Data,
        cache_gb: float = 0.0,
        marks: Sequence[tuple[float, ...]] | None = None,
    ) -> None:
        self.recordings, self.frontend, self.data, self.marks = recordings, frontend, data, marks
        self.free_bytes = int(cache_gb * 2**30)
        self._cached: dict[int, Wave] = {}
        self._notes: set[str] = set()
        self._lock = threading.Lock()
        rates = [info.sample_rate for info in recordings if info.sample_rate < 2 * frontend.fmax_hz]
        if rates:
            self._log_note(
                f"{len(rates)} of {len(recordings)} recordings contain nothing above half of their sample rate of "
                f"{' to '.join(f'{rate:,}' for rate in sorted({min(rates), max(rates)}))} Hz; the network has bands up "
                f"to {frontend.fmax_hz:,.0f} Hz"
            )

    def first_frame(self, index: int, crop: str, rng: np.random.Generator) -> int:
        """Return the first frame of a window; below 0 if the recording is shorter than the window.

        `crop` is 'random', 'first', 'centre' or 'marked'; `rng` also positions a shorter recording in its window.
        """
        frontend = self.frontend
        n_samples = self.recordings[index].length(frontend.sample_rate)
        room = -(-n_samples // frontend.hop_length) - frontend.n_frames
        marks = self.marks[index] if self.marks is not None and crop == "marked" else ()
        if marks and room >= 0:
            centre = marks[int(rng.integers(len(marks)))] * frontend.sample_rate / frontend.hop_length
            return int(np.clip(round(centre) - frontend.n_frames // 2, 0, room))
        if crop in ("random", "marked"):
            return int(rng.integers(0, room, endpoint=True)) if room >= 0 else -int(rng.integers(0, -room + 1))
        return 0 if crop == "first" else room // 2

    def window(self, index: int, first: int) -> Wave:
        """Return the samples of all frames of the window from frame `first` on, ``(frontend.clip_samples,)``."""
        frontend = self.frontend
        begin = first * frontend.hop_length - frontend.n_fft // 2
        return self.samples(index, begin, begin + frontend.clip_samples)

    def length(self, index: int) -> int:
        """Return the number of samples of a recording, at the sample rate of the front end."""
        return self.recordings[index].length(self.frontend.sample_rate)

    def is_short(self, index: int) -> bool:
        """Return True if a recording is shorter than a window."""
        return -(-self.length(index) // self.frontend.hop_length) < self.frontend.n_frames

    def samples(self, index: int, begin: int, end: int, pad: str | None = None) -> Wave:
        """Return samples `begin` to `end` of a recording, padded beyond its ends as in `pad`, by default `data.pad`.

        A recording is repeated only if it is shorter than a window.
        """
        n = self.recordings[index].length(self.frontend.sample_rate)
        if (pad or self.data.pad) != "zeros" and self.is_short(index):
            # Not `take` with mode="wrap", whose time grows with the number of repetitions.
            return self._read(index, 0, n)[np.arange(begin, end) % n]
        left, right = max(begin, 0), min(end, n)
        # A copy, so that the cached samples cannot be changed through the returned ones.
        return np.array(cut_excerpt(self._read(index, left, right), begin, end, left))

    def _read(self, index: int, start: int, stop: int) -> Wave:
        recording, rate = self.recordings[index], self.frontend.sample_rate
        cached = self._cached.get(index)
        if cached is not None:
            return cached[start:stop]
        short = recording.duration_s <= _CACHED_S
        # An excerpt of a resampled recording differs from the same part of the complete wave in the last bits, and
        # training must not depend on what is cached.
        whole = short and (rate != recording.sample_rate or self.free_bytes >= 4 * recording.length(rate))
        wave, notes = read_audio(recording, rate, *(() if whole else (start, stop)))
        for note in notes:
            self._log_note(f"{printable(recording.path)}: {note}")
        if not whole:
            return wave
        with self._lock:
            if index not in self._cached and wave.nbytes <= self.free_bytes:
                self.free_bytes -= wave.nbytes
                self._cached[index] = wave
        return wave[start:stop]

    def _log_note(self, note: str) -> None:
        """Log a defect of a recording once; the first `_MAX_NOTES` as warnings."""
        if note not in self._notes:
            self._notes.add(note)
            _log.log(logging.WARNING if len(self._notes) <= _MAX_NOTES else logging.INFO, "%s", note)


def read_headers(paths: Sequence[str | Path], *, jobs: int = 4) -> tuple[list[AudioInfo | None], dict[str, str]]:
    """Read the headers of many recordings in threads, None for an unreadable one; also return path -> reason.

    The first second of the audio is decoded too, without which no window of the recording can be read.
    """

    def read(path: str | Path) -> AudioInfo | DataError:
        try:
            info = read_info(path)
            read_audio(info, info.sample_rate, 0, info.sample_rate)
            return info
        except DataError as error:
            return error

    with ThreadPoolExecutor(max(1, jobs)) as executor:
        results = list(executor.map(read, paths))
    failures = {
        str(path): str(result) for path, result in zip(paths, results, strict=True) if isinstance(result, DataError)
    }
    return [None if isinstance(result, DataError) else result for result in results], failures
