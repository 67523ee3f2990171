"""Paths, atomic writes, and reading of CSV and JSON files.

A path is a `pathlib.Path`; a path with a protocol, such as ``s3://bucket/a.ogg``, is a `UPath` of universal-pathlib
with the same methods, and is read and written through fsspec (extra ``bcsed[dask]``).
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import BcsedError, ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

_MISSING = object()
_JSON_TYPES: Mapping[Any, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    int: "a whole number",
    int | float: "a number",
    int | float | None: "a number or null",
    int | None: "a whole number or null",
    str | None: "a text or null",
    dict | None: "an object or null",
}
# Levels of a JSON file; those of bcsed have about five.
MAX_DEPTH = 50


def as_path(path: str | Path) -> Path:
    """Return a string as a local path or, if it contains a protocol, as a remote path."""
    if not isinstance(path, str):
        return path
    if "://" not in path:
        return Path(path)
    try:
        from upath import UPath

        remote: Any = UPath(path)
        # Imports the driver of the protocol, such as s3fs.
        _ = is_remote(remote) and remote.fs
    except (ImportError, ValueError) as error:
        raise ConfigError(
            f"{path}: paths like this one need more packages: pip install 'bcsed[dask]' ({error})."
        ) from error
    result: Path = remote
    return result


def is_remote(path: Path) -> bool:
    """Return True for fsspec paths such as s3://.

    Depends on the protocol, not on the class: UPath is a subclass of Path in some versions of universal-pathlib.
    """
    return bool(getattr(path, "protocol", ""))


def file_signature(path: Path) -> str:
    """Return a text that changes if the file changes: size and modification time, or the ETag of a remote store."""
    if is_remote(path):
        remote: Any = path
        return str(remote.fs.ukey(remote.path))
    stat = path.stat()
    return f"{stat.st_size}|{stat.st_mtime_ns}"


def os_reason(error: OSError, path: object) -> str:
    """Return one sentence about an error of the operating system: the path that it names, or `path`, and the reason."""
    where = error.filename2 or error.filename or path
    where = where.decode(errors="backslashreplace") if isinstance(where, bytes) else where
    return f"{where}: {_describe(error).lower()}."


def _describe(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


@contextmanager
def os_errors(path: object, refused: type[BcsedError] = DataError) -> Iterator[None]:
    """Convert errors of the operating system, such as of missing rights, to one sentence."""
    try:
        yield
    except OSError as error:
        raise refused(os_reason(error, path)) from error


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path, which replaces `path` if the block succeeds and is removed if it fails.

    Readers get the old file or the new file, never a part, even if the process is killed. Remote files are written
    to a local temporary file first. DataError with the reason of the operating system if the file cannot be written.
    """
    path = as_path(path)
    part = path.with_name(f".{path.name}.{threading.get_ident()}.{os.getpid()}.part")
    try:
        if is_remote(path):
            with tempfile.TemporaryDirectory(prefix="bcsed-") as folder:
                local = Path(folder) / path.name
                yield local
                _upload(local, part, path)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.touch()
            mode = part.stat().st_mode
            yield part
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            # That of the umask, whatever a library set.
            part.chmod(mode)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"{path}: could not be written ({_describe(error)}).") from error


