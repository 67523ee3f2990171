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
from ...files import atomic_write, is_occupied
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
    folder: str | os.PathLike[str], *, year: int = 2025, seed: int = 0, scale: float = 1.0, jobs: int | None = None
) -> Path:
    """Write a synthetic competition and return its folder.

    At scale 1 there are 283 focal clips of 14 classes, 0.5 to 12 s each, 3 to 60 per class, and 16 training and 8 test
    soundscapes of a minute, in which other individuals call from farther away. 2026 has a 15th class without focal
    clips, and labels of some soundscapes: all rows of these, and every row twice, as in the original. The truth tables
    have a 1 where a song of the class overlaps the row by at least `MIN_OVERLAP_S`. ``train.csv`` is written last.

    Parameters
    ----------
    folder : path
        A new or empty folder; else a DataError is raised.
    year : {2025, 2026}
        The competition whose file names, columns and notation are used.
    seed : int
        The same seed gives the same bytes, with the same versions of NumPy and libsndfile.
    scale : float
        Factor on the number of recordings, 0 to 100; a class has at least 2 clips, a split at least 2 soundscapes.
    jobs : int, optional
        Threads; by default one per processor. The result does not depend on it.
    """
    _check_options(year, seed, scale, jobs)
    root = Path(folder)
    if is_occupied(root):
        problem = "is not empty" if root.is_dir() else "is a file"
        raise DataError(f"'{root}' {problem}: name a new or empty folder for the synthetic competition.")
    root.mkdir(parents=True, exist_ok=True)
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
        options = (root / name, competition.recording_s, events)
        tasks += [functools.partial(_write_soundscape, *options, item) for item in items]
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
    with atomic_write(path) as temporary:
        temporary.write_bytes(ogg.encode(wave, SAMPLE_RATE_HZ, serial=zlib.crc32(path.name.encode())))


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
    location = f"{edition.location}\n{edition.latitude}, {edition.longitude}\n"
    with atomic_write(root / "recording_location.txt") as temporary:
        temporary.write_bytes(location.encode())
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
    ids = {item.stem: _row_ids(item, competition) for item in items}
    options = {"row_s": competition.row_s, "min_overlap_s": MIN_OVERLAP_S}
    hits = [row_truth(events[stem], labels, n_rows=len(rows), **options) for stem, rows in ids.items()]
    table: pd.DataFrame = pd.DataFrame(np.concatenate(hits), columns=list(labels))
    table.insert(0, "row_id", [row_id for rows in ids.values() for row_id in rows])
    return table


def _soundscape_labels(truth: pd.DataFrame, items: Iterable[plan.Soundscape], competition: Competition) -> pd.DataFrame:
    by_row = truth.set_index("row_id")
    rows = []
    for item in items:
        of_file = []
        for k, row_id in enumerate(_row_ids(item, competition)):
            hits = by_row.loc[row_id]
            seconds = (competition.row_s * number for number in (k, k + 1))
            start, end = (f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in seconds)
            of_file.append((f"{item.stem}.ogg", start, end, ";".join(hits.index[hits == 1])))
        rows += of_file * 2  # the original repeats all rows of a file after the file
    table: pd.DataFrame = pd.DataFrame(rows, columns=["filename", "start", "end", "primary_label"])
    return table


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
