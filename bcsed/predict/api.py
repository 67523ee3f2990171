"""Score recordings with an ensemble: in parallel, within a budget, and on several machines."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from .. import interrupt
from ..errors import ConfigError
from ..files import as_path, lock_folder, quote_list
from ..models.backends import OpenVinoBackend
from ..models.ensemble import Ensemble, Member, from_bundles
from ..recordings import search_recordings
from ..scores.detections import FORMATS as DETECTIONS
from ..scores.detections.species import SpeciesList, find_site
from ..scores.postprocess import apply, split_stages
from ..scores.postprocess.stages import Stage
from ..scores.table import make_table
from .assemble import ScoreAssembler, class_priors
from .blocks import check_frames
from .budget import Budget, watchdog
from .outputs import OutputOptions, frames_writer
from .pipeline import torch_thread
from .result import Result, ResultWriter
from .run import PredictionRun
from .spec import RunSpec, Windowing, make_spec
from .store import SCHEMA, FolderStore, MemoryStore, Recording, describe_recordings
from .tables import match_tables, table_recordings
from .workers import Workers, score_with_workers

# Recordings are written in about so many parts at most; a smaller run writes one part per recording.
MAX_PARTS = 1000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the work is distributed; the scores do not depend on it."""

    jobs: int = 2  # threads that decode and compute spectrograms; 0 does everything in the calling thread
    workers: Workers = field(default_factory=Workers)  # that share the recordings; more than one needs `out`
    shard: int | None = None  # recordings written, and sent to a worker, together; 1 up to a thousand by default

    def __post_init__(self) -> None:
        if self.jobs < 0:
            raise ConfigError(f"jobs must be at least 0, got {self.jobs}.")
        if self.shard is not None and self.shard < 1:
            raise ConfigError(f"a shard must hold at least 1 recording, got {self.shard}.")


