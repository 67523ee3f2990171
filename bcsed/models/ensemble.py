"""Several networks that answer as one: members, weights, means; grouped by what they hear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..config.contract import Contract, Frontend
from ..errors import BundleError, ConfigError
from ..scores.postprocess.combine import check_kind, check_weights, weighted_mean
from .backends import Array as Array
from .backends import Backend as Listener
from .backends import OpenVinoBackend as GraphListener
from .bundle.bundle import Bundle


@dataclass(frozen=True)
class Ensemble:
    """Members, how much each counts, and how their answers become one.

    Parameters
    ----------
    members : tuple of Backend
        Each answers some or all of the classes, in whatever order.
    weights : tuple of float
        Positive; they need not sum to 1. A member that does not answer a class does not count in its mean.
    mean : {'prob', 'logit', 'rank'}
        Of what: probabilities; their logits; or each class's percentiles over all rows that are scored.
    classes : tuple of str
        The K classes; those of the member that answers most by default.
    """

    members: tuple[Listener, ...]
    weights: tuple[float, ...]
    mean: str = "prob"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kind(self.mean)
        contracts = [member.contract for member in self.members]
        check_weights(self.weights, len(self.members))
        object.__setattr__(self, "classes", full_classes(contracts, self.classes or None))

    @property
    def frontends(self) -> tuple[Frontend, ...]:
        """What is heard, each signal once: members of one signal share its picture."""
        return tuple(dict.fromkeys(member.contract.frontend for member in self.members))

    @cached_property
    def places(self) -> tuple[npt.NDArray[np.int64], ...]:
        """For each member, the column of each class that it answers."""
        place = {name: k for k, name in enumerate(self.classes)}
        return tuple(np.array([place[name] for name in m.contract.classes], np.int64) for m in self.members)

    def combine(self, answers: Sequence[tuple[int, Array]]) -> Array:
        """Return the weighted mean of some members' answers to the same rows.

        Parameters
        ----------
        answers : sequence of (int, ndarray of shape (R, K of that member))
            A member's place and its probabilities; a member that looked several times counts once in all. With
            ``mean='rank'`` all rows of the run must be here.

        Returns
        -------
        ndarray of float32, shape (R, K)
            NaN where no member answered a class.
        """
        views = np.bincount([member for member, _ in answers], minlength=len(self.members))
        parts = [(values, self.places[member], self.weights[member] / views[member]) for member, values in answers]
        return weighted_mean(parts, len(self.classes), self.mean).astype(np.float32)


def from_bundles(
    bundles: Sequence[Bundle],
    weights: Sequence[float] | None = None,
    *,
    mean: str = "prob",
    classes: Sequence[str] | None = None,
    threads: int | None = None,
    precision: str = "f32",
    cache: str | Path | None = None,
) -> Ensemble:
    """Compile bundles into an ensemble; equal weights by default."""
    full = full_classes([bundle.contract for bundle in bundles], classes)
    given = tuple(weights) if weights is not None else (1.0,) * len(bundles)
    check_weights(given, len(bundles))
    # One bundle named twice is compiled once: a listener holds no state between windows.
    compiled = {
        bundle.path: GraphListener(bundle, threads=threads, precision=precision, cache=cache)
        for bundle in {bundle.path: bundle for bundle in bundles}.values()
    }
    return Ensemble(tuple(compiled[bundle.path] for bundle in bundles), given, mean, full)


def full_classes(contracts: Sequence[Contract], classes: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the classes that an ensemble answers.

    Parameters
    ----------
    contracts : sequence of Contract
        Of its members.
    classes : sequence of str, optional
        The full list, such as a competition's. Without it, one member must answer every class that any does.

    Raises
    ------
    ConfigError
        If there is no member.
    BundleError
        If members disagree and no list is given, a member answers a class that is not in the list, or a
        class of the list is answered by none.
    """
    if not contracts:
        raise ConfigError("an ensemble needs at least one bundle.")
    widest = max(contracts, key=lambda contract: len(contract.classes))
    full = tuple(classes) if classes is not None else widest.classes
    for place, contract in enumerate(contracts, 1):
        other = sorted(set(contract.classes) - set(full))
        if other and classes is None:
            raise BundleError(
                f"bundles {1 + contracts.index(widest)} and {place} do not answer the same classes: {other[0]!r} is in "
                "only one of them; give the full list as a sample submission."
            )
        if other:
            raise BundleError(
                f"bundle {place} answers class {other[0]!r}, which is not among the {len(full)} classes asked for "
                f"({len(other)} such classes); it was trained for others."
            )
    answered = {name for contract in contracts for name in contract.classes}
    silent = [name for name in full if name not in answered]
    if silent:
        raise BundleError(
            f"class {silent[0]!r} is answered by no bundle ({len(silent)} of {len(full)} classes); add one that was "
            "trained on it."
        )
    return full
