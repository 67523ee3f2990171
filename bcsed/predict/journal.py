"""What is already scored: one small file per finished recording, so that a killed run goes on."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..audio import Info
from ..ensemble import Array
from ..errors import DataError
from ..rows import replacing

MANIFEST = "manifest.json"
PARTS = "parts"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A finished recording: its rows' scores (R, K), what was wrong with it, and whether it is silent."""

    scores: Array
    notes: tuple[str, ...]
    silent: bool


class Journal:
    """The finished recordings of one run, in its output folder.

    Parameters
    ----------
    folder : Path
        The run's output folder.
    settings : mapping
        Everything that changes a score. A folder that was begun with other settings is refused.

    Raises
    ------
    DataError
        If the folder holds another run, or cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.n_columns = int(settings["n_classes"])
        manifest = folder / MANIFEST
        settings = json.loads(json.dumps(settings))
        if manifest.is_file():
            _check_same(manifest, settings)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder} holds other things; name a new folder for the scores.")
        else:
            # The settings come first: a part without them could be taken for another run's.
            self.describe({"settings": settings})
        self.settings = settings

    def describe(self, values: Mapping[str, Any]) -> None:
        """Write the manifest."""
        with replacing(self.folder / MANIFEST) as temporary:
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")

    def read(self, found: Info) -> Part | None:
        """Return a recording's part if it was finished, by path, size and time of change."""
        file = self._file(found)
        if not file.is_file():
            return None
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                part = Part(stored["scores"], tuple(map(str, stored["notes"])), bool(stored["silent"]))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile):
            part = None
        if part is None or part.scores.ndim != 2 or part.scores.shape[1] != self.n_columns:
            _log.warning("%s is damaged; %s is scored again", file.name, found.path)
            return None
        return part

    def write(self, found: Info, part: Part) -> None:
        """Keep a finished recording."""
        with replacing(self._file(found)) as temporary, temporary.open("wb") as stream:
            np.savez(stream, scores=part.scores, notes=np.array(part.notes, dtype=str), silent=part.silent)

    def _file(self, found: Info) -> Path:
        stat = found.path.stat()
        key = f"{found.path.absolute()}|{stat.st_size}|{stat.st_mtime_ns}"
        return self.folder / PARTS / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"


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
