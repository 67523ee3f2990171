"""Describe the differences between the settings of two runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .contract import FRONTENDS
from .strict import to_dict

_MAX_CHARS = 60
_MISSING = object()


def describe_difference(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Return the settings in which the second differs from the first, or '' if they are equal.

    >>> describe_difference({"fit": {"lr": 0.001, "loss": "bce"}}, {"fit": {"lr": 0.002, "loss": "bce"}})
    'fit.lr: 0.001 -> 0.002'
    """
    left, right = flatten(first), flatten(second)
    keys = [key for key in dict.fromkeys((*left, *right)) if left.get(key, _MISSING) != right.get(key, _MISSING)]
    presets = _preset(left), _preset(right)
    if all(presets) and presets[0] != presets[1]:
        keys = ["frontend", *(key for key in keys if not key.startswith("frontend."))]
        left, right = {**left, "frontend": presets[0]}, {**right, "frontend": presets[1]}
    return "; ".join(f"{key}: {_format(key, left)} -> {_format(key, right)}" for key in keys)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one mapping with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _preset(settings: Mapping[str, Any]) -> str | None:
    fields = {key.removeprefix("frontend."): value for key, value in settings.items() if key.startswith("frontend.")}
    return next((name for name, preset in FRONTENDS.items() if to_dict(preset) == fields), None)


def _format(key: str, settings: Mapping[str, Any]) -> str:
    if key not in settings:
        return "missing"
    value = settings[key]
    if key == "classes":
        return f"{len(value)} ({', '.join(map(str, value[:2]))}, ...)"
    if key.endswith("sha256") and isinstance(value, str):
        return value[:8]
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _MAX_CHARS else f"{text[: _MAX_CHARS - 4]} ..."
