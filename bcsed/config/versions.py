"""Names and defaults of earlier versions: read old contracts and recipes, and keep fingerprints stable.

Policy: bcsed reads the current schema of a file and the one before; of bundles and runs, all schemas so far.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from typing import Any

# Fields that were added later, and the value that stands for what was done before.
_ADDED: Mapping[tuple[str, ...], Any] = types.MappingProxyType({("groups",): [], ("net", "heads"): "shared"})
# Today's name of a field or group, and its name in the first version.
_RENAMED = {("frontend",): "signal", ("frontend", "time_folds"): "folds"}
# Today's value of a field, and its first spelling.
_RESPELLED = {
    ("net", "heads"): {"shared": "one"},
    ("data", "pseudo_source"): {"online": "in_situ"},
    ("data", "sampling"): {"uniform": "plain"},
    ("pseudo", "draw"): {"confidence": "maxima"},
    ("labelled", "draw"): {"confidence": "maxima"},
}


def first_names(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract (plain JSON values) in the first version's names, without added fields at their default."""
    values: dict[str, Any] = copy.deepcopy(dict(contract))
    for (*parents, name), default in _ADDED.items():
        parent = _descend(values, parents)
        if parent is not None and parent.get(name) == default:
            del parent[name]
    _respell(values, {path: dict(spellings) for path, spellings in _RESPELLED.items()})
    # Inner names first: afterwards their group has another name.
    for (*parents, name), first in sorted(_RENAMED.items(), key=lambda item: -len(item[0])):
        parent = _descend(values, parents)
        if parent is not None and name in parent:
            parent[first] = parent.pop(name)
    return values


def upgrade(given: Mapping[str, Any], *, fill: bool = True) -> dict[str, Any]:
    """Return a contract or a recipe of any version (plain JSON values) in today's names.

    Parameters
    ----------
    given : mapping
        Left as it is. Unknown keys stay, so that the reader refuses them by name.
    fill : bool
        Add fields that came later, with the value that stands for what was done before.

    Examples
    --------
    >>> upgrade({"signal": {"folds": 2}, "net": {"pool": "prob"}})
    {'net': {'pool': 'prob', 'heads': 'shared'}, 'frontend': {'time_folds': 2}, 'groups': []}
    """
    values: dict[str, Any] = copy.deepcopy(dict(given))
    # Outer names first, so that today's paths lead to the inner ones.
    for (*parents, name), first in sorted(_RENAMED.items(), key=lambda item: len(item[0])):
        parent = _descend(values, parents)
        if parent is not None and first in parent and name not in parent:
            parent[name] = parent.pop(first)
    _respell(values, {path: {old: new for new, old in spellings.items()} for path, spellings in _RESPELLED.items()})
    for (*parents, name), default in _ADDED.items() if fill else ():
        parent = _descend(values, parents)
        if parent is not None:
            parent.setdefault(name, copy.copy(default))
    return values


def _respell(values: dict[str, Any], spellings: Mapping[tuple[str, ...], Mapping[Any, Any]]) -> None:
    for (*parents, name), other in spellings.items():
        parent = _descend(values, parents)
        if parent is not None and isinstance(parent.get(name), str):
            parent[name] = other.get(parent[name], parent[name])


def _descend(values: Any, path: list[str]) -> dict[str, Any] | None:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else None
