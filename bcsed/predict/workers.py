"""The same run by many: shards of recordings, scored by joblib's threads or processes, or a Dask cluster.

A worker opens the bundles itself, writes its parts where the run's folder is, and sends back only what failed.
Should one die, its shard is scored by another; a part that is written twice is the same part.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._version import __version__
from ..errors import BundleError, ConfigError
from ..models import bundle
from ..models.ensemble import Ensemble, from_bundles
from .blocks import View
from .outputs import frames_writer
from .pipeline import one_torch_thread
from .run import PredictionRun, Recording
from .store import FolderStore

BACKENDS = ("threads", "processes")
# Seconds in which a scheduler has to answer.
PATIENCE_S = 20


@dataclass(frozen=True, kw_only=True)
class Workers:
    """Who scores.

    Parameters
    ----------
    n : int
        Workers of this machine; the processor's cores are shared out among them.
    backend : {'threads', 'processes'}
    scheduler : str or None
        Address of a Dask scheduler, such as ``tcp://10.0.0.1:8786``; its workers score, and must see the bundles,
        the recordings and the output folder under the same paths. ``bcsed[dask]`` brings what this needs.
    """

    n: int = 1
    backend: str = "threads"
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"there must be at least 1 worker, got {self.n}.")
        if self.backend not in BACKENDS:
            raise ConfigError(f"the backend of workers must be one of {', '.join(BACKENDS)}; got {self.backend!r}.")

    @property
    def many(self) -> bool:
        """Whether anybody but the calling process scores."""
        return self.n > 1 or self.scheduler is not None or self.backend == "processes"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What one worker is given.

    Parameters
    ----------
    recordings : tuple of Recording
    bundles : tuple of (str, str)
        Path of each, and the SHA-256 of its graph's weights.
    ensemble : mapping
        Further arguments of `bcsed.models.ensemble.from_bundles`.
    looks : tuple of View
    folder : Path
    settings : mapping
        Of the run.
    jobs : int
    frames : bool
    version : str
        bcsed's, of the process that asks.
    """

    recordings: tuple[Recording, ...]
    bundles: tuple[tuple[str, str], ...]
    ensemble: Mapping[str, Any]
    views: tuple[View, ...]
    folder: Path
    settings: Mapping[str, Any]
    jobs: int
    frames: bool
    version: str = __version__


def score_with_workers(drive: PredictionRun, shards: Sequence[Shard], workers: Workers) -> None:
    """Score shards by workers; what they wrote is then in the run's folder, and failures in the run.

    Raises
    ------
    ConfigError
        If Dask is asked for and not there, or its scheduler does not answer.
    """
    import joblib

    path_of = {str(one.path): one.path for one in drive.recordings}
    n_done, total = 0, sum(len(shard.recordings) for shard in shards)
    with _backend(workers) as options:
        parallel = joblib.Parallel(**options, return_as="generator_unordered", batch_size=1, pre_dispatch="2*n_jobs")
        for n_shard, failures in parallel(joblib.delayed(score_shard)(shard) for shard in shards):
            drive.failures.update({path_of[path]: why for path, why in failures})
            n_done += n_shard
            if drive.progress is not None:
                drive.progress(n_done, total)
    if isinstance(drive.store, FolderStore):
        drive.store.scan()


def score_shard(shard: Shard) -> tuple[int, list[tuple[str, str]]]:
    """Score one shard in this process; return the number of its recordings, and which failed and why."""
    if shard.version != __version__:
        raise ConfigError(
            f"a worker has bcsed {__version__}, the run was begun by {shard.version}; install one version."
        )
    ensemble = _ensemble(shard.bundles, tuple(sorted(shard.ensemble.items())), threading.get_ident())
    store = FolderStore(shard.folder, shard.settings, claim=False)
    drive = PredictionRun(
        ensemble,
        shard.recordings,
        shard.views,
        store,
        shard=len(shard.recordings),
        jobs=shard.jobs,
        keep_frames=frames_writer(shard.folder, ensemble.classes) if shard.frames else None,
    )
    with one_torch_thread():
        drive.all()
    return len(shard.recordings), [(str(path), why) for path, why in drive.failures.items()]


@functools.lru_cache(maxsize=64)
def _ensemble(bundles: tuple[tuple[str, str], ...], options: tuple[tuple[str, Any], ...], _thread: int) -> Ensemble:
    """Open bundles once per worker; threads have their own, since a queue of windows belongs to one."""
    opened = []
    for path, sha256 in bundles:
        opened.append(bundle.load(path))
        if opened[-1].sha256 != sha256:
            raise BundleError(f"{path} is another bundle here than where the run was begun.")
    return from_bundles(opened, **dict(options))


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
        raise ConfigError(
            f"{workers.scheduler}: no Dask scheduler answers there ({str(error).splitlines()[0]})."
        ) from error
    with client, joblib.parallel_config(backend="dask", client=client):
        yield {"n_jobs": -1}


def threads_each(workers: Workers) -> int | None:
    """Return the cores that one worker of this machine uses; None leaves it to OpenVINO."""
    if workers.scheduler is not None or workers.n == 1:
        return None
    return max(1, (os.cpu_count() or 1) // workers.n)
