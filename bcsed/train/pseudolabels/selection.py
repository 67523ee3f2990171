"""Which of a teacher's answers are believed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError
from .table import Half

# The smallest probability that float16 tells from nothing.
_LEAST = 6e-8


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of a teacher's answers are believed.

    Parameters
    ----------
    kind : {'threshold', 'top', 'soft'}
        Answers of at least a threshold; of those of at least `floor`, the `top_n` highest of each class;
        or all of them, as they are.
    threshold : float in (0, 1)
        For every class.
    thresholds : mapping of str to float
        Exceptions, by class.
    floor : float in [0, 1)
    top_n : int
        Rows kept of each class at most; with 'threshold' too, where it is above 0.
    power : float > 0
        What the probabilities that are kept are raised to; above 1 it sharpens.
    """

    kind: str = "threshold"
    threshold: float = 0.5
    thresholds: Mapping[str, float] = field(default_factory=dict)
    floor: float = 0.1
    top_n: int = 0
    power: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("threshold", "top", "soft"):
            raise ConfigError(f"the selection must be one of threshold, top, soft; got {self.kind!r}.")
        for name, value in {"the threshold": self.threshold, **self.thresholds}.items():
            if not 0 < value < 1:
                raise ConfigError(f"{name}: a threshold must be in (0, 1), got {value:g}.")
        if not 0 <= self.floor < 1:
            raise ConfigError(f"floor must be in [0, 1), got {self.floor:g}.")
        if self.top_n < 0 or (self.kind == "top" and self.top_n < 1):
            raise ConfigError(f"top_n must be at least 1 row per class, got {self.top_n}.")
        if not 0 < self.power < float("inf"):
            raise ConfigError(f"power must be above 0, got {self.power:g}.")

    def describe(self) -> dict[str, Any]:
        """Return what of it has an effect, as plain values."""
        read = {
            "threshold": ("threshold", "thresholds", *(("top_n",) if self.top_n else ())),
            "top": ("floor", "top_n"),
            "soft": (),
        }[self.kind]
        told = {name: getattr(self, name) for name in ("kind", *read, "power")}
        plain: dict[str, Any] = json.loads(
            json.dumps({k: dict(v) if k == "thresholds" else v for k, v in told.items()})
        )
        return plain


def select(scores: npt.NDArray[np.float32], classes: Sequence[str], selection: Selection) -> Half:
    """Return the values of a table: probabilities to the power where they are believed, else 0.

    Parameters
    ----------
    scores : ndarray, shape (R, K)
        Probabilities.
    classes : sequence of K str
    selection : Selection

    Returns
    -------
    ndarray of float16, shape (R, K)

    Raises
    ------
    ConfigError
        If a threshold is given for a class that there is none of.
    """
    unknown = sorted(set(selection.thresholds) - set(classes))
    if unknown:
        raise ConfigError(f"a threshold is given for {unknown[0]!r}, which is not among the {len(classes)} classes.")
    if selection.kind == "soft":
        kept = np.ones(scores.shape, bool)
    elif selection.kind == "threshold":
        kept = scores >= np.array([selection.thresholds.get(name, selection.threshold) for name in classes])
    else:
        kept = scores >= selection.floor
    if selection.kind != "soft" and selection.top_n:
        # Of equal scores the earlier rows.
        order = np.argsort(-np.where(kept, scores, -1.0), axis=0, kind="stable")
        highest = np.zeros_like(kept)
        np.put_along_axis(highest, order[: selection.top_n], True, axis=0)
        kept &= highest
    powered = np.maximum(scores.astype(np.float64) ** selection.power, 0 if selection.kind == "soft" else _LEAST)
    return np.where(kept, powered, 0.0).astype(np.float16)
