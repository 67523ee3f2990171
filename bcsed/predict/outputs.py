"""Write the files of a run: the submission, wide scores, detections, frames, members' scores."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..config.strict import one_of
from ..errors import ConfigError, DataError
from ..files import as_path, atomic_write, read_errors
from ..recordings import printable
from ..scores import detections, postprocess
from ..scores.table import ROW_ID, SCORES, SUBMISSION, open_submission, read_parquet, read_table
from .assemble import RecordingScores, ScoreAssembler
from .blocks import Frames
from .store import Recording

FORMATS = ("submission", "scores", *detections.FORMATS, "members", "frames")
FRAMES, MEMBERS, SPEARMAN = "frames", "members", "members.csv"
ON_ERROR = ("report", "fill")
# Rows of one row group of a Parquet file.
_GROUP = 4096


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The files of a prediction, their form, and the treatment of unreadable recordings.

    `formats` are ``submission`` (``submission.csv``), ``scores`` (``scores.parquet``, a column per class), detections
    as ``raven``, ``audacity``, ``csv`` and ``parquet``, ``members`` (each member's own scores, and their rank
    correlations) and ``frames`` (the network's time steps, as Parquet parts). Without formats, only the finished
    recordings and the manifest are written. Unreadable recordings are listed in ``failures.csv``.
    """

    formats: tuple[str, ...] = ("submission",)
    detection: detections.DetectionSettings = field(default_factory=detections.DetectionSettings)
    species: detections.SpeciesList | None = None  # other classes are not detected; their scores are written
    names: Mapping[str, detections.ClassName] | None = None  # see `bcsed.scores.detections.read_taxonomy`
    taxa: Mapping[str, str] = field(default_factory=dict)  # taxonomic class of each class, for post-processing
    row_id: str = ROW_ID  # form of a row id, with ``{stem}`` (the recording's name) and ``{end}`` (second)
    sample_submission: str | Path | None = None  # the competition's template; it sets the columns and their order
    on_error: str = "report"  # unreadable recordings get no rows; 'fill': rows of class priors
    fill_s: int = 60  # duration assumed for a recording with an unreadable header

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise ConfigError(f"formats are {', '.join(FORMATS)}; got {unknown[0]!r}.")
        one_of(self, "on_error", ON_ERROR)

    def template_columns(self) -> list[str] | None:
        """Return the classes of the sample submission, or None without one."""
        return None if self.sample_submission is None else list(map(str, read_table(self.sample_submission).columns))


def write(
    assembler: ScoreAssembler,
    folder: Path,
    output: OutputOptions,
    template: Sequence[str] | None,
    on_scores: Callable[[RecordingScores], None],
) -> Counter[str]:
    """Write the row formats of a run, with one recording in memory at a time.

    Returns the number of detections of each class that the list of species removed. `on_scores` is called with each
    recording too, so that nothing has to be read twice. DataError if a submission would repeat one value over a
    recording's rows, or a file cannot be written, after all others are written.
    """
    removed = Counter[str]()
    constant, row_s = set[str](), assembler.run.spec.row_s
    frontends = assembler.run.spec.averaging.frontends
    fmin_hz, fmax_hz = min((s.fmin_hz for s in frontends), default=0.0), (s.fmax_hz for s in frontends)
    band = {"fmin_hz": fmin_hz, "fmax_hz": max(fmax_hz, default=float("inf"))}
    failures: list[str] = []
    with ExitStack() as stack:
        tables, wide = list[_Guarded](), list[_Guarded]()
        if "submission" in output.formats:
            tables.append(_Guarded(stack, open_submission(folder / SUBMISSION, template, constant=constant), failures))
        if "scores" in output.formats:
            wide.append(_Guarded(stack, _open_wide(folder / SCORES, assembler.classes, row_s), failures))
        formats = [name for name in output.formats if name in detections.FORMATS]
        lists = [
            _Guarded(stack, detections.write(folder, [name], names=output.names, **band), failures) for name in formats
        ]
        for scores in assembler:
            if scores.constant:
                constant.add(scores.recording.name)
            on_scores(scores)
            for each in tables:
                each.add(scores.table)
            for each in wide:
                each.add(scores)
            # Class priors are no detections.
            if lists and scores.n_samples:
                recording, lines = _detect(scores, output, row_s, removed)
                for each in lists:
                    each.add(recording, lines)
        for each in (*tables, *wide, *lists):
            each.close()
    if failures:
        others = ["All other files are written."] if len(output.formats) > len(failures) else []
        raise DataError(" ".join([*failures, *others]))
    return removed


class _Guarded:
    """A writer whose failure does not keep others from writing; the reason is added to `failures`."""

    def __init__(self, stack: ExitStack, writer: AbstractContextManager[Any], failures: list[str]) -> None:
        self._own, self._failures = stack.enter_context(ExitStack()), failures
        self._add: Callable[..., None] | None = None
        with self._guard():
            self._add = self._own.enter_context(writer)

    def add(self, *values: Any) -> None:
        if self._add is not None:
            with self._guard():
                self._add(*values)

    def close(self) -> None:
        with self._guard():
            self._own.close()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (DataError, OSError) as error:
            self._failures.append(str(error))
            self._add = None
            # The partial file is removed.
            with suppress(DataError, OSError):
                self._own.__exit__(type(error), error, None)


