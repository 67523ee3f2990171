"""Sequences of stages: apply, describe as text, and parse."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ...errors import ConfigError
from .stages import MemberStage, Power, Smooth, Stage, TopRows

# The stages that published solutions share most often; a starting point, not a recommendation.
COMMON = ("smooth=0.2,0.6,0.2", "top=3")


def apply(table: pd.DataFrame, stages: Iterable[Stage], taxa: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the table after all stages, in order: the same rows and columns, float32 in [0, 1].

    The table has all rows of each of its recordings. `taxa` is the taxonomic class of each class; '' or absent if
    unknown. Raises ConfigError if a kind of stage is repeated, or a taxon with a kernel is not in `taxa`; DataError if
    the table is not a valid score table, or a recording lacks rows.
    """
    for stage in check_stages(stages):
        table = stage(table, taxa)
    processed: pd.DataFrame = table.astype(np.float32)
    return processed


def check_stages(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return stages as a tuple; raise ConfigError for a repeated kind, which an ablation could not name."""
    checked = tuple(stages)
    names = [stage.name for stage in checked]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"stage {name!r} occurs {names.count(name)} times; use each kind once.")
    return checked


def describe(stages: Iterable[Stage]) -> list[str]:
    """Return stages as text, for a manifest; `parse_stages` parses it.

    >>> describe([Smooth((0.1, 0.8, 0.1), {"Amphibia": (1, 1, 1)}), TopRows(3), Power(1.5)])
    ['smooth=0.1,0.8,0.1', 'smooth.Amphibia=1.0,1.0,1.0', 'top=3', 'power=1.5']
    """
    return [text for stage in check_stages(stages) for text in stage.spell()]


def parse_stages(texts: Iterable[str]) -> tuple[Stage, ...]:
    """Parse the stages of a command line, in order.

    The forms are ``smooth=W,W,W`` (a kernel), ``smooth.TAXON=W,W,W`` (the kernel of a taxon, in the same stage),
    ``top=K`` or ``top=K,AMOUNT``, ``power=E``; and each of these after the number of an ensemble's member, to which
    alone it is applied: ``2.top=3``. Raises ConfigError for another text, or a repeated stage.

    >>> parse_stages(["top=3,0.5", "smooth=.1,.8,.1"])
    (TopRows(k=3, amount=0.5), Smooth(kernel=(0.1, 0.8, 0.1), by_taxon=()))
    >>> parse_stages(["2.power=2", "top=3"])
    (MemberStage(member=2, stage=Power(exponent=2.0)), TopRows(k=3, amount=1.0))
    """
    groups: dict[int, list[str]] = {}
    for text in texts:
        number, dot, rest = text.partition(".")
        of_member = bool(dot) and number.isdecimal() and int(number) > 0
        groups.setdefault(int(number) if of_member else 0, []).append(rest if of_member else text)
    own = [MemberStage(number, stage) for number in sorted(groups) if number for stage in _parse_group(groups[number])]
    return (*own, *_parse_group(groups.get(0, ())))


def _parse_group(texts: Iterable[str]) -> tuple[Stage, ...]:
    """Parse the stages of one member, or those after the mean."""
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        kind, dot, taxon = key.partition(".")
        if kind not in ("smooth", "top", "power") or (dot and (kind != "smooth" or not taxon)) or not equals:
            raise ConfigError(
                f"{text!r} is not a stage; write smooth=W,W,W, smooth.TAXON=W,W,W, top=K, top=K,AMOUNT or power=E."
            )
        if key in values:
            raise ConfigError(f"{text!r}: {key} is given twice; give it once.")
        values[key] = value
    kinds = dict.fromkeys(key.partition(".")[0] for key in values)
    return tuple(_parse_stage(kind, values) for kind in kinds)


def _parse_stage(kind: str, values: Mapping[str, str]) -> Stage:
    if kind == "smooth":
        by_taxon = {key[7:]: _numbers(key, text) for key, text in values.items() if key.startswith("smooth.")}
        return Smooth(_numbers("smooth", values["smooth"]) if "smooth" in values else (1.0,), by_taxon)
    numbers = _numbers(kind, values[kind])
    if kind == "power":
        if len(numbers) != 1:
            raise ConfigError(f"'power={values[kind]}': write one number, such as power=1.5.")
        return Power(numbers[0])
    if len(numbers) > 2 or not numbers[0].is_integer():
        raise ConfigError(
            f"'top={values[kind]}': write an integer number of rows, and optionally an amount: top=3,0.5."
        )
    return TopRows(int(numbers[0]), *numbers[1:])


def _numbers(key: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"'{key}={text}': {text!r} is not a list of numbers separated by commas.") from None
