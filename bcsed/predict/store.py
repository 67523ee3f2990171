"""What is already scored: Parquet parts of finished recordings, so that a killed run goes on.

A part holds some recordings' rows, one column per look with all classes of its member, and in its metadata who
these recordings are. It is named after what it holds, so writing it twice writes it once, and after its own bytes,
so that a damaged one never reaches the Parquet reader.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import atomic_write, file_signature, is_occupied, is_remote, remove_partial_files
from ..models.backends import Array

MANIFEST, PARTS = "manifest.json", "parts"
# Rows that one part may hold: 20 MB of 234 classes.
MOST_ROWS = 20_000
# Bytes of parts' values that stay in memory, so that a run of some thousand recordings reads none again.
_HELD = 32 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StoredScores:
    """A finished recording.

    Parameters
    ----------
    looks : mapping of str to ndarray
        Name of a look -> the probabilities it gave, (R, K of its member).
    notes : tuple of str
        What was wrong with the recording.
    silent : bool
        Whether it holds nothing but digital silence.
    n_samples : int
        Per channel, as stored, to its real end.
    sample_rate : int
        Hz, as stored.
    """

    views: Mapping[str, Array]
    notes: tuple[str, ...] = ()
    silent: bool = False
    n_samples: int = 0
    sample_rate: int = 0

    @property
    def n_rows(self) -> int:
        """Rows of the recording."""
        return len(next(iter(self.views.values())))

    def joined(self, other: StoredScores | None) -> StoredScores:
        """Return both parts' looks as one."""
        if other is None:
            return self
        notes = dict.fromkeys((*other.notes, *self.notes))
        return replace(self, views={**other.views, **self.views}, notes=tuple(notes))


def recording_key(path: Path) -> str:
    """Return what a recording is known by: its path, size and time of change."""
    place = str(path) if is_remote(path) else str(path.absolute())
    return hashlib.sha256(f"{place}|{file_signature(path)}".encode()).hexdigest()[:24]


class MemoryStore:
    """Parts of a run that writes nothing."""

    def __init__(self) -> None:
        self._parts: dict[str, StoredScores] = {}

    def views(self, key: str) -> Collection[str]:
        """Return the looks that a recording has had."""
        part = self._parts.get(key)
        return part.views if part is not None else ()

    def told(self, key: str) -> tuple[tuple[str, ...], bool]:
        """Return the notes on a finished recording, and whether it is silent."""
        return self._parts[key].notes, self._parts[key].silent

    def get(self, key: str) -> StoredScores | None:
        """Return a finished recording, or None."""
        return self._parts.get(key)

    def put(self, finished: Sequence[tuple[str, StoredScores]]) -> None:
        """Keep finished recordings."""
        for key, part in finished:
            self._parts[key] = part.joined(self._parts.get(key))


