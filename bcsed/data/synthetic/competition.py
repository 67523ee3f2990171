"""A small synthetic competition on disk, so that everything can be tried where the real data is not."""

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
from .species import SAMPLE_RATE_HZ, Species, Wave

TRAIN_TRUTH_CSV = "train_soundscapes_truth.csv"
TEST_TRUTH_CSV = "test_truth.csv"
MIN_OVERLAP_S = 0.25  # a song counts for a row of which it fills at least so much
N_TRAIN_SOUNDSCAPES = 16
N_TEST_SOUNDSCAPES = 8
_LABELLED_SHARE = 0.4

log = logging.getLogger(__name__)

_Work = Callable[[], None]
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

    At scale 1: 283 focal clips of 14 classes, 0.5 to 12 s each, 3 to 60 a class; 16 soundscapes for
    training and 8 for the test, a minute each, in which other individuals call from farther away. 2026 has
    a 15th class without focal clips, and labels for some soundscapes: every row of those, and every row
    twice, as in the original; the cell is empty where nobody calls (the original seems to leave such rows
    out). The CSV files come last and ``train.csv`` last of all: a folder that has it is whole.

    In the two truth tables, ``row_id`` and a column of 0 and 1 per class, a class is in a row if one of
    its songs fills at least `MIN_OVERLAP_S` of it.

    Parameters
    ----------
    folder : path
        Where; it must be empty or not exist.
    year : int
        Whose file names, columns and spellings: 2025 or 2026.
    seed : int
        The same seed gives the same bytes, with the same versions of NumPy and libsndfile.
    scale : float
        Factor on the number of recordings, 0 to 100. No class has fewer than 2 clips, no split fewer than
        2 soundscapes.
    jobs : int, optional
        Threads; as many as there are processors if not given. The result does not depend on it.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ConfigError
        If there is no such year, the seed is negative, or `scale` or `jobs` is out of range.
    DataError
        If the folder has something in it, or is a file.
    """
    _check(year, seed, scale, jobs)
    root = _fresh(Path(folder))
    spec = plan.YEARS[year]
    clips = plan.clips(spec, seed=seed, scale=scale)
    train, test = (
        plan.soundscapes(spec, seed=seed, count=max(2, round(scale * count)), test=is_test)
        for count, is_test in ((N_TRAIN_SOUNDSCAPES, False), (N_TEST_SOUNDSCAPES, True))
    )
    events: _Events = {}
    work: list[_Work] = []
    where = spec.competition
    for name, items in ((where.soundscapes_dir, train), (where.test_dir, test)):
        work += [functools.partial(_write_soundscape, root / name, item, where.recording_s, events) for item in items]
    work += [functools.partial(_write_clip, root / where.audio_dir, clip) for clip in clips]
    _do(work, jobs)
    _write_tables(root, spec, clips, train, test, events, seed)
    log.info("%s: %d clips, %d and %d soundscapes", root, len(clips), len(train), len(test))
    return root


def _check(year: int, seed: int, scale: float, jobs: int | None) -> None:
    if year not in plan.YEARS:
        raise ConfigError(f"year {year}: the sample knows {' and '.join(map(str, plan.YEARS))}")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative: give 0 or more")
    if not (math.isfinite(scale) and 0 < scale <= 100):
        raise ConfigError(f"scale {scale} is outside 0 to 100: 1 is the usual size, 0.2 a quick one")
    if jobs is not None and jobs < 1:
        raise ConfigError(f"jobs {jobs}: at least one thread is needed, or none given for all processors")


def _fresh(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise DataError(f"'{folder}' is a file: name a new folder for the sample competition")
    if folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"'{folder}' is not empty: name a new folder for the sample competition, or empty this one.")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _do(work: Sequence[_Work], jobs: int | None) -> None:
    # Threads suffice: the transforms and the encoder release the interpreter.
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        done = pool.map(lambda task: task(), work)
        try:
            for _ in tqdm(done, total=len(work), desc="sample", unit="file", disable=None):
                pass
        finally:
            pool.shutdown(cancel_futures=True)  # after an interruption nothing more is begun


# ---- recordings ------------------------------------------------------------------------------------------


def _write_ogg(path: Path, wave: Wave) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ogg.encode(wave, SAMPLE_RATE_HZ, serial=zlib.crc32(path.name.encode())))


def _write_clip(folder: Path, clip: plan.Clip) -> None:
    wave = focal_clip(
        clip.caller,
        clip.recordist,
        duration_s=clip.duration_s,
        snr_db=clip.snr_db,
        rng=np.random.default_rng(clip.key),
        others=clip.others,
    )
    _write_ogg(folder / clip.filename, wave)


def _write_soundscape(folder: Path, item: plan.Soundscape, duration_s: int, events: _Events) -> None:
    rng = np.random.default_rng(item.key)
    wave, events[item.stem] = soundscape(item.cast, item.place, duration_s=duration_s, rng=rng)
    _write_ogg(folder / f"{item.stem}.ogg", wave)


# ---- tables ----------------------------------------------------------------------------------------------


def _write_tables(
    root: Path,
    spec: plan.Year,
    clips: Sequence[plan.Clip],
    train: Sequence[plan.Soundscape],
    test: Sequence[plan.Soundscape],
    events: _Events,
    seed: int,
) -> None:
    where = spec.competition
    labels = [caller.label for caller in spec.callers]
    truth = _truth(train, events, labels, where)
    _write_text(root / "recording_location.txt", f"{spec.location}\n{spec.latitude}, {spec.longitude}\n")
    _write_csv(root / TRAIN_TRUTH_CSV, truth)
    _write_csv(root / TEST_TRUTH_CSV, _truth(test, events, labels, where))
    if where.soundscape_labels_csv:
        chosen = plan.labelled(train, seed=seed, share=_LABELLED_SHARE)
        _write_csv(root / where.soundscape_labels_csv, _soundscape_labels(truth, chosen, where))
    stub = pd.DataFrame(1 / len(labels), index=range(3), columns=labels)
    stub.insert(0, "row_id", _row_ids(test[0], where)[:3])
    _write_csv(root / where.sample_submission_csv, stub)
    _write_csv(root / where.taxonomy_csv, pd.DataFrame([_taxon(caller) for caller in spec.callers]))
    _write_csv(root / where.train_csv, pd.DataFrame([clip.row(spec) for clip in clips]))


def _taxon(caller: Species) -> dict[str, object]:
    return {
        "primary_label": caller.label,
        "inat_taxon_id": caller.inat_taxon_id,
        "scientific_name": caller.scientific_name,
        "common_name": caller.common_name,
        "class_name": caller.class_name,
    }


def _row_ids(item: plan.Soundscape, where: Competition) -> list[str]:
    ends = range(where.row_s, where.recording_s + 1, where.row_s)
    return [where.row_id.format(stem=item.stem, end=end) for end in ends]


def _truth(
    items: Iterable[plan.Soundscape], events: _Events, labels: Sequence[str], where: Competition
) -> pd.DataFrame:
    tables = []
    for item in items:
        ids = _row_ids(item, where)
        hits = row_truth(events[item.stem], labels, n_rows=len(ids), row_s=where.row_s, min_overlap_s=MIN_OVERLAP_S)
        table = pd.DataFrame(hits, columns=list(labels))
        table.insert(0, "row_id", ids)
        tables.append(table)
    joined: pd.DataFrame = pd.concat(tables, ignore_index=True)
    return joined


def _soundscape_labels(truth: pd.DataFrame, items: Iterable[plan.Soundscape], where: Competition) -> pd.DataFrame:
    by_row = truth.set_index("row_id")
    rows = []
    for item in items:
        of_file = []
        for k, row_id in enumerate(_row_ids(item, where)):
            hits = by_row.loc[row_id]
            begin, end = (_clock(where.row_s * at) for at in (k, k + 1))
            of_file.append((f"{item.stem}.ogg", begin, end, ";".join(hits.index[hits == 1])))
        rows += of_file * 2  # the original has every file's rows, then the same rows again
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
