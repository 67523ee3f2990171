"""Conversion of frozen settings to and from JSON types, and checks of their fields."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..errors import ConfigError

T = TypeVar("T")
_MISMATCH = object()


def to_dict(value: Any) -> dict[str, Any]:
    """Return settings as plain JSON types; `from_dict` is the inverse."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(value), allow_nan=False))
    return plain


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """Create settings of a class from plain JSON types, which must contain exactly its fields.

    `where` is the source of the values in the ConfigError for an unknown or missing key, or an invalid value.
    """
    where = where or kind.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be an object with named fields, got {type(values).__name__}.")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{where} has no field {unknown[0]!r}; its fields are {', '.join(known)}.")
    missing = [name for name in known if name not in values]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}.")
    fields: dict[str, Any] = {}
    for name in known:
        hint, value = hints[name], values[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            fields[name] = from_dict(hint, value, f"{where}.{name}")
        else:
            fields[name] = tuple(value) if isinstance(value, list) else value
    return kind(**fields)


def read_value(text: str) -> Any:
    """Read a value from the command line: as JSON if possible, otherwise as text.

    >>> read_value(".5"), read_value("[0, 1]"), read_value("centre"), read_value("none")
    (0.5, (0, 1), 'centre', None)
    """
    lowered = text.lower()
    if lowered in ("none", "null"):
        return None
    try:
        value = json.loads(lowered if lowered in ("true", "false") else text)
    except json.JSONDecodeError:
        # JSON does not allow numbers such as .5 and 5.
        return float(text) if re.fullmatch(r"[+-]?(\d+\.|\.\d+)(e[+-]?\d+)?", lowered) else text
    return tuple(value) if isinstance(value, list) else value


def read_values(texts: Sequence[str], option: str, form: str) -> dict[str, float]:
    """Read pairs such as ``cuckoo1=0.8``."""
    values = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        if name in values:
            raise ConfigError(f"{option} takes one value of {name!r}, got two.")
        try:
            values[name] = float(number)
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"{option} takes {form}, got {text!r}.")
    return values


def check_types(settings: Any) -> None:
    """Refuse fields whose value is not of the annotated type; an int is accepted as a float."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        converted = _convert(value, hint)
        if converted is _MISMATCH:
            name, kind = f"{type(settings).__name__}.{field.name}", type(value).__name__
            raise ConfigError(f"{name} must be {_type_name(hint)}, got {value!r} ({kind}).")
        # Ints become floats here, so that 1 and 1.0 have the same fingerprint.
        object.__setattr__(settings, field.name, converted)


def _convert(value: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = (_convert(value, option) for option in typing.get_args(hint))
        return next((option for option in options if option is not _MISMATCH), _MISMATCH)
    if hint is type(None):
        return None if value is None else _MISMATCH
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (tuple, list)):
            return _MISMATCH
        items = tuple(_convert(item, typing.get_args(hint)[0]) for item in value)
        return _MISMATCH if any(item is _MISMATCH for item in items) else items
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else _MISMATCH
    if hint is int and isinstance(value, bool):
        return _MISMATCH
    return value if isinstance(value, hint) else _MISMATCH


def _type_name(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {typing.get_args(hint)[0].__name__}"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def one_of(settings: Any, name: str, options: Sequence[str]) -> None:
    """Refuse a field whose value is not one of the options."""
    value = getattr(settings, name)
    if value not in options:
        raise ConfigError(f"{name} must be one of {', '.join(options)}; got {value!r}.")


def at_least(settings: Any, lowest: float, *names: str) -> None:
    """Refuse fields below a minimum."""
    for name in names:
        if getattr(settings, name) < lowest:
            raise ConfigError(f"{name} must be at least {lowest}, got {getattr(settings, name)}.")


def in_range(settings: Any, lowest: float, highest: float, *names: str) -> None:
    """Refuse fields outside a closed range; None is accepted."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not lowest <= value <= highest:
            raise ConfigError(f"{name} must be in [{lowest}, {highest}], got {value:g}.")


def nearest(value: int, step: int) -> str:
    """Return the multiples of `step` below and above a value, as text."""
    below = value // step * step
    return f"{below} and {below + step}" if below else f"{step}"
