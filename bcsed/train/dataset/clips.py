"""Windows of recordings, decoded once where memory allows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ...audio.decode import AudioInfo, read_audio, read_info
from ...audio.spectrogram import cut_excerpt
from ...config.contract import Frontend
from ...config.recipe import Data
from ...errors import DataError

Wave = npt.NDArray[np.float32]

# Longer recordings are read in part each time rather than kept.
_CACHED_S = 120.0


class Clip(NamedTuple):
    """A window of sound (n,), its targets and weights (K,), and a teacher's embedding of it (D,)."""

    wave: Wave
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    vector: npt.NDArray[np.float32]


class ClipReader:
    """Windows of recordings, with as many decoded recordings kept in memory as are allowed.

    Parameters
    ----------
    recordings : sequence of audio.AudioInfo
    signal : Frontend
    data : Data
        Its `pad` here; the crop is given with each clip.
    cache_gb : float
        Memory for decoded recordings of up to two minutes; it changes the speed and nothing else.
    marks : sequence of tuple of float, optional
        Seconds of each recording around which a 'marked' window is cut.
    """

    def __init__(
        self,
        recordings: Sequence[AudioInfo],
        frontend: Frontend,
        data: Data,
        cache_gb: float = 0.0,
        marks: Sequence[tuple[float, ...]] | None = None,
    ) -> None:
        self.recordings, self.frontend, self.data = recordings, frontend, data
        self.marks = marks
        self._left = int(cache_gb * 2**30)
        self._kept: dict[int, Wave] = {}
        self._lock = threading.Lock()

    def wave(self, place: int, crop: str, rng: np.random.Generator) -> Wave:
        """Return one window of a recording, with the audio that its outer frames see.

        Parameters
        ----------
        place : int
            Which recording.
        crop : {'random', 'first', 'centre', 'marked'}
        rng : Generator
            Decides where a random window begins.

        Returns
        -------
        ndarray of float32, shape (signal.clip_samples,)
            Frames begin on the recording's own frame grid. A recording shorter than the window stands
            anywhere in it, at its start or in its middle, as `crop` says.
        """
        return self.window(place, self.first_frame(place, crop, rng))

    def first_frame(self, place: int, crop: str, rng: np.random.Generator) -> int:
        """Return where a window begins, in frames; below 0 where the recording is shorter than the window."""
        found, frontend = self.recordings[place], self.frontend
        room = -(-found.length(frontend.sample_rate) // frontend.hop_length) - frontend.n_frames
        marks = self.marks[place] if self.marks is not None and crop == "marked" else ()
        if marks and room >= 0:
            centre = marks[int(rng.integers(len(marks)))] * frontend.sample_rate / frontend.hop_length
            return int(np.clip(round(centre) - frontend.n_frames // 2, 0, room))
        if crop in ("random", "marked"):
            return int(rng.integers(0, room, endpoint=True)) if room >= 0 else -int(rng.integers(0, -room + 1))
        return 0 if crop == "first" else room // 2

    def window(self, place: int, first: int) -> Wave:
        """Return the samples that the window from frame `first` on sees, ``(signal.clip_samples,)``."""
        frontend = self.frontend
        begin = first * frontend.hop_length - frontend.n_fft // 2
        return self.samples(place, begin, begin + frontend.clip_samples)

    def samples(self, place: int, begin: int, end: int) -> Wave:
        """Return samples `begin` to `end` of a recording; beyond its ends as `data.pad` says.

        A recording is repeated only if it is shorter than the window that is asked for.
        """
        n = self.recordings[place].length(self.frontend.sample_rate)
        if self.data.pad == "repeat" and -(-n // self.frontend.hop_length) < self.frontend.n_frames:
            return self._read(place, 0, n).take(np.arange(begin, end), mode="wrap")
        left, right = max(begin, 0), min(end, n)
        # A copy: what is kept must not be changed by whoever is given a part of it.
        return np.array(cut_excerpt(self._read(place, left, right), begin, end, left))

    def _read(self, place: int, start: int, stop: int) -> Wave:
        found, rate = self.recordings[place], self.frontend.sample_rate
        kept = self._kept.get(place)
        if kept is not None:
            return kept[start:stop]
        size = 4 * found.length(rate)
        with self._lock:
            keep = found.duration_s <= _CACHED_S and size <= self._left
            if keep:
                self._left -= size
        if not keep:
            return read_audio(found, rate, start, stop)[0]
        wave = read_audio(found, rate)[0]
        self._kept[place] = wave
        return wave[start:stop]


def read_headers(
    paths: Sequence[str | Path], *, jobs: int = 4, progress: Callable[[int, int], None] | None = None
) -> tuple[list[AudioInfo | None], dict[str, str]]:
    """Read the headers of many recordings before any of them is needed.

    Returns
    -------
    infos : list of audio.AudioInfo or None
        None where a recording cannot be read.
    failures : dict
        Path -> why.
    """

    def one(path: str | Path) -> AudioInfo | DataError:
        try:
            return read_info(path)
        except DataError as error:
            return error

    infos: list[AudioInfo | None] = []
    failures: dict[str, str] = {}
    with ThreadPoolExecutor(max(1, jobs)) as executor:
        for path, found in zip(paths, executor.map(one, paths), strict=True):
            if isinstance(found, DataError):
                failures[str(path)] = str(found)
                infos.append(None)
            else:
                infos.append(found)
            if progress is not None:
                progress(len(infos), len(paths))
    return infos, failures
