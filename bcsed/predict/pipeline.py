"""The road of one pass: recordings in, finished ones out, a bounded number of blocks on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.decode import AudioInfo, AudioReader, read_info
from ..audio.spectrogram import LogMel
from ..errors import DataError
from ..models.backends import Array
from ..models.ensemble import Ensemble
from .blocks import BlockSpectrograms, PendingBlock, View, blocks, compute_spectrograms, pool_block, submit_block
from .frames import Frames, frame_block
from .store import StoredScores, recording_key

# Seconds without an answer after which it is asked whether there will be one.
PATIENCE_S = 30


@dataclass(frozen=True)
class RecordingOutcome:
    """What a pass says of one recording: it was scored, or why it could not be."""

    path: Path
    key: str = ""
    part: StoredScores | None = None
    frames: Frames | None = None
    failure: str = ""


@dataclass
class ScoringPipeline:
    """Some looks at some recordings.

    Parameters
    ----------
    ensemble : Ensemble
    looks : sequence of View
    jobs : int
        Threads that decode and compute pictures; 0 does everything in the calling thread.
    frames : bool
        Whether answers of each step of time are kept beside the rows.
    stop : callable
        Asked before each block; True abandons what is not finished.
    """

    ensemble: Ensemble
    views: Sequence[View]
    jobs: int = 2
    frames: bool = False
    stop: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        frontends = {self.ensemble.members[view.place].contract.frontend for view in self.views}
        self._mels = {frontend: LogMel(frontend) for frontend in frontends}
        # Windows that keep every member busy.
        self._max_in_flight = max(self.ensemble.members[view.place].max_in_flight for view in self.views)

    def score(self, paths: Sequence[Path]) -> Iterator[RecordingOutcome]:
        """Score recordings, in their order."""
        waiting: deque[BlockTask] = deque()
        with _pool(self.jobs) as start:
            feed = self._blocks(paths)
            while True:
                if self.stop():
                    # What the network has is taken; nothing more is given to it.
                    waiting = deque(item for item in waiting if item.collector is not None)
                    feed = iter(())
                # Pictures of a few blocks ahead keep the network busy, and no more than that in memory.
                while self._room(waiting) and (item := next(feed, None)) is not None:
                    if item.block is not None and item.found is not None:
                        item.pictures = start(
                            compute_spectrograms,
                            item.found,
                            self.ensemble,
                            self.views,
                            item.block,
                            self._mels,
                            item.gathered.reader,
                        )
                    waiting.append(item)
                if not waiting:
                    return
                self._submit(waiting)
                item = waiting.popleft()
                self._close(item)
                if item.last:
                    if item.gathered.reader is not None:
                        item.gathered.reader.close()
                    yield self._finish(item)

    def _blocks(self, paths: Sequence[Path]) -> Iterator[BlockTask]:
        rate, row_s = self.ensemble.frontends[0].sample_rate, self.views[0].windowing.row_s
        for path in paths:
            try:
                found, key = read_info(path), recording_key(path)
            except (DataError, OSError) as error:
                yield BlockTask(path, failure=str(error))
                continue
            cuts = list(blocks(found, rate, row_s))
            gathered = RecordingProgress(reader=AudioReader(path) if len(cuts) > 1 else None)
            for block in cuts:
                yield BlockTask(path, key, found, block, last=block is cuts[-1], gathered=gathered)

    def _room(self, waiting: deque[BlockTask]) -> bool:
        """Say whether another block is to be opened: short recordings come in greater numbers."""
        n_rows = sum(item.block[1] - item.block[0] for item in waiting if item.block is not None)
        return len(waiting) < self.jobs + 2 or n_rows < 2 * self._max_in_flight

    def _submit(self, waiting: deque[BlockTask]) -> None:
        """Queue the windows of two blocks or more, so that the network never waits for rows being pooled."""
        n_windows = 0
        for place, item in enumerate(waiting):
            if place > 1 and n_windows >= self._max_in_flight:
                return
            if item.pictures is None or item.gathered.over:
                continue
            if item.collector is None:
                try:
                    item.drawn = item.pictures.result()
                except DataError as error:
                    item.gathered.failure = str(error)
                    continue
                item.collector = submit_block(item.drawn, self.ensemble, self.views)
            n_windows += item.collector.n_windows

    def _close(self, item: BlockTask) -> None:
        """Take a block's answers."""
        gathered, drawn = item.gathered, item.drawn
        if item.collector is None or drawn is None or item.block is None or item.found is None:
            return
        self._await(item.collector)
        if gathered.over:
            return
        answers = pool_block(item.collector, drawn, self.ensemble, self.views)
        gathered.scores.append([answer[: drawn.n_rows] for answer in answers])
        if self.frames:
            made = frame_block(item.collector, drawn, self.ensemble, self.views, item.found, item.block)
            gathered.frames.append(made)
        gathered.notes.update(dict.fromkeys(drawn.notes))
        gathered.silent &= drawn.silent
        # A file that was cut off ends before its header says, and so do its rows.
        gathered.ended = drawn.n_rows < item.block[1] - item.block[0]

    def _finish(self, item: BlockTask) -> RecordingOutcome:
        """Put a recording together, with its last block."""
        gathered = item.gathered
        failure = item.failure or gathered.failure
        if not failure and not any(len(block[0]) for block in gathered.scores):
            failure = f"{item.path}: the file holds a header but no samples."
        if failure:
            return RecordingOutcome(item.path, failure=failure)
        views = {
            view.name: np.concatenate([block[place] for block in gathered.scores])
            for place, view in enumerate(self.views)
        }
        notes = (*gathered.notes, *(("holds nothing but digital silence",) if gathered.silent else ()))
        frames = Frames.joined(gathered.frames) if self.frames else None
        part = StoredScores(views, notes, gathered.silent)
        if item.found is not None:
            rate, n_samples = item.found.sample_rate, item.found.n_samples
            if gathered.ended:
                n_samples = min(n_samples, part.n_rows * self.views[0].windowing.row_s * rate)
            part = replace(part, n_samples=n_samples, sample_rate=rate)
        return RecordingOutcome(item.path, item.key, part, frames)

    def _await(self, collector: PendingBlock) -> None:
        """Wait for a block's last answer; should a window be lost, say so rather than wait for ever."""
        for place, number in collector.last.items():
            # None of the block's windows is to wait for company any longer.
            self.ensemble.members[place].flush(number)
        if not collector.ready.wait(timeout=PATIENCE_S):
            for member in dict.fromkeys(self.ensemble.members):
                member.finish()
            if not collector.ready.is_set():
                raise RuntimeError("OpenVINO took a window and gave no answer to it.")


