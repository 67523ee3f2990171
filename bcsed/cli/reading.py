"""What the arguments of commands stand for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    from ..experiments import Experiment


def experiment(options: argparse.Namespace) -> Experiment:
    """Return the row that was named, with what ``--set`` and ``--pretrained none`` change."""
    from .. import experiments as table
    from ..config import SIGNALS, read_value

    changes: dict[str, Any] = {}
    for text in options.set:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set takes group__field=value, got {text!r}.")
        changes[key] = SIGNALS.get(value, value) if key == "signal" else read_value(value)
        if key == "signal" and value not in SIGNALS:
            raise ConfigError(f"there is no signal {value!r}; presets are {', '.join(SIGNALS)}.")
    if options.pretrained == "none":
        changes["fit__pretrained"] = False
    row = table.find(options.experiment)
    return row.vary(row.name, **changes)


def truth_of(path: str, classes: list[str]) -> pd.DataFrame:
    """Read the truth: a wide table by row id, or labels in the form ``filename,start,end,primary_label``."""
    from .. import competition, rows

    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file}: there is no such file.")
    with file.open(encoding="utf-8", errors="replace") as stream:
        header = stream.readline()
    if "row_id" in header:
        table = rows.read(file)
        rows.check(table, where=str(file))
        lacking = [name for name in map(str, table.columns) if name not in classes]
        if lacking:
            raise DataError(f"{file}: class {lacking[0]!r} is not in the scores ({len(lacking)} such classes).")
        return table
    return competition.truth_table(competition.read_soundscape_labels(file, classes), classes)


def fold(text: str) -> int | None:
    """Read a fold's number, or none."""
    return None if text == "none" else int(text)
