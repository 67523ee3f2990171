"""The data of a training, read and checked before its first step, and how it is run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..audio.headers import AudioInfo
from ..config.experiments import Experiment
from ..config.recipe import Data
from ..data.competitions import Competition, detect_competition, read_class_list, read_taxa
from ..data.head_groups import group_by_frequency, group_by_taxon
from ..data.label_files import add_noise, read_train
from ..data.labels import NEVER_HELD_OUT, assign_folds, class_counts, make_targets, training_rows, validation_rows
from ..errors import ConfigError, DataError
from ..files import sha256
from ..recordings import find_recordings, printable
from .checkpoints import OWN_LABELS
from .dataset.batches import BatchInputs
from .dataset.clips import ClipReader, read_headers
from .dataset.excerpts import ExcerptSampler
from .dataset.teacher import Teacher, read_teacher
from .duplicates import separate_duplicates
from .pseudolabels.table import read_pseudolabels
from .soundscapes import make_backgrounds, make_injectors, make_labelled_sampler, make_unlabelled, split_soundscapes
from .strong_labels import describe_events, read_marked_events

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainInputs:
    """Files that a training reads in addition to the competition's data."""

    pseudolabels: str | Path | None = None  #: table of `bcsed.pseudolabels`, for an experiment that injects soundscapes
    #: Table of `bcsed.train.pseudolabels.clips`: targets of classes that the label file does not list for a clip.
    clip_pseudolabels: str | Path | None = None
    #: Labels of soundscapes in addition to the competition's, see `bcsed.train.soundscapes.read_labelled_rows`.
    labels: Sequence[str | Path] = ()
    #: Annotation tables of clips and labelled soundscapes, see `bcsed.data.annotations`, for `fit.strong_weight`.
    events: Sequence[str | Path] = ()
    teacher: Sequence[str | Path] = ()  #: a teacher's embeddings of clips and soundscapes (Parquet or npz), to distil
    #: Folder of recordings without any of the classes, in addition to the competition's folder ``noise``: negatives,
    #: and backgrounds of clips.
    noise: str | Path | None = None
    #: Initial weights instead of timm's or random ones: a run, a bundle or a file, see `bcsed.models.pretrained`.
    pretrained: str | Path | None = None
    key_map: Mapping[str, str] | str | None = None  #: prefixes of tensor names in that file to those here, or 'order'
    allow_mismatch: bool = False  #: start even if tensors do not match; they are listed in ``start.txt``


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a training is run; the trained weights do not depend on it."""

    device: str | None = None  #: by default ``cuda`` if there is a GPU, else ``cpu``
    jobs: int = 4  #: decoding threads of each process
    cache_gb: float = 1.0  #: memory for decoded recordings
    checkpoint_min: float = 10.0  #: minutes between checkpoints; each epoch also ends with one
    #: Minutes after which no step is started. The run keeps a checkpoint and can be resumed; `bcsed.train.finished`
    #: returns whether all epochs were trained.
    stop_after_min: float | None = None
    on_error: str = "stop"  #: stop at an unreadable training recording, or skip it

    def __post_init__(self) -> None:
        if self.on_error not in ("stop", "skip"):
            raise ConfigError(f"on_error must be stop or skip, got {self.on_error!r}.")


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The data of a training with N clips and K classes."""

    classes: tuple[str, ...]
    groups: tuple[int, ...] = ()  # the head of each class; empty for one head
    inputs: BatchInputs
    names: list[str]  # of each clip, as in the label file
    originals: list[str]  # the recording that each clip was cut from
    listed: npt.NDArray[np.bool_]  # classes that the label file lists for each clip, (N, K)
    train_rows: npt.NDArray[np.int64]  # rare classes repeated; from N on rows of labelled soundscapes
    valid_rows: npt.NDArray[np.int64]
    soundscapes: list[AudioInfo]  # to validate on
    row_truth: pd.DataFrame  # their labels, by row id
    clips_sha256: str  # of the list of clips and labels
    labels_sha256: str  # of the same list with clips that were left out
    sources: dict[str, Any]  # other training data: SHA-256 and counts
    duplicates: pd.DataFrame  # see `find_duplicates`; empty if there are none, or they were not searched
    skipped: dict[str, str]  # unreadable recordings and why, with on_error='skip'
    competition: Competition


