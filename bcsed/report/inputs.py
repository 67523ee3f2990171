"""What the page is made from: paths, recognised by their content, and the options for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from ..models.bundle import manifest
from ..models.bundle.bundle import Bundle
from ..predict import store
from ..rounds.api import LEDGER, TABLE
from ..scores.detections.taxonomy import ClassName
from ..train.checkpoints import RUN

# The file that marks a folder, and the kind of the folder.
_MARKERS = {RUN: "run", manifest.MANIFEST: "bundle", LEDGER: "rounds", store.MANIFEST: "scores"}


class ReportInput(NamedTuple):
    """A path and its kind: ``run``, ``bundle``, ``scores``, ``pseudolabels`` or ``rounds``."""

    kind: str
    path: Path


@dataclass(frozen=True, kw_only=True)
class ReportContext:
    """Options that hold for every path of the page; see `bcsed.report.report`."""

    recordings: tuple[str | Path, ...] = ()
    truth: str | Path | None = None
    bundle: Bundle | None = None
    names: Mapping[str, ClassName] = field(default_factory=dict)
    n_examples: int = 3
    jobs: int = 2
    progress: Callable[[str], None] = lambda _: None


def recognise(paths: Sequence[str | Path]) -> list[ReportInput]:
    """Return the kind of each path, and of the content of a folder of such folders."""
    inputs: list[ReportInput] = []
    for path in map(Path, paths):
        recognised = _recognise_path(path)
        if recognised is not None:
            inputs.append(recognised)
            if recognised.kind == "rounds":
                inputs += [ReportInput("pseudolabels", table) for table in sorted(path.glob(f"round-*/{TABLE}"))]
            continue
        inside = [_recognise_path(item) for item in sorted(path.iterdir())] if path.is_dir() else []
        known = [item for item in inside if item is not None and item.path.suffix != ".csv"]
        if not known:
            reason = "it contains nothing that can be reported" if path.exists() else "there is no such path"
            raise DataError(
                f"{path}: {reason}; name a run, a bundle, a folder of predict, a score table (.csv), a table of "
                "pseudolabels (.parquet) or a folder of rounds."
            )
        inputs += known
    resolved = set[Path]()
    for item in inputs:
        if item.path.resolve() in resolved:
            raise DataError(f"{item.path} is named more than once; name it once.")
        resolved.add(item.path.resolve())
    return inputs


def _recognise_path(path: Path) -> ReportInput | None:
    if path.is_dir():
        return next((ReportInput(kind, path) for mark, kind in _MARKERS.items() if (path / mark).is_file()), None)
    kind = {".parquet": "pseudolabels", ".csv": "scores"}.get(path.suffix)
    return ReportInput(kind, path) if kind is not None and path.is_file() else None
