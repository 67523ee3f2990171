"""The scoring notebook: rehearsal or rerun with the same code, and a submission that is checked before the end.

While a notebook is saved, ``test_soundscapes`` contains no recording; the first training soundscapes are scored
instead, and the time for all test recordings is estimated. The output of the scoring rerun is not visible, and a
constant table would score .5 like a poor network: there, a prediction that cannot be made is an error.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..audio.headers import read_info
from ..data.competitions import Competition, detect_competition, read_taxa
from ..errors import ConfigError, DataError
from ..files import atomic_write
from ..recordings import AUDIO_SUFFIXES, is_hidden, printable
from ..scores.checks.ids import split_row_id
from ..scores.table import check_submission, read_table, row_ids
from .inputs import COMPETITION, Log, find_input, find_members, kaggle_root
from .notebooks import SubmitSettings

if TYPE_CHECKING:
    from ..models.ensemble import Member
    from ..predict import Result

RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
RUN_TYPE_VARIABLE = "KAGGLE_KERNEL_RUN_TYPE"
# Recordings of the hidden test sets; for other competitions the larger number.
_FULL_COUNTS: Mapping[str, int] = {"birdclef-2025": 700, "birdclef-2026": 600}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """The outcome of a scoring notebook."""

    path: Path  # the checked ``submission.csv``
    rerun: bool  # whether test recordings were scored, not training soundscapes
    n_recordings: int
    n_failed: int
    n_rows: int
    seconds: float  # of scoring
    full_s: float  # estimate for all test recordings, from the start of the process
    left_out: tuple[str, ...]  # views that the time budget did not allow


def _clear(working: Path, tables: Sequence[str]) -> None:
    """Remove the results of an earlier call in this session, which must not be taken for those of this one."""
    path = working / "submission.csv"
    if any((working / table).resolve() == path.resolve() for table in tables):
        raise ConfigError("the table submission.csv would be replaced by the submission; write it under another name.")
    path.unlink(missing_ok=True)
    shutil.rmtree(working / "scores", ignore_errors=True)


def submit(settings: SubmitSettings, *, root: str | Path | None = None, log: Log = _log.info) -> Submission:
    """Score the test recordings, or in a rehearsal the first training soundscapes, and write ``submission.csv``.

    Arguments as for `bcsed.kaggle.train`. No submission is written, and an error raised, if an input is not attached,
    bundles that were not named have different classes, nothing could be scored, or the submission is invalid.
    """
    from ..models.ensemble import load_member
    from ..predict import Budget, OutputOptions, RunOptions, Windowing, from_bundles, predict
    from ..scores.postprocess import parse_stages, parse_weights

    if settings.rehearse < 1:
        raise ConfigError(f"a rehearsal needs at least one soundscape, got {settings.rehearse}.")
    home = kaggle_root(root)
    working = home / "working"
    _clear(working, settings.tables)
    data = find_input(COMPETITION, settings.competition, root=home, log=log)
    competition = detect_competition(data)
    recordings, rerun = select_recordings(data, competition, settings.rehearse, log)
    template = data / competition.sample_submission_csv
    paths = find_members(settings.bundles, settings.tables, root=home, log=log)
    members = [load_member(path, settings.missing_rows) for path in paths]
    output = OutputOptions(
        formats=(),
        taxa=read_taxa(data, competition),
        row_id=competition.row_id,
        sample_submission=template,
        on_error="fill",
        fill_s=competition.recording_s,
    )
    columns = output.template_columns() or []
    _check_classes(members, columns, template, log, named=bool(settings.bundles))
    classes = [member.classes for member in members]
    weights = parse_weights(settings.weights, settings.class_weights, classes, output.taxa)
    result = predict(
        from_bundles(members, weights, mean=settings.ensemble_mean, classes=columns, precision=settings.precision),
        recordings,
        out=working / "scores",
        windowing=Windowing(
            row_s=competition.row_s,
            windows=settings.windows,
            stride_s=settings.stride_s,
            shifts_s=tuple(settings.tta_shifts_s),
            pool=settings.pool,
        ),
        stages=parse_stages(settings.postprocess),
        output=output,
        options=RunOptions(jobs=settings.jobs),
        budget=Budget(minutes=settings.budget_min, clock_start_s=_clock_start_s()),
        log=log,
    )
    log_problems(result, log)
    path = working / "submission.csv"
    write_checked(result, path, columns, expected_rows(recordings, competition, log), log)
    return Submission(
        path=path,
        rerun=rerun,
        n_recordings=result.n_recordings,
        n_failed=result.n_failed,
        n_rows=len(result.scores),
        seconds=result.seconds,
        full_s=_estimate_full_s(result, competition, log, rerun=rerun, budget_min=settings.budget_min),
        left_out=tuple(result.left_out),
    )


def select_recordings(data: Path, competition: Competition, rehearse: int, log: Log) -> tuple[list[Path], bool]:
    """Return the recordings to score, and whether they are those of the test set."""
    test_dir, soundscapes_dir = data / competition.test_dir, data / competition.soundscapes_dir
    test = _list_recordings(test_dir)
    if test:
        log(f"scoring: {len(test)} test recordings in {test_dir}")
        return test, True
    if os.environ.get(RERUN_VARIABLE, "").strip().lower() not in ("", "0", "false", "no"):
        raise DataError(
            f"this is the scoring rerun ({RERUN_VARIABLE} is set), but {test_dir} contains no recording; nothing is "
            "written, because a constant table would score .5 like a poor network."
        )
    train = _list_recordings(soundscapes_dir)[:rehearse]
    if not train:
        raise DataError(
            f"{test_dir} contains no recording, and {soundscapes_dir} none for a rehearsal; attach all of the "
            "competition's data."
        )
    log(
        f"rehearsal: {test_dir} contains no recording, as always before the scoring rerun; the first {len(train)} of "
        f"{soundscapes_dir} are scored by the same code"
    )
    return train, False


def write_checked(result: Result, path: Path, columns: Sequence[str], rows: Sequence[str], log: Log) -> None:
    """Write a submission with these columns and rows; read it back and check it."""
    if result.n_failed >= result.n_recordings or not len(result.scores):
        reason = result.failures["reason"].iloc[0] if len(result.failures) else "no reason was recorded"
        raise DataError(
            f"none of {result.n_recordings} recordings could be scored ({reason}); no submission is written, because a "
            "constant table would score .5 like a poor network."
        )
    table = _fill_rows(result.scores, rows, log)
    filled = {Path(name).stem for name in result.failures["recording"]} | set(result.silent)
    with atomic_write(path) as temporary:
        table.loc[list(rows), list(columns)].to_csv(temporary, index_label="row_id")
        validate(temporary, rows, columns, filled=filled, name=path.name)
    log(f"{path}: {len(rows)} rows, {len(columns)} classes; read back and valid")


def validate(
    path: Path, rows: Sequence[str], columns: Sequence[str], *, filled: Collection[str] = (), name: str = ""
) -> None:
    """Read a submission as Kaggle does, and raise DataError if it is invalid or constant.

    `rows` and `columns` are required, in order. `filled` are stems of recordings whose rows may be identical, because
    they were filled or are silent; `name` is the name in messages.
    """
    check_submission(read_table(path), columns, rows, constant=filled, max_broadcast=0.5, where=name or str(path))


def expected_rows(recordings: Sequence[Path], competition: Competition, log: Log) -> list[str]:
    """Return the required row ids: ceil(duration / row) of each recording.

    A recording that is longer than the competition's by less than one row has their number of rows.
    """
    ids: list[str] = []
    for path in recordings:
        try:
            duration_s = read_info(path).duration_s
        except DataError:
            # The rows of an unreadable recording were filled; assume the usual duration.
            duration_s = float(competition.recording_s)
        excess_s = duration_s - competition.recording_s
        count = int(np.ceil(round(duration_s / competition.row_s, 6)))
        if 0 < excess_s < competition.row_s:
            count = competition.recording_s // competition.row_s
        if abs(excess_s) > 1e-3:
            log(f"{path.name} lasts {duration_s:.4g} s and not {competition.recording_s}: it has {count} rows")
        ids += row_ids(printable(path.stem), count, competition.row_s, competition.row_id)
    return ids


def _fill_rows(table: pd.DataFrame, rows: Sequence[str], log: Log) -> pd.DataFrame:
    """Return a table with all rows; a missing row gets the mean of its recording, or of all recordings."""
    missing = [row_id for row_id in rows if row_id not in table.index]
    if not missing:
        return table
    log(f"{len(missing)} of {len(rows)} rows were not scored, {missing[0]!r} first; they get their recording's mean")
    means = table.groupby([split_row_id(row_id)[0] for row_id in table.index]).mean()
    stems = [split_row_id(row_id)[0] for row_id in missing]
    added = [means.loc[stem] if stem in means.index else table.mean() for stem in stems]
    filled: pd.DataFrame = pd.concat([table, pd.DataFrame(added, index=missing)])
    return filled


def _list_recordings(folder: Path) -> list[Path]:
    files = (path for path in folder.glob("*") if path.suffix.lower() in AUDIO_SUFFIXES)
    return sorted(path for path in files if not is_hidden(path))


def _clock_start_s() -> float:
    """Return the age of this process at which the budget starts: an interactive session may be hours old."""
    from ..predict.budget import process_age_s

    return process_age_s() if os.environ.get(RUN_TYPE_VARIABLE) == "Interactive" else 0.0


def _check_classes(members: Sequence[Member], columns: Sequence[str], template: Path, log: Log, *, named: bool) -> None:
    """Refuse bundles of another competition, and bundles that were not named and have different classes."""
    from ..models.ensemble import split_members

    bundles, tables = split_members(members)
    for table in tables:
        if unknown := sorted(set(table.classes) - set(columns)):
            log(f"{table.path}: {len(unknown)} columns are not in {template.name}, {unknown[0]!r} first; not used")
    for bundle in bundles:
        unknown = sorted(set(bundle.contract.classes) - set(columns))
        if unknown:
            raise DataError(
                f"{bundle.path} has the class {unknown[0]!r} ({len(unknown)} such classes), which {template} does not "
                "have; it was trained for another competition."
            )
        different = sorted(set(bundle.contract.classes) ^ set(bundles[0].contract.classes))
        if different and not named:
            raise DataError(
                f"{bundles[0].path} and {bundle.path} have different classes: only one of them has {different[0]!r}; "
                "name the bundles to use, or attach only those."
            )
        if [name for name in columns if name in bundle.contract.classes] != list(bundle.contract.classes):
            log(f"{template.name} has its columns in another order than {bundle.name}; they are matched by name")


def log_problems(result: Result, log: Log) -> None:
    """Log the first failures and notes of a prediction, and what was left out."""
    for failure in result.failures.head(20).itertuples():
        log(f"{failure.status}: {failure.recording}: {failure.reason}")
    for note in result.notes.head(20).itertuples():
        log(f"note: {note.recording}: {note.note}")
    for sentence in result.left_out:
        log(f"left out: {sentence}")


def _estimate_full_s(result: Result, competition: Competition, log: Log, *, rerun: bool, budget_min: float) -> float:
    """Log and return the time that all test recordings take, from the start of the process."""
    from ..predict.budget import process_age_s

    age_s = process_age_s()
    before_s = max(0.0, age_s - result.seconds)
    count = result.n_recordings if rerun else _FULL_COUNTS.get(competition.name, 700)
    full_s = before_s + result.seconds * count / result.n_recordings
    status = Path("/proc/self/status")
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    memory = f"peak memory {int(match[1]) / 2**20 if match else float('nan'):.1f} GiB"
    if rerun:
        log(f"scored {count} recordings in {result.seconds:.0f} s; {age_s / 60:.1f} min since the start; {memory}")
    else:
        fits = "which fits" if full_s <= 60 * budget_min else "so the budget would leave out some views"
        log(
            f"rehearsal: {result.n_recordings} recordings in {result.seconds:.0f} s, {before_s:.0f} s after the start; "
            f"{count} would take {full_s / 60:.1f} min of {budget_min:g}, {fits}; {memory}"
        )
    return full_s
