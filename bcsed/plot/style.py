"""What all figures share: a canvas without pyplot, rules, legends, the colours of taxa."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

# A dotted line at a value that means something, such as chance.
RULE: Mapping[str, Any] = {"color": "grey", "linewidth": 0.8, "linestyle": ":"}
# Beyond these, bars have no names: they could not be read.
MOST_NAMED = 40
# Of BirdCLEF's taxa; others take what is left, in the order of their names.
TAXON_COLOURS: Mapping[str, str] = {
    "Aves": "C0",
    "Insecta": "C1",
    "Amphibia": "C2",
    "Mammalia": "C3",
    "Reptilia": "C4",
}
_OTHER = ("C5", "C6", "C8", "C9")
UNKNOWN_TAXON = "taxon not known"
_LONGEST = 36


def figure(width: float, height: float) -> Any:
    """Return a figure of inches, without pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def axes(ax: Any, width: float = 6.4, height: float = 3.6) -> Any:
    """Return the axes given, or those of a new figure."""
    return figure(width, height).subplots() if ax is None else ax


def legend(figure: Any, axes: Iterable[Any], place: str = "outside lower center") -> None:
    """Put one legend beside all axes, where it hides nothing."""
    found = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    if found:
        columns = 1 if "right" in place else len(found)
        figure.legend(found.values(), found.keys(), loc=place, ncols=columns)


def colours(taxa: Iterable[str]) -> dict[str, str]:
    """Return the colour of each taxon that there is, in the order of the legend.

    Examples
    --------
    >>> colours(["Aves", "", "Arachnida", "Aves"])
    {'Aves': 'C0', 'Arachnida': 'C5', '': 'C7'}
    """
    there = set(taxa)
    known = {name: colour for name, colour in TAXON_COLOURS.items() if name in there}
    others = sorted(there - set(TAXON_COLOURS) - {""})
    known |= {name: _OTHER[place % len(_OTHER)] for place, name in enumerate(others)}
    return known | ({"": "C7"} if "" in there else {})


def whole_numbers(axis: Any) -> None:
    """Let an axis have ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def plain_numbers(axis: Any) -> None:
    """Let a logarithmic axis say 1, 10, 100, and not powers."""
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def counted(n: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{n} {one if n == 1 else many}"


def called(name: str) -> str:
    r"""Return a name as a figure shows it: as it is, for matplotlib takes what stands between dollars for formulas.

    Examples
    --------
    >>> called("cost$1$"), called("x" * 50)
    ('cost\\$1\\$', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…')
    """
    short = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return " ".join(short.split()).replace("$", r"\$")
