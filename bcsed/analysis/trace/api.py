"""Score a part of a recording, and return every stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..._version import __version__
from ...audio.decode import read_audio
from ...audio.headers import read_info
from ...audio.spectrogram import LogMel
from ...audio.windows import count_rows
from ...config.strict import to_dict
from ...errors import ConfigError
from ...models.bundle.bundle import Bundle
from ...models.ensemble import from_bundles
from ...models.network import ToImage
from ...predict.blocks import score_block
from ...predict.spec import Windowing, make_views
from ...recordings import printable
from ...scores.table import row_ids
from .stages import Trace

# Two minutes of 5-s rows: about 50 MB of images with the largest front end.
N_ROWS = 24


def trace(
    bundle: Bundle,
    recording: str | Path,
    *,
    windowing: Windowing | None = None,
    first_row: int = 0,
    n_rows: int = N_ROWS,
) -> Trace:
    """Score `n_rows` rows of a recording (fewer at its end), and return the arrays of every stage.

    Raises ConfigError if the recording has no such row; DataError if it cannot be read.
    """
    info, windowing, frontend = read_info(recording), windowing or Windowing(), bundle.contract.frontend
    rate = frontend.sample_rate
    n_samples = info.length(rate)
    total = count_rows(n_samples, rate, windowing.row_s)
    if not 0 <= first_row < total or n_rows < 1:
        raise ConfigError(f"{info.path.name} has rows 0 to {total - 1}; got first_row={first_row}, n_rows={n_rows}.")
    block = (first_row, min(first_row + n_rows, total))
    ensemble, mel = from_bundles([bundle]), LogMel(frontend)
    views = make_views(ensemble, windowing)
    spectrograms, outputs, by_view = score_block(info, ensemble, views, block, {frontend: mel})
    first, db = spectrograms.by_frontend[frontend]
    begin, end = frontend.reach(first, first + db.shape[1])
    samples, _ = read_audio(info, rate, max(0, begin), end)
    starts = spectrograms.plans[0].starts
    windows = np.stack([db[:, start : start + frontend.n_frames] for start in starts - first])
    with torch.inference_mode():
        image = ToImage(frontend)(torch.from_numpy(windows)).numpy()
    logits, attention = outputs[0]
    rows = by_view[0][: spectrograms.n_rows]
    facts: dict[str, Any] = {
        "name": f"bcsed {__version__}",
        "recording": printable(info.path.name),
        "file": printable(info.path),
        "channels": info.channels,
        "bundle": bundle.name,
        "fingerprint": bundle.contract.fingerprint,
        "sha256": bundle.sha256,
        "classes": list(bundle.contract.classes),
        "frontend": to_dict(frontend),
        "pool": views[0].pool(bundle.contract.net.pool),
        "windowing": to_dict(windowing),
        "ids": row_ids(printable(info.path.stem), spectrograms.n_rows, windowing.row_s, first_row=first_row),
        "steps": bundle.steps,
        "n_samples": n_samples,
        "block": list(block),
        "first_sample": max(0, begin),
        "first_frame": first,
        "starts": starts.tolist(),
        "notes": list(spectrograms.notes),
    }
    arrays = {"samples": samples, "db": db, "windows": windows, "image": image}
    return Trace(arrays={**arrays, "logits": logits, "attention": attention, "rows": rows}, facts=facts)
