"""The stages of a prediction as arrays, and how they lie on disk.

=========  ==============  ==========================================================================
stage      shape           what it is
=========  ==============  ==========================================================================
samples    (n,)            mono, at the network's sample rate
db         (F, frames)     dB picture of the recording
windows    (W, F, T)       slices of it, in dB: what the exported graph is given
picture    (W, C, H, W')   floored, scaled, with slopes, folded: what the backbone is given
what       (W, t, K)       logits
when       (W, t, K)       attention
rows       (R, K)          probabilities
=========  ==============  ==========================================================================
"""

from __future__ import annotations

import hashlib
import json
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...errors import ConfigError, DataError
from ...files import atomic_write, read_errors

Array = npt.NDArray[Any]

# In the order in which they are made, each with its number of axes.
STAGES: Mapping[str, int] = types.MappingProxyType(
    {"samples": 1, "db": 2, "windows": 3, "picture": 4, "logits": 3, "attention": 3, "rows": 2}
)
_FACTS = "facts"


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """What one recording became, stage by stage.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        By the stage's name, in the order of `STAGES`; a foreign pipeline may lack some.
    facts : mapping
        Plain values: ``name`` of the pipeline; for bcsed's own also recording, bundle, classes, signal and where
        windows and rows begin.
    """

    arrays: Mapping[str, Array]
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.facts["name"])

    def table(self) -> pd.DataFrame:
        """Return a line per stage: shape, SHA-256 (12 digits of it), range, mean, deviation, and what is no number."""
        lines = []
        for stage, values in self.arrays.items():
            finite = values[np.isfinite(values)].astype(np.float64)
            few = finite if finite.size else np.array([np.nan])
            lines.append(
                {
                    "stage": stage,
                    "shape": "x".join(map(str, values.shape)),
                    "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12],
                    "min": few.min(),
                    "mean": few.mean(),
                    "max": few.max(),
                    "std": few.std(),
                    "not finite": values.size - finite.size,
                }
            )
        table: pd.DataFrame = pd.DataFrame(lines)
        return table


def from_arrays(stages: Mapping[str, Any], name: str = "the other pipeline") -> Trace:
    """Make a trace of arrays that another program made.

    Parameters
    ----------
    stages : mapping of str to array
        By the names in `STAGES`, any of them; the shapes are those of the table above, and a leading axis of length
        1 too many is taken off.
    name : str
        What messages call it.

    Raises
    ------
    ConfigError
        If a stage has another name, or none is given.
    DataError
        If an array holds no numbers, is empty, or has another number of axes.

    Examples
    --------
    >>> from_arrays({"samples": [[0.0, 0.5, 0.0]]}, "my notebook").arrays["samples"].shape
    (3,)
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        told = f"there is no stage {unknown[0]!r}" if unknown else "no stage is given"
        raise ConfigError(f"{told}; the stages are {', '.join(STAGES)}.")
    arrays = {}
    for stage, axes in STAGES.items():
        if stage in stages:
            arrays[stage] = _array(stage, stages[stage], axes)
    return Trace(arrays=types.MappingProxyType(arrays), facts={"name": name})


def _array(stage: str, given: Any, axes: int) -> Array:
    values = np.asarray(given)
    if values.dtype.kind not in "fiu":
        raise DataError(f"the stage {stage!r} holds {values.dtype} where numbers belong.")
    while values.ndim > axes and values.shape[0] == 1:
        values = values[0]
    if values.ndim != axes or not values.size:
        raise DataError(f"the stage {stage!r} has {axes} axes and is not empty; got the shape {np.shape(given)}.")
    return values


def write(trace: Trace, path: str | Path) -> None:
    """Write a trace as npz, without a pickle, whole or not at all.

    Raises
    ------
    DataError
        If the disk refuses.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        held: dict[str, Any] = {_FACTS: np.array(json.dumps(dict(trace.facts))), **trace.arrays}
        np.savez_compressed(stream, **held)


def read(path: str | Path) -> Trace:
    """Read a trace: one that `write` wrote, or any npz of arrays by the names of stages.

    Raises
    ------
    DataError
        If there is no such file, or it is damaged, or holds pickles or something that is no stage.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such trace; `bcsed trace` or numpy.savez makes one.")
    with (
        read_errors(path, "npz without pickles"),
        path.open("rb") as stream,
        np.load(stream, allow_pickle=False) as stored,
    ):
        arrays = {name: stored[name] for name in stored.files if name != _FACTS}
        facts = json.loads(str(stored[_FACTS])) if _FACTS in stored.files else {"name": path.name}
    try:
        made = from_arrays(arrays, str(facts["name"]))
    except (ConfigError, DataError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no trace: {error}") from error
    return Trace(arrays=made.arrays, facts=facts)
