"""Where files are, here or elsewhere, and how one is written: whole or not at all.

A path is a `pathlib.Path`. One that names a protocol, such as ``s3://bucket/a.ogg``, is fsspec's, in the same
form (universal-pathlib's `UPath`); the extra ``bcsed[dask]`` brings it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BcsedError, ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd


def as_path(path: str | Path) -> Path:
    """Return what a word of the command line or a path stands for.

    Raises
    ------
    ConfigError
        If it names a protocol, and what reads such paths is not installed.
    """
    if not isinstance(path, str):
        return path
    if "://" not in path:
        return Path(path)
    try:
        from upath import UPath

        # Its drivers, s3fs for s3:// and so on, are wanted as soon as the path is used.
        found: Any = UPath(path)
        _ = is_remote(found) and found.fs
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{path}: paths like this one need more packages: pip install 'bcsed[dask]' ({error})."
        ) from error
    place: Path = found
    return place


def is_remote(path: Path) -> bool:
    """Say whether a path is none of this machine's."""
    return not isinstance(path, Path)


def file_signature(path: Path) -> str:
    """Return what changes when a file's content does: its size and time of change, or its store's own mark."""
    if is_remote(path):
        elsewhere: Any = path
        return str(elsewhere.fs.ukey(elsewhere.path))
    stat = path.stat()
    return f"{stat.st_size}|{stat.st_mtime_ns}"


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path, moved to `path` when the block ends well, removed when it does not.

    A reader, or a process killed at any moment, sees the old file or the new one and never a part. What is to
    lie elsewhere is written on this machine first.

    Raises
    ------
    DataError
        If the disk refuses, with its reason.
    """
    path = as_path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if is_remote(path):
            with tempfile.TemporaryDirectory(prefix="bcsed-") as folder:
                here = Path(folder) / path.name
                yield here
                _send(here, part, path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: could not be written ({error.strerror or error}).") from error


def _send(here: Path, part: Any, path: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.fs.put_file(str(here), part.path)
    path.fs.mv(part.path, path.path)


@contextmanager
def read_errors(path: str | Path, form: str, refused: type[BcsedError] = DataError) -> Iterator[None]:
    """Say in one sentence that a file is not what it should be, whatever its reader makes of its bytes.

    What numpy, zipfile, pyarrow, pandas, safetensors and torch raise over a damaged file depends on where the damage
    is: flipped bits gave KeyError, IndexError, NotImplementedError and more. Only such a reader's calls belong inside.

    Parameters
    ----------
    path : str or Path
    form : str
        What the file should be, such as ``Parquet``.
    refused : type of BcsedError

    Raises
    ------
    refused
    """
    try:
        yield
    except BcsedError:
        raise
    except Exception as error:
        said = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise refused(f"{path}: not readable as {form} ({said}).") from error


def is_occupied(folder: Path) -> bool:
    """Say whether a folder to be made is there and holds anything but what killed writers left half-written."""
    if not folder.exists():
        return False
    return not folder.is_dir() or any(not _left(item) for item in folder.iterdir())


def remove_partial_files(folder: Path) -> None:
    """Remove what killed writers left half-written in a folder and below it."""
    if not folder.is_dir():
        return
    for item in folder.rglob("*"):
        if _left(item) and not _alive(item):
            item.unlink(missing_ok=True)


def _left(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")


def _alive(part: Path) -> bool:
    """Say whether another process of this machine may still be writing a part."""
    writer = part.name.split(".")[-2]
    if not writer.isdigit() or int(writer) == os.getpid():
        return False
    try:
        os.kill(int(writer), 0)
    except OSError:
        return False
    return True


def read_csv(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    """Return a CSV file as text, refusing one that lacks a column that is needed."""
    import pandas as pd  # imported here: the command line starts without it

    if not path.is_file():
        raise DataError(f"{path}: there is no such file.")
    try:
        # Everything is text: pandas would make 24 of the label 024, and nothing of the label NA.
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as CSV ({str(error).splitlines()[0]}).") from error
    missing = [name for name in needed if name not in table]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; its columns are {shorten_list(table.columns, 20)}.")
    if table.empty:
        raise DataError(f"{path}: the table is empty.")
    # A row that ends early leaves cells that are no text.
    filled: pd.DataFrame = table.fillna("")
    return filled


def shorten_list(names: Iterable[str], n: int = 5) -> str:
    """Spell the first of many names."""
    names = list(names)
    rest = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + rest if names else "nothing"


def read_json(path: Path, refused: type[BcsedError] = DataError) -> dict[str, Any]:
    """Read a JSON file that holds one object.

    Raises
    ------
    refused
        If the file is missing, is not JSON, or does not hold an object.
    """
    if not path.is_file():
        raise refused(f"{path}: there is no such file.")
    with read_errors(path, "JSON", refused):
        values = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise refused(f"{path}: must hold a JSON object with named fields.")
    return values


def write_json(path: Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check_schema(
    values: Mapping[str, Any],
    path: Path,
    known: Sequence[int],
    refused: type[BcsedError] = DataError,
    *,
    unnumbered: int = 1,
) -> int:
    """Return the schema number of a file, refusing one that this version does not read.

    Parameters
    ----------
    values : mapping
        What the file holds; its key ``schema`` is the number.
    path : Path
    known : sequence of int
        The numbers that can be read.
    refused : type of BcsedError
    unnumbered : int
        The number of files that were written before schema numbers.
    """
    schema = values.get("schema", unnumbered)
    if schema not in known:
        readable = " and ".join(map(str, known))
        raise refused(
            f"{path}: has schema {schema!r}; this version of bcsed reads {readable}. Write the file again, or install "
            "the version that wrote it."
        )
    return int(schema)


def sha256(file: Path) -> str:
    """Return a file's SHA-256 in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
