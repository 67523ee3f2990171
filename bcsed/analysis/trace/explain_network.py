"""Explain different images, logits, attention or rows: compute common other ways from the same input and compare."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ...audio.windows import WindowPlan
from ...config.contract import Frontend
from ...errors import DataError
from ...models.network import ToImage, delta, fold
from ...predict.blocks import pool_rows
from ...predict.spec import Windowing
from ..doctor.align import assign
from ..doctor.compare import compare
from .context import StageContext, describe_shapes
from .stages import Array


def explain_image(context: StageContext, x: Array, y: Array) -> str:
    """Explain different images (W, C, H, W')."""
    if x.shape != y.shape:
        shapes = describe_shapes(("windows", "channels", "rows", "columns"), x.shape, y.shape)
        return shapes + (": the network needs another image shape" if x.shape[2:] != y.shape[2:] else "")
    differs = np.asarray((np.abs(x - y) > context.tolerance).any((1, 2, 3)))
    cause = _explain_conversion(context, y, differs) or _explain_scale(x[differs], y[differs]) or _explain_blur(x, y)
    subset = f"in {int(differs.sum())} of {len(differs)} windows, and the others are the same: "
    return (subset if not differs.all() else "") + (cause or "the image is computed differently")


def _explain_conversion(context: StageContext, y: Array, differs: npt.NDArray[np.bool_]) -> str:
    """Try common conversions of the dB windows."""
    windows, frontend = context.ours.arrays.get("windows"), context.frontend
    if windows is None or frontend is None or windows.shape[0] != len(y):
        return ""
    allowed = 5 * context.tolerance * max(1.0, float(np.abs(y).max()))
    for cause, image in _conversions(frontend, torch.from_numpy(np.asarray(windows, np.float32))):
        if image.shape == y.shape and np.abs(image.numpy() - y)[differs].max() <= allowed:
            return cause
    return ""


def _conversions(frontend: Frontend, db: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield common other conversions of dB windows (W, F, T) to images, with descriptions."""

    def to_channels(x: torch.Tensor) -> torch.Tensor:
        if frontend.channels == "mono":
            return fold(x[:, None], frontend.time_folds)
        slope = delta(x)
        stacked = (x, slope, delta(slope)) if frontend.channels == "deltas" else (x, x, x)
        return fold(torch.stack(stacked, 1), frontend.time_folds)

    def scale(x: torch.Tensor, *, batch: bool = False) -> torch.Tensor:
        low, high = (x.amin(), x.amax()) if batch else (x.amin((1, 2), keepdim=True), x.amax((1, 2), keepdim=True))
        return (x - low) / (high - low).clamp_min(1e-6)

    high = db.amax((1, 2), keepdim=True)
    floored = torch.maximum(db, high - frontend.top_db)
    batch_floored = torch.maximum(db, db.amax() - frontend.top_db)
    cause = "the maximum in dB is over the batch, not over each window, and so is the scale"
    yield cause, to_channels(scale(batch_floored, batch=True))
    yield "the floor in dB is below the batch's maximum, not each window's", to_channels(scale(batch_floored))
    yield "minimum and maximum are the batch's, not each window's", to_channels(scale(floored, batch=True))
    low = floored.amin((1, 2), keepdim=True)
    for unscaled in (floored, floored - low, floored - high, db, db - high):
        yield "normalisation was skipped: the values are still in dB", to_channels(unscaled)
    cause = "normalised by 80 dB instead of the window's range"
    yield cause, to_channels((floored - high) / frontend.top_db + 1)
    yield "scaled to 0 to 255 instead of 0 to 1", 255 * to_channels(scale(floored))
    yield "there is no floor 80 dB below the maximum", to_channels(scale(db))
    mean, deviation = floored.mean((1, 2), keepdim=True), floored.std((1, 2), keepdim=True)
    cause = "scaled by mean and standard deviation instead of minimum and maximum"
    yield cause, to_channels((floored - mean) / deviation)
    if frontend.channels == "deltas":
        folded = fold(scale(floored)[:, None], frontend.time_folds)[:, 0]
        slope = delta(folded)
        cause = "deltas were computed after the fold: there is an edge at the seam"
        yield cause, torch.stack((folded, slope, delta(slope)), 1)
        yield "three equal channels instead of deltas", torch.stack((folded, folded, folded), 1)
    image = ToImage(frontend)(db)
    yield "the halves of the fold are swapped", image.roll(frontend.n_mels, 2)
    yield "the image is upside down: low bands last", image.flip(2)


def _explain_scale(x: Array, y: Array) -> str:
    """Detect channels that are scaled again, as by ImageNet's mean and standard deviation."""
    fits = []
    for channel in range(x.shape[1]):
        a, b = x[:, channel].reshape(-1).astype(np.float64), y[:, channel].reshape(-1).astype(np.float64)
        if np.ptp(a) == 0:
            return ""
        slope, base = np.polyfit(a, b, 1)
        if slope <= 0 or (np.abs(slope * a + base - b) > 0.01 * max(np.ptp(b), 1e-9)).mean() > 0.01:
            return ""
        fits.append((slope, base))
    if all(abs(slope - 1) < 1e-2 and abs(base) < 1e-2 for slope, base in fits):
        return ""
    text = ", ".join(f"times {slope:.3g} and {base:+.3g}" for slope, base in fits)
    return f"each channel is scaled again: {text}, as by ImageNet's mean and standard deviation"


def _explain_blur(x: Array, y: Array) -> str:
    """Detect missing fine detail, as after stretching a smaller image."""
    missing = []
    for axis, name in ((2, "rows"), (3, "columns")):
        n = x.shape[axis]
        spectra = [np.square(np.abs(np.fft.rfft(v[:, 0], axis=axis - 1))).mean((0, 4 - axis)) for v in (x, y)]
        # Power above each spatial frequency, relative to all power but the mean.
        above_x, above_y = (np.maximum(np.cumsum(s[::-1])[::-1], 1e-12) for s in spectra)
        above_x, above_y = above_x / above_x[1], above_y / above_y[1]
        lost = (above_y < 0.25 * above_x) & (above_x > 1e-4)
        if lost[n // 2 - n // 16 - 1] or lost[3 * n // 8]:
            limit = int(np.argmax(np.cumsum(spectra[1][1:]) >= 0.999 * spectra[1][1:].sum())) + 1
            missing.append(f"{name} finer than about {max(2 * limit, 2)}")
    size = f"{x.shape[2]}x{x.shape[3]}"
    return f"it has no detail in {' and '.join(missing)} of {size}: stretched from a smaller image" if missing else ""


def explain_outputs(context: StageContext, x: Array, y: Array) -> str:
    """Explain different logits or attention (W, t, K)."""
    if x.shape != y.shape:
        return describe_shapes(("windows", "time steps", "classes"), x.shape, y.shape)
    if len(y) > 1 and (y == y[0]).all() and not (x == x[0]).all():
        return "all windows have the output of the first window"
    with np.errstate(over="ignore"):
        if context.stage == "logits" and np.abs(1 / (1 + np.exp(-x)) - y).max() <= 1e-3:
            return "these are probabilities instead of logits"
    return _explain_order(context, x, y) or _explain_weights(context, x, y)


def _explain_order(context: StageContext, x: Array, y: Array) -> str:
    """Search each class in the classes of the other array."""
    flat_x, flat_y = (v.reshape(-1, v.shape[-1]).astype(np.float64) for v in (x, y))
    gaps = np.stack([np.abs(flat_x - flat_y[:, [k]]).max(0) for k in range(flat_x.shape[1])], 1)
    assigned, moved = assign(-np.minimum(gaps, 1e6))
    if not len(moved) or gaps[np.arange(len(assigned)), assigned].max() > context.tolerance:
        return ""
    k, column = int(moved[0]), int(assigned[moved[0]])
    pair = f"{context.class_name(k)} at the position of {context.class_name(column)}"
    return f"the classes are in another order: {len(moved)} are moved, {pair}"


def _explain_weights(context: StageContext, x: Array, y: Array) -> str:
    digests = [trace.facts.get("sha256") for trace in (context.ours, context.theirs)]
    if None not in digests:
        same = digests[0] == digests[1]
        return "the same weights: another numerical precision or processor" if same else "the weights differ"
    a, b = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    correlation = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    condition = "from the same image " if "image" in context.theirs.arrays else ""
    return f"the outputs {condition}differ (correlation {correlation:.3f}): other weights, such as an older checkpoint"


def explain_rows(context: StageContext, x: Array, y: Array) -> str:
    """Explain different rows (R, K) from the same outputs."""
    if x.shape != y.shape:
        return f"{y.shape[0]} rows of {y.shape[1]} classes instead of {x.shape[0]} of {x.shape[1]}"
    return _explain_pooling(context, y) or _compare_as_tables(context, x, y)


def _explain_pooling(context: StageContext, y: Array) -> str:
    """Pool the same outputs in other ways."""
    facts = context.ours.facts
    logits, attention = (context.ours.arrays.get(stage) for stage in ("logits", "attention"))
    if logits is None or attention is None or "n_samples" not in facts:
        return ""
    frontend, kind = Frontend(**facts["frontend"]), facts["pool"]
    other = "logit" if kind == "prob" else "prob"
    plan = Windowing(**facts["windowing"]).plan(facts["n_samples"], frontend, facts["steps"], tuple(facts["block"]))
    uniform = np.zeros_like(attention)
    poolings: dict[str, Array] = {
        f"pooled as {other} instead of {kind}": pool_rows(logits, attention, plan, other),
        "the mean of the row's time steps, without the attention": pool_rows(logits, uniform, plan, kind),
        "the mean of the row's logits, without the attention": pool_rows(logits, uniform, plan, "logit"),
    }
    if len(logits) == len(y):
        sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
        cell = np.arange(sigmoid[..., 0].size, dtype=np.int64).reshape(sigmoid.shape[:2])
        windows = WindowPlan(np.zeros(len(cell), np.int64), cell, cell.size, cell, np.ones_like(cell))
        clip = "each row is the output of its complete window, not of the row's time steps"
        poolings |= {
            clip: pool_rows(logits, attention, windows, kind),
            f"{clip}, pooled as {other}": pool_rows(logits, attention, windows, other),
            f"{clip}, the mean without the attention": sigmoid.mean(1),
            f"{clip}, its maximum": sigmoid.max(1),
        }
    gaps = {cause: float(np.abs(pooled - y).max()) for cause, pooled in poolings.items()}
    nearest = min(gaps, key=lambda cause: gaps[cause])
    return nearest if gaps[nearest] <= context.tolerance else ""


def _compare_as_tables(context: StageContext, x: Array, y: Array) -> str:
    """Return the verdict of `bcsed.analysis.doctor` on the rows as score tables."""
    ids = context.facts.get("ids") or [f"recording_{5 * (row + 1)}" for row in range(len(x))]
    classes = context.facts.get("classes") or [str(k) for k in range(x.shape[1])]
    first, second = (pd.DataFrame(np.asarray(v, np.float64), index=ids, columns=classes) for v in (x, y))
    try:
        names = (context.ours.name, context.theirs.name)
        return compare(first, second, names=names, tolerance=context.tolerance).verdict.removesuffix(".")
    except DataError:
        return ""
