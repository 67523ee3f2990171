"""Score table -> pseudolabels with provenance: which teacher said what of which row, and what of it is believed."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..._version import __version__
from ...audio.decode import find_recordings
from ...config.strict import to_dict
from ...errors import ConfigError, DataError
from ...models.bundle.bundle import Bundle
from ...models.ensemble import from_bundles
from ...predict.api import RunOptions, predict
from ...predict.blocks import Windowing
from ...predict.outputs import OutputOptions
from ...scores.checks.ids import split_row_id
from .selection import Selection, select
from .table import Pseudolabels, check_broadcast, write_pseudolabels


def make_pseudolabels(
    bundles: Sequence[Bundle],
    recordings: Sequence[str | Path],
    out: str | Path,
    *,
    selection: Selection | None = None,
    weights: Sequence[float] | None = None,
    windowing: Windowing | None = None,
    jobs: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Pseudolabels:
    """Let teachers label recordings, and write the table.

    Parameters
    ----------
    bundles : sequence of Bundle
        The teachers, of one class list.
    recordings : sequence of str or Path
        Files and folders.
    out : str or Path
        The table, ``*.parquet``. Beside it: provenance in JSON, a figure of the counts, and a folder of the
        teachers' answers, with which the same call goes on after a kill, and another selection is made at
        once.
    selection : Selection, optional
        A threshold of .5 by default.
    weights, cut, jobs, progress
        See `bcsed.predict.predict`.

    Returns
    -------
    Pseudolabels
        Recordings that cannot be read, and those of digital silence, are left out and counted in the provenance.

    Raises
    ------
    ConfigError, BundleError, DataError
        As `predict`; or if `out` is there already, nothing could be read, or a recording's rows are all
        identical.
    """
    selection, out, windowing = selection or Selection(), Path(out), windowing or Windowing()
    if out.suffix != ".parquet":
        raise ConfigError(f"a table of pseudolabels is a .parquet file, got {out.name!r}.")
    if out.exists():
        raise DataError(f"{out} is already there; name another file, or remove it.")
    heard_paths = find_recordings(recordings)
    _check_stems(heard_paths)
    result = predict(
        from_bundles(bundles, weights),
        recordings,
        out=answers_folder(out),
        windowing=windowing,
        output=OutputOptions(formats=()),
        options=RunOptions(jobs=jobs),
        progress=progress,
    )
    if not len(result.scores):
        raise DataError(f"none of {result.n_recordings} recordings could be labelled; see {answers_folder(out)}.")
    check_broadcast(result.scores, allowed=result.silent)
    names = {path.stem: path.name for path in heard_paths}
    split = [split_row_id(row_id) for row_id in result.scores.index]
    heard = np.array([stem not in result.silent for stem, _ in split])
    scores = result.scores.to_numpy(np.float32)[heard]
    ends = np.array([end_s for _, end_s in split], np.int64)[heard]
    classes = tuple(map(str, result.scores.columns))
    values = select(scores, classes, selection)
    filename = np.array([names[stem] for stem, _ in split], object)[heard]
    table = Pseudolabels(
        filename=filename,
        start_s=ends - windowing.row_s,
        end_s=ends,
        values=values,
        classes=classes,
        provenance=_provenance(
            bundles, weights, selection, windowing, result.n_recordings, result.n_failed, result.silent
        ),
    )
    write_pseudolabels(table, out)
    return table


def _check_stems(paths: Sequence[Path]) -> None:
    """Refuse two recordings of one stem: a table's rows are bound to recordings by their file names."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise DataError(
                f"{other} and {path} share the name {path.stem!r}, so their rows could not be told apart; label them "
                "in two tables."
            )


def answers_folder(out: str | Path) -> Path:
    """Return where the teachers' answers are kept for a table."""
    out = Path(out)
    return out.with_name(f"{out.stem}.answers")


def _provenance(
    bundles: Sequence[Bundle],
    weights: Sequence[float] | None,
    selection: Selection,
    windowing: Windowing,
    n_recordings: int,
    n_failed: int,
    silent: Sequence[str],
) -> dict[str, Any]:
    given = list(weights) if weights is not None else [1.0] * len(bundles)
    return {
        "bcsed": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "teachers": [
            {
                "bundle": str(bundle.path),
                "experiment": bundle.provenance.get("experiment", ""),
                "fingerprint": bundle.contract.fingerprint,
                "sha256": bundle.sha256,
                "weight": weight,
            }
            for bundle, weight in zip(bundles, given, strict=True)
        ],
        "selection": selection.describe(),
        "rows": to_dict(windowing),
        "n_recordings": n_recordings,
        "n_failed": n_failed,
        "silent": list(silent),
    }
