"""Files that hold arrays or tables, with a bit flipped or cut off anywhere: read, or refused in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from bcsed.analysis import doctor
from bcsed.analysis.trace import stages
from bcsed.errors import BcsedError, BundleError, DataError
from bcsed.files import read_errors
from bcsed.models.pretrained_sources import read_source
from bcsed.predict.outputs import read_members
from bcsed.report.scores import read_prediction
from bcsed.scores import detections
from bcsed.scores.evaluation import Evaluation, read_evaluation, write_evaluation
from bcsed.scores.table import make_table
from bcsed.train.checkpoints import load_state
from bcsed.train.dataset.teacher import read_teacher

LETTERS = np.array(["a", "b", "c"])
TABLE = make_table([f"r_{5 * k}" for k in range(1, 5)], ["a", "b"], np.linspace(0.1, 0.9, 8))
RECORDING = detections.Recording(path="x/r.ogg", name="r", n_samples=640_000, sample_rate=32_000)


def embeddings(path):
    return read_teacher([path], ["a", "b"])


def write_vectors(path):
    values = {"clip": LETTERS[:2], "start_s": np.arange(2.0), "vector": np.eye(2, dtype="float32")}
    if path.suffix == ".npz":
        np.savez(path, **values)
    else:
        pd.DataFrame({**values, "vector": list(values["vector"])}).to_parquet(path)


def write_answers(path):
    names = tuple(LETTERS)
    values = {"truth": np.eye(3, dtype="uint8"), "scores": np.eye(3, dtype="float32")}
    made = Evaluation(kind="clips", ids=names, files=names, classes=names, **values)
    write_evaluation(path, made)


def write_trace(path):
    np.savez_compressed(path, rows=np.linspace(0, 1, 6).reshape(3, 2))


def write_detections(path):
    with detections.write(path.parent, ["parquet"], fmin_hz=20, fmax_hz=14_000) as add:
        add(RECORDING, detections.detect(TABLE, [RECORDING]))


def write_member(path):
    path.parent.mkdir()
    TABLE.reset_index().to_parquet(path, index=False)


def write_scores(path):
    told = {"settings": {"row_s": 5}, "models": [{"weight": 1.0}], "mean": "prob"}
    (path.parent / "manifest.json").write_text(json.dumps(told))
    about = {"row_id": TABLE.index, "recording": "x/r.ogg", "start_s": [0, 5, 10, 15], "end_s": [5, 10, 15, 20]}
    pd.concat([pd.DataFrame(about), TABLE.reset_index(drop=True)], axis=1).to_parquet(path, index=False)


FILES = {
    "trace.npz": (write_trace, stages.read),
    "answers.npz": (write_answers, read_evaluation),
    "embeddings.npz": (write_vectors, embeddings),
    "embeddings.parquet": (write_vectors, embeddings),
    "table.parquet": (lambda path: TABLE.reset_index().to_parquet(path, index=False), doctor.read_scores),
    "detections.parquet": (write_detections, detections.read_detections),
    "members/1-x.parquet": (write_member, lambda path: read_members(path.parent.parent)),
    "scores.parquet": (write_scores, lambda path: read_prediction(path.parent)),
    "last.pt": (lambda path: torch.save({"model": {"w": torch.ones(3)}, "epoch": 1, "metrics": {}}, path), load_state),
    "w.pt": (lambda path: torch.save({"w": torch.ones(3)}, path), read_source),
    "w.safetensors": (lambda path: save_file({"w": torch.ones(3)}, path), read_source),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
@pytest.mark.slow
def test_damage_is_one_sentence_wherever_it_is(tmp_path, name):
    write, read = FILES[name]
    path = tmp_path / name
    write(path)
    read(path)
    whole = path.read_bytes()
    stride = 1 + len(whole) // 65
    spoiled = [whole[:end] for end in range(0, len(whole), 1 + len(whole) // 30)]
    for mask in (1, 16, 255):
        for place in range(mask % stride, len(whole), stride):
            spoiled.append(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
    refused = 0
    for damaged in spoiled:
        path.write_bytes(damaged)
        try:
            read(path)
        except BcsedError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 30, "none but cut files were refused"


def test_what_is_said_of_a_file_that_is_not_readable():
    with pytest.raises(DataError, match=r"^x\.npz: not readable as npz \(KeyError\)\.$"), read_errors("x.npz", "npz"):
        raise KeyError
    with pytest.raises(BundleError, match=r"\(first\)\.$"), read_errors("x", "npz", BundleError):
        raise MemoryError("first\nsecond")
    with pytest.raises(DataError, match=r"^a sentence already$"), read_errors("x", "npz"):
        raise DataError("a sentence already")
    with pytest.raises(KeyboardInterrupt), read_errors("x", "npz"):
        raise KeyboardInterrupt
