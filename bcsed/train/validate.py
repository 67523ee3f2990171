"""How good is the network now: on held-out clips, and on rows of labelled soundscapes.

Soundscape rows are cut, pooled and named by `bcsed.predict`'s own code, as in a submission. The answers are
kept beside the figures, so that two runs can be compared recording by recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from .. import audio, metrics, rows
from ..answers import Answers
from ..config import Contract
from ..dataset import Clips, Feed, batches
from ..ensemble import Array, Done, Ensemble
from ..model import SedNet, pool
from ..predict import Rows, score_recording
from ..spectrogram import LogMel


class TorchListener:
    """A network in training, answering windows in batches as they come.

    Parameters
    ----------
    network : SedNet
        In evaluation mode.
    contract : Contract
    device : torch.device
    batch_size : int
    """

    def __init__(self, network: SedNet, contract: Contract, device: torch.device, batch_size: int = 16) -> None:
        self.network, self.contract, self.device, self.batch_size = network, contract, device, batch_size
        self.steps, self.ahead = network.steps, batch_size
        self._n_taken = 0
        self._windows: list[Array] = []
        self._done: list[Done] = []

    def submit(self, window: Array, done: Done) -> int:
        """Take a window; answer when a batch is full."""
        self._n_taken += 1
        self._windows.append(window)
        self._done.append(done)
        if len(self._windows) == self.batch_size:
            self.finish()
        return self._n_taken

    def flush(self, number: int | None = None) -> None:
        """Answer the windows taken so far, if that one is among those that wait."""
        if number is None or number > self._n_taken - len(self._windows):
            self.finish()

    def finish(self) -> None:
        """Answer the windows taken so far."""
        if not self._windows:
            return
        with torch.inference_mode():
            what, when = self.network(torch.from_numpy(np.stack(self._windows)).to(self.device))
        for place, done in enumerate(self._done):
            done(what[place].cpu().numpy(), when[place].cpu().numpy())
        self._windows, self._done = [], []


def measure(answers: Answers) -> dict[str, float]:
    """Return macro ROC-AUC with its number of classes, cmAP and LRAP, named by what was answered."""
    truth = answers.truth.astype(np.float32)
    auc, n_classes = metrics.macro_auc(truth, answers.scores)
    values: dict[str, Any] = {
        "auc": auc,
        "classes": n_classes,
        "cmap": metrics.padded_cmap(truth, answers.scores),
        "lrap": metrics.lrap(truth, answers.scores),
    }
    return {f"{answers.kind.removesuffix('s')}_{name}": float(value) for name, value in values.items()}


def validate_clips(
    network: SedNet,
    contract: Contract,
    clips: Clips,
    chosen: npt.NDArray[np.int64],
    truth: npt.NDArray[np.float32],
    *,
    ids: Sequence[str],
    files: Sequence[str],
    device: torch.device,
    batch_size: int,
    jobs: int,
) -> Answers:
    """Answer the first window of each held-out clip; `ids` and `files` name all N clips."""
    mel = LogMel(contract.signal).to(device)
    scores = []
    feed = batches(
        Feed(clips, truth, truth),
        chosen,
        batch_size=batch_size,
        crop="first",
        seed=0,
        epoch=0,
        keep_last=True,
        jobs=jobs,
    )
    with torch.inference_mode():
        for batch in feed:
            what, when = network(mel(batch.waves.to(device)))
            scores.append(pool(what, when, contract.net.pool).cpu().numpy())
    return Answers(
        kind="clips",
        ids=tuple(ids[row] for row in chosen),
        files=tuple(files[row] for row in chosen),
        classes=contract.classes,
        truth=truth[chosen].astype(np.uint8),
        scores=np.concatenate(scores),
    )


def validate_rows(
    network: SedNet,
    contract: Contract,
    recordings: Sequence[audio.Info],
    truth: pd.DataFrame,
    *,
    row_s: int,
    row_id: str,
    device: torch.device,
) -> Answers:
    """Answer the labelled rows of soundscapes, through the submission's own code."""
    ensemble = Ensemble((TorchListener(network, contract, device),), (1.0,))
    tables, files = [], {}
    for found in recordings:
        scores, _ = score_recording(found, ensemble, Rows(row_s=row_s))
        ids = rows.row_ids(found.path.stem, len(scores), row_s, row_id)
        files.update(dict.fromkeys(ids, found.path.stem))
        tables.append(rows.make(ids, contract.classes, scores))
    table = pd.concat(tables)
    common = list(truth.index.intersection(table.index))
    return Answers(
        kind="rows",
        ids=tuple(common),
        files=tuple(files[name] for name in common),
        classes=contract.classes,
        truth=truth.loc[common, list(contract.classes)].to_numpy(np.uint8),
        scores=table.loc[common].to_numpy(np.float32),
    )
