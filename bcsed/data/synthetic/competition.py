"""Write a small synthetic competition."""

from __future__ import annotations

import functools
import logging
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ...errors import ConfigError, DataError
from ..competitions import Competition
from . import ogg, plan
from .scenes import Event, focal_clip, row_truth, soundscape
from .species import SAMPLE_RATE_HZ, Wave

TRAIN_TRUTH_CSV = "train_soundscapes_truth.csv"
TEST_TRUTH_CSV = "test_truth.csv"
MIN_OVERLAP_S = 0.25  # the least overlap of a song with a row that makes the row positive
N_TRAIN_SOUNDSCAPES = 16
N_TEST_SOUNDSCAPES = 8
_LABELLED_SHARE = 0.4

log = logging.getLogger(__name__)

_Task = Callable[[], None]
_Events = dict[str, list[Event]]


def write(
    folder: str | os.PathLike[str],
    *,
    year: int = 2025,
    seed: int = 0,
    scale: float = 1.0,
    jobs: int | None = None,
) -> Path:
    """Write a synthetic competition and return its folder.

    At scale 1 there are 283 focal clips of 14 classes, 0.5 to 12 s each, 3 to 60 per class, and 16 training and 8 test
    soundscapes of a minute, in which other individuals call from farther away. 2026 has a 15th class without focal
    clips, and labels of some soundscapes: all rows of these, and every row twice, as in the original; the cell is empty
    for a row without calls (the original seems to omit such rows). ``train.csv`` is written last: a folder with this
    file is complete.

    The two truth tables have ``row_id`` and a column of 0 and 1 per class: 1 if one of its songs overlaps the row by at
    least `MIN_OVERLAP_S`.

    Parameters
    ----------
    folder : path
        A new or empty folder.
    year : int
        The competition whose file names, columns and notation are used: 2025 or 2026.
    seed : int
        The same seed gives the same bytes, with the same versions of NumPy and libsndfile.
    scale : float
        Factor on the number of recordings, 0 to 100; a class has at least 2 clips, a split at least 2 soundscapes.
    jobs : int, optional
        Threads; by default one per processor. The result does not depend on it.

    Raises
    ------
    ConfigError
        If the year is unknown, the seed is negative, or `scale` or `jobs` is out of range.
    DataError
        If the folder is not empty, or is a file.
    """
    _check_options(year, seed, scale, jobs)
    root = _make_folder(Path(folder))
    edition = plan.EDITIONS[year]
    clips = plan.clips(edition, seed=seed, scale=scale)
    train, test = (
        plan.soundscapes(edition, seed=seed, count=max(2, round(scale * count)), test=is_test)
        for count, is_test in ((N_TRAIN_SOUNDSCAPES, False), (N_TEST_SOUNDSCAPES, True))
    )
    events: _Events = {}
    tasks: list[_Task] = []
    competition = edition.competition
    for name, items in ((competition.soundscapes_dir, train), (competition.test_dir, test)):
        write_item = functools.partial(_write_soundscape, root / name, competition.recording_s, events)
        tasks += [functools.partial(write_item, item) for item in items]
    tasks += [functools.partial(_write_clip, root / competition.audio_dir, clip) for clip in clips]
    _run(tasks, jobs)
    _write_tables(root, edition, clips, train, test, events, seed)
    log.info("%s: %d clips, %d and %d soundscapes", root, len(clips), len(train), len(test))
    return root


def _check_options(year: int, seed: int, scale: float, jobs: int | None) -> None:
    if year not in plan.EDITIONS:
        raise ConfigError(f"year {year}: the synthetic data exists for {' and '.join(map(str, plan.EDITIONS))}.")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative: use 0 or more.")
    if not (math.isfinite(scale) and 0 < scale <= 100):
        raise ConfigError(f"scale {scale} is outside 0 to 100: 1 is the usual size, 0.2 a quick one.")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs {jobs}: use at least one thread, or leave it out for all processors.")


def _make_folder(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"'{folder}' is a file: name a new folder for the synthetic competition.")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"'{folder}' is not empty: name a new folder for the synthetic competition, or empty this one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(tasks: Sequence[_Task], jobs: int | None) -> None:
    # Threads suffice, because the Fourier transforms and the encoder release the interpreter lock.
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        results = pool.map(lambda task: task(), tasks)
        try:
            for _ in tqdm(results, total=len(tasks), desc="sample", unit="file", disable=None):
                pass
        finally:
            pool.shutdown(cancel_futures=True)  # after an interruption no further task starts


