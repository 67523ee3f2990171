"""Functions of the scores that may be the difference of two aligned tables (R, K)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ..explained import MIN_VALUES, Candidate, Floats, explained_share

# A function without a name is accepted if it predicts values between its neighbours: this share of the difference.
_MIN_PREDICTED = 0.99
# Values of single precision are near the digits of their text.
_SINGLE = 1e-7
# Values of a class from which it is a function of its own.
_MIN_ROWS = 12


def find_functions(x: Floats, y: Floats) -> Iterator[tuple[str, Candidate]]:
    """Yield functions with a short name for `Comparison.cause`, the plain ones first.

    The description completes "the second is"; it contains ``{first}`` for the first table.
    """
    inside = (x > 1e-6) & (x < 1 - 1e-6)
    x_is_probability, y_is_probability = (bool(v.min() >= 0 and v.max() <= 1) for v in (x, y))
    increasing, falling = "an increasing function of {first}, ", "a falling function of {first}, "

    def candidate(name: str, description: str, fitted: Floats) -> tuple[str, Candidate]:
        return name, Candidate(description, fitted, y, x)

    if np.ptp(y) == 0 and y.size > 1:
        yield candidate("constant", f"{y.flat[0]:.4g} everywhere", y)
        return
    if y_is_probability:
        yield candidate("sigmoid", f"{increasing}the sigmoid", expit(x))
    if x_is_probability and inside.mean() > 0.5:
        # Other values are beyond the precision of the first table.
        logits = np.where(inside, logit(np.clip(x, 1e-6, 1 - 1e-6)), y)
        yield candidate("logit", f"{increasing}the logit", logits)
        log = np.where(inside, np.log(np.clip(x, 1e-6, 1)), y)
        yield candidate("logarithm", f"{increasing}the natural logarithm", log)
    if x_is_probability:
        yield candidate("complement", f"{falling}one minus it (1 - p)", 1 - x)
    yield candidate("negative", f"{falling}its negative", -x)
    yield from ((name, Candidate(text, fitted, y, x)) for name, text, fitted in _roundings(x, y))
    low, high = float(y.min()), float(y.max())
    cuts = ((f"below {low:.4g}", x < low - _SINGLE), (f"above {high:.4g}", x > high + _SINGLE))
    bounds = [text for text, cut in cuts if cut.any()]
    if bounds and y.size >= MIN_VALUES:
        yield candidate("clip", f"{{first}} cut off {' and '.join(bounds)}", np.clip(x, low, high))
    if x.shape[1] > 1 and np.allclose(y.sum(1), 1, atol=1e-3):
        odds = np.exp(logit(np.clip(x, 1e-12, 1 - 1e-12))) if x_is_probability else np.exp(x - x.max(1, keepdims=True))
        for parts, text in ((odds, "after the softmax over the classes"), (x, "with each row divided by its sum")):
            yield candidate("softmax", f"{{first}} {text}", parts / np.maximum(parts.sum(1, keepdims=True), 1e-30))
    if y.size >= MIN_VALUES:
        yield from ((name, Candidate(text, fitted, y, x)) for name, text, fitted in _fits(x, y))


def _roundings(x: Floats, y: Floats) -> Iterator[tuple[str, str, Floats]]:
    """Yield the second table as a rounding of the first, if all its values are on the grid, and the reverse."""
    for values, other, text in ((y, x, "{first}"), (x, y, "more exact than {first}, which is")):
        for digits in (0, 1, 2, 3, 4):
            step = 10.0**-digits
            near = np.abs(values - np.round(values, digits)).max() <= _SINGLE
            if near and np.abs(values - other).max() <= 0.501 * step and len(np.unique(values)) > 1:
                yield "rounding", f"{text} rounded to {digits} digits", y
                break
        levels = np.round(values * 255)
        if np.abs(values * 255 - levels).max() <= 1e-5 and np.abs(values - other).max() <= 0.501 / 255:
            yield "rounding", f"{text} in 256 levels (8 bits)", y
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        # As a number, or as the text of half precision, of four digits.
        text_of = half.reshape(-1)[:4096].astype(str).astype(np.float64)
        is_half = (half == values).all() or np.abs(text_of - values.reshape(-1)[:4096]).max() <= 1e-9
        if is_half and (np.abs(values - other) <= 1e-3 * np.abs(other) + 1e-7).all():
            yield "rounding", f"{text} in half precision", y


def _fits(x: Floats, y: Floats) -> Iterator[tuple[str, str, Floats]]:
    """Yield functions with fitted parameters, then those without a name."""
    increasing, falling = "an increasing function of {first}, ", "a falling function of {first}, "
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    factor = float((x * y).sum() / max(float(np.square(x).sum()), 1e-300))
    if factor > 0:
        yield "scale", f"{increasing}times {factor:.4g}", factor * x
    if min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1:
        yield from _probability_fits(x, y)
    slope, base = map(float, np.polyfit(flat_x, flat_y, 1)) if np.ptp(x) > 0 else (0.0, 0.0)
    kind = increasing if slope > 0 else falling
    if slope:
        yield "affine", f"{kind}times {slope:.4g} and {base:+.4g}", slope * x + base
    ranks = pd.DataFrame(x).rank().to_numpy(np.float64)
    if len(x) >= _MIN_ROWS and np.ptp(ranks):
        slope, base = map(float, np.polyfit(ranks.reshape(-1), flat_y, 1))
        if slope > 0:
            yield "ranks", f"{increasing}its ranks within each class", slope * ranks + base
    predicted, sign = _predict(flat_x, flat_y)
    if sign and _is_predicted(flat_x, flat_y, predicted):
        yield "monotone", f"{increasing if sign > 0 else falling}without a simple name", y
    elif len(x) >= _MIN_ROWS:
        by_class = [_predict(a, b) for a, b in zip(x.T, y.T, strict=True)]
        signs = {sign for _, sign in by_class}
        if signs in ({1}, {-1}) and _is_predicted(x, y, np.stack([values for values, _ in by_class], 1)):
            kind = increasing if signs == {1} else falling
            yield "per class", f"{kind}a different one for each class", y


def _predict(x: Floats, y: Floats) -> tuple[Floats, int]:
    """Predict each value of y (n,) from its neighbours in the order of x; also 1 if y increases, -1 if it falls, 0."""
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    mean = np.bincount(inverse, weights=y) / counts
    if len(values) < _MIN_ROWS:
        return np.full(len(y), np.nan), 0
    predicted = mean.copy()
    middle = slice(1, -1)
    weight = (values[1:-1] - values[:-2]) / (values[2:] - values[:-2])
    predicted[middle] = (1 - weight) * mean[:-2] + weight * mean[2:]
    steps = np.diff(mean)
    total = float(np.abs(steps).sum())
    # A function keeps one direction.
    for sign in (1, -1):
        if total > 0 and float(np.maximum(-sign * steps, 0).sum()) <= 1e-3 * total:
            return predicted[inverse], sign
    return predicted[inverse], 0


def _is_predicted(x: Floats, y: Floats, predicted: Floats) -> bool:
    share = explained_share(Candidate("", predicted, y, x)) if np.isfinite(predicted).all() else 0.0
    return share >= _MIN_PREDICTED


def _probability_fits(x: Floats, y: Floats) -> Iterator[tuple[str, str, Floats]]:
    increasing = "an increasing function of {first}, "
    # Close to 0 and 1, rounding hides the exponent and the temperature.
    inside = (x > 1e-3) & (x < 1 - 1e-3) & (y > 1e-6) & (y < 1 - 1e-6)
    if inside.sum() >= MIN_VALUES:
        log_x, log_y = np.log(x[inside]), np.log(y[inside])
        exponent = float((log_x * log_y).sum() / np.square(log_x).sum())
        if exponent > 0:
            yield "power", f"{increasing}to the power {exponent:.4g}", x**exponent
    inside = (x > 1e-4) & (x < 1 - 1e-4) & (y > 1e-4) & (y < 1 - 1e-4)
    logit_x, logit_y = logit(x[inside]), logit(y[inside])
    if inside.sum() < MIN_VALUES or np.ptp(logit_x) == 0:
        return
    slope, base = map(float, np.polyfit(logit_x, logit_y, 1))
    if slope > 0:
        shift = f" and {base:+.3g}" if abs(base) > 1e-2 else ""
        fitted = expit(slope * logit(np.clip(x, 1e-12, 1 - 1e-12)) + base)
        yield "temperature", f"{increasing}its logits divided by a temperature of {1 / slope:.4g}{shift}", fitted
