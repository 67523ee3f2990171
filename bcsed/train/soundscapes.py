"""Soundscapes of a training: labelled ones to train or to validate on, and pseudolabelled ones.

Labelled recordings are never pseudolabelled, and no recording of a held-out site is used in training.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from ..audio.headers import AudioInfo, read_info
from ..config.experiments import Experiment
from ..config.recipe import Data, Injection
from ..data.annotated_rows import is_annotation_table
from ..data.competitions import Competition, site_of
from ..data.label_files import check_known, multi_hot, read_soundscape_labels, truth_table
from ..data.labels import assign_site_folds
from ..errors import DataError
from ..files import quote_list, sha256, shorten_list
from ..recordings import by_file_name, file_names, find_recordings, printable
from ..scores.labelling import label_recordings
from .checkpoints import OWN_LABELS
from .dataset.clips import read_headers
from .dataset.events import Events
from .dataset.excerpts import ExcerptSampler
from .dataset.teacher import Teacher
from .pseudolabels.table import read_pseudolabels

_log = logging.getLogger(__name__)

# The first arguments of `ExcerptSampler`.
_Rows = tuple[list[AudioInfo], Any, Any, Any, Any]


@dataclass(frozen=True, kw_only=True)
class SoundscapeSplit:
    """The soundscapes of a competition, and which of the labelled ones are for training or validation."""

    folder: Path
    competition: Competition
    classes: Sequence[str]
    valid: list[AudioInfo]  # labelled recordings that are held out
    truth: pd.DataFrame  # their labels, by row id
    train: pd.DataFrame  # filename, start_s, end_s, labels of training rows
    labelled: frozenset[str]  # paths in the folder of all recordings with completely labelled rows
    held_sites: frozenset[str]  # no recording of these is used in training
    sources: Mapping[str, Any]  # SHA-256 of their labels


def read_labelled_rows(files: Sequence[str | Path], folder: Path, classes: Sequence[str], row_s: int) -> pd.DataFrame:
    """Read the labels of soundscapes in a folder from several files, as `read_soundscape_labels`.

    Each file is for `read_soundscape_labels`, or an annotation table of recordings in the folder, whose rows it labels
    completely. A recording is named by its path in the folder; a file may leave out subfolders. The column ``known``
    lists the classes that are known, from all files. DataError if a label is unknown, a name is that of several
    recordings, or two files label a row differently.
    """
    rows: dict[tuple[str, int, int], tuple[set[str], set[str], Path]] = {}
    paths = find_recordings([folder]) if folder.is_dir() else []
    of_file = by_file_name(path.relative_to(folder).as_posix() for path in paths)
    for path in map(Path, files):
        if is_annotation_table(path):
            table = label_recordings([path], [folder], row_s=row_s, classes=classes).rows
            check_known(set().union(*table["labels"]), classes, path)
        else:
            table = read_soundscape_labels(path, classes)
        known = table["known"] if "known" in table else [classes] * len(table)
        names = table["filename"].map({name: _path_inside(name, of_file, path) for name in set(table["filename"])})
        # The last row of a recording ends with the recording in some files, and with the row in others.
        ends = np.maximum(table["end_s"], table["start_s"] + row_s)
        keys = zip(names, table["start_s"], ends, strict=True)
        for key, labels, searched in zip(keys, map(set, table["labels"]), map(set, known), strict=True):
            first, first_searched, source = rows.setdefault(key, (set(), set(), path))
            if (first ^ labels) & searched & first_searched:
                row = f"{key[0]!r} from {key[1]} to {key[2]} s"
                here, other = (", ".join(sorted(names)) or "none" for names in (labels, first))
                differ = f"{source} ({other}) and {path} ({here})"
                raise DataError(f"two files label {row} differently: {differ}; correct one of them.")
            first |= labels
            first_searched |= searched
    order = {name: k for k, name in enumerate(classes)}
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    merged = pd.DataFrame(dict(zip(("filename", "start_s", "end_s"), map(list, columns), strict=True)))
    for name, sets in (("labels", [row[0] for row in rows.values()]), ("known", [row[1] for row in rows.values()])):
        merged[name] = [tuple(sorted(names, key=order.__getitem__)) for names in sets]
    typed: pd.DataFrame = merged.astype({"filename": object, "start_s": np.int64, "end_s": np.int64})
    return typed


def _path_inside(name: str, of_file: Mapping[str, Sequence[str]], source: Path) -> str:
    """Return the path in a folder of a recording that labels name by the end of its path; `name` if there is none."""
    present = of_file.get(name.rpartition("/")[2], ())
    matching = [name] if name in present else [path for path in present if path.endswith(f"/{name}")]
    if len(matching) > 1:
        raise DataError(f"{source}: {name!r} may be {quote_list(matching, 3)}; write its folder too.")
    return matching[0] if matching else name


def split_soundscapes(
    data: Path,
    competition: Competition,
    classes: Sequence[str],
    settings: Data,
    fold: int | None,
    labels: Sequence[str | Path] = (),
) -> SoundscapeSplit:
    """Split labelled soundscapes, those of the competition and of further `labels`, to validate on and to train on."""
    folder = data / competition.soundscapes_dir
    own = data / competition.soundscape_labels_csv  # the folder itself if there is no such file
    files = [*([own] if own.is_file() else []), *labels]
    rows = read_labelled_rows(files, folder, classes, competition.row_s)
    if not files and settings.soundscapes != "validate":
        setting = f"data.soundscapes={settings.soundscapes}"
        raise DataError(
            f"{data} has no labelled soundscapes, but {setting} trains on them; add --labels, or set it to validate."
        )
    names = list(dict.fromkeys(rows["filename"]))
    # A recording of which only some classes are known may be pseudolabelled.
    complete = rows["filename"][rows["known"].map(len) == len(classes)]
    present = {name for name in names if (folder / name).is_file()}
    if len(present) < len(names):
        _log.warning("%d of %d labelled soundscapes are not on disk", len(names) - len(present), len(names))
    if labels and not present:
        raise DataError(f"none of the {len(names)} soundscapes of {shorten_list(map(str, files))} is in {folder}.")
    rows = rows[rows["filename"].isin(present)].reset_index(drop=True)
    sites = rows["filename"].map(lambda name: site_of(name, competition))
    held_sites = frozenset[str]()
    if settings.soundscapes == "split" and fold is not None:
        fold_of = assign_site_folds(list(sites), settings.n_folds)
        held_sites = frozenset(site for site, site_fold in fold_of.items() if site_fold == fold)
        if not held_sites:
            _log.warning("fold %d holds out no site: labelled rows are of %d sites only", fold, len(fold_of))
    is_valid = np.full(len(rows), settings.soundscapes == "validate") | sites.isin(held_sites).to_numpy(bool)
    is_complete = (rows["known"].map(len) == len(classes)).to_numpy(bool)
    if n_partial := int((is_valid & ~is_complete).sum()):
        _log.warning("%d rows of which only some classes are known cannot validate and are not used", n_partial)
    valid, truth = rows[is_valid & is_complete], pd.DataFrame()
    infos = {name: read_info(folder / name) for name in dict.fromkeys(valid["filename"])}
    beyond = valid["start_s"] >= valid["filename"].map({name: info.duration_s for name, info in infos.items()})
    if beyond.any():
        first = valid["filename"][beyond].iloc[0]
        _log.warning("%d labelled rows begin after the end of their recording, in %s first", beyond.sum(), first)
        valid = valid[~beyond]
    if len(valid):
        truth = truth_table(valid, classes, row_s=competition.row_s, row_id=competition.row_id)
    return SoundscapeSplit(
        folder=folder,
        competition=competition,
        classes=classes,
        valid=[infos[name] for name in dict.fromkeys(valid["filename"])],
        truth=truth,
        train=rows[~is_valid].reset_index(drop=True),
        labelled=frozenset(complete),
        held_sites=held_sites,
        sources={
            **({OWN_LABELS: sha256(own)} if own.is_file() else {}),
            **({"labels": [sha256(Path(path)) for path in labels]} if labels else {}),
        },
    )


def make_labelled_sampler(
    split: SoundscapeSplit,
    experiment: Experiment,
    events: Mapping[str, Events],
    teacher: Teacher | None = None,
) -> ExcerptSampler | None:
    """Return the labelled soundscapes to train on, if there are any; DataError if the experiment injects some.

    `events` are those that are marked in recordings, by path.
    """
    rows = split.train
    if not len(rows):
        if experiment.labelled.share > 0:
            raise DataError(
                f"{experiment.name} injects labelled soundscapes, and none are for training: set "
                "data.soundscapes=split or train, or labelled.share=0."
            )
        return None
    file, names = pd.factorize(rows["filename"])
    infos = [read_info(split.folder / name) for name in names]
    start_s, end_s = (rows[name].to_numpy(np.int64) for name in ("start_s", "end_s"))
    settings = _sampler_settings(experiment, _teacher_of(infos, split, teacher))
    if events:
        settings["events"] = [events.get(printable(info.path)) for info in infos]
    values = multi_hot(rows["labels"], split.classes, rows["known"]).astype(np.float16)
    return ExcerptSampler(infos, file, start_s, end_s, values, pseudo=False, **settings)


def make_injectors(
    split: SoundscapeSplit,
    labelled: ExcerptSampler | None,
    experiment: Experiment,
    pseudolabels: str | Path | None,
    teacher: Teacher | None = None,
) -> tuple[tuple[tuple[ExcerptSampler, Injection], ...], dict[str, Any]]:
    """Return the sources of excerpts and how they are injected, and a description of the sources."""
    injectors: list[tuple[ExcerptSampler, Injection]] = []
    sources = dict(split.sources)
    if labelled is not None and experiment.labelled.share > 0:
        injectors.append((labelled, experiment.labelled))
    if experiment.pseudo.share > 0:
        if pseudolabels is not None:
            rows, sources["pseudolabels"] = _pseudolabelled_rows(split, experiment, pseudolabels)
        else:
            rows, sources["online"] = _unlabelled_rows(split)
        settings = _sampler_settings(experiment, _teacher_of(rows[0], split, teacher))
        injectors.append((ExcerptSampler(*rows, pseudo=True, **settings), experiment.pseudo))
    return tuple(injectors), sources


def _teacher_of(infos: Sequence[AudioInfo], split: SoundscapeSplit, teacher: Teacher | None) -> Teacher | None:
    """Return the embeddings of soundscapes, by their names as `bcsed embed` writes them for the whole folder."""
    if teacher is None:
        return None
    unique = file_names(find_recordings([split.folder]))
    return teacher.of([unique.get(Path(info.path), printable(Path(info.path).name)) for info in infos])


def _sampler_settings(experiment: Experiment, teacher: Teacher | None) -> dict[str, Any]:
    return {"frontend": experiment.frontend, "data": experiment.data, "teacher": teacher}


def make_unlabelled(
    split: SoundscapeSplit, experiment: Experiment, teacher: Teacher | None
) -> tuple[tuple[ExcerptSampler, Injection], ...]:
    """Return the unlabelled soundscapes that have a teacher's embedding as a source of excerpts, if there are some.

    If soundscapes are pseudolabelled, their excerpts follow the teacher, and there is no other source.
    """
    if teacher is None or not teacher.others or not experiment.unlabelled.share or experiment.pseudo.share:
        return ()
    infos = _read_unlabelled(split, teacher.others) if split.folder.is_dir() else []
    if not infos:
        _log.warning("none of the %d other files with an embedding is a soundscape to train on", len(teacher.others))
        return ()
    rows = _even_rows(infos, experiment.frontend.window_s)
    values = np.full((len(rows[0]), len(split.classes)), np.nan, np.float16)
    settings = _sampler_settings(experiment, _teacher_of(infos, split, teacher))
    return ((ExcerptSampler(infos, *rows, values, pseudo=False, **settings), experiment.unlabelled),)


def _even_rows(infos: Sequence[AudioInfo], row_s: float) -> tuple[Any, Any, Any]:
    """Return file, start and end (s) of rows of about `row_s`: all positions of all recordings are equally likely."""
    n_rows = np.array([max(1, round(info.duration_s / row_s)) for info in infos])
    file = np.repeat(np.arange(len(infos)), n_rows)
    length_s = np.array([info.duration_s for info in infos]) / n_rows
    start_s = length_s[file] * np.concatenate([np.arange(n) for n in n_rows])
    return file, start_s, start_s + length_s[file]


def make_backgrounds(
    clips: pd.DataFrame,
    infos: Sequence[AudioInfo],
    classes: Sequence[str],
    experiment: Experiment,
    teacher: Teacher | None = None,
) -> tuple[tuple[ExcerptSampler, Injection], ...]:
    """Return the clips without any label as a source of excerpts, if there are some and the experiment injects them.

    `clips` are some of the clips whose headers are `infos`, by their index.
    """
    negatives = clips.index[(clips["label"] == "") & ~clips["secondary"].astype(bool)]
    if not len(negatives) or not experiment.noise.share:
        return ()
    recordings = [infos[row] for row in negatives]
    rows = _even_rows(recordings, experiment.frontend.window_s)
    values = np.zeros((len(rows[0]), len(classes)), np.float16)
    teacher = None if teacher is None else teacher.of(list(clips["filename"][negatives]))
    settings = _sampler_settings(experiment, teacher)
    sampler = ExcerptSampler(recordings, *rows, values, pseudo=False, **settings)
    return ((sampler, experiment.noise),)


def _pseudolabelled_rows(
    split: SoundscapeSplit, experiment: Experiment, path: str | Path
) -> tuple[_Rows, dict[str, Any]]:
    table = read_pseudolabels(path)
    values = table.columns(split.classes)
    if table.soft and not experiment.data.pseudo_soft:
        raise DataError(
            f"{path} contains all probabilities, however low, and would label every class as present everywhere: set "
            "data.pseudo_soft=true, or select with a threshold or top-n."
        )
    labelled = {PurePosixPath(name).name for name in split.labelled}
    permitted = _permitted(dict.fromkeys(map(str, table.filename)), labelled, split)
    used = pd.Series(table.filename).isin(permitted).to_numpy()
    if not used.any() or not (values[used] > 0).any():
        raise DataError(
            f"{path}: no pseudolabel of {len(set(table.filename))} recordings may be used in training; "
            f"{len(values) - int(used.sum())} of {len(values)} rows are of recordings that validate."
        )
    paths: dict[str, list[Path]] = {}
    for file_path in find_recordings([split.folder]):
        paths.setdefault(printable(file_path.name), []).append(file_path)
    for number, problem in ((0, "are not"), (2, "are several times")):
        if wrong := [name for name in permitted if min(len(paths.get(name, ())), 2) == number]:
            count = f"{len(wrong)} of {len(permitted)}"
            raise DataError(f"{count} pseudolabelled recordings {problem} in {split.folder}, {wrong[0]!r} first.")
    file, names = pd.factorize(table.filename[used])
    infos = [read_info(paths[name][0]) for name in names]
    source = {key: table.provenance[key] for key in ("sha256", "selection", "teachers")}
    source["teachers"] = [teacher["fingerprint"] for teacher in source["teachers"]]
    rows = (infos, file, table.start_s[used], table.end_s[used], values[used])
    return rows, {**source, "rows": int(used.sum())}


def _unlabelled_rows(split: SoundscapeSplit) -> tuple[_Rows, dict[str, Any]]:
    """Return unlabelled soundscapes, which the network in training will label."""
    readable = _read_unlabelled(split)
    if not readable:
        raise DataError(f"{split.folder} holds no recording that may be used in training.")
    # One row per recording and all labels 1: every position is equally likely.
    file = np.arange(len(readable))
    ends = np.array([max(1, int(info.duration_s)) for info in readable])
    values = np.ones((len(file), len(split.classes)), np.float16)
    return (readable, file, 0 * file, ends, values), {"recordings": len(readable)}


def _read_unlabelled(split: SoundscapeSplit, names: Collection[str] | None = None) -> list[AudioInfo]:
    """Return the readable recordings without human labels, of these names if given, whose site is not held out."""
    unique = file_names(find_recordings([split.folder]))
    inside = {path: path.relative_to(split.folder).as_posix() for path in unique}
    permitted = set(_permitted(inside.values(), split.labelled, split))
    used = [path for path in unique if inside[path] in permitted and (names is None or unique[path] in names)]
    infos, failures = read_headers(used)
    if failures:
        _log.warning("%d of %d soundscapes in %s cannot be read", len(failures), len(infos), split.folder)
    return [info for info in infos if info is not None]


def _permitted(names: Iterable[str], labelled: Collection[str], split: SoundscapeSplit) -> list[str]:
    """Return the recordings without human labels whose site is not held out."""
    names = list(names)
    unlabelled = [name for name in names if name not in labelled]
    permitted = [name for name in unlabelled if site_of(name, split.competition) not in split.held_sites]
    if len(permitted) < len(names):
        _log.info("%d labelled recordings or recordings of held-out sites are not used", len(names) - len(permitted))
    return permitted