def prepare_data(
    experiment: Experiment,
    data: str | Path,
    *,
    fold: int | None = 0,
    inputs: TrainInputs | None = None,
    options: TrainOptions | None = None,
) -> TrainingData:
    """Read labels and headers, and split clips and soundscapes into training and validation.

    ConfigError or DataError if labels are missing or contradict each other, a recording cannot be read (with
    ``on_error='skip'`` it is left out and listed), a file is missing or would not be used, or nothing is left to train
    on.
    """
    inputs, options, setting = inputs or TrainInputs(), options or TrainOptions(), experiment.data.duplicates
    _check_inputs(experiment, inputs, fold)
    data, competition = Path(data), detect_competition(data)
    classes = read_class_list(data, competition)
    listing = read_train(data, competition, classes)
    table, infos, skipped = _read_clips(data, listing, options)
    split = split_soundscapes(data, competition, classes, experiment.data, fold, inputs.labels)
    table, infos, duplicates = separate_duplicates(table, infos, split.valid, setting, jobs=options.jobs)
    clips_sha256 = _digest(table)
    table, infos, skipped, noise = _add_noise(table, infos, skipped, inputs.noise, options)
    # Without a held-out fold, no folds are assigned, which would need several clips of each class.
    n = len(table)
    fold_of = np.full(n, NEVER_HELD_OUT) if fold is None else assign_folds(table, experiment.data, experiment.fit.seed)
    targets, weights, listed, clip_source = _make_targets(table, classes, experiment, inputs.clip_pseudolabels)
    teacher = read_teacher(inputs.teacher, list(table["filename"])) if inputs.teacher else None
    events = read_marked_events(inputs.events, list(listing["path"]), infos, split, experiment.frontend)
    labelled = make_labelled_sampler(split, experiment, events, teacher)
    injectors, sources = make_injectors(split, labelled, experiment, inputs.pseudolabels, teacher)
    injectors += make_unlabelled(split, experiment, teacher)
    sources |= noise | clip_source
    if teacher is not None:
        sources["teacher"] = _describe_teacher(teacher, [labelled, *(sampler for sampler, _ in injectors)], inputs)
    rows = training_rows(table, fold_of, fold, experiment.data)
    injectors += make_backgrounds(table.iloc[np.unique(rows)], infos, classes, experiment, teacher)
    clips = ClipReader(infos, experiment.frontend, experiment.data, marks=list(table["centres"]))
    _divide_memory(options.cache_gb, clips, [labelled, *(sampler for sampler, _ in injectors)])
    if labelled is not None:
        sources["labelled_rows"] = len(labelled)
        rows = np.concatenate([rows, *[n + np.arange(len(labelled))] * experiment.data.soundscape_repeats])
    sources |= describe_events(inputs.events, events, infos, rows.tolist(), split)
    return TrainingData(
        classes=classes,
        groups=_head_groups(experiment, data, competition, table, classes),
        inputs=BatchInputs(
            clips,
            targets,
            weights,
            class_index=pd.Index(classes).get_indexer(table["label"]).astype(np.int64),
            labelled=labelled,
            injectors=injectors,
            teacher=teacher,
            partners=_partners(table, rows) if experiment.data.pad == "join" else None,
            level=experiment.augment.level,
            events=tuple(events.get(printable(info.path)) for info in infos) if events else (),
        ),
        names=list(table["filename"]),
        originals=list(table["recording"]),
        listed=listed,
        train_rows=rows,
        valid_rows=validation_rows(fold_of, fold) if fold is not None else np.empty(0, np.int64),
        soundscapes=split.valid,
        row_truth=split.truth,
        clips_sha256=clips_sha256,
        labels_sha256=_digest(listing),
        sources=sources,
        duplicates=duplicates,
        skipped=skipped,
        competition=competition,
    )


def _make_targets(
    table: pd.DataFrame, classes: Sequence[str], experiment: Experiment, pseudolabels: str | Path | None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.bool_], dict[str, Any]]:
    """Return targets, loss weights and listed labels of the clips, and the description of their pseudolabels."""
    targets, weights = make_targets(table, classes, experiment.data)
    listed = make_targets(table, classes, Data())[0] > 0
    if pseudolabels is None:
        return targets, weights, listed, {}
    values, source = _clip_pseudolabels(pseudolabels, table, classes, listed)
    weights[values > 0] = experiment.data.pseudo_loss_weight
    targets += experiment.data.pseudo_target * values
    return targets, weights, listed, {"clip_pseudolabels": source}


def _divide_memory(cache_gb: float, clips: ClipReader, samplers: Sequence[ExcerptSampler | None]) -> None:
    """Give each reader of recordings the same share of the memory for decoded ones."""
    readers = dict.fromkeys([clips, *(each.clips for each in samplers if each is not None)])
    for reader in readers:
        reader.free_bytes = int(cache_gb * 2**30 / len(readers))


