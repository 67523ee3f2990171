"""Select pseudolabels from a teacher's probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ConfigError
from .table import Half

# The smallest probability that is not 0 in float16.
_LEAST = 6e-8


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The rule that selects pseudolabels."""

    #: Probabilities of at least a threshold; of those of at least `floor`, the `top_n` highest of each class (top); or
    #: all probabilities (soft).
    kind: str = "threshold"
    threshold: float = 0.5  #: for every class, in (0, 1)
    thresholds: Mapping[str, float] = field(default_factory=dict)  #: exceptions, by class
    floor: float = 0.1  #: in [0, 1)
    top_n: int = 0  #: maximum number of rows of each class; also limits 'threshold' if it is above 0
    power: float = 1.0  #: exponent of selected probabilities; above 1 it sharpens

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
        """Return the fields that have an effect, as plain values."""
        used = {"kind": self.kind, "power": self.power}
        if self.kind == "threshold":
            used |= {"threshold": self.threshold, "thresholds": dict(self.thresholds)}
        if self.kind == "top":
            used |= {"floor": self.floor}
        return used | ({"top_n": self.top_n} if self.top_n and self.kind != "soft" else {})


def select(scores: npt.NDArray[np.float32], classes: Sequence[str], selection: Selection) -> Half:
    """Return the values of a table, (R, K): probabilities to the power where they are selected, else 0.

    ConfigError if a threshold names an unknown class.
    """
    unknown = sorted(set(selection.thresholds) - set(classes))
    if unknown:
        raise ConfigError(f"a threshold is given for {unknown[0]!r}, which is not among the {len(classes)} classes.")
    if selection.kind == "soft":
        selected = np.ones(scores.shape, bool)
    elif selection.kind == "threshold":
        selected = scores >= np.array([selection.thresholds.get(name, selection.threshold) for name in classes])
    else:
        selected = scores >= selection.floor
    if selection.kind != "soft" and selection.top_n:
        # Of equal scores, earlier rows come first.
        order = np.argsort(-np.where(selected, scores, -1.0), axis=0, kind="stable")
        highest = np.zeros_like(selected)
        np.put_along_axis(highest, order[: selection.top_n], True, axis=0)
        selected &= highest
    powered = np.maximum(scores.astype(np.float64) ** selection.power, 0 if selection.kind == "soft" else _LEAST)
    return np.where(selected, powered, 0.0).astype(np.float16)
