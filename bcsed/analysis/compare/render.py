"""The table of a comparison as text, as files, and as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ... import plot
from ...files import atomic_write
from .runs import ComparedRun
from .variants import group

HEADER = ("", "experiment", "runs", "folds", "seeds", "AUC", "95 %", "classes", "gain", "95 %", "time per run")
_GAIN = slice(8, 10)


def format_table(table: pd.DataFrame) -> str:
    """Return a comparison as lines for the terminal.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.analysis.compare.table`.

    Returns
    -------
    str
        A header and one line per variant, in aligned columns, then what was scored, what each variant differs
        in, and the notes. The gain is left out where there is none.
    """
    rows = _rows(table)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    told = [f"{number}  {text}" for number, text in _remarks(table)]
    return "\n".join([*lines, "", _legend(table), *told])


def write_table(
    table: pd.DataFrame, out: str | Path, compared: Sequence[ComparedRun] = (), *, by_name: bool = False
) -> Path:
    """Write a comparison as ``compare.csv``, ``compare.md`` and ``compare.png``.

    Parameters
    ----------
    table : DataFrame
        As from `bcsed.analysis.compare.table`.
    out : str or Path
        A folder; these files in it are replaced.
    compared : sequence of ComparedRun, optional
        What the table was made of. With it, the validation of runs over their epochs is drawn too, as
        ``curves.png``.
    by_name : bool
        As the table was made.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DataError
        If the disk refuses.
    """
    out = Path(out)
    with atomic_write(out / "compare.csv") as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    with atomic_write(out / "compare.md") as temporary:
        temporary.write_text(_markdown(table), encoding="utf-8")
    with atomic_write(out / "compare.png") as temporary:
        plot.comparison(table, temporary)
    histories = {
        f"{number}: {runs[0].experiment}": [one.history for one in runs if len(one.history)]
        for number, runs in enumerate(group(compared, by_name=by_name), 1)
    }
    if any(histories.values()):
        with atomic_write(out / "curves.png") as temporary:
            plot.curves(histories, temporary)
    return out


def _rows(table: pd.DataFrame) -> list[list[str]]:
    rows = [list(HEADER)]
    for number, line in enumerate(table.to_dict("records"), 1):
        interval = "" if math.isnan(line["low"]) else f"{line['low']:.4f} to {line['high']:.4f}"
        sure = "" if math.isnan(line["gain_low"]) else f"{line['gain_low']:+.4f} to {line['gain_high']:+.4f}"
        gain = "" if math.isnan(line["gain"]) else f"{line['gain']:+.4f}"
        counts = (str(line["n_runs"]), line["folds"], line["seeds"])
        spread = "" if math.isnan(line["auc_sd"]) else f" ± {line['auc_sd']:.3f}"
        auc = (f"{line['auc']:.4f}{spread}", interval, line["n_classes"])
        rows.append([str(number), line["experiment"], *counts, *auc, gain, sure, _time(line["seconds"])])
    if table["gain"].isna().all():
        for row in rows:
            del row[_GAIN]
    return rows


def _remarks(table: pd.DataFrame) -> list[tuple[int, str]]:
    """Return what is said about the lines, by their number."""
    told = []
    for number, line in enumerate(table.to_dict("records"), 1):
        told += [(number, line["differs"])] if line["differs"] else []
        told += [(number, line["note"])] if line["note"] else []
    return told


def _legend(table: pd.DataFrame) -> str:
    scored = list(dict.fromkeys(table["scored_on"]))
    gain = "" if table["gain"].isna().all() else "; gain: the paired difference to line 1"
    return (
        f"AUC: macro ROC-AUC on {'; or on '.join(scored)}; ±: standard deviation over runs; 95 %: interval over "
        f"recordings{gain}."
    )


def _markdown(table: pd.DataFrame) -> str:
    rows = [[cell.replace("|", r"\|") for cell in row] for row in _rows(table)]
    rows.insert(1, ["---"] * len(rows[0]))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    told = [f"* {number}: {text}" for number, text in _remarks(table)]
    return "\n".join(["# Comparison", "", *lines, "", _legend(table), *([""] if told else []), *told, ""])


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return ""
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
