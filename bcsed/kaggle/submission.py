"""The scoring notebook: rehearsal or rerun, the same code, and a submission that is checked before the process ends.

While a notebook is saved, ``test_soundscapes`` holds no recording; then the first training soundscapes are scored
instead, and the time is carried over to the full number. In the scoring rerun nobody sees the output, and a table
that is constant would score .5 and look like a bad network: there, what cannot be scored is an error.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..audio.decode import AUDIO_SUFFIXES, read_info
from ..data.competitions import Competition, detect_competition, read_taxa
from ..errors import ConfigError, DataError
from ..files import atomic_write
from ..scores.checks.ids import split_row_id
from ..scores.table import check_submission, read_table, row_ids
from .inputs import COMPETITION, find_bundles, find_input, kaggle_root
from .markers import Log

if TYPE_CHECKING:
    from ..models.bundle.bundle import Bundle
    from ..predict.result import Result

RERUN_VARIABLE = "KAGGLE_IS_COMPETITION_RERUN"
RUN_TYPE_VARIABLE = "KAGGLE_KERNEL_RUN_TYPE"
# Recordings of the hidden test sets.
FULL_COUNT: Mapping[str, int] = {"birdclef-2025": 700, "birdclef-2026": 600}
_FULL_COUNT = 700

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What a scoring notebook came to.

    Parameters
    ----------
    path : Path
        The checked ``submission.csv``.
    rerun : bool
        Whether test recordings were scored, and not training soundscapes in a rehearsal.
    n_recordings, n_failed, n_rows : int
    seconds : float
        Of scoring, without what came before it.
    full_s : float
        What the full number of recordings would take, from the start of the process.
    left_out : tuple of str
        What the time budget did not allow.
    """

    path: Path
    rerun: bool
    n_recordings: int
    n_failed: int
    n_rows: int
    seconds: float
    full_s: float
    left_out: tuple[str, ...]


def submit(
    *,
    competition: str = "birdclef-2026",
    bundles: Sequence[str] = (),
    weights: Sequence[float] | None = None,
    mean: str = "prob",
    steps: Sequence[str] = (),
    windows: str = "centred",
    stride_s: float | None = None,
    budget_min: float = 80.0,
    rehearse: int = 20,
    jobs: int = 2,
    root: str | Path | None = None,
    say: Log = _log.info,
) -> Submission:
    """Score the test recordings, or in a rehearsal the first training soundscapes, and write ``submission.csv``.

    Parameters
    ----------
    competition : str
        Slug or path of the competition's data.
    bundles : sequence of str
        Slugs, names or paths; all that are attached by default.
    weights : sequence of float, optional
        One per bundle; equal by default.
    mean, windows, stride_s, jobs
        See `bcsed.predict.predict`.
    steps : sequence of str
        Post-processing as `bcsed.scores.postprocess.read_steps` spells it, such as ``top=3``.
    budget_min : float
        Minutes in which everything has to be done, from the start of the process; from this call in a session in
        which somebody works.
    rehearse : int
        Training soundscapes of a rehearsal.
    root : str or Path, optional
        The folder of ``input`` and ``working``, see `kaggle_root`.
    say : callable
        Told what is chosen and how it went.

    Raises
    ------
    ConfigError, DataError, BundleError
        If something is not attached, bundles that were found unasked differ in their classes, there is nothing to
        score, nothing could be scored, or the submission is not what the competition asks for. Nothing is
        written then.
    """
    from ..models.bundle.bundle import load
    from ..models.ensemble import from_bundles
    from ..predict.api import RunOptions, predict
    from ..predict.blocks import Windowing
    from ..predict.budget import Budget
    from ..predict.outputs import OutputOptions
    from ..scores import postprocess

    if rehearse < 1:
        raise ConfigError(f"a rehearsal needs at least one soundscape, got {rehearse}.")
    home = kaggle_root(root)
    working = home / "working"
    # What an earlier call in this session left is not taken for this one's.
    (working / "submission.csv").unlink(missing_ok=True)
    shutil.rmtree(working / "scores", ignore_errors=True)
    data = find_input(COMPETITION, competition, root=home, say=say)
    year, recordings, rerun = to_score(data, rehearse, say)
    template = data / year.sample_submission_csv
    found = find_bundles(bundles, root=home, scratch=working / ".bundles", say=say)
    loaded = [load(path) for path in found]
    _check_classes(loaded, template, say, asked=bool(bundles))
    output = OutputOptions(
        formats=(),
        taxa=read_taxa(data, year),
        row_id=year.row_id,
        sample_submission=template,
        on_error="fill",
        fill_s=year.recording_s,
    )
    result = predict(
        from_bundles(loaded, weights, mean=mean, classes=output.template_columns()),
        recordings,
        out=working / "scores",
        windowing=Windowing(row_s=year.row_s, windows=windows, stride_s=stride_s),
        stages=postprocess.parse_stages(steps),
        output=output,
        options=RunOptions(jobs=jobs),
        budget=Budget(minutes=budget_min, clock_start_s=_counted_from()),
        log=say,
    )
    _tell(result, say)
    path = write(result, working / "submission.csv", recordings, template, year, say)
    full_s = _full_time(result, year, say, rerun=rerun, budget_min=budget_min)
    return Submission(
        path=path,
        rerun=rerun,
        n_recordings=result.n_recordings,
        n_failed=result.n_failed,
        n_rows=len(result.scores),
        seconds=result.seconds,
        full_s=full_s,
        left_out=tuple(result.left_out),
    )


