"""Soundscapes of a training: labelled ones to learn from or to validate on, and pseudolabelled ones.

What validates is never learned from: no labelled recording is pseudolabelled, and where whole sites are held
out, none of their recordings is heard in training.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..audio.decode import AudioInfo, find_recordings, read_info
from ..config.experiments import Experiment
from ..config.recipe import Data, Injection
from ..data.competitions import Competition, parse_recording_name
from ..data.label_files import read_soundscape_labels, truth_table
from ..data.labels import assign_site_folds
from ..errors import DataError
from . import pseudolabels as pseudolabel
from .dataset.clips import read_headers
from .dataset.excerpts import ExcerptSampler, online_labels

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SoundscapeSplit:
    """Which soundscapes are for what.

    Parameters
    ----------
    valid : list of audio.AudioInfo
        Labelled recordings that are held out.
    truth : DataFrame
        Their labels, by row id.
    train : DataFrame
        ``filename, start_s, end_s, labels`` of the labelled rows to learn from.
    labelled : frozenset of str
        Names of all recordings that a person labelled.
    sites : frozenset of str
        Sites that are held out whole.
    """

    valid: list[AudioInfo] = field(default_factory=list)
    truth: pd.DataFrame = field(default_factory=pd.DataFrame)
    train: pd.DataFrame = field(default_factory=pd.DataFrame)
    labelled: frozenset[str] = frozenset()
    sites: frozenset[str] = frozenset()


def split_soundscapes(
    data: Path, year: Competition, classes: Sequence[str], settings: Data, fold: int | None
) -> SoundscapeSplit:
    """Divide labelled soundscapes into those that validate and those that are learned from.

    Raises
    ------
    DataError
        If ones to learn from are asked for and there are none.
    """
    file = data / year.soundscape_labels_csv if year.soundscape_labels_csv else None
    if file is None or not file.is_file():
        if settings.soundscapes != "validate":
            raise DataError(
                f"{data} has no labelled soundscapes, which data.soundscapes={settings.soundscapes} learns from; "
                "set it to validate."
            )
        return SoundscapeSplit()
    told = read_soundscape_labels(file, classes)
    names = list(dict.fromkeys(told["filename"]))
    there = {name for name in names if (data / year.soundscapes_dir / name).is_file()}
    if len(there) < len(names):
        _log.warning("%d of %d labelled soundscapes are not on disk", len(names) - len(there), len(names))
    told = told[told["filename"].isin(there)].reset_index(drop=True)
    site = told["filename"].map(lambda name: site_of(name, year))
    held = frozenset[str]()
    if settings.soundscapes == "split" and fold is not None:
        dealt = assign_site_folds(list(site), settings.n_folds)
        held = frozenset(name for name, place in dealt.items() if place == fold)
        if not held:
            _log.warning("fold %d holds out no site: labelled rows are of %d sites only", fold, len(dealt))
    validates = np.full(len(told), settings.soundscapes == "validate") | site.isin(held).to_numpy(bool)
    chosen = told[validates]
    truth = truth_table(chosen, classes, row_s=year.row_s, row_id=year.row_id) if len(chosen) else chosen
    paths = [data / year.soundscapes_dir / name for name in dict.fromkeys(chosen["filename"])]
    return SoundscapeSplit(
        [read_info(path) for path in paths],
        truth if len(chosen) else pd.DataFrame(),
        told[~validates].reset_index(drop=True),
        frozenset(names),
        held,
    )


def site_of(name: str, year: Competition) -> str:
    """Return a soundscape's site; a recording whose name tells none is a site of its own."""
    return parse_recording_name(name, year).site or Path(name).stem


def labelled_source(
    land: SoundscapeSplit,
    data: Path,
    year: Competition,
    classes: Sequence[str],
    experiment: Experiment,
    cache_gb: float,
) -> ExcerptSampler | None:
    """Return the labelled soundscapes to learn from, if there are any.

    Raises
    ------
    DataError
        If the experiment injects labelled soundscapes and none are for training.
    """
    if not len(land.train):
        if experiment.labelled.share > 0:
            raise DataError(
                f"{experiment.name} injects labelled soundscapes, and none are for training: set "
                "data.soundscapes=split or train, or labelled.share=0."
            )
        return None
    names = list(dict.fromkeys(land.train["filename"]))
    place = {name: k for k, name in enumerate(names)}
    column = {name: k for k, name in enumerate(classes)}
    values = np.zeros((len(land.train), len(classes)), np.float16)
    for row, told in enumerate(land.train["labels"]):
        values[row, [column[name] for name in told]] = 1
    return ExcerptSampler(
        [read_info(data / year.soundscapes_dir / name) for name in names],
        land.train["filename"].map(place).to_numpy(np.int64),
        land.train["start_s"].to_numpy(np.int64),
        land.train["end_s"].to_numpy(np.int64),
        values,
        frontend=experiment.frontend,
        data=experiment.data,
        pseudo=False,
        cache_gb=cache_gb,
    )


