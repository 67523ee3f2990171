"""Compute detection history, effort, activity and evidence from a score table and its deployments.

A detection is a row whose score is at least the threshold of its class and site; effort is the time of the scored
rows. Days and hours are those of local time; a row belongs to the day and hour in which it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ...data.deployments import Deployments
from ...errors import ConfigError, DataError
from ...recordings import recording_names
from ..detections.species import SpeciesList
from .density import N_CELLS, Floats, score_cells
from .estimates import density_tables, site_thresholds, species_table
from .reviews import Reviewed, locate, score_answers
from .rows import Rows

_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class SurveySettings:
    """What counts as a detection and as an occasion; a ConfigError if a value is out of range."""

    threshold: float = 0.5  # in (0, 1]
    thresholds: Mapping[str, float] = field(default_factory=dict)  # of single classes, instead of `threshold`
    precision: float = 0.9  # of thresholds of single sites, from reviewed rows
    min_reviewed: int = 20  # reviewed rows of a class at a site for a threshold and a density of its own
    occasion_days: int = 1
    day_start_h: int = 0  # local hour at which a day starts, such as 12 for nocturnal species
    seed: int = 0  # of the intervals

    def __post_init__(self) -> None:
        for name, value in {
            "the threshold": self.threshold,
            "the precision": self.precision,
            **self.thresholds,
        }.items():
            if not 0 < value <= 1:
                raise ConfigError(f"{name} must be in (0, 1], got {value:g}.")
        if self.occasion_days < 1 or self.min_reviewed < 1 or not 0 <= self.day_start_h < 24:
            values = f"{self.occasion_days}, {self.min_reviewed} and {self.day_start_h}"
            raise ConfigError(
                "an occasion has at least 1 day, a threshold of a site at least 1 reviewed row, and a day starts at an "
                f"hour of 0 to 23; got {values}."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """The results of a survey of S sites, D days, K classes."""

    settings: SurveySettings
    deployments: Deployments
    sites: tuple[str, ...]
    classes: tuple[str, ...]
    first_day: np.datetime64
    counts: npt.NDArray[np.int32]  # (S, D, K), detections
    effort_h: Floats  # (S, D)
    hourly_counts: npt.NDArray[np.int64]  # (S, 24, K)
    hourly_effort_h: Floats  # (S, 24)
    thresholds: pd.DataFrame  # a line per site and class: threshold, source, reason
    species: pd.DataFrame  # a line per site and class with a detection, or a reviewed row with a call
    records: pd.DataFrame  # a line per uninterrupted detection: site, class, recording, start_s, time, score
    density: pd.DataFrame | None = None  # see `bcsed.scores.survey.estimates`
    bins: pd.DataFrame | None = None
    removed: Mapping[str, int] = field(default_factory=dict)  # detections that the list of species removed, by class

    def occasions(self) -> tuple[npt.NDArray[np.int64], Floats]:
        """Return detections (S, O, K) and effort in hours (S, O) of occasions; the last one may be shorter."""
        starts = np.arange(0, self.counts.shape[1], self.settings.occasion_days)
        return np.add.reduceat(self.counts.astype(np.int64), starts, 1), np.add.reduceat(self.effort_h, starts, 1)

    def occasion_days(self) -> list[str]:
        """Return the first day of each occasion."""
        n_days, step = self.counts.shape[1], self.settings.occasion_days
        return [str(self.first_day + np.timedelta64(day, "D")) for day in range(0, n_days, step)]


def survey(
    rows: Rows,
    deployments: Deployments,
    settings: SurveySettings | None = None,
    reviewed: Reviewed | None = None,
    species: SpeciesList | None = None,
) -> Survey:
    """Compute the results of a survey.

    Recordings of the rows that are not among the deployments are left out. With `species`, only these are detected; its
    sites are those of the deployments. Raises ConfigError for a threshold of an unknown class; DataError if no row is
    left, a reviewed row is not among them, or a site is not among those of `species`.
    """
    settings = settings or SurveySettings()
    unknown = sorted(set(settings.thresholds) - set(rows.classes))
    if unknown:
        raise ConfigError(
            f"a threshold is stated for {unknown[0]!r}, which is not among the {len(rows.classes)} classes."
        )
    table = deployments.table
    number = {name: k for k, name in enumerate(rows.recordings)}
    names = table["recording"].tolist()
    missing = [name for name in names if name not in number]
    if missing:
        raise DataError(f"the recording {missing[0]!r} of the deployments has no rows in {rows.path}.")
    answered = None
    codes, sites = pd.factorize(table["site"], sort=True)
    index = np.array([number[name] for name in names])
    site_of = np.full(len(rows.recordings), -1)
    site_of[index] = codes
    if reviewed is not None:
        by_name = dict(zip(recording_names(list(map(Path, rows.recordings))), number.values(), strict=True))
        answered, n_other = score_answers(locate(reviewed, {**number, **by_name}, rows.classes), rows)
        if n_other:
            sentence = f"{n_other} of {len(answered)} answered rows had other scores when they were chosen; those of "
            note = ("review", f"{sentence}{rows.path} are used")
            deployments = replace(deployments, notes=(*deployments.notes, note))
        answered = answered.assign(site=site_of[answered["recording"]])
        if n_out := int((answered["site"] < 0).sum()):
            note = ("review", f"{n_out} of {len(answered)} answered rows are of recordings that were left out")
            deployments = replace(deployments, notes=(*deployments.notes, note))
        answered = answered[answered["site"] >= 0]
    thresholds = site_thresholds(answered, list(sites), rows.classes, settings)
    # What the list of species removes is counted by the thresholds that would hold without it.
    totals = _Totals(rows, table.set_index(index), site_of, thresholds, settings, answered)
    if species is not None:
        first = table.drop_duplicates("site").set_index("site")["recording"]
        totals.permitted = np.array([np.isin(rows.classes, species.classes_at(s, str(first[s]))) for s in sites])
        removed = ~totals.permitted.reshape(-1)
        thresholds.loc[removed, ["threshold", "source", "reason"]] = (np.nan, "none", f"not in {species.path}")
    for values in rows.blocks():
        totals.add(values)
    evidence = species_table(totals, answered, thresholds, list(sites), settings)
    tables = (None, None) if answered is None else density_tables(totals, answered, list(sites), settings)
    return Survey(
        settings=settings,
        deployments=deployments,
        sites=tuple(map(str, sites)),
        classes=rows.classes,
        first_day=totals.first_day,
        counts=totals.counts,
        effort_h=totals.effort_s / 3600,
        hourly_counts=totals.hourly,
        hourly_effort_h=totals.hourly_effort_s / 3600,
        thresholds=thresholds,
        species=evidence,
        records=totals.records(list(sites)),
        density=tables[0],
        bins=tables[1],
        removed={rows.classes[k]: int(totals.removed[k]) for k in np.argsort(-totals.removed) if totals.removed[k]},
    )


class _Totals:
    """Sums over the rows of a score table, block by block."""

    def __init__(
        self,
        rows: Rows,
        table: pd.DataFrame,
        site_of: npt.NDArray[np.int64],
        thresholds: pd.DataFrame,
        settings: SurveySettings,
        answered: pd.DataFrame | None,
    ) -> None:
        self.rows, self._site_of, self._position = rows, site_of, 0
        S, K = int(site_of.max()) + 1, len(rows.classes)
        self._least = thresholds["threshold"].to_numpy(np.float32).reshape(S, K)
        # Seconds from the start of the first day, and length, of each recording.
        local_s = table["start"].to_numpy().astype("datetime64[s]").astype(np.int64) - 3600 * settings.day_start_h
        first = int(local_s.min() // _DAY_S)
        self.first_day = np.datetime64(first, "D")
        self._day_start_h = settings.day_start_h
        self.local_s, self._length_s = np.zeros(len(site_of), np.int64), np.zeros(len(site_of))
        self.local_s[table.index] = local_s - first * _DAY_S
        self._length_s[table.index] = table["hours"].to_numpy(np.float64) * 3600
        last_s = self.local_s[rows.recording] + rows.start_s
        D = int(last_s[site_of[rows.recording] >= 0].max() // _DAY_S) + 1
        self.counts, self.effort_s = np.zeros((S, D, K), np.int32), np.zeros((S, D))
        self.hourly, self.hourly_effort_s = np.zeros((S, 24, K), np.int64), np.zeros((S, 24))
        self.best, self.best_row = np.full((S, K), -1, np.float32), np.zeros((S, K), np.int64)
        self.columns = [] if answered is None else sorted(map(int, set(answered["column"])))
        self.cells = np.zeros((len(self.columns), S, N_CELLS), np.int32)
        self._detected: list[tuple[Any, ...]] = []
        self.permitted: npt.NDArray[np.bool_] | None = None  # (S, K)
        self.removed = np.zeros(K, np.int64)

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Add the next rows."""
        start = self._position
        self._position += len(values)
        part = slice(start, self._position)
        recording, start_s = self.rows.recording[part], self.rows.start_s[part]
        kept = np.flatnonzero(self._site_of[recording] >= 0)
        if not len(kept):
            return
        if len(kept) < len(values):
            recording, start_s, values = recording[kept], start_s[kept], values[kept]
        site, local_s = self._site_of[recording], self.local_s[recording] + start_s
        day, hour = local_s // _DAY_S, (local_s // 3600 + self._day_start_h) % 24
        effort_s = np.clip(self._length_s[recording] - start_s, 0, self.rows.row_s)
        # Flat indices, for which numpy is fast.
        D, K = self.counts.shape[1:]
        np.add.at(self.effort_s.reshape(-1), site * D + day, effort_s)
        np.add.at(self.hourly_effort_s.reshape(-1), site * 24 + hour, effort_s)
        row, column = np.nonzero(values >= self._least[site])
        if self.permitted is not None:
            inside = self.permitted[site[row], column]
            self.removed += np.bincount(column[~inside], minlength=K)
            row, column = row[inside], column[inside]
        np.add.at(self.counts.reshape(-1), (site * D + day)[row] * K + column, 1)
        np.add.at(self.hourly.reshape(-1), (site * 24 + hour)[row] * K + column, 1)
        self._detected.append((recording[row], start_s[row], column.astype(np.int32), values[row, column]))
        for number in np.unique(site):
            mine = np.flatnonzero(site == number)
            top = values[mine].argmax(0)
            best = values[mine][top, np.arange(values.shape[1])]
            higher = best > self.best[number]
            self.best[number, higher] = best[higher]
            self.best_row[number, higher] = start + kept[mine[top[higher]]]
        for k, name in enumerate(self.columns):
            cells = site * N_CELLS + score_cells(values[:, name])
            np.add.at(self.cells[k].reshape(-1), cells, 1)

    def time(self, recording: Any, start_s: Any) -> Any:
        """Return the local times of seconds in recordings."""
        seconds = self.local_s[recording] + start_s + 3600 * self._day_start_h
        return self.first_day.astype("datetime64[s]") + np.asarray(seconds).astype("timedelta64[s]")

    def records(self, sites: list[str]) -> pd.DataFrame:
        """Return the uninterrupted runs of detections."""
        parts = [np.concatenate(each) for each in zip(*self._detected, strict=True)]
        self._detected.clear()
        order = np.lexsort((parts[1], parts[0], parts[2]))
        recording, start_s, column, score = (each[order] for each in parts)
        same = (np.diff(column) == 0) & (np.diff(recording) == 0) & (np.diff(start_s) == self.rows.row_s)
        starts = np.flatnonzero(np.append(True, ~same)[: len(order)])
        highest = np.maximum.reduceat(score, starts) if len(starts) else score
        recording, start_s, column = recording[starts], start_s[starts], column[starts]
        site, local_s = self._site_of[recording], self.local_s[recording] + start_s
        order = np.lexsort((column, local_s, site))
        fields = {
            "site": pd.Categorical.from_codes(site[order], pd.Index(sites)),
            "class": pd.Categorical.from_codes(column[order], pd.Index(self.rows.classes)),
            "recording": pd.Categorical.from_codes(recording[order], pd.Index(self.rows.recordings)),
            "start_s": start_s[order],
            "time": self.time(recording[order], start_s[order]),
            "score": highest[order],
        }
        table: pd.DataFrame = pd.DataFrame(fields)
        return table