class FolderStore:
    """Parts of a run on disk, or in a store of fsspec's.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    settings : mapping
        Everything that changes a look's answers. A folder that was begun with other settings is refused.
    claim : bool
        Whether to check and begin the folder; a worker finds it begun.

    Raises
    ------
    DataError
        If the folder holds another run, or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, claim: bool = True) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self._index: dict[str, dict[str, tuple[Path, int, int]]] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._held: dict[Path, Mapping[str, Array]] = {}
        self._n_held = 0
        self._lock = threading.RLock()
        if not claim:
            return
        if (folder / MANIFEST).is_file():
            _check_same(folder / MANIFEST, self.settings)
            if not is_remote(folder):
                remove_partial_files(folder)
            self.scan()
        elif is_occupied(folder):
            raise DataError(f"{folder} holds other things; name a new folder for the scores.")
        else:
            # The settings come first: a part without them could be taken for another run's.
            self.describe({})

    def describe(self, values: Mapping[str, Any]) -> None:
        """Write the manifest."""
        with atomic_write(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps({"settings": self.settings, **values}, indent=1) + "\n", encoding="utf-8")

    def views(self, key: str) -> Collection[str]:
        """Return the looks that a recording has had."""
        return self._index.get(key, ())

    def told(self, key: str) -> tuple[tuple[str, ...], bool]:
        """Return the notes on a finished recording, and whether it is silent."""
        about = self._told[key]
        return about["notes"], about["silent"]

    def get(self, key: str) -> StoredScores | None:
        """Return a finished recording, or None."""
        with self._lock:
            found = self._index.get(key)
            if not found:
                return None
            views = {
                name: self._values(file)[name][offset : offset + n_rows]
                for name, (file, offset, n_rows) in found.items()
            }
            return StoredScores(views, **self._told[key])

    def put(self, finished: Sequence[tuple[str, StoredScores]]) -> None:
        """Write finished recordings, of the same looks each, as one part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(finished[0][1].views)
        about = [
            {
                "key": key,
                "rows": part.n_rows,
                "notes": list(part.notes),
                "silent": part.silent,
                "n_samples": part.n_samples,
                "sample_rate": part.sample_rate,
            }
            for key, part in finished
        ]
        rows = [np.arange(part.n_rows, dtype=np.int32) for _, part in finished]
        columns: dict[str, Any] = {
            "recording": pa.array(np.repeat(np.arange(len(finished), dtype=np.int32), [len(r) for r in rows])),
            "row": pa.array(np.concatenate(rows)),
        }
        values = {
            name: np.concatenate([part.views[name] for _, part in finished]).astype(np.float32, copy=False)
            for name in names
        }
        for name, given in values.items():
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(given.reshape(-1)), given.shape[1])
        told = {"looks": names, "recordings": about}
        table = pa.table(columns).replace_schema_metadata({"bcsed": json.dumps(told)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=False)
        data = sink.getvalue().to_pybytes()
        digest = hashlib.sha256("\n".join([*names, *(key for key, _ in finished)]).encode()).hexdigest()[:24]
        file = self.folder / PARTS / f"{digest}-{_sum(data)}.parquet"
        with atomic_write(file) as temporary:
            temporary.write_bytes(data)
        with self._lock:
            self._note(file, told)
            self._hold(file, values)

    def scan(self) -> None:
        """Learn what the parts on disk hold; a damaged one is scored again."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.folder / PARTS
        if not folder.is_dir():
            return
        with self._lock:
            self._index, self._told, self._held, self._n_held = {}, {}, {}, 0
            for file in sorted(folder.iterdir()):
                if file.suffix != ".parquet" or file.name.startswith("."):
                    continue
                data = _unchanged(file)
                if data is None:
                    _log.warning("%s is damaged; what it held is scored again", file.name)
                    file.unlink(missing_ok=True)
                else:
                    self._note(file, _told(pq.read_schema(pa.BufferReader(data))))

    def _note(self, file: Path, told: Mapping[str, Any]) -> None:
        offset = 0
        for one in told["recordings"]:
            views = self._index.setdefault(one["key"], {})
            views.update(dict.fromkeys(told["looks"], (file, offset, one["rows"])))
            self._told[one["key"]] = {
                "notes": tuple(one["notes"]),
                **{name: one[name] for name in ("silent", "n_samples", "sample_rate")},
            }
            offset += one["rows"]

    def _values(self, file: Path) -> Mapping[str, Array]:
        """Return a part's looks, (rows of the part, K) each."""
        if file not in self._held:
            data = _unchanged(file)
            if data is None:
                raise DataError(f"{file} was damaged during the run; begin again, and what it held is scored anew.")
            self._hold(file, _looks(data))
        return self._held[file]

    def _hold(self, file: Path, values: Mapping[str, Array]) -> None:
        """Keep a part's values in memory, and let those go that have been there longest."""
        self._n_held += _n_bytes(values) - _n_bytes(self._held.pop(file, {}))
        self._held[file] = values
        while self._n_held > _HELD and len(self._held) > 1:
            self._n_held -= _n_bytes(self._held.pop(next(iter(self._held))))


def _n_bytes(values: Mapping[str, Array]) -> int:
    return sum(given.nbytes for given in values.values())


def _unchanged(file: Path) -> bytes | None:
    """Return a part's bytes, or None if they are not those that were written."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    return data if file.stem.endswith(f"-{_sum(data)}") else None


def _told(schema: Any) -> Mapping[str, Any]:
    """Return what a part says of itself."""
    told: Mapping[str, Any] = json.loads(schema.metadata[b"bcsed"])
    return told


def _looks(data: bytes) -> Mapping[str, Array]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data), use_threads=False)
    values = {}
    for name in _told(table.schema)["looks"]:
        column = table[name].combine_chunks()
        flat = column.flatten() if len(column) else column.values
        values[name] = flat.to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
    return values


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def _check_same(manifest: Path, settings: Mapping[str, Any]) -> None:
    try:
        earlier = json.loads(manifest.read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{manifest} is damaged; name a new folder for the scores.") from error
    differing = [key for key in {**settings, **earlier} if earlier.get(key) != settings.get(key)]
    if differing:
        key = differing[0]
        raise DataError(
            f"{manifest.parent} holds scores of another run: its {key} is {earlier.get(key)!r}, now it is "
            f"{settings.get(key)!r}; name a new folder, or remove that one."
        )