def _upload(local: Path, part: Any, path: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.fs.put_file(str(local), part.path)
    path.fs.mv(part.path, path.path)


@contextmanager
def read_errors(path: str | Path, form: str, refused: type[BcsedError] = DataError) -> Iterator[None]:
    """Convert all errors of a reader to one sentence: the file is not readable as `form`, such as ``Parquet``.

    The exceptions of numpy, zipfile, pyarrow, pandas, safetensors and torch depend on the position of the damage:
    flipped bits caused KeyError, IndexError, NotImplementedError and others. The block should only call such a reader.
    """
    try:
        yield
    except BcsedError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise refused(os_reason(error, path)) from error
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise refused(f"{path}: not readable as {form} ({reason}).") from error


def is_occupied(folder: Path) -> bool:
    """Return True if a path exists and is not an empty folder; partial files of killed processes do not count."""
    if not folder.exists():
        return False
    return not folder.is_dir() or any(not _is_partial(item) for item in folder.iterdir())


def remove_partial_files(folder: Path) -> None:
    """Remove partial files of killed processes in a folder and its subfolders."""
    if not folder.is_dir():
        return
    for item in folder.rglob("*"):
        if _is_partial(item) and not _has_writer(item):
            item.unlink(missing_ok=True)


def _is_partial(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".part")


def _has_writer(part: Path) -> bool:
    """Return True if another process that may be writing a partial file is alive on this machine."""
    pid = part.name.split(".")[-2]
    if not pid.isdigit() or int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except OSError:
        return False
    return True


@contextmanager
def lock_folder(folder: Path | None) -> Iterator[None]:
    """Create a folder and hold it for this process; DataError if another one holds it.

    None and remote folders are not locked, and no folder where the system cannot lock one, as on Windows.
    """
    if folder is None or is_remote(folder):
        yield
        return
    with os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError:
        yield
        return
    with os_errors(folder):
        number = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{folder} is in use by another process of bcsed; wait until it ends, or name another folder."
            ) from error
        except OSError:
            pass  # some network file systems have no locks
        yield
    finally:
        os.close(number)


def require_file(path: Path, refused: type[BcsedError] = DataError) -> None:
    """Raise `refused` if a path is not a file."""
    with os_errors(path, refused):
        if not path.is_file():
            is_folder = path.is_dir()
            raise refused(f"{path}: is a folder, not a file." if is_folder else f"{path}: there is no such file.")


def require_new_parquet(path: Path, kind: str) -> None:
    """Refuse a file that is not named ``*.parquet`` (ConfigError) or exists (DataError); `kind` of table, in words."""
    if path.suffix != ".parquet":
        raise ConfigError(f"a table of {kind} is a .parquet file, got {path.name!r}.")
    if path.exists():
        raise DataError(f"{path} is already there; name another file, or remove it.")


def require_own_file(path: Path, mark: str, kind: str) -> None:
    """Refuse (DataError) to replace a file that does not begin with a text of this `kind` of file; an empty one may."""
    if path.is_file():
        with os_errors(path), path.open("rb") as stream:
            start = stream.read(4096)
        if start and mark.encode() not in start:
            raise DataError(f"{path} is already there, and is not {kind} of bcsed; name another file, or remove it.")


def read_csv(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """Read a CSV file as text; DataError if it is missing, unreadable or empty, or lacks a required column."""
    # Without a type, pandas would read the label 024 as 24, and the label NA as missing.
    table = read_columns(path, dtype=str, keep_default_na=False)
    missing = [name for name in required if name not in table]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; its columns are {quote_list(table.columns, 20)}.")
    if table.empty:
        raise DataError(f"{path}: the table is empty.")
    # Cells after the end of a short row are not text.
    filled: pd.DataFrame = table.fillna("")
    return filled


def read_columns(path: Path, *, texts: Sequence[str] = (), raw: bool = False, **options: Any) -> pd.DataFrame:
    """Read a CSV file with the names of its header, without blanks around them; the columns `texts` are text.

    `options` are those of pandas. DataError if the file is not readable, its columns are not separated by commas, a row
    has more cells than the header, or a name is repeated. With `raw`, names may be repeated and keep their blanks.
    """
    import pandas as pd  # imported here, so that the command line starts without it

    require_file(path)
    with read_errors(path, "CSV"):
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = [name if raw else name.strip() for name in next(csv.reader(stream), [])]
        if not header:
            raise DataError(f"{path}: the file is empty.")
        separator = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), "")
        if separator:
            raise DataError(f"{path}: its columns are separated by {separator!r}; save it with commas.")
        twice, n = next(((name, n) for name, n in Counter(header).items() if name and n > 1), ("", 0))
        if twice and not raw:
            raise DataError(f"{path}: the column {twice!r} occurs {n} times.")
        types = {"dtype": {k: str for k, name in enumerate(header) if name in texts}, **options}
        try:
            # By number, as pandas would rename repeated columns.
            table = pd.read_csv(path, header=None, skiprows=1, names=range(len(header)), encoding="utf-8-sig", **types)
        except pd.errors.EmptyDataError:
            table = pd.DataFrame(columns=range(len(header)))
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path}: its header names {len(header)} columns, and its rows have more.")
    table.columns = pd.Index(header, dtype=object)
    # Commas at the end of all lines make columns without a name.
    empty = [not name and not table.iloc[:, k].replace("", None).notna().any() for k, name in enumerate(header)]
    kept: pd.DataFrame = table.loc[:, [not each for each in empty]]
    return kept


