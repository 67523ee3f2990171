"""The page of a review: one HTML file with spectrogram and sound of each chosen row, and the same as snippets."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import plot
from ..audio.decode import read_audio
from ..audio.headers import AudioInfo, read_info
from ..config.contract import WIDE_384
from ..errors import DataError
from ..files import atomic_write, is_occupied, quote_list
from ..plot import style
from ..recordings import find_recordings, printable, recording_names, with_suffix
from ..scores import detections
from ..scores.detections.taxonomy import ClassName
from ..scores.review import ANSWERS_FILE, SCHEMA, SNIPPETS, review_id, unanswered_label, write_review
from .evaluation import full_name
from .excerpt import encode_ogg, spectrogram_excerpt
from .page import Figure, Sound, load_template, make_figure

PAGE = "review.html"
# Seconds before and after a row.
CONTEXT_S = 2


def write_folder(
    drawn: pd.DataFrame,
    recordings: Sequence[str | Path],
    out: str | Path,
    *,
    scores: pd.DataFrame,
    answered: pd.DataFrame | None = None,
    names: Mapping[str, ClassName],
    progress: Callable[[int, int], None],
) -> None:
    """Write ``review.csv``, the page and the snippets of the rows of `bcsed.scores.review.choose_rows`.

    `recordings` are files or folders with all recordings of these rows, `out` is a new folder, `scores` are the table
    that the rows were chosen from, `answered` the result of `bcsed.scores.review.match_answers`, and `names` the common
    or scientific names of its classes. Raises DataError if a recording is missing, unreadable or one of several of its
    name, or the folder is not empty.
    """
    folder = Path(out)
    if is_occupied(folder):
        raise DataError(f"{folder} is not empty; name a new folder, so that no answers are lost.")
    paths = _find_paths(drawn, recordings)
    infos = {name: read_info(path) for name, path in paths.items()}
    files = {name: with_suffix(name, path) for name, path in paths.items()}
    items: list[dict[str, Any]] = []
    with (
        detections.write_raven(folder / SNIPPETS, fmin_hz=0, fmax_hz=WIDE_384.fmax_hz) as raven,
        detections.write_audacity(folder / SNIPPETS) as audacity,
    ):
        for line in drawn.to_dict("records"):
            audio = infos[line["recording"]]
            # The end of a recording may be within its last row.
            span_s = max(0, line["start_s"] - CONTEXT_S), min(line["end_s"] + CONTEXT_S, audio.duration_s)
            row_s = line["start_s"], min(line["end_s"], audio.duration_s)
            snippet, labels = _write_snippet(folder, line, audio, span_s, row_s)
            raven(snippet, labels)
            audacity(snippet, labels)
            # Without the score, which would influence the listener.
            item = {"number": line["item"], "name": full_name(line["class"], names)}
            times = {"recording": line["recording"], "start_s": row_s[0], "end_s": f"{row_s[1]:g}"}
            items.append({**item, **times, "figure": _draw(audio, span_s, row_s), "sound": _sound(audio, span_s)})
            progress(len(items), len(drawn))
    drawn = drawn.assign(recording=drawn["recording"].map(files))
    species = {name: full_name(name, names) for name in map(str, scores.columns)}
    values = {"title": f"Review of {len(items)} rows", "review": review_id(drawn), "schema": SCHEMA}
    template = load_template("review.html", "page.js", "review.js")
    page = template.render(items=items, species=species, answers_file=ANSWERS_FILE, **values)
    with atomic_write(folder / PAGE) as temporary:
        temporary.write_text(str(page), encoding="utf-8")
    # Last: a folder with this file is complete.
    write_review(drawn, folder, scores, answered)


def _find_paths(drawn: pd.DataFrame, recordings: Sequence[str | Path]) -> dict[str, Path]:
    """Return the file of each recording, by its name in row ids."""
    files = find_recordings(recordings)
    needed = list(dict.fromkeys(drawn["recording"]))
    of_stem: dict[str, list[Path]] = {}
    for path in files:
        of_stem.setdefault(printable(path.stem), []).append(path)
    paths = dict(zip(recording_names(files), files, strict=True))
    for name in needed:
        if name not in paths and len(same := of_stem.get(name, [])) > 1:
            raise DataError(f"the recording {name} may be {same[0]} or {same[1]}; name its own folder as --recordings.")
    paths = {stem: same[0] for stem, same in of_stem.items()} | paths
    if missing := [name for name in needed if name not in paths]:
        raise DataError(
            f"{len(missing)} of {len(needed)} recordings are not in the folders of --recordings: {quote_list(missing)}."
        )
    return {name: paths[name] for name in needed}


def _write_snippet(
    folder: Path, line: Mapping[Any, Any], audio: AudioInfo, span_s: tuple[float, float], row_s: tuple[float, float]
) -> tuple[detections.Recording, pd.DataFrame]:
    """Write the sound of a row with its context as FLAC; return it and its label, which is to be edited."""
    import soundfile

    rate, name = audio.sample_rate, f"{line['item']:04d}"
    path = folder / SNIPPETS / f"{name}.flac"
    wave, _ = read_audio(audio, rate, round(span_s[0] * rate), round(span_s[1] * rate))
    with atomic_write(path) as temporary:
        soundfile.write(temporary, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
    recording = detections.Recording(path=str(path), name=name, n_samples=len(wave), sample_rate=rate)
    cells = {"recording": recording.path, "name": name, "begin_time": "", "label": unanswered_label(line["class"])}
    times = {"start_s": row_s[0] - span_s[0], "end_s": row_s[1] - span_s[0], "score": line["score"]}
    return recording, pd.DataFrame([{**cells, **times}])


def _draw(audio: AudioInfo, span_s: tuple[float, float], row_s: tuple[float, float]) -> Figure:
    """Draw the spectrogram of a row with its context, the row between two lines."""
    # In rows of one second.
    excerpt = spectrogram_excerpt(audio, WIDE_384, 1, (int(span_s[0]), math.ceil(span_s[1])))
    ax = style.axes(None, 9.0, 3.2)
    top_db = float(np.clip(excerpt.db.max() - np.percentile(excerpt.db, 2), 20.0, WIDE_384.top_db))
    options: dict[str, Any] = {"first_frame": excerpt.first_frame, "top_db": top_db, "colorbar": False, "title": ""}
    plot.spectrogram(excerpt.db, WIDE_384, ax, **options)
    for second in row_s:
        # Not exactly white, which is the colour of the page's paper.
        ax.axvline(second, color="#fefefe", linewidth=1.5)
    ax.set_xlim(*span_s)
    text = f"Mel spectrogram from {span_s[0]:g} to {span_s[1]:g} s; the row is between the lines."
    return make_figure(ax, alt=text, caption=text, with_time=True)


def _sound(audio: AudioInfo, span_s: tuple[float, float]) -> Sound:
    caption = f"Sound from {span_s[0]:g} to {span_s[1]:.4g} s"
    return Sound(uri=encode_ogg(audio, *span_s), caption=caption, start_s=span_s[0])
