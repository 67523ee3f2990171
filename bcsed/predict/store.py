"""Stored scores: Parquet parts of finished recordings, from which an interrupted run resumes.

A part contains the rows of some recordings, one column per view with all classes of its member; its metadata lists
the recordings. Its name contains a hash of its recordings and views, so that writing it twice writes one file, and a
hash of its bytes, so that a damaged part never reaches the Parquet reader.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError
from ..files import (
    atomic_write,
    check_fields,
    check_schema,
    file_signature,
    is_occupied,
    is_remote,
    read_json,
    remove_partial_files,
    write_json,
)
from ..models.backends import Array
from ..recordings import printable, recording_names
from ..scores.postprocess import ClassWeights, Weight

MANIFEST, PARTS = "manifest.json", "parts"
# Of the manifest and the parts; it is part of the settings that decide whether a folder can be resumed.
SCHEMA = 2
# Rows of a part at most: 20 MB of 234 classes.
MAX_ROWS = 20_000
# Bytes of parts kept in memory, so that a run of some thousand recordings reads no part again.
CACHE_BYTES = 32 << 20
# Fields of `StoredScores` in a part's metadata.
_DETAILS = ("notes", "silent", "n_samples", "sample_rate")

_FINISHED = {
    **dict.fromkeys(("settings", "detection"), dict),
    **dict.fromkeys(("models", "post_processing"), list),
    "settings.row_s": int,
    "mean": str,
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """One recording of a run."""

    path: Path
    name: str  # in row ids
    key: str = ""  # in stored scores, see `recording_key`; empty if the file is missing, `name` without audio

    @property
    def listed(self) -> str:
        """The path by which the manifest lists it if it was scored; its name without audio."""
        return self.name if self.key == self.name else printable(_absolute(self.path))


@dataclass(frozen=True)
class StoredScores:
    """The scores of a finished recording."""

    views: Mapping[str, Array]  # name of a view -> probabilities (R, K of its member)
    notes: tuple[str, ...] = ()  # defects of the recording
    silent: bool = False  # nothing but digital silence
    n_samples: int = 0  # per channel, as stored, to its real end
    sample_rate: int = 0  # Hz, as stored

    @property
    def n_rows(self) -> int:
        """Rows of the recording."""
        return len(next(iter(self.views.values())))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a finished prediction; DataError if it is missing, unfinished or damaged."""
    file = folder / MANIFEST
    manifest = read_json(file) if file.exists() else {}
    check_schema(manifest, file, (1, SCHEMA))
    if "models" not in manifest:
        raise DataError(f"{folder} is not a finished folder of predict: no {MANIFEST} lists its models.")
    manifest = {"post_processing": [], "detection": {}, "formats": ["members", "scores", "submission"], **manifest}
    check_fields(manifest, _FINISHED, file)
    optional = {"detection.threshold": int | float, "detection.thresholds": dict, "removed_detections": dict}
    check_fields(manifest, {**optional, "species": dict}, file, optional=True)
    for number, model in enumerate(manifest["models"], 1):
        check_fields(model, {"weight": int | float}, f"{file}, model {number}")
        check_fields(model, {"class_weights": dict}, f"{file}, model {number}", optional=True)
    return manifest


def model_weights(models: Sequence[Mapping[str, Any]]) -> list[Weight]:
    """Return the weights of the models of a manifest."""
    by_class = [tuple(model.get("class_weights", {}).items()) for model in models]
    numbers = [float(model["weight"]) for model in models]
    return [ClassWeights(each, pairs) if pairs else each for each, pairs in zip(numbers, by_class, strict=True)]


def recording_key(path: Path) -> str:
    """Return a hash of a recording's path, size and modification time."""
    return _short_hash(f"{_absolute(path)}|{file_signature(path)}".encode("utf-8", "surrogateescape"))


def _absolute(path: Path) -> str:
    """Return the path of a recording, the same for each way to its folder; links to one file are different ones."""
    return str(path) if is_remote(path) else str(Path(os.path.realpath(path.parent)) / path.name)


def describe_recordings(paths: Sequence[Path]) -> list[Recording]:
    """Return the names and keys of recordings."""
    recordings = []
    for path, name in zip(paths, recording_names(paths), strict=True):
        try:
            recordings.append(Recording(path, name, recording_key(path)))
        except OSError:
            recordings.append(Recording(path, name))
    return recordings


