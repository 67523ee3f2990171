"""Find the recordings in files and folders: one search for training, prediction and pseudolabels.

Links to folders are followed, and each folder is entered once, so that loops end. Names that start with a dot, such as
the ``._`` companions and ``.Trashes`` of macOS, are skipped like the folder ``__MACOSX`` of zip files.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from .errors import DataError
from .files import as_path, is_remote, shorten_list

AUDIO_SUFFIXES = (
    *(".ogg", ".wav", ".flac", ".mp3", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64", ".caf", ".au"),
    *(".wave", ".bwf", ".rf64", ".snd"),
)
# Audio that libsndfile cannot decode. Such files are skipped with a note.
OTHER_SUFFIXES = (
    *(".m4a", ".mp4", ".aac", ".wma", ".amr", ".3gp", ".ape", ".wv", ".wac", ".webm", ".mka", ".ac3", ".m4b", ".mpc"),
    *(".tta", ".dsf", ".ra", ".alac", ".mov"),
)
CONVERT = "convert with: ffmpeg -i FILE FILE.flac"

_log = logging.getLogger(__name__)


def find_recordings(paths: Iterable[str | Path]) -> list[Path]:
    """Return the recordings in files and folders as `search_recordings`, and log what was skipped."""
    recordings, skipped = search_recordings(paths)
    for path, note in skipped:
        _log.warning("%s: %s", path, note)
    return recordings


def search_recordings(paths: Iterable[str | Path]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Return the recordings in files and folders, and what was skipped: pairs of folder and sentence.

    The recordings are in the order of the arguments, and alphabetical in a folder. Files may have any suffix; in
    folders and their subfolders, files with an audio suffix are returned. A folder that may not be read and a link that
    leads nowhere are returned as well, so that they are listed as recordings that failed. DataError if a path does not
    exist, or a folder contains no recording.
    """
    recordings: dict[Path, None] = {}
    notes: list[tuple[str, str]] = []
    for path in map(as_path, paths):
        try:
            is_folder, exists = path.is_dir(), path.exists() or path.is_symlink()
        except OSError:  # it is in a folder that may not be entered: reading it gives the reason
            is_folder, exists = False, True
        if is_folder:
            files, skipped = search_folder(path)
            if not files:
                searched = f"searched for {' '.join(AUDIO_SUFFIXES)}"
                raise DataError(f"{path}: no recordings in this folder ({'; '.join([searched, *skipped])}).")
            recordings.update(dict.fromkeys(files))
            notes += [(str(path), note) for note in skipped]
        elif exists:
            recordings[path] = None
        else:
            raise DataError(f"{path}: there is no such file or folder.")
    return list(recordings), notes


def is_hidden(path: Path) -> bool:
    """Return True for names that operating systems and programs keep for themselves."""
    return path.name.startswith(".") or path.name == "__MACOSX"


