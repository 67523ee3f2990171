"""The rounds notebook: training, labelling and training again, in as many sessions as that takes."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, DataError
from . import inputs, session
from .inputs import Log, find_bundles, find_input, kaggle_root
from .notebooks import RoundsSettings

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
        left_min = session.minutes_left(settings.hours)
        if left_min > 0:
            arguments |= {"options": replace(options, stop_after_min=left_min), "processes": settings.processes}
            session.run_training(experiment, data, out, log=log, **arguments)
        if not finished(out):
            raise session.OutOfTimeError

    home = kaggle_root(root)
    out = home / "working" / "rounds"
    named, plan = _read_plan(settings, home, log)
    data = find_input(inputs.COMPETITION, settings.competition, root=home, log=log)
    recordings = [find_input(inputs.RECORDINGS, name, root=home, log=log) for name in settings.recordings]
    session.copy_earlier(inputs.ROUNDS, out, settings.resume, home, log)
    step = session.stop_after(session.minutes_left(settings.hours), log)
    try:
        noisy_student.run(
            plan,
            data,
            out,
            recordings=recordings or None,
            truth=find_input(inputs.LABELS, settings.truth, root=home, log=log) if settings.truth else None,
            log=log,
            progress=lambda _, done, total: step(done, total),
            options=TrainOptions(jobs=settings.jobs, cache_gb=settings.cache_gb, on_error=settings.on_error),
            recorded=named,
            trainer=train_in_time,
        )
    except session.OutOfTimeError:
        session.log_stop(settings.hours, log)
        return None
    finally:
        # The tables contain all scores; folders of thousands of parts would be mounted with them.
        for table in out.glob("round-*/pseudolabels.parquet"):
            shutil.rmtree(scores_folder(table), ignore_errors=True)
    log(f"{out}: all {len(plan.rounds)} rounds are finished; the ledger is in {noisy_student.LEDGER}")
    return out


def _read_plan(settings: RoundsSettings, home: Path, log: Log) -> tuple[Plan, Plan]:
    """Return the plan with the names of the inputs that it uses, and with their paths."""
    from ..rounds import PRESETS, add_files, find_plan

    name, start = settings.plan, settings.pretrained
    if name not in PRESETS:
        name = str(find_input(inputs.PLAN, name, root=home, log=log))
    named = find_plan(name, [*settings.changes, *(["fit.pretrained=false"] if start == "none" else [])])
    named = add_files(named, labels=settings.labels, events=settings.events, noise=settings.noise or None)
    if all(each.pretrained for each in named.rounds):
        if start not in ("", "none"):
            raise ConfigError(f"every round of {name} names its initial weights, so {start!r} would not be used.")
    elif session.find_weights(start, home, log) is not None:
        named = replace(named, rounds=tuple(replace(r, pretrained=r.pretrained or start) for r in named.rounds))
    rounds = []
    for each in named.rounds:
        weights = each.pretrained and str(session.find_weights(each.pretrained, home, lambda _: None))
        teacher = tuple(_find_teacher(member, home, log) for member in each.teacher)
        tables = tuple(str(find_input(inputs.TEACHER, name, root=home, log=log)) for name in each.embeddings)
        rounds.append(replace(each, pretrained=weights, teacher=teacher, embeddings=tables))
    files = session.find_files(named.labels, named.events, named.noise or "", home, log)
    return named, replace(
        named,
        rounds=tuple(rounds),
        labels=tuple(map(str, files["labels"])),
        events=tuple(map(str, files["events"])),
        noise=files["noise"] and str(files["noise"]),
    )


def _find_teacher(member: str, home: Path, log: Log) -> str:
    if member == "previous" or member.startswith("round-"):
        return member
    if member.endswith(".csv"):
        return str(find_input(inputs.LABELS, member, root=home, log=log))
    bundles = find_bundles([member], root=home, scratch=home / "working" / ".bundles", log=log)
    if len(bundles) > 1:
        raise DataError(f"{bundles[0]} and {bundles[1]} could both be the teacher {member!r}; name one.")
    return str(bundles[0])
