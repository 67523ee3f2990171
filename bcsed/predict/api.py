"""Recordings -> score table, in parallel, within a budget, and over many machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .._version import __version__
from ..audio.decode import find_recordings
from ..errors import ConfigError
from ..files import as_path
from ..models.bundle.bundle import Bundle
from ..models.bundle.graph import PRECISIONS
from ..models.ensemble import Ensemble, from_bundles
from ..scores import postprocess
from ..scores.table import ROW_ID, read_table
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

ON_ERROR = ("report", "fill")

_log = logging.getLogger(__name__)


def predict(
    bundles: Sequence[Bundle],
    recordings: Sequence[str | Path],
    *,
    weights: Sequence[float] | None = None,
    mean: str = "prob",
    out: str | Path | None = None,
    windowing: Windowing | None = None,
    shifts_s: Sequence[float] = (0.0,),
    steps: Sequence[postprocess.Stage] = (),
    taxa: Mapping[str, str] | None = None,
    row_id: str = ROW_ID,
    sample_submission: str | Path | None = None,
    submission: bool = True,
    wanted: OutputOptions | None = None,
    on_error: str = "report",
    fill_s: int = 60,
    budget: Budget | None = None,
    precision: str = "f32",
    jobs: int = 2,
    workers: Workers | None = None,
    shard: int | None = None,
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Result:
    """Score recordings with one bundle or an ensemble.

    Parameters
    ----------
    bundles : sequence of Bundle
        One of them, or the template, names every class; others may answer some of the classes only.
    recordings : sequence of str or Path
        Files and folders; also fsspec's, such as ``s3://bucket/folder``. Recordings of one name are told apart
        by their folders: ``siteA/0001``.
    weights : sequence of float, optional
        One per bundle; equal by default.
    mean : {'prob', 'logit', 'rank'}
        Of the bundles' probabilities, their logits, or each class's percentiles over all rows.
    out : str or Path, optional
        A folder for what is `wanted`, ``failures.csv``, ``notes.csv`` and ``manifest.json``. Each finished recording
        is kept there, and the same call goes on where a killed one ended.
    cut : Windowing, optional
        Rows of 5 s from centred windows by default.
    shifts_s : sequence of float
        Centred windows are looked at once for each, that many seconds later, and averaged.
    steps : sequence of Stage
        Post-processing, see `bcsed.scores.postprocess`, in this order.
    taxa : mapping of str to str, optional
        The taxonomic class of each class, for steps that differ by it.
    row_id : str
        Form of a row's id, of ``stem`` (the recording's name) and ``end`` (second).
    sample_submission : str or Path, optional
        The competition's template: its columns, in its order, are what is written.
    submission : bool
        Whether `out` gets what is `wanted`; the finished recordings are kept there in any case.
    wanted : OutputOptions, optional
        The files to write, ``submission.csv`` by default.
    on_error : {'report', 'fill'}
        What becomes of a recording that cannot be read: no rows, or rows of class priors. Both are listed.
    fill_s : int
        Duration assumed for such a recording.
    budget : Budget, optional
        How long the run may take. Recordings that there was no time for get rows of class priors, and are listed.
    precision : {'f32', 'bf16'}
        In which the networks compute; pinned, since OpenVINO's own choice follows the CPU.
    jobs : int
        Threads that decode and compute pictures; 0 does everything in the calling thread.
    workers : Workers, optional
        Threads, processes or a Dask cluster among which recordings are shared out; needs `out`.
    shard : int, optional
        Recordings that are written, and handed to a worker, together; 1 up to a thousand recordings by default.
    cache : str or Path, optional
        A folder in which OpenVINO keeps compiled graphs, to begin sooner the next time.
    progress : callable, optional
        Called with (recordings done, recordings in all).
    say : callable, optional
        Told how a budget is spent, a sentence at a time.

    Raises
    ------
    ConfigError, BundleError, DataError
        If the call makes no sense, bundles disagree, or `out` holds another run.
    """
    started = time.monotonic()
    windowing, wanted, workers = windowing or Windowing(), wanted or OutputOptions(), workers or Workers()
    _check_call(on_error, jobs, windowing, shard, precision, budget, workers, out)
    paths = find_recordings(recordings)
    template = None if sample_submission is None else [str(n) for n in read_table(sample_submission).columns]
    settings_of: dict[str, Any] = {"mean": mean, "classes": template, "precision": precision, "cache": cache}
    ensemble = from_bundles(bundles, weights, **settings_of, threads=threads_each(workers))
    views = make_views(ensemble, windowing, shifts_s)
    _try_plan(ensemble, views)
    _check_thresholds(wanted, ensemble.classes)
    keeps_frames = submission and "frames" in wanted.formats
    if keeps_frames:
        check_frames(ensemble, windowing)
        if out is None or budget is not None:
            raise ConfigError("frames are written to an output folder, and not within a budget.")
    settings = _settings(bundles, windowing, shifts_s, precision, frames=keeps_frames)
    store = FolderStore(as_path(out), settings) if out is not None else MemoryStore()
    named = describe_recordings(paths)
    size = shard or max(1, -(-len(named) // MOST_PARTS))
    drive = PredictionRun(
        ensemble,
        named,
        views,
        store,
        shard=size,
        jobs=jobs,
        keep_frames=outputs.frames_writer(as_path(out), ensemble.classes) if keeps_frames and out is not None else None,
        progress=progress,
        say=say or _log.info,
    )
    n_resumed = sum({view.name for view in views} <= set(store.views(one.key)) for one in named)
    fill = class_priors(bundles, ensemble) if on_error == "fill" or budget is not None else None
    table = ScoreAssembler(drive, template or ensemble.classes, row_id, tuple(steps), taxa or {}, fill, fill_s)
    finish = ResultWriter(
        table, wanted if submission else OutputOptions(formats=()), template, bundles, on_error, n_resumed, started
    )
    with one_torch_thread():
        if workers.many:
            shards = _shards(drive, size, bundles, {**settings_of, "weights": weights}, settings, jobs, keeps_frames)
            score_with_workers(drive, shards, workers)
        elif budget is not None:
            with Watchdog(budget, lambda: finish(("the run hung, and was ended",), budget).n_scored > 0):
                left_out = drive.within(budget)
            return finish(tuple(left_out), budget)
        else:
            drive.all()
    return finish((), None)


def _check_call(
    on_error: str,
    jobs: int,
    windowing: Windowing,
    shard: int | None,
    precision: str,
    budget: Budget | None,
    workers: Workers,
    out: str | Path | None,
) -> None:
    if on_error not in ON_ERROR:
        raise ConfigError(f"on_error must be one of {', '.join(ON_ERROR)}; got {on_error!r}.")
    if jobs < 0:
        raise ConfigError(f"jobs must be at least 0, got {jobs}.")
    if windowing.row_s < 1:
        raise ConfigError(f"a row must last at least 1 s, got {windowing.row_s}.")
    if shard is not None and shard < 1:
        raise ConfigError(f"a shard must hold at least 1 recording, got {shard}.")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if workers.many and out is None:
        raise ConfigError("workers write what they scored into the output folder; name one.")
    if workers.many and budget is not None:
        raise ConfigError("a budget is kept by one process; leave out the workers, or the budget.")


def _check_thresholds(wanted: OutputOptions, classes: Sequence[str]) -> None:
    unknown = sorted(set(wanted.detection.thresholds) - set(classes))
    if unknown:
        raise ConfigError(f"a threshold is given for {unknown[0]!r}, which is not among the {len(classes)} classes.")


def _try_plan(ensemble: Ensemble, views: Sequence[View]) -> None:
    """Let a stride or a shift that does not fit fail before the first recording is decoded."""
    for view in views:
        member = ensemble.members[view.place]
        frontend = member.contract.frontend
        view.windowing.plan(frontend.sample_rate, frontend, member.steps, (0, 1), view.shift_s)


def _settings(
    bundles: Sequence[Bundle], windowing: Windowing, shifts_s: Sequence[float], precision: str, *, frames: bool
) -> Mapping[str, Any]:
    """Everything that changes what is kept of a recording; means and post-processing are made of that."""
    return {
        "bundles": [[bundle.contract.fingerprint, bundle.sha256] for bundle in bundles],
        "row_s": windowing.row_s,
        "windows": windowing.windows,
        "stride_s": windowing.stride_s,
        "shifts_s": list(shifts_s),
        "precision": precision,
        "frames": frames,
        "bcsed": __version__,
    }


def _shards(
    drive: PredictionRun,
    size: int,
    bundles: Sequence[Bundle],
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    jobs: int,
    frames: bool,
) -> list[Shard]:
    """Cut what is not scored yet into shards."""
    names = {view.name for view in drive.wanted}
    rest: list[Recording] = [one for one in drive.recordings if not names <= set(drive.store.views(one.key))]
    assert isinstance(drive.store, FolderStore)
    hashable = {name: tuple(v) if isinstance(v, (list, tuple)) else v for name, v in options.items()}
    return [
        Shard(
            recordings=tuple(rest[first : first + size]),
            bundles=tuple((str(bundle.path.absolute()), bundle.sha256) for bundle in bundles),
            ensemble=hashable,
            views=tuple(drive.wanted),
            folder=drive.store.folder.absolute(),
            settings=settings,
            jobs=jobs,
            frames=frames,
        )
        for first in range(0, len(rest), size)
    ]