def _write_ogg(path: Path, wave: Wave) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ogg.encode(wave, SAMPLE_RATE_HZ, serial=zlib.crc32(path.name.encode())))


def _write_clip(folder: Path, clip: plan.Clip) -> None:
    rng = np.random.default_rng(clip.key)
    options = {"duration_s": clip.duration_s, "snr_db": clip.snr_db}
    wave = focal_clip(clip.species, clip.recordist, rng=rng, others=clip.others, **options)
    _write_ogg(folder / clip.filename, wave)


def _write_soundscape(folder: Path, duration_s: int, events: _Events, item: plan.Soundscape) -> None:
    rng = np.random.default_rng(item.key)
    wave, events[item.stem] = soundscape(item.cast, item.site, duration_s=duration_s, rng=rng)
    _write_ogg(folder / f"{item.stem}.ogg", wave)


def _write_tables(
    root: Path,
    edition: plan.Edition,
    clips: Sequence[plan.Clip],
    train: Sequence[plan.Soundscape],
    test: Sequence[plan.Soundscape],
    events: _Events,
    seed: int,
) -> None:
    competition = edition.competition
    labels = [species.label for species in edition.species]
    truth = _truth(train, events, labels, competition)
    _write_text(root / "recording_location.txt", f"{edition.location}\n{edition.latitude}, {edition.longitude}\n")
    _write_csv(root / TRAIN_TRUTH_CSV, truth)
    _write_csv(root / TEST_TRUTH_CSV, _truth(test, events, labels, competition))
    if competition.soundscape_labels_csv:
        items = plan.labelled(train, seed=seed, share=_LABELLED_SHARE)
        _write_csv(root / competition.soundscape_labels_csv, _soundscape_labels(truth, items, competition))
    template = pd.DataFrame(1 / len(labels), index=range(3), columns=labels)
    template.insert(0, "row_id", _row_ids(test[0], competition)[:3])
    _write_csv(root / competition.sample_submission_csv, template)
    names = ["inat_taxon_id", "scientific_name", "common_name", "class_name"]
    taxonomy = pd.DataFrame([[getattr(each, name) for name in ("label", *names)] for each in edition.species])
    _write_csv(root / competition.taxonomy_csv, taxonomy.set_axis(["primary_label", *names], axis=1))
    _write_csv(root / competition.train_csv, pd.DataFrame([clip.row(edition) for clip in clips]))


def _row_ids(item: plan.Soundscape, competition: Competition) -> list[str]:
    ends = range(competition.row_s, competition.recording_s + 1, competition.row_s)
    return [competition.row_id.format(stem=item.stem, end=end) for end in ends]


def _truth(
    items: Iterable[plan.Soundscape], events: _Events, labels: Sequence[str], competition: Competition
) -> pd.DataFrame:
    tables = []
    for item in items:
        ids, row_s = _row_ids(item, competition), competition.row_s
        hits = row_truth(events[item.stem], labels, n_rows=len(ids), row_s=row_s, min_overlap_s=MIN_OVERLAP_S)
        table = pd.DataFrame(hits, columns=list(labels))
        table.insert(0, "row_id", ids)
        tables.append(table)
    joined: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return joined


def _soundscape_labels(truth: pd.DataFrame, items: Iterable[plan.Soundscape], competition: Competition) -> pd.DataFrame:
    by_row = truth.set_index("row_id")
    rows = []
    for item in items:
        of_file = []
        for k, row_id in enumerate(_row_ids(item, competition)):
            hits = by_row.loc[row_id]
            start, end = (_clock(competition.row_s * number) for number in (k, k + 1))
            of_file.append((f"{item.stem}.ogg", start, end, ";".join(hits.index[hits == 1])))
        rows += of_file * 2  # the original repeats all rows of a file after the file
    table: pd.DataFrame = pd.DataFrame(rows, columns=["filename", "start", "end", "primary_label"])
    return table


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    _write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode())
    part.replace(path)
