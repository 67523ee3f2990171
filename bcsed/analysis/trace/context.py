"""Two traces at one stage, and the meaning of an array index: seconds, hertz, class, row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ...config.contract import Frontend
from .stages import Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class StageContext:
    """Two traces at one stage."""

    ours: Trace
    theirs: Trace
    stage: str
    tolerance: float

    @property
    def facts(self) -> dict[str, Any]:
        """The facts of the trace that has a front end."""
        return {**self.theirs.facts, **(self.ours.facts if "frontend" in self.ours.facts else {})}

    @cached_property
    def frontend(self) -> Frontend | None:
        """The front end, if a trace states it."""
        return Frontend(**self.facts["frontend"]) if "frontend" in self.facts else None

    @cached_property
    def band_hz(self) -> npt.NDArray[np.float64]:
        """The centre of each mel band in Hz; empty without a front end."""
        if self.frontend is None:
            return np.empty(0)
        import librosa

        front = self.frontend
        edges = librosa.mel_frequencies(front.n_mels + 2, fmin=front.fmin_hz, fmax=front.fmax_hz, htk=False)
        return np.asarray(edges[1:-1], np.float64)

    def band(self, band: int) -> str:
        """Return the name of a mel band."""
        return f"{self.band_hz[band]:,.0f} Hz" if band < len(self.band_hz) else f"band {band}"

    def time(self, frame: float) -> str:
        """Return the time of a frame of the recording."""
        front = self.frontend
        return f"frame {frame:g}" if front is None else f"{frame * front.hop_length / front.sample_rate:.2f} s"

    def window_start(self, window: int) -> int:
        """Return the first frame of a window in the recording, 0 if unknown."""
        starts = self.facts.get("starts", ())
        return int(starts[window]) if window < len(starts) else 0

    def class_name(self, k: int) -> str:
        """Return the name of a class."""
        classes = self.facts.get("classes", ())
        return f"class {classes[k]!r}" if k < len(classes) else f"class {k}"

    def locate(self, index: Sequence[Any]) -> str:
        """Return the time, frequency, class or row of an index of the stage's array."""
        at, front = [int(value) for value in index], self.frontend
        if self.stage == "samples":
            first = self.facts.get("first_sample", 0)
            return f"sample {at[0]}" if front is None else f"{(first + at[0]) / front.sample_rate:.3f} s"
        if self.stage == "db":
            return f"{self.time(self.facts.get('first_frame', 0) + at[1])}, {self.band(at[0])}"
        if self.stage == "rows":
            ids = self.facts.get("ids", ())
            return f"row {repr(ids[at[0]]) if at[0] < len(ids) else at[0]}, {self.class_name(at[1])}"
        start, window = self.window_start(at[0]), f"window {at[0] + 1}"
        if at[0] < len(self.facts.get("starts", ())):
            window += f", which starts at {self.time(start)}"
        if self.stage == "windows":
            return f"{self.time(start + at[2])}, {self.band(at[1])} ({window})"
        if self.stage == "image":
            if front is None:
                return f"window {at[0] + 1}, channel {at[1]}, row {at[2]}, column {at[3]}"
            frame = start + at[2] // front.n_mels * (front.n_frames // front.time_folds) + at[3]
            return f"{self.time(frame)}, {self.band(at[2] % front.n_mels)}, channel {at[1]} ({window})"
        if front is None or "steps" not in self.facts:
            return f"window {at[0] + 1}, time step {at[1]}, {self.class_name(at[2])}"
        frame = start + at[1] * front.n_frames // self.facts["steps"]
        return f"{self.time(frame)}, {self.class_name(at[2])} ({window})"


def describe_shapes(names: Sequence[str], ours: Sequence[int], theirs: Sequence[int]) -> str:
    """Return the axes that differ: "5 rows instead of 7"."""
    axes = zip(names, ours, theirs, strict=True)
    return ", ".join(f"{b} {name} instead of {a}" for name, a, b in axes if a != b)


def describe_constant(x: npt.NDArray[Any], y: npt.NDArray[Any]) -> str:
    """Return how many values of the second are infinite or NaN, or that only they are one value; '' if neither."""
    n_infinite, n_nan = int(np.isinf(y).sum()), int(np.isnan(y).sum())
    if n_infinite:
        return f"{n_infinite} of {y.size} values are infinite: an overflow, as in half precision"
    if n_nan:
        return f"{n_nan} of {y.size} values are NaN: an overflow in half precision, or 0 / 0"
    return f"all values are {y.flat[0] + 0.0:.4g}" if y.size > 1 and np.ptp(y) == 0 and np.ptp(x) > 0 else ""
