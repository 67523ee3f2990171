"""What names, comments and GUANO metadata of recordings state about site, recorder and start.

Names are those of AudioMoth (``20230420_074000``, with or without a prefix, ``5AD7F2A0`` of old firmware), Song Meter
(``SITE_20230420_074000``, ``SITE_0+1_20230420_074000``), Swift, Kaleidoscope (``SITE_20230420_074000_000``), Frontier
Labs (``20230420T074000+1000_REC``), and of the competitions.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from ..errors import ConfigError
from .competitions import BIRDCLEF_2026

_TIME = re.compile(
    r"(\d{4})-?(\d\d)-?(\d\d)[ T_-]?(\d\d)(?P<mark>[:-]?)(\d\d)(?:(?P=mark)(\d\d)(?:\.\d+)?)?"
    r"\s*(Z|UTC|[+-]\d\d:?(?:\d\d)?)?"
)
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d\d))?")
_NAME = re.compile(
    r"(?:(?P<site>.+)[_-])?(?<!\d)"
    r"(?P<start>\d{8}[_T-]?\d{6}(?:Z|[+-]\d{4})?|\d{4}-\d\d-\d\d[ T_]\d\d[-:]?\d\d[-:]?\d\d)"
    r"(?:[TS]|_(?:\d{1,3}|[A-Za-z]+))*"
)
# Of the competitions, names of 2026 have more than the site before the time.
_NAME_2026 = re.compile(BIRDCLEF_2026.name_pattern)
_SUFFIX = re.compile(r"\.[A-Za-z]\w{1,4}$")
_HEXADECIMAL = re.compile(r"[0-9A-F]{8}")
_AUDIOMOTH_ID = re.compile(r"[0-9A-F]{16}")
# The first and the last year of AudioMoth's hexadecimal names.
_HEXADECIMAL_YEARS = (2017, 2035)
_COMMENT = re.compile(
    r"Recorded at (?P<clock>\d\d:\d\d:\d\d) (?P<day>\d\d)/(?P<month>\d\d)/(?P<year>\d{4})"
    r"(?: \((?P<zone>UTC[^)]*)\))?(?:.*?AudioMoth (?P<recorder>[0-9A-F]{16}))?",
    flags=re.DOTALL,
)


class Statement(NamedTuple):
    """What one source states about a recording; a `problem` is the reason why it states no start."""

    source: str
    site: str = ""
    recorder: str = ""
    clock: datetime | None = None  # start of the recording, as written
    utc_offset: timedelta | None = None  # of the clock, if the source states it
    problem: str = ""


def parse_offset(text: str) -> timedelta | None:
    """Return a UTC offset such as ``+02:00``, ``-0330``, ``UTC+2``, ``Z`` or ``UTC``; None if it is not valid.

    >>> parse_offset("UTC-2:30")
    datetime.timedelta(days=-1, seconds=77400)
    """
    if text in ("Z", "UTC", "GMT"):
        return timedelta()
    match = _OFFSET.fullmatch(text)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return None if offset > timedelta(hours=14) or int(minutes or 0) > 59 else -offset if sign == "-" else offset


# Recorders of a survey share their schedule.
@functools.lru_cache(maxsize=1 << 16)
def parse_start(text: str) -> tuple[datetime, timedelta | None] | None:
    """Return a time such as ``2023-04-20T07:40:00+02:00`` without its offset, and the offset; None if it is not valid.

    >>> parse_start("20230420_074000")
    (datetime.datetime(2023, 4, 20, 7, 40), None)
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, _, minute, second, zone = match.groups()
    offset = parse_offset(zone) if zone else None
    if zone and offset is None:
        return None
    try:
        return datetime(int(year), int(month), int(day), int(hour), int(minute), int(second or 0)), offset
    except ValueError:
        return None


