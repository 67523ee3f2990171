"""A training's part of the page: its data, how it learned, what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from .. import plot, train
from ..analysis.compare.runs import ComparedRun
from ..audio.decode import find_recordings
from ..config.recipe import Data
from ..config.strict import from_dict
from ..data.competitions import Competition, detect_competition
from ..data.label_files import read_train
from ..data.labels import assign_folds, class_counts
from ..errors import BcsedError
from ..models import bundle as bundles
from ..models.backends import TorchBackend
from ..models.bundle.bundle import Bundle
from ..models.bundle.manifest import MANIFEST
from ..models.ensemble import Ensemble, from_bundles
from ..predict.blocks import Windowing
from ..scores.detections.taxonomy import ClassName, read_taxonomy
from ..scores.evaluation import KINDS, Evaluation
from ..train.checkpoints import read_description
from ..train.dataset.clips import read_headers
from .evaluation import evaluation_sections, figure, shown_name
from .page import Facts, Section, Table, Text
from .recordings import Recording, Viewer, in_time, row_length


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """What is known beside the paths that a page is made of.

    Parameters
    ----------
    recordings : tuple of str or Path
        Files and folders.
    truth : str or Path, optional
    bundle : Bundle, optional
        The network to ask for its attention.
    names : mapping of str to Name
    n_shown, jobs : int
    progress : callable
    """

    recordings: tuple[str | Path, ...] = ()
    truth: str | Path | None = None
    bundle: Bundle | None = None
    names: Mapping[str, ClassName] = field(default_factory=dict)
    n_shown: int = 3
    jobs: int = 2
    progress: Callable[[str], None] = lambda _: None


def names_of(path: Path) -> dict[str, ClassName]:
    """Return what a run's data call its classes; nothing where the data are gone."""
    try:
        data, year = _data(path)
        return read_taxonomy(data / year.taxonomy_csv)
    except (BcsedError, OSError):
        return {}


def section(compared: ComparedRun, around: ReportContext, scored: Evaluation | None = None) -> Section:
    """Return a run's part.

    Parameters
    ----------
    compared : ComparedRun
        The run.
    around : Around
    scored : Evaluation, optional
        What it answered on other labelled soundscapes, instead of what it held out.
    """
    answers = scored if scored is not None else compared.evaluation
    found = Section(f"Training {compared.name}", [Facts(_facts(compared))])
    found.sections += [_learned(compared), _heard_data(compared, around)]
    if answers is None:
        found.items.append(Text("Nothing was held out, so there is no score; --recordings and --truth give one."))
        return found
    found.items.append(
        Text(
            "What was chosen by the same clips that it is judged on looks a little too good."
            if scored is None
            else f"It is judged on {len(answers.ids)} {KINDS[answers.kind]} of other recordings."
        )
    )
    found.sections += answered(compared, answers, around, given=scored is not None)
    return found


def answered(compared: ComparedRun, answers: Evaluation, around: ReportContext, *, given: bool) -> list[Section]:
    """Return the sections of what a run or a bundle answered.

    Parameters
    ----------
    compared : ComparedRun
    answers : Evaluation
    around : Around
    given : bool
        Whether the recordings are those of `around`, and none of the run's data.
    """
    # A clip has no rows; it is shown in the usual ones.
    row_s = row_length(answers.ids) if answers.kind == "rows" else Windowing().row_s
    viewer = Viewer(
        classes=answers.classes,
        row_s=row_s,
        names=around.names,
        ensemble=_network(compared, answers.classes, around),
        n_shown=around.n_shown,
        progress=around.progress,
    )
    shown = viewer.section(_recordings(compared, answers, around, row_s, given=given))
    return [*evaluation_sections(answers, around.names), shown]


def _facts(compared: ComparedRun) -> list[tuple[str, str]]:
    told = read_description(compared.path)
    frontend = compared.contract["frontend"]
    seconds = frontend["n_frames"] * frontend["hop_length"] / frontend["sample_rate"]
    facts = [
        ("experiment", compared.experiment),
        ("backbone", str(compared.contract["net"]["backbone"])),
        ("start", str(told.get("start", ""))),
        ("data", str(told.get("data", ""))),
        ("clips", str(told.get("n_clips", ""))),
        ("classes", str(len(compared.classes))),
        (
            "window",
            f"{seconds:g} s, {frontend['n_mels']} mel bands, {frontend['fmin_hz']:g} to {frontend['fmax_hz']:g} Hz",
        ),
        ("held-out fold", "none" if compared.fold is None else str(compared.fold)),
        ("seed", str(compared.seed)),
        ("epochs", f"{compared.epochs} in {compared.seconds:.0f} s"),
        ("checkpoint", compared.checkpoint),
        ("fingerprint", str(told.get("fingerprint", ""))),
    ]
    return [(name, value) for name, value in facts if value]


