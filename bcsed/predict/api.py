"""Recordings -> score table, in parallel, within a budget, and over many machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._version import __version__
from ..audio.decode import find_recordings
from ..errors import ConfigError
from ..files import as_path
from ..models.backends import OpenVinoBackend
from ..models.bundle.bundle import Bundle
from ..models.ensemble import Ensemble, from_bundles
from ..scores.postprocess.stages import Stage
from . import outputs
from .assemble import ScoreAssembler, class_priors
from .blocks import View, Windowing, make_views
from .budget import Budget
from .frames import check_frames
from .outputs import OutputOptions
from .pipeline import one_torch_thread
from .result import Result, ResultWriter
from .run import MOST_PARTS, PredictionRun, Recording, describe_recordings
from .store import FolderStore, MemoryStore
from .watchdog import Watchdog
from .workers import Shard, Workers, score_with_workers, threads_each

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the work is distributed; the scores do not depend on it.

    Parameters
    ----------
    jobs : int
        Threads that decode and compute spectrograms; 0 does everything in the calling thread.
    workers : Workers
        Threads, processes or a Dask cluster that share the recordings; more than one worker needs `out`.
    shard : int, optional
        Recordings that are written, and sent to a worker, together; 1 up to a thousand recordings by default.
    """

    jobs: int = 2
    workers: Workers = field(default_factory=Workers)
    shard: int | None = None

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ConfigError(f"jobs must be at least 0, got {self.jobs}.")
        if self.shard is not None and self.shard < 1:
            raise ConfigError(f"a shard must hold at least 1 recording, got {self.shard}.")


