"""The sections about trainings: the data, learning curves and scores of each, and their comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import plot
from ..analysis.compare.runs import ComparedRun
from ..analysis.compare.variants import compare_variants, group_runs
from ..config.recipe import Data
from ..config.strict import from_dict
from ..data.competitions import Competition, detect_competition
from ..data.label_files import read_train
from ..data.labels import assign_folds, class_counts
from ..errors import BcsedError, DataError
from ..files import read_csv
from ..models.backends import Backend, TorchBackend
from ..models.bundle.bundle import load
from ..models.bundle.manifest import MANIFEST
from ..models.ensemble import from_bundles
from ..plot import style, training
from ..predict.spec import Windowing
from ..recordings import find_recordings, unique_stems
from ..scores.checks.ids import parse_row_ids
from ..scores.detections.taxonomy import ClassName, read_taxonomy
from ..scores.evaluation import KINDS, Evaluation
from ..train.checkpoints import CONTRADICTIONS, load_run, read_description
from ..train.dataset.clips import read_headers
from ..train.duplicates import apply_duplicates, read_duplicates
from .evaluation import evaluation_sections, full_name, taxa_of
from .page import Item, Section, Table, make_figure
from .recordings import Recording, ReportContext, Viewer, group_recordings, row_length

_N_CONTRADICTIONS = 50


def class_names(runs: Sequence[Path]) -> dict[str, ClassName]:
    """Return the names of classes from the taxonomies of the runs' data, as far as these exist."""
    names: dict[str, ClassName] = {}
    for run in runs:
        with contextlib.suppress(BcsedError, OSError):
            data, competition = _data(run)
            names |= read_taxonomy(data / competition.taxonomy_csv)
    return names


def run_section(run: ComparedRun, context: ReportContext, evaluation: Evaluation | None = None) -> Section:
    """Return the section about a run, with an evaluation on the recordings of `context`, else on held-out data."""
    section = Section(f"Training {run.name}", [_facts(run)], [_learning(run), _data_section(run, context)])
    if evaluation is not None:
        remark = f"It is evaluated on {len(evaluation.ids)} {KINDS[evaluation.kind]} of other recordings."
        section.sections += scored_sections(run, evaluation, context, held_out=False)
    elif run.evaluation is not None:
        remark = "The checkpoint was selected on the same held-out data, so these scores are slightly too high."
        section.sections += scored_sections(run, run.evaluation, context, held_out=True)
    else:
        remark = "The run has no held-out data, so there are no scores; add some with --recordings and --truth."
    section.items.append(remark)
    if (run.path / CONTRADICTIONS).is_file():
        section.sections.insert(2, _contradictions(run, context))
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


def _facts(run: ComparedRun) -> dict[str, str]:
    described = read_description(run.path)
    frontend = run.contract["frontend"]
    seconds = frontend["n_frames"] * frontend["hop_length"] / frontend["sample_rate"]
    band = f"{frontend['n_mels']} mel bands, {frontend['fmin_hz']:g} to {frontend['fmax_hz']:g} Hz"
    return {
        "experiment": run.experiment,
        "backbone": str(run.contract["net"]["backbone"]),
        "start": str(described.get("start", "")),
        "data": str(described.get("data", "")),
        "clips": f"{described.get('n_clips', '')}, {described.get('n_negatives', 0)} of them without a label",
        "classes": str(len(run.classes)),
        "window": f"{seconds:g} s, {band}",
        "held-out fold": "none" if run.fold is None else str(run.fold),
        "seed": str(run.seed),
        "epochs": f"{len(run.history)} in {run.seconds:.0f} s",
        "checkpoint": run.checkpoint,
        "fingerprint": str(described.get("fingerprint", "")),
    }


