"""Write the table of a comparison as text, files and figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ...files import atomic_write
from ...plot.training import comparison, curves
from .runs import ComparedRun
from .variants import group_runs

_HEADER = ("", "experiment", "runs", "folds", "seeds", "AUC", "95 %", "classes", "gain", "95 %", "time per run")
_GAIN = slice(8, 10)


def format_table(table: pd.DataFrame) -> str:
    """Return the table of `compare_variants` as text for the terminal, in aligned columns.

    The data, the differences between variants, and the notes follow it. Without any gain, its columns are omitted.
    """
    rows = _rows(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", _legend(table), *(f"{number}  {text}" for number, text in _remarks(table))])


def write_table(
    table: pd.DataFrame, out: str | Path, compared: Sequence[ComparedRun] = (), *, by_name: bool = False
) -> Path:
    """Write the table of `compare_variants` as ``compare.csv``, ``compare.md`` and ``compare.png`` in a folder.

    If the runs of the table are given as `compared`, with `by_name` as for `compare_variants`, their validation over
    the epochs is plotted too, as ``curves.png``. Returns the folder; errors as `bcsed.files.atomic_write`.
    """
    out = Path(out)
    with atomic_write(out / "compare.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    with atomic_write(out / "compare.md") as temporary:
        temporary.write_text(_markdown(table), encoding="utf-8")
    with atomic_write(out / "compare.png") as temporary:
        comparison(table, temporary)
    histories = {
        f"{number}: {runs[0].experiment}": [run.history for run in runs if len(run.history)]
        for number, runs in enumerate(group_runs(compared, by_name=by_name), 1)
    }
    if any(histories.values()):
        with atomic_write(out / "curves.png") as temporary:
            curves(histories, temporary)
    return out


def _rows(table: pd.DataFrame) -> list[list[str]]:
    rows = [list(_HEADER)]
    for number, line in enumerate(table.to_dict("records"), 1):
        interval = "" if math.isnan(line["low"]) else f"{line['low']:.4f} to {line['high']:.4f}"
        gain_interval = "" if math.isnan(line["gain_low"]) else f"{line['gain_low']:+.4f} to {line['gain_high']:+.4f}"
        gain = "" if math.isnan(line["gain"]) else f"{line['gain']:+.4f}"
        counts = (str(line["n_runs"]), line["folds"], line["seeds"])
        spread = "" if math.isnan(line["auc_sd"]) else f" ± {line['auc_sd']:.3f}"
        auc = (f"{line['auc']:.4f}{spread}", interval, line["n_classes"])
        rows.append([str(number), line["experiment"], *counts, *auc, gain, gain_interval, _duration(line["seconds"])])
    if table["gain"].isna().all():
        for row in rows:
            del row[_GAIN]
    return rows


def _remarks(table: pd.DataFrame) -> list[tuple[int, str]]:
    """Return differences and notes with the number of their line."""
    lines = enumerate(table.to_dict("records"), 1)
    return [(number, line[key]) for number, line in lines for key in ("differs", "note") if line[key]]


def _legend(table: pd.DataFrame) -> str:
    scored_on = list(dict.fromkeys(table["scored_on"]))
    gain = "" if table["gain"].isna().all() else "; gain: the paired difference to line 1"
    return (
        f"AUC: macro ROC-AUC on {'; or on '.join(scored_on)}; ±: standard deviation over runs; 95 %: interval over "
        f"recordings{gain}."
    )


def _markdown(table: pd.DataFrame) -> str:
    rows = [[cell.replace("|", r"\|") for cell in row] for row in _rows(table)]
    rows.insert(1, ["---"] * len(rows[0]))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    remarks = [f"* {number}: {text}" for number, text in _remarks(table)]
    return "\n".join(["# Comparison", "", *lines, "", _legend(table), *([""] if remarks else []), *remarks, ""])


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