def to_score(data: Path, rehearse: int, say: Log) -> tuple[Competition, list[Path], bool]:
    """Return the year, the recordings to score, and whether they are the test's.

    Raises
    ------
    DataError
        If this is the scoring rerun and there is no test recording, or there is nothing to rehearse on.
    """
    year = detect_competition(data)
    test = _recordings(data / year.test_dir)
    if test:
        say(f"scoring: {len(test)} test recordings in {data / year.test_dir}")
        return year, test, True
    if _is_rerun():
        raise DataError(
            f"this is the scoring rerun ({RERUN_VARIABLE} is set), and {data / year.test_dir} holds no recording; "
            "nothing is written, for a constant table would score .5 and look like a bad network."
        )
    train = _recordings(data / year.soundscapes_dir)[:rehearse]
    if not train:
        raise DataError(
            f"{data / year.test_dir} holds no recording, and {data / year.soundscapes_dir} none to rehearse on; "
            "attach the competition's data whole."
        )
    say(
        f"rehearsal: {data / year.test_dir} holds no recording, as always before the scoring rerun; the first "
        f"{len(train)} of {data / year.soundscapes_dir} are scored by the same code"
    )
    return year, train, False


def write(
    result: Result,
    path: Path,
    recordings: Sequence[Path],
    template: Path,
    year: Competition,
    say: Log,
) -> Path:
    """Write a prediction as a submission: columns of the template, rows of the recordings; read it back, and check.

    Raises
    ------
    DataError
        If nothing could be scored, or the table is not what the competition asks for. A table that fails is
        removed.
    """
    if result.n_failed >= result.n_recordings or not len(result.scores):
        reason = result.failures["reason"].iloc[0] if len(result.failures) else "no reason was given"
        raise DataError(
            f"none of {result.n_recordings} recordings could be scored ({reason}); no submission is written, for a "
            "constant table would score .5 and look like a bad network."
        )
    columns = [str(name) for name in read_table(template).columns]
    wanted = expected_rows(recordings, year, say)
    table = _complete(result.scores, wanted, say)
    filled = {Path(name).stem for name in result.failures["recording"]} | set(result.silent)
    with atomic_write(path) as temporary:
        table.loc[wanted, columns].to_csv(temporary, index_label="row_id")
        validate(temporary, wanted, columns, filled=filled, name=path.name)
    say(f"{path}: {len(wanted)} rows, {len(columns)} classes; read back and found valid")
    return path


def validate(
    path: Path, wanted: Sequence[str], columns: Sequence[str], *, filled: set[str] | None = None, name: str = ""
) -> None:
    """Read a submission as Kaggle will, and refuse one that it would refuse, or score .5.

    Parameters
    ----------
    path : Path
    wanted : sequence of str
        The row ids that it must have, in this order.
    columns : sequence of str
        The classes of ``sample_submission.csv``, in its order.
    filled : set of str
        Stems of recordings whose rows are rightly all the same: filled, or silent.
    name : str
        What messages call it.

    Raises
    ------
    DataError
        If rows or columns differ, a value is no number in [0, 1], all rows are the same, or most recordings
        repeat one answer over all their rows.
    """
    check_submission(
        read_table(path), columns, wanted, constant=filled or (), max_broadcast=0.5, where=name or str(path)
    )