def quote_list(names: Iterable[str], n: int = 5) -> str:
    """Return the first `n` names in quotes, and the number of the others."""
    return shorten_list(map(repr, names), n)


def shorten_list(names: Iterable[str], n: int = 5) -> str:
    """Return the first `n` names as text, and the number of the others."""
    names = list(names)
    rest = f" and {len(names) - n} more" if len(names) > n else ""
    return ", ".join(names[:n]) + rest if names else "nothing"


def load_json(path: Path, refused: type[BcsedError] = DataError) -> Any:
    """Read a JSON file; raise `refused` if it is missing, not JSON, or nested deeply."""
    require_file(path, refused)
    with read_errors(path, "JSON", refused):
        values = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_distinct)
        _check_depth(values)
    return values


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; ValueError if a key occurs twice, of which json would keep the last."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(
            f"the key {next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)!r} occurs twice"
        )
    return values


def read_json(
    path: Path, refused: type[BcsedError] = DataError, fields: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Read a JSON file that contains one object; raise `refused` if it is missing or contains something else.

    `fields` are required keys, such as ``recipe.fit``, and their types.
    """
    values = load_json(path, refused)
    if not isinstance(values, dict):
        raise refused(f"{path}: must contain a JSON object with named fields.")
    check_fields(values, fields or {}, path, refused)
    return values


def check_fields(
    values: Any,
    fields: Mapping[str, Any],
    where: object,
    refused: type[BcsedError] = DataError,
    *,
    optional: bool = False,
) -> None:
    """Raise `refused` if a key such as ``recipe.fit`` has another type than in `fields` or, if required, is missing."""
    for name, kind in fields.items():
        value = values
        for key in name.split("."):
            value = value.get(key, _MISSING) if isinstance(value, Mapping) else _MISSING
        if value is _MISSING:
            if optional:
                continue
            raise refused(f"{where} is damaged: {name} is missing.")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            text = json.dumps(value, default=str)
            raise refused(f"{where} is damaged: {name} must be {_JSON_TYPES[kind]}, got {text:.60}.")


def _check_depth(values: Any) -> None:
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} levels of lists and objects")
        nested = (item.values() if isinstance(item, dict) else item for item in level if isinstance(item, (dict, list)))
        level = [item for items in nested for item in items]


def write_json(path: Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a JSON file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def check_schema(
    values: Mapping[str, Any], path: Path, known: Sequence[int], refused: type[BcsedError] = DataError
) -> int:
    """Return the schema number of a file's content, 1 without a number, and refuse one that is not in `known`.

    The policy is in `bcsed.config.versions`.
    """
    schema = values.get("schema", 1)
    if schema not in known:
        readable = " and ".join(map(str, known))
        raise refused(
            f"{path}: has schema {schema!r}; this version of bcsed reads {readable}. Create the file again, or install "
            "the version that created it."
        )
    return int(schema)


def sha256(file: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
