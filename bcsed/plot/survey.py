"""Activity of classes by hour and by day."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from . import style

# The most active classes that are drawn.
MAX_CLASSES = 40


def activity(table: pd.DataFrame, by: str, ax: Any = None) -> Any:
    """Draw detections per hour of effort of each class by hour or by day, over all sites.

    `table` has the columns ``class, detections, hours`` and `by` (``hour`` or ``day``), a line per site, time and
    class, as in ``hourly.csv`` and ``daily.csv`` of `bcsed survey`. Times without effort are grey; the most active
    `MAX_CLASSES` are drawn, in descending order.
    """
    times: list[Any] = list(range(24))
    if by == "day":
        days = pd.to_datetime(table["day"])
        times = [f"{day:%Y-%m-%d}" for day in pd.date_range(days.min(), days.max())] if len(table) else []
    sums = table.groupby(["class", by])[["detections", "hours"]].sum()
    rates = (sums["detections"] / sums["hours"]).unstack(by).reindex(columns=times)
    order = table.groupby("class")["detections"].sum().sort_values(ascending=False, kind="stable").index[:MAX_CLASSES]
    rates = rates.reindex(order)
    ax = style.axes(ax, 7.6, 1.8 + 0.22 * max(len(rates), 4))
    n = f"{len(rates)} of {table['class'].nunique()} classes" if len(rates) < table["class"].nunique() else ""
    ax.set_title(f"Detections per hour of effort, by {by}" + (f"\n{n}" if n else ""))
    ax.set(xlabel="hour of the day (local time)" if by == "hour" else "day", ylabel="class")
    if rates.empty:
        ax.text(0.5, 0.5, "no detections", ha="center", va="center", transform=ax.transAxes)
        return ax
    values = np.ma.masked_invalid(rates.to_numpy(np.float64))
    ax.set_facecolor("lightgrey")
    edges = np.arange(len(times) + 1) - 0.5
    image = ax.pcolormesh(edges, np.arange(len(rates) + 1) - 0.5, values, vmin=0, rasterized=True)
    ax.set_yticks(range(len(rates)), [style.display_text(str(name)) for name in rates.index], fontsize=8)
    ax.invert_yaxis()
    ticks = range(0, len(times), max(1, -(-len(times) // (12 if by == "hour" else 6))))
    ax.set_xticks(list(ticks), [str(times[k]) for k in ticks], fontsize=8)
    ax.figure.colorbar(image, ax=ax, label="detections per hour")
    return ax
