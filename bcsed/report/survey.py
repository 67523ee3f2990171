"""The section about a survey: effort, species with their evidence, activity, call density."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import plot
from ..errors import DataError
from ..scores.survey import read_survey
from .evaluation import full_name
from .page import Item, Section, Table, make_figure
from .recordings import ReportContext

_SPECIES = {
    "site": "site",
    "class": "class",
    "n_detections": "detections",
    "n_days": "days",
    "threshold": "threshold",
    "best_score": "highest score",
    "best_recording": "in recording",
    "best_start_s": "at second",
    "best_time": "local time",
    "n_reviewed": "reviewed",
    "n_yes": "with a call",
    "best_reviewed": "highest reviewed",
    "expected_true": "expected true",
    "expected_low": "from (90 %)",
    "expected_high": "to (90 %)",
}
_DENSITY = {
    "class": "class",
    "site": "site",
    "n_rows": "rows",
    "n_reviewed": "reviewed",
    "density": "share of rows with a call",
    "low": "from (90 %)",
    "high": "to (90 %)",
    "expected_rows": "expected rows with a call",
    "basis": "reviewed rows of",
    "reason": "reason",
}
_BINS = {
    "class": "class",
    "low": "score from",
    "high": "to",
    "share": "share of rows",
    "n_reviewed": "reviewed",
    "positive": "share with a call",
    "variance_share": "share of the variance",
}


def survey_section(path: Path, context: ReportContext) -> Section:
    """Return the section about a folder of `bcsed survey`; errors as `bcsed.scores.survey.read_survey`."""
    manifest, tables = read_survey(path)
    try:
        return Section(f"Survey {path.resolve().name}", _overview(manifest, tables), _sections(tables, context.names))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged: not readable as a survey ({error}).") from error


def _overview(manifest: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> list[Item]:
    settings = manifest["settings"]
    facts = {
        "scores": str(manifest.get("scores", "")),
        "sites": str(len(manifest["sites"])),
        "days": f"{manifest['n_days']} from {manifest['first_day']}, starting at {settings['day_start_h']} h",
        "occasion": f"{settings['occasion_days']} days",
        "recordings": f"{manifest['n_recordings']}, {manifest['n_left_out']} left out",
        "effort": f"{manifest['hours']:.1f} h",
        "detections": f"{manifest['n_detections']} rows",
        "reviewed rows": str(manifest.get("review") or "none"),
    }
    if "species" in manifest:
        n_removed = sum(manifest["removed_detections"].values())
        facts["list of species"] = f"{manifest['species']}, which removed {n_removed} detections"
    items: list[Item] = [facts]
    for name, caption in (("notes", "Notes"), ("left_out", "Recordings that were left out")):
        if len(tables[name]):
            items.append(_table(tables[name], caption, dict(zip(*[tables[name].columns] * 2, strict=True))))
    return items


def _sections(tables: Mapping[str, pd.DataFrame], names: Mapping[str, Any]) -> list[Section]:
    named = {
        key: table.assign(**{"class": [full_name(each, names) for each in table["class"]]})
        if "class" in table
        else table
        for key, table in tables.items()
    }
    figures = [
        make_figure(
            plot.activity(tables[name], by),
            alt=f"Colours of the detections per hour of effort of each class by {by}; {name}.csv has the numbers.",
            caption=f"Activity by {by}, all sites together; grey where there was no effort.",
        )
        for by, name in (("hour", "hourly"), ("day", "daily"))
    ]
    remark = "A detection is a row with a score of at least the threshold of its class and site."
    sections = [
        Section("Species of the sites", [remark, _table(named["species"], "Species of the sites", _SPECIES)]),
        Section("Activity", list(figures)),
    ]
    if "density" in named:
        remark = (
            "Shares of rows with a call, estimated from the reviewed rows without a threshold (Navine et al. 2024)."
        )
        further = "Further reviewed rows reduce the uncertainty most in the first of these bins of scores."
        items: list[Item] = [remark, _table(named["density"], "Call density", _DENSITY)]
        items += [further, _table(named["review_next"], "What to review next", _BINS)]
        sections.append(Section("Call density", items))
    return sections


def _table(table: pd.DataFrame, caption: str, columns: Mapping[str, str]) -> Table:
    present = [name for name in columns if name in table]
    rows: Sequence[Sequence[Any]] = table[present].to_numpy(object).tolist()
    return Table(caption=caption, columns=[columns[name] for name in present], rows=rows)
