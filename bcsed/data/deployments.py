"""Site, recorder and start of each recording: from a deployments.csv, GUANO metadata, comments and names.

A ``deployments.csv`` has the columns ``recordings`` (a file, a folder, or a pattern such as ``card3/*.WAV``) and
``site``, optionally ``recorder``, ``start``, ``end``, ``timezone`` and ``clock``. Of a file, ``start`` is its start; of
a folder or pattern, ``start`` and ``end`` are the period of the deployment, and the line holds for the recordings that
start in it; an ``end`` without a time is 00:00 of that day, the first that is outside. ``timezone`` is that of the
results: a name such as ``Europe/Paris``, with daylight saving, or a UTC offset such as ``+01:00``. ``clock`` is that of
the recorder, for times whose source states no offset; by default `timezone`.
"""

from __future__ import annotations

import fnmatch
import functools
import math
import re
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..files import quote_list, read_csv
from .recorders import Statement, parse_offset, parse_start, read_statements

COLUMNS = ("recordings", "site", "recorder", "start", "end", "timezone", "clock")
# Seconds by which sources may differ, and by which recordings of one recorder may overlap.
_TOLERANCE_S = 2
_WAY_OUT = "state it in a deployments.csv (--deployments), or leave such recordings out (--on-error skip)"


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of a deployments.csv."""

    number: int  # in the file
    recordings: str
    site: str
    recorder: str = ""
    start: datetime | None = None
    end: datetime | None = None
    zone: tzinfo | None = None
    clock: tzinfo | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployments:
    """The recordings with site and start, those without, and what is to be known about them.

    `table` has a line per recording, in the order of the recordings: ``recording, site, recorder, start`` (local time),
    ``utc_offset`` (hours, NaN if unknown), ``hours, gap_h`` (since the end of the recorder's previous recording),
    ``site_from, start_from``. `left_out` are pairs of recording and reason, `notes` of recording and sentence.
    """

    table: pd.DataFrame
    left_out: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What states site and start of recordings, besides their names."""

    lines: Sequence[Line] = ()
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # texts in the files, by recording
    paths: Mapping[str, str] = field(default_factory=dict)  # of recordings whose name is not their path
    pattern: re.Pattern[str] | None = None  # of names, see `read_pattern`
    zone: tzinfo | None = None  # of lines and recordings that state none, as is the clock
    clock: tzinfo | None = None


def read_zone(text: str) -> tzinfo:
    """Return a time zone from its name or UTC offset; ConfigError if it is unknown."""
    offset = parse_offset(text)
    if offset is not None:
        return timezone(offset)
    try:
        return zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"the time zone {text!r} is not known; name one such as Europe/Paris (on Windows, pip install tzdata), or "
            "a UTC offset such as +01:00."
        ) from error


def read_deployments(path: str | Path) -> list[Line]:
    """Read a deployments.csv; DataError if it lacks a column, or a line has an invalid value."""
    path = Path(path)
    table = read_csv(path, COLUMNS[:2])
    unknown = [name for name in table.columns if name not in COLUMNS]
    if unknown:
        raise DataError(f"{path}: the column {unknown[0]!r} is not known; its columns are {', '.join(COLUMNS)}.")
    lines = []
    for number, cells in enumerate(table.to_dict("records"), 2):
        values = {str(name): str(text).strip() for name, text in cells.items()}
        missing = [name for name in COLUMNS[:2] if not values[name]]
        if missing:
            raise DataError(f"{path}: line {number} has no {missing[0]}.")
        times, zones = dict[str, datetime | None](), dict[str, tzinfo | None]()
        for name in ("start", "end"):
            text = values.get(name, "")
            text = f"{text} 00:00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", text) else text
            parsed = parse_start(text)
            if text and (parsed is None or parsed[1] is not None):
                advice = "write it as 2023-04-20 07:40:00, on the recorder's clock, without an offset"
                raise DataError(f"{path}: line {number}: {name} {text!r} is not such a time; {advice}.")
            times[name] = None if parsed is None else parsed[0]
        for name in ("timezone", "clock"):
            try:
                zones[name] = read_zone(values[name]) if values.get(name) else None
            except ConfigError as error:
                raise DataError(f"{path}: line {number}: {error}") from error
        if times["start"] and times["end"] and times["start"] >= times["end"]:
            raise DataError(f"{path}: line {number}: its end, {times['end']}, is not after its start.")
        lines.append(
            Line(
                number=number,
                recordings=clean_pattern(values["recordings"]),
                site=values["site"],
                recorder=values.get("recorder", ""),
                start=times["start"],
                end=times["end"],
                zone=zones["timezone"],
                clock=zones["clock"],
            )
        )
    return lines


