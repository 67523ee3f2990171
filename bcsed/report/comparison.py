"""The sections that compare: several runs, and the rounds of a noisy student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import plot
from ..analysis.compare.runs import ComparedRun
from ..analysis.compare.variants import compare_variants, group_runs
from ..errors import DataError
from ..plot import style, training
from ..rounds.api import LEDGER, read_ledger
from .page import Item, Section, Table, Text, make_figure


def comparison_section(runs: Sequence[ComparedRun]) -> Section:
    """Return the comparison of runs; a sentence names those without scores."""
    scored = [run for run in runs if run.evaluation is not None]
    items: list[Item] = [
        Text(f"{run.name} has no scores to compare; add some with --recordings and --truth.")
        for run in runs
        if run.evaluation is None
    ]
    if len(scored) > 1:
        try:
            items += _variants(scored)
        except DataError as error:
            items.append(Text(f"The runs cannot be compared: {error}"))
    return Section("Comparison", items)


def _variants(runs: Sequence[ComparedRun]) -> list[Item]:
    table = compare_variants(runs)
    variants: list[dict[str, Any]] = [
        {**{str(key): value for key, value in line.items()}, "variant": f"{number}: {line['experiment']}"}
        for number, line in enumerate(table.to_dict("records"), 1)
    ]
    for line in variants:
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
        Text(
            "Runs that differ only in seed or fold are one line. Intervals are over recordings; a gain is a paired "
            "difference, so its interval is narrower than those of the two scores."
        ),
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
    histories = {
        f"{number}: {variant[0].experiment}": [run.history for run in variant if len(run.history)]
        for number, variant in enumerate(group_runs(runs), 1)
    }
    items: list[Item] = []
    for column, name in (("clip_auc", "held-out clips"), ("row_auc", "soundscape rows")):
        if any(column in history for variant in histories.values() for history in variant):
            ax = plot.validations(histories, column)
            style.axes_legend(ax)
            caption = f"Macro ROC-AUC on {name} over the epochs; 0.5 is chance."
            items.append(make_figure(ax, alt=f"Curves of the macro ROC-AUC on {name} of each run.", caption=caption))
    return items


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
