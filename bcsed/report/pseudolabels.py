"""The sections about tables of pseudolabels, and about the rounds of a noisy student."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import plot
from ..errors import DataError
from ..rounds.api import LEDGER, read_ledger
from ..train.pseudolabels.table import Pseudolabels, read_pseudolabels
from .evaluation import full_name
from .page import Section, Table, make_figure
from .recordings import ReportContext


def pseudolabel_section(path: Path, context: ReportContext) -> Section:
    """Return the section about a table; errors as `bcsed.train.pseudolabels.read_pseudolabels`."""
    table = read_pseudolabels(path)
    provenance, per_file = table.provenance, table.per_file()
    teachers = [f"{net['experiment'] or net['bundle']} (weight {net['weight']:g})" for net in provenance["teachers"]]
    selection = ", ".join(f"{name} {value}" for name, value in provenance["selection"].items() if value not in ({}, ""))
    facts = {
        "teachers": ", ".join(teachers) or "not recorded",
        "selection": selection,
        "date": str(provenance.get("date", "")),
        "rows": f"{len(table.values)}, {int((table.values > 0).any(1).sum())} with a label",
        "recordings": f"{len(per_file)}, {provenance.get('n_failed', 0)} more could not be read",
    }
    labels = table.values[table.values > 0].astype(np.float64)
    histogram = make_figure(
        plot.score_histogram(labels, ylabel="labels (row and class)", title=f"{len(labels)} labels"),
        alt="Histogram of the probabilities of the labels on a logarithmic axis.",
        caption="Probabilities that the teachers gave to the labels.",
    )
    sections = [_classes(table, context), _recordings(per_file), Section("Scores", [histogram])]
    return Section(f"Pseudolabels {path.name}", [facts], sections)


def _classes(table: Pseudolabels, context: ReportContext) -> Section:
    per_class, values = table.per_class(), table.values.astype(np.float64)
    rows: list[Sequence[Any]] = []
    for k, name in enumerate(table.classes):
        labels = values[values[:, k] > 0, k]
        spread = np.quantile(labels, [0, 0.5, 1]).tolist() if len(labels) else [None] * 3
        rows.append((full_name(name, context.names), per_class[name], *spread))
    rows.sort(key=lambda row: -row[1])
    figure = make_figure(
        plot.rows_per_class(per_class),
        alt=f"Bars of the labelled rows of {len(rows)} classes, {rows[-1][1]} to {rows[0][1]} per class.",
        caption="Labelled rows of each class.",
    )
    columns = ("class", "rows", "lowest", "median", "highest")
    return Section("Classes", [figure, Table(caption="Classes", columns=columns, rows=rows)])


def _recordings(per_file: Mapping[str, int]) -> Section:
    figure = make_figure(
        plot.rows_per_recording(list(per_file.values())),
        alt=f"Histogram of the labelled rows of {len(per_file)} recordings.",
        caption="Number of recordings by their number of labelled rows.",
    )
    rows = sorted(per_file.items(), key=lambda row: -row[1])
    table = Table(caption="Recordings", columns=("recording", "labelled rows"), rows=rows)
    return Section("Recordings", [figure, table])


def rounds_section(path: Path) -> Section:
    """Return the ledger of the rounds of a noisy student."""
    cells = ("name", "experiment", "auc", "n_classes", "scored_on")
    rows = []
    try:
        for entry in read_ledger(path):
            labelled = (entry["pseudolabels"] or {}).get("rows_with_label")
            for student in entry["students"]:
                scores = [student[name] for name in cells]
                rows.append((entry["round"], *scores, len(entry["teacher"]), labelled))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path / LEDGER} is damaged: not readable as the ledger of rounds.") from error
    columns = ("round", "student", "experiment", "macro ROC-AUC", "classes", "scored on", "teachers", "rows labelled")
    return Section(f"Rounds {path.resolve().name}", [Table(caption="Students", columns=columns, rows=rows)])
