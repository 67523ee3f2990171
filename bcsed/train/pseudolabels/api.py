"""Label soundscapes with teachers: score, select, write the table."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..._version import __version__
from ...audio.decode import find_recordings
from ...config.strict import to_dict
from ...errors import ConfigError, DataError
from ...models.bundle.bundle import Bundle
from ...models.ensemble import from_bundles
from ...predict.api import RunOptions, predict
from ...predict.outputs import OutputOptions
from ...predict.spec import Windowing
from ...scores.checks.ids import parse_row_ids
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
    """Label recordings with teachers; write the table and return it.

    It is without unreadable and silent recordings, which are counted in the provenance.

    Parameters
    ----------
    bundles, weights : sequence of Bundle, sequence of float
        The teachers, with the same classes; their weights, equal by default.
    recordings : sequence of str or Path
        Files and folders.
    out : str or Path
        The table, ``*.parquet``. The same stem names its provenance (JSON), a figure of the counts, and a folder of
        the teachers' scores, from which an interrupted call is resumed and another selection needs no scoring.
    selection : Selection, optional
        A threshold of 0.5 by default.
    windowing, jobs, progress
        See `bcsed.predict.predict`.

    Raises
    ------
    ConfigError, BundleError, DataError
        As `predict`; or if `out` exists, no recording can be read, or all rows of a recording are identical.
    """
    selection, out, windowing = selection or Selection(), Path(out), windowing or Windowing()
    if out.suffix != ".parquet":
        raise ConfigError(f"a table of pseudolabels is a .parquet file, got {out.name!r}.")
    if out.exists():
        raise DataError(f"{out} is already there; name another file, or remove it.")
    paths = find_recordings(recordings)
    _check_stems(paths)
    result = predict(
        from_bundles(bundles, weights),
        recordings,
        out=scores_folder(out),
        windowing=windowing,
        output=OutputOptions(formats=()),
        options=RunOptions(jobs=jobs),
        progress=progress,
    )
    if not len(result.scores):
        raise DataError(f"none of {result.n_recordings} recordings could be labelled; see {scores_folder(out)}.")
    check_broadcast(result.scores, allowed=result.silent)
    ids = parse_row_ids(result.scores.index)
    used = np.array([stem not in result.silent for stem in ids.stems])[ids.recording]
    names = {path.stem: path.name for path in paths}
    classes = tuple(map(str, result.scores.columns))
    table = Pseudolabels(
        filename=np.array([names[stem] for stem in ids.stems], object)[ids.recording][used],
        start_s=ids.end_s[used] - windowing.row_s,
        end_s=ids.end_s[used],
        values=select(result.scores.to_numpy(np.float32)[used], classes, selection),
        classes=classes,
        provenance={
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
                for bundle, weight in zip(bundles, weights or [1.0] * len(bundles), strict=True)
            ],
            "selection": selection.describe(),
            "windowing": to_dict(windowing),
            "n_recordings": result.n_recordings,
            "n_failed": result.n_failed,
            "silent": list(result.silent),
        },
    )
    write_pseudolabels(table, out)
    return table


def scores_folder(out: str | Path) -> Path:
    """Return the folder of the teachers' scores of a table."""
    out = Path(out)
    return out.with_name(f"{out.stem}.scores")


def _check_stems(paths: Sequence[Path]) -> None:
    """Refuse two recordings of one stem: row ids contain the stem only."""
    stem, count = Counter(path.stem for path in paths).most_common(1)[0] if paths else ("", 0)
    if count > 1:
        first, second = [path for path in paths if path.stem == stem][:2]
        raise DataError(
            f"{first} and {second} share the name {stem!r}, so their rows would have the same ids; label them in two "
            "tables."
        )
