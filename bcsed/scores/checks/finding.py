"""The result of a check."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

ERROR, WARNING = "error", "warning"
MAX_EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem of a score table."""

    name: str  # a short name, such as 'broadcast', 'nan' or 'logits'
    severity: str  # 'error' or 'warning'
    sentence: str  # the problem with its evidence
    count: int  # rows, recordings, classes or values with the problem
    examples: tuple[str, ...] = ()  # the first of them


def pluralize(n: int, noun: str) -> str:
    """Return a count with its noun.

    >>> pluralize(1, "class"), pluralize(2, "class"), pluralize(3, "row")
    ('1 class', '2 classes', '3 rows')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}{'es' if noun.endswith('s') else 's'}"


def make_finding(name: str, severity: str, items: Sequence[object], template: str) -> Finding:
    """Return a finding; in `template`, ``{some}`` becomes the first items, ``{n row}`` their number and noun."""
    examples = tuple(map(str, items[:MAX_EXAMPLES]))
    some = ", ".join(map(repr, examples)) + (", ..." if len(items) > MAX_EXAMPLES else "")
    counted = re.sub(r"\{n (\w+)\}", lambda match: pluralize(len(items), match[1]), template)
    sentence = counted.replace("{some}", some)
    return Finding(name=name, severity=severity, sentence=sentence, count=len(items), examples=examples)