def read_pattern(text: str) -> re.Pattern[str]:
    """Compile a pattern of recordings' names: groups ``site``, ``recorder`` and ``start``; ConfigError if invalid."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ConfigError(f"the pattern of names {text!r} is not a regular expression: {error}.") from error
    if not set(pattern.groupindex) & {"site", "recorder", "start"}:
        raise ConfigError(
            f"the pattern of names {text!r} needs a group (?P<site>...), (?P<recorder>...) or (?P<start>...)."
        )
    return pattern


def parse_name(name: str, pattern: re.Pattern[str] | None = None) -> Statement:
    """Return what the name of a recording states, by a pattern of `read_pattern` or those of known recorders.

    >>> parse_name("SM4_0+1_20160612_053000.wav").site, parse_name("5AD7F2A0.WAV").clock
    ('SM4', datetime.datetime(2018, 4, 19, 1, 36, 32))
    """
    stem = name.rpartition("/")[2]
    stem = _SUFFIX.sub("", stem) if "." in stem else stem
    if pattern is not None:
        match = pattern.fullmatch(stem)
        if match is None:
            return Statement(source="name", problem=f"the name does not match {pattern.pattern!r}")
        groups = {key: value or "" for key, value in match.groupdict().items()}
        text = groups.get("start", "") or (known[0] if (known := _find_start(stem)) else "")
        return _state("name", text, groups.get("site", ""), groups.get("recorder", ""))
    if len(stem) == 8 and _HEXADECIMAL.fullmatch(stem):
        clock = datetime.fromtimestamp(int(stem, 16), timezone.utc).replace(tzinfo=None)
        if _HEXADECIMAL_YEARS[0] <= clock.year <= _HEXADECIMAL_YEARS[1]:
            return Statement(source="name", clock=clock, utc_offset=timedelta())
    start = _find_start(stem)
    if start is None:
        return Statement(source="name", problem="the name has no date and time")
    match = _NAME_2026.fullmatch(stem)
    return _state("name", start[0], *_read_prefix(start[1] if match is None else match["site"]))


# A survey has few sites.
@functools.lru_cache(maxsize=1 << 12)
def _read_prefix(text: str) -> tuple[str, str]:
    """Return site and recorder in the text before the time."""
    site = text.removesuffix("_0+1").removesuffix("_-")
    return ("", site) if _AUDIOMOTH_ID.fullmatch(site) else (site, "")


def _find_start(stem: str) -> tuple[str, str] | None:
    """Return date and time in a name, and the text before them."""
    match = _NAME.fullmatch(stem)
    return None if match is None else (match["start"], match["site"] or "")


def _state(source: str, text: str, site: str, recorder: str) -> Statement:
    start = parse_start(text)
    if start is None:
        problem = f"the {source} states {text!r}, which is not a date and time" if text else f"the {source} has no time"
        return Statement(source=source, site=site, recorder=recorder, problem=problem)
    return Statement(source, site, recorder, *start)


def parse_comment(text: str) -> Statement | None:
    """Return what a comment of AudioMoth states; None for another comment."""
    match = _COMMENT.search(text)
    if match is None:
        return None
    start = f"{match['year']}-{match['month']}-{match['day']} {match['clock']}"
    statement = _state("comment", start, "", match["recorder"] or "")
    offset = parse_offset(match["zone"]) if match["zone"] else None
    return statement._replace(utc_offset=offset)


def parse_guano(text: str) -> Statement | None:
    """Return what GUANO metadata state (lines of ``Key: value``); None if the text has no such lines."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, _, value in pairs}
    if "GUANO|Version" not in fields and "Timestamp" not in fields:
        return None
    site = fields.get("Site") or fields.get("WA|Song Meter|Prefix") or ""
    return _state("GUANO", fields.get("Timestamp", ""), site, fields.get("Serial", ""))


def read_statements(
    name: str, texts: Mapping[str, str], pattern: re.Pattern[str] | None = None
) -> tuple[Statement, ...]:
    """Return what GUANO metadata, the comment and the name of a recording state, in this order of precedence.

    `texts` are those of `bcsed.audio.metadata.read_metadata`.
    """
    named = parse_name(name, pattern)
    if not texts:
        return (named,)
    parsers = (("guano", parse_guano), ("comment", parse_comment))
    inside = [parse(texts[key]) for key, parse in parsers if key in texts]
    return (*(each for each in inside if each is not None), named)
