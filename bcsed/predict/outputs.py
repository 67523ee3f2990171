"""A run's rows -> files: the submission, wide scores, detections, frames, members."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..errors import ConfigError, DataError
from ..files import as_path, atomic_write, read_errors
from ..models.backends import Array
from ..scores import detections, postprocess
from ..scores.table import ROW_ID, open_submission, read_parquet, read_table
from .assemble import RecordingScores, ScoreAssembler
from .frames import Frames
from .run import Recording

FORMATS = ("submission", "scores", *detections.FORMATS, "members", "frames")
SUBMISSION, SCORES, FRAMES, MEMBERS, SPEARMAN = "submission.csv", "scores.parquet", "frames", "members", "members.csv"
ON_ERROR = ("report", "fill")
# Rows of one group of a Parquet file.
_GROUP = 4096


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The files of a prediction, their form, and the treatment of unreadable recordings.

    Parameters
    ----------
    formats : tuple of str
        ``submission`` (``submission.csv``), ``scores`` (``scores.parquet``, a column per class), detections as
        ``raven``, ``audacity``, ``csv`` and ``parquet``, ``members`` (each member's own scores, and their rank
        correlations), ``frames`` (the network's time steps, as Parquet parts). Empty: only the finished
        recordings and the manifest are written.
    detection : DetectionSettings
        Thresholds and merging of detections.
    names : mapping of str to ClassName, optional
        Scientific and common names, see `bcsed.scores.detections.read_taxonomy`.
    taxa : mapping of str to str
        The taxonomic class of each class, for post-processing that depends on it.
    row_id : str
        Form of a row id, with ``{stem}`` (the recording's name) and ``{end}`` (second).
    sample_submission : str or Path, optional
        The competition's template; it sets the columns and their order.
    on_error : {'report', 'fill'}
        Unreadable recordings get no rows, or rows of class priors. Both are listed in ``failures.csv``.
    fill_s : int
        Duration (s) assumed for a recording with an unreadable header.
    """

    formats: tuple[str, ...] = ("submission",)
    detection: detections.DetectionSettings = field(default_factory=detections.DetectionSettings)
    names: Mapping[str, detections.ClassName] | None = None
    taxa: Mapping[str, str] = field(default_factory=dict)
    row_id: str = ROW_ID
    sample_submission: str | Path | None = None
    on_error: str = "report"
    fill_s: int = 60

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown:
            raise ConfigError(f"formats are {', '.join(FORMATS)}; got {unknown[0]!r}.")
        if self.on_error not in ON_ERROR:
            raise ConfigError(f"on_error must be one of {', '.join(ON_ERROR)}; got {self.on_error!r}.")

    def template_columns(self) -> list[str] | None:
        """Return the classes of the sample submission, or None without one."""
        if self.sample_submission is None:
            return None
        return [str(name) for name in read_table(self.sample_submission).columns]


def write(
    table: ScoreAssembler,
    folder: Path,
    wanted: OutputOptions,
    template: Sequence[str] | None,
    view: Callable[[RecordingScores], None],
) -> int:
    """Write what is wanted of a run, holding one recording at a time; return the number of rows.

    `view` is shown each recording too, so that nothing has to be read twice.

    Raises
    ------
    DataError
        If a submission would repeat one answer over a recording's rows, or the disk refuses.
    """
    n_rows, constant = 0, set[str]()
    row_s = table.drive.wanted[0].windowing.row_s
    with ExitStack() as stack:
        adds: list[Callable[[RecordingScores], None]] = [view]
        if "submission" in wanted.formats:
            add_rows = stack.enter_context(open_submission(folder / SUBMISSION, template, constant=constant))
            adds.append(lambda scored: add_rows(scored.table))
        if "scores" in wanted.formats:
            add_wide = stack.enter_context(wide(folder / SCORES, table.order))
            adds.append(lambda scored: add_wide(scored.recording, scored.table, row_s))
        lines = [name for name in dict.fromkeys(wanted.formats) if name in detections.FORMATS]
        if lines:
            frontends = table.drive.ensemble.frontends
            band = {"fmin_hz": min(s.fmin_hz for s in frontends), "fmax_hz": max(s.fmax_hz for s in frontends)}
            add_lines = stack.enter_context(detections.write(folder, lines, names=wanted.names, **band))
            adds.append(lambda scored: _detect(scored, add_lines, wanted.detection, row_s))
        for scored in table:
            n_rows += len(scored.table)
            if scored.constant:
                constant.add(scored.recording.name)
            for add in adds:
                add(scored)
    return n_rows