def expected_rows(recordings: Sequence[Path], year: Competition, say: Log) -> list[str]:
    """Return the row ids that a submission must have, from the recordings and nothing else.

    A recording has ceil(duration / row) rows. One that is longer than the competition's length by less than a row
    has the rows of that length: the rest is no row of the competition.
    """
    full = year.recording_s // year.row_s
    ids: list[str] = []
    for path in recordings:
        try:
            duration_s = read_info(path).duration_s
        except DataError:
            # It cannot be read and has been filled: as long as the others, as far as anybody knows.
            duration_s = float(year.recording_s)
        count = int(np.ceil(round(duration_s / year.row_s, 6)))
        if 0 < duration_s - year.recording_s < year.row_s:
            count = full
        if abs(duration_s - year.recording_s) > 1e-3:
            say(f"{path.name} lasts {duration_s:.4g} s and not {year.recording_s}: it has {count} rows")
        ids += row_ids(path.stem, count, year.row_s, year.row_id)
    return ids


def _complete(table: pd.DataFrame, wanted: Sequence[str], say: Log) -> pd.DataFrame:
    """Return a table with every row: one that was not scored gets the mean of its recording, or of all."""
    lacking = [row_id for row_id in wanted if row_id not in table.index]
    if not lacking:
        return table
    say(f"{len(lacking)} of {len(wanted)} rows were not scored, {lacking[0]!r} first; they get their recording's mean")
    means = table.groupby([split_row_id(row_id)[0] for row_id in table.index]).mean()
    overall = table.mean()
    added = [means.loc[stem] if (stem := split_row_id(row_id)[0]) in means.index else overall for row_id in lacking]
    whole: pd.DataFrame = pd.concat([table, pd.DataFrame(added, index=lacking)])
    return whole


def _recordings(folder: Path) -> list[Path]:
    # Of a folder that holds a readme.txt alone, there is none.
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in AUDIO_SUFFIXES)


def _is_rerun() -> bool:
    return os.environ.get(RERUN_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def _counted_from() -> float:
    """Return the age of this process from which its time counts.

    A notebook that is run whole begins with its process. One in which somebody works may have been open for hours.
    """
    from ..predict.budget import process_age_s

    return process_age_s() if os.environ.get(RUN_TYPE_VARIABLE) == "Interactive" else 0.0


def _check_classes(bundles: Sequence[Bundle], template: Path, say: Log, *, asked: bool) -> None:
    """Refuse bundles of another competition, and ones that were found unasked and differ among themselves."""
    columns = [str(name) for name in read_table(template).columns]
    for bundle in bundles:
        strange = sorted(set(bundle.contract.classes) - set(columns))
        if strange:
            raise DataError(
                f"{bundle.path} answers {strange[0]!r} ({len(strange)} such classes), which {template} does not have; "
                "it was trained for another competition."
            )
        other = sorted(set(bundle.contract.classes) ^ set(bundles[0].contract.classes))
        if other and not asked:
            raise DataError(
                f"{bundles[0].path} and {bundle.path} do not answer the same classes: {other[0]!r} is in only one of "
                "them; name the bundles that are meant, or attach only those."
            )
        theirs = [name for name in columns if name in set(bundle.contract.classes)]
        if theirs != list(bundle.contract.classes):
            say(f"{template.name} has its columns in another order than {bundle.name}; they are bound by name")


def _tell(result: Result, say: Log) -> None:
    for failure in result.failures.head(20).itertuples():
        say(f"{failure.status}: {failure.recording}: {failure.reason}")
    for note in result.notes.head(20).itertuples():
        say(f"note: {note.recording}: {note.note}")
    for sentence in result.left_out:
        say(f"left out: {sentence}")


def _full_time(result: Result, year: Competition, say: Log, *, rerun: bool, budget_min: float) -> float:
    """Carry the time of a rehearsal over to the full number of recordings, and say it."""
    from ..predict.budget import process_age_s

    now_s = process_age_s()
    before_s = max(0.0, now_s - result.seconds)
    count = result.n_recordings if rerun else FULL_COUNT.get(year.name, _FULL_COUNT)
    full_s = before_s + result.seconds * count / result.n_recordings
    peak = f"peak memory {peak_gib():.1f} GiB"
    if rerun:
        say(f"scored {count} recordings in {result.seconds:.0f} s; {now_s / 60:.1f} min since the start; {peak}")
        return full_s
    fits = "which fits" if full_s <= 60 * budget_min else "so that the budget would leave out a part of the plan"
    say(
        f"rehearsal: {result.n_recordings} recordings in {result.seconds:.0f} s after {before_s:.0f} s of beginning; "
        f"{count} would take {full_s / 60:.1f} min of {budget_min:g}, {fits}; {peak}"
    )
    return full_s


def peak_gib() -> float:
    """Return the most memory that this process has held."""
    status = Path("/proc/self/status")
    told = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    return int(told[1]) / 2**20 if told else float("nan")
