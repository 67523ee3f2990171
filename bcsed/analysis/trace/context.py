"""Two traces at one stage, and what a place in its arrays means: seconds, hertz, class, row."""

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
    """Two traces at one stage.

    Parameters
    ----------
    ours, theirs : Trace
    stage : str
    tolerance : float
        What this stage may differ by.
    """

    ours: Trace
    theirs: Trace
    stage: str
    tolerance: float

    @property
    def facts(self) -> dict[str, Any]:
        """What is known of where things lie, from whichever side knows it."""
        return {**self.theirs.facts, **self.ours.facts} if "frontend" in self.ours.facts else {**self.theirs.facts}

    @cached_property
    def frontend(self) -> Frontend | None:
        """How audio becomes a picture, where a side says so."""
        return Frontend(**self.facts["frontend"]) if "frontend" in self.facts else None

    @cached_property
    def band_hz(self) -> npt.NDArray[np.float64]:
        """The middle of each mel band in Hz; empty where the signal is not known."""
        if self.frontend is None:
            return np.empty(0)
        import librosa

        frontend = self.frontend
        edges = librosa.mel_frequencies(frontend.n_mels + 2, fmin=frontend.fmin_hz, fmax=frontend.fmax_hz, htk=False)
        return np.asarray(edges[1:-1], np.float64)

    def band(self, band: int) -> str:
        """Say which band that is."""
        return f"{self.band_hz[band]:,.0f} Hz" if band < len(self.band_hz) else f"band {band}"

    def second(self, frame: float) -> str:
        """Say when a frame of the recording is."""
        if self.frontend is None:
            return f"frame {frame:g}"
        return f"{frame * self.frontend.hop_length / self.frontend.sample_rate:.2f} s"

    def window(self, window: int) -> str:
        """Say which window that is."""
        starts = self.facts.get("starts", ())
        begins = f", which begins at {self.second(starts[window])}" if window < len(starts) else ""
        return f"window {window + 1}{begins}"

    def name(self, k: int) -> str:
        """Return the name of a class."""
        classes = self.facts.get("classes", ())
        return f"class {classes[k]!r}" if k < len(classes) else f"class {k}"

    def place(self, index: Sequence[Any]) -> str:
        """Say where in the sound, the band or the answer an index of the stage's array is."""
        at = [int(value) for value in index]
        starts = self.facts.get("starts", ())
        begin = starts[at[0]] if len(at) > 1 and at[0] < len(starts) else 0
        frontend = self.frontend
        if self.stage == "samples":
            if frontend is None:
                return f"sample {at[0]}"
            return f"{(self.facts.get('first_sample', 0) + at[0]) / frontend.sample_rate:.3f} s"
        if self.stage == "db":
            return f"{self.second(self.facts.get('first_frame', 0) + at[1])}, {self.band(at[0])}"
        if self.stage == "windows":
            return f"{self.second(begin + at[2])}, {self.band(at[1])} ({self.window(at[0])})"
        if self.stage == "picture":
            if frontend is None:
                return f"window {at[0] + 1}, channel {at[1]}, row {at[2]}, column {at[3]}"
            frame = begin + at[2] // frontend.n_mels * (frontend.n_frames // frontend.time_folds) + at[3]
            return f"{self.second(frame)}, {self.band(at[2] % frontend.n_mels)}, channel {at[1]} ({self.window(at[0])})"
        if self.stage == "rows":
            ids = self.facts.get("ids", ())
            return f"row {ids[at[0]]!r}, {self.name(at[1])}" if at[0] < len(ids) else f"row {at[0]}, {self.name(at[1])}"
        if frontend is None or "steps" not in self.facts:
            return f"window {at[0] + 1}, step {at[1]}, {self.name(at[2])}"
        frame = begin + at[1] * frontend.n_frames // self.facts["steps"]
        return f"{self.second(frame)}, {self.name(at[2])} ({self.window(at[0])})"
