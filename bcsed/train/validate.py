"""Validation on held-out clips, and on rows of labelled soundscapes by the code of a submission."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..audio.spectrogram import LogMel
from ..config.contract import Contract
from ..models.backends import TorchBackend
from ..models.ensemble import Ensemble
from ..models.network import SedNet, pool
from ..predict.blocks import score_recording
from ..predict.spec import Windowing
from ..recordings import printable
from ..scores import metrics
from ..scores.evaluation import KINDS, Evaluation, make_evaluation
from ..scores.table import make_table, row_ids
from .data import TrainingData
from .dataset.batches import batches

_log = logging.getLogger(__name__)


def measure(evaluation: Evaluation) -> dict[str, float]:
    """Return macro ROC-AUC with its number of classes, cmAP and LRAP; names begin with ``clip_`` or ``row_``.

    A metric that these labels do not define is left out, with a warning.
    """
    truth, scores, values = evaluation.truth.astype(np.float32), evaluation.scores, {}
    if (truth.any(0) & ~truth.all(0)).any():
        values["auc"], values["classes"] = metrics.macro_auc(truth, scores)
    else:
        noun = KINDS[evaluation.kind]
        _log.warning("no class has %s both with and without it: there is no ROC-AUC, and no best checkpoint", noun)
    values["cmap"] = metrics.padded_cmap(truth, scores)
    if truth.any():
        values["lrap"] = metrics.lrap(truth, scores)
    return {f"{evaluation.kind.removesuffix('s')}_{name}": float(value) for name, value in values.items()}


def validate_clips(
    network: SedNet, contract: Contract, data: TrainingData, *, device: torch.device, batch_size: int, jobs: int
) -> Evaluation:
    """Score the first window of each held-out clip."""
    mel, rows = LogMel(contract.frontend).to(device), data.valid_rows
    inputs = dataclasses.replace(data.inputs, injectors=(), teacher=None, partners=None)
    options: dict[str, Any] = {"crop": "first", "seed": 0, "epoch": 0, "keep_last": True}
    scores, class_of = [], np.array([data.inputs.class_of(row) for row in rows])
    with torch.inference_mode():
        for batch in batches(inputs, rows, batch_size=batch_size, jobs=jobs, **options):
            logits, attention = network(mel(batch.clips.waves.to(device)))
            scores.append(pool(logits, attention, contract.net.pool).cpu().numpy())
    return Evaluation(
        kind="clips",
        ids=tuple(data.names[row] for row in rows),
        files=tuple(data.originals[row] for row in rows),
        classes=contract.classes,
        truth=(np.arange(len(contract.classes)) == class_of[:, None]).astype(np.uint8),
        scores=np.concatenate(scores),
    )


def rank_contradictions(evaluation: Evaluation, data: TrainingData) -> pd.DataFrame:
    """Return the held-out clips, those first whose scores contradict their label most.

    ``score`` is that of the clip's label, ``other`` the class with the highest score of those that the label file does
    not list for the clip, and ``margin`` the difference; of a negative clip, ``other_score`` is the margin.
    """
    names, row_of = np.array([*evaluation.classes, ""]), dict(zip(data.names, range(len(data.names)), strict=True))
    rows = [row_of[name] for name in evaluation.ids]
    label = np.array([data.inputs.class_of(row) for row in rows])
    others = np.where(data.listed[rows], -1.0, evaluation.scores.astype(np.float64))
    score = np.where(label >= 0, np.take_along_axis(evaluation.scores, label[:, None], 1)[:, 0], np.nan)
    other, other_score = others.argmax(1), others.max(1)
    other[other_score < 0], other_score[other_score < 0] = -1, np.nan  # all classes are listed
    table = pd.DataFrame(
        {
            "filename": evaluation.ids,
            "label": names[label],
            "score": score,
            "other": names[other],
            "other_score": other_score,
            "margin": other_score - np.nan_to_num(score),
        }
    )
    ranked: pd.DataFrame = table.sort_values("margin", ascending=False, kind="stable")
    return ranked


def validate_rows(network: SedNet, contract: Contract, data: TrainingData, *, device: torch.device) -> Evaluation:
    """Score the labelled rows of soundscapes."""
    ensemble = Ensemble((TorchBackend(network, contract, device),), (1.0,))
    row_s, row_id = data.competition.row_s, data.competition.row_id
    tables = []
    for recording in data.soundscapes:
        scores, _ = score_recording(recording, ensemble, Windowing(row_s=row_s))
        ids = row_ids(printable(recording.path.stem), len(scores), row_s, row_id)
        tables.append(make_table(ids, contract.classes, scores))
    table = pd.concat(tables)
    truth = data.row_truth.loc[data.row_truth.index.intersection(table.index), list(contract.classes)]
    return make_evaluation(truth, table)
