"""Tables of a survey that need reviewed rows: thresholds of sites, species with their evidence, call density."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..calibration import find_threshold
from .density import Bins, call_density, cell_score, make_bins, score_cells
from .reviews import precision_above

if TYPE_CHECKING:
    from .history import SurveySettings

# Further reviewed rows of a bin whose gain is computed.
_MORE = 10
ALL_SITES = ""


def site_thresholds(
    answered: pd.DataFrame | None, sites: Sequence[str], classes: Sequence[str], settings: SurveySettings
) -> pd.DataFrame:
    """Return a line per site and class: ``site, class, threshold, source, n_reviewed, reason``.

    A site's own threshold is the lowest that reaches the precision on its reviewed rows; `reason` is why it has none.
    """
    parts = {} if answered is None else dict(iter(answered.groupby(["site", "column"])))
    lines = []
    for s, site in enumerate(sites):
        for k, name in enumerate(classes):
            part = parts.get((s, k))
            n, value, reason = 0 if part is None else len(part), float("nan"), ""
            if part is not None and n >= settings.min_reviewed:
                score, positive, weight = (part[column].to_numpy() for column in ("score", "positive", "weight"))
                best = find_threshold(positive, score, precision=settings.precision, weight=weight)
                value, reason = best["threshold"], best["reason"]
            elif n:
                reason = f"{n} reviewed rows, {settings.min_reviewed} needed"
            general = settings.thresholds.get(name, settings.threshold)
            own = bool(np.isfinite(value))
            source = "site" if own else "class" if name in settings.thresholds else "all"
            lines.append((site, name, value if own else general, source, n, reason))
    columns = ["site", "class", "threshold", "source", "n_reviewed", "reason"]
    thresholds: pd.DataFrame = pd.DataFrame(lines, columns=columns)
    return thresholds


def species_table(
    totals: Any, answered: pd.DataFrame | None, thresholds: pd.DataFrame, sites: Sequence[str], settings: SurveySettings
) -> pd.DataFrame:
    """Return the species of each site with their evidence, the most detections first.

    ``expected_true`` are the detections that contain a call, with an interval: their number times the precision of the
    reviewed rows at or above the threshold, of the site if there are enough, else of all sites.
    """
    rows = totals.rows
    n_detections, n_days = totals.counts.sum(1), (totals.counts > 0).sum(1)
    least = thresholds["threshold"].to_numpy().reshape(n_detections.shape)
    by_class = {} if answered is None else dict(iter(answered.groupby("column")))
    lines = []
    for s, k in np.ndindex(n_detections.shape):
        of_class = by_class.get(k)
        mine = None if of_class is None else of_class[of_class["site"] == s]
        n_yes = 0 if mine is None else int(mine["positive"].sum())
        if not n_detections[s, k] and not n_yes:
            continue
        row = int(totals.best_row[s, k])
        recording, start_s = int(rows.recording[row]), int(rows.start_s[row])
        line = {"site": sites[s], "class": rows.classes[k], "n_detections": int(n_detections[s, k])}
        line |= {"n_days": int(n_days[s, k]), "threshold": least[s, k], "best_score": float(totals.best[s, k])}
        line |= {"best_recording": rows.recordings[recording], "best_start_s": start_s}
        line |= {"best_time": str(totals.time(recording, start_s)).replace("T", " ")}
        reviewed = 0 if mine is None else len(mine)
        best = mine is not None and bool(((mine["recording"] == recording) & (mine["start_s"] == start_s)).any())
        line |= {"n_reviewed": reviewed, "n_yes": n_yes, "best_reviewed": "yes" if best else "no"}
        if of_class is not None and mine is not None:
            precision = precision_above(mine if reviewed >= settings.min_reviewed else of_class, least[s, k])
            values = [np.nan] * 3 if precision is None else [n_detections[s, k] * each for each in precision]
            line |= dict(zip(("expected_true", "expected_low", "expected_high"), values, strict=True))
        lines.append(line)
    names = ["site", "class", "n_detections", "n_days", "threshold", "best_score", "best_recording", "best_start_s"]
    names += ["best_time", "n_reviewed", "n_yes", "best_reviewed", "expected_true", "expected_low", "expected_high"]
    table = pd.DataFrame(lines, columns=names)
    ordered: pd.DataFrame = table.sort_values(["site", "n_detections"], ascending=[True, False], ignore_index=True)
    return ordered


def density_tables(
    totals: Any, answered: pd.DataFrame, sites: Sequence[str], settings: SurveySettings
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the call density of each reviewed class over all sites and at each site, and the bins of scores.

    A site with few reviewed rows has the share of calls in each bin from all sites (``basis``). The bins are ordered by
    the reduction of the variance of the density by some more reviewed rows.
    """
    rng = np.random.default_rng(settings.seed)
    lines, bins_lines = [], []
    for position, k in enumerate(totals.columns):
        name, part = totals.rows.classes[k], answered[answered["column"] == k]
        pooled = _bins(totals.cells[position].sum(0), part)
        for s, site in [(-1, ALL_SITES), *enumerate(sites)]:
            counts = totals.cells[position].sum(0) if s < 0 else totals.cells[position, s]
            mine = part if s < 0 else part[part["site"] == s]
            bins, basis = pooled, "all sites"
            if s >= 0 and len(mine) >= settings.min_reviewed and not isinstance(own := _bins(counts, mine), str):
                bins, basis = own, "site"
            line = {"class": name, "site": site, "n_rows": int(counts.sum()), "n_reviewed": len(mine)}
            if isinstance(bins, str):
                lines.append({**line, "reason": bins})
                continue
            n_rows = np.add.reduceat(counts, bins.first_cell)
            values = call_density(bins, [n_rows / max(n_rows.sum(), 1)], rng)[0]
            line |= dict(zip(("density", "low", "high"), values, strict=True))
            lines.append({**line, "expected_rows": values[0] * line["n_rows"], "basis": basis})
        if isinstance(pooled, Bins):
            bins_lines += _bin_lines(name, pooled)
    names = ["class", "site", "n_rows", "n_reviewed", "density", "low", "high", "expected_rows", "basis", "reason"]
    order = ["class", "low", "high", "share", "n_reviewed", "positive", "variance_share", "gain"]
    bins_table = pd.DataFrame(bins_lines, columns=order).sort_values("gain", ascending=False, ignore_index=True)
    return pd.DataFrame(lines, columns=names), bins_table


def _bins(counts: Any, part: pd.DataFrame) -> Bins | str:
    scores, positive, weight = (part[name].to_numpy() for name in ("score", "positive", "weight"))
    return make_bins(counts, score_cells(scores), positive, weight)


def _bin_lines(name: str, bins: Bins) -> list[dict[str, Any]]:
    variance, (a, b) = bins.variance(), bins.posterior()
    # With n more rows the variance of a Beta distribution decreases by about n / (n + a + b).
    gain = variance * _MORE / (_MORE + a + b)
    edges = [*(cell_score(int(cell)) for cell in bins.first_cell), 1.0]
    total = variance.sum()
    return [
        {
            "class": name,
            "low": edges[k],
            "high": edges[k + 1],
            "share": bins.share[k],
            "n_reviewed": int(bins.n_reviewed[k]),
            "positive": bins.positive[k],
            "variance_share": variance[k] / total,
            "gain": gain[k],
        }
        for k in range(len(variance))
    ]
