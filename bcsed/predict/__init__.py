"""Recordings -> score table, in parallel.

Threads decode recordings and compute their pictures while OpenVINO answers windows; what is in flight is
bounded, so memory follows neither the number of recordings nor their length.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import audio, rows
from .._version import __version__
from ..bundle import Bundle
from ..ensemble import Array, Ensemble, from_bundles
from ..errors import ConfigError, DataError
from ..spectrogram import LogMel
from ..windows import n_rows
from .journal import Journal, Part
from .rowscore import (
    Collector,
    Pictures,
    Rows,
    blocks,
    picture_block,
    pool_block,
    pool_rows,
    score_recording,
    submit_block,
)

ON_ERROR = ("report", "fill")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a prediction came to.

    Parameters
    ----------
    scores : DataFrame
        The score table, rows in the order of the recordings.
    problems : DataFrame
        ``recording, status, reason``: status ``failed`` (not scored), ``filled`` (class priors in its
        rows) or ``note`` (scored, but something was wrong with the file).
    n_recordings, n_failed, n_resumed : int
        Asked for; not readable, filled ones included; taken from an earlier, interrupted run.
    silent : tuple of str
        Stems of recordings of digital silence, whose rows are rightly all the same.
    seconds : float
        Wall time.
    """

    scores: pd.DataFrame
    problems: pd.DataFrame
    n_recordings: int
    n_failed: int
    n_resumed: int
    silent: tuple[str, ...]
    seconds: float