def injectors(
    land: SoundscapeSplit,
    labelled: ExcerptSampler | None,
    data: Path,
    year: Competition,
    classes: Sequence[str],
    experiment: Experiment,
    pseudolabels: str | Path | None,
    cache_gb: float,
) -> tuple[tuple[tuple[ExcerptSampler, Injection], ...], dict[str, Any]]:
    """Return where excerpts come from and how they enter, and what is recorded of the sources."""
    found: list[tuple[ExcerptSampler, Injection]] = []
    told: dict[str, Any] = {}
    if labelled is not None and experiment.labelled.share > 0:
        found.append((labelled, experiment.labelled))
    if experiment.pseudo.share > 0:
        if pseudolabels is not None:
            source, told["pseudolabels"] = _table(land, data, year, classes, experiment, pseudolabels, cache_gb)
        else:
            source, told["online"] = _unlabelled(land, data, year, classes, experiment, cache_gb)
        found.append((source, experiment.pseudo))
    return tuple(found), told


def _table(
    land: SoundscapeSplit,
    data: Path,
    year: Competition,
    classes: Sequence[str],
    experiment: Experiment,
    path: str | Path,
    cache_gb: float,
) -> tuple[ExcerptSampler, dict[str, Any]]:
    table = pseudolabel.read_pseudolabels(path)
    values = table.columns(classes)
    if table.soft and not experiment.data.pseudo_soft:
        raise DataError(
            f"{path} holds every answer of its teacher, however low, and would call every class present everywhere: "
            "set data.pseudo_soft=true, or select with a threshold or top-n."
        )
    used = _permitted(dict.fromkeys(map(str, table.filename)), land, year)
    kept = pd.Series(table.filename).isin(used).to_numpy()
    if not kept.any() or not (values[kept] > 0).any():
        raise DataError(
            f"{path}: no pseudolabel of {len(set(table.filename))} recordings may be learned from; "
            f"{len(values) - int(kept.sum())} of {len(values)} rows are of recordings that validate."
        )
    there = {path.name: path for path in find_recordings([data / year.soundscapes_dir])}
    gone = [name for name in used if name not in there]
    if gone:
        raise DataError(
            f"{len(gone)} of {len(used)} pseudolabelled recordings are not in {data / year.soundscapes_dir}, "
            f"{gone[0]!r} first."
        )
    place = {name: k for k, name in enumerate(used)}
    source = ExcerptSampler(
        [read_info(there[name]) for name in used],
        np.array([place[name] for name in table.filename[kept]], np.int64),
        table.start_s[kept],
        table.end_s[kept],
        values[kept],
        frontend=experiment.frontend,
        data=experiment.data,
        pseudo=True,
        cache_gb=cache_gb,
    )
    selection = table.provenance["selection"]
    teachers = [teacher["fingerprint"] for teacher in table.provenance["teachers"]]
    told = {"sha256": table.provenance["sha256"], "rows": int(kept.sum()), "selection": selection, "teachers": teachers}
    return source, told


def _unlabelled(
    land: SoundscapeSplit,
    data: Path,
    year: Competition,
    classes: Sequence[str],
    experiment: Experiment,
    cache_gb: float,
) -> tuple[ExcerptSampler, dict[str, Any]]:
    """Return unlabelled soundscapes, which the network in training will label."""
    folder = data / year.soundscapes_dir
    paths = find_recordings([folder])
    used = set(_permitted([path.name for path in paths], land, year))
    infos, failures = read_headers([path for path in paths if path.name in used])
    heard = [found for found in infos if found is not None]
    if failures:
        _log.warning("%d of %d soundscapes in %s cannot be read and are left out", len(failures), len(infos), folder)
    if not heard:
        raise DataError(f"{folder} holds no recording that may be learned from.")
    source = online_labels(heard, len(classes), frontend=experiment.frontend, data=experiment.data, cache_gb=cache_gb)
    return source, {"recordings": len(heard)}


def _permitted(names: Sequence[str] | dict[str, None], land: SoundscapeSplit, year: Competition) -> list[str]:
    """Return the recordings that nobody labelled and whose site is not held out."""
    used = [name for name in names if name not in land.labelled and site_of(name, year) not in land.sites]
    if len(used) < len(names):
        _log.info("%d recordings that validate or are labelled by a person are not injected", len(names) - len(used))
    return used
