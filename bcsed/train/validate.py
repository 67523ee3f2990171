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

from ..audio.decode import AudioInfo
from ..audio.spectrogram import LogMel
from ..config.contract import Contract
from ..models.backends import TorchBackend
from ..models.ensemble import Ensemble
from ..models.network import SedNet, pool
from ..predict.blocks import Windowing, score_recording
from ..scores import metrics
from ..scores.evaluation import Evaluation, make_evaluation
from ..scores.table import make_table, row_ids
from .dataset.batches import BatchInputs, batches
from .dataset.clips import ClipReader


def measure(answers: Evaluation) -> dict[str, float]:
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
    clips: ClipReader,
    chosen: npt.NDArray[np.int64],
    truth: npt.NDArray[np.float32],
    *,
    ids: Sequence[str],
    files: Sequence[str],
    device: torch.device,
    batch_size: int,
    jobs: int,
) -> Evaluation:
    """Answer the first window of each held-out clip; `ids` and `files` name all N clips."""
    mel = LogMel(contract.frontend).to(device)
    scores = []
    feed = batches(
        BatchInputs(clips, truth, truth),
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
            logits, attention = network(mel(batch.waves.to(device)))
            scores.append(pool(logits, attention, contract.net.pool).cpu().numpy())
    return Evaluation(
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
    recordings: Sequence[AudioInfo],
    truth: pd.DataFrame,
    *,
    row_s: int,
    row_id: str,
    device: torch.device,
) -> Evaluation:
    """Answer the labelled rows of soundscapes, through the submission's own code."""
    ensemble = Ensemble((TorchBackend(network, contract, device),), (1.0,))
    tables = []
    for found in recordings:
        scores, _ = score_recording(found, ensemble, Windowing(row_s=row_s))
        ids = row_ids(found.path.stem, len(scores), row_s, row_id)
        tables.append(make_table(ids, contract.classes, scores))
    table = pd.concat(tables)
    return make_evaluation(truth.loc[truth.index.intersection(table.index), list(contract.classes)], table)