def predict(
    models: Ensemble | Sequence[Member],
    recordings: Sequence[str | Path] = (),
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
    """Score recordings with one bundle or an ensemble, also of score tables.

    Parameters
    ----------
    models : Ensemble or sequence of Bundle and TableMember
        An ensemble of `from_bundles` (weights, mean, precision), or bundles to average with equal weights. Score
        tables, which follow the bundles, have rows in place of windows; see `bcsed.models.ensemble.load_member`.
    recordings : sequence of str or Path
        Files and folders, also fsspec URLs such as ``s3://bucket/folder``. Recordings of the same name are
        distinguished by their folder: ``siteA/0001``. An ensemble of tables alone needs none: its rows are theirs.
    out : str or Path, optional
        A folder for the files of `output`, ``failures.csv``, ``notes.csv`` and ``manifest.json``. Each finished
        recording is stored there, and the same call resumes an interrupted run.
    windowing, output, options : Windowing, OutputOptions, RunOptions, optional
        Rows and windows; files and the treatment of unreadable recordings; threads, workers and shards.
    stages : sequence of Stage
        Post-processing in this order, see `bcsed.scores.postprocess`; that of single members is before the mean.
    budget : Budget, optional
        The time limit. Recordings that could not be scored in time get rows of class priors, and are listed.
    progress, log : callable, optional
        Called with (finished recordings, all recordings); and with a sentence about each pass of a budget.

    Raises ConfigError, BundleError or DataError if arguments contradict each other, bundles do not fit together, or
    `out` contains another run or scores of other recordings, or is in use, or a table lacks rows.
    """
    started = time.monotonic()
    windowing, output, options = windowing or Windowing(), output or OutputOptions(), options or RunOptions()
    workers, keeps_frames = options.workers, "frames" in output.formats
    _check_call(workers, budget, out, frames=keeps_frames)
    paths, skipped = search_recordings(recordings)
    template = output.template_columns()
    ensemble, members = _open_models(models, template, workers.threads_each)
    if keeps_frames:
        check_frames(ensemble, windowing)
    audio = bool(paths or members)
    spec = make_spec(ensemble, windowing, _settings(ensemble, members, windowing, frames=keeps_frames))
    _check_spec(spec, ensemble, output, audio=audio)
    named = describe_recordings(paths) if audio else table_recordings(ensemble.tables)
    rows = match_tables(ensemble.tables, named, spec, output.row_id, audio=audio)
    own = _check_stages(stages, ensemble, spec.row_s, output.taxa)
    if gaps := [number for number in sorted(rows.incomplete) if own[number]]:
        text = f"member {gaps[0] + 1} lacks rows, so stages of its own cannot be applied"
        raise ConfigError(f"{text}: complete its table, or apply them after the mean, without its number.")
    if output.species is not None:
        _check_sites(output.species, named, log or _log.info)
    store = FolderStore(as_path(out), spec.settings) if out is not None else MemoryStore()
    store.require_recordings(named)
    run = PredictionRun(
        spec,
        named,
        store,
        shard=options.shard or max(1, -(-len(named) // MAX_PARTS)),
        jobs=options.jobs,
        write_frames=frames_writer(as_path(out), ensemble.classes) if keeps_frames and out is not None else None,
        progress=progress,
        log=log or _log.info,
        skipped=[*skipped, *_unused_classes(members, ensemble), *rows.notes],
        failures=rows.failures,
    )
    described: list[Member] = [*(member.bundle for member in members), *ensemble.tables]
    n_resumed = len(named) - len(run.unfinished())
    fill = class_priors(described, spec.averaging) if output.on_error == "fill" or budget is not None else None
    form = (output.row_id, tuple(stages), output.taxa, fill, output.fill_s)
    assembler = ScoreAssembler(run, template or ensemble.classes, *form, ensemble.tables)
    finish = ResultWriter(assembler, output, template, described, budget, n_resumed, started)
    with lock_folder(None if out is None else as_path(out)), torch_thread(ensemble):
        left_out: Sequence[str] = ()
        with interrupt.postponed():
            if not members:
                run.store_rows(rows.recordings)
            elif workers.many:
                score_with_workers(run, ensemble, workers)
            elif budget is not None:
                with watchdog(budget, lambda: finish(("the run hung, and was ended",)).n_scored > 0):
                    left_out = run.score_within(ensemble, budget)
            else:
                run.run(ensemble, spec.views, named)
        return finish(left_out)


def _open_models(
    models: Ensemble | Sequence[Member], template: Sequence[str] | None, threads: int | None
) -> tuple[Ensemble, list[OpenVinoBackend]]:
    """Return the ensemble, with the classes of the template if there is one, and its networks."""
    if not isinstance(models, Ensemble):
        ensemble = from_bundles(models, classes=template, threads=threads)
    else:
        ensemble = models if template is None else replace(models, classes=tuple(template))
    members = [member for member in ensemble.members if isinstance(member, OpenVinoBackend)]
    if len(members) < len(ensemble.members):
        raise ConfigError("predict needs an ensemble of bundles; build it with from_bundles.")
    return ensemble, members


def _unused_classes(members: Sequence[OpenVinoBackend], ensemble: Ensemble) -> Iterator[tuple[str, str]]:
    """Yield the members with classes that are not requested, and a note about these."""
    used = set(ensemble.classes)
    named = [(each.bundle.path, each.bundle.contract.classes) for each in members]
    for path, names in [*named, *((table.path, table.classes) for table in ensemble.tables)]:
        if unused := [name for name in names if name not in used]:
            yield str(path), f"{len(unused)} of its classes are not requested and not used: {quote_list(unused, 5)}"


def _check_call(workers: Workers, budget: Budget | None, out: str | Path | None, *, frames: bool) -> None:
    if workers.many and out is None:
        raise ConfigError("workers write their scores into the output folder; name one.")
    if workers.many and budget is not None:
        raise ConfigError("a budget needs a single process; leave out the workers, or the budget.")
    if frames and (out is None or budget is not None):
        raise ConfigError("frames are written to an output folder, and not within a budget.")


def _check_spec(spec: RunSpec, ensemble: Ensemble, output: OutputOptions, *, audio: bool) -> None:
    """Raise ConfigError for an invalid stride, shift, threshold or format before the first recording is decoded."""
    if not audio and set(output.formats) & set(DETECTIONS):
        raise ConfigError("detections need the recordings of the score tables; name them.")
    if "members" in output.formats and any(table.missing_rows == "others" for table in ensemble.tables):
        raise ConfigError("the format members needs all rows of every member; leave it out, or refuse missing rows.")
    for view in spec.views:
        member = ensemble.members[view.member]
        frontend = member.contract.frontend
        view.windowing.plan(frontend.sample_rate, frontend, member.steps, (0, 1), view.shift_s)
    n_classes, unknown = len(ensemble.classes), sorted(set(output.detection.thresholds) - set(ensemble.classes))
    if unknown:
        raise ConfigError(f"a threshold is set for {unknown[0]!r}, which is not among the {n_classes} classes.")


def _check_stages(
    stages: Sequence[Stage], ensemble: Ensemble, row_s: int, taxa: Mapping[str, str]
) -> tuple[tuple[Stage, ...], ...]:
    """Return the stages of each member; raise ConfigError for an unknown member, or a taxon that no class is of."""
    shared, own = split_stages(stages, len(ensemble.weights))
    row = make_table([f"x_{row_s}"], ensemble.classes, np.zeros((1, len(ensemble.classes)), np.float32))
    for each in (shared, *own):
        apply(row, each, taxa)
    return own


def _check_sites(species: SpeciesList, recordings: Sequence[Recording], log: Callable[[str], None]) -> None:
    """Refuse (DataError) a recording whose site has no list, and log the sites without a recording."""
    for recording in recordings:
        species.classes_of(recording.path)
    unused = set(species.sites).difference(find_site(each.path, species.deployments) for each in recordings)
    if unused:
        log(f"{species.path}: no recording is of the sites {quote_list(sorted(unused))}")


def _settings(
    ensemble: Ensemble, members: Sequence[OpenVinoBackend], windowing: Windowing, *, frames: bool
) -> Mapping[str, Any]:
    """Return everything that changes the stored scores, and the tables; the rest is applied to these later."""
    return {
        "schema": SCHEMA,
        "bundles": [[member.bundle.contract.fingerprint, member.bundle.sha256] for member in members],
        **vars(windowing),
        "precision": members[0].precision if members else "f32",
        "frames": frames,
        # Rows of other weights are computed from what is stored, frames are not.
        **({"mean": [ensemble.mean, *map(repr, ensemble.weights), *ensemble.classes]} if frames else {}),
        **({"tables": [table.sha256 for table in ensemble.tables]} if ensemble.tables else {}),
    }
