"""The page as values, and its HTML file.

The template escapes all text that comes from files (class names, paths, notes). The style sheet, the script and the
figures are not escaped; matplotlib escapes the texts of figures. As a second barrier, the page's content security
policy forbids loading anything.
"""

from __future__ import annotations

import functools
import importlib.resources
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .._version import __version__
from ..errors import DataError
from .svg import TimeAxis, svg, time_axis, with_prefix

# More rows would make the page slow.
MAX_ROWS = 3000
# A table is cut to this if the page is too large.
_FEW_ROWS = 200


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind = "text"


@dataclass(frozen=True)
class Facts:
    """Names and values; a name without a value is left out."""

    facts: Sequence[tuple[str, str]]
    kind = "facts"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its text alternative."""

    svg: str
    alt: str
    caption: str
    width: int  # natural width in pixels
    time: TimeAxis | None = None  # for the playback position of a sound
    kind = "figure"


def make_figure(ax: Any, *, alt: str, caption: str, with_time: bool = False) -> Figure:
    """Return the figure of some axes as an item of the page."""
    text, width = svg(ax)
    return Figure(svg=text, alt=alt, caption=caption, width=width, time=time_axis(ax) if with_time else None)


@dataclass(frozen=True, kw_only=True)
class Sound:
    """An audio player."""

    uri: str  # a data URI
    caption: str
    start_s: float  # in its recording
    kind = "sound"


class Cell(NamedTuple):
    """A cell of a table: its text, and the number by which it is sorted."""

    text: str
    value: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text and numbers.

    None and NaN become empty cells; a column without any value is left out.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    max_rows: int = MAX_ROWS
    kind = "table"

    @functools.cached_property
    def _columns(self) -> list[tuple[str, list[Cell]]]:
        rows = self.rows[: self.max_rows]
        columns = [(name, [_cell(row[k]) for row in rows]) for k, name in enumerate(self.columns)]
        return columns[:1] + [column for column in columns[1:] if any(cell.text for cell in column[1])]

    @property
    def headings(self) -> list[tuple[str, bool]]:
        """Name of each column with values, and whether it contains numbers."""
        return [(name, any(cell.value is not None for cell in cells)) for name, cells in self._columns]

    @property
    def body(self) -> list[tuple[Cell, ...]]:
        """Rows of cells."""
        return list(zip(*(cells for _, cells in self._columns), strict=True))


Item = Text | Facts | Figure | Sound | Table


@dataclass
class Section:
    """A part of the page: its items, then its subsections."""

    title: str
    items: list[Item] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    recording: bool = False


@dataclass
class Page:
    """The whole page."""

    title: str
    summary: str
    sections: list[Section]
    left_out: str = ""


def render(page: Page) -> bytes:
    """Return a page as one HTML file."""
    html: str = _template().render(page=page, version=__version__, css=_resource("page.css"), js=_resource("page.js"))
    return html.encode()


def fit(page: Page, limit: int) -> bytes:
    """Return a page as HTML of at most `limit` bytes; if it is larger, leave items out and write so in it.

    Sounds are left out first, from the end of the page; then figures of recordings; then the ends of long tables.
    """
    html = render(page)
    counts: Counter[str] = Counter()
    droppable = _droppable(page)
    while len(html) > limit:
        excess = len(html) - limit
        if not droppable:
            raise DataError(
                f"the page would be {len(html) / 1e6:.1f} MB, {excess / 1e6:.1f} more than it may be; name fewer paths."
            )
        # The sentence about it takes some bytes too.
        excess += 400 if not page.left_out else 0
        while excess > 0 and droppable:
            kind, items, index, replacement, n_bytes = droppable.pop(0)
            items[index] = replacement
            excess -= n_bytes
            counts[kind] += 1
        dropped = " and ".join(f"{n} of the {kind}" for kind, n in counts.items())
        page.left_out = (
            f"To keep the page under {limit / 1e6:g} MB, {dropped} were left out; fewer recordings (--examples) leave "
            "more space for each."
        )
        html = render(page)
    return html


def _droppable(page: Page) -> list[tuple[str, list[Item], int, Item, int]]:
    """Return kind, position, replacement and saved bytes of all that can be left out, in that order."""
    sounds, figures, tables = [], [], []
    for section in reversed(list(_walk(page.sections))):
        for index, item in reversed(list(enumerate(section.items))):
            if isinstance(item, Sound):
                sounds.append(("sounds", section.items, index, Text("The sound was left out."), len(item.uri)))
            elif isinstance(item, Figure) and section.recording:
                figures.append(("spectrograms", section.items, index, Text("The figure was left out."), len(item.svg)))
            elif isinstance(item, Table) and len(item.rows) > _FEW_ROWS:
                n_bytes = sum(len(cell.text) + 10 for row in item.body[_FEW_ROWS:] for cell in row)
                tables.append(("ends of tables", section.items, index, replace(item, max_rows=_FEW_ROWS), n_bytes))
    return [*sounds, *figures, *tables]


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
    return environment.from_string(_resource("page.html"), globals={"with_prefix": with_prefix})


@functools.cache
def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