def resolve(recordings: Sequence[str], durations_s: Sequence[float], sources: Sources, *, skip: bool) -> Deployments:
    """Return site, recorder and start of each recording.

    The first source that states a value counts: the deployments, GUANO metadata, the comment, the name, and for the
    site also the folder, then the recorder. Sources that differ are named in the notes. A recording without site or
    start, or that overlaps an earlier one of its recorder, is a DataError, or left out with the reason with `skip`.
    """
    matcher = _Matcher(sources.lines)
    rows, left_out, notes = list[tuple[object, ...]](), list[tuple[str, str]](), list[tuple[str, str]]()
    for recording, duration_s in zip(recordings, durations_s, strict=True):
        path = sources.paths.get(recording, recording)
        statements = read_statements(path, sources.metadata.get(recording, {}), sources.pattern)
        try:
            line, is_file = matcher.match(path, statements)
            row, sentences = _resolve_recording(path, statements, line, sources, is_file=is_file)
        except DataError as error:
            left_out.append((recording, str(error)))
            continue
        if line is None and sources.lines:
            sentences.append(f"no line of the deployments matches it; its site {row[0]!r} is that of the {row[4]}")
        sentences += _changed_clocks(row[2], row[3], duration_s, _clock_zone(line, sources))
        rows.append((recording, *row[:4], duration_s / 3600, *row[4:]))
        notes += [(recording, sentence) for sentence in sentences]
    notes += [(f"line {line.number}", f"{line.recordings!r} matches no recording") for line in matcher.unused()]
    names = ("recording", "site", "recorder", "start", "utc_offset", "hours", "site_from", "start_from")
    table = pd.DataFrame(rows, columns=list(names)).astype({"start": "datetime64[s]", "utc_offset": np.float64})
    table, overlapping = _check_overlaps(table)
    left_out += overlapping
    if left_out and not skip:
        name, reason = left_out[0]
        raise DataError(
            f"{name}: {reason} ({len(left_out)} of {len(recordings)} recordings have a problem); {_WAY_OUT}."
        )
    if table.empty:
        raise DataError(
            f"none of the {len(recordings)} recordings has a site and a start: {left_out[0][1]}; {_WAY_OUT}."
        )
    notes += _zone_notes(table, sources)
    return Deployments(table=table, left_out=tuple(left_out), notes=tuple(notes))


