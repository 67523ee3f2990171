"""The first stage at which two traces differ: by how much, where, and why as far as the arrays say."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError, DataError
from . import explain_audio as heard
from . import explain_outputs as answered
from . import explain_picture as seen
from .context import StageContext
from .stages import STAGES, Array, Trace

# What decoders, processors and libraries may differ by in float32, with room: samples; dB; share of the picture's
# range; logits; attention; probability.
TOLERANCES: Mapping[str, float] = types.MappingProxyType(
    {"samples": 1e-4, "db": 0.05, "windows": 0.05, "picture": 1e-3, "logits": 1e-2, "attention": 1e-2, "rows": 1e-3}
)
_CAUSES: Mapping[str, Callable[[StageContext, Array, Array], str]] = types.MappingProxyType(
    {
        "samples": heard.samples,
        "db": heard.decibels,
        "windows": heard.decibels,
        "picture": seen.picture,
        "logits": answered.answers,
        "attention": answered.answers,
        "rows": answered.rows,
    }
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of two traces.

    Parameters
    ----------
    name : str
    status : {'same', 'differs', 'absent'}
        Absent where one of the traces lacks it.
    largest : float
        The largest difference; NaN where shapes differ or a stage is absent, infinite where one is no number.
    share : float
        How much of the array differs by more than the tolerance.
    sentence : str
        By how much, where, and why.
    cause : str
        Why, where the arrays say so; of the first stage that differs only.
    """

    name: str
    status: str
    largest: float
    share: float
    sentence: str
    cause: str = ""


@dataclass(frozen=True, kw_only=True)
class TraceDifference:
    """Where two traces part.

    Parameters
    ----------
    stages : tuple of Stage
        All of them, in order.
    first : Stage or None
        The first that differs.
    verdict : str
        One sentence.
    """

    stages: tuple[Stage, ...]
    first: Stage | None
    verdict: str


def compare(ours: Trace, theirs: Trace, tolerances: Mapping[str, float] | None = None) -> TraceDifference:
    """Find the first stage at which two traces of one recording differ.

    Parameters
    ----------
    ours : Trace
        One of bcsed's, which knows where its samples, frames and rows lie; or any.
    theirs : Trace
        Another of bcsed's, or a foreign pipeline's.
    tolerances : mapping of str to float, optional
        By stage, beside `TOLERANCES`.

    Returns
    -------
    Difference
        Later stages follow from the first and are told without a cause.

    Raises
    ------
    ConfigError
        If a tolerance is of no stage, or negative.
    DataError
        If the two have no stage in common, or are of different recordings.
    """
    allowed = {**TOLERANCES, **(tolerances or {})}
    for stage, value in allowed.items():
        if stage not in STAGES or not value >= 0:
            raise ConfigError(f"a tolerance is at least 0 and of one of {', '.join(STAGES)}; got {stage}={value:g}.")
    common = [stage for stage in STAGES if stage in ours.arrays and stage in theirs.arrays]
    if not common:
        raise DataError(
            f"{ours.name} has {', '.join(ours.arrays)}, {theirs.name} has {', '.join(theirs.arrays)}: no stage in both."
        )
    recordings = [trace.facts.get("recording") for trace in (ours, theirs)]
    if None not in recordings and recordings[0] != recordings[1]:
        raise DataError(f"the traces are of two recordings, {recordings[0]} and {recordings[1]}.")
    done: list[Stage] = []
    for stage in STAGES:
        if stage not in common:
            done.append(Stage(name=stage, status="absent", largest=np.nan, share=np.nan, sentence="not in both"))
            continue
        is_first = all(earlier.status != "differs" for earlier in done)
        sides = StageContext(ours=ours, theirs=theirs, stage=stage, tolerance=allowed[stage])
        done.append(_stage(sides, is_first=is_first))
    first = next((stage for stage in done if stage.status == "differs"), None)
    if first is None:
        verdict = f"{theirs.name} and {ours.name} agree in {', '.join(common)}."
    else:
        earlier = done[: done.index(first)]
        before = [stage.name for stage in earlier if stage.status == "same"]
        agreed = f" (the same before: {', '.join(before)})" if before else ""
        verdict = f"{first.name} is the first stage that differs{agreed}: {first.sentence}."
    return TraceDifference(stages=tuple(done), first=first, verdict=verdict)


def _stage(sides: StageContext, *, is_first: bool) -> Stage:
    x, y = sides.ours.arrays[sides.stage], sides.theirs.arrays[sides.stage]
    if x.shape != y.shape:
        # One sample more or less is what resamplers round differently.
        if sides.stage != "samples" or abs(len(x) - len(y)) > 1:
            shapes = " against ".join("x".join(map(str, values.shape)) for values in (y, x))
            cause = _CAUSES[sides.stage](sides, x, y) if is_first else ""
            sentence = f"its shape is {shapes}" + (f"; {cause}" if cause else "")
            return Stage(name=sides.stage, status="differs", largest=np.nan, share=1.0, sentence=sentence, cause=cause)
        x, y = x[: len(y)], y[: len(x)]
    with np.errstate(invalid="ignore"):
        gap = np.abs(x.astype(np.float64) - y)
    # Two infinities of one sign, or two NaN, are the same; one of them alone is as far as can be.
    gap[~np.isfinite(gap)] = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.inf)[~np.isfinite(gap)]
    largest = float(gap.max())
    if largest <= sides.tolerance:
        return Stage(name=sides.stage, status="same", largest=largest, share=0.0, sentence=f"the same to {largest:.1g}")
    share = float((gap > sides.tolerance).mean())
    place = sides.place(np.unravel_index(int(gap.argmax()), gap.shape))
    sentence = f"by up to {largest:.3g} (allowed {sides.tolerance:g}) at {place}, in {share:.0%} of it"
    cause = _CAUSES[sides.stage](sides, x, y) if is_first else ""
    sentence += f"; {cause}" if cause else ""
    return Stage(name=sides.stage, status="differs", largest=largest, share=share, sentence=sentence, cause=cause)
