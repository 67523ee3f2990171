"""What a path holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..models.bundle.manifest import MANIFEST as BUNDLE
from ..predict.store import MANIFEST as SCORES
from ..rounds.api import LEDGER, TABLE
from ..train.checkpoints import RUN

# What tells a folder, and what it then is.
_MARKS = {RUN: "run", BUNDLE: "bundle", LEDGER: "rounds", SCORES: "scores"}


class ReportInput(NamedTuple):
    """A path and what it is: ``run``, ``bundle``, ``scores``, ``pseudolabels`` or ``rounds``."""

    kind: str
    path: Path


def recognise(paths: Sequence[str | Path]) -> list[ReportInput]:
    """Return what each path is; of a folder of such folders, what these are.

    Raises
    ------
    DataError
        If one is nothing that can be reported, or stands twice.
    """
    found: list[ReportInput] = []
    for path in map(Path, paths):
        one = _kind(path)
        inside = [one] if one is not None else _inside(path)
        if not inside:
            what = "there is no such path" if not path.exists() else "it holds nothing that can be reported"
            raise DataError(
                f"{path}: {what}; name a run, a bundle, a folder of predict, a score table (.csv), a table of "
                "pseudolabels (.parquet) or a folder of rounds."
            )
        found += inside
        if one is not None and one.kind == "rounds":
            found += [ReportInput("pseudolabels", table) for table in sorted(path.glob(f"round-*/{TABLE}"))]
    seen = set[Path]()
    for each in found:
        if each.path.resolve() in seen:
            raise DataError(f"{each.path} is named more than once; name it once.")
        seen.add(each.path.resolve())
    return found


def _kind(path: Path) -> ReportInput | None:
    if path.is_dir():
        return next((ReportInput(kind, path) for mark, kind in _MARKS.items() if (path / mark).is_file()), None)
    if path.suffix == ".parquet" and path.is_file():
        return ReportInput("pseudolabels", path)
    return ReportInput("scores", path) if path.suffix == ".csv" and path.is_file() else None


def _inside(path: Path) -> list[ReportInput]:
    if not path.is_dir():
        return []
    return [one for one in map(_kind, sorted(path.iterdir())) if one is not None and one.path.suffix != ".csv"]