def predict(
    bundles: Sequence[Bundle],
    recordings: Sequence[str | Path],
    *,
    weights: Sequence[float] | None = None,
    out: str | Path | None = None,
    cut: Rows | None = None,
    row_id: str = rows.ROW_ID,
    sample_submission: str | Path | None = None,
    on_error: str = "report",
    fill_s: int = 60,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Score recordings with one bundle or an ensemble.

    Parameters
    ----------
    bundles : sequence of Bundle
        All of one class list.
    recordings : sequence of str or Path
        Files and folders.
    weights : sequence of float, optional
        One per bundle; equal by default.
    out : str or Path, optional
        A folder for ``submission.csv``, ``problems.csv`` and ``manifest.json``. Each finished recording is
        kept there, and the same call goes on where a killed one ended.
    cut : Rows, optional
        Rows of 5 s from centred windows by default.
    row_id : str
        Form of a row's id, of ``stem`` and ``end`` (second).
    sample_submission : str or Path, optional
        The competition's template: its columns, in its order, are what is written.
    on_error : {'report', 'fill'}
        What becomes of a recording that cannot be read: no rows, or rows of class priors. Both are listed.
    fill_s : int
        Duration assumed for such a recording.
    jobs : int
        Threads that decode and compute pictures; 0 does everything in the calling thread.
    progress : callable, optional
        Called with (recordings done, recordings in all).

    Raises
    ------
    ConfigError, BundleError, DataError
        If the call makes no sense, bundles disagree, two recordings share a name, or `out` holds another run.
    """
    if on_error not in ON_ERROR:
        raise ConfigError(f"on_error must be one of {', '.join(ON_ERROR)}; got {on_error!r}.")
    if jobs < 0:
        raise ConfigError(f"jobs must be at least 0, got {jobs}.")
    cut = cut or Rows()
    if cut.row_s < 1:
        raise ConfigError(f"a row must last at least 1 s, got {cut.row_s}.")
    paths = audio.find(recordings)
    _check_stems(paths)
    ensemble = from_bundles(bundles, weights)
    order = _columns(ensemble, sample_submission)
    _try_plan(ensemble, cut)
    journal = Journal(Path(out), _settings(bundles, ensemble, cut)) if out is not None else None
    run = _Run(ensemble, cut, journal, on_error, fill_s, row_id, _priors(bundles, ensemble))
    started = time.monotonic()
    with _one_torch_thread():
        for n_done in run.score(paths, jobs):
            if progress is not None:
                progress(n_done, len(paths))
    result = run.result(len(paths), time.monotonic() - started, order)
    if journal is not None:
        _write(result, journal, sample_submission)
    return result


@dataclass
class _Run:
    """The state of one prediction."""

    ensemble: Ensemble
    cut: Rows
    journal: Journal | None
    on_error: str
    fill_s: int
    row_id: str
    priors: Array
    parts: dict[Path, Part] = field(default_factory=dict)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    n_resumed: int = 0

    def score(self, paths: Sequence[Path], jobs: int) -> Iterator[int]:
        """Score all recordings, yielding how many are done each time one is."""
        mels = {signal: LogMel(signal) for signal in self.ensemble.signals}
        waiting: deque[_Open] = deque()
        n_done = 0
        with _pool(jobs) as start:
            feed = self._blocks(paths)
            while True:
                # Pictures of a few blocks ahead keep the network busy, and no more than that in memory.
                while len(waiting) < jobs + 2 and (item := next(feed, None)) is not None:
                    if item.block is not None and item.found is not None:
                        item.pictures = start(
                            picture_block, item.found, self.ensemble, self.cut, item.block, mels
                        )
                    waiting.append(item)
                if not waiting:
                    return
                self._submit(waiting)
                item = waiting.popleft()
                self._close(item)
                if item.last:
                    n_done += 1
                    yield n_done

    def _blocks(self, paths: Sequence[Path]) -> Iterator[_Open]:
        for path in paths:
            try:
                found = audio.info(path)
            except DataError as error:
                yield _Open(path, failure=str(error))
                continue
            part = self.journal.read(found) if self.journal is not None else None
            if part is not None:
                self.n_resumed += 1
                yield _Open(path, found, part=part)
                continue
            cuts = list(blocks(found, self.ensemble, self.cut))
            gathered = _Gathered()
            for block in cuts:
                yield _Open(path, found, block, last=block is cuts[-1], gathered=gathered)

    def _submit(self, waiting: deque[_Open]) -> None:
        """Queue the windows of the next two blocks, so that the network never waits for rows being pooled."""
        for item in list(waiting)[:2]:
            if item.pictures is None or item.collector is not None or item.gathered.failure:
                continue
            try:
                item.drawn = item.pictures.result()
            except DataError as error:
                item.gathered.failure = str(error)
                continue
            item.collector = submit_block(item.drawn, self.ensemble)

    def _close(self, item: _Open) -> None:
        """Take a block's answers; with the last one, the recording is finished."""
        gathered = item.gathered
        if item.collector is not None and item.drawn is not None:
            self._await(item.collector)
            gathered.scores.append(pool_block(item.collector, item.drawn, self.ensemble))
            gathered.notes.update(dict.fromkeys(item.drawn.notes))
            gathered.silent &= item.drawn.silent
        if not item.last:
            return
        failure = item.failure or gathered.failure
        if failure:
            self._fail(item.path, item.found, failure)
            return
        part = item.part
        if part is None:
            part = Part(np.concatenate(gathered.scores), tuple(gathered.notes), gathered.silent)
            if self.journal is not None and item.found is not None:
                self.journal.write(item.found, part)
        self.parts[item.path] = part
        notes = (*part.notes, *(("holds nothing but digital silence",) if part.silent else ()))
        self.problems.extend((str(item.path), "note", note) for note in notes)

    def _await(self, collector: Collector) -> None:
        """Wait for a block's last answer; should a window be lost, say so rather than wait for ever."""
        if not collector.ready.wait(timeout=30):
            for member in self.ensemble.members:
                member.finish()
            if not collector.ready.is_set():
                raise RuntimeError("OpenVINO took a window and gave no answer to it.")

    def _fail(self, path: Path, found: audio.Info | None, reason: str) -> None:
        if self.on_error == "report":
            self.problems.append((str(path), "failed", reason))
            return
        rate = self.ensemble.signals[0].sample_rate
        n_samples = found.length(rate) if found is not None else self.fill_s * rate
        filled = np.tile(self.priors, (n_rows(n_samples, rate, self.cut.row_s), 1))
        # Equal rows on purpose, as in a silent recording.
        self.parts[path] = Part(filled, (), True)
        self.problems.append((str(path), "filled", reason))

    def result(self, n_recordings: int, seconds: float, order: Sequence[str]) -> Result:
        """Gather the parts into one table."""
        ids: list[str] = []
        for path, part in self.parts.items():
            ids += rows.row_ids(path.stem, len(part.scores), self.cut.row_s, self.row_id)
        empty = np.empty((0, len(self.ensemble.classes)), np.float32)
        scores = np.concatenate([part.scores for part in self.parts.values()] or [empty])
        table = rows.make(ids, self.ensemble.classes, scores)[list(order)]
        problems = pd.DataFrame(self.problems, columns=["recording", "status", "reason"])
        return Result(
            scores=table,
            problems=problems,
            n_recordings=n_recordings,
            n_failed=int(problems["status"].isin(["failed", "filled"]).sum()),
            n_resumed=self.n_resumed,
            silent=tuple(path.stem for path, part in self.parts.items() if part.silent),
            seconds=seconds,
        )


@dataclass
class _Gathered:
    """What the blocks of one recording have come to so far."""

    scores: list[Array] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    silent: bool = True
    failure: str = ""


@dataclass
class _Open:
    """A block under way, or a recording that needs no work."""

    path: Path
    found: audio.Info | None = None
    block: tuple[int, int] | None = None
    last: bool = True
    failure: str = ""
    part: Part | None = None
    gathered: _Gathered = field(default_factory=_Gathered)
    pictures: Future[Pictures] | None = None
    drawn: Pictures | None = None
    collector: Collector | None = None


@contextmanager
def _pool(jobs: int) -> Iterator[Callable[..., Future[Pictures]]]:
    """Give a function that starts work: in threads, or at once where there are none."""
    if jobs:
        with ThreadPoolExecutor(jobs, thread_name_prefix="bcsed-picture") as executor:
            try:
                yield executor.submit
            finally:
                executor.shutdown(wait=True, cancel_futures=True)
        return

    def now(function: Callable[..., Pictures], *args: Any) -> Future[Pictures]:
        future: Future[Pictures] = Future()
        try:
            future.set_result(function(*args))
        except DataError as error:
            future.set_exception(error)
        return future

    yield now


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Keep torch's own threads from fighting with ours and OpenVINO's.

    They would also round sums differently, so that `jobs` could be told from the scores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _check_stems(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise DataError(
                f"{other} and {path} share the name {path.stem!r}, so their rows would have the same ids; "
                "score them in two runs."
            )


def _columns(ensemble: Ensemble, sample_submission: str | Path | None) -> list[str]:
    """Return the order of the columns to write, and refuse a template with other classes before scoring."""
    if sample_submission is None:
        return list(ensemble.classes)
    order = [str(name) for name in rows.read(sample_submission).columns]
    differing = sorted(set(order) ^ set(ensemble.classes))
    if differing:
        only = "bundle" if differing[0] in ensemble.classes else "template"
        raise DataError(
            f"{sample_submission}: class {differing[0]!r} is only in the {only} ({len(differing)} such "
            "classes); these are not the classes that the bundle was trained on."
        )
    return order


def _try_plan(ensemble: Ensemble, cut: Rows) -> None:
    """Let a stride that does not fit fail before the first recording is decoded."""
    for member in ensemble.members:
        cut.plan(member.contract.signal.sample_rate, member.contract.signal, member.steps, (0, 1))


def _settings(bundles: Sequence[Bundle], ensemble: Ensemble, cut: Rows) -> Mapping[str, Any]:
    """Everything that changes a score."""
    return {
        "bundles": [[bundle.contract.fingerprint, bundle.sha256] for bundle in bundles],
        "weights": list(ensemble.weights),
        "n_classes": len(ensemble.classes),
        "row_s": cut.row_s,
        "windows": cut.windows,
        "stride_s": cut.stride_s,
        "precision": "f32",
        "bcsed": __version__,
    }


def _priors(bundles: Sequence[Bundle], ensemble: Ensemble) -> Array:
    return ensemble.mean([np.asarray([bundle.priors], np.float32) for bundle in bundles]).reshape(-1)


def _write(result: Result, journal: Journal, sample_submission: str | Path | None) -> None:
    with rows.replacing(journal.folder / "problems.csv") as temporary:
        result.problems.to_csv(temporary, index=False)
    if len(result.scores):
        rows.write_submission(
            result.scores, journal.folder / "submission.csv", sample_submission, constant=result.silent
        )
    journal.describe(
        {
            "settings": journal.settings,
            "n_recordings": result.n_recordings,
            "n_failed": result.n_failed,
            "n_resumed": result.n_resumed,
            "n_rows": len(result.scores),
            "seconds": round(result.seconds, 2),
        }
    )


__all__ = ["Result", "Rows", "pool_rows", "predict", "score_recording"]
