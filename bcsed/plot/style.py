"""Shared parts of all figures: canvas without pyplot, reference lines, legends, colours of taxa."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

# A dotted line at a reference value, such as chance.
RULE: Mapping[str, Any] = {"color": "grey", "linewidth": 0.8, "linestyle": ":"}
# More bars than this have no names, because the names would not be readable.
MAX_NAMED = 40
# BirdCLEF's taxa; others take the remaining colours in alphabetical order.
TAXON_COLOURS: Mapping[str, str] = {"Aves": "C0", "Insecta": "C1", "Amphibia": "C2", "Mammalia": "C3", "Reptilia": "C4"}
_OTHER = ("C5", "C6", "C8", "C9")
UNKNOWN_TAXON = "taxon not known"
_MAX_CHARS = 36


def figure(width: float, height: float) -> Any:
    """Return a figure of a size in inches, without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    result = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(result)
    return result


def save(figure: Any, path: str | Path, title: str) -> None:
    """Write a figure with its title as PNG."""
    figure.suptitle(title)
    figure.savefig(path, format="png", dpi=120)


def axes(ax: Any, width: float = 6.4, height: float = 3.6) -> Any:
    """Return `ax`, or the axes of a new figure."""
    return figure(width, height).subplots() if ax is None else ax


def legend(figure: Any, axes: Iterable[Any], loc: str = "outside lower center") -> None:
    """Add one legend for all axes outside of them."""
    handles = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc=loc, ncols=1 if "right" in loc else len(handles))


def axes_legend(ax: Any) -> None:
    """Add a legend to the right of the axes, if they have labels."""
    if ax.get_legend_handles_labels()[1]:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False)


def colours(taxa: Iterable[str]) -> dict[str, str]:
    """Return the colour of each taxon that occurs, in the order of the legend.

    >>> colours(["Aves", "", "Arachnida", "Aves"])
    {'Aves': 'C0', 'Arachnida': 'C5', '': 'C7'}
    """
    names = set(taxa)
    known = {name: colour for name, colour in TAXON_COLOURS.items() if name in names}
    others = sorted(names - set(TAXON_COLOURS) - {""})
    known |= {name: _OTHER[index % len(_OTHER)] for index, name in enumerate(others)}
    return known | ({"": "C7"} if "" in names else {})


def integer_ticks(axis: Any) -> None:
    """Allow ticks only at integers."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def plain_numbers(axis: Any) -> None:
    """Label a logarithmic axis with 1, 10, 100 instead of powers."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def count_text(n: int, singular: str, plural: str) -> str:
    """Return a number with its noun."""
    return f"{n} {singular if n == 1 else plural}"


def count_title(counts: npt.NDArray[Any], singular: str, plural: str, item: str = "row") -> str:
    """Return the number of counts with its noun, and how many are 0."""
    n_empty = int((counts == 0).sum())
    return count_text(len(counts), singular, plural) + (f", {n_empty} without a {item}" if n_empty else "")


def display_text(name: str) -> str:
    r"""Shorten a name, and escape $, which matplotlib would read as the start of a formula.

    >>> display_text("cost$1$"), display_text("x" * 50)
    ('cost\\$1\\$', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…')
    """
    short = name if len(name) <= _MAX_CHARS else f"{name[: _MAX_CHARS - 1]}…"
    return " ".join(short.split()).replace("$", r"\$")
