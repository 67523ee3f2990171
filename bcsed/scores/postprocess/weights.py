"""The weights of an ensemble's members: a number, or numbers that differ between taxa or classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ...config.strict import read_values
from ...errors import ConfigError

_FORM = "member.taxon=weight or member.class=weight, such as 2.Aves=0.5"


class ClassWeights(NamedTuple):
    """The weights of one member for single classes; 0 leaves it out of a class."""

    others: float  # weight of all other classes
    by_class: tuple[tuple[str, float], ...]


Weight: TypeAlias = float | ClassWeights


def parse_weights(
    weights: Sequence[float] | None,
    by_class: Sequence[str],
    members: Sequence[Sequence[str]],
    taxa: Mapping[str, str] | None = None,
) -> tuple[Weight, ...] | None:
    """Return the weights of members, given the classes of each; None for equal ones.

    `weights` are one number per member, 1 by default. `by_class` are exceptions, ``2.Aves=0.5`` for the classes of a
    taxon in the second member, or ``2.frog1=0`` for a class, which takes precedence. `taxa` is the taxon of each class.
    ConfigError for another form, or an unknown member, class or taxon.
    """
    if not by_class:
        return None if weights is None else tuple(weights)
    shares = (1.0,) * len(members) if weights is None else tuple(weights)
    check_weights(shares, len(members))
    classes = list(dict.fromkeys(name for of_member in members for name in of_member))
    of_taxon: list[dict[str, float]] = [{} for _ in members]
    of_class: list[dict[str, float]] = [{} for _ in members]
    for key, weight in read_values(by_class, "a class weight", _FORM).items():
        number, _, name = key.partition(".")
        if not name or not number.isdecimal() or not 1 <= int(number) <= len(members):
            raise ConfigError(f"{key}={weight:g}: a class weight takes {_FORM}; the members are 1 to {len(members)}.")
        of_this = [label for label in classes if (taxa or {}).get(label) == name]
        if name not in classes and not of_this:
            known = ", ".join(sorted(set(filter(None, (taxa or {}).values())))) or "not known: name a --taxonomy"
            raise ConfigError(f"{key}={weight:g}: no member has a class or taxon {name!r}; the taxa are {known}.")
        if name in classes:
            of_class[int(number) - 1][name] = weight
        else:
            of_taxon[int(number) - 1] |= dict.fromkeys(of_this, weight)
    merged = [tuple({**left, **right}.items()) for left, right in zip(of_taxon, of_class, strict=True)]
    return tuple(ClassWeights(share, pairs) if pairs else share for share, pairs in zip(shares, merged, strict=True))


def check_weights(weights: Sequence[Weight], n_members: int) -> None:
    """Raise ConfigError unless there is one weight per member, positive and finite; those of classes may be 0."""
    if len(weights) != n_members:
        raise ConfigError(f"{len(weights)} weights for {n_members} members; give one weight per member.")
    plain = [weight for weight in weights if not isinstance(weight, ClassWeights)]
    if not all(0 < weight < float("inf") for weight in plain):
        raise ConfigError(f"weights must be positive numbers, got {', '.join(f'{weight:g}' for weight in plain)}.")
    for weight in weights:
        numbers = (weight.others, *dict(weight.by_class).values()) if isinstance(weight, ClassWeights) else ()
        if not all(0 <= number < float("inf") for number in numbers):
            raise ConfigError(f"weights of classes must be at least 0, got {', '.join(f'{n:g}' for n in numbers)}.")


def _of_classes(weight: Weight, classes: Sequence[str]) -> list[float]:
    others, by_class = weight if isinstance(weight, ClassWeights) else (weight, ())
    special = dict(by_class)
    return [special.get(name, others) for name in classes]


def counted_classes(weight: Weight, classes: Sequence[str]) -> list[str]:
    """Return the classes of a member for which its weight is above 0."""
    return [name for name, number in zip(classes, _of_classes(weight, classes), strict=True) if number > 0]


def weight_rows(
    weights: Sequence[Weight], members: Sequence[Sequence[str]], classes: Sequence[str]
) -> npt.NDArray[np.float64]:
    """Return the weight of each member for each class, (members, K); 0 where it lacks the class or does not count.

    `members` are the classes of each member. ConfigError if a weight is invalid, a member counts for no class, or a
    class of some members counts in none.
    """
    check_weights(weights, len(members))
    rows = np.zeros((len(members), len(classes)))
    present = np.zeros(rows.shape, bool)
    for number, (weight, names) in enumerate(zip(weights, map(set, members), strict=True)):
        present[number] = [name in names for name in classes]
        rows[number] = _of_classes(weight, classes) * present[number]
    unused = np.flatnonzero(present.any(1) & ~rows.any(1))
    if unused.size:
        raise ConfigError(f"the weight of member {unused[0] + 1} is 0 for every class; leave the member out.")
    unscored = np.flatnonzero(present.any(0) & ~rows.any(0))
    if unscored.size:
        raise ConfigError(
            f"class {classes[unscored[0]]!r} has the weight 0 in every member ({unscored.size} such classes); set one "
            "of these weights above 0."
        )
    return rows
