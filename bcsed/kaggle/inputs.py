"""Where Kaggle has put what a notebook attaches.

Conventions
-----------
Two layouts are in use, and which one a notebook gets depends on how it was made: ``input/<slug>`` for everything,
or ``input/competitions/<slug>``, ``input/datasets/<owner>/<slug>``, ``input/notebooks/<owner>/<slug>`` and
``input/models/<owner>/<model>/<framework>/<variation>/<version>``. A thing is known by a file that only it has,
its marker; what was chosen, and what was there where nothing fits, is said in a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ConfigError, DataError
from ..files import sha256
from .markers import InputKind, Log

ROOT_VARIABLE = "BCSED_KAGGLE_ROOT"

_LAYOUTS = ("{slug}", "competitions/{slug}", "datasets/*/{slug}", "notebooks/*/{slug}", "models/*/{slug}")
# models/<owner>/<model>/<framework>/<variation>/<version>/ and two folders of the user's own.
_MAX_DEPTH = 8
_MAX_FOLDERS = 5_000
# Recordings by the ten thousand: nothing else lies among them.
_NOT_ENTERED = ("train_audio", "train_soundscapes", "test_soundscapes", "__pycache__")


COMPETITION = InputKind(
    name="competition",
    markers=("sample_submission.csv", "train.csv"),
    attach="attach the competition's data (competition_sources of kernel-metadata.json)",
)
BUNDLE = InputKind(
    name="bundle",
    markers=("bundle.json",),
    attach="attach the output of the training notebook, or a data set of `bcsed kaggle dataset --bundles`",
)
RUN = InputKind(
    name="run to resume",
    markers=("run.json",),
    attach="attach the output of the session that is to go on",
    along="last.pt",
)
PSEUDOLABELS = InputKind(
    name="table of pseudolabels",
    markers=("*.parquet",),
    attach="attach the output of the pseudolabel notebook",
    is_file=True,
    beside=".json",
)
WEIGHTS = InputKind(
    name="file of weights",
    markers=("*.safetensors", "*.pt", "*.pth", "*.bin"),
    attach="attach a model or a data set that holds it",
    is_file=True,
)


def kaggle_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds ``input`` and ``working``: as given, by environment variable, or ``/kaggle``.

    Raises
    ------
    DataError
        If it has no ``input``.
    """
    found = Path(root or os.environ.get(ROOT_VARIABLE) or "/kaggle")
    if not (found / "input").is_dir():
        raise DataError(f"{found} has no folder input: this is no Kaggle notebook; name its root in {ROOT_VARIABLE}.")
    return found


def find_inputs(kind: InputKind, wanted: str = "", *, root: Path, say: Log) -> list[Path]:
    """Return the different things of a kind that are attached, each once, and say which.

    Parameters
    ----------
    kind : Kind
    wanted : str
        A path (absolute, or below ``input``), or a slug, with its owner or without; '' for whatever is attached.
    root : Path
        See `kaggle_root`.
    say : callable
        Told in a sentence what is taken.

    Returns
    -------
    list of Path
        Folders, or files for a kind that is one; two whose markers are the same byte by byte count once.

    Raises
    ------
    DataError
        If what is wanted is not there, listing what is.
    """
    source = root / "input"
    candidates = _places(source, wanted) if wanted else [source]
    found: dict[str, Path] = {}
    for marker in _markers(candidates, kind):
        found.setdefault(_identity(marker, kind), marker if kind.is_file else marker.parent)
    if not found and wanted and kind is COMPETITION and not Path(wanted).is_absolute():
        # The slug of a competition is known beforehand; a copy of its data may be mounted under another one.
        for marker in _markers([source], kind):
            found.setdefault(_identity(marker, kind), marker.parent)
        for path in found.values():
            say(f"{kind.name}: {wanted!r} is in neither layout below {source}; {path} looks like one")
    if not found and wanted:
        where = f"{candidates[0]} holds none" if candidates else f"there is no {wanted!r} below {source}"
        raise DataError(f"no {kind.name}: {where}; {kind.attach}. {listing(source)}")
    for path in found.values():
        say(f"{kind.name}: {path}")
    return list(found.values())


def find_input(kind: InputKind, wanted: str = "", *, root: Path, say: Log) -> Path:
    """Return the one thing of a kind that is attached.

    Raises
    ------
    DataError
        If there is none, listing what is there, or if there are several that differ, naming two.
    """
    found = find_inputs(kind, wanted, root=root, say=say)
    if not found:
        raise DataError(f"no {kind.name} below {root / 'input'}; {kind.attach}. {listing(root / 'input')}")
    if len(found) > 1:
        raise DataError(
            f"{len(found)} of what should be one {kind.name}, and they differ: {found[0]} and {found[1]}; name the one "
            "that is meant."
        )
    return found[0]


