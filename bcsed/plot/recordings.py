"""Plots of recordings: spectrogram, detections and attention of one, histograms of many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config.contract import Frontend
from .style import axes, count_text, count_title, display_text, integer_ticks

Array = npt.NDArray[np.float32]

_HISTOGRAM: Mapping[str, Any] = {"color": "C0", "edgecolor": "white", "linewidth": 0.5}
_TICKS_HZ = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
# Minimum distance of ticks, as a share of the height of the axes.
_MIN_TICK_DISTANCE = 0.08


def spectrogram(
    db: Array,
    frontend: Frontend,
    ax: Any = None,
    *,
    first_frame: int = 0,
    top_db: float | None = None,
    colorbar: bool = True,
    title: str = "Mel spectrogram",
) -> Any:
    """Draw a log-mel spectrogram as `librosa.display.specshow` does: seconds, Hz on the mel scale, dB.

    `db` (F, T) is in dB, as from `bcsed.audio.spectrogram.LogMel` with this front end; `first_frame` is the index in
    the recording of its first frame. The colours reach from the maximum to `top_db` below it, by default
    `frontend.top_db`, as in the input of the network.
    """
    import librosa

    ax = axes(ax, 9.0, 3.4)
    range_db = frontend.top_db if top_db is None else top_db
    high = float(db.max())
    hop_s = frontend.hop_length / frontend.sample_rate
    # A frame stands for the hop around its centre; bands have equal distances in mel.
    begin = (first_frame - 0.5) * hop_s
    low_mel, high_mel = librosa.hz_to_mel([frontend.fmin_hz, frontend.fmax_hz])
    half = (high_mel - low_mel) / (frontend.n_mels + 1) / 2
    extent = begin, begin + db.shape[1] * hop_s, low_mel + half, high_mel - half
    style = {"origin": "lower", "aspect": "auto", "cmap": "magma", "vmin": high - range_db, "vmax": high}
    image = ax.imshow(db, extent=extent, **style)
    ticks = _frequency_ticks(low_mel, high_mel)
    ax.set_yticks(list(ticks.values()), [str(hz) for hz in ticks])
    ax.set(xlabel="Time (s)", ylabel="Hz", title=title)
    if colorbar:
        ax.figure.colorbar(image, ax=ax, format="%+2.0f dB")
    return ax


def detections(
    table: pd.DataFrame,
    ax: Any = None,
    *,
    truth: pd.DataFrame | None = None,
    classes: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    span_s: tuple[float, float] | None = None,
    title: str = "Detections",
) -> Any:
    """Draw the detections of a recording with one lane per class, without a legend.

    `table` has ``start_s``, ``end_s``, ``label`` and ``score``, as from `bcsed.scores.detections.detect`; the opacity
    of a bar increases with its score. True calls (`truth`, without scores) are outlines. `classes` are the lanes from
    top to bottom, by default all classes of both tables in the order of their first start; `names` are their display
    names. `span_s` limits the time axis.
    """
    tables = [table] if truth is None else [table, truth]
    order = pd.concat([part[["start_s", "label"]] for part in tables]).sort_values("start_s", kind="stable")["label"]
    lanes = list(dict.fromkeys(map(str, order))) if classes is None else [str(name) for name in classes]
    ax = axes(ax, 9.0, 1.4 + 0.25 * len(lanes))
    lane_of = {name: lane for lane, name in enumerate(lanes)}
    for line in table.to_dict("records"):
        opacity = 0.15 + 0.85 * float(np.clip(line["score"], 0, 1))
        _bar(ax, lane_of, line, {"height": 0.62, "color": "C0", "alpha": opacity})
    outline = {"facecolor": "none", "edgecolor": "C1", "linewidth": 1.4}
    for line in truth.to_dict("records") if truth is not None else ():
        _bar(ax, lane_of, line, {"height": 0.86, **outline})
    # Entries of the legend, also if there are no bars.
    ax.fill_between([], [], color="C0", label="found, the stronger the higher its score (0 to 1)")
    if truth is not None:
        ax.fill_between([], [], label="true", **outline)
    _label_lanes(ax, lanes, names)
    if span_s is not None:
        ax.set_xlim(*span_s)
    if not lanes:
        ax.text(0.5, 0.5, "nothing found", transform=ax.transAxes, ha="center", va="center")
    ax.set(xlabel="Time (s)", ylabel="class", title=title)
    return ax


def attention(
    logits: Array,
    attention: Array,
    classes: Sequence[str],
    step_s: float,
    ax: Any = None,
    *,
    start_s: float = 0.0,
    names: Mapping[str, str] | None = None,
    title: str = "Probability and attention of the network (0 to 1 in each lane)",
) -> Any:
    """Draw the outputs of a network over time with one lane per class, without a legend.

    The probability is filled, ``(attention + 1) / 2`` is a line; both are 0 at the bottom of a lane and 1 at its top.
    `logits` and `attention` have the shape (t, K); time steps with higher attention, in (-1, 1), have more weight in
    the pooled probability. A time step lasts `step_s`, and the first starts at `start_s`. `classes` are the lanes from
    top to bottom, `names` their display names.
    """
    ax = axes(ax, 9.0, 1.4 + 0.4 * len(classes))
    edges = start_s + step_s * np.arange(len(logits) + 1)
    probability = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    weight = (np.asarray(attention, np.float64) + 1.0) / 2.0
    fill = {"fill": True, "color": "C0", "alpha": 0.7, "linewidth": 0}
    for lane in range(len(classes)):
        bottom = lane + 0.4
        labels = ("probability", "attention score") if not lane else (None, None)
        ax.stairs(bottom - 0.8 * probability[:, lane], edges, baseline=bottom, label=labels[0], **fill)
        ax.stairs(bottom - 0.8 * weight[:, lane], edges, baseline=None, label=labels[1], color="C1", linewidth=1.0)
        ax.axhspan(bottom - 0.8, bottom, color="grey", alpha=0.12, linewidth=0)
    _label_lanes(ax, classes, names)
    ax.set_xlim(edges[0], edges[-1])
    ax.set(xlabel="Time (s)", ylabel="class", title=title)
    return ax


def durations(seconds: npt.ArrayLike, ax: Any = None) -> Any:
    """Draw a histogram of the durations of recordings."""
    ax = axes(ax)
    values = np.asarray(seconds, np.float64)
    ax.hist(values, bins=30, **_HISTOGRAM)
    summary = f", median {np.median(values):.1f} s, {values.sum() / 3600:.1f} h in all" if len(values) else ""
    ax.set(xlabel="duration (s)", ylabel="recordings")
    ax.set_title(f"Durations\n{count_text(len(values), 'recording', 'recordings')}{summary}")
    ax.set_xlim(left=0)
    integer_ticks(ax.yaxis)
    return ax


def rows_per_recording(per_file: npt.ArrayLike, ax: Any = None) -> Any:
    """Draw a histogram of the number of selected pseudolabelled rows per recording."""
    ax = axes(ax, 4.4)
    counts = np.asarray(per_file, np.int64)
    most = int(counts.max(initial=0))
    step = max(1, -(-(most + 1) // 30))
    ax.hist(counts, bins=np.arange(0, most + step + 1, step) - 0.5, **_HISTOGRAM)
    ax.set(xlabel="selected rows of a recording", ylabel="recordings", xlim=(-0.6, most + step - 0.4))
    ax.set_ylim(bottom=0, top=None if len(counts) else 1)
    ax.set_title(f"Rows per recording\n{count_title(counts, 'recording', 'recordings')}")
    integer_ticks(ax.xaxis)
    integer_ticks(ax.yaxis)
    return ax


def _bar(ax: Any, lane_of: Mapping[str, int], line: Mapping[Any, Any], style: Mapping[str, Any]) -> None:
    if line["label"] in lane_of:
        ax.barh(lane_of[line["label"]], line["end_s"] - line["start_s"], left=line["start_s"], **style)


def _label_lanes(ax: Any, lanes: Sequence[str], names: Mapping[str, str] | None) -> None:
    ax.set_yticks(range(len(lanes)), [display_text((names or {}).get(name, name)) for name in lanes], fontsize=8)
    ax.set_ylim(max(len(lanes), 1) - 0.4, -0.6)


def _frequency_ticks(low_mel: float, high_mel: float) -> dict[int, float]:
    """Return the octaves between two mels with their mels in descending order, without labels that would overlap."""
    import librosa

    ticks: dict[int, float] = {}
    for hz in reversed(_TICKS_HZ):
        mel = float(librosa.hz_to_mel(hz))
        above = min(ticks.values(), default=np.inf)
        if low_mel <= mel <= high_mel and above - mel >= _MIN_TICK_DISTANCE * (high_mel - low_mel):
            ticks[hz] = mel
    return ticks
