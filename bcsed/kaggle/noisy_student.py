"""The rounds notebook: training, labelling and training again, in as many sessions as that takes."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from . import inputs
from .inputs import Log, find_bundles, find_input, kaggle_root
from .notebooks import RoundsSettings
from .session import (
    OutOfTimeError,
    copy_earlier,
    find_weights,
    log_stop,
    minutes_left,
    random_start,
    run_training,
    stop_after,
)

if TYPE_CHECKING:
    from ..rounds import Plan

_log = logging.getLogger(__name__)


def rounds(settings: RoundsSettings, *, root: str | Path | None = None, log: Log = _log.info) -> Path | None:
    """Run the rounds of a plan, and stop before the session ends.

    Return ``working/rounds``, or None if work is left for another session, which continues if the output of this one is
    attached. Arguments as for `bcsed.kaggle.train`; errors also as of `bcsed.rounds.run`.
    """
    from .. import rounds as noisy_student
    from ..train.checkpoints import finished
    from ..train.data import TrainOptions
    from ..train.pseudolabels import scores_folder

    def train_in_time(experiment: Any, data: Path, out: Path, *, options: TrainOptions, **arguments: Any) -> None:
        left_min = minutes_left(settings.hours)
        if left_min > 0:
            timed = dataclasses.replace(options, stop_after_min=left_min)
            run_training(experiment, data, out, options=timed, processes=settings.processes, log=log, **arguments)
        if not finished(out):
            raise OutOfTimeError

    home = kaggle_root(root)
    out = home / "working" / "rounds"
    plan, paths = _read_plan(settings, home, log)
    data = find_input(inputs.COMPETITION, settings.competition, root=home, log=log)
    recordings = [find_input(inputs.RECORDINGS, name, root=home, log=log) for name in settings.recordings]
    truth = find_input(inputs.LABELS, settings.truth, root=home, log=log) if settings.truth else None
    copy_earlier(inputs.ROUNDS, out, settings.resume, home, log)
    labelled = stop_after(minutes_left(settings.hours), log)
    try:
        noisy_student.run(
            plan,
            data,
            out,
            recordings=recordings or None,
            truth=truth,
            log=log,
            progress=lambda _, done, total: labelled(done, total),
            options=TrainOptions(jobs=settings.jobs, cache_gb=settings.cache_gb, on_error=settings.on_error),
            paths=paths,
            trainer=train_in_time,
        )
    except OutOfTimeError:
        log_stop(settings.hours, log)
        return None
    finally:
        # The tables contain all scores; folders of thousands of parts would be mounted with them.
        for table in sorted(out.glob("round-*/pseudolabels.parquet")):
            shutil.rmtree(scores_folder(table), ignore_errors=True)
    log(f"{out}: all {len(plan.rounds)} rounds are finished; the ledger is in {noisy_student.LEDGER}")
    return out


def _read_plan(settings: RoundsSettings, home: Path, log: Log) -> tuple[Plan, dict[str, str | Path]]:
    """Return the plan, with the initial weights where it names none, and the inputs that it names."""
    from ..rounds import PRESETS, find_plan

    name, start = settings.plan, settings.pretrained
    if name not in PRESETS:
        name = str(find_input(inputs.PLAN, name, root=home, log=log))
    plan = find_plan(name, [*settings.changes, *random_start(start)])
    if all(each.pretrained for each in plan.rounds):
        if start not in ("", "none"):
            raise ConfigError(f"every round of {name} names its initial weights, so {start!r} would not be used.")
    elif find_weights(start, home, log) is not None:
        started = [dataclasses.replace(each, pretrained=each.pretrained or start) for each in plan.rounds]
        plan = dataclasses.replace(plan, rounds=tuple(started))
    paths: dict[str, str | Path] = {}
    for weights in dict.fromkeys(each.pretrained for each in plan.rounds if each.pretrained is not None):
        paths[weights] = find_weights(weights, home, lambda _: None) or weights
    for member in dict.fromkeys(member for each in plan.rounds for member in each.teacher):
        if member.endswith(".csv"):
            paths[member] = find_input(inputs.LABELS, member, root=home, log=log)
        elif member != "previous" and not member.startswith("round-"):
            bundles = find_bundles([member], root=home, scratch=home / "working" / ".bundles", log=log)
            if len(bundles) > 1:
                raise DataError(f"{bundles[0]} and {bundles[1]} could both be the teacher {member!r}; name one.")
            paths[member] = bundles[0]
    return plan, paths