def find_bundles(wanted: Sequence[str], *, root: Path, scratch: Path, say: Log) -> list[Path]:
    """Return the folders of bundles: those wanted, in their order, or all that are attached.

    A bundle that lies in a zip, as `bcsed.kaggle.dataset` packs it, is unpacked below `scratch` where Kaggle has not
    done so.

    Raises
    ------
    DataError, ConfigError
        If none is attached, one that is wanted is not there, or one is wanted twice.
    """
    from .datasets import unpack

    packed = unpack(root / "input", scratch)
    found: dict[Path, None] = {}
    for name in wanted or [""]:
        inside = [path for path in packed if path.name == name]
        for path in inside or find_inputs(BUNDLE, name, root=root, say=say):
            if path in found:
                raise ConfigError(f"{path} is named twice among the bundles: {', '.join(wanted)}.")
            found[path] = None
    if not wanted:
        known = {_identity(path / "bundle.json", BUNDLE) for path in found}
        found.update((path, None) for path in packed if _identity(path / "bundle.json", BUNDLE) not in known)
    for path in packed:
        if path in found:
            say(f"{BUNDLE.name}: {path}, unpacked from a zip")
    if not found:
        raise DataError(f"no {BUNDLE.name} below {root / 'input'}; {BUNDLE.attach}. {listing(root / 'input')}")
    return list(found)


def listing(source: Path, limit: int = 12) -> str:
    """Say what is attached: the folders of both layouts, some of them if there are many."""
    shown: list[str] = []
    for path in sorted(source.iterdir()):
        deep = {"competitions": 1, "datasets": 2, "notebooks": 2, "models": 2}.get(path.name, 0)
        inside = sorted(path.glob("/".join("*" * deep))) if deep else []
        shown += [str(item.relative_to(source)) for item in inside or [path]]
    more = f" and {len(shown) - limit} more" if len(shown) > limit else ""
    return f"{source} holds {', '.join(shown[:limit]) or 'nothing'}{more}."


def _places(source: Path, wanted: str) -> list[Path]:
    """Return where something that is wanted may lie: a path as it is, a slug in every layout."""
    path = Path(wanted)
    if path.is_absolute():
        return [path] if path.exists() else []
    if (source / path).exists():
        return [source / path]
    owner, _, slug = wanted.rpartition("/")
    found: dict[Path, None] = {}
    for layout in _LAYOUTS:
        pattern = layout.format(slug=slug)
        if owner:
            # A legacy mount does not tell whose it is.
            pattern = pattern.replace("*", owner)
        found.update(dict.fromkeys(sorted(source.glob(pattern))))
    # A folder inside whatever is attached: one bundle of a data set of several.
    if not found and not owner:
        found.update(dict.fromkeys(path for path in _folders(source) if path.name == slug))
    return list(found)


def _markers(places: Sequence[Path], kind: InputKind) -> Iterator[Path]:
    """Yield a marker of each thing in some places, nearest first."""
    for place in places:
        if place.is_file():
            if _is_marker(place, kind):
                yield place
            continue
        for folder in _folders(place):
            for pattern in kind.markers:
                marked = sorted(item for item in folder.glob(pattern) if _is_marker(item, kind))
                if marked:
                    yield from marked if kind.is_file else marked[:1]
                    if not kind.is_file:
                        break


def _folders(place: Path) -> Iterator[Path]:
    """Yield a folder and those below it, nearest first, within bounds: recordings are never walked through."""
    level, seen = [place], 0
    for _ in range(_MAX_DEPTH):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > _MAX_FOLDERS:
                return
            yield folder
            below += sorted(
                Path(entry.path)
                for entry in os.scandir(folder)
                if entry.is_dir() and entry.name not in _NOT_ENTERED and not entry.name.startswith(".")
            )
        level = below


def _is_marker(path: Path, kind: InputKind) -> bool:
    fits = path.is_file() and any(path.match(pattern) for pattern in kind.markers)
    return fits and (not kind.beside or path.with_suffix(kind.beside).is_file())


def _identity(marker: Path, kind: InputKind) -> str:
    along = marker.with_name(kind.along) if kind.along else marker
    return sha256(marker) + (sha256(along) if along != marker and along.is_file() else "")
