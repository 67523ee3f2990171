"""One thing that a table shows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ERROR, WARNING = "ill", "odd"
SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a table shows.

    Parameters
    ----------
    name : str
        What it is called, one of a few words: 'broadcast', 'nan', 'logits', ...
    severity : {'ill', 'odd'}
    sentence : str
        What was found, with its evidence.
    count : int
        How many rows, recordings, classes or values it concerns.
    examples : tuple of str
        The first of them.
    """

    name: str
    severity: str
    sentence: str
    count: int
    examples: tuple[str, ...] = ()


def pluralize(n: int, noun: str) -> str:
    """Write a number of things.

    Examples
    --------
    >>> pluralize(1, "class"), pluralize(2, "class"), pluralize(3, "row")
    ('1 class', '2 classes', '3 rows')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{'es' if noun.endswith('s') else 's'}"


def make_finding(name: str, severity: str, names: Sequence[object], sentence: str) -> Finding:
    """Make a finding about named things; ``{some}`` stands for the first, ``{n row}`` for how many rows they are."""
    shown = tuple(map(str, names[:SHOWN]))
    some = ", ".join(map(repr, shown)) + (", ..." if len(names) > SHOWN else "")
    told = re.sub(r"\{n (\w+)\}", lambda found: pluralize(len(names), found[1]), sentence).replace("{some}", some)
    return Finding(name=name, severity=severity, sentence=told, count=len(names), examples=shown)
