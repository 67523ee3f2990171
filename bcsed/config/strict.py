"""Frozen values to and from plain JSON types, and the checks that they make of themselves."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from ..errors import ConfigError

T = TypeVar("T")


def to_dict(value: Any) -> dict[str, Any]:
    """Return a config value as plain JSON types; `from_dict` is its inverse."""
    plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(value), allow_nan=False))
    return plain


def from_dict(kind: type[T], values: Any, where: str = "") -> T:
    """Build a config value from plain JSON types, demanding exactly its fields.

    Parameters
    ----------
    kind : type
        `Frontend`, `Net`, `Data`, `Augment`, `Fit`, `Contract`, or an `Experiment`.
    values : mapping
        One entry per field.
    where : str
        What the values come from, for the message.

    Raises
    ------
    ConfigError
        If a key is unknown or missing, or a value is of the wrong type or out of range.
    """
    place = where or kind.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{place} must be an object with named fields, got {type(values).__name__}.")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{place} has no field {unknown[0]!r}; its fields are {', '.join(known)}.")
    missing = [name for name in known if name not in values]
    if missing:
        raise ConfigError(f"{place} lacks {', '.join(missing)}.")
    made: dict[str, Any] = {}
    for name in known:
        hint, value = hints[name], values[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            made[name] = from_dict(hint, value, f"{place}.{name}")
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)


def read_value(text: str) -> Any:
    """Read a value given on the command line: JSON where it is JSON, else the text itself.

    Examples
    --------
    >>> read_value("0.5"), read_value("[0, 1]"), read_value("centre"), read_value("none")
    (0.5, (0, 1), 'centre', None)
    """
    if text.lower() in ("none", "null"):
        return None
    lowered = text.lower() if text.lower() in ("true", "false") else text
    try:
        value = json.loads(lowered)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def check_types(value: Any) -> None:
    """Refuse a field whose value is not of its annotated type; an int passes for a float."""
    hints = typing.get_type_hints(type(value))
    for field in dataclasses.fields(value):
        given, hint = getattr(value, field.name), hints[field.name]
        fitting = _fit(given, hint)
        if fitting is _MISFIT:
            raise ConfigError(
                f"{type(value).__name__}.{field.name} must be {_spell(hint)}, got {given!r} ({type(given).__name__})."
            )
        # Floats are stored as floats, so that 1 and 1.0 have one fingerprint.
        object.__setattr__(value, field.name, fitting)


_MISFIT = object()


def _fit(given: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = (_fit(given, option) for option in typing.get_args(hint))
        return next((option for option in options if option is not _MISFIT), _MISFIT)
    if hint is type(None):
        return None if given is None else _MISFIT
    if typing.get_origin(hint) is tuple:
        if not isinstance(given, (tuple, list)):
            return _MISFIT
        items = tuple(_fit(item, typing.get_args(hint)[0]) for item in given)
        return _MISFIT if any(item is _MISFIT for item in items) else items
    if hint is float and isinstance(given, (int, float)) and not isinstance(given, bool):
        return float(given) if math.isfinite(given) else _MISFIT
    if hint is int and isinstance(given, bool):
        return _MISFIT
    return given if isinstance(given, hint) else _MISFIT


def _spell(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return f"a list of {typing.get_args(hint)[0].__name__}"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def one_of(value: Any, name: str, options: Sequence[str]) -> None:
    """Refuse a field whose value is not among the options."""
    given = getattr(value, name)
    if given not in options:
        raise ConfigError(f"{name} must be one of {', '.join(options)}; got {given!r}.")


def at_least(value: Any, name: str, lowest: float) -> None:
    """Refuse a field below its lowest value."""
    given = getattr(value, name)
    if given < lowest:
        raise ConfigError(f"{name} must be at least {lowest}, got {given}.")


def in_range(value: Any, name: str, lowest: float, highest: float) -> None:
    """Refuse a field outside its closed range."""
    given = getattr(value, name)
    if not lowest <= given <= highest:
        raise ConfigError(f"{name} must be in [{lowest}, {highest}], got {given:g}.")


def multiple(value: Any, name: str, step: int) -> None:
    """Refuse a field that is no multiple of `step`, naming the nearest that are."""
    given = getattr(value, name)
    if given % step:
        raise ConfigError(f"{name} must be a multiple of {step}, got {given}; the nearest are {nearest(given, step)}.")


def nearest(given: int, step: int) -> str:
    """Spell the multiples of `step` around a value."""
    below = given // step * step
    return f"{below} and {below + step}" if below else f"{step}"