def _learned(compared: ComparedRun) -> Section:
    history = compared.history
    told = f"The loss went from {history['loss'].iloc[0]:.4g} to {history['loss'].iloc[-1]:.4g}"
    scored = [
        (name, history[key])
        for key, name in (("clip_auc", "held-out clips"), ("row_auc", "soundscape rows"))
        if key in history
    ]
    told += "".join(
        f"; macro ROC-AUC on {name} to {values.iloc[-1]:.4f}, at best {values.max():.4f}" for name, values in scored
    )
    figures = [
        figure(
            plot.loss(history),
            alt=f"Loss over {len(history)} epochs. {told}.",
            caption="Training loss over the epochs.",
        )
    ]
    if scored:
        caption = "Macro ROC-AUC over the epochs; .5 is chance."
        figures.append(
            figure(plot.validation(history), alt=f"Macro ROC-AUC over {len(history)} epochs. {told}.", caption=caption)
        )
    return Section("Learning", [Text(f"{told}."), *figures])


def _heard_data(compared: ComparedRun, around: ReportContext) -> Section:
    """Return what the run learned from: classes, durations, folds."""
    try:
        data, year = _data(compared.path)
        table = read_train(data, year, compared.classes)
        infos, failures = read_headers([str(path) for path in table["path"]], jobs=around.jobs)
        table = table[[info is not None for info in infos]].reset_index(drop=True)
        dealt = None
        if compared.fold is not None:
            dealt = assign_folds(table, from_dict(Data, compared.recipe["data"]), compared.seed)
    except (BcsedError, OSError) as error:
        return Section("Data", [Text(f"The data that it learned from cannot be read now: {error}")])
    seconds = np.array([info.duration_s for info in infos if info is not None])
    taxa = {label: name.taxon for label, name in around.names.items() if name.taxon}
    counts = dict(zip(compared.classes, map(int, class_counts(table, compared.classes)), strict=True))
    of_class = pd.Series(seconds).groupby(table["label"]).sum()
    lines = [
        (shown_name(name, around.names), taxa.get(name, ""), counts[name], float(of_class.get(name, 0.0)) / 60)
        for name in compared.classes
    ]
    lines.sort(key=lambda line: -line[2])
    found = Section("Data")
    found.items += [
        figure(
            plot.class_counts(counts, taxa=taxa),
            alt=f"Bars of the clips of {len(counts)} classes, {min(counts.values())} to {max(counts.values())} each.",
            caption="Clips of each class, by their primary label.",
        ),
        Table(caption="Classes and their clips", columns=("class", "taxon", "clips", "minutes"), rows=lines),
        figure(
            plot.durations(seconds),
            alt=f"Histogram of the durations of {len(seconds)} clips; the median is {np.median(seconds):.1f} s.",
            caption="How long the clips are.",
        ),
    ]
    if dealt is not None:
        of_clip = [taxa.get(name, "") for name in table["label"]] if taxa else None
        n_never = int((dealt < 0).sum())
        found.items.append(
            figure(
                plot.folds(dealt, taxa=of_clip, held_out=compared.fold),
                alt=f"Bars of how many clips are in each fold; {n_never} are never held out.",
                caption=f"Clips of each fold; fold {compared.fold} was held out. Rare classes are never held out.",
            )
        )
    if failures:
        found.items.append(
            Text(f"{len(failures)} recordings cannot be read, the first: {next(iter(failures.values()))}")
        )
    return found


def _data(path: Path) -> tuple[Path, Competition]:
    told = read_description(path)
    data = Path(str(told.get("data", "")))
    return data, detect_competition(data)


def _network(compared: ComparedRun, classes: Sequence[str], around: ReportContext) -> Ensemble | None:
    """Return the network to ask: the bundle given, else the run's own; None where its weights are gone."""
    if around.bundle is not None and set(classes) <= set(around.bundle.contract.classes):
        return from_bundles([around.bundle])
    if (compared.path / MANIFEST).is_file():
        return from_bundles([bundles.load(compared.path)])
    try:
        import torch

        trained = train.load_run(compared.path, compared.checkpoint)
        return Ensemble((TorchBackend(trained.network, trained.contract, torch.device("cpu")),), (1.0,))
    except BcsedError:
        return None


def _recordings(
    compared: ComparedRun, answers: Evaluation, around: ReportContext, row_s: int, *, given: bool
) -> list[Recording]:
    """Return the recordings that were answered, with their places as far as they can be found."""
    whole = answers.kind == "clips"
    folder = None
    if not given:
        try:
            data, year = _data(compared.path)
            folder = data / (year.audio_dir if whole else year.soundscapes_dir)
        except (BcsedError, OSError):
            pass
    known = find_recordings(around.recordings) if around.recordings else []
    if folder is not None and not whole and folder.is_dir():
        known += find_recordings([folder])
    by_stem = {path.stem: path for path in known}
    found = []
    names = answers.ids if whole else answers.files
    places = pd.Series(range(len(names))).groupby(list(names), sort=False)
    for name, rows in places:
        chosen = rows.to_numpy()
        own = None if folder is None else folder / str(name)
        path = own if whole and own is not None and own.is_file() else by_stem.get(Path(str(name)).stem)
        scores, truth = answers.scores[chosen], answers.truth[chosen].astype(np.float32)
        if not whole:
            ids = [answers.ids[row] for row in chosen]
            scores, truth = in_time(ids, scores, row_s, 0.0), in_time(ids, truth, row_s, np.nan)
        found.append(Recording(name=str(name), path=path, scores=scores, truth=truth, whole=whole))
    return found
