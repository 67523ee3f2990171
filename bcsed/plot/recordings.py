"""What a recording looks like, what was found in it, and where the network listened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..config.contract import Frontend
from .style import axes, called

Array = npt.NDArray[np.float32]

_TICKS_HZ = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
# Of the height of the axes.
_CLOSE = 0.08


def spectrogram(
    picture: Array,
    frontend: Frontend,
    ax: Any = None,
    *,
    first_frame: int = 0,
    top_db: float | None = None,
    colorbar: bool = True,
    title: str = "Mel spectrogram",
) -> Any:
    """Draw a mel spectrogram as `librosa.display.specshow` does: seconds, Hz on the mel scale, dB.

    Parameters
    ----------
    picture : ndarray, shape (F, T)
        dB, as from `bcsed.audio.spectrogram.LogMel`.
    signal : Frontend
        What it was computed with.
    ax : Axes, optional
    first_frame : int
        The frame of the recording at which the picture begins.
    top_db : float, optional
        How far below its maximum the colours reach; `frontend.top_db` by default, as the network hears it.
    colorbar : bool
        Whether to say beside it what the colours are.
    title : str

    Returns
    -------
    Axes
    """
    import librosa

    ax = axes(ax, 9.0, 3.4)
    reach = frontend.top_db if top_db is None else top_db
    high = float(picture.max())
    hop_s = frontend.hop_length / frontend.sample_rate
    # Frames stand for the hop around their centre; bands are equally far apart in mel.
    begin = (first_frame - 0.5) * hop_s
    low_mel, high_mel = librosa.hz_to_mel([frontend.fmin_hz, frontend.fmax_hz])
    half = (high_mel - low_mel) / (frontend.n_mels + 1) / 2
    image = ax.imshow(
        picture,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=high - reach,
        vmax=high,
        extent=(begin, begin + picture.shape[1] * hop_s, low_mel + half, high_mel - half),
    )
    ticks = _ticks(low_mel, high_mel)
    ax.set_yticks(list(ticks.values()), [str(hz) for hz in ticks])
    ax.set(xlabel="Time (s)", ylabel="Hz", title=title)
    if colorbar:
        ax.figure.colorbar(image, ax=ax, format="%+2.0f dB")
    return ax


def detections(
    found: pd.DataFrame,
    ax: Any = None,
    *,
    truth: pd.DataFrame | None = None,
    classes: Sequence[str] | None = None,
    names: Mapping[str, str] | None = None,
    span_s: tuple[float, float] | None = None,
    title: str = "Detections",
) -> Any:
    """Draw what was found when, a lane for each class, and what is true where that is known.

    Parameters
    ----------
    found : DataFrame
        ``start_s``, ``end_s``, ``label`` and ``score`` of one recording, as from `bcsed.scores.detections.detect`. A bar is
        the stronger the higher its score.
    ax : Axes, optional
    truth : DataFrame, optional
        ``start_s``, ``end_s`` and ``label``: who really calls when; drawn as frames.
    classes : sequence of str, optional
        The lanes, from the top; by default all that were found or are true, in the order of their beginning.
    names : mapping of str to str, optional
        What to call them.
    span_s : tuple of 2 float, optional
        The seconds to show.
    title : str

    Returns
    -------
    Axes
        Without a legend, so that it can stand below a spectrogram; `Axes.legend` makes one.
    """
    both = [found] if truth is None else [found, truth]
    order = pd.concat([part[["start_s", "label"]] for part in both]).sort_values("start_s", kind="stable")["label"]
    lanes = list(dict.fromkeys(map(str, order))) if classes is None else [str(name) for name in classes]
    ax = axes(ax, 9.0, 1.4 + 0.25 * len(lanes))
    place = {name: lane for lane, name in enumerate(lanes)}
    for line in found.to_dict("records"):
        if line["label"] in place:
            alpha = 0.15 + 0.85 * float(np.clip(line["score"], 0, 1))
            bar = {"height": 0.62, "color": "C0", "alpha": alpha}
            ax.barh(place[line["label"]], line["end_s"] - line["start_s"], left=line["start_s"], **bar)
    for line in truth.to_dict("records") if truth is not None else ():
        if line["label"] in place:
            frame = {"height": 0.86, "facecolor": "none", "edgecolor": "C1", "linewidth": 1.4}
            ax.barh(place[line["label"]], line["end_s"] - line["start_s"], left=line["start_s"], **frame)
    # What the legend shows, whatever was found.
    ax.fill_between([], [], color="C0", label="found, the stronger the higher its score (0 to 1)")
    if truth is not None:
        ax.fill_between([], [], facecolor="none", edgecolor="C1", linewidth=1.4, label="true")
    ax.set_yticks(range(len(lanes)), [called((names or {}).get(name, name)) for name in lanes], fontsize=8)
    ax.set_ylim(max(len(lanes), 1) - 0.4, -0.6)
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
    title: str = "What is heard, and when the network listens (0 to 1 in each lane)",
) -> Any:
    """Draw the network's answers along time, a lane for each class.

    Parameters
    ----------
    what : ndarray, shape (t, K)
        Logits of the classes.
    when : ndarray, shape (t, K)
        Attention scores in (-1, 1); where they are high, a step counts more in its row.
    classes : sequence of K str
        The lanes, from the top.
    step_s : float
        Seconds of a step.
    ax : Axes, optional
    start_s : float
        Where the first step begins.
    names : mapping of str to str, optional
        What to call the classes.
    title : str

    Returns
    -------
    Axes
        Without a legend, see `detections`. A lane is 0 at its bottom and 1 at its top: the probability of `logits` is
        filled, ``(when + 1) / 2`` is a line.
    """
    ax = axes(ax, 9.0, 1.4 + 0.4 * len(classes))
    edges = start_s + step_s * np.arange(len(logits) + 1)
    probability = 1.0 / (1.0 + np.exp(-np.asarray(logits, np.float64)))
    listens = (np.asarray(attention, np.float64) + 1.0) / 2.0
    for lane in range(len(classes)):
        bottom = lane + 0.4
        fill = {"baseline": bottom, "fill": True, "color": "C0", "alpha": 0.7, "linewidth": 0}
        line = {"baseline": None, "color": "C1", "linewidth": 1.0}
        labels = ("what: probability", "when: attention score") if not lane else (None, None)
        ax.stairs(bottom - 0.8 * probability[:, lane], edges, label=labels[0], **fill)
        ax.stairs(bottom - 0.8 * listens[:, lane], edges, label=labels[1], **line)
        ax.axhspan(bottom - 0.8, bottom, color="grey", alpha=0.12, linewidth=0)
    ax.set_yticks(range(len(classes)), [called((names or {}).get(name, name)) for name in classes], fontsize=8)
    ax.set_ylim(max(len(classes), 1) - 0.4, -0.6)
    ax.set_xlim(edges[0], edges[-1])
    ax.set(xlabel="Time (s)", ylabel="class", title=title)
    return ax


def _ticks(low_mel: float, high_mel: float) -> dict[int, float]:
    """Return the octaves between two mels, and their mels, from above, without those that would stand too close."""
    import librosa

    kept: dict[int, float] = {}
    for hz in reversed(_TICKS_HZ):
        mel = float(librosa.hz_to_mel(hz))
        above = min(kept.values(), default=np.inf)
        if low_mel <= mel <= high_mel and above - mel >= _CLOSE * (high_mel - low_mel):
            kept[hz] = mel
    return kept
