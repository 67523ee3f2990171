"""The stages of a prediction as arrays, and their npz file.

=========  ==============  ==============================================================
stage      shape           content
=========  ==============  ==============================================================
samples    (n,)            mono samples at the network's sample rate
db         (F, frames)     log-mel spectrogram of the recording (dB)
windows    (W, F, T)       windows of it (dB): the input of the exported graph
image      (W, C, H, W')   floored, scaled, with deltas, folded: the input of the backbone
logits     (W, t, K)       and ``attention`` of the same shape
rows       (R, K)          probabilities
=========  ==============  ==============================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...config.versions import upgrade
from ...errors import ConfigError, DataError
from ...files import atomic_write, check_schema, read_errors, require_own_file

Array = npt.NDArray[Any]

# In the order of computation, with the number of axes.
STAGES: Mapping[str, int] = {"samples": 1, "db": 2, "windows": 3, "image": 4, "logits": 3, "attention": 3, "rows": 2}
# Files of schema 1 are unnumbered, with other names of stages, and "signal" for "frontend" and "rows" for "windowing".
SCHEMA = 2
_FIRST_NAMES = {"picture": "image", "what": "logits", "when": "attention"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """The arrays of one recording, by stage."""

    arrays: Mapping[str, Array]  # in the order of `STAGES`; those of another pipeline may lack some
    # JSON values: the pipeline's name; of bcsed also recording, bundle, classes, front end, start of windows and rows
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name in messages."""
        return str(self.facts["name"])

    def table(self) -> pd.DataFrame:
        """Return a line per stage: shape, first 12 digits of the SHA-256, range, mean, deviation, non-finite values."""
        lines = []
        for stage, values in self.arrays.items():
            finite = values[np.isfinite(values)].astype(np.float64)
            described = finite if finite.size else np.array([np.nan])
            lines.append(
                {
                    "stage": stage,
                    "shape": "x".join(map(str, values.shape)),
                    "sha256": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12],
                    "min": described.min(),
                    "mean": described.mean(),
                    "max": described.max(),
                    "std": described.std(),
                    "not finite": values.size - finite.size,
                }
            )
        table: pd.DataFrame = pd.DataFrame(lines)
        return table


def from_arrays(stages: Mapping[str, Any], name: str = "the other pipeline") -> Trace:
    """Make a trace from arrays of another program, which has this name in messages.

    `stages` are some of the `STAGES`, in the shapes of the table above; further leading axes of length 1 are removed.
    The earlier names ``picture``, ``what`` and ``when`` are accepted.

    Raises
    ------
    ConfigError, DataError
        If a stage is unknown, or there are no stages; if an array has no numbers, is empty, or has other axes.

    Examples
    --------
    >>> from_arrays({"samples": [[0.0, 0.5, 0.0]]}, "my notebook").arrays["samples"].shape
    (3,)
    """
    stages = {_FIRST_NAMES.get(stage, stage): values for stage, values in stages.items()}
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        problem = f"there is no stage {unknown[0]!r}" if unknown else "no stage is given"
        raise ConfigError(f"{problem}; the stages are {', '.join(STAGES)}.")
    arrays = {stage: _to_array(stage, stages[stage], n_axes) for stage, n_axes in STAGES.items() if stage in stages}
    return Trace(arrays=arrays, facts={"name": name})


def _to_array(stage: str, values: Any, n_axes: int) -> Array:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise DataError(f"stage {stage!r} must contain numbers, got {array.dtype}.")
    while array.ndim > n_axes and array.shape[0] == 1:
        array = array[0]
    if array.ndim != n_axes or not array.size:
        raise DataError(f"stage {stage!r} must have {n_axes} axes and not be empty; got the shape {np.shape(values)}.")
    return array


def write(trace: Trace, path: str | Path) -> None:
    """Write a trace as npz without pickles; errors as `bcsed.files.atomic_write`."""
    require_own_file(Path(path), "facts.npy", "a trace")
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        facts = np.array(json.dumps({"schema": SCHEMA, **trace.facts}))
        contents: dict[str, Any] = {"facts": facts, **trace.arrays}
        np.savez_compressed(stream, **contents)


def read(path: str | Path) -> Trace:
    """Read a trace of `write`, or any npz of arrays with the names of stages.

    Raises
    ------
    DataError
        If the file does not exist, is damaged, or contains pickles or an unknown stage.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such trace; `bcsed trace` or numpy.savez writes one.")
    form = "npz without pickles"
    with read_errors(path, form), path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "facts"}
        facts = json.loads(str(stored["facts"])) if "facts" in stored.files else {"name": path.name}
    try:
        facts = _upgrade(facts, path)
        return Trace(arrays=from_arrays(arrays, facts["name"]).arrays, facts=facts)
    except (ConfigError, DataError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a trace: {error}") from error


def _upgrade(facts: dict[str, Any], path: Path) -> dict[str, Any]:
    schema = check_schema(facts, path, (1, SCHEMA))
    facts = {key: value for key, value in facts.items() if key != "schema"}
    if schema == 1 and "signal" in facts:
        facts |= upgrade({"signal": facts.pop("signal")})
    if schema == 1 and "rows" in facts:
        facts["windowing"] = facts.pop("rows")
    return facts