def _detect(scored: RecordingScores, add: detections.Writer, chosen: detections.DetectionSettings, row_s: int) -> None:
    if not scored.n_samples:
        # Filled rows say nothing of what was heard.
        return
    one = detections.Recording(
        path=str(scored.recording.path),
        name=scored.recording.name,
        n_samples=scored.n_samples,
        sample_rate=scored.sample_rate,
    )
    add(one, detections.detect(scored.table, [one], chosen, row_s=row_s))


@contextmanager
def wide(path: Path, classes: Sequence[str]) -> Iterator[Callable[[Recording, pd.DataFrame, int], None]]:
    """Give a function that adds recordings to a Parquet table of rows, whole or not at all.

    Its columns are ``row_id``, ``recording`` (the path), ``start_s``, ``end_s`` and the classes (float32).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = [("row_id", pa.string()), ("recording", pa.string()), ("start_s", pa.int32()), ("end_s", pa.int32())]
    schema = pa.schema([*told, *((name, pa.float32()) for name in classes)])
    waiting: list[pd.DataFrame] = []
    with atomic_write(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:

        def flush() -> None:
            if waiting:
                writer.write_table(pa.Table.from_pandas(pd.concat(waiting), schema, preserve_index=False))
                waiting.clear()

        def add(recording: Recording, table: pd.DataFrame, row_s: int) -> None:
            ends = row_s * np.arange(1, len(table) + 1)
            about = {"row_id": table.index, "recording": str(recording.path), "start_s": ends - row_s, "end_s": ends}
            waiting.append(pd.concat([pd.DataFrame(about), table.reset_index(drop=True)], axis=1))
            if sum(map(len, waiting)) >= _GROUP:
                flush()

        yield add
        flush()


def frames_writer(folder: Path, classes: Sequence[str]) -> Callable[[Sequence[tuple[Recording, Frames]]], None]:
    """Return a function that writes some recordings' frames as one part of the data set ``frames/``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def keep(found: Sequence[tuple[Recording, Frames]]) -> None:
        columns: dict[str, list[Any]] = {name: [] for name in ("recording", "start_s", "end_s")}
        values: list[Array] = []
        for one, frames in found:
            steps = np.arange(frames.first, frames.first + len(frames.values))
            length = frames.step_s
            # A product of whole numbers each, so that nothing drifts.
            starts = steps * length.numerator / length.denominator
            columns["recording"] += [str(one.path)] * len(steps)
            columns["start_s"].append(starts)
            columns["end_s"].append((steps + 1) * length.numerator / length.denominator)
            values.append(frames.values)
        heard = np.concatenate(values)
        table = {
            "recording": pa.array(columns["recording"]),
            **{name: pa.array(np.concatenate(columns[name])) for name in ("start_s", "end_s")},
            **{name: pa.array(np.ascontiguousarray(heard[:, k])) for k, name in enumerate(classes)},
        }
        with atomic_write(folder / FRAMES / f"{found[0][0].key}.parquet") as temporary:
            pq.write_table(pa.table(table), temporary, compression="zstd")

    return keep


def write_members(table: ScoreAssembler, folder: Path, labels: Sequence[str]) -> pd.DataFrame:
    """Write each member's own scores and the rank correlations between them; return these.

    Unlike the other formats this one holds all rows of all members in memory.
    """
    tables = {}
    for place, label in enumerate(labels):
        name = f"{place + 1}-{re.sub(r'[^A-Za-z0-9._-]', '_', label)}"
        own = table.member(place)
        tables[name] = own
        with atomic_write(folder / MEMBERS / f"{name}.parquet") as temporary:
            own.reset_index().to_parquet(temporary, index=False)
    matrix = postprocess.spearman(tables)
    with atomic_write(folder / SPEARMAN) as temporary:
        matrix.to_csv(temporary, index_label="member")
    return matrix


def read_members(folder: str | Path) -> dict[str, pd.DataFrame]:
    """Read what `write_members` wrote: name of a member -> its score table.

    Raises
    ------
    DataError
        If there are none, or they are damaged.
    """
    folder = as_path(folder)
    files = sorted((folder / MEMBERS).glob("*.parquet"), key=lambda path: int(path.name.split("-")[0]))
    if not files:
        raise DataError(f"{folder} holds no members' scores; predict with --format members to keep them.")
    members = {}
    for path in files:
        table = read_parquet(path)
        with read_errors(path, "a member's scores"):
            members[path.stem] = table.set_index("row_id")
    return members


def write_problems(folder: Path, failures: pd.DataFrame, notes: pd.DataFrame) -> None:
    """Write what could not be scored, and what was scored although something was wrong with it."""
    for name, table in (("failures.csv", failures), ("notes.csv", notes)):
        with atomic_write(folder / name) as temporary:
            table.to_csv(temporary, index=False)
