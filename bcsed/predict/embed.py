"""Embeddings of recordings or clips in a Parquet table, made by the engine that scores recordings."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..audio.headers import read_info
from ..config.contract import Frontend
from ..data.competitions import detect_competition, read_class_list
from ..data.label_files import read_train
from ..errors import ConfigError, DataError
from ..files import as_path, atomic_write, require_new_parquet
from ..models.bundle.bundle import Bundle
from ..models.ensemble import from_bundles
from ..recordings import file_names, find_recordings
from .api import RunOptions, predict
from .outputs import OutputOptions
from .result import Result
from .spec import Windowing


def embed(
    bundle: Bundle,
    out: str | Path,
    *,
    recordings: Sequence[str | Path] = (),
    data: str | Path | None = None,
    step_s: int | None = None,
    options: RunOptions | None = None,
    precision: str = "f32",
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Write the embeddings of windows as a Parquet table ``filename, start_s, vector``.

    Parameters
    ----------
    out : str or Path
        The table, ``*.parquet``. The same stem names a folder of parts, with ``failures.csv`` and ``notes.csv``, from
        which an interrupted call is resumed. Its metadata describe the bundle.
    recordings, data
        Files and folders; or a competition's folder, whose clips are named as in its label file.
    step_s : int, optional
        Seconds between the windows, at most the length of a window, which is the default (rounded down, at least 1). A
        window is centred on its step; a step longer than the window, of 1 s, has the mean of those that cover it.
    options, progress
        As for `bcsed.predict.predict`.

    Raises ConfigError, BundleError or DataError as `predict`; or if the bundle has no embedding, `out` exists, or no
    recording can be read.
    """
    out = as_path(out)
    require_new_parquet(out, "embeddings")
    if bool(recordings) == (data is not None):
        raise ConfigError("name recordings, or a competition's folder.")
    ensemble, options = from_bundles([bundle], precision=precision, embeddings=True), options or RunOptions()
    frontend = bundle.contract.frontend
    longest = max(1, int(frontend.window_s))
    if step_s is not None and not 1 <= step_s <= longest:
        window = f"a window of {frontend.window_s:g} s"
        raise ConfigError(f"the step must be 1 to {longest} s, at most {window}; got {step_s}.")
    windowing = Windowing(row_s=longest if step_s is None else step_s)
    names = file_names(find_recordings(recordings)) if data is None else _name_clips(data)
    result = predict(
        ensemble,
        list(names),
        out=parts_folder(out),
        windowing=windowing,
        output=OutputOptions(formats=()),
        options=options,
        progress=progress,
    )
    if not result.n_scored:
        where = parts_folder(out) / "failures.csv"
        raise DataError(f"none of {result.n_recordings} recordings could be read; see {where}.")
    metadata = {
        "bundle": str(bundle.path.absolute()),
        "fingerprint": bundle.contract.fingerprint,
        "sha256": bundle.sha256,
        "step_s": windowing.row_s,
        "window_s": frontend.window_s,
        "licence": bundle.provenance.get("licence", ""),
    }
    _write(result, out, names, frontend, windowing, metadata)
    return result


def _name_clips(data: str | Path) -> dict[Path, str]:
    """Return the clips of a competition's folder, named as in its label file."""
    competition = detect_competition(data)
    clips = read_train(data, competition, read_class_list(data, competition))
    return dict(zip(map(Path, clips["path"]), clips["filename"], strict=True))


def parts_folder(out: str | Path) -> Path:
    """Return the folder of the parts of a table of embeddings."""
    out = as_path(out)
    return out.with_name(f"{out.stem}.parts")


def _write(
    result: Result,
    out: Path,
    names: Mapping[Path, str],
    frontend: Frontend,
    windowing: Windowing,
    metadata: Mapping[str, Any],
) -> None:
    """Write the table, one recording at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n_values = len(result.assembler.classes)
    fields = [("filename", pa.string()), ("start_s", pa.float64()), ("vector", pa.list_(pa.float32(), n_values))]
    schema = pa.schema(fields, metadata={"bcsed": json.dumps(metadata)})
    with atomic_write(out) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for each in result.assembler:
            values = each.table.to_numpy(np.float32)
            # That of the header, as when it was scored: the rows of a file that is cut off end earlier.
            length = max(1, read_info(each.recording.path).length(frontend.sample_rate))
            plan = windowing.plan(length, frontend, 1, (0, len(values)))
            # A row of several windows starts with its first one.
            start_s = plan.starts.reshape(len(values), -1)[:, 0] * frontend.hop_length / frontend.sample_rate
            # At the end of a recording several windows can be the same.
            start_s, kept = np.unique(start_s, return_index=True)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(values[kept].reshape(-1)), n_values)
            columns = [[names[each.recording.path]] * len(kept), start_s, vectors]
            writer.write_table(pa.table(columns, schema=schema))
