"""The part of the page that compares: several runs side by side, and rounds of a noisy student."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .. import plot
from ..analysis import compare
from ..analysis.compare.runs import ComparedRun
from ..analysis.compare.variants import group
from ..errors import DataError
from ..plot.training import label_lines
from ..rounds.api import LEDGER
from .evaluation import figure
from .page import Item, Section, Table, Text


def section(compared: Sequence[ComparedRun]) -> Section:
    """Return the comparison of runs; those without answers cannot be in it, and are named."""
    judged = [one for one in compared if one.evaluation is not None]
    made = Section("Comparison")
    for one in compared:
        if one.evaluation is None:
            made.items.append(
                Text(f"{one.name} has no answers to compare; --recordings and --truth would give it some.")
            )
    if len(judged) < 2:
        return made
    try:
        table = compare.compare_variants(judged)
    except DataError as error:
        made.items.append(Text(f"They cannot be compared: {error}"))
        return made
    lines = table.to_dict("records")
    for line in lines:
        # A range where runs differ.
        line["n_classes"] = int(line["n_classes"]) if line["n_classes"].isdigit() else line["n_classes"]
    cells = ("auc", "auc_sd", "low", "high", "n_classes", "gain", "gain_low", "gain_high", "seconds")
    columns = ("variant", "runs", "folds", "seeds", "macro ROC-AUC", "standard deviation", "from (95 %)", "to (95 %)")
    more = ("classes", "gain over line 1", "from (95 %)", "to (95 %)", "seconds per run")
    has_gain = bool(table["gain"].notna().any())
    items: list[Item] = [
        Text(
            "Runs that differ in seed or fold alone are one line. Intervals are over recordings; a gain is paired, "
            "and so surer than the two figures that it is the difference of."
        ),
        Table(
            caption="Variants",
            columns=(*columns, *more),
            rows=[
                (
                    f"{number}: {line['experiment']}",
                    *(line["n_runs"], line["folds"], line["seeds"], *(line[name] for name in cells)),
                )
                for number, line in enumerate(lines, 1)
            ],
        ),
        Table(
            caption="What they differ in",
            columns=("variant", "what it changes of line 1", "to be known"),
            rows=[(f"{n}: {line['experiment']}", line["differs"], line["note"]) for n, line in enumerate(lines, 1)],
        ),
        figure(
            plot.variants(table, _axes(table)),
            alt="Dots of each variant's macro ROC-AUC with their intervals; the table above has the numbers.",
            caption=f"Macro ROC-AUC on {'; or on '.join(dict.fromkeys(table['scored_on']))}.",
        ),
    ]
    if has_gain:
        gains = plot.gains(table)
        gains.legend(loc="best")
        told = "What each gains over the first; to the right of the dotted line it is better."
        items.append(figure(gains, alt="Dots of the gains with their intervals.", caption=told))
    made.items += items + _curves(judged)
    return made


def rounds(path: Path) -> Section:
    """Return the ledger of a noisy student's rounds.

    Raises
    ------
    DataError
        If it is damaged.
    """
    try:
        ledger = json.loads((path / LEDGER).read_text(encoding="utf-8"))
        lines = []
        for entry in ledger:
            told = entry["pseudolabels"] or {}
            for student in entry["students"]:
                about = (
                    student["name"],
                    student["experiment"],
                    student["auc"],
                    student["n_classes"],
                    student["scored_on"],
                )
                lines.append((entry["round"], *about, len(entry["teacher"]), told.get("rows_with_label")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / LEDGER} is damaged: not readable as the ledger of rounds.") from error
    columns = ("round", "student", "experiment", "macro ROC-AUC", "classes", "scored on", "teachers", "rows labelled")
    return Section(f"Rounds {path.resolve().name}", [Table(caption="Students", columns=columns, rows=lines)])


def _axes(table: object) -> object:
    from ..plot.style import axes

    n_lines = label_lines(table)  # type: ignore[arg-type]
    return axes(None, 8.0, 1.8 + 0.2 * n_lines)


def _curves(compared: Sequence[ComparedRun]) -> list[Item]:
    histories = {
        f"{number}: {runs[0].experiment}": [one.history for one in runs if len(one.history)]
        for number, runs in enumerate(group(compared), 1)
    }
    items: list[Item] = []
    for column, name in (("clip_auc", "held-out clips"), ("row_auc", "soundscape rows")):
        if any(column in one for runs in histories.values() for one in runs):
            ax = plot.validations(histories, column)
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)
            caption = f"Macro ROC-AUC on {name} over the epochs; .5 is chance."
            items.append(figure(ax, alt=f"Curves of the macro ROC-AUC on {name} of each run.", caption=caption))
    return items