def _describe_teacher(
    teacher: Teacher, samplers: Sequence[ExcerptSampler | None], inputs: TrainInputs
) -> dict[str, Any]:
    """Return the description of a teacher's embeddings, and log how many clips and soundscapes have one."""
    known = {"clips": teacher.n_known}
    totals = {"clips": len(teacher.names)}
    of_soundscapes = [sampler.teacher for sampler in dict.fromkeys(samplers) if sampler is not None and sampler.teacher]
    if of_soundscapes:
        known["soundscapes"] = sum(each.n_known for each in of_soundscapes)
        totals["soundscapes"] = sum(len(each.names) for each in of_soundscapes)
    for kind, n in known.items():
        level = logging.INFO if n == totals[kind] else logging.WARNING
        _log.log(level, "%d of %d %s have a teacher's embedding", n, totals[kind], kind)
    return {"sha256": [sha256(Path(path)) for path in inputs.teacher], **known}


def _clip_pseudolabels(
    path: str | Path, table: pd.DataFrame, classes: Sequence[str], listed: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
    """Return the pseudolabels of the clips, 0 where people have labelled and for negatives, and their description."""
    labels = read_pseudolabels(path)
    if labels.provenance.get("of") != "clips":
        raise DataError(f"{path} labels soundscapes; give it as --pseudolabels, or label clips with --clips DIR.")
    index = pd.Index(labels.filename).get_indexer(pd.Index(table["filename"]))
    if (index < 0).all():
        raise DataError(
            f"{path}: none of the {len(table)} clips is in the table, such as {table['filename'].iloc[0]!r}."
        )
    silent = (index < 0) | (table["label"] == "").to_numpy()
    values = labels.columns(classes)[index].astype(np.float32)
    values[silent[:, None] | listed] = 0
    counts = {"clips": int((index >= 0).sum()), "targets": int((values > 0).sum())}
    _log.info("%(clips)d clips have pseudolabels, which add %(targets)d targets", counts)
    return values, {"sha256": labels.provenance["sha256"], "selection": labels.provenance["selection"], **counts}


def _partners(table: pd.DataFrame, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the cumulated chances of clips to be joined with a short one: equal for all classes in training."""
    counts = np.bincount(rows[rows < len(table)], minlength=len(table)).astype(float)
    per_class = pd.Series(counts).groupby(table["label"].to_numpy()).transform("sum").to_numpy()
    return np.cumsum(np.divide(counts, per_class, out=np.zeros_like(counts), where=per_class > 0))


def _check_inputs(experiment: Experiment, inputs: TrainInputs, fold: int | None) -> None:
    """Refuse an unknown fold, and a file that the experiment needs and is missing, or that it has no use for."""
    if fold is not None and not 0 <= fold < experiment.data.n_folds:
        raise ConfigError(f"fold must be 0 to {experiment.data.n_folds - 1}, or none; got {fold}.")
    name, table, teacher = experiment.name, inputs.pseudolabels, inputs.teacher
    needs_table = experiment.pseudo.share > 0 and experiment.data.pseudo_source == "table"
    if needs_table and table is None:
        raise ConfigError(
            f"{name} injects pseudolabelled soundscapes into {experiment.pseudo.share:.0%} of its batches: "
            "give them as --pseudolabels FILE (`bcsed pseudolabel` writes it), or --set pseudo.share=0."
        )
    trains_rows = experiment.data.soundscape_repeats or experiment.labelled.share > 0
    if experiment.data.soundscapes != "validate" and not trains_rows:
        raise ConfigError(
            f"{name} would not train on labelled soundscapes, but data.soundscapes={experiment.data.soundscapes} takes "
            "them from validation: set data.soundscape_repeats or labelled.share above 0."
        )
    if table is not None and not needs_table:
        raise ConfigError(
            f"{name} would not read {table}: --set pseudo.share=0.25 data.pseudo_source=table injects it into batches."
        )
    if inputs.pretrained is None and (inputs.key_map is not None or inputs.allow_mismatch):
        raise ConfigError(
            f"{name} would not use the key map or --allow-mismatch: give initial weights as --pretrained."
        )
    if experiment.fit.distil_weight > 0 and not teacher:
        raise ConfigError(f"{name} needs a teacher's embeddings: give them as --teacher FILE.")
    if teacher and not experiment.fit.distil_weight > 0:
        raise ConfigError(f"{name} would not read {teacher[0]}: set fit.distil_weight above 0.")
    if experiment.fit.strong_weight > 0 and not inputs.events:
        raise ConfigError(f"{name} needs marked events for fit.strong_weight: give tables of them as --events FILE.")
    if inputs.events and not experiment.fit.strong_weight > 0:
        raise ConfigError(f"{name} would not read {inputs.events[0]}: set fit.strong_weight above 0.")


def _read_clips(
    data: Path, table: pd.DataFrame, options: TrainOptions
) -> tuple[pd.DataFrame, list[AudioInfo], dict[str, str]]:
    """Return the clips that can be read, their headers, and why others cannot."""
    infos, failures = read_headers([str(path) for path in table["path"]], jobs=options.jobs)
    if failures and options.on_error == "stop":
        first = next(iter(failures.values()))
        raise DataError(
            f"{len(failures)} of {len(table)} training recordings cannot be read, the first: {first} "
            "Repair or remove them, or leave them out with --on-error skip."
        )
    table = table[[info is not None for info in infos]].reset_index(drop=True)
    if table.empty:
        raise DataError(f"{data}: none of the training recordings can be read.")
    return table, [info for info in infos if info is not None], failures


def _add_noise(
    table: pd.DataFrame,
    infos: list[AudioInfo],
    skipped: dict[str, str],
    folder: str | Path | None,
    options: TrainOptions,
) -> tuple[pd.DataFrame, list[AudioInfo], dict[str, str], dict[str, Any]]:
    """Return clips, headers and failures with the noise recordings of a folder, and their description."""
    described = {}
    if folder is not None:
        listed = add_noise(table, folder).iloc[len(table) :]
        noise, more, failures = _read_clips(Path(folder), listed, options)
        table, infos, skipped = pd.concat([table, noise], ignore_index=True), infos + more, skipped | failures
        described = {"noise": {"sha256": _digest(noise)}}
    _log.info("%d of %d clips are negative: they have no label", (table["label"] == "").sum(), len(table))
    return table, infos, skipped, described


def _head_groups(
    experiment: Experiment, data: Path, competition: Competition, table: pd.DataFrame, classes: Sequence[str]
) -> tuple[int, ...]:
    if experiment.net.heads == "taxon":
        return group_by_taxon(classes, read_taxa(data, competition))
    if experiment.net.heads == "frequency":
        return group_by_frequency(class_counts(table, classes))
    return ()


def describe_inputs(inputs: TrainInputs) -> dict[str, Any]:
    """Return the SHA-256 of the files of a training, names and sizes of its noise, and the name of its weights."""
    files = {
        "pseudolabels": [inputs.pseudolabels],
        "clip_pseudolabels": [inputs.clip_pseudolabels],
        **{name: getattr(inputs, name) for name in ("labels", "events", "teacher")},
    }
    values: dict[str, Any] = {
        name: [sha256(Path(path)) for path in paths if path is not None] for name, paths in files.items()
    }
    noise = [] if inputs.noise is None else find_recordings([inputs.noise])
    values["noise"] = sorted([printable(path.name), path.stat().st_size] for path in noise)
    values["pretrained"] = "" if inputs.pretrained is None else Path(inputs.pretrained).name
    return {name: value for name, value in values.items() if value}


def require_same_data(description: Mapping[str, Any], data: str | Path, inputs: TrainInputs, run: Path) -> None:
    """Refuse (DataError) a finished run that was trained on other clips, labels or files than a call names."""
    competition = detect_competition(data)
    digest = _digest(read_train(data, competition, read_class_list(data, competition)))
    if description.get("labels_sha256", digest) != digest:
        raise DataError(f"{run} was trained on other clips or labels than those of {data}; name another --out.")
    now = describe_inputs(inputs)
    earlier = description.get("inputs", now)
    if recorded := description.get("sources", {}).get(OWN_LABELS):
        own = Path(data) / competition.soundscape_labels_csv
        now, earlier = now | {OWN_LABELS: sha256(own) if own.is_file() else ""}, earlier | {OWN_LABELS: recorded}
    if differing := sorted(name for name in now.keys() | earlier.keys() if now.get(name) != earlier.get(name)):
        raise DataError(f"{run} was trained with other files ({', '.join(differing)}) than asked; name another --out.")


def _digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of what makes two lists of clips the same training data."""
    columns = (table[name] for name in ("filename", "label", "secondary"))
    listed = "\n".join("|".join((name, label, *secondary)) for name, label, secondary in zip(*columns, strict=True))
    return hashlib.sha256(listed.encode()).hexdigest()
