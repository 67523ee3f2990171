"""matplotlib axes -> SVG in a page, whose colours follow the page's light or dark scheme."""

from __future__ import annotations

import base64
import html
import io
import re
import warnings
from dataclasses import dataclass
from typing import Any

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
_PX_PER_INCH = 96
_DPI = 110
_WEBP_QUALITY = 82


@dataclass(frozen=True)
class TimeAxis:
    """The time axis of a figure: its ends as shares of the figure's width, and in seconds of the recording."""

    left: float
    right: float
    start_s: float
    end_s: float


def svg(ax: Any) -> tuple[str, int]:
    """Return the figure of some axes as SVG, and its natural width in pixels.

    Images in it are recoded as WebP, at a fifth of their size.
    """
    import matplotlib

    figure, buffer = ax.figure, io.StringIO()
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "bcsed", "svg.image_inline": True}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # The browser has fonts for scripts that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="svg", dpi=_DPI, transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # The style element of one figure would apply to the whole page; page.css contains its rules.
    text = re.sub(r"<(metadata|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*" height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*" ([^>]*?)width="[^"]*"', r"<svg \1\2", text, count=1)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r'<image ([^>]*?)id="[^"]*"', r"<image \1", text)
    text = _STYLE.sub(lambda style: _COLOUR.sub(lambda colour: _COLOURS[colour[0]], style[0]), text)
    text = _RASTER.sub(lambda png: _webp(base64.b64decode(png[1])), text)
    return text, round(figure.get_figwidth() * _PX_PER_INCH)


def time_axis(ax: Any) -> TimeAxis:
    """Return the time axis of axes that `svg` has drawn."""
    position = ax.get_position()
    start_s, end_s = ax.get_xlim()
    return TimeAxis(round(position.x0, 5), round(position.x1, 5), round(float(start_s), 3), round(float(end_s), 3))


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
