"""Share a run among workers: joblib's threads or processes, or a Dask cluster.

A worker loads the bundles itself, writes its parts into the run's folder, and returns only the failures. If a worker
dies, another one scores its shard; a part that is written twice is the same part.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import interrupt
from .._version import __version__
from ..errors import BundleError, ConfigError
from ..files import is_remote
from ..models.backends import OpenVinoBackend
from ..models.bundle.bundle import load
from ..models.ensemble import Ensemble, from_bundles
from .outputs import frames_writer
from .pipeline import torch_thread
from .run import PredictionRun
from .spec import RunSpec
from .store import FolderStore, Recording

BACKENDS = ("threads", "processes")
# Timeout (s) for connecting to a scheduler.
PATIENCE_S = 20


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Threads, processes or machines that share the recordings.

    A `scheduler` is the address of Dask's, such as ``tcp://10.0.0.1:8786``; its workers score, and need the bundles,
    the recordings and the output folder under the same paths. It requires ``bcsed[dask]``.
    """

    n: int = 1  # workers of this machine; they share the processor's cores
    backend: str = "threads"  # or 'processes'
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"there must be at least 1 worker, got {self.n}.")
        if self.backend not in BACKENDS:
            raise ConfigError(f"the backend of workers must be one of {', '.join(BACKENDS)}; got {self.backend!r}.")

    @property
    def many(self) -> bool:
        """Whether other threads or processes than the caller's score."""
        return self.n > 1 or self.scheduler is not None or self.backend == "processes"

    @property
    def threads_each(self) -> int | None:
        """Cores of each worker of this machine; None leaves it to OpenVINO."""
        return None if self.scheduler is not None or self.n == 1 else max(1, (os.cpu_count() or 1) // self.n)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """The work of one worker: everything that it needs to score some recordings."""

    recordings: tuple[Recording, ...]
    bundles: tuple[tuple[str, str], ...]  # path, and SHA-256 of the graph's weights
    ensemble: tuple[tuple[str, Any], ...]  # further arguments of `from_bundles`; hashable
    spec: RunSpec
    folder: Path
    jobs: int
    frames: bool
    version: str = __version__


def _make_shards(run: PredictionRun, ensemble: Ensemble, workers: Workers) -> list[Shard]:
    """Divide the recordings that are not scored yet into shards."""
    assert isinstance(run.store, FolderStore)
    rest = [replace(each, path=_absolute(each.path)) for each in run.unfinished()]
    members = [member for member in ensemble.members if isinstance(member, OpenVinoBackend)]
    shard = Shard(
        recordings=(),
        bundles=tuple((str(member.bundle.path.absolute()), member.bundle.sha256) for member in members),
        ensemble=(
            *(("weights", ensemble.weights), ("mean", ensemble.mean), ("classes", ensemble.classes)),
            *(("threads", workers.threads_each), ("precision", members[0].precision), ("cache", members[0].cache)),
            ("embeddings", members[0].bundle.is_embedding),
            ("tables", tuple(replace(table, table=table.table[:0]) for table in ensemble.tables)),
        ),
        spec=run.spec,
        folder=run.store.folder.absolute(),
        jobs=run.jobs,
        frames=run.write_frames is not None,
    )
    firsts = range(0, len(rest), run.shard)
    return [replace(shard, recordings=tuple(rest[first : first + run.shard])) for first in firsts]


def _absolute(path: Path) -> Path:
    """Return the path for a worker, whose working folder may be another one."""
    return path if is_remote(path) else path.absolute()


def score_with_workers(run: PredictionRun, ensemble: Ensemble, workers: Workers) -> None:
    """Score the rest of a run by workers; add their parts and failures to the run.

    ConfigError if Dask is requested and not installed, or its scheduler does not respond.
    """
    import joblib

    path_of = {str(_absolute(recording.path)): recording.path for recording in run.recordings}
    # A worker without a shard would only load the bundles.
    workers = replace(workers, n=max(1, min(workers.n, -(-len(run.unfinished()) // run.shard))))
    shards = _make_shards(run, ensemble, workers)
    n_done, total = 0, sum(len(shard.recordings) for shard in shards)
    with _backend(workers) as options:
        parallel = joblib.Parallel(**options, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
        rest = itertools.takewhile(lambda _: not interrupt.asked(), shards)
        with interrupt.shielded():
            results = parallel(joblib.delayed(score_shard)(shard) for shard in rest)
        for n_shard, failures in results:
            run.failures.update({path_of[path]: reason for path, reason in failures})
            n_done += n_shard
            if run.progress is not None:
                run.progress(n_done, total)
    if isinstance(run.store, FolderStore):
        run.store.scan()


def score_shard(shard: Shard) -> tuple[int, list[tuple[str, str]]]:
    """Score one shard in this process; return the number of its recordings, and the failures with their reasons."""
    if shard.version != __version__:
        raise ConfigError(
            f"a worker has bcsed {__version__}, the run was started by {shard.version}; install the same version."
        )
    ensemble = _load_ensemble(shard.bundles, shard.ensemble, threading.get_ident())
    run = PredictionRun(
        shard.spec,
        shard.recordings,
        FolderStore(shard.folder, shard.spec.settings, claim=False),
        shard=len(shard.recordings),
        jobs=shard.jobs,
        write_frames=frames_writer(shard.folder, ensemble.classes) if shard.frames else None,
    )
    with torch_thread(ensemble):
        run.run(ensemble, run.spec.views, run.recordings)
    return len(shard.recordings), [(str(path), reason) for path, reason in run.failures.items()]


@functools.lru_cache(maxsize=64)
def _load_ensemble(
    bundles: tuple[tuple[str, str], ...], arguments: tuple[tuple[str, Any], ...], _thread: int
) -> Ensemble:
    """Load bundles once per worker; each thread has its own, since an OpenVINO queue is used by one thread."""
    loaded = []
    for path, sha256 in bundles:
        loaded.append(load(path))
        if loaded[-1].sha256 != sha256:
            raise BundleError(f"{path} is another bundle on this worker than where the run was started.")
    options = dict(arguments)
    return from_bundles([*loaded, *options.pop("tables")], **options)


@contextmanager
def _backend(workers: Workers) -> Iterator[dict[str, Any]]:
    import joblib

    if workers.scheduler is None:
        yield {"n_jobs": workers.n, "backend": "loky" if workers.backend == "processes" else "threading"}
        return
    try:
        from dask.distributed import Client
    except ImportError as error:
        raise ConfigError("a Dask scheduler needs Dask: pip install 'bcsed[dask]'.") from error
    try:
        client: Any = Client(workers.scheduler, timeout=PATIENCE_S)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{workers.scheduler}: no Dask scheduler responds there ({reason}).") from error
    with client, joblib.parallel_config(backend="dask", client=client):
        yield {"n_jobs": -1}
