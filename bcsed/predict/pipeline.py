"""The road of one prediction: recordings in, finished parts out, a bounded number of blocks on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import audio
from ..ensemble import Array, Ensemble
from ..errors import DataError
from ..spectrogram import LogMel
from ..windows import n_rows
from .journal import Journal, Part
from .rowscore import Collector, Pictures, Rows, blocks, picture_block, pool_block, submit_block


@dataclass
class Run:
    """The state of one prediction."""

    ensemble: Ensemble
    cut: Rows
    journal: Journal | None
    on_error: str
    fill_s: int
    priors: Array
    parts: dict[Path, Part] = field(default_factory=dict)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    n_resumed: int = 0

    def score(self, paths: Sequence[Path], jobs: int) -> Iterator[int]:
        """Score all recordings, yielding how many are done each time one is."""
        mels = {signal: LogMel(signal) for signal in self.ensemble.signals}
        waiting: deque[Open] = deque()
        n_done = 0
        with _pool(jobs) as start:
            feed = self._blocks(paths)
            while True:
                # Pictures of a few blocks ahead keep the network busy, and no more than that in memory.
                while len(waiting) < jobs + 2 and (item := next(feed, None)) is not None:
                    if item.block is not None and item.found is not None:
                        item.pictures = start(picture_block, item.found, self.ensemble, self.cut, item.block, mels)
                    waiting.append(item)
                if not waiting:
                    return
                self._submit(waiting)
                item = waiting.popleft()
                self._close(item)
                if item.last:
                    n_done += 1
                    yield n_done

    def _blocks(self, paths: Sequence[Path]) -> Iterator[Open]:
        for path in paths:
            try:
                found = audio.info(path)
            except DataError as error:
                yield Open(path, failure=str(error))
                continue
            part = self.journal.read(found) if self.journal is not None else None
            if part is not None:
                self.n_resumed += 1
                yield Open(path, found, part=part)
                continue
            cuts = list(blocks(found, self.ensemble, self.cut))
            gathered = Gathered()
            for block in cuts:
                yield Open(path, found, block, last=block is cuts[-1], gathered=gathered)

    def _submit(self, waiting: deque[Open]) -> None:
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

    def _close(self, item: Open) -> None:
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


@dataclass
class Gathered:
    """What the blocks of one recording have come to so far."""

    scores: list[Array] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    silent: bool = True
    failure: str = ""


@dataclass
class Open:
    """A block under way, or a recording that needs no work."""

    path: Path
    found: audio.Info | None = None
    block: tuple[int, int] | None = None
    last: bool = True
    failure: str = ""
    part: Part | None = None
    gathered: Gathered = field(default_factory=Gathered)
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
def one_torch_thread() -> Iterator[None]:
    """Keep torch's own threads from fighting with ours and OpenVINO's.

    They would also round sums differently, so that `jobs` could be told from the scores.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