def predict(
    models: Ensemble | Sequence[Bundle],
    recordings: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    windowing: Windowing | None = None,
    stages: Sequence[Stage] = (),
    output: OutputOptions | None = None,
    options: RunOptions | None = None,
    budget: Budget | None = None,
    progress: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
) -> Result:
    """Score recordings with one bundle or an ensemble.

    Parameters
    ----------
    models : Ensemble or sequence of Bundle
        An ensemble built by `from_bundles` (weights, mean, precision), or bundles to average with equal weights.
    recordings : sequence of str or Path
        Files and folders, also fsspec URLs such as ``s3://bucket/folder``. Recordings of the same name are
        distinguished by their folder: ``siteA/0001``.
    out : str or Path, optional
        A folder for the files of `output`, ``failures.csv``, ``notes.csv`` and ``manifest.json``. Each finished
        recording is stored there, and the same call resumes an interrupted run.
    windowing : Windowing, optional
        Rows of 5 s from centred windows by default.
    stages : sequence of Stage
        Post-processing in this order, see `bcsed.scores.postprocess`.
    output : OutputOptions, optional
        The files to write, their form, and the treatment of unreadable recordings.
    options : RunOptions, optional
        Threads, workers and shards.
    budget : Budget, optional
        The time limit. Recordings that could not be scored in time get rows of class priors, and are listed.
    progress : callable, optional
        Called with (finished recordings, all recordings).
    log : callable, optional
        Called with a sentence about each pass of a budget.

    Raises
    ------
    ConfigError, BundleError, DataError
        If arguments contradict each other, bundles do not fit together, or `out` contains another run.
    """
    started = time.monotonic()
    windowing, output, options = windowing or Windowing(), output or OutputOptions(), options or RunOptions()
    workers = options.workers
    _check_call(workers, budget, out)
    paths = find_recordings(recordings)
    template = output.template_columns()
    ensemble, bundles = _open_models(models, template, threads_each(workers))
    views = make_views(ensemble, windowing)
    _try_plan(ensemble, views)
    _check_thresholds(output, ensemble.classes)
    keeps_frames = "frames" in output.formats
    if keeps_frames:
        check_frames(ensemble, windowing)
        if out is None or budget is not None:
            raise ConfigError("frames are written to an output folder, and not within a budget.")
    precision = bundles_precision(ensemble)
    settings = _settings(bundles, windowing, precision, frames=keeps_frames)
    store = FolderStore(as_path(out), settings) if out is not None else MemoryStore()
    named = describe_recordings(paths)
    size = options.shard or max(1, -(-len(named) // MOST_PARTS))
    drive = PredictionRun(
        ensemble,
        named,
        views,
        store,
        shard=size,
        jobs=options.jobs,
        keep_frames=outputs.frames_writer(as_path(out), ensemble.classes) if keeps_frames and out is not None else None,
        progress=progress,
        log=log or _log.info,
    )
    n_resumed = sum({view.name for view in views} <= set(store.views(one.key)) for one in named)
    fill = class_priors(bundles, ensemble) if output.on_error == "fill" or budget is not None else None
    table = ScoreAssembler(
        drive, template or ensemble.classes, output.row_id, tuple(stages), output.taxa, fill, output.fill_s
    )
    finish = ResultWriter(table, output, template, bundles, n_resumed, started)
    with one_torch_thread():
        if workers.many:
            shards = _shards(drive, size, bundles, settings, options, keeps_frames)
            score_with_workers(drive, shards, workers)
        elif budget is not None:
            with Watchdog(budget, lambda: finish(("the run hung, and was ended",), budget).n_scored > 0):
                left_out = drive.within(budget)
            return finish(tuple(left_out), budget)
        else:
            drive.all()
    return finish((), None)


def _open_models(
    models: Ensemble | Sequence[Bundle], template: Sequence[str] | None, threads: int | None
) -> tuple[Ensemble, list[Bundle]]:
    """Return the ensemble, with the classes of the template if there is one, and its bundles."""
    if not isinstance(models, Ensemble):
        return from_bundles(models, classes=template, threads=threads), list(models)
    bundles = [member.bundle for member in models.members if isinstance(member, OpenVinoBackend)]
    if len(bundles) < len(models.members):
        raise ConfigError("predict needs an ensemble of bundles; build it with from_bundles.")
    return replace(models, classes=tuple(template)) if template is not None else models, bundles


def _check_call(workers: Workers, budget: Budget | None, out: str | Path | None) -> None:
    if workers.many and out is None:
        raise ConfigError("workers write their scores into the output folder; name one.")
    if workers.many and budget is not None:
        raise ConfigError("a budget needs a single process; leave out the workers, or the budget.")


def _check_thresholds(output: OutputOptions, classes: Sequence[str]) -> None:
    unknown = sorted(set(output.detection.thresholds) - set(classes))
    if unknown:
        raise ConfigError(f"a threshold is set for {unknown[0]!r}, which is not among the {len(classes)} classes.")


def _try_plan(ensemble: Ensemble, views: Sequence[View]) -> None:
    """Let a stride or a shift that does not fit fail before the first recording is decoded."""
    for view in views:
        member = ensemble.members[view.place]
        frontend = member.contract.frontend
        view.windowing.plan(frontend.sample_rate, frontend, member.steps, (0, 1), view.shift_s)


def bundles_precision(ensemble: Ensemble) -> str:
    """Return the precision that the ensemble was compiled with."""
    return next(member.precision for member in ensemble.members if isinstance(member, OpenVinoBackend))


def _settings(bundles: Sequence[Bundle], windowing: Windowing, precision: str, *, frames: bool) -> Mapping[str, Any]:
    """Everything that changes what is kept of a recording; means and post-processing are made of that."""
    return {
        "bundles": [[bundle.contract.fingerprint, bundle.sha256] for bundle in bundles],
        "row_s": windowing.row_s,
        "windows": windowing.windows,
        "stride_s": windowing.stride_s,
        "shifts_s": list(windowing.shifts_s),
        "precision": precision,
        "frames": frames,
        "bcsed": __version__,
    }


def _shards(
    drive: PredictionRun,
    size: int,
    bundles: Sequence[Bundle],
    settings: Mapping[str, Any],
    options: RunOptions,
    frames: bool,
) -> list[Shard]:
    """Cut what is not scored yet into shards."""
    names = {view.name for view in drive.wanted}
    rest: list[Recording] = [one for one in drive.recordings if not names <= set(drive.store.views(one.key))]
    assert isinstance(drive.store, FolderStore)
    ensemble = drive.ensemble
    cache = next(member.cache for member in ensemble.members if isinstance(member, OpenVinoBackend))
    hashable = {
        "weights": ensemble.weights,
        "mean": ensemble.mean,
        "classes": ensemble.classes,
        "precision": bundles_precision(ensemble),
        "cache": cache,
        "threads": threads_each(options.workers),
    }
    return [
        Shard(
            recordings=tuple(rest[first : first + size]),
            bundles=tuple((str(bundle.path.absolute()), bundle.sha256) for bundle in bundles),
            ensemble=hashable,
            views=tuple(drive.wanted),
            folder=drive.store.folder.absolute(),
            settings=settings,
            jobs=options.jobs,
            frames=frames,
        )
        for first in range(0, len(rest), size)
    ]