def _learning(run: ComparedRun) -> Section:
    history = run.history
    text = f"The loss fell from {history['loss'].iloc[0]:.4g} to {history['loss'].iloc[-1]:.4g}"
    for column, name in (("clip_auc", "held-out clips"), ("row_auc", "soundscape rows")):
        if column in history:
            text += f"; macro ROC-AUC on {name}: last {history[column].iloc[-1]:.4f}, best {history[column].max():.4f}"
    alt = f"over {len(history)} epochs. {text}."
    items: list[Item] = [
        f"{text}.",
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
        settings, duplicates = from_dict(Data, run.recipe["data"]), read_duplicates(run.path)
        table = table[[info is not None for info in infos]].reset_index(drop=True)
        infos = [info for info in infos if info is not None]
        if duplicates is not None:
            table = apply_duplicates(table, duplicates, drop=settings.duplicates == "drop")
        fold_of = None if run.fold is None else assign_folds(table, settings, run.seed)
    except (BcsedError, OSError) as error:
        return Section("Data", [f"The training data cannot be read: {error}"])
    seconds = np.array([infos[row].duration_s for row in table.index])
    taxa = taxa_of(context.names)
    counts = dict(zip(run.classes, map(int, class_counts(table, run.classes)), strict=True))
    minutes = pd.Series(seconds / 60).groupby(table["label"].to_numpy()).sum()
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
        alt = f"Bars of the number of clips in each fold; {(fold_of < 0).sum()} clips are never held out."
        caption = f"Clips of each fold; fold {run.fold} was held out. Rare classes are never held out."
        ax = plot.folds(fold_of, taxa=taxon_of_clip, held_out=run.fold)
        items.append(make_figure(ax, alt=alt, caption=caption))
    if duplicates is not None:
        items += _duplicates(duplicates, settings.duplicates)
    if failures:
        items.append(f"{len(failures)} recordings cannot be read; the first: {next(iter(failures.values()))}")
    return Section("Data", items)


def _contradictions(run: ComparedRun, context: ReportContext) -> Section:
    """Return the section about the held-out clips whose scores contradict their label."""
    columns = ("filename", "label", "score", "other", "other_score", "margin")
    try:
        table = read_csv(run.path / CONTRADICTIONS, columns)
        for name in ("score", "other_score", "margin"):
            table[name] = pd.to_numeric(table[name])
    except (DataError, ValueError) as error:
        return Section("Clips that contradict their label", [f"The list of the clips cannot be read: {error}"])
    n_above = int(((table["margin"] > 0) & (table["label"] != "")).sum())
    text = (
        f"Another class than the label has the highest score in {n_above} of {len(table)} held-out clips. The network "
        f"did not train on them: the label may be wrong, or incomplete. {CONTRADICTIONS} in the run's folder lists all."
    )
    for name in ("label", "other"):
        table[name] = [full_name(label, context.names) if label else "none" for label in table[name]]
    rows = list(table[list(columns)].head(_N_CONTRADICTIONS).itertuples(index=False, name=None))
    headings = ("clip", "label", "its score", "other class", "its score ", "difference")
    caption = f"The {len(rows)} clips that contradict their label most"
    return Section("Clips that contradict their label", [text, Table(caption=caption, columns=headings, rows=rows)])


def _duplicates(duplicates: pd.DataFrame, setting: str) -> list[Item]:
    used = "Only those to keep were used." if setting == "drop" else "All of them were used."
    columns = ("group", "clip", "label", "seconds", "copy of", "at (s)", "similarity", "identical", "keep")
    text = duplicates.astype({"exact": str, "keep": str})
    return [
        f"{len(duplicates)} clips are copies of others, or their audio is in a soundscape that validates. {used}",
        Table(caption="Duplicates", columns=columns, rows=list(text.itertuples(index=False, name=None))),
    ]


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
        with contextlib.suppress(BcsedError, OSError):
            data, competition = _data(run.path)
            folder = data / (competition.audio_dir if clips else competition.soundscapes_dir)
    files = find_recordings(context.recordings)
    if folder is not None and not clips and folder.is_dir():
        files += find_recordings([folder])
    by_stem = unique_stems(files)

    def find_path(name: str) -> Path | None:
        if clips and folder is not None and (folder / name).is_file():
            return folder / name
        return by_stem.get(Path(name).stem)

    names = evaluation.ids if clips else evaluation.files
    row_index = None if clips else parse_row_ids(evaluation.ids).end_s // row_s - 1
    return group_recordings(names, evaluation.scores, evaluation.truth, row_index, find_path)


def comparison_section(runs: Sequence[ComparedRun]) -> Section:
    """Return the comparison of runs; a sentence names those without scores."""
    scored = [run for run in runs if run.evaluation is not None]
    remark = "has no scores to compare; add some with --recordings and --truth."
    items: list[Item] = [f"{run.name} {remark}" for run in runs if run.evaluation is None]
    if len(scored) > 1:
        try:
            items += _variants(scored)
        except DataError as error:
            items.append(f"The runs cannot be compared: {error}")
    return Section("Comparison", items)


def _variants(runs: Sequence[ComparedRun]) -> list[Item]:
    table = compare_variants(runs)
    variants: list[dict[Any, Any]] = table.to_dict("records")
    for number, line in enumerate(variants, 1):
        line["variant"] = f"{number}: {line['experiment']}"
        # A range, such as 3-5, stays text.
        line["n_classes"] = int(line["n_classes"]) if line["n_classes"].isdigit() else line["n_classes"]
    cells = (
        *("variant", "n_runs", "folds", "seeds", "auc", "auc_sd", "low", "high"),
        *("n_classes", "gain", "gain_low", "gain_high", "seconds"),
    )
    columns = (
        *("variant", "runs", "folds", "seeds", "macro ROC-AUC", "standard deviation", "from (95 %)", "to (95 %)"),
        *("classes", "gain over line 1", "from (95 %)", "to (95 %)", "seconds per run"),
    )
    # One line of labels may need several lines of text.
    ax = style.axes(None, 8.0, 1.8 + 0.2 * training.label_lines(table))
    items: list[Item] = [
        "Runs that differ only in seed or fold are one line. Intervals are over recordings; a gain is a paired "
        "difference, so its interval is narrower than those of the two scores.",
        Table(caption="Variants", columns=columns, rows=[[line[name] for name in cells] for line in variants]),
        Table(
            caption="Differences",
            columns=("variant", "change from line 1", "remark"),
            rows=[(line["variant"], line["differs"], line["note"]) for line in variants],
        ),
        make_figure(
            plot.variants(table, ax),
            alt="Dots of the macro ROC-AUC of each variant with intervals; the table contains the numbers.",
            caption=f"Macro ROC-AUC on {'; or on '.join(dict.fromkeys(table['scored_on']))}.",
        ),
    ]
    if table["gain"].notna().any():
        gains = plot.gains(table)
        gains.legend(loc="best")
        caption = "Gain of each variant over the first; it is better to the right of the dotted line."
        items.append(make_figure(gains, alt="Dots of the gains with intervals.", caption=caption))
    return items + _curves(runs)


def _curves(runs: Sequence[ComparedRun]) -> list[Item]:
    histories = {}
    for number, variant in enumerate(group_runs(runs), 1):
        histories[f"{number}: {variant[0].experiment}"] = [run.history for run in variant if len(run.history)]
    items: list[Item] = []
    for column, name in (("clip_auc", "held-out clips"), ("row_auc", "soundscape rows")):
        if any(column in history for variant in histories.values() for history in variant):
            ax = plot.validations(histories, column)
            style.axes_legend(ax)
            caption = f"Macro ROC-AUC on {name} over the epochs; 0.5 is chance."
            items.append(make_figure(ax, alt=f"Curves of the macro ROC-AUC on {name} of each run.", caption=caption))
    return items
