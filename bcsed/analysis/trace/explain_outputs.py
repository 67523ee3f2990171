"""Explain different logits, attention or rows for the same image: weights, order of classes, pooling, rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from ...audio.windows import WindowPlan
from ...config.contract import Frontend
from ...errors import DataError
from ...predict.blocks import pool_rows
from ...predict.spec import Windowing
from ..doctor.compare import compare
from .context import StageContext, describe_non_finite, describe_shapes
from .stages import Array


def explain_outputs(context: StageContext, x: Array, y: Array) -> str:
    """Explain different logits or attention (W, t, K)."""
    if not np.isfinite(y).all():
        return describe_non_finite(y)
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
    from scipy.optimize import linear_sum_assignment

    flat_x, flat_y = (v.reshape(-1, v.shape[-1]).astype(np.float64) for v in (x, y))
    gaps = np.stack([np.abs(flat_x - flat_y[:, [k]]).max(0) for k in range(flat_x.shape[1])], 1)
    assigned = linear_sum_assignment(np.minimum(gaps, 1e6))[1]
    moved = np.flatnonzero(assigned != np.arange(len(assigned)))
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
    if not np.isfinite(y).all():
        return describe_non_finite(y)
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
    poolings: dict[str, Callable[[], Array]] = {
        f"pooled as {other} instead of {kind}": lambda: pool_rows(logits, attention, plan, other),
        "the mean of the row's time steps, without the attention": lambda: pool_rows(logits, uniform, plan, kind),
        "the mean of the row's logits, without the attention": lambda: pool_rows(logits, uniform, plan, "logit"),
    }
    if len(logits) == len(y):
        sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
        windows = _plan_windows(len(logits), logits.shape[1])
        clip = "each row is the output of its complete window, not of the row's time steps"
        poolings |= {
            clip: lambda: pool_rows(logits, attention, windows, kind),
            f"{clip}, pooled as {other}": lambda: pool_rows(logits, attention, windows, other),
            f"{clip}, the mean without the attention": lambda: sigmoid.mean(1),
            f"{clip}, its maximum": lambda: sigmoid.max(1),
        }
    gaps = {cause: float(np.abs(pooled() - y).max()) for cause, pooled in poolings.items()}
    nearest = min(gaps, key=lambda cause: gaps[cause])
    return nearest if gaps[nearest] <= context.tolerance else ""


def _plan_windows(n_windows: int, steps: int) -> WindowPlan:
    """Plan rows that are complete windows."""
    cell = np.arange(n_windows * steps, dtype=np.int64).reshape(n_windows, steps)
    return WindowPlan(np.zeros(n_windows, np.int64), cell, n_windows * steps, cell, np.ones_like(cell))


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
