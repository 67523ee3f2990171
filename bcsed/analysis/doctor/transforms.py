"""Find an increasing function that maps one table to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .align import Floats

# The largest error of a named function, as a share of the second table's range.
_MAX_ERROR = 2e-3
# From this rank correlation on, a class is an increasing function of the same class.
_SAME_RANKS = 0.9999


@dataclass(frozen=True, kw_only=True)
class Transform:
    """An increasing function that maps one table to another."""

    # 'sigmoid', 'logit', 'scale', 'affine', 'power', 'temperature', 'monotone' or 'per class'
    name: str
    description: str  # with its parameters
    error: float  # the largest


# Name, description and function of a candidate, and which values it applies to.
_Fit: TypeAlias = "tuple[str, str, Callable[[Floats], Floats], slice | npt.NDArray[np.bool_]]"


def find_transform(first: Floats, second: Floats, spearman: Floats, tolerance: float) -> Transform | None:
    """Return the increasing function that maps the first table to the second, if there is one.

    Parameters
    ----------
    first, second : ndarray of float64, shape (R, K)
    spearman : ndarray of float64, shape (K,)
        Rank correlation of each class.
    tolerance : float
        Tables that differ less are equal: no function is returned.
    """
    if float(np.abs(first - second).max()) <= tolerance:
        return None
    correlations = spearman[np.isfinite(spearman)]
    if not correlations.size or float(correlations.min()) < 0.99:
        return None
    x, y = first.reshape(-1), second.reshape(-1)
    max_error = _MAX_ERROR * float(np.ptp(y))
    for name, description, function, inside in _fits(x, y):
        error = float(np.abs(function(x[inside]) - y[inside]).max())
        if error <= max_error:
            return Transform(name=name, description=description, error=error)
    # Rounding may have made equal values of the first table unequal: among them any order is accepted.
    sorted_y = y[np.lexsort((y, x))]
    error = float((np.maximum.accumulate(sorted_y) - sorted_y).max())
    if error <= max_error and float(correlations.min()) >= 0.999:
        return Transform(name="monotone", description="without a simple name", error=error)
    if float(correlations.min()) >= _SAME_RANKS:
        description = "a different one for each class, such as its ranks"
        return Transform(name="per class", description=description, error=np.inf)
    return None


def _fits(x: Floats, y: Floats) -> Iterator[_Fit]:
    everything = slice(None)
    x_is_probability, y_is_probability = (v.min() >= 0 and v.max() <= 1 for v in (x, y))
    if y_is_probability:
        yield "sigmoid", "the sigmoid", _sigmoid, everything
    inside = (x > 1e-6) & (x < 1 - 1e-6)
    if x_is_probability and not y_is_probability and inside.any():
        yield "logit", "the logit", _logit, inside
    factor = float((x * y).sum() / max(float(np.square(x).sum()), 1e-300))
    if factor > 0:
        yield "scale", f"times {factor:.4g}", lambda v: factor * v, everything
    if x_is_probability and y_is_probability:
        yield from _probability_fits(x, y)
    slope, base = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, 0.0)
    if slope > 0:
        yield "affine", f"times {slope:.4g} and {base:+.4g}", lambda v: slope * v + base, everything


def _probability_fits(x: Floats, y: Floats) -> Iterator[_Fit]:
    # Close to 0 and 1, rounding hides the exponent and the temperature.
    inside = (x > 1e-3) & (x < 1 - 1e-3) & (y > 1e-6) & (y < 1 - 1e-6)
    if inside.sum() >= 3:
        log_x, log_y = np.log(x[inside]), np.log(y[inside])
        exponent = float((log_x * log_y).sum() / np.square(log_x).sum())
        yield "power", f"to the power {exponent:.4g}", lambda v: v**exponent, slice(None)
    inside = (x > 1e-4) & (x < 1 - 1e-4) & (y > 1e-4) & (y < 1 - 1e-4)
    logit_x, logit_y = _logit(x[inside]), _logit(y[inside])
    if inside.sum() < 3 or np.ptp(logit_x) == 0:
        return
    slope, base = map(float, np.polyfit(logit_x, logit_y, 1))
    if slope > 0:
        shift = f" and {base:+.3g}" if abs(base) > 1e-2 else ""
        description = f"its logits divided by a temperature of {1 / slope:.4g}{shift}"
        yield (
            "temperature",
            description,
            lambda v: _sigmoid(slope * _logit(np.clip(v, 1e-12, 1 - 1e-12)) + base),
            slice(None),
        )


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -500, 500)))


def _logit(x: Floats) -> Floats:
    return np.log(x) - np.log1p(-x)