def _detect(
    scores: RecordingScores, output: OutputOptions, row_s: int, removed: Counter[str]
) -> tuple[detections.Recording, pd.DataFrame]:
    path, name, n_samples = printable(scores.recording.path), scores.recording.name, scores.n_samples
    recording = detections.Recording(path=path, name=name, n_samples=n_samples, sample_rate=scores.sample_rate)
    lines = detections.detect(scores.table, [recording], output.detection, row_s=row_s)
    if output.species is not None:
        permitted = lines["label"].isin(output.species.classes_of(scores.recording.path))
        removed.update(lines["label"][~permitted])
        lines = lines[permitted].reset_index(drop=True)
    return recording, lines


@contextmanager
def _open_wide(path: Path, classes: Sequence[str], row_s: int) -> Iterator[Callable[[RecordingScores], None]]:
    """Yield a function that adds recordings to a Parquet table of rows, which is written atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("row_id", pa.string()), ("recording", pa.string()), ("start_s", pa.int32()), ("end_s", pa.int32())]
    schema = pa.schema([*fields, *((name, pa.float32()) for name in classes)])
    waiting: list[pd.DataFrame] = []
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_pandas(pd.concat(waiting), schema, preserve_index=False))
                waiting.clear()

        def add(scores: RecordingScores) -> None:
            table, path = scores.table, printable(scores.recording.path)
            ends = row_s * np.arange(1, len(table) + 1)
            rows = pd.DataFrame({"row_id": table.index, "recording": path, "start_s": ends - row_s, "end_s": ends})
            waiting.append(pd.concat([rows, table.reset_index(drop=True)], axis=1))
            if sum(map(len, waiting)) >= _GROUP:
                flush()

        yield add
        flush()


def frames_writer(folder: Path, classes: Sequence[str]) -> Callable[[Sequence[tuple[Recording, Frames]]], None]:
    """Return a function that writes some recordings' frames as one part of the data set ``frames/``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write_part(recordings: Sequence[tuple[Recording, Frames]]) -> None:
        paths, starts, ends = [], [], []
        for recording, frames in recordings:
            # Products of integers, so that times do not drift.
            edges = np.arange(frames.first, frames.first + len(frames.values) + 1) * frames.step_s.numerator
            paths += [printable(recording.path)] * len(frames.values)
            starts.append(edges[:-1] / frames.step_s.denominator)
            ends.append(edges[1:] / frames.step_s.denominator)
        values = np.concatenate([frames.values for _, frames in recordings])
        table = {
            "recording": pa.array(paths),
            "start_s": pa.array(np.concatenate(starts)),
            "end_s": pa.array(np.concatenate(ends)),
            **{name: pa.array(np.ascontiguousarray(values[:, k])) for k, name in enumerate(classes)},
        }
        with atomic_write(folder / FRAMES / f"{recordings[0][0].key}.parquet") as temporary:
            pq.write_table(pa.table(table), temporary, compression="zstd")

    return write_part


def drop_replaced_frames(folder: Path) -> None:
    """Remove the frames of recordings that a later part of ``frames/`` has again, because their files were replaced."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    later = pa.array([], pa.string())
    parts = sorted(folder.joinpath(FRAMES).glob("*.parquet"), key=lambda path: path.stat().st_mtime, reverse=True)
    for part in parts:
        with part.open("rb") as stream:  # pyarrow opens no remote paths
            names = pq.read_table(stream, columns=["recording"])["recording"].unique()
        if pc.any(pc.is_in(names, later)).as_py():
            with part.open("rb") as stream:
                table = pq.read_table(stream)
            kept = table.filter(pc.invert(pc.is_in(table["recording"], later)))
            if kept.num_rows:
                with atomic_write(part) as temporary:
                    pq.write_table(kept, temporary, compression="zstd")
            else:
                part.unlink()
        later = pa.concat_arrays([later, names.cast(pa.string())])


def write_members(assembler: ScoreAssembler, folder: Path, labels: Sequence[str]) -> pd.DataFrame:
    """Write each member's own scores and the rank correlations between them; return these.

    Unlike the other formats this one holds all rows of all members in memory.
    """
    tables = {}
    for index, label in enumerate(labels):
        name = f"{index + 1}-{re.sub(r'[^A-Za-z0-9._-]', '_', label)}"
        tables[name] = assembler.member(index)
        with atomic_write(folder / MEMBERS / f"{name}.parquet") as temporary:
            tables[name].reset_index().to_parquet(temporary, index=False)
    for file in (folder / MEMBERS).glob("*.parquet"):
        if file.name.removesuffix(".parquet") not in tables:
            file.unlink()  # of an earlier call, when a member had another name
    matrix = postprocess.spearman(tables)
    with atomic_write(folder / SPEARMAN) as temporary:
        matrix.to_csv(temporary, index_label="member")
    return matrix


def read_members(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read the members' scores of a prediction folder, by name of the member; DataError if none, or damaged."""
    folder = as_path(folder)
    files = sorted((folder / MEMBERS).glob("*.parquet"), key=lambda path: int(path.name.split("-")[0]))
    if not files:
        raise DataError(f"{folder} contains no members' scores; predict with --format members to write them.")
    members = {}
    for path in files:
        table = read_parquet(path)
        with read_errors(path, "a member's scores"):
            members[path.stem] = table.set_index("row_id")
    return members
