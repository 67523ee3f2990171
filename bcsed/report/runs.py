"""The section about a training: its data, its learning curves, its scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import plot
from ..analysis.compare.runs import ComparedRun
from ..audio.decode import find_recordings
from ..config.recipe import Data
from ..config.strict import from_dict
from ..data.competitions import Competition, detect_competition
from ..data.label_files import read_train
from ..data.labels import assign_folds, class_counts
from ..errors import BcsedError
from ..models.backends import Backend, TorchBackend
from ..models.bundle.bundle import load
from ..models.bundle.manifest import MANIFEST
from ..models.ensemble import from_bundles
from ..predict.spec import Windowing
from ..scores.checks.ids import parse_row_ids
from ..scores.detections.taxonomy import ClassName, read_taxonomy
from ..scores.evaluation import KINDS, Evaluation
from ..train.checkpoints import load_run, read_description
from ..train.dataset.clips import read_headers
from .evaluation import evaluation_sections, full_name, taxa_of
from .inputs import ReportContext
from .page import Facts, Item, Section, Table, Text, make_figure
from .recordings import Recording, Viewer, group_recordings, row_length


def class_names(run: Path) -> dict[str, ClassName]:
    """Return the names of classes from the taxonomy of a run's data; empty if the data are missing."""
    try:
        data, competition = _data(run)
        return read_taxonomy(data / competition.taxonomy_csv)
    except (BcsedError, OSError):
        return {}


def run_section(run: ComparedRun, context: ReportContext, evaluation: Evaluation | None = None) -> Section:
    """Return the section about a run, with an evaluation on the recordings of `context`, else on held-out data."""
    section = Section(f"Training {run.name}", [Facts(_facts(run))], [_learning(run), _data_section(run, context)])
    if evaluation is not None:
        remark = f"It is evaluated on {len(evaluation.ids)} {KINDS[evaluation.kind]} of other recordings."
        section.sections += scored_sections(run, evaluation, context, held_out=False)
    elif run.evaluation is not None:
        remark = "The checkpoint was selected on the same held-out data, so these scores are slightly too high."
        section.sections += scored_sections(run, run.evaluation, context, held_out=True)
    else:
        remark = "The run has no held-out data, so there are no scores; add some with --recordings and --truth."
    section.items.append(Text(remark))
    return section


def scored_sections(
    run: ComparedRun, evaluation: Evaluation, context: ReportContext, *, held_out: bool
) -> list[Section]:
    """Return the sections about scores on the run's held-out data, or on the recordings of `context`."""
    # A clip has no rows; its detections are made with the default ones.
    row_s = row_length(evaluation.ids) if evaluation.kind == "rows" else Windowing().row_s
    member = _load_member(run, evaluation.classes, context)
    viewer = Viewer(classes=evaluation.classes, row_s=row_s, context=context, member=member)
    recordings = _recordings(run, evaluation, context, row_s, held_out=held_out)
    return [*evaluation_sections(evaluation, context.names), viewer.section(recordings)]


def _facts(run: ComparedRun) -> list[tuple[str, str]]:
    described = read_description(run.path)
    frontend = run.contract["frontend"]
    seconds = frontend["n_frames"] * frontend["hop_length"] / frontend["sample_rate"]
    band = f"{frontend['n_mels']} mel bands, {frontend['fmin_hz']:g} to {frontend['fmax_hz']:g} Hz"
    return [
        ("experiment", run.experiment),
        ("backbone", str(run.contract["net"]["backbone"])),
        ("start", str(described.get("start", ""))),
        ("data", str(described.get("data", ""))),
        ("clips", str(described.get("n_clips", ""))),
        ("classes", str(len(run.classes))),
        ("window", f"{seconds:g} s, {band}"),
        ("held-out fold", "none" if run.fold is None else str(run.fold)),
        ("seed", str(run.seed)),
        ("epochs", f"{run.epochs} in {run.seconds:.0f} s"),
        ("checkpoint", run.checkpoint),
        ("fingerprint", str(described.get("fingerprint", ""))),
    ]


def _learning(run: ComparedRun) -> Section:
    history = run.history
    text = f"The loss fell from {history['loss'].iloc[0]:.4g} to {history['loss'].iloc[-1]:.4g}"
    for column, name in (("clip_auc", "held-out clips"), ("row_auc", "soundscape rows")):
        if column in history:
            text += f"; macro ROC-AUC on {name}: last {history[column].iloc[-1]:.4f}, best {history[column].max():.4f}"
    alt = f"over {len(history)} epochs. {text}."
    items: list[Item] = [
        Text(f"{text}."),
        make_figure(plot.loss(history), alt=f"Loss {alt}", caption="Training loss over the epochs."),
    ]
    if {"clip_auc", "row_auc"} & set(history):
        caption = "Macro ROC-AUC over the epochs; 0.5 is chance."
        items.append(make_figure(plot.validation(history), alt=f"Macro ROC-AUC {alt}", caption=caption))
    return Section("Learning", items)


