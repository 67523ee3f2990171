"""A training's data, read and checked before its first step."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from .. import audio, competition, labels
from ..dataset import read_headers
from ..errors import ConfigError, DataError
from ..experiments import Experiment

_log = logging.getLogger(__name__)

# What makes two lists of clips the same training data.
_LISTED = ("filename", "label", "secondary")


@dataclass(frozen=True)
class Prepared:
    """A training's data, read and checked before the first step.

    Parameters
    ----------
    classes : tuple of str
    recordings : list of audio.Info
        One per clip.
    targets, weights : ndarray of float32, shape (N, K)
    truth : ndarray of float32, shape (N, K)
        1 at the primary label.
    train_rows, valid_rows : ndarray of int64
        Rows to learn from, rare classes repeated; and rows held out.
    soundscapes : list of audio.Info
        Recordings with labelled rows, for validation.
    row_truth : DataFrame
        Their labels, by row id.
    clips_sha256 : str
        Of the list of clips and labels.
    skipped : dict
        Unreadable recordings and why, where skipping was asked for.
    year : Competition
    """

    classes: tuple[str, ...]
    recordings: list[audio.Info]
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    train_rows: npt.NDArray[np.int64]
    valid_rows: npt.NDArray[np.int64]
    soundscapes: list[audio.Info]
    row_truth: pd.DataFrame
    clips_sha256: str
    skipped: dict[str, str]
    year: competition.Competition


def prepare(
    experiment: Experiment,
    data: str | Path,
    *,
    fold: int | None = 0,
    on_error: str = "stop",
    jobs: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Read labels and headers, and divide clips into those learned from and those held out.

    Raises
    ------
    ConfigError, DataError
        If labels are missing or contradict each other, a recording cannot be read (with ``on_error='skip'``
        it is left out and listed), or nothing is left to learn from.
    """
    if on_error not in ("stop", "skip"):
        raise ConfigError(f"on_error must be stop or skip, got {on_error!r}.")
    if fold is not None and not 0 <= fold < experiment.data.n_folds:
        raise ConfigError(f"fold must be 0 to {experiment.data.n_folds - 1}, or none; got {fold}.")
    data = Path(data)
    year = competition.detect(data)
    classes = competition.class_list(data, year)
    table = competition.read_train(data, year, classes)
    infos, failures = read_headers([str(path) for path in table["path"]], jobs=jobs, progress=progress)
    if failures and on_error == "stop":
        first = next(iter(failures.values()))
        raise DataError(
            f"{len(failures)} of {len(table)} training recordings cannot be read, the first: {first} "
            "Mend or remove them, or leave them out with --on-error skip."
        )
    table = table[[found is not None for found in infos]].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{data}: none of the training recordings can be read.")
    # Whoever holds nothing out needs no folds, however few clips there are.
    everything = np.full(len(table), labels.NEVER_HELD_OUT)
    fold_of = everything if fold is None else labels.folds(table, experiment.data, experiment.fit.seed)
    targets, weights = labels.targets(table, classes, experiment.data)
    column = {name: place for place, name in enumerate(classes)}
    truth = np.zeros_like(targets)
    truth[np.arange(len(table)), [column[name] for name in table["label"]]] = 1.0
    soundscapes, row_truth = _soundscapes(data, year, classes)
    valid = labels.validation_rows(fold_of, fold) if fold is not None else np.empty(0, np.int64)
    listed = "\n".join("|".join((f, a, *b)) for f, a, b in zip(*(table[c] for c in _LISTED), strict=True))
    return Prepared(
        classes=classes,
        recordings=[found for found in infos if found is not None],
        targets=targets,
        weights=weights,
        truth=truth,
        train_rows=labels.training_rows(table, fold_of, fold, experiment.data),
        valid_rows=valid,
        soundscapes=soundscapes,
        row_truth=row_truth,
        clips_sha256=hashlib.sha256(listed.encode()).hexdigest(),
        skipped=failures,
        year=year,
    )


def _soundscapes(
    data: Path, year: competition.Competition, classes: tuple[str, ...]
) -> tuple[list[audio.Info], pd.DataFrame]:
    """Return the labelled soundscapes that are on disk, and the truth of their rows."""
    file = data / year.soundscape_labels_csv if year.soundscape_labels_csv else None
    if file is None or not file.is_file():
        return [], pd.DataFrame()
    told = competition.read_soundscape_labels(file, classes)
    paths = [data / year.soundscapes_dir / name for name in dict.fromkeys(told["filename"])]
    there = [path for path in paths if path.is_file()]
    if len(there) < len(paths):
        _log.warning("%d of %d labelled soundscapes are not on disk", len(paths) - len(there), len(paths))
    truth = competition.truth_table(told, classes, row_s=year.row_s, row_id=year.row_id)
    return [audio.info(path) for path in there], truth
