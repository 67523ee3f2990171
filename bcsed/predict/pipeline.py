"""Score recordings in one pass, with a bounded number of blocks in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..audio.decode import AudioReader
from ..audio.headers import AudioInfo, explain, read_info
from ..audio.windows import count_rows
from ..errors import DataError
from ..models.backends import Array
from ..models.ensemble import Ensemble
from ..recordings import printable
from .blocks import (
    BLOCK_ROWS,
    BlockSpectrograms,
    Frames,
    PendingBlock,
    compute_spectrograms,
    frame_block,
    make_mels,
    pool_block,
    row_blocks,
    submit_block,
)
from .spec import View
from .store import Recording, StoredScores, recording_key

# Timeout (s) before checking whether a window was lost.
PATIENCE_S = 30


@dataclass(frozen=True)
class RecordingOutcome:
    """The scores of one recording, or the reason why it could not be scored."""

    recording: Recording
    scores: StoredScores | None = None
    frames: Frames | None = None
    failure: str = ""


@dataclass
class RecordingProgress:
    """One recording in the pipeline, and the results of its blocks so far."""

    recording: Recording
    info: AudioInfo | None = None  # None if the header is unreadable
    reader: AudioReader | None = None
    scores: list[list[Array]] = field(default_factory=list)
    frames: list[Frames] = field(default_factory=list)
    notes: dict[str, None] = field(default_factory=dict)
    silent: bool = True
    ended: bool = False  # before the header's end
    failure: str = ""
    is_reported: bool = False  # its outcome was yielded

    @property
    def is_over(self) -> bool:
        """Whether no further block is needed."""
        return self.ended or bool(self.failure)


@dataclass
class BlockTask:
    """A block in the pipeline, or a recording without blocks."""

    progress: RecordingProgress
    block: tuple[int, int] = (0, 0)
    is_last: bool = True
    future: Future[BlockSpectrograms] | None = None
    pending: PendingBlock | None = None


@dataclass
class ScoringPipeline:
    """Computes some views of some recordings."""

    ensemble: Ensemble
    views: Sequence[View]
    jobs: int = 2  # threads that decode and compute spectrograms; 0 does everything in the calling thread
    frames: bool = False  # return the probabilities of each time step too
    stop: Callable[[], bool] = lambda: False  # called before each block; True abandons the unfinished recordings

    def __post_init__(self) -> None:
        members = [self.ensemble.members[view.member] for view in self.views]
        self._mels = make_mels({member.contract.frontend for member in members})
        # Windows that keep every member busy.
        self._max_in_flight = max(member.max_in_flight for member in members)

    def score(self, recordings: Iterable[Recording]) -> Iterator[RecordingOutcome]:
        """Score recordings, in their order."""
        waiting: deque[BlockTask] = deque()
        with _thread_pool(self.jobs) as start, self._all_finished():
            tasks = self._tasks(recordings)
            while True:
                if self.stop():
                    # Submitted windows are finished; no others are submitted.
                    waiting = deque(task for task in waiting if task.pending is not None)
                    tasks = iter(())
                # Spectrograms of a few blocks ahead keep the network busy, and memory bounded.
                while self._has_room(waiting) and (task := next(tasks, None)) is not None:
                    info, reader = task.progress.info, task.progress.reader
                    if info is not None and task.block[1]:
                        arguments = (info, self.ensemble, self.views, task.block, self._mels, reader)
                        task.future = start(compute_spectrograms, *arguments)
                    waiting.append(task)
                if not waiting:
                    return
                self._submit(waiting)
                task = waiting.popleft()
                self._collect(task)
                if not task.progress.is_reported and (task.is_last or task.progress.is_over):
                    task.progress.is_reported = True
                    if task.progress.reader is not None:
                        task.progress.reader.close()
                    yield self._outcome(task.progress)

    def _tasks(self, recordings: Iterable[Recording]) -> Iterator[BlockTask]:
        rate, row_s = self.ensemble.averaging.frontends[0].sample_rate, self.views[0].windowing.row_s
        for recording in recordings:
            try:
                info = read_info(recording.path)
            except (DataError, OSError) as error:
                yield BlockTask(RecordingProgress(recording, failure=str(error)))
                continue
            # One block at a time: the end in a header may be far behind the real one.
            n_rows = count_rows(info.length(rate), rate, row_s)
            reader = AudioReader(info) if n_rows > BLOCK_ROWS else None
            progress = RecordingProgress(recording, info, reader)
            for block in row_blocks(info, rate, row_s):
                if progress.is_over:
                    break
                yield BlockTask(progress, block, is_last=block[1] == n_rows)

    def _has_room(self, waiting: deque[BlockTask]) -> bool:
        """Return whether another block may be started: more blocks are in memory if recordings are short."""
        n_rows = sum(task.block[1] - task.block[0] for task in waiting)
        return len(waiting) < self.jobs + 2 or n_rows < 2 * self._max_in_flight

    def _submit(self, waiting: deque[BlockTask]) -> None:
        """Submit the windows of two blocks or more, so that the network never waits for pooling."""
        n_windows = 0
        for index, task in enumerate(waiting):
            if index > 1 and n_windows >= self._max_in_flight:
                return
            if task.future is None or task.progress.is_over:
                continue
            if task.pending is None:
                try:
                    task.pending = submit_block(task.future.result(), self.ensemble, self.views)
                except DataError as error:
                    task.progress.failure = str(error)
                    continue
            n_windows += sum(len(plan.starts) for plan in task.pending.spectrograms.plans)

    def _collect(self, task: BlockTask) -> None:
        """Add a block's outputs to its recording."""
        progress, pending = task.progress, task.pending
        if pending is None or progress.info is None:
            return
        self._await(pending)
        if progress.is_over:
            return
        n_rows = pending.spectrograms.n_rows
        progress.scores.append([scores[:n_rows] for scores in pool_block(pending, self.ensemble, self.views)])
        if self.frames:
            progress.frames.append(frame_block(pending, self.ensemble, self.views, progress.info, task.block))
        progress.notes.update(dict.fromkeys(pending.spectrograms.notes))
        progress.silent &= pending.spectrograms.silent
        # A truncated file ends before the end in its header, and so do its rows.
        progress.ended = n_rows < task.block[1] - task.block[0]

    def _outcome(self, progress: RecordingProgress) -> RecordingOutcome:
        """Join the blocks of a recording."""
        recording, info, failure = progress.recording, progress.info, progress.failure
        failure = _change(recording) or failure
        if not failure and not any(len(block[0]) for block in progress.scores):
            failure = f"{printable(recording.path)}: the file has a header but no samples."
        if failure or info is None:
            return RecordingOutcome(recording, failure=failure)
        blocks = zip(self.views, zip(*progress.scores, strict=True), strict=True)
        views = {view.name: np.concatenate(scores) for view, scores in blocks}
        silence = "contains nothing but digital silence"
        notes = (*progress.notes, *self._bandwidth(info), *((silence,) if progress.silent else ()))
        scores = StoredScores(views, notes, progress.silent, info.n_samples, info.sample_rate)
        if progress.ended:
            end = scores.n_rows * self.views[0].windowing.row_s * info.sample_rate
            scores = replace(scores, n_samples=min(info.n_samples, end))
        values = [frames.values for frames in progress.frames]
        frames = replace(progress.frames[0], values=np.concatenate(values)) if self.frames else None
        return RecordingOutcome(recording, scores, frames)

    def _bandwidth(self, info: AudioInfo) -> Iterator[str]:
        """Yield a note if a recording cannot contain the highest bands of a front end."""
        highest = max(frontend.fmax_hz for frontend in self._mels)
        if info.sample_rate < 2 * highest:
            limit = f"contains nothing above {info.sample_rate / 2:g} Hz, half of its sample rate"
            yield f"{limit}; the network was trained on bands up to {highest:g} Hz"

    def _await(self, pending: PendingBlock) -> None:
        """Wait for a block's last window; raise RuntimeError if a window was lost."""
        for member, number in pending.last_window_of.items():
            # None of the block's windows may wait for a full batch any longer.
            self.ensemble.members[member].flush(number)
        if not pending.ready.wait(timeout=PATIENCE_S):
            self._finish()
            if not pending.ready.is_set():
                raise RuntimeError("OpenVINO accepted a window and returned no result for it.")

    @contextmanager
    def _all_finished(self) -> Iterator[None]:
        """Wait for all windows at the end.

        The last callback has given its result and may still run. OpenVINO would wait forever for a request that is
        deleted in its own callback.
        """
        try:
            yield
        finally:
            self._finish()

    def _finish(self) -> None:
        for backend in dict.fromkeys(self.ensemble.members):
            backend.finish()