def _data_section(run: ComparedRun, context: ReportContext) -> Section:
    """Return the section about the training data: classes, durations, folds."""
    try:
        data, competition = _data(run.path)
        table = read_train(data, competition, run.classes)
        infos, failures = read_headers([str(path) for path in table["path"]], jobs=context.jobs)
        table = table[[info is not None for info in infos]].reset_index(drop=True)
        fold_of = None
        if run.fold is not None:
            fold_of = assign_folds(table, from_dict(Data, run.recipe["data"]), run.seed)
    except (BcsedError, OSError) as error:
        return Section("Data", [Text(f"The training data cannot be read: {error}")])
    seconds = np.array([info.duration_s for info in infos if info is not None])
    taxa = taxa_of(context.names)
    counts = dict(zip(run.classes, map(int, class_counts(table, run.classes)), strict=True))
    minutes = pd.Series(seconds / 60).groupby(table["label"]).sum()
    rows = [
        (full_name(name, context.names), taxa.get(name, ""), counts[name], float(minutes.get(name, 0.0)))
        for name in sorted(run.classes, key=lambda name: -counts[name])
    ]
    items: list[Item] = [
        make_figure(
            plot.class_counts(counts, taxa=taxa),
            alt=f"Bars of the clips of {len(counts)} classes, {min(counts.values())} to {max(counts.values())} each.",
            caption="Clips of each class, by their primary label.",
        ),
        Table(caption="Classes and their clips", columns=("class", "taxon", "clips", "minutes"), rows=rows),
        make_figure(
            plot.durations(seconds),
            alt=f"Histogram of the durations of {len(seconds)} clips; the median is {np.median(seconds):.1f} s.",
            caption="Durations of the clips.",
        ),
    ]
    if fold_of is not None:
        taxon_of_clip = [taxa.get(name, "") for name in table["label"]] if taxa else None
        n_never = int((fold_of < 0).sum())
        items.append(
            make_figure(
                plot.folds(fold_of, taxa=taxon_of_clip, held_out=run.fold),
                alt=f"Bars of the number of clips in each fold; {n_never} clips are never held out.",
                caption=f"Clips of each fold; fold {run.fold} was held out. Rare classes are never held out.",
            )
        )
    if failures:
        items.append(Text(f"{len(failures)} recordings cannot be read; the first: {next(iter(failures.values()))}"))
    return Section("Data", items)


def _data(run: Path) -> tuple[Path, Competition]:
    data = Path(str(read_description(run).get("data", "")))
    return data, detect_competition(data)


def _load_member(run: ComparedRun, classes: Sequence[str], context: ReportContext) -> Backend | None:
    """Return the network that computes the attention: the given bundle, else the run's own, else None."""
    if context.bundle is not None and set(classes) <= set(context.bundle.contract.classes):
        return from_bundles([context.bundle]).members[0]
    if (run.path / MANIFEST).is_file():
        return from_bundles([load(run.path)]).members[0]
    try:
        trained = load_run(run.path, run.checkpoint)
    except BcsedError:
        return None
    return TorchBackend(trained.network, trained.contract, torch.device("cpu"))


def _recordings(
    run: ComparedRun, evaluation: Evaluation, context: ReportContext, row_s: int, *, held_out: bool
) -> list[Recording]:
    """Return the evaluated recordings, with their files as far as these are found."""
    clips = evaluation.kind == "clips"
    folder = None
    if held_out:
        try:
            data, competition = _data(run.path)
            folder = data / (competition.audio_dir if clips else competition.soundscapes_dir)
        except (BcsedError, OSError):
            pass
    files = find_recordings(context.recordings) if context.recordings else []
    if folder is not None and not clips and folder.is_dir():
        files += find_recordings([folder])
    by_stem = {path.stem: path for path in files}

    def find_path(name: str) -> Path | None:
        if clips and folder is not None and (folder / name).is_file():
            return folder / name
        return by_stem.get(Path(name).stem)

    names = evaluation.ids if clips else evaluation.files
    row_index = None if clips else parse_row_ids(evaluation.ids).end_s // row_s - 1
    return group_recordings(names, evaluation.scores, evaluation.truth, row_index, find_path)
