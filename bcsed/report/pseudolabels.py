"""The part of the page of a table of pseudolabels: rows per class and recording, how sure the teachers were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import plot
from ..train import pseudolabels as pseudolabel
from .evaluation import figure, shown_name
from .page import Facts, Section, Table
from .runs import ReportContext


def section(path: Path, around: ReportContext) -> Section:
    """Return a table's part.

    Raises
    ------
    DataError
        As `bcsed.train.pseudolabels.read`.
    """
    table = pseudolabel.read_pseudolabels(path)
    told = table.provenance
    per_file = table.per_file()
    values = table.values.astype(np.float64)
    teachers = ", ".join(f"{one['experiment'] or one['bundle']} (weight {one['weight']:g})" for one in told["teachers"])
    selection = ", ".join(f"{name} {value}" for name, value in told["selection"].items() if value not in ({}, [], ""))
    facts = [
        ("teachers", teachers or "not told"),
        ("selection", selection),
        ("made", str(told.get("date", ""))),
        ("rows", f"{len(values)}, {int((values > 0).any(1).sum())} with a label"),
        ("recordings", f"{len(per_file)}, {told.get('n_failed', 0)} more could not be read"),
    ]
    made = Section(f"Pseudolabels {path.name}", [Facts([(name, value) for name, value in facts if value])])
    kept = values[values > 0]
    spread = figure(
        plot.score_histogram(kept, what="labels (row and class)", title=f"{len(kept)} labels"),
        alt="Histogram of the labels' probabilities on a logarithmic axis.",
        caption="How sure the teachers were of what was kept.",
    )
    made.sections = [_classes(table, around), _recordings(per_file), Section("Scores", [spread])]
    return made


def _classes(table: pseudolabel.Pseudolabels, around: ReportContext) -> Section:
    per_class, values = table.per_class(), table.values.astype(np.float64)
    counts = list(per_class.values())
    lines: list[Sequence[Any]] = []
    for k, name in enumerate(table.classes):
        own = values[values[:, k] > 0, k]
        spread = np.quantile(own, [0, 0.5, 1]).tolist() if len(own) else [None] * 3
        lines.append((shown_name(name, around.names), per_class[name], *spread))
    lines.sort(key=lambda line: -line[1])
    drawn = figure(
        plot.rows_per_class(per_class),
        alt=f"Bars of the rows kept of each of {len(counts)} classes, {min(counts)} to {max(counts)}.",
        caption="Rows that were kept of each class.",
    )
    columns = ("class", "rows", "lowest", "median", "highest")
    return Section("Classes", [drawn, Table(caption="Classes", columns=columns, rows=lines)])


def _recordings(per_file: Mapping[str, int]) -> Section:
    drawn = figure(
        plot.rows_per_recording(list(per_file.values())),
        alt=f"Histogram of the rows kept of each of {len(per_file)} recordings.",
        caption="In how many recordings so many rows hold a label.",
    )
    lines = sorted(per_file.items(), key=lambda line: -line[1])
    columns = ("recording", "rows with a label")
    return Section("Recordings", [drawn, Table(caption="Recordings", columns=columns, rows=lines)])
