"""A training's data, read and checked before its first step."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..audio.decode import AudioInfo
from ..config.experiments import Experiment
from ..config.recipe import Injection
from ..data.competitions import Competition, detect_competition, read_class_list, read_taxa
from ..data.head_groups import group_by_frequency, group_by_taxon
from ..data.label_files import read_train
from ..data.labels import NEVER_HELD_OUT, assign_folds, class_counts, make_targets, training_rows, validation_rows
from ..errors import ConfigError, DataError
from ..files import sha256
from .dataset.clips import read_headers
from .dataset.embeddings import Embeddings, read_embeddings
from .dataset.excerpts import ExcerptSampler
from .options import TrainInputs, TrainOptions
from .soundscapes import injectors, labelled_source, split_soundscapes

_log = logging.getLogger(__name__)

# What makes two lists of clips the same training data.
_LISTED = ("filename", "label", "secondary")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """A training's data, read and checked before the first step.

    Parameters
    ----------
    classes : tuple of str
    groups : tuple of int
        The head group of each class; empty for one head.
    recordings : list of audio.AudioInfo
        One per clip.
    names, originals : list of str
        Each clip's name in the label file, and the recording that it was cut from.
    marks : list of tuple of float
        Marked seconds of each clip.
    targets, weights : ndarray of float32, shape (N, K)
    truth : ndarray of float32, shape (N, K)
        1 at the primary label.
    own : ndarray of int64, shape (N,)
        The class of each clip.
    train_rows, valid_rows : ndarray of int64
        Rows to learn from, rare classes repeated, rows of labelled soundscapes from N on; and rows held out.
    labelled : Source or None
        Labelled soundscapes to learn from.
    injectors : tuple of (Source, Injection)
        Where excerpts come from, and how they enter.
    teacher : Embeddings or None
    soundscapes : list of audio.AudioInfo
        Recordings with labelled rows, for validation.
    row_truth : DataFrame
        Their labels, by row id.
    clips_sha256 : str
        Of the list of clips and labels.
    sources : dict
        What else is learned from, by its SHA-256 and counts.
    skipped : dict
        Unreadable recordings and why, where skipping was asked for.
    year : Competition
    """

    classes: tuple[str, ...]
    groups: tuple[int, ...] = ()
    recordings: list[AudioInfo]
    names: list[str]
    originals: list[str]
    marks: list[tuple[float, ...]]
    targets: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    own: npt.NDArray[np.int64]
    train_rows: npt.NDArray[np.int64]
    valid_rows: npt.NDArray[np.int64]
    labelled: ExcerptSampler | None = None
    injectors: tuple[tuple[ExcerptSampler, Injection], ...] = ()
    teacher: Embeddings | None = None
    soundscapes: list[AudioInfo]
    row_truth: pd.DataFrame
    clips_sha256: str
    sources: dict[str, Any]
    skipped: dict[str, str]
    year: Competition


def prepare_data(
    experiment: Experiment,
    data: str | Path,
    *,
    fold: int | None = 0,
    inputs: TrainInputs | None = None,
    options: TrainOptions | None = None,
) -> TrainingData:
    """Read labels and headers, and divide clips and soundscapes into those learned from and those held out.

    Raises
    ------
    ConfigError, DataError
        If labels are missing or contradict each other, a recording cannot be read (with ``on_error='skip'``
        it is left out and listed), a file that the experiment needs is not given or one is given that it
        would not read, or nothing is left to learn from.
    """
    inputs, options = inputs or TrainInputs(), options or TrainOptions()
    teacher, cache_gb = inputs.teacher, options.cache_gb / 2
    if fold is not None and not 0 <= fold < experiment.data.n_folds:
        raise ConfigError(f"fold must be 0 to {experiment.data.n_folds - 1}, or none; got {fold}.")
    _check_files(experiment, inputs.pseudolabels, teacher)
    data = Path(data)
    year = detect_competition(data)
    classes = read_class_list(data, year)
    table, infos, skipped = _clips(data, year, classes, options)
    # Whoever holds nothing out needs no folds, however few clips there are.
    everything = np.full(len(table), NEVER_HELD_OUT)
    fold_of = everything if fold is None else assign_folds(table, experiment.data, experiment.fit.seed)
    targets, weights = make_targets(table, classes, experiment.data)
    column = {name: place for place, name in enumerate(classes)}
    own = np.array([column[name] for name in table["label"]], np.int64)
    land = split_soundscapes(data, year, classes, experiment.data, fold)
    labelled = labelled_source(land, data, year, classes, experiment, cache_gb)
    injected, told = injectors(land, labelled, data, year, classes, experiment, inputs.pseudolabels, cache_gb)
    embeddings = read_embeddings(teacher, list(table["filename"]), experiment.frontend) if teacher else None
    if embeddings is not None and teacher is not None:
        level = logging.INFO if embeddings.n_known == len(table) else logging.WARNING
        _log.log(level, "%d of %d clips have a teacher's embedding", embeddings.n_known, len(table))
        told["teacher"] = {"sha256": sha256(Path(teacher)), "clips": embeddings.n_known}
    rows = training_rows(table, fold_of, fold, experiment.data)
    if labelled is not None:
        told["labelled_rows"] = len(labelled)
        rows = np.concatenate([rows, *[len(table) + np.arange(len(labelled))] * experiment.data.soundscape_repeats])
    return TrainingData(
        classes=classes,
        groups=_groups(experiment, data, year, table, classes),
        recordings=infos,
        names=list(table["filename"]),
        originals=list(table["recording"]),
        marks=list(table["centres"]),
        targets=targets,
        weights=weights,
        truth=np.eye(len(classes), dtype=np.float32)[own],
        own=own,
        train_rows=rows,
        valid_rows=validation_rows(fold_of, fold) if fold is not None else np.empty(0, np.int64),
        labelled=labelled,
        injectors=injected,
        teacher=embeddings,
        soundscapes=land.valid,
        row_truth=land.truth,
        clips_sha256=_digest(table),
        sources=told,
        skipped=skipped,
        year=year,
    )


def _check_files(experiment: Experiment, pseudolabels: object, teacher: object) -> None:
    """Refuse a file that is needed and not given, or given and not needed."""
    from_table = experiment.pseudo.share > 0 and experiment.data.pseudo_source == "table"
    if from_table and pseudolabels is None:
        raise ConfigError(
            f"{experiment.name} brings pseudolabelled soundscapes into {experiment.pseudo.share:.0%} of its batches: "
            "give them as --pseudolabels FILE (`bcsed pseudolabel` makes it), or leave them out with "
            "--set pseudo.share=0."
        )
    if pseudolabels is not None and not from_table:
        raise ConfigError(
            f"{experiment.name} would not read {pseudolabels}: --set pseudo.share=0.25 brings it into a quarter of "
            "each batch (with data.pseudo_source=table)."
        )
    if experiment.fit.distil_weight > 0 and teacher is None:
        raise ConfigError(f"{experiment.name} learns from a teacher's embeddings: give them as --teacher FILE.")
    if teacher is not None and not experiment.fit.distil_weight > 0:
        raise ConfigError(f"{experiment.name} would not read {teacher}: set fit.distil_weight above 0.")


def _clips(
    data: Path,
    year: Competition,
    classes: Sequence[str],
    options: TrainOptions,
) -> tuple[pd.DataFrame, list[AudioInfo], dict[str, str]]:
    """Return the clips that can be read, their headers, and why others cannot."""
    table = read_train(data, year, classes)
    infos, failures = read_headers([str(path) for path in table["path"]], jobs=options.jobs)
    if failures and options.on_error == "stop":
        first = next(iter(failures.values()))
        raise DataError(
            f"{len(failures)} of {len(table)} training recordings cannot be read, the first: {first} "
            "Mend or remove them, or leave them out with --on-error skip."
        )
    table = table[[found is not None for found in infos]].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{data}: none of the training recordings can be read.")
    return table, [found for found in infos if found is not None], failures


def _groups(
    experiment: Experiment,
    data: Path,
    year: Competition,
    table: pd.DataFrame,
    classes: Sequence[str],
) -> tuple[int, ...]:
    if experiment.net.heads == "taxon":
        return group_by_taxon(classes, read_taxa(data, year))
    if experiment.net.heads == "frequency":
        return group_by_frequency(class_counts(table, classes))
    return ()


def _digest(table: pd.DataFrame) -> str:
    listed = "\n".join("|".join((f, a, *b)) for f, a, b in zip(*(table[c] for c in _LISTED), strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()
