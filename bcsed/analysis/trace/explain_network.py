"""Explain different images, logits, attention or rows: compute common other ways from the same input and compare."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ...audio.windows import WindowPlan
from ...config.contract import Frontend
from ...errors import DataError
from ...models.network import ToImage, delta, fold, unfold
from ...predict.blocks import pool_rows
from ...predict.spec import Windowing
from ..doctor.compare import compare
from ..explained import MIN_VALUES, Candidate, changes, describe, explain
from .context import StageContext, describe_shapes
from .stages import Array

_IMAGENET_STD = (0.229, 0.224, 0.225)


def explain_image(context: StageContext, x: Array, y: Array) -> tuple[str, str]:
    """Return the part, and the cause of different images (W, C, H, W')."""
    if x.shape != y.shape:
        shapes = describe_shapes(("windows", "channels", "rows", "columns"), x.shape, y.shape)
        return shapes, "the network needs another image shape" if x.shape[2:] != y.shape[2:] else ""
    differs = np.asarray((np.abs(x - y) > context.tolerance).any((1, 2, 3)))
    part = f"in {int(differs.sum())} of {len(differs)} windows, and the others are the same"
    scale = max(1.0, float(np.abs(y).max()))
    return "" if differs.all() else part, describe(_image_causes(context, x, y, differs), context.tolerance * scale)


def _image_causes(context: StageContext, x: Array, y: Array, differs: npt.NDArray[np.bool_]) -> Iterator[Candidate]:
    windows, frontend = context.ours.arrays.get("windows"), context.frontend
    if windows is not None and frontend is not None and windows.shape[0] == len(y):
        for cause, image in _conversions(frontend, torch.from_numpy(np.asarray(windows, np.float32))):
            yield Candidate(cause, image.numpy()[differs], y[differs], x[differs])
    axes = {0: "windows", 1: "channels", 2: "rows of the image", 3: "columns of the image"}
    yield from changes(x[differs], y[differs], axes)
    if x.shape[2] == x.shape[3]:
        yield Candidate("the image is transposed", x.swapaxes(2, 3)[differs], y[differs], x[differs])
    yield from _scaled_channels(x[differs], y[differs])
    yield from _stretched(x[differs], y[differs])


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
    yield "mean and standard deviation are the batch's", to_channels((floored - floored.mean()) / floored.std())
    if frontend.channels == "deltas":
        folded = fold(scale(floored)[:, None], frontend.time_folds)[:, 0]
        slope = delta(folded)
        cause = "deltas were computed after the fold: there is an edge at the seam"
        yield cause, torch.stack((folded, slope, delta(slope)), 1)
        yield "three equal channels instead of deltas", torch.stack((folded, folded, folded), 1)
        x = scale(floored)
        for width in (3, 7, 9, 11):
            slope = _delta(x, width)
            images = fold(torch.stack((x, slope, _delta(slope, width)), 1), frontend.time_folds)
            yield f"deltas of a width of {width} frames instead of 5", images
        slope, zero = delta(x), torch.zeros_like(x)
        yield "the deltas of the deltas are missing", fold(torch.stack((x, slope, zero), 1), frontend.time_folds)
        across = (x, delta(x.mT).mT)
        yield "deltas across the bands", fold(torch.stack((*across, delta(across[1].mT).mT), 1), frontend.time_folds)
    image = ToImage(frontend)(db)
    yield "the halves of the fold are swapped", image.roll(frontend.n_mels, 2)
    frames = unfold(image, frontend.time_folds)
    alternate = torch.cat([frames[..., k :: frontend.time_folds] for k in range(frontend.time_folds)], 2)
    yield "the fold separates alternate frames instead of halves", alternate
    yield "the image is upside down: low bands last", image.flip(2)


def _delta(x: torch.Tensor, width: int) -> torch.Tensor:
    """Compute slopes along the last axis as `bcsed.models.network.delta`, of another width."""
    half = width // 2
    padded = torch.nn.functional.pad(x, (half, half), mode="replicate")
    n = x.shape[-1]
    slopes = [
        k * (padded[..., half + k : half + k + n] - padded[..., half - k : half - k + n]) for k in range(1, half + 1)
    ]
    return torch.stack(slopes).sum(0) / (2 * sum(k * k for k in range(1, half + 1)))


def _scaled_channels(x: Array, y: Array) -> Iterator[Candidate]:
    """Yield channels that are scaled again, as by ImageNet's mean and standard deviation."""
    fits, fitted = [], np.empty(x.shape, np.float64)
    for channel in range(x.shape[1]):
        a, b = x[:, channel].reshape(-1).astype(np.float64), y[:, channel].reshape(-1).astype(np.float64)
        slope, base = np.polyfit(a, b, 1) if np.ptp(a) else (0.0, float(b.mean()))
        fits.append((slope, base))
        fitted[:, channel] = slope * x[:, channel] + base
    imagenet = len(fits) == 3 and all(abs(s * d - 1) < 1e-2 for (s, _), d in zip(fits, _IMAGENET_STD, strict=True))
    text = ", ".join(f"times {slope:.3g} and {base:+.3g}" for slope, base in fits)
    reason = ", as by ImageNet's mean and standard deviation" if imagenet else ""
    yield Candidate(f"each channel is scaled again: {text}{reason}", fitted, y, x)


def _stretched(x: Array, y: Array) -> Iterator[Candidate]:
    """Yield images that were stretched from a smaller one."""
    size = x.shape[2:]
    image = torch.from_numpy(np.asarray(x, np.float32))
    resize = torch.nn.functional.interpolate
    for factor in (2, 3, 4, 1.5, 1.6, 1.25):
        small_size = (round(size[0] / factor), round(size[1] / factor))
        for down in ("area", "bilinear", "nearest"):
            small = resize(image, small_size, mode=down)
            for up in ("bilinear", "bicubic", "nearest"):
                for corners in (False, True) if up == "bilinear" else (None,):
                    cause = f"the image is stretched from a smaller image of {small_size[0]}x{small_size[1]}"
                    yield Candidate(cause, resize(small, size, mode=up, align_corners=corners).numpy(), y, x)


def explain_outputs(context: StageContext, x: Array, y: Array) -> tuple[str, str]:
    """Return the size, and the cause of different logits or attention (W, t, K)."""
    if x.shape != y.shape:
        return describe_shapes(("windows", "time steps", "classes"), x.shape, y.shape), ""
    cause = describe(_output_causes(context, x, y), context.tolerance)
    return "" if cause else _compare_weights(context, x, y), cause


def _output_causes(context: StageContext, x: Array, y: Array) -> Iterator[Candidate]:
    if context.stage == "logits":
        with np.errstate(over="ignore"):
            yield Candidate("these are probabilities instead of logits", 1 / (1 + np.exp(-x.astype(np.float64))), y, x)
    other = context.ours.arrays.get("attention" if context.stage == "logits" else "logits")
    if other is not None and other.shape == y.shape:
        yield Candidate("logits and attention are exchanged", other, y, x)
    if context.stage == "attention":
        shifted = np.exp(x.astype(np.float64))
        yield Candidate("attention after the softmax over time", shifted / shifted.sum(1, keepdims=True), y, x)
        yield Candidate("attention after the softmax over classes", shifted / shifted.sum(2, keepdims=True), y, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            yield Candidate("attention before the tanh", np.arctanh(x.astype(np.float64)), y, x)
    if context.stage == "logits" and y.size >= MIN_VALUES and np.ptp(x):
        factor = float((x.astype(np.float64) * y).sum() / np.square(x.astype(np.float64)).sum())
        yield Candidate(f"the logits are multiplied by {factor:.4g}", factor * x, y, x)
        offset = (y - x.astype(np.float64)).mean((0, 1), keepdims=True)
        yield Candidate("the logits of each class have a constant added", x + offset, y, x)
    yield from changes(x, y, {0: "windows", 1: "time steps", 2: "classes"})
    differs = np.asarray((np.abs(x.astype(np.float64) - y) > context.tolerance).any((0, 1)))
    if not differs.all():
        names = ", ".join(context.class_name(int(k)) for k in np.flatnonzero(differs)[:3])
        constant = y[..., differs].astype(np.float64).mean((0, 1), keepdims=True)
        cause = f"{differs.sum()} of {len(differs)} classes have one value everywhere: {names}"
        fitted = np.where(differs, 0, x).astype(np.float64)
        fitted[..., differs] = constant
        yield Candidate(cause, fitted, y, x)


def _compare_weights(context: StageContext, x: Array, y: Array) -> str:
    """Return how the outputs of the network differ, and whether its weights do; no cause."""
    digests = [trace.facts.get("sha256") for trace in (context.ours, context.theirs)]
    if None not in digests:
        return "the weights are the same" if digests[0] == digests[1] else "the weights differ"
    a, b = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    correlation = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    condition = "from the same image " if "image" in context.theirs.arrays else ""
    differs = np.asarray((np.abs(x - y) > context.tolerance).any((0, 1)))
    classes = "" if differs.all() else f" in {differs.sum()} of {len(differs)} classes"
    return f"the outputs {condition}differ{classes} (correlation {correlation:.3f})"


def explain_rows(context: StageContext, x: Array, y: Array) -> tuple[str, str]:
    """Return the part, and the cause of different rows (R, K) from the same outputs."""
    if x.shape != y.shape:
        return f"{y.shape[0]} rows of {y.shape[1]} classes instead of {x.shape[0]} of {x.shape[1]}", ""
    pooling = explain(_poolings(context, x, y), context.tolerance)
    if pooling is not None and pooling.share == 1:
        return "", pooling.sentence()
    part, cause = _compare_as_tables(context, x, y)
    return part, cause or (pooling.sentence() if pooling is not None else "")


def _poolings(context: StageContext, x: Array, y: Array) -> Iterator[Candidate]:
    """Pool the same outputs in other ways."""
    facts = context.ours.facts
    logits, attention = (context.ours.arrays.get(stage) for stage in ("logits", "attention"))
    if logits is None or attention is None or "n_samples" not in facts:
        return
    frontend, kind = Frontend(**facts["frontend"]), facts["pool"]
    plan = Windowing(**facts["windowing"]).plan(facts["n_samples"], frontend, facts["steps"], tuple(facts["block"]))
    uniform, equal = np.zeros_like(attention), replace(plan, weight=(plan.weight > 0).astype(np.int64))
    steps = "of the row's time steps"
    for other in ("prob", "logit", "max", "prob_max"):
        if other != kind:
            yield Candidate(f"pooled as {other} instead of {kind}", pool_rows(logits, attention, plan, other), y, x)
    for other, noun in (("prob", "mean"), ("logit", "mean of the logits")):
        cause = f"the {noun} {steps}, without the attention"
        yield Candidate(cause, pool_rows(logits, uniform, plan, other), y, x)
        yield Candidate(f"{cause}, all with one weight", pool_rows(logits, uniform, equal, other), y, x)
    cause = "time steps that a row shares in part count as those inside it"
    yield Candidate(cause, pool_rows(logits, attention, equal, kind), y, x)
    exponent = np.exp(attention.astype(np.float64))
    wrong = np.log(exponent / exponent.sum(2, keepdims=True)).astype(np.float32)
    yield Candidate("softmax of the attention over the classes", pool_rows(logits, wrong, plan, kind), y, x)
    sigmoid = np.log(1 / (1 + np.exp(-attention.astype(np.float64)))).astype(np.float32)
    yield Candidate("sigmoid instead of softmax of the attention", pool_rows(logits, sigmoid, plan, kind), y, x)
    if len(logits) == len(y):
        probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
        cell = np.arange(probability[..., 0].size, dtype=np.int64).reshape(probability.shape[:2])
        windows = WindowPlan(np.zeros(len(cell), np.int64), cell, cell.size, cell, np.ones_like(cell))
        clip = "each row is the output of its complete window, not of the row's time steps"
        for other in ("prob", "logit"):
            text = f", pooled as {other}" if other != kind else ""
            yield Candidate(f"{clip}{text}", pool_rows(logits, attention, windows, other), y, x)
        yield Candidate(f"{clip}, the mean without the attention", probability.mean(1), y, x)
        yield Candidate(f"{clip}, its maximum", probability.max(1), y, x)
        middle = probability[:, probability.shape[1] // 2]
        yield Candidate("each row is the middle time step of its window", middle, y, x)


def _compare_as_tables(context: StageContext, x: Array, y: Array) -> tuple[str, str]:
    """Return the part that differs or the cause, of the rows as score tables; see `bcsed.analysis.doctor`."""
    ids = context.facts.get("ids") or [f"recording_{5 * (row + 1)}" for row in range(len(x))]
    classes = context.facts.get("classes") or [str(k) for k in range(x.shape[1])]
    first, second = (pd.DataFrame(np.asarray(v, np.float64), index=ids, columns=classes) for v in (x, y))
    try:
        names = (context.ours.name, context.theirs.name)
        result = compare(first, second, names=names, tolerance=context.tolerance)
    except DataError:
        return "", ""
    verdict = result.verdict.removesuffix(".")
    return ("", verdict) if result.explained else ("" if result.cause in ("everywhere", "small") else verdict, "")
