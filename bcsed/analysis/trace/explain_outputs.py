"""Why answers and rows differ although the picture is the same: weights, order of classes, pooling, places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from ...audio.windows import WindowPlan
from ...config.contract import Frontend
from ...errors import DataError
from ...predict.blocks import Windowing, pool_rows
from ..doctor.compare import compare
from .context import StageContext
from .explain_audio import not_finite
from .stages import Array


def answers(sides: StageContext, x: Array, y: Array) -> str:
    """Say why the answers (W, t, K) to the same pictures differ."""
    if told := not_finite(y):
        return told
    if x.shape != y.shape:
        names = ("windows", "steps", "classes")
        return ", ".join(f"{b} {n} instead of {a}" for n, a, b in zip(names, x.shape, y.shape, strict=True) if a != b)
    if len(y) > 1 and (y == y[0]).all() and not (x == x[0]).all():
        return "all windows have the first one's answer"
    with np.errstate(over="ignore"):
        if sides.stage == "logits" and np.abs(1 / (1 + np.exp(-x)) - y).max() <= 1e-3:
            return "these are probabilities where logits belong"
    return _order(sides, x, y) or _weights(sides, x, y)


def _order(sides: StageContext, x: Array, y: Array) -> str:
    """Look for each class among the others'."""
    from scipy.optimize import linear_sum_assignment

    ours, theirs = (v.reshape(-1, v.shape[-1]).astype(np.float64) for v in (x, y))
    gaps = np.stack([np.abs(ours - theirs[:, [k]]).max(0) for k in range(ours.shape[1])], 1)
    chosen = linear_sum_assignment(np.minimum(gaps, 1e6))[1]
    moved = np.flatnonzero(chosen != np.arange(len(chosen)))
    if not len(moved) or gaps[np.arange(len(chosen)), chosen].max() > sides.tolerance:
        return ""
    k = int(moved[0])
    where = sides.name(int(chosen[k]))
    return f"the classes stand in another order: {len(moved)} are moved, {sides.name(k)} to the place of {where}"


def _weights(sides: StageContext, x: Array, y: Array) -> str:
    shas = [trace.facts.get("sha256") for trace in (sides.ours, sides.theirs)]
    if None not in shas:
        return "the same weights: another precision or processor" if shas[0] == shas[1] else "the weights are others'"
    a, b = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    alike = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    seen = "the same picture is" if "picture" in sides.theirs.arrays else "it is"
    return f"{seen} answered otherwise (correlation {alike:.3f}): other weights, such as an older checkpoint"


def rows(sides: StageContext, x: Array, y: Array) -> str:
    """Say why rows (R, K) differ although the answers of the steps are the same."""
    if told := not_finite(y):
        return told
    if x.shape != y.shape:
        return f"{y.shape[0]} rows of {y.shape[1]} classes instead of {x.shape[0]} of {x.shape[1]}"
    return _pooled(sides, y) or _as_tables(sides, x, y)


def _pooled(sides: StageContext, y: Array) -> str:
    """Pool the same answers in other ways."""
    logits, attention, facts = sides.ours.arrays.get("logits"), sides.ours.arrays.get("attention"), sides.ours.facts
    if logits is None or attention is None or "n_samples" not in facts:
        return ""
    frontend, kind = Frontend(**facts["frontend"]), facts["pool"]
    other = "logit" if kind == "prob" else "prob"
    chosen = Windowing(**facts["rows"]).plan(facts["n_samples"], frontend, facts["steps"], tuple(facts["block"]))
    flat = np.zeros_like(attention)
    ways: list[tuple[str, Callable[[], Array]]] = [
        (f"pooled as {other} instead of {kind}", lambda: pool_rows(logits, attention, chosen, other)),
        ("the mean of the row's steps, without the attention", lambda: pool_rows(logits, flat, chosen, kind)),
        ("the mean of the row's logits, without the attention", lambda: pool_rows(logits, flat, chosen, "logit")),
    ]
    if len(logits) == len(y):
        sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
        whole = _whole(len(logits), logits.shape[1])
        clip = "each row is its whole window's answer (the clip's), not its own frames'"
        ways += [
            (clip, lambda: pool_rows(logits, attention, whole, kind)),
            (clip + f", pooled as {other}", lambda: pool_rows(logits, attention, whole, other)),
            (clip + ", the mean without the attention", lambda: sigmoid.mean(1)),
            (clip + ", its maximum", lambda: sigmoid.max(1)),
        ]
    gaps = {told: float(np.abs(made() - y).max()) for told, made in ways}
    nearest = min(gaps, key=lambda told: gaps[told])
    return nearest if gaps[nearest] <= sides.tolerance else ""


def _whole(n_windows: int, steps: int) -> WindowPlan:
    """Plan rows that are whole windows."""
    cell = np.arange(n_windows * steps, dtype=np.int64).reshape(n_windows, steps)
    return WindowPlan(np.zeros(n_windows, np.int64), cell, n_windows * steps, cell, np.ones_like(cell))


def _as_tables(sides: StageContext, x: Array, y: Array) -> str:
    """Let the doctor look at the rows as tables."""
    ids = sides.facts.get("ids") or [f"recording_{5 * (row + 1)}" for row in range(len(x))]
    classes = sides.facts.get("classes") or [str(k) for k in range(x.shape[1])]
    first, second = (pd.DataFrame(np.asarray(v, np.float64), index=ids, columns=classes) for v in (x, y))
    try:
        found = compare(first, second, names=(sides.ours.name, sides.theirs.name), tolerance=sides.tolerance)
    except DataError:
        return ""
    return found.verdict.removesuffix(".")
