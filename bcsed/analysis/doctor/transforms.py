"""Whether one table is the other through a function that only rises, and which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .align import Floats

# Beyond these a probability's logit says nothing.
_INSIDE = (1e-6, 1.0 - 1e-6)
# How far, of the second table's range, a function may miss and still be named.
_NAMED = 2e-3
# From this correlation of ranks on, a class is the same class through a function that rises.
_SAME_RANKS = 0.9999


@dataclass(frozen=True, kw_only=True)
class Transform:
    """A function that makes one table of another.

    Parameters
    ----------
    name : str
        'sigmoid', 'logit', 'scale', 'affine', 'power', 'temperature', 'monotone', 'per class'.
    told : str
        With its parameters.
    misses : float
        By how much at most it misses a value.
    """

    name: str
    told: str
    misses: float


def find_transform(first: Floats, second: Floats, spearman: Floats, tolerance: float) -> Transform | None:
    """Return the function that makes the second table of the first, if there is one that rises.

    Parameters
    ----------
    first, second : ndarray of float64, shape (R, K)
    spearman : ndarray of float64, shape (K,)
        Rank correlation of each class.
    tolerance : float
        What counts as equal: tables that are equal need no function.

    Returns
    -------
    Map or None
    """
    if float(np.abs(first - second).max()) <= tolerance:
        return None
    known = spearman[np.isfinite(spearman)]
    if not known.size or float(known.min()) < 0.99:
        return None
    x, y = first.reshape(-1), second.reshape(-1)
    span = float(np.ptp(y))
    for candidate in (_sigmoid, _logit, _scale, _power, _temperature, _affine):
        found = candidate(x, y)
        if found is not None and found.misses <= _NAMED * span:
            return found
    # Equal values of the first may have become unequal by rounding: among them the order is free.
    risen = y[np.lexsort((y, x))]
    dent = float((np.maximum.accumulate(risen) - risen).max())
    if dent <= _NAMED * span and float(known.min()) >= 0.999:
        return Transform(name="monotone", told="a function that rises throughout and has no simple name", misses=dent)
    if float(known.min()) >= _SAME_RANKS:
        return Transform(
            name="per class", told="another rising function for each class, such as its ranks", misses=np.inf
        )
    return None


def _tried(name: str, told: str, x: Floats, y: Floats, function: Callable[[Floats], Floats]) -> Transform:
    return Transform(name=name, told=told, misses=float(np.abs(function(x) - y).max()))


def _sigmoid(x: Floats, y: Floats) -> Transform | None:
    if y.min() < 0 or y.max() > 1:
        return None
    return _tried("sigmoid", "the sigmoid", x, y, lambda x: 1.0 / (1.0 + np.exp(-np.clip(x, -500, 500))))


def _logit(x: Floats, y: Floats) -> Transform | None:
    if x.min() < 0 or x.max() > 1 or (y.min() >= 0 and y.max() <= 1):
        return None
    inside = (x > _INSIDE[0]) & (x < _INSIDE[1])
    if not inside.any():
        return None
    return _tried("logit", "the logit", x[inside], y[inside], lambda x: np.log(x) - np.log1p(-x))


def _scale(x: Floats, y: Floats) -> Transform | None:
    factor = float((x * y).sum() / max(float(np.square(x).sum()), 1e-300))
    if factor <= 0:
        return None
    return _tried("scale", f"times {factor:.4g}", x, y, lambda x: factor * x)


def _affine(x: Floats, y: Floats) -> Transform | None:
    slope, base = np.polyfit(x, y, 1) if np.ptp(x) > 0 else (0.0, 0.0)
    if slope <= 0:
        return None
    return _tried("affine", f"times {slope:.4g} and {base:+.4g}", x, y, lambda x: slope * x + base)


def _power(x: Floats, y: Floats) -> Transform | None:
    if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) > 1:
        return None
    inside = (x > 1e-3) & (x < 1 - 1e-3) & (y > 1e-6) & (y < _INSIDE[1])
    if inside.sum() < 3:
        return None
    log_x, log_y = np.log(x[inside]), np.log(y[inside])
    exponent = float((log_x * log_y).sum() / np.square(log_x).sum())
    return _tried("power", f"to the power {exponent:.4g}", x, y, lambda x: x**exponent)


def _temperature(x: Floats, y: Floats) -> Transform | None:
    if min(x.min(), y.min()) < 0 or max(x.max(), y.max()) > 1:
        return None
    inside = (x > 1e-4) & (x < 1 - 1e-4) & (y > 1e-4) & (y < 1 - 1e-4)
    if inside.sum() < 3:
        return None
    logit_x, logit_y = (np.log(v[inside]) - np.log1p(-v[inside]) for v in (x, y))
    if np.ptp(logit_x) == 0:
        return None
    slope, base = map(float, np.polyfit(logit_x, logit_y, 1))
    if slope <= 0:
        return None
    told = f"its logits divided by a temperature of {1 / slope:.4g}" + (f" and {base:+.3g}" if abs(base) > 1e-2 else "")

    def warm(x: Floats) -> Floats:
        clipped = np.clip(x, 1e-12, 1 - 1e-12)
        logits = slope * (np.log(clipped) - np.log1p(-clipped)) + base
        warmed: Floats = 1.0 / (1.0 + np.exp(-logits))
        return warmed

    return _tried("temperature", told, x, y, warm)