class MemoryStore:
    """The scores of a run without an output folder."""

    def __init__(self) -> None:
        self._scores: dict[str, StoredScores] = {}

    def require_recordings(self, recordings: Sequence[Recording]) -> None:
        """Accept all recordings."""

    def views(self, key: str) -> Collection[str]:
        """Return the names of a recording's views."""
        return self._scores[key].views if key in self._scores else ()

    def notes_and_silence(self, key: str) -> tuple[tuple[str, ...], bool]:
        """Return the notes on a finished recording, and whether it is silent."""
        return self._scores[key].notes, self._scores[key].silent

    def get(self, key: str) -> StoredScores | None:
        """Return a finished recording, or None."""
        return self._scores.get(key)

    def put(self, finished: Sequence[tuple[str, StoredScores]]) -> None:
        """Store finished recordings; views of a recording that is already stored are added."""
        for key, scores in finished:
            earlier = self._scores.get(key)
            if earlier is not None:
                notes = tuple(sorted({*earlier.notes, *scores.notes}))
                scores = replace(scores, views={**earlier.views, **scores.views}, notes=notes)
            self._scores[key] = scores


class FolderStore:
    """The scores of a run in its output folder, also on a remote file system.

    `settings` are everything that changes the stored scores; DataError if the folder contains those of other settings,
    or other files. A worker does not `claim` (check and initialise) the folder.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, claim: bool = True) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self._index: dict[str, dict[str, tuple[Path, int, int]]] = {}  # key -> view -> part, first row, rows
        self._details: dict[str, dict[str, Any]] = {}  # key -> fields of StoredScores without views
        self._cache: dict[Path, Mapping[str, Array]] = {}
        self._n_cached = 0
        self._finished = set[str]()  # recordings in the files of an earlier run
        self._lock = threading.RLock()
        if not claim:
            return
        if (folder / MANIFEST).is_file():
            listed = _check_settings(folder / MANIFEST, self.settings).get("recordings")
            self._finished = set(map(str, listed if isinstance(listed, list) else ()))
            if not is_remote(folder):
                remove_partial_files(folder)
            self.scan()
        elif is_occupied(folder):
            raise DataError(f"{folder} contains other files; name a new folder for the scores.")
        else:
            # The settings come first: a part without them could be taken for another run's.
            self.write_manifest({})

    def require_recordings(self, recordings: Sequence[Recording]) -> None:
        """Refuse (DataError) to replace the files of a finished run by those of other recordings, or of fewer."""
        others = self._finished - {each.listed for each in recordings}
        if others:
            noun = "recording that is" if len(others) == 1 else "recordings that are"
            example, advice = min(others), "; name a new folder, remove that one, or name its recordings too."
            if "://" not in example and not os.path.lexists(example):
                advice = ", which no longer exists; name a new folder, or remove that one."
            raise DataError(
                f"{self.folder} contains scores of {len(others)} {noun} not among the {len(recordings)} of this call, "
                f"such as {example}{advice}"
            )

    def write_manifest(self, values: Mapping[str, Any]) -> None:
        """Write the manifest: the schema, the settings, and further values."""
        write_json(self.folder / MANIFEST, {"schema": SCHEMA, "settings": self.settings, **values})

    def views(self, key: str) -> Collection[str]:
        """Return the names of a recording's views."""
        return self._index.get(key, ())

    def notes_and_silence(self, key: str) -> tuple[tuple[str, ...], bool]:
        """Return the notes on a finished recording, and whether it is silent."""
        details = self._details[key]
        return details["notes"], details["silent"]

    def get(self, key: str) -> StoredScores | None:
        """Return a finished recording, or None."""
        with self._lock:
            views = self._index.get(key, {}).items()
            values = {name: self._values(file)[name][first : first + n] for name, (file, first, n) in views}
            return StoredScores(values, **self._details[key]) if values else None

    def put(self, finished: Sequence[tuple[str, StoredScores]]) -> None:
        """Write finished recordings, of the same views each, as one part."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = list(finished[0][1].views)
        recordings = [
            {"key": key, "n_rows": scores.n_rows, **{name: getattr(scores, name) for name in _DETAILS}}
            for key, scores in finished
        ]
        rows = [np.arange(scores.n_rows, dtype=np.int32) for _, scores in finished]
        numbers = np.repeat(np.arange(len(finished), dtype=np.int32), [len(each) for each in rows])
        columns: dict[str, Any] = {"recording": pa.array(numbers), "row": pa.array(np.concatenate(rows))}
        values = {
            name: np.concatenate([scores.views[name] for _, scores in finished]).astype(np.float32, copy=False)
            for name in names
        }
        for name, array in values.items():
            columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])
        metadata = {"views": names, "recordings": recordings}
        table = pa.table(columns).replace_schema_metadata({"bcsed": json.dumps(metadata)})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", use_dictionary=False)
        data = sink.getvalue().to_pybytes()
        content = _short_hash("\n".join([*names, *(key for key, _ in finished)]).encode())
        file = self.folder / PARTS / f"{content}-{_short_hash(data)}.parquet"
        with atomic_write(file) as temporary:
            temporary.write_bytes(data)
        with self._lock:
            self._add_to_index(file, metadata)
            self._add_to_cache(file, values)

    def scan(self) -> None:
        """Index the parts on disk; damaged parts are removed, and their recordings scored again."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self.folder / PARTS
        if not folder.is_dir():
            return
        with self._lock:
            self._index, self._details, self._cache, self._n_cached = {}, {}, {}, 0
            for file in sorted(folder.iterdir()):
                if file.suffix != ".parquet" or file.name.startswith("."):
                    continue
                data = _read_intact(file)
                if data is None:
                    _log.warning("%s is damaged; its recordings are scored again", file.name)
                    file.unlink(missing_ok=True)
                else:
                    self._add_to_index(file, json.loads(pq.read_schema(pa.BufferReader(data)).metadata[b"bcsed"]))

    def _add_to_index(self, file: Path, metadata: Mapping[str, Any]) -> None:
        first = 0
        for recording in metadata["recordings"]:
            details = dict(recording, notes=tuple(recording["notes"]))
            key, n_rows = details.pop("key"), details.pop("n_rows")
            self._index.setdefault(key, {}).update(dict.fromkeys(metadata["views"], (file, first, n_rows)))
            # A later part, of other views, may have further notes.
            notes = {*self._details.get(key, details)["notes"], *details["notes"]}
            self._details[key] = details | {"notes": tuple(sorted(notes))}
            first += n_rows

    def _values(self, file: Path) -> Mapping[str, Array]:
        """Return a part's views, (rows of the part, K) each."""
        if file not in self._cache:
            data = _read_intact(file)
            if data is None:
                raise DataError(f"{file} was damaged during the run; start it again to score its recordings again.")
            self._add_to_cache(file, _read_views(data))
        return self._cache[file]

    def _add_to_cache(self, file: Path, values: Mapping[str, Array]) -> None:
        """Keep a part's values in memory, and drop the oldest beyond the limit."""
        self._n_cached += _n_bytes(values) - _n_bytes(self._cache.pop(file, {}))
        self._cache[file] = values
        while self._n_cached > CACHE_BYTES and len(self._cache) > 1:
            self._n_cached -= _n_bytes(self._cache.pop(next(iter(self._cache))))