def _change(recording: Recording) -> str:
    """Return a sentence if the file of a recording is not the one of the beginning of the run."""
    try:
        if not recording.key or recording.key == recording_key(recording.path):
            return ""
    except OSError as error:
        return f"{printable(recording.path)}: {explain(error)}."
    return f"{printable(recording.path)}: it was changed during the run; score it again when it is complete."


@contextmanager
def _thread_pool(jobs: int) -> Iterator[Callable[..., Future[BlockSpectrograms]]]:
    """Yield a function that starts work: in threads, or at once if `jobs` is 0."""
    if jobs:
        with ThreadPoolExecutor(jobs, thread_name_prefix="bcsed-spectrogram") as executor:
            try:
                yield executor.submit
            finally:
                executor.shutdown(wait=True, cancel_futures=True)
        return

    def run_now(function: Callable[..., BlockSpectrograms], *args: Any) -> Future[BlockSpectrograms]:
        future: Future[BlockSpectrograms] = Future()
        try:
            future.set_result(function(*args))
        except DataError as error:
            future.set_exception(error)
        return future

    yield run_now


def torch_thread(ensemble: Ensemble) -> AbstractContextManager[None]:
    """Limit torch to one thread, unless nothing needs it: neither score tables nor embeddings of waves do."""
    contracts = ensemble.averaging.contracts
    needless = all(contract.net.pool == "mean" and contract.frontend.is_wave for contract in contracts)
    return nullcontext() if needless else single_torch_thread()


@contextmanager
def single_torch_thread() -> Iterator[None]:
    """Limit torch to one thread: more would compete with the pipeline and OpenVINO, and round sums by `jobs`."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
