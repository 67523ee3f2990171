"""The page as values, and its HTML file; matplotlib axes as SVG whose colours follow the page's scheme.

The template escapes all text that comes from files (class names, paths, notes). The style sheet, the script and the
figures are not escaped; matplotlib escapes the texts of figures. As a second barrier, the page's content security
policy forbids loading anything.
"""

from __future__ import annotations

import base64
import functools
import html
import importlib.resources
import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._version import __version__
from ..errors import DataError

# More rows would make the page slow.
MAX_ROWS = 3000
# A table is cut to this if the page is too large.
_FEW_ROWS = 200
_CYCLE = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd"),
    *("#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf"),
)
# page.css defines these variables for light and dark.
_COLOURS = {
    "#000000": "currentColor",
    "#ffffff": "var(--paper)",
    "#808080": "var(--grid)",
    "#cccccc": "var(--line)",
    **{colour: f"var(--c{k})" for k, colour in enumerate(_CYCLE)},
}
_COLOUR = re.compile("|".join(_COLOURS))
_STYLE = re.compile(r'style="[^"]*"')
_RASTER = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
_PX_PER_INCH, _DPI, _WEBP_QUALITY = 96, 110, 82


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing with its text alternative."""

    svg: str
    alt: str
    caption: str
    width: int  # natural width in pixels
    time: dict[str, float] = field(default_factory=dict)  # see `time_axis`, for the playback position of a sound
    kind = "figure"


def make_figure(ax: Any, *, alt: str, caption: str, with_time: bool = False) -> Figure:
    """Return the figure of some axes as an item of the page."""
    text, width = svg(ax)
    return Figure(svg=text, alt=alt, caption=caption, width=width, time=time_axis(ax) if with_time else {})


@dataclass(frozen=True, kw_only=True)
class Sound:
    """An audio player."""

    uri: str  # a data URI
    caption: str
    start_s: float  # in its recording
    kind = "sound"


Cell = tuple[str, float | None]  # its text, and the number by which it is sorted


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text and numbers; None and NaN become empty cells, and a column without any value is left out."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    max_rows: int = MAX_ROWS
    kind = "table"

    @functools.cached_property
    def _columns(self) -> list[tuple[str, list[Cell]]]:
        rows = self.rows[: self.max_rows]
        columns = [(name, [_cell(row[k]) for row in rows]) for k, name in enumerate(self.columns)]
        return columns[:1] + [column for column in columns[1:] if any(text for text, _ in column[1])]

    @property
    def headings(self) -> list[tuple[str, bool]]:
        """Name of each column with values, and whether it contains numbers."""
        return [(name, any(value is not None for _, value in cells)) for name, cells in self._columns]

    @property
    def body(self) -> list[tuple[Cell, ...]]:
        """Rows of cells."""
        return list(zip(*(cells for _, cells in self._columns), strict=True))


# A text is a paragraph; a dict lists names and values, and a name without a value is left out.
Item = str | dict[str, str] | Figure | Sound | Table


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
    return str(load_template("page.html", "page.js").render(page=page, title=page.title)).encode()


def fit(page: Page, limit: int) -> bytes:
    """Return a page as HTML of at most `limit` bytes; if it is larger, leave items out and write so in it.

    Sounds are left out first, from the end of the page; then figures of recordings; then the ends of long tables.
    """
    data = render(page)
    counts: Counter[str] = Counter()
    droppable = _droppable(page)
    while len(data) > limit:
        excess = len(data) - limit
        if not droppable:
            size = f"{len(data) / 1e6:.1f} MB, {excess / 1e6:.1f} more than it may be"
            raise DataError(f"the page would be {size}; name fewer paths.")
        # The sentence about it takes some bytes too.
        excess += 400 if not page.left_out else 0
        while excess > 0 and droppable:
            kind, items, index, replacement, n_bytes = droppable.pop(0)
            items[index] = replacement
            excess -= n_bytes
            counts[kind] += 1
        dropped = " and ".join(f"{n} of the {kind}" for kind, n in counts.items())
        advice = "fewer recordings (--examples) leave more space for each."
        page.left_out = f"To keep the page under {limit / 1e6:g} MB, {dropped} were left out; {advice}"
        data = render(page)
    return data


def _droppable(page: Page) -> list[tuple[str, list[Item], int, Item, int]]:
    """Return kind, position, replacement and saved bytes of all that can be left out, in that order."""
    sounds, figures, tables = [], [], []
    for section in reversed(list(_walk(page.sections))):
        for index, item in reversed(list(enumerate(section.items))):
            if isinstance(item, Sound):
                sounds.append(("sounds", section.items, index, "The sound was left out.", len(item.uri)))
            elif isinstance(item, Figure) and section.recording:
                figures.append(("spectrograms", section.items, index, "The figure was left out.", len(item.svg)))
            elif isinstance(item, Table) and len(item.rows) > _FEW_ROWS:
                n_bytes = sum(len(text) + 10 for row in item.body[_FEW_ROWS:] for text, _ in row)
                tables.append(("ends of tables", section.items, index, replace(item, max_rows=_FEW_ROWS), n_bytes))
    return [*sounds, *figures, *tables]


def _walk(sections: Sequence[Section]) -> Iterator[Section]:
    for section in sections:
        yield section
        yield from _walk(section.sections)


def _cell(value: Any) -> Cell:
    value = value.item() if hasattr(value, "item") else value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "", None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value), None
    return str(value) if isinstance(value, int) else f"{value:.3f}", float(value)


@functools.cache
def load_template(body: str, *scripts: str) -> Any:
    """Return the jinja2 template of a page, which needs a ``title``: the common head and style, a body, and scripts."""
    import jinja2

    files = importlib.resources.files(__package__)
    names = ("head.html", body, "page.css", *scripts)
    head, text, css, *js = (files.joinpath(name).read_text(encoding="utf-8") for name in names)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    values = {"with_prefix": with_prefix, "version": __version__, "css": css, "js": "".join(js)}
    return environment.from_string(head.rstrip("\n") + text, globals=values)


def svg(ax: Any) -> tuple[str, int]:
    """Return the figure of axes as SVG, images as WebP (a fifth of their size), and its natural width in pixels."""
    import matplotlib

    figure, buffer = ax.figure, io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "bcsed", "svg.image_inline": True}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has fonts for scripts that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", dpi=_DPI, transparent=True, metadata={"Date": None, "Creator": None})
    text = "<svg" + buffer.getvalue().partition("<svg")[2]
    # The style element of one figure would apply to the whole page; page.css contains its rules.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*" ([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'<image ([^>]*?)id="[^"]*"', r"<image \1", text)
    text = _STYLE.sub(lambda style: _COLOUR.sub(lambda colour: _COLOURS[colour[0]], style[0]), text)
    text = _RASTER.sub(lambda png: _webp(base64.b64decode(png[1])), text)
    return text, round(figure.get_figwidth() * _PX_PER_INCH)


def time_axis(ax: Any) -> dict[str, float]:
    """Return the ends of drawn axes, as shares of the figure's width (left, right) and in seconds (start, end)."""
    shares, (start_s, end_s) = ax.get_position(), ax.get_xlim()
    ends = {"left": round(shares.x0, 5), "right": round(shares.x1, 5)}
    return {**ends, "start": round(float(start_s), 3), "end": round(float(end_s), 3)}


def with_prefix(text: str, prefix: str, alt: str) -> str:
    """Return an SVG with a text alternative and with prefixed ids, so that many figures can share a page."""
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)


def _webp(png: bytes) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.save(buffer, "WEBP", quality=_WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
