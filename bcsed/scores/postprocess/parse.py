"""Several steps: one after the other, and spelled out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ...errors import ConfigError
from .stages import Power, Smooth, Stage, TopRows

# What published solutions have most often in common; steps to try, not a recommendation.
COMMON = ("smooth=0.2,0.6,0.2", "top=3")


def apply(table: pd.DataFrame, steps: Iterable[Stage], taxa: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the table after all steps, in their order.

    Parameters
    ----------
    table : DataFrame
        A score table, with all rows of each recording that it has.
    steps : iterable of Stage
        Each kind at most once.
    taxa : mapping of str to str, optional
        The taxonomic class of each class; '' or absent where it is not known.

    Returns
    -------
    DataFrame
        The same rows and columns in the same order; float32 in [0, 1].

    Raises
    ------
    ConfigError
        If a kind of step stands twice, or see `Smooth`.
    DataError
        If the table is none, see `recordings`.
    """
    for step in check_stages(steps):
        table = step(table, taxa)
    done: pd.DataFrame = table.astype(np.float32)
    return done


def check_stages(steps: Iterable[Stage]) -> tuple[Stage, ...]:
    """Return steps as a tuple; refuse (ConfigError) a kind that stands twice, which no ablation could name."""
    kept = tuple(steps)
    names = [step.name for step in kept]
    doubled = [name for name in names if names.count(name) > 1]
    if doubled:
        raise ConfigError(f"the step {doubled[0]!r} stands {names.count(doubled[0])} times; each works once.")
    return kept


def describe(steps: Iterable[Stage]) -> list[str]:
    """Return steps as a list of text, for a manifest; `read_steps` reads it.

    Examples
    --------
    >>> describe([Smooth((0.1, 0.8, 0.1), {"Amphibia": (1, 1, 1)}), TopRows(3), Power(1.5)])
    ['smooth=0.1,0.8,0.1', 'smooth.Amphibia=1.0,1.0,1.0', 'top=3', 'power=1.5']
    """
    return [text for step in check_stages(steps) for text in step.spell()]


def parse_stages(texts: Iterable[str]) -> tuple[Stage, ...]:
    """Read steps as the command line spells them, in their order.

    Parameters
    ----------
    texts : iterable of str
        ``smooth=W,W,W`` (a kernel), ``smooth.TAXON=W,W,W`` (one of a taxon's own; the same step), ``top=K`` or
        ``top=K,AMOUNT``, ``power=E``.

    Raises
    ------
    ConfigError
        If one is none of these, or stands twice.

    Examples
    --------
    >>> parse_stages(["top=3,0.5", "smooth=.1,.8,.1"])
    (TopRows(k=3, amount=0.5), Smooth(kernel=(0.1, 0.8, 0.1), of=()))
    """
    given: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        kind, dot, taxon = key.partition(".")
        if kind not in ("smooth", "top", "power") or (dot and (kind != "smooth" or not taxon)) or not equals:
            raise ConfigError(
                f"{text!r} is no step; write smooth=W,W,W, smooth.TAXON=W,W,W, top=K, top=K,AMOUNT or power=E."
            )
        if key in given:
            raise ConfigError(f"{text!r}: {key} is given twice; give it once.")
        given[key] = value
    kinds = dict.fromkeys(key.partition(".")[0] for key in given)
    return tuple(_read_step(kind, given) for kind in kinds)


def _read_step(kind: str, given: Mapping[str, str]) -> Stage:
    if kind == "smooth":
        own = {key[7:]: _numbers(key, text) for key, text in given.items() if key.startswith("smooth.")}
        return Smooth(_numbers("smooth", given["smooth"]) if "smooth" in given else (1.0,), own)
    numbers = _numbers(kind, given[kind])
    if kind == "power":
        if len(numbers) != 1:
            raise ConfigError(f"'power={given[kind]}': write one number, such as power=1.5.")
        return Power(numbers[0])
    if len(numbers) > 2 or not numbers[0].is_integer():
        raise ConfigError(f"'top={given[kind]}': write a whole number of rows, and an amount if need be: top=3,0.5.")
    return TopRows(int(numbers[0]), *numbers[1:])


def _numbers(key: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"'{key}={text}': {text!r} is no list of numbers between commas.") from None
