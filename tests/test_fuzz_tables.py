"""Tables and descriptions with mutated bytes and lines: read, or refused in one sentence.

`BCSED_FUZZ_S=600 pytest -m slow tests/test_fuzz_tables.py` searches longer.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from bcsed.analysis.doctor.api import diagnose
from bcsed.config.contract import TINY_128
from bcsed.data.annotations import read_annotations
from bcsed.data.competitions import detect_competition, read_class_list
from bcsed.data.label_files import read_soundscape_labels, read_train
from bcsed.errors import BcsedError
from bcsed.models.foreign import ForeignModel, read_labels
from bcsed.predict.embeddings import read_embeddings
from bcsed.rounds.plan import find_plan
from bcsed.scores.calibration import read_thresholds
from bcsed.scores.detections.raven_audacity import RAVEN
from bcsed.scores.detections.tables import read_detections
from bcsed.scores.detections.taxonomy import read_taxonomy
from bcsed.scores.evaluation import read_evaluation, read_truth
from bcsed.scores.table import read_table
from bcsed.train.dataset.clips import read_teacher

CLASSES = ("a", "b")
TEXTS = ("View", "Species", "Begin Path", "Begin File", "Common Name")
SCORES = "row_id,a,b\n" + "".join(f"r{k // 4}_{5 * (k % 4) + 5},{k / 10:.3f},{1 - k / 20:.3f}\n" for k in range(8))
TRUTH = "filename,start,end,primary_label\nr0.ogg,0,5,a\nr0.ogg,5,10,b\nr1.ogg,0,5,a;b\nr1.ogg,5,10,\n"
DETECTIONS = "recording,name,begin_time,start_s,end_s,label,score\nr0.ogg,r0,,0,5,a,.5\n"
SELECTIONS = (
    "\t".join(RAVEN) + "\n" + "\t".join("a" if name in TEXTS else "12"[name[:3] == "End"] for name in RAVEN) + "\n"
)
TRAIN = "primary_label,secondary_labels,filename,author\na,['b'],a/1.ogg,x\nb,[],b/2.ogg,y\na,[],a/3.ogg,z\n"
PLAN = {"name": "p", "fold": None, "rounds": [{"experiments": ["tiny"], "seeds": [0], "epochs": 1}]}


def read_competition(path: Path) -> None:
    competition = detect_competition(path.parent)
    read_train(path.parent, competition, read_class_list(path.parent, competition))


def as_parquet(**columns: object) -> Callable[[Path], None]:
    return lambda path: pd.DataFrame(columns).to_parquet(path)


def as_npz(**arrays: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as stream:
            np.savez(stream, **arrays)

    return write


VECTORS = {"filename": ["a/1.ogg", "b/2.ogg"], "start_s": [0.0, 1.0], "vector": [[1.0, 2.0], [3.0, 4.0]]}
EVALUATION = {
    "kind": "clips",
    **dict.fromkeys(("ids", "files"), np.array(["x", "y"])),
    "classes": np.array(CLASSES),
    "truth": np.eye(2, dtype="u1"),
    "scores": np.eye(2, dtype="f4"),
}
# File name -> its content, or a function that writes it, and the function that reads it.
FORMS: dict[str, tuple[str | Callable[[Path], None], Callable[[Path], object]]] = {
    "scores.csv": (SCORES, diagnose),
    "table.csv": (SCORES, read_table),
    "truth.csv": (TRUTH, lambda path: read_truth(path, CLASSES)),
    "labels.csv": (TRUTH, lambda path: read_soundscape_labels(path, CLASSES)),
    "taxonomy.csv": ("primary_label,scientific_name\na,A a\nb,B b\n", read_taxonomy),
    "detections.csv": (DETECTIONS, read_detections),
    "raven.txt": (SELECTIONS, read_annotations),
    "events.csv": ("file,start,end,label\na,1,2.5,x\nb,0:03,0:04,y\n", read_annotations),
    "audacity.txt": ("0.0\t5.0\ta\n5.0\t9.5\tb\n", read_annotations),
    "train.csv": (TRAIN, read_competition),
    "thresholds.json": (json.dumps({"schema": 1, "thresholds": {"a": 0.5}}), read_thresholds),
    "plan.json": (json.dumps(PLAN), lambda path: find_plan(str(path))),
    "names.txt": ("A a_X\nB b_Y\n", lambda path: read_labels(path, ForeignModel())),
    "scores.parquet": (as_parquet(row_id=["r_5", "r_10"], a=[0.1, 0.2], b=[0.3, 0.4]), diagnose),
    "embeddings.parquet": (as_parquet(**VECTORS), read_embeddings),
    "teacher.parquet": (as_parquet(**VECTORS), lambda path: read_teacher(path, ["a/1.ogg"], TINY_128)),
    "evaluation.npz": (as_npz(**EVALUATION), read_evaluation),
}
TOKENS = (
    *(
        b"",
        b",",
        b";",
        b"\t",
        b'"',
        b"\n",
        b"\r\n",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"nan",
        b"inf",
        b"-1",
        b"1e999",
    ),
    *(b"99999999999999999999", b"[", b"{", b"null", b"'", b"a,a", b"row_id", b"_", b"0x10", b"\xf0\x9f\x90\xa6", b"="),
)
mutations = st.lists(
    st.tuples(
        st.sampled_from(("byte", "insert", "cut", "remove line", "repeat line", "swap columns")),
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(TOKENS),
        st.integers(0, 255),
    ),
    min_size=1,
    max_size=4,
)


def mutate(data: bytes, changes: list[tuple[str, float, bytes, int]]) -> bytes:
    for kind, position, token, value in changes:
        at = int(position * len(data))
        lines = data.split(b"\n")
        line = int(position * len(lines))
        if kind == "byte" and data:
            data = data[:at] + bytes([value]) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + token + data[at + value % 4 :]
        elif kind == "cut":
            data = data[:at]
        elif kind == "remove line":
            data = b"\n".join(lines[:line] + lines[line + 1 :])
        elif kind == "repeat line":
            data = b"\n".join(lines[:line] + [lines[line]] * (2 + value % 3) + lines[line + 1 :])
        else:
            cells = lines[line].split(b",")
            data = b"\n".join([*lines[:line], b",".join(reversed(cells)), *lines[line + 1 :]])
    return data


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_damaged_tables_are_read_or_refused(tmp_path):
    seconds = float(os.environ.get("BCSED_FUZZ_S", "30"))
    (tmp_path / "sample_submission.csv").write_text("row_id,a,b\n")
    (tmp_path / "train_audio").mkdir()
    originals = {}
    for name, (content, read_form) in FORMS.items():
        path = tmp_path / name
        content(path) if callable(content) else path.write_text(content)
        originals[name] = path.read_bytes()
        read_form(path)
    end = time.monotonic() + seconds

    def read(name, changes):
        path = tmp_path / name
        path.write_bytes(mutate(originals[name], changes))
        try:
            FORMS[name][1](path)
        except BcsedError as error:
            assert str(error).strip()
            assert "\n" not in str(error).strip()
        finally:
            path.write_bytes(originals[name])

    health, numbers = list(HealthCheck), itertools.count(20)
    options = {"deadline": None, "database": None, "phases": (Phase.generate,), "suppress_health_check": health}
    while time.monotonic() < end:

        @seed(next(numbers))
        @settings(max_examples=200, **options)
        @given(st.sampled_from(sorted(FORMS)), mutations)
        def search(name, changes):
            read(name, changes)

        search()
