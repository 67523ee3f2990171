"""Find what a notebook attaches.

Kaggle mounts inputs in one of two layouts, depending on how the notebook was created: ``input/<slug>`` for
everything, or ``input/competitions/<slug>``, ``input/datasets/<owner>/<slug>``, ``input/notebooks/<owner>/<slug>``
and ``input/models/<owner>/<model>/<framework>/<variation>/<version>``. An input is recognised by a marker file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ConfigError, DataError
from ..files import sha256, shorten_list
from ..recordings import AUDIO_SUFFIXES

Log = Callable[[str], None]

ROOT_VARIABLE = "BCSED_KAGGLE_ROOT"

_LAYOUTS = ("{slug}", "competitions/{slug}", "datasets/*/{slug}", "notebooks/*/{slug}", "models/*/{slug}")
# models/<owner>/<model>/<framework>/<variation>/<version>/ and two folders of the user.
_MAX_DEPTH = 8
_MAX_FOLDERS = 5_000
# These contain tens of thousands of recordings and nothing else.
_SKIPPED = ("train_audio", "train_soundscapes", "test_soundscapes", "__pycache__")


class InputKind(NamedTuple):
    """A kind of input, and the files by which it is recognised."""

    name: str
    markers: tuple[str, ...]  # name patterns; a folder that contains one is such an input
    attach: str  # advice if the input is missing
    is_file: bool = False  # the input is the marker itself, not its folder
    sidecar: str = ""  # suffix of a file that must exist next to the marker
    also_compare: str = ""  # a second file in which two inputs may differ


_TRAINING = "attach the output of the training notebook, or a data set of `bcsed kaggle dataset --bundles`"
_DATA = "attach the competition's data (competition_sources of kernel-metadata.json)"
_FILES = ("*.safetensors", "*.pt", "*.pth", "*.bin", "*.ckpt")
_ANY = "attach a model or a data set that contains it"
COMPETITION = InputKind("competition", ("sample_submission.csv", "train.csv"), _DATA)
BUNDLE = InputKind("bundle", ("bundle.json",), _TRAINING)
RUN = InputKind("run to resume", ("run.json",), "attach the output of its last session", also_compare="last.pt")
PSEUDOLABELS = InputKind(
    "table of pseudolabels", ("*.parquet",), "attach the output of the pseudolabel notebook", True, sidecar=".json"
)
WEIGHTS = InputKind("file of weights", _FILES, _ANY, True)
TEACHER = InputKind("table of embeddings", ("*.parquet", "*.npz"), _ANY, True)
TABLE = InputKind("score table", ("*.csv", "*.parquet"), _ANY, True)
KEY_MAP = InputKind("key map", ("*.json",), _ANY, True)
ROUNDS = InputKind("rounds to resume", ("rounds/plan.json",), RUN.attach, also_compare="ledger.json")
PLAN = InputKind("plan of rounds", ("*.json",), "name a preset of `bcsed rounds`, or attach a plan", True)
RECORDINGS = InputKind("folder of recordings", tuple(f"*{suffix}" for suffix in AUDIO_SUFFIXES), _ANY)
LABELS = InputKind("file of labels", ("*.csv", "*.txt", "*.tsv"), _ANY, True)
EVENTS = InputKind("annotation table", LABELS.markers, _ANY, True)
NOISE = InputKind("folder of noise", RECORDINGS.markers, _ANY)


def kaggle_root(root: str | Path | None = None) -> Path:
    """Return the folder of ``input`` and ``working``: `root`, the environment variable, or ``/kaggle``."""
    path = Path(root or os.environ.get(ROOT_VARIABLE) or "/kaggle")
    if not (path / "input").is_dir():
        raise DataError(
            f"{path} has no folder input, so this is not a Kaggle notebook; name its root in {ROOT_VARIABLE}."
        )
    return path


def find_inputs(kind: InputKind, wanted: str = "", *, root: Path, log: Log) -> list[Path]:
    """Return the attached inputs of a kind, folders or files; those whose markers are equal byte by byte count once.

    `wanted` is a path (absolute, or below ``input``), a slug with or without its owner, the name of a file or folder
    inside an input, or '' for all that are attached. If it is not attached, DataError lists what is.
    """
    source = root / "input"
    folders = _candidates(source, wanted) if wanted else [source]
    inputs = _unique_inputs(folders, kind)
    if not inputs and wanted and kind is COMPETITION and not Path(wanted).is_absolute():
        # A copy of a competition's data may be mounted under another slug.
        inputs = _unique_inputs([source], kind)
        for path in inputs:
            log(f"{kind.name}: {wanted!r} is in neither layout below {source}; {path} looks like a competition")
    if not inputs and wanted:
        where = f"{folders[0]} contains none" if folders else f"there is no {wanted!r} below {source}"
        raise _not_attached(kind, f": {where}", source)
    for path in inputs:
        log(f"{kind.name}: {path}")
    return inputs


def find_input(kind: InputKind, wanted: str = "", *, root: Path, log: Log) -> Path:
    """Return the only attached input of a kind, see `find_inputs`; raise DataError if there is not exactly one."""
    inputs = find_inputs(kind, wanted, root=root, log=log)
    if not inputs:
        raise _not_attached(kind, f" below {root / 'input'}", root / "input")
    if len(inputs) > 1:
        raise DataError(
            f"{len(inputs)} different inputs could be the {kind.name}, such as {inputs[0]} and {inputs[1]}; name the "
            "one to use."
        )
    return inputs[0]


def find_members(bundles: Sequence[str], tables: Sequence[str], *, root: Path, log: Log) -> list[Path]:
    """Return the folders of bundles, see `find_bundles`, and the files of score tables.

    No bundle needs to be attached if tables are named. A path of a table may also be in ``working``, where another cell
    of the notebook has written it.
    """
    scratch = root / "working" / ".bundles"
    folders = find_bundles(bundles, root=root, scratch=scratch, log=log, required=not tables)
    return [*folders, *(find_input(TABLE, name, root=root, log=log) for name in tables)]


def find_bundles(wanted: Sequence[str], *, root: Path, scratch: Path, log: Log, required: bool = True) -> list[Path]:
    """Return the folders of the wanted bundles in their order, or of all attached bundles; unpack zips to `scratch`."""
    from .datasets import unpack

    def by_content(paths: Iterable[Path]) -> dict[str, Path]:
        """Return the bundles by content: a zip that is attached twice counts once."""
        return {_identity(path / "bundle.json", BUNDLE): path for path in paths}

    unpacked = unpack(root / "input", scratch)
    zipped = {path: root / "input" / path.relative_to(scratch) for path in unpacked}
    bundles: list[Path] = []
    for name in wanted or [""]:
        # A zip, or the data set that contains it, may be named instead of the bundle.
        below = _candidates(root / "input", name) if name else []
        matching = by_content(path for path in unpacked if path.name == name or {*zipped[path].parents} & {*below})
        for path in matching.values() or find_inputs(BUNDLE, name, root=root, log=log):
            if path in bundles:
                raise ConfigError(f"{path} is named twice among the bundles: {', '.join(wanted)}.")
            bundles.append(path)
    if not wanted:
        known = by_content(bundles)
        bundles += [path for identity, path in by_content(unpacked).items() if identity not in known]
    for path in unpacked:
        if path in bundles:
            log(f"{BUNDLE.name}: {path}, unpacked from a zip")
    if not bundles and required:
        raise _not_attached(BUNDLE, f" below {root / 'input'}", root / "input")
    return bundles


def _not_attached(kind: InputKind, where: str, source: Path) -> DataError:
    """Return the error about a missing input; it lists the attached folders of both layouts."""
    names: list[str] = []
    for path in sorted(source.iterdir()):
        depth = {"competitions": 1, "datasets": 2, "notebooks": 2, "models": 2}.get(path.name, 0)
        inside = sorted(path.glob("/".join("*" * depth))) if depth else []
        names += [str(item.relative_to(source)) for item in inside or [path]]
    return DataError(f"no {kind.name}{where}; {kind.attach}. {source} contains {shorten_list(names, 12)}.")


def _candidates(source: Path, wanted: str) -> list[Path]:
    """Return the paths that a path or slug can stand for."""
    path = Path(wanted)
    if path.is_absolute():
        return [path] if path.exists() else []
    if (source / path).exists():
        return [source / path]
    owner, _, slug = wanted.rpartition("/")
    # The first layout does not contain the owner.
    patterns = [layout.format(slug=slug).replace("*", owner or "*") for layout in _LAYOUTS]
    paths = dict.fromkeys(path for pattern in patterns for path in sorted(source.glob(pattern)))
    if not paths and not owner:
        # A folder or file inside an input, such as one bundle in a data set of several.
        inside = (path for folder in _folders(source) for path in (folder, folder / slug))
        paths = dict.fromkeys(path for path in inside if path.name == slug and path.exists())
    return list(paths)


def _unique_inputs(paths: Sequence[Path], kind: InputKind) -> list[Path]:
    """Return the different inputs of a kind, nearest first."""
    inputs: dict[str, Path] = {}
    for path in paths:
        folders: Iterable[Path] = [path.parent] if path.is_file() else _folders(path)
        for folder in folders:
            files = [path] if path.is_file() else [f for name in kind.markers for f in sorted(folder.glob(name))]
            markers = [file for file in files if _is_marker(file, kind)]
            for marker in markers if kind.is_file else markers[:1]:
                inputs.setdefault(_identity(marker, kind), marker if kind.is_file else marker.parent)
    return list(inputs.values())


def _folders(top: Path) -> Iterator[Path]:
    """Yield a folder and those below it, nearest first, up to a limit and without folders of recordings."""
    level, n_folders = [top], 0
    for _ in range(_MAX_DEPTH):
        below: list[Path] = []
        for folder in level:
            n_folders += 1
            if n_folders > _MAX_FOLDERS:
                return
            yield folder
            below += sorted(
                Path(entry.path)
                for entry in os.scandir(folder)
                if entry.is_dir() and entry.name not in _SKIPPED and not entry.name.startswith(".")
            )
        level = below


def _is_marker(path: Path, kind: InputKind) -> bool:
    matches = path.is_file() and any(path.match(pattern) for pattern in kind.markers)
    return matches and (not kind.sidecar or path.with_suffix(kind.sidecar).is_file())


def _identity(marker: Path, kind: InputKind) -> str:
    second = marker.with_name(kind.also_compare) if kind.also_compare else None
    return sha256(marker) + (sha256(second) if second is not None and second.is_file() else "")
