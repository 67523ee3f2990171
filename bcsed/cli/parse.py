"""What the arguments of commands stand for."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.experiments import find_experiment, parse_changes
from ..errors import ConfigError, DataError

if TYPE_CHECKING:
    from ..config.experiments import Experiment
    from ..train.options import TrainInputs, TrainOptions
    from ..train.pseudolabels.selection import Selection


def experiment(options: argparse.Namespace) -> Experiment:
    """Return the row that was named, with what ``--set`` and ``--pretrained none`` change."""
    row = find_experiment(options.experiment)
    return row.vary(row.name, **parse_changes(changes(options)))


def changes(options: argparse.Namespace) -> list[str]:
    """Return the changes of ``--set``, and the one that ``--pretrained none`` stands for."""
    return [*options.set, *(["fit.pretrained=false"] if options.pretrained == "none" else [])]


def training_inputs(options: argparse.Namespace) -> TrainInputs:
    """Return the files that a training reads besides the competition's data."""
    from ..train.options import TrainInputs

    return TrainInputs(
        pseudolabels=options.pseudolabels,
        teacher=options.teacher,
        pretrained=None if options.pretrained in (None, "none") else options.pretrained,
        key_map=key_map(options.key_map),
        allow_mismatch=options.allow_mismatch,
    )


def training_options(options: argparse.Namespace) -> TrainOptions:
    """Return how a training is run."""
    from ..train.options import TrainOptions

    return TrainOptions(device=options.device, jobs=options.jobs, cache_gb=options.cache_gb, on_error=options.on_error)


def key_map(text: str | None) -> dict[str, str] | None:
    """Read a map of tensor names: a JSON object, or the path of a file that holds one."""
    if text is None:
        return None
    file = Path(text)
    try:
        values = json.loads(text if text.lstrip().startswith("{") else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file}: there is no such key map.") from error
    except ValueError as error:
        raise DataError(f"the key map {text!r} is not readable as JSON ({error}).") from error
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ConfigError('a key map is an object of prefixes, such as {"encoder.": "backbone."}.')
    return values


def selection(options: argparse.Namespace) -> Selection:
    """Return which answers of the teachers are believed."""
    from ..train.pseudolabels.selection import Selection

    of_class = thresholds(options.threshold_of)
    kind = "soft" if options.soft else "threshold" if options.threshold is not None or of_class else None
    kind = kind or ("top" if options.top_n else "threshold")
    if options.soft and (options.top_n or options.threshold is not None or of_class):
        raise ConfigError("--soft keeps every answer: leave --threshold and --top-n away.")
    return Selection(
        kind=kind,
        threshold=0.5 if options.threshold is None else options.threshold,
        thresholds=of_class,
        floor=options.floor,
        top_n=options.top_n,
        power=options.power,
    )


def thresholds(texts: Sequence[str]) -> dict[str, float]:
    """Read exceptions such as ``cuckoo1=0.8``."""
    found = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            equals = ""
        if not equals:
            raise ConfigError(f"--threshold-of takes class=threshold, got {text!r}.")
    return found


def fold(text: str) -> int | None:
    """Read a fold's number, or none."""
    return None if text == "none" else int(text)
