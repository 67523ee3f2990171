"""Name the cause of a difference: one that explains all of it, else the one that explains most, and nearly all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# A cause is named only if it explains at least this share of the squared difference.
MIN_SHARE = 0.98
# Values from which a cause is accepted that has fitted parameters or is not exact: fewer are matched by chance.
MIN_VALUES = 20


class Candidate(NamedTuple):
    """A possible cause: the part of both pipelines that it compares, and the second as it would be with this cause."""

    cause: str
    fitted: npt.NDArray[Any]
    second: npt.NDArray[Any]
    first: npt.NDArray[Any] | None = None  # None if the shapes differ


class Explanation(NamedTuple):
    """A cause that explains a difference."""

    cause: str
    share: float  # as `explained_share`; 1 if exact
    largest: float  # remaining difference

    def sentence(self) -> str:
        """Return the cause, with its share unless it is exact."""
        return self.cause + ("" if self.share == 1 else f" (explains {self.share:.1%})")


def explained_share(candidate: Candidate) -> float:
    """Return the share of the squared difference that a cause explains.

    The difference counts at most as much as the variance of the second, so that a change of unit explains nothing of
    another signal.
    """
    fitted, second = candidate.fitted.astype(np.float64), candidate.second.astype(np.float64)
    total = float(np.square(second - second.mean()).sum())
    if candidate.first is not None:
        total = min(total, float(np.square(second - candidate.first).sum()))
    rest = float(np.square(second - fitted).sum())
    return 1.0 - rest / total if total > 0 else float(rest == 0)


def explain(candidates: Iterable[Candidate], tolerance: float) -> Explanation | None:
    """Return the first cause that is exact to the tolerance, else the cause with the largest share.

    None if no cause explains `MIN_SHARE`, or there are few values and no cause is exact. Candidates with another shape
    than their target, or NaN, are ignored.
    """
    best = None
    for candidate in candidates:
        fitted, second = candidate.fitted, candidate.second
        if fitted.shape != second.shape or not second.size or not np.isfinite(fitted).all():
            continue
        largest = float(np.abs(second.astype(np.float64) - fitted).max())
        if largest <= tolerance:
            return Explanation(candidate.cause, 1.0, largest)
        share = explained_share(candidate)
        if second.size >= MIN_VALUES and share >= (best.share if best is not None else MIN_SHARE):
            best = Explanation(candidate.cause, min(share, 0.999), largest)
    return best


def describe(candidates: Iterable[Candidate], tolerance: float) -> str:
    """Return the sentence of `explain`, '' without a cause."""
    explanation = explain(candidates, tolerance)
    return "" if explanation is None else explanation.sentence()


def changes(x: npt.NDArray[Any], y: npt.NDArray[Any], axes: dict[int, str]) -> Iterator[Candidate]:
    """Yield reversals along the named axes, repetitions of the first entry, and other orders of the entries."""
    for axis, name in axes.items():
        yield Candidate(f"the {name} are reversed", np.flip(x, axis), y, x)
        first = np.take(y, [0], axis)
        if y.shape[axis] > 1 and np.ptp(x, axis).any() and (y == first).all():
            yield Candidate(f"all {name} are equal to the first", np.repeat(first, y.shape[axis], axis), y, x)
        source = nearest(x, y, axis)
        moved = np.flatnonzero(source != np.arange(len(source)))
        if len(moved):
            what = "in another order" if len(set(source)) == len(source) else "copies of others"
            cause = f"{len(moved)} of {len(source)} {name} are {what}: number {moved[0] + 1} is {source[moved[0]] + 1}"
            yield Candidate(cause, np.take(x, source, axis), y, x)


def nearest(x: npt.NDArray[Any], y: npt.NDArray[Any], axis: int) -> npt.NDArray[np.intp]:
    """Return the entry of the first along an axis that is most similar to each of the second; itself among equals."""
    a, b = (np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1).astype(np.float64) for v in (x, y))
    distance = np.square(a).sum(1)[None] + np.square(b).sum(1)[:, None] - 2 * b @ a.T
    distance[np.diag_indices_from(distance)] -= 1e-9 * (1 + np.square(b).sum(1))
    entries: npt.NDArray[np.intp] = distance.argmin(1)
    return entries
