"""Find the first stage at which two traces differ."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import ConfigError, DataError
from .context import StageContext, describe_constant
from .explain_db import explain_db
from .explain_network import explain_image, explain_outputs, explain_rows
from .explain_samples import explain_samples
from .stages import STAGES, Array, Trace

# The float32 differences of decoders, processors and libraries are smaller. Units: samples; dB; share of the image's
# range; logits; attention; probability.
TOLERANCES: Mapping[str, float] = types.MappingProxyType(
    {"samples": 1e-4, "db": 0.05, "windows": 0.05, "image": 1e-3, "logits": 1e-2, "attention": 1e-2, "rows": 1e-3}
)
_EXPLAIN: Mapping[str, Callable[[StageContext, Array, Array], tuple[str, str]]] = {
    "samples": explain_samples,
    "db": explain_db,
    "windows": explain_db,
    "image": explain_image,
    "logits": explain_outputs,
    "attention": explain_outputs,
    "rows": explain_rows,
}


@dataclass(frozen=True, kw_only=True)
class StageDifference:
    """The difference of two traces at one stage."""

    name: str
    status: str  # 'same', 'differs', or 'absent' if one of the traces lacks the stage
    largest: float = np.nan  # NaN if the shapes differ or the stage is absent, infinite if one value is not finite
    share: float = np.nan  # of the array that differs by more than the tolerance
    sentence: str  # size, position and cause
    cause: str = ""  # only of the first stage that differs, if it explains nearly all of the difference


@dataclass(frozen=True, kw_only=True)
class TraceDifference:
    """The difference of two traces: all stages in order, the first that differs or None, and a sentence."""

    stages: tuple[StageDifference, ...]
    first: StageDifference | None
    verdict: str


def compare(ours: Trace, theirs: Trace, tolerances: Mapping[str, float] | None = None) -> TraceDifference:
    """Find the first stage at which two traces of one recording differ; only the first has a cause.

    A trace of bcsed states the time of its samples, frames and rows. By default the tolerances are those of
    `TOLERANCES`. Raises ConfigError if a tolerance is negative, or its stage is unknown; DataError if the two have no
    stage in common, or are of different recordings.
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
    stages: list[StageDifference] = []
    first = None
    for stage in STAGES:
        if stage not in common:
            stages.append(StageDifference(name=stage, status="absent", sentence="not in both"))
            continue
        context = StageContext(ours=ours, theirs=theirs, stage=stage, tolerance=allowed[stage])
        stages.append(_compare_stage(context, explain=first is None))
        if first is None and stages[-1].status == "differs":
            first = stages[-1]
    if first is None:
        verdict = f"{theirs.name} and {ours.name} agree in {', '.join(common)}."
    else:
        same = [stage.name for stage in stages[: stages.index(first)] if stage.status == "same"]
        agreement = f" (the same before: {', '.join(same)})" if same else ""
        verdict = f"{first.name} is the first stage that differs{agreement}: {first.sentence}."
    return TraceDifference(stages=tuple(stages), first=first, verdict=verdict)


def _compare_stage(context: StageContext, *, explain: bool) -> StageDifference:
    stage, tolerance = context.stage, context.tolerance
    x, y = context.ours.arrays[stage], context.theirs.arrays[stage]
    # Resamplers round the number of samples differently.
    if stage == "samples" and abs(len(x) - len(y)) == 1:
        x, y = x[: len(y)], y[: len(x)]
    if x.shape != y.shape:
        largest, share = np.nan, 1.0
        sentence = f"its shape is {' instead of '.join('x'.join(map(str, v.shape)) for v in (y, x))}"
    else:
        with np.errstate(invalid="ignore"):
            gap = np.abs(x.astype(np.float64) - y)
        # Two infinities of one sign, or two NaN, are equal.
        equal = (x == y) | (np.isnan(x) & np.isnan(y))
        gap[~np.isfinite(gap)] = np.where(equal, 0.0, np.inf)[~np.isfinite(gap)]
        largest = float(gap.max())
        if largest <= tolerance:
            sentence = f"the same to {largest:.1g}"
            return StageDifference(name=stage, status="same", largest=largest, share=0.0, sentence=sentence)
        share = float((gap > tolerance).mean())
        position = context.locate(np.unravel_index(int(gap.argmax()), gap.shape))
        sentence = f"by up to {largest:.3g} (allowed {tolerance:g}) at {position}, in {share:.0%} of it"
    detail, cause = "", describe_constant(x, y) if explain else ""
    # Of a network that receives the wave, these stages are its samples, which were compared before.
    is_wave = context.frontend is not None and context.frontend.is_wave
    if explain and not cause and not (is_wave and stage in ("db", "windows", "image")):
        detail, cause = _EXPLAIN[stage](context, x, y)
    sentence += "; " * bool(detail or cause) + ": ".join(filter(None, (detail, cause)))
    return StageDifference(name=stage, status="differs", largest=largest, share=share, sentence=sentence, cause=cause)