class _Matcher:
    """Find the line of a deployments.csv for a recording."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._lines, self._used = lines, set[int]()
        self._by_file: dict[str, list[Line]] = {}
        for line in lines:
            self._by_file.setdefault(line.recordings, []).append(line)

    def match(self, path: str, statements: Sequence[Statement]) -> tuple[Line | None, bool]:
        """Return the line, and whether it names the file; DataError if several lines match."""
        if not self._lines:
            return None, False
        full = PurePosixPath(path.replace("\\", "/"))
        ends = path_ends(full)
        lines = [line for name in path_names(full) for line in self._by_file.get(name, ())]
        is_file = bool(lines)
        if not is_file:
            clock = next((each.clock for each in statements if each.clock is not None), None)
            lines = [
                line
                for line in self._lines
                if is_inside(line.recordings, ends) and is_during(line.start, line.end, clock)
            ]
        self._used |= {line.number for line in lines}
        if len(lines) > 1:
            numbers = " and ".join(str(line.number) for line in lines[:2])
            raise DataError(f"lines {numbers} of the deployments both match it")
        return (lines[0] if lines else None), is_file

    def unused(self) -> list[Line]:
        """Return the lines that matched no recording."""
        return [line for line in self._lines if line.number not in self._used]


def clean_pattern(text: str) -> str:
    """Return a file, folder or pattern of a deployments.csv in the form that `is_inside` takes."""
    return re.sub(r"^(\./)+|/+$", "", text.replace("\\", "/"))


def path_ends(path: PurePosixPath) -> list[str]:
    """Return a path, and what remains of it below each of its folders."""
    return [path.as_posix(), *("/".join(path.parts[k:]) for k in range(1, len(path.parts)))]


def path_names(path: PurePosixPath) -> list[str]:
    """Return the names that a recording can have: the `path_ends` of its path, each with and without suffix."""
    return list(dict.fromkeys(name for end in path_ends(path) for name in (end, end.removesuffix(path.suffix))))


def is_inside(pattern: str, ends: Sequence[str]) -> bool:
    """Return whether a path, by its `path_ends`, matches a pattern with wildcards, or is inside a folder."""
    if any(mark in pattern for mark in "*?["):
        return any(fnmatch.fnmatchcase(end, pattern) for end in ends)
    return any(end.startswith(f"{pattern}/") for end in ends)


def is_during(start: datetime | None, end: datetime | None, clock: datetime | None) -> bool:
    """Return whether a recording begins in a period; one whose clock is not known is in no limited period."""
    if clock is None:
        return start is None and end is None
    return (start is None or start <= clock) and (end is None or clock < end)


def _clock_zone(line: Line | None, sources: Sources) -> tzinfo | None:
    """Return the zone in which the local times of a recording are: that of the place, or else of its clock."""
    return (line and line.zone) or sources.zone or (line and line.clock) or sources.clock


def _resolve_recording(
    path: str, statements: Sequence[Statement], line: Line | None, sources: Sources, *, is_file: bool
) -> tuple[tuple[object, ...], list[str]]:
    """Return the fields of a recording from its site on, and sentences about sources that differ."""
    known, timed, sentences = list(statements), list[Statement](), list[str]()
    if line is not None:
        start = line.start if is_file else None
        known.insert(0, Statement(source="deployments", site=line.site, recorder=line.recorder, clock=start))
    site = site_from = recorder = ""
    for each in known:
        recorder = recorder or each.recorder
        if each.clock is not None:
            timed.append(each)
        if each.site and not site:
            site, site_from = each.site, each.source
        elif each.site and each.site != site:
            sentences.append(f"its site is {site!r} in the {site_from} and {each.site!r} in the {each.source}")
    if not site:
        folder = f"//{path}".replace("\\", "/").rsplit("/", 2)[-2]
        site, site_from = (folder, "folder") if folder else (recorder, "recorder")
    if not timed:
        raise DataError("; ".join(each.problem for each in statements if each.problem))
    if not site:
        raise DataError("no source states its site")
    zone = (line and line.zone) or sources.zone
    clock_zone = (line and line.clock) or sources.clock or zone
    for each in timed[1:]:
        sentences += _compare_clocks(timed[0], each, clock_zone)
    clock, utc_offset = timed[0].clock, timed[0].utc_offset
    assert clock is not None
    start, offset, remark = _localise(clock, utc_offset, clock_zone, zone)
    return (site, recorder, start, offset, site_from, timed[0].source), [*sentences, *([remark] if remark else [])]


def _compare_clocks(used: Statement, other: Statement, zone: tzinfo | None) -> list[str]:
    """Return a sentence if two sources state different starts, whether or not a clock without offset is in `zone`."""
    assert used.clock is not None and other.clock is not None
    difference = other.clock - used.clock
    both = (used, other)
    known = [zone.utcoffset(each.clock) if zone and each.utc_offset is None else each.utc_offset for each in both]
    differences = [difference] if None in (used.utc_offset, other.utc_offset) else []
    if known[0] is not None and known[1] is not None:
        differences.append(difference - (known[1] - known[0]))
    seconds = min(abs(each.total_seconds()) for each in differences)
    if seconds <= _TOLERANCE_S:
        return []
    times = [f"{each.clock:%Y-%m-%d %H:%M:%S}{_format_offset(each.utc_offset)} in the {each.source}" for each in both]
    is_zone = seconds <= 14 * 3600 and abs(seconds - 900 * round(seconds / 900)) <= _TOLERANCE_S
    cause = f"; {seconds / 3600:.3g} h may be a time zone or daylight saving" if is_zone else ""
    return [f"it starts at {times[0]} and at {times[1]}{cause}; the {used.source} is used"]


def _format_offset(offset: timedelta | None) -> str:
    if offset is None:
        return ""
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


# Recorders of a survey share their schedule.
@functools.lru_cache(maxsize=1 << 16)
def _localise(
    clock: datetime, utc_offset: timedelta | None, clock_zone: tzinfo | None, zone: tzinfo | None
) -> tuple[datetime, float, str]:
    """Return the local start, its UTC offset in hours (NaN if unknown), and a remark or ''."""
    remark = ""
    if utc_offset is not None:
        moment = clock.replace(tzinfo=timezone(utc_offset))
    elif clock_zone is None:
        return clock, float("nan"), ""
    else:
        moment = clock.replace(tzinfo=clock_zone)
        is_fixed = isinstance(clock_zone, timezone)
        if not is_fixed and moment.astimezone(timezone.utc).astimezone(clock_zone).replace(tzinfo=None) != clock:
            advice = "state the UTC offset of the recorder's clock (--clock, or the column clock)"
            raise DataError(f"{clock} does not exist in {clock_zone}, whose clocks went forward: {advice}")
        if not is_fixed and moment.utcoffset() != moment.replace(fold=1).utcoffset():
            remark = f"{clock} occurs twice in {clock_zone}, whose clocks went back; the first is used"
    local = moment.astimezone(zone or moment.tzinfo)
    offset = local.utcoffset() or timedelta()
    return local.replace(tzinfo=None), offset.total_seconds() / 3600, remark


def _changed_clocks(start: Any, offset_h: Any, duration_s: float, zone: tzinfo | None) -> list[str]:
    """Return a sentence if the offset of a zone changes within a recording that starts at a local time."""
    if zone is None or offset_h is None or math.isnan(offset_h):
        return []
    end = start.replace(tzinfo=timezone(timedelta(hours=offset_h))) + timedelta(seconds=duration_s)
    if end.astimezone(zone).utcoffset() == timedelta(hours=offset_h):
        return []
    return [f"the clocks of {zone} change within it; all its local times have the offset of its start"]


def _check_overlaps(table: pd.DataFrame) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """Return the recordings that overlap no earlier recording of their recorder, with gaps; and the others."""
    known = table["utc_offset"].notna().all()
    start_s = table["start"].to_numpy().astype(np.int64) - (table["utc_offset"].to_numpy() * 3600 if known else 0)
    # A recorder that is not known is that of the site.
    owners = np.where(table["recorder"] != "", "recorder " + table["recorder"], "site " + table["site"])
    order = np.lexsort((start_s, owners))
    columns = (owners, start_s, 3600 * table["hours"].to_numpy(np.float64), table["recording"].to_numpy())
    ordered = (each[order].tolist() for each in columns)
    gap_h, overlapping, last = np.full(len(table), np.nan), dict[int, str](), ("", 0.0, "")
    for index, owner, start, length_s, name in zip(order.tolist(), *ordered, strict=True):
        gap_s = start - last[1]
        if owner == last[0] and gap_s < -_TOLERANCE_S:
            overlapping[index] = f"it overlaps {last[2]} of the same {owner} by {min(-gap_s, length_s):.0f} s"
            continue
        if owner == last[0]:
            gap_h[index] = max(gap_s, 0) / 3600
        last = (owner, start + length_s, name)
    table.insert(6, "gap_h", gap_h)
    kept = np.delete(np.arange(len(table)), list(overlapping))
    left_out = [(str(table["recording"][k]), reason) for k, reason in sorted(overlapping.items())]
    return table.iloc[kept].reset_index(drop=True), left_out


def _zone_notes(table: pd.DataFrame, sources: Sources) -> Iterable[tuple[str, str]]:
    """Yield sentences about the time zones of the results."""
    offsets = Counter(table["utc_offset"].fillna(np.inf))
    unknown = offsets.pop(np.inf, 0)
    if unknown:
        yield "all", f"{unknown} recordings have the time of their recorder's clock, whose time zone is not known"
    if len(offsets) > 1:
        values = [_format_offset(timedelta(hours=float(offset))) for offset in sorted(offsets)]
        changes = table.groupby("site")["utc_offset"].nunique()
        within = [str(site) for site in changes.index[changes > 1]]
        reason = (
            f"; it changes at {len(within)} sites ({quote_list(within, 3)}), as by daylight saving" if within else ""
        )
        yield "all", f"local times have the UTC offsets {', '.join(values)}{reason}"
        if within and sources.clock is None and (sources.zone or any(line.zone for line in sources.lines)):
            advice = "if a recorder's clock was not changed with them, state its UTC offset (--clock)"
            yield "all", f"clocks change within the survey; {advice}"
    elif offsets:
        yield "all", f"local times have the UTC offset {_format_offset(timedelta(hours=float(next(iter(offsets)))))}"