def search_folder(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the recordings in a folder, in order, and sentences about what was skipped."""
    files, hidden, other = [], [], Counter[str]()
    for path in _walk(folder):
        suffix = path.suffix.lower()
        if is_hidden(path):
            hidden.append(path.name)
        elif suffix in OTHER_SUFFIXES:
            other[suffix] += 1
        # A folder is here only if it may not be read.
        elif suffix in AUDIO_SUFFIXES or _is_broken(path):
            files.append(path)
    notes = []
    if hidden:
        notes.append(f"skipped {len(hidden)} hidden files or folders ({shorten_list(sorted(hidden), 3)})")
    if other:
        counts = ", ".join(f"{n} {suffix}" for suffix, n in sorted(other.items()))
        notes.append(f"skipped files of formats that are not supported ({counts}); {CONVERT}")
    return sorted(files), notes


def _is_broken(path: Path) -> bool:
    """Return True for a folder (one that may not be read), and for a link without suffix that leads nowhere."""
    try:
        return path.is_dir() or (not path.suffix and path.is_symlink() and not path.exists())
    except OSError:
        return True


def _walk(folder: Path) -> Iterable[Path]:
    """Yield the files below a folder, its hidden folders without their content, and folders that may not be read."""
    if is_remote(folder):
        parts = len(folder.parts)
        below = (path for path in folder.rglob("*") if not any(is_hidden(Path(part)) for part in path.parts[parts:-1]))
        yield from (path for path in below if is_hidden(path) or not path.is_dir())
        return
    entered: set[tuple[int, int]] = set()
    # Links to folders come last, so that a folder is named by its own path if it is below `folder`.
    waiting, links = deque([folder]), deque[Path]()
    while waiting or links:
        current = waiting.popleft() if waiting else links.popleft()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                items = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            yield current
            continue
        for item in items:
            path = current / item.name
            if is_hidden(path) or not _is_folder(item):
                yield path
            else:
                (links if item.is_symlink() else waiting).append(path)


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered
        return False


def unique_stems(paths: Iterable[Path]) -> dict[str, Path]:
    """Return the recordings by the stem of their names, without those of which several files have the stem."""
    paths = list(dict.fromkeys(paths))
    counts = Counter(printable(path.stem) for path in paths)
    return {printable(path.stem): path for path in paths if counts[printable(path.stem)] == 1}


def recording_names(paths: Sequence[Path]) -> list[str]:
    r"""Return a unique name of each recording: its stem, with suffix and parent folders only if needed.

    Bytes that are not UTF-8 are written as in `printable`.

    >>> recording_names([Path("a/0001.wav"), Path("b/0001.wav"), Path("b/0002.wav")])
    ['a/0001', 'b/0001', '0002']
    >>> recording_names([Path("a/0001.wav"), Path("a/0001.ogg")])
    ['0001.wav', '0001.ogg']
    """
    paths = [Path(printable(path)) for path in paths]
    names = _separate(paths, [path.stem for path in paths], (False, True))
    # A name with its suffix may be the stem of another one: a.wav beside a.mp3 and a.wav.flac.
    return names if len(set(names)) == len(names) else _separate(paths, names, (True,))


def _separate(paths: Sequence[Path], names: Sequence[str], suffixes: Sequence[bool]) -> list[str]:
    """Return the names, those that are equal with as many folders as tell them apart, and with or without suffix."""
    equal: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        equal.setdefault(name, []).append(index)
    names = list(names)
    for indices in equal.values():
        if len(indices) == 1:
            continue
        max_depth = max(len(paths[index].parts) for index in indices)
        for depth, with_suffix in ((d, s) for d in range(max_depth) for s in suffixes):
            candidates = [_name(paths[index], depth, with_suffix=with_suffix) for index in indices]
            if len(set(candidates)) == len(candidates):
                for index, name in zip(indices, candidates, strict=True):
                    names[index] = name
                break
    return names


def file_names(paths: Sequence[Path]) -> dict[Path, str]:
    """Return a unique file name of each recording, with parent folders only where a name occurs twice.

    >>> list(file_names([Path("a/0001.wav"), Path("b/0001.wav"), Path("b/0002.wav")]).values())
    ['a/0001.wav', 'b/0001.wav', '0002.wav']
    """
    return {path: with_suffix(name, path) for path, name in zip(paths, recording_names(paths), strict=True)}


def with_suffix(name: str, path: Path) -> str:
    """Return a name of `recording_names` with the suffix of its file."""
    return name if f"/{name}".endswith(f"/{printable(path.name)}") else f"{name}{printable(path.suffix)}"


def by_file_name(names: Iterable[str]) -> dict[str, list[str]]:
    """Return names by their last part, each once.

    >>> by_file_name(["a/1.wav", "b/1.wav", "2.wav"])
    {'1.wav': ['a/1.wav', 'b/1.wav'], '2.wav': ['2.wav']}
    """
    of_file: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        of_file.setdefault(name.rpartition("/")[2], []).append(name)
    return of_file


def printable(path: str | Path) -> str:
    r"""Return a path as text that can be written as UTF-8, other bytes as in ``caf\udce9.wav``."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _name(path: Path, depth: int, *, with_suffix: bool) -> str:
    """Return the file name below the last `depth` folders."""
    folders = path.parts[:-1]
    return "/".join((*folders[max(0, len(folders) - depth) :], path.name if with_suffix else path.stem))
