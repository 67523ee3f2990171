"""A page as values, and the one file of HTML that it becomes.

Whatever comes from files (names of classes, paths, notes) passes through the template's escaping; what does not is our
own style sheet and script, and figures, whose texts matplotlib has escaped. Should a name get through all the same,
the page's policy lets nothing be fetched.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._version import __version__
from ..errors import DataError
from .svg import Span, with_prefix

# Lines of a table; more could not be read, and would make the page slow.
MOST_LINES = 3000
_FEW_LINES = 200


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind = "text"


@dataclass(frozen=True)
class Facts:
    """Names and what they are."""

    facts: Sequence[tuple[str, str]]
    kind = "facts"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing.

    Parameters
    ----------
    svg : str
    alt : str
        What it shows, for those who do not see it.
    caption : str
    width : int
        Pixels, where there is room.
    span : Span, optional
        Where its line of time is, for a sound beside it.
    """

    svg: str
    alt: str
    caption: str
    width: int
    span: Span | None = None
    kind = "figure"

    def drawn(self, prefix: str) -> str:
        """Return the SVG with ids of its own."""
        return with_prefix(self.svg, prefix, self.alt)


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Something to play.

    Parameters
    ----------
    uri : str
        The file itself, as a data URI.
    caption : str
    start_s : float
        Where in its recording it begins.
    """

    uri: str
    caption: str
    start_s: float
    kind = "sound"


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is shown, and what it is sorted by."""

    text: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; cells are text or numbers, None or NaN where nothing is known.

    A column of which nothing is known is left out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    most: int = MOST_LINES
    kind = "table"

    @functools.cached_property
    def shown(self) -> list[list[Cell]]:
        """The lines that are shown."""
        return [[cells[k] for k in self._kept] for cells in self._cells]

    @property
    def headings(self) -> list[str]:
        """The columns that are shown."""
        return [self.columns[k] for k in self._kept]

    @property
    def numeric(self) -> list[bool]:
        """Which of these hold numbers."""
        return [any(row[k].value is not None for row in self.shown) for k in range(len(self._kept))]

    @functools.cached_property
    def _cells(self) -> list[list[Cell]]:
        return [[_cell(value) for value in row] for row in self.rows[: self.most]]

    @functools.cached_property
    def _kept(self) -> list[int]:
        return [k for k in range(len(self.columns)) if not k or any(cells[k].text for cells in self._cells)]

    @property
    def note(self) -> str:
        """What is said below the table."""
        return f"The first {self.most} of {len(self.rows)} lines." if len(self.rows) > self.most else ""


Item = Text | Facts | Figure | Sound | Table


@dataclass
class Section:
    """A part of the page, with parts of its own."""

    title: str
    items: list[Item] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    recording: bool = False


@dataclass
class Page:
    """All of it."""

    title: str
    told: str
    sections: list[Section]
    left_out: str = ""


def render(page: Page) -> bytes:
    """Return a page as one file of HTML."""
    html: str = _template().render(page=page, version=__version__, css=_resource("page.css"), js=_resource("page.js"))
    return html.encode()


def fit(page: Page, limit: int) -> bytes:
    """Return a page as HTML of at most `limit` bytes, leaving out what is heaviest, and saying so.

    Sounds go first, the last ones before the first; then the recordings' figures; then the ends of long tables.

    Raises
    ------
    DataError
        If not even the rest fits.
    """
    html = render(page)
    lost = {"sounds": 0, "spectrograms": 0, "tables' ends": 0}
    droppable = list(_droppable(page))
    while len(html) > limit:
        over = len(html) - limit
        if not droppable:
            raise DataError(
                f"the page would be {len(html) / 1e6:.1f} MB, {over / 1e6:.1f} more than it may be; name fewer paths."
            )
        # What is said of it takes some room too.
        over += 400 if not page.left_out else 0
        while over > 0 and droppable:
            section, place, what = droppable.pop(0)
            over -= _drop(section, place)
            lost[what] += 1
        named = " and ".join(f"{n} of the {what}" for what, n in lost.items() if n)
        page.left_out = (
            f"To keep the page under {limit / 1e6:g} MB, {named} had to be left out; fewer recordings (--show) leave "
            "more room for each."
        )
        html = render(page)
    return html


def _droppable(page: Page) -> Iterator[tuple[Section, int, str]]:
    every = list(_walk(page.sections))
    kinds = (("sounds", Sound), ("spectrograms", Figure), ("tables' ends", Table))
    for what, kind in kinds:
        for section in reversed(every):
            for place, item in reversed(list(enumerate(section.items))):
                long = isinstance(item, Table) and len(item.rows) > _FEW_LINES
                if isinstance(item, kind) and (long if kind is Table else section.recording):
                    yield section, place, what


def _drop(section: Section, place: int) -> int:
    """Leave an item out, and return about how many bytes that saves."""
    item = section.items[place]
    if isinstance(item, Table):
        section.items[place] = replace(item, most=_FEW_LINES)
        saved = item.shown[_FEW_LINES:]
        return sum(len(cell.text) + 10 for row in saved for cell in row)
    section.items[place] = Text("Its sound was left out." if isinstance(item, Sound) else "Its figure was left out.")
    return len(item.uri) if isinstance(item, Sound) else len(item.svg) if isinstance(item, Figure) else 0


def _walk(sections: Sequence[Section]) -> Iterator[Section]:
    for section in sections:
        yield section
        yield from _walk(section.sections)


def _cell(value: Any) -> Cell:
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell("")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Cell(str(value))
    return Cell(str(value) if isinstance(value, int) else f"{value:.3f}", float(value))


@functools.cache
def _template() -> Any:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(_resource("page.html"))


@functools.cache
def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
