"""Every stage between a recording and its rows, as arrays; and the first stage at which two pipelines part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..._version import __version__
from ...audio.decode import read_audio, read_info
from ...audio.spectrogram import LogMel
from ...audio.windows import count_rows as count_rows
from ...config.strict import to_dict
from ...errors import ConfigError
from ...models.bundle.bundle import Bundle
from ...models.ensemble import from_bundles
from ...models.network import ToImage
from ...predict.blocks import Windowing, compute_spectrograms, make_views, pool_block, submit_block
from ...scores.table import row_ids
from .stages import Trace

# Two minutes of 5-s rows: with the largest signal some 50 MB of pictures.
N_ROWS = 24


def trace(
    bundle: Bundle,
    recording: str | Path,
    *,
    windowing: Windowing | None = None,
    first_row: int = 0,
    n_rows: int = N_ROWS,
) -> Trace:
    """Score a recording, or a part of it, and keep every stage.

    Parameters
    ----------
    bundle : Bundle
    recording : str or Path
    cut : Windowing, optional
        As in `bcsed.predict.predict`.
    first_row, n_rows : int
        The rows to trace; at most so many, as the recording has.

    Raises
    ------
    ConfigError
        If the recording has no such row.
    DataError
        If it cannot be read.
    """
    found, windowing, frontend = read_info(recording), windowing or Windowing(), bundle.contract.frontend
    rate = frontend.sample_rate
    n_samples = found.length(rate)
    total = count_rows(n_samples, rate, windowing.row_s)
    if not 0 <= first_row < total or n_rows < 1:
        raise ConfigError(
            f"{found.path.name} has the rows 0 to {total - 1}; {n_rows} from {first_row} are none of them."
        )
    block = (first_row, min(first_row + n_rows, total))
    ensemble, mel = from_bundles([bundle]), LogMel(frontend)
    views = make_views(ensemble, windowing)
    pictures = compute_spectrograms(found, ensemble, views, block, {frontend: mel})
    first, db = pictures.by_frontend[frontend]
    begin, end = mel.reach(first, first + db.shape[1])
    samples, _ = read_audio(found, rate, max(0, begin), end)
    collector = submit_block(pictures, ensemble, views)
    ensemble.members[0].finish()
    starts = pictures.plans[0].starts
    windows = np.stack([db[:, start : start + frontend.n_frames] for start in starts - first])
    with torch.inference_mode():
        picture = ToImage(frontend)(torch.from_numpy(windows)).numpy()
    logits, attention = collector.answers[0]
    facts: dict[str, Any] = {
        "name": f"bcsed {__version__}",
        "recording": found.path.name,
        "bundle": bundle.name,
        "fingerprint": bundle.contract.fingerprint,
        "sha256": bundle.sha256,
        "classes": list(bundle.contract.classes),
        "frontend": to_dict(frontend),
        "pool": bundle.contract.net.pool,
        "rows": to_dict(windowing),
        "ids": row_ids(found.path.stem, pictures.n_rows, windowing.row_s, first_row=block[0]),
        "steps": bundle.steps,
        "n_samples": n_samples,
        "block": list(block),
        "first_sample": max(0, begin),
        "first_frame": first,
        "starts": starts.tolist(),
        "notes": list(pictures.notes),
    }
    arrays = {
        "samples": samples,
        "db": db,
        "windows": windows,
        "picture": picture,
        "logits": logits,
        "attention": attention,
        "rows": pool_block(collector, pictures, ensemble, views)[0][: pictures.n_rows],
    }
    return Trace(arrays=arrays, facts=facts)