def _n_bytes(values: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in values.values())


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


def _read_intact(file: Path) -> bytes | None:
    """Return a part's bytes, or None if they differ from those written."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    return data if file.stem.endswith(f"-{_short_hash(data)}") else None


def _read_views(data: bytes) -> Mapping[str, Array]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(data), use_threads=False)
    values = {}
    for name in json.loads(table.schema.metadata[b"bcsed"])["views"]:
        column = table[name].combine_chunks()
        flat = column.flatten() if len(column) else column.values
        values[name] = flat.to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
    return values


def _check_settings(manifest: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest; DataError if it is damaged, or of another version or other settings."""
    folder = manifest.parent
    try:
        values = read_json(manifest)
        earlier, schema = dict(values["settings"]), values.get("schema", 1)
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{manifest} is damaged; name a new folder for the scores.") from error
    advice = "name a new folder, or remove that one."
    if schema != SCHEMA:
        versions = f"(schema {schema}, this version uses {SCHEMA})"
        raise DataError(f"{folder} contains scores of another version of bcsed {versions}; {advice}")
    for key in {**settings, **earlier}:
        if earlier.get(key) != settings.get(key):
            difference = f"its {key} is {earlier.get(key)!r}, now it is {settings.get(key)!r}"
            raise DataError(f"{folder} contains scores of another run: {difference}; {advice}")
    return values