@dataclass
class RecordingProgress:
    """What the blocks of one recording have come to so far."""

    scores: list[list[Array]] = field(default_factory=list)
    frames: list[Frames] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    silent: bool = True
    ended: bool = False
    failure: str = ""
    reader: AudioReader | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to come from this recording."""
        return self.ended or bool(self.failure)


@dataclass
class BlockTask:
    """A block under way, or a recording that needs no work."""

    path: Path
    key: str = ""
    found: AudioInfo | None = None
    block: tuple[int, int] | None = None
    last: bool = True
    failure: str = ""
    gathered: RecordingProgress = field(default_factory=RecordingProgress)
    pictures: Future[BlockSpectrograms] | None = None
    drawn: BlockSpectrograms | None = None
    collector: PendingBlock | None = None


@contextmanager
def _pool(jobs: int) -> Iterator[Callable[..., Future[BlockSpectrograms]]]:
    """Give a function that starts work: in threads, or at once where there are none."""
    if jobs:
        with ThreadPoolExecutor(jobs, thread_name_prefix="bcsed-picture") as executor:
            try:
                yield executor.submit
            finally:
                executor.shutdown(wait=True, cancel_futures=True)
        return

    def now(function: Callable[..., BlockSpectrograms], *args: Any) -> Future[BlockSpectrograms]:
        future: Future[BlockSpectrograms] = Future()
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
