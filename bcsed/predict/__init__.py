"""Recordings -> score table, in parallel.

Threads decode recordings and compute their pictures while OpenVINO answers windows; what is in flight is
bounded, so memory follows neither the number of recordings nor their length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .. import audio, rows
from .._version import __version__
from ..bundle import Bundle
from ..ensemble import Array, Ensemble, from_bundles
from ..errors import ConfigError, DataError
from .journal import Journal
from .pipeline import Run, one_torch_thread
from .rowscore import Rows, pool_rows, score_recording

ON_ERROR = ("report", "fill")


@dataclass(frozen=True)
class Result:
    """What a prediction came to.

    Parameters
    ----------
    scores : DataFrame
        The score table, rows in the order of the recordings.
    problems : DataFrame
        ``recording, status, reason``: status ``failed`` (not scored), ``filled`` (class priors in its
        rows) or ``note`` (scored, but something was wrong with the file).
    n_recordings, n_failed, n_resumed : int
        Asked for; not readable, filled ones included; taken from an earlier, interrupted run.
    silent : tuple of str
        Stems of recordings of digital silence, whose rows are rightly all the same.
    seconds : float
        Wall time.
    """

    scores: pd.DataFrame
    problems: pd.DataFrame
    n_recordings: int
    n_failed: int
    n_resumed: int
    silent: tuple[str, ...]
    seconds: float


def predict(
    bundles: Sequence[Bundle],
    recordings: Sequence[str | Path],
    *,
    weights: Sequence[float] | None = None,
    out: str | Path | None = None,
    cut: Rows | None = None,
    row_id: str = rows.ROW_ID,
    sample_submission: str | Path | None = None,
    submission: bool = True,
    on_error: str = "report",
    fill_s: int = 60,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Score recordings with one bundle or an ensemble.

    Parameters
    ----------
    bundles : sequence of Bundle
        All of one class list.
    recordings : sequence of str or Path
        Files and folders.
    weights : sequence of float, optional
        One per bundle; equal by default.
    out : str or Path, optional
        A folder for ``submission.csv``, ``problems.csv`` and ``manifest.json``. Each finished recording is
        kept there, and the same call goes on where a killed one ended.
    cut : Rows, optional
        Rows of 5 s from centred windows by default.
    row_id : str
        Form of a row's id, of ``stem`` and ``end`` (second).
    sample_submission : str or Path, optional
        The competition's template: its columns, in its order, are what is written.
    submission : bool
        Whether `out` gets a ``submission.csv``; the finished recordings are kept there in any case.
    on_error : {'report', 'fill'}
        What becomes of a recording that cannot be read: no rows, or rows of class priors. Both are listed.
    fill_s : int
        Duration assumed for such a recording.
    jobs : int
        Threads that decode and compute pictures; 0 does everything in the calling thread.
    progress : callable, optional
        Called with (recordings done, recordings in all).

    Raises
    ------
    ConfigError, BundleError, DataError
        If the call makes no sense, bundles disagree, two recordings share a name, or `out` holds another run.
    """
    if on_error not in ON_ERROR:
        raise ConfigError(f"on_error must be one of {', '.join(ON_ERROR)}; got {on_error!r}.")
    if jobs < 0:
        raise ConfigError(f"jobs must be at least 0, got {jobs}.")
    cut = cut or Rows()
    if cut.row_s < 1:
        raise ConfigError(f"a row must last at least 1 s, got {cut.row_s}.")
    paths = audio.find(recordings)
    _check_stems(paths)
    ensemble = from_bundles(bundles, weights)
    order = _columns(ensemble, sample_submission)
    _try_plan(ensemble, cut)
    journal = Journal(Path(out), _settings(bundles, ensemble, cut)) if out is not None else None
    run = Run(ensemble, cut, journal, on_error, fill_s, _priors(bundles, ensemble))
    started = time.monotonic()
    with one_torch_thread():
        for n_done in run.score(paths, jobs):
            if progress is not None:
                progress(n_done, len(paths))
    result = _result(run, len(paths), time.monotonic() - started, order, row_id)
    if journal is not None:
        _write(result, journal, sample_submission, submission=submission)
    return result


def _result(run: Run, n_recordings: int, seconds: float, order: Sequence[str], row_id: str) -> Result:
    """Gather the parts into one table."""
    ids: list[str] = []
    for path, part in run.parts.items():
        ids += rows.row_ids(path.stem, len(part.scores), run.cut.row_s, row_id)
    empty = np.empty((0, len(run.ensemble.classes)), np.float32)
    scores = np.concatenate([part.scores for part in run.parts.values()] or [empty])
    table = rows.make(ids, run.ensemble.classes, scores)[list(order)]
    problems = pd.DataFrame(run.problems, columns=["recording", "status", "reason"])
    return Result(
        scores=table,
        problems=problems,
        n_recordings=n_recordings,
        n_failed=int(problems["status"].isin(["failed", "filled"]).sum()),
        n_resumed=run.n_resumed,
        silent=tuple(path.stem for path, part in run.parts.items() if part.silent),
        seconds=seconds,
    )


def _check_stems(paths: Sequence[Path]) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise DataError(
                f"{other} and {path} share the name {path.stem!r}, so their rows would have the same ids; "
                "score them in two runs."
            )


def _columns(ensemble: Ensemble, sample_submission: str | Path | None) -> list[str]:
    """Return the order of the columns to write, and refuse a template with other classes before scoring."""
    if sample_submission is None:
        return list(ensemble.classes)
    order = [str(name) for name in rows.read(sample_submission).columns]
    differing = sorted(set(order) ^ set(ensemble.classes))
    if differing:
        only = "bundle" if differing[0] in ensemble.classes else "template"
        raise DataError(
            f"{sample_submission}: class {differing[0]!r} is only in the {only} ({len(differing)} such "
            "classes); these are not the classes that the bundle was trained on."
        )
    return order


def _try_plan(ensemble: Ensemble, cut: Rows) -> None:
    """Let a stride that does not fit fail before the first recording is decoded."""
    for member in ensemble.members:
        cut.plan(member.contract.signal.sample_rate, member.contract.signal, member.steps, (0, 1))


def _settings(bundles: Sequence[Bundle], ensemble: Ensemble, cut: Rows) -> Mapping[str, Any]:
    """Everything that changes a score."""
    return {
        "bundles": [[bundle.contract.fingerprint, bundle.sha256] for bundle in bundles],
        "weights": list(ensemble.weights),
        "n_classes": len(ensemble.classes),
        "row_s": cut.row_s,
        "windows": cut.windows,
        "stride_s": cut.stride_s,
        "precision": "f32",
        "bcsed": __version__,
    }


def _priors(bundles: Sequence[Bundle], ensemble: Ensemble) -> Array:
    return ensemble.mean([np.asarray([bundle.priors], np.float32) for bundle in bundles]).reshape(-1)


def _write(result: Result, journal: Journal, sample_submission: str | Path | None, *, submission: bool) -> None:
    with rows.replacing(journal.folder / "problems.csv") as temporary:
        result.problems.to_csv(temporary, index=False)
    if submission and len(result.scores):
        rows.write_submission(
            result.scores, journal.folder / "submission.csv", sample_submission, constant=result.silent
        )
    journal.describe(
        {
            "settings": journal.settings,
            "n_recordings": result.n_recordings,
            "n_failed": result.n_failed,
            "n_resumed": result.n_resumed,
            "n_rows": len(result.scores),
            "seconds": round(result.seconds, 2),
        }
    )


__all__ = ["Result", "Rows", "pool_rows", "predict", "score_recording"]
