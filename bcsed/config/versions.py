"""Names and defaults of earlier versions of contracts and recipes.

Schema policy
-------------
Every file that bcsed writes contains its schema number (``"schema": n``). bcsed reads the current schema of a file and
the one before, and refuses others (`bcsed.files.check_schema`). Contracts and recipes, in a bundle's ``bundle.json``
and a run's ``run.json``, are read in all schemas so far: `upgrade` converts them to the current names. Fingerprints
are computed from the first names (`first_names`), so they never change.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping
from typing import Any

from .recipe import Injection
from .strict import to_dict

# Fields added later, and the value that stands for the earlier behaviour.
_ADDED: Mapping[tuple[str, ...], Any] = types.MappingProxyType(
    {
        ("groups",): [],
        ("net", "heads"): "shared",
        ("net", "last_conv"): True,
        ("data", "excerpt_rows"): "half",
        ("data", "duplicates"): "off",
        ("data", "negative_share"): 0.0,
        ("augment", "level"): "raw",
        ("augment", "noise_measure"): "rms",
        ("augment", "mask_epochs"): 0,
        ("augment", "dropout_p"): 1.0,
        ("pseudo", "same_class"): True,
        ("labelled", "same_class"): True,
        ("fit", "auc_pairs"): "class",
        ("fit", "strong_weight"): 0.0,
        ("fit", "distil_epochs"): 0,
        ("fit", "swa_epochs"): 0,
        ("fit", "freeze_epochs"): 0,
        ("fit", "cycle_decay"): 0.5,
        ("fit", "logit_dropout"): 0.0,
        ("fit", "attention_init"): "random",
    }
)
# Current path of a field or group, and its first name.
_RENAMED = {
    ("frontend",): "signal",
    ("frontend", "time_folds"): "folds",
    ("private_lb",): "hidden",
    ("public_lb",): "public",
}
# Current value of a field, and its first spelling.
_RESPELLED = {
    ("net", "heads"): {"shared": "one"},
    ("data", "pseudo_source"): {"online": "in_situ"},
    ("data", "sampling"): {"uniform": "plain"},
    ("pseudo", "draw"): {"confidence": "maxima"},
    ("labelled", "draw"): {"confidence": "maxima"},
}


def first_names(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract (plain JSON values) in the first names, without added fields at their default."""
    values: dict[str, Any] = copy.deepcopy(dict(contract))
    for path, default in _ADDED.items():
        parent = _parent(values, path)
        if parent.get(path[-1]) == default:
            del parent[path[-1]]
    _respell(values, _RESPELLED)
    # Inner names first: their paths start with the current name of the group.
    for path in sorted(_RENAMED, key=len, reverse=True):
        _rename(_parent(values, path), path[-1], _RENAMED[path])
    return values


def upgrade(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a contract, recipe or experiment of any version (plain JSON values) in the current names.

    Unknown keys stay, so that the reader can name them. Fields that were added later get the value that stands for the
    earlier behaviour; `Contract.groups` only if there are ``classes``.

    >>> upgrade({"signal": {"folds": 2}, "net": {"pool": "prob"}})
    {'net': {'pool': 'prob', 'heads': 'shared', 'last_conv': True}, 'frontend': {'time_folds': 2}}
    """
    values: dict[str, Any] = copy.deepcopy(dict(settings))
    # Outer names first, so that the current paths lead to the inner fields.
    for path in sorted(_RENAMED, key=len):
        _rename(_parent(values, path), _RENAMED[path], path[-1])
    _respell(values, {path: {old: new for new, old in spellings.items()} for path, spellings in _RESPELLED.items()})
    fit, augment = _parent(values, ("fit", "")), _parent(values, ("augment", ""))
    if fit.get("loss") == "focal" and "cycle_decay" not in fit:
        fit["loss"] = "focal_torchvision"  # the only form until cycle_decay was added
    for name in ("time_masks", "freq_masks"):
        if isinstance(augment.get(name), int):
            augment[name] = [augment[name]]
    if "labelled" in values:
        for group in ("unlabelled", "noise"):
            values.setdefault(group, to_dict(Injection()))
    for path, default in _ADDED.items():
        parent = _parent(values, path)
        if (parent and len(path) > 1) or "classes" in parent:
            parent.setdefault(path[-1], copy.copy(default))
    return values


def upgrade_run(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a ``run.json`` or ``bundle.json`` with its contract and recipe in the current names."""
    upgraded = {
        key: upgrade(description[key]) for key in ("contract", "recipe") if isinstance(description.get(key), dict)
    }
    return {**description, **upgraded}


def _rename(values: dict[str, Any], old: str, new: str) -> None:
    if old in values and new not in values:
        values[new] = values.pop(old)


def _respell(values: dict[str, Any], spellings: Mapping[tuple[str, str], Mapping[str, str]]) -> None:
    for path, other in spellings.items():
        parent = _parent(values, path)
        value = parent.get(path[-1])
        if isinstance(value, str):
            parent[path[-1]] = other.get(value, value)


def _parent(values: Any, path: tuple[str, ...]) -> dict[str, Any]:
    """Return the group that contains a field, or an empty mapping."""
    for name in path[:-1]:
        values = values.get(name) if isinstance(values, dict) else None
    return values if isinstance(values, dict) else {}
