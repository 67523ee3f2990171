"""Networks of other projects: adopted from small graphs that are made here, embedded, scored."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import openvino
import pytest
import soundfile
from openvino import opset13 as ops

from bcsed import bundle, predict
from bcsed.audio.windows import WaveFrames, plan_windows
from bcsed.cli import main
from bcsed.config.contract import Frontend, Net, wave_frontend
from bcsed.config.strict import to_dict
from bcsed.errors import BcsedError, BundleError, ConfigError, DataError
from bcsed.models.adopt import adopt
from bcsed.models.foreign import BIRDNET, ForeignModel, complete, read_labels
from bcsed.predict.embed import embed
from bcsed.predict.embeddings import read_embeddings

RATE, WINDOW, VALUES, CLASSES = 8000, 16_000, 6, ("Turdus merula", "Parus major", "Rana arvalis")
MODEL = ForeignModel(sample_rate=RATE, scores="scores", embedding="features")


def weights() -> tuple[np.ndarray, np.ndarray]:
    """Return the projections of a window to features, which are the energy in six bands, and of these to scores."""
    rng = np.random.default_rng(3)
    t = np.arange(WINDOW) / RATE
    waves = np.stack([np.sin(2 * np.pi * hz * t) for hz in (300, 600, 900, 1500, 2400, 3600)], 1) / WINDOW
    return waves.astype("f4"), rng.normal(0, 3, (VALUES, len(CLASSES))).astype("f4")


def make_graph(*, batch: int = -1, dtype=np.float32, kind: str = "") -> openvino.Model:
    """Return a foreign graph: (B, samples) -> scores (B, 3), with an inner tensor of features (B, 6)."""
    bands, heads = weights()
    shape = {"3d": [batch, WINDOW, 1], "1d": [WINDOW], "free": [batch, -1]}
    wave = ops.parameter(shape.get(kind, [batch, WINDOW]), dtype, name="wave")
    x = wave
    if kind in ("3d", "1d"):
        x = ops.reshape(x, ops.constant(np.array([-1, WINDOW])), special_zero=False)
    if kind == "free":
        x = ops.reshape(x, ops.constant(np.array([-1, WINDOW])), special_zero=False)
    if dtype != np.float32:
        x = ops.convert(x, "f32")
    features = ops.abs(ops.matmul(x, ops.constant(bands), False, False))
    features.output(0).get_tensor().set_names({"features"})
    scores = ops.matmul(features, ops.constant(heads), False, False)
    if kind == "probabilities":
        scores = ops.sigmoid(scores)
    if kind == "nan":
        scores = ops.log(ops.subtract(ops.abs(scores), np.float32(1e9)))
    if kind == "random":
        noise = ops.random_uniform(ops.constant(np.array([1, 3])), np.float32(0), np.float32(1), "f32")
        scores = ops.add(scores, noise)
    if dtype == np.float16:
        scores = ops.convert(scores, "f16")
    inputs = [wave]
    if kind == "huge":
        sizes = ops.constant(np.array([1 << 16, 1 << 16]))
        total = ops.reduce_sum(scores, ops.constant(np.array([1])), keep_dims=True)
        scores = ops.add(scores, ops.reduce_max(ops.broadcast(total, sizes), ops.constant(np.array([0, 1]))))
    if kind == "loop":
        scores = repeat(scores)
    if kind == "two inputs":
        inputs.append(ops.parameter([1, 3], np.float32, name="week"))
        scores = ops.add(scores, inputs[1])
    scores.output(0).get_tensor().set_names({"scores"})
    wave.output(0).get_tensor().set_names({"wave"})
    return openvino.Model([ops.result(scores)], inputs, "foreign")


def repeat(scores):
    """Return the node of a loop that computes the same again and again."""
    body = ops.parameter([1, len(CLASSES)], np.float32)
    result, go_on = ops.result(ops.abs(body)), ops.result(ops.constant(np.array(True)))
    loop = ops.loop(ops.constant(np.int64(1 << 40)), ops.constant(np.array(True)))
    loop.set_function(openvino.Model([result, go_on], [body], "body"))
    loop.set_special_body_ports([-1, 1])
    loop.set_merged_input(body, scores.output(0), result.input_value(0))
    loop.get_iter_value(result.input_value(0), -1)
    return loop


@pytest.fixture
def write(tmp_path):
    def write(name: str = "net", **options) -> str:
        openvino.save_model(make_graph(**options), tmp_path / f"{name}.xml", compress_to_fp16=False)
        return str(tmp_path / f"{name}.xml")

    return write


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"{name}_Common {name}\n" for name in CLASSES))
    return path


@pytest.fixture
def recording(tmp_path):
    """A recording of 12.3 s whose tone changes every second."""
    t = np.arange(round(12.3 * RATE)) / RATE
    hz = np.array([300, 600, 900, 1500, 2400, 3600])[t.astype(int) % 6]
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "a.wav", (0.4 * np.sin(2 * np.pi * hz * t)).astype("f4"), RATE, subtype="FLOAT")
    return folder / "a.wav"


def features_of(path, start: int) -> np.ndarray:
    wave = np.zeros(WINDOW, "f4")
    samples = soundfile.read(path, dtype="float32")[0][start : start + WINDOW]
    wave[: len(samples)] = samples
    return np.abs(wave @ weights()[0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: bytes | str | int) -> bytes:
    """Return a field of a protocol buffer."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_file(*, external: bool = False) -> bytes:
    """Return the same graph as an ONNX file."""

    def tensor(name: str, array: np.ndarray) -> bytes:
        dims = b"".join(field(1, size) for size in array.shape)
        if external:
            where = field(13, field(1, "location") + field(2, "../../etc/passwd"))
            return dims + field(2, 1) + field(8, name) + where + field(14, 1)
        return dims + field(2, 1) + field(8, name) + field(9, array.astype("<f4").tobytes())

    def node(kind: str, inputs: tuple[str, ...], output: str) -> bytes:
        return b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind)

    def value(name: str, *sizes: int) -> bytes:
        dims = b"".join(field(1, field(1, size) if size else field(2, "batch")) for size in sizes)
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    bands, heads = weights()
    nodes = (("MatMul", ("wave", "bands"), "bent"), ("Abs", ("bent",), "features"))
    nodes += (("MatMul", ("features", "heads"), "scores"),)
    graph = b"".join(field(1, node(*each)) for each in nodes) + field(2, "foreign")
    graph += field(5, tensor("bands", bands)) + field(5, tensor("heads", heads))
    graph += field(11, value("wave", 0, WINDOW)) + field(12, value("scores", 0, len(CLASSES)))
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 13))


def test_rows_are_those_of_the_foreign_network(write, labels, recording, tmp_path):
    adopted = adopt(write(), tmp_path / "bundle", labels=labels, model=MODEL)
    assert adopted.contract.classes == CLASSES
    assert adopted.n_features == VALUES
    assert adopted.contract.frontend.window_s == 2.0
    assert all(value < 1e-6 for value in bundle.check(bundle.load(tmp_path / "bundle")).values())
    scores = predict.predict([adopted], [recording]).scores.to_numpy()
    # A row of 5 s has three windows of 2 s: at its begin, in its middle and at its end.
    starts = [[0, 1.5, 3], [5, 6.5, 8], [10, 10.3, 10.3]]
    for row, begins in zip(scores, starts, strict=True):
        parts = [sigmoid(features_of(recording, round(begin * RATE)) @ weights()[1]) for begin in begins]
        np.testing.assert_allclose(row, np.mean(parts, axis=0), atol=2e-3)


@pytest.mark.parametrize("kind", ["", "3d", "1d", "free", "fixed", "f16", "onnx", "probabilities", "peak"])
def test_files_of_any_form_give_the_same_scores(write, labels, recording, tmp_path, kind):
    model = MODEL
    if kind == "onnx":
        file = tmp_path / "net.ONNX"
        file.write_bytes(onnx_file())
    elif kind == "fixed":
        file = write(batch=1)
    elif kind == "f16":
        file = write(dtype=np.float16)
    else:
        file = write(kind=kind)
    if kind == "free":
        model = ForeignModel(sample_rate=RATE, n_samples=WINDOW, scores="scores")
    if kind == "probabilities":
        model = ForeignModel(sample_rate=RATE, scores="scores", are_logits=False)
    if kind == "peak":
        model = ForeignModel(sample_rate=RATE, scores="scores", peak=0.4)
        wave, _ = soundfile.read(recording, dtype="float32")
        soundfile.write(tmp_path / "quiet.wav", 0.1 * wave, RATE, subtype="FLOAT")
    scored = tmp_path / "quiet.wav" if kind == "peak" else recording
    scores = predict.predict([adopt(file, tmp_path / "b", labels=labels, model=model)], [scored]).scores
    plain = adopt(write("plain"), tmp_path / "plain", labels=labels, model=MODEL)
    expected = predict.predict([plain], [recording]).scores
    np.testing.assert_allclose(scores, expected, atol=3e-3 if kind in ("f16", "peak") else 1e-5)


def test_names_of_a_competition_replace_the_labels(write, labels, tmp_path, capsys):
    lines = ("primary_label,scientific_name", "blabi,TURDUS merula", "wolf,Canis lupus", "frog,Rana arvalis")
    (tmp_path / "taxonomy.csv").write_text("\n".join(lines))
    call = ["adopt", write(), "--labels", labels, "--taxonomy", tmp_path / "taxonomy.csv", "--sample-rate", RATE]
    out = ["--scores", "scores", "--embedding", "last", "--licence", "CC0", "--out", tmp_path / "b"]
    assert main(list(map(str, [*call, *out]))) == 0
    printed = capsys.readouterr().out
    assert "1 classes of" in printed
    assert "no counterpart: wolf" in printed
    assert "licence: CC0" in printed
    adopted = bundle.load(tmp_path / "b")
    assert adopted.contract.classes == ("blabi", "frog")
    assert adopted.provenance["unmatched"] == ["wolf"]
    whole = adopt(write("whole"), tmp_path / "whole", labels=labels, model=MODEL)
    image = np.random.default_rng(0).normal(0, 0.1, (1, 160, 100)).astype("f4")
    outputs = [
        bundle.compile_graph(bundle.read_graph(each), each.contract.frontend)(image) for each in (adopted, whole)
    ]
    np.testing.assert_allclose(outputs[0][0][0, 0], outputs[1][0][0, 0, [0, 2]], rtol=1e-5)
    np.testing.assert_allclose(outputs[0][2], outputs[1][2], rtol=1e-5)
    assert main(["check", str(tmp_path / "b")]) == 0
    assert "licence: CC0" in capsys.readouterr().out
    (tmp_path / "taxonomy.csv").write_text("primary_label,scientific_name\nwolf,Canis lupus\n")
    assert main(list(map(str, [*call, *out[:-1], tmp_path / "c"]))) == 2
    assert "none of its 3 labels is the scientific name of a class" in capsys.readouterr().err


def test_a_member_beside_a_network_of_bcsed(write, tmp_path, tiny, recording):
    (tmp_path / "l.txt").write_text("a\nc\nother\n")
    adopted = adopt(write(), tmp_path / "b", labels=tmp_path / "l.txt", model=MODEL)
    ensemble = predict.from_bundles([tiny, adopted], [1, 3], classes=("a", "b", "c"))
    both = predict.predict(ensemble, [recording]).scores
    ours, theirs = (predict.predict([each], [recording]).scores for each in (tiny, adopted))
    np.testing.assert_allclose(both["a"], (ours["a"] + 3 * theirs["a"]) / 4, atol=1e-5)
    np.testing.assert_allclose(both["b"], ours["b"], atol=1e-5)


MISTAKES = {
    "no rate": (lambda w, _: w(), ForeignModel(scores="scores"), ConfigError, "state the --sample-rate"),
    "another window": (
        lambda w, _: w(),
        ForeignModel(sample_rate=RATE, n_samples=24_000, scores="scores"),
        ConfigError,
        "its input has 16000 samples, not 24000",
    ),
    "no window": (
        lambda w, _: w(kind="free"),
        ForeignModel(sample_rate=RATE, scores="scores"),
        ConfigError,
        "input has any length",
    ),
    "unknown file": (lambda w, _: w(), None, ConfigError, r"is not BirdNET V2.4 or Perch v2.*scores \[\?,3\]"),
    "no output": (lambda w, _: w(), ForeignModel(sample_rate=RATE), ConfigError, "name its output of --scores"),
    "another output": (
        lambda w, _: w(),
        ForeignModel(sample_rate=RATE, scores="logits"),
        ConfigError,
        r"no tensor 'logits'; its outputs are scores",
    ),
    "swapped outputs": (
        lambda w, _: w(),
        ForeignModel(sample_rate=RATE, scores="features", embedding="scores"),
        BundleError,
        "6 scores, but there are 3 labels",
    ),
    "huge array": (lambda w, _: w(kind="huge"), MODEL, BundleError, "which could compute without end"),
    "without end": (lambda w, _: w(kind="loop"), MODEL, BundleError, "Loop, which could compute without end"),
    "integers": (lambda w, _: w(dtype=np.int16), MODEL, BundleError, "receives i16; a wave of numbers"),
    "two inputs": (lambda w, _: w(kind="two inputs"), MODEL, BundleError, "2 inputs"),
    "not finite": (lambda w, _: w(kind="nan"), MODEL, BundleError, "not finite"),
    "random": (lambda w, _: w(kind="random"), MODEL, BundleError, "other answers to the same sound"),
    "empty": (lambda _, t: t(b"", ".onnx"), MODEL, BundleError, "is not an ONNX file"),
    "text": (
        lambda _, t: t(b"hello" * 99, ".xml"),
        MODEL,
        BundleError,
        "file.bin: there is no such file; copy it beside",
    ),
    "text as TFLite": (lambda _, t: t(b"hello" * 99, ".tflite"), MODEL, BundleError, "not a TFLite file"),
    "cut": (lambda _, t: t(onnx_file()[:900], ".onnx"), MODEL, BundleError, "not a graph that OpenVINO can compute"),
    "other weights, longer": (
        lambda _, t: t(onnx_file(external=True).replace(b"\n\x08location", b"\n\x88\x00location"), ".onnx"),
        MODEL,
        BundleError,
        "weights in another file",
    ),
    "other weights": (lambda _, t: t(onnx_file(external=True), ".onnx"), MODEL, BundleError, "weights in another file"),
    "pickle": (lambda _, t: t(b"\x80\x04.", ".pt"), MODEL, ConfigError, "adopt reads .tflite, .onnx, .xml"),
    "huge window": (
        lambda w, _: w(kind="free"),
        ForeignModel(sample_rate=RATE, n_samples=1 << 33, scores="scores"),
        ConfigError,
        "cannot be divided|at most",
    ),
    "no such file": (lambda *_: "nothing.onnx", MODEL, BundleError, "nothing.onnx"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_and_hostile_files_are_refused(write, labels, tmp_path, name):
    make, model, refused, sentence = MISTAKES[name]

    def write_bytes(data: bytes, suffix: str) -> str:
        (tmp_path / f"file{suffix}").write_bytes(data)
        return str(tmp_path / f"file{suffix}")

    with pytest.raises(refused, match=sentence):
        adopt(make(write, write_bytes), tmp_path / "bundle", labels=labels, model=model)
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (CLASSES[:2], "6 scores|3 scores, but there are 2 labels"),
        ((*CLASSES, "Canis lupus"), "3 scores, but there are 4 labels"),
        ((CLASSES[0], CLASSES[0], CLASSES[1]), "'Turdus merula' is listed twice"),
        ((), "no labels"),
    ],
)
def test_labels_must_fit_the_scores(write, tmp_path, lines, sentence):
    (tmp_path / "l.txt").write_text("\n".join(lines))
    with pytest.raises(BcsedError, match=sentence):
        adopt(write(), tmp_path / "b", labels=tmp_path / "l.txt", model=MODEL)


@pytest.mark.parametrize(
    ("lines", "labels"),
    [
        (("great_tit", "blue_jay", "barn_owl"), ("great_tit", "blue_jay", "barn_owl")),
        (("Parus major_Great Tit", "Dog_Dog", "Tyto alba_Barn Owl"), ("Parus major", "Dog", "Tyto alba")),
        (("Parus major", "Tyto alba"), ("Parus major", "Tyto alba")),
    ],
)
def test_labels_are_cut_only_after_scientific_names(tmp_path, lines, labels):
    (tmp_path / "l.txt").write_text("\n".join(lines))
    assert read_labels(tmp_path / "l.txt", MODEL) == labels


def test_labels_of_a_known_network_in_another_order_are_refused(tmp_path):
    (tmp_path / "l.txt").write_text("\n".join(f"Genus species{k}_Name {k}" for k in range(BIRDNET.n_classes)))
    with pytest.raises(DataError, match=r"not the 6522 labels of BirdNET V2\.4 in their order"):
        read_labels(tmp_path / "l.txt", BIRDNET)


def test_embeddings_are_those_of_each_window(write, recording, tmp_path):
    adopted = adopt(write(), tmp_path / "b", model=ForeignModel(sample_rate=RATE, embedding="features"))
    assert adopted.contract.classes == ()
    with pytest.raises(BundleError, match="no classes, only an embedding"):
        predict.predict([adopted], [recording])
    result = embed(adopted, tmp_path / "e.parquet", recordings=[recording])
    assert (result.n_scored, result.n_failed) == (1, 0)
    frame, vectors, metadata = read_embeddings(tmp_path / "e.parquet")
    assert list(frame["filename"]) == ["a.wav"] * 7
    np.testing.assert_allclose(frame["start_s"], [0, 2, 4, 6, 8, 10, 10.3])
    assert metadata["sha256"] == adopted.sha256
    for start_s, vector in zip(frame["start_s"], vectors, strict=True):
        np.testing.assert_allclose(vector, features_of(recording, round(start_s * RATE)), atol=1e-5)
    with pytest.raises(DataError, match="already there"):
        embed(adopted, tmp_path / "e.parquet", recordings=[recording])
    embed(adopted, tmp_path / "fine.parquet", recordings=[recording], step_s=1)
    fine = read_embeddings(tmp_path / "fine.parquet")[0]["start_s"]
    np.testing.assert_allclose(fine, [0, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.3])
    with pytest.raises(ConfigError, match=r"the step must be 1 to 2 s"):
        embed(adopted, tmp_path / "far.parquet", recordings=[recording], step_s=5)
    assert main(["check", str(tmp_path / "b")]) == 0


def test_embeddings_of_waves_need_no_torch(write, recording, tmp_path):
    # Its import would double the memory and the time to the first window.
    adopt(write(), tmp_path / "b", model=ForeignModel(sample_rate=RATE, embedding="features"))
    call = ["embed", str(tmp_path / "b"), "--recordings", str(recording), "--out", str(tmp_path / "e.parquet")]
    code = f"import sys\nfrom bcsed.cli import main\nassert main({call}) == 0\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert len(read_embeddings(tmp_path / "e.parquet")[1]) == 7


def test_embedding_goes_on_and_names_what_failed(write, recording, tmp_path, capsys):
    adopt(write(), tmp_path / "b", model=ForeignModel(sample_rate=RATE, embedding="features"))
    call = ["embed", str(tmp_path / "b"), "--recordings", str(recording.parent), "--out", str(tmp_path / "e.parquet")]
    (recording.parent / "broken.wav").write_bytes(b"RIFF")
    assert main(call) == 3
    assert "broken.wav" in capsys.readouterr().err
    first = (tmp_path / "e.parquet").read_bytes()
    (tmp_path / "e.parquet").unlink()
    assert main([*call, "--workers", "2"]) == 3
    assert "1 from an earlier call" in capsys.readouterr().out
    assert (tmp_path / "e.parquet").read_bytes() == first
    recording.unlink()
    assert main([*call[:-1], str(tmp_path / "f.parquet")]) == 2
    assert "none of 1 recordings could be read" in capsys.readouterr().err
    assert main([*call[:-1], str(tmp_path / "f.csv")]) == 2
    assert "is a .parquet file" in capsys.readouterr().err


def test_a_network_of_bcsed_has_an_embedding_too(tiny, oracle, network, recordings, tmp_path):
    import torch

    from bcsed.audio.decode import read_audio
    from bcsed.audio.headers import read_info
    from bcsed.audio.spectrogram import LogMel

    embed(tiny, tmp_path / "e.parquet", recordings=[recordings / "odd.wav"])
    frame, vectors, _ = read_embeddings(tmp_path / "e.parquet")
    frontend = tiny.contract.frontend
    wave, _ = read_audio(read_info(recordings / "odd.wav"), frontend.sample_rate)
    first = round(frame["start_s"][1] * frontend.sample_rate / frontend.hop_length)
    with torch.no_grad():
        db = LogMel(frontend).compute(wave, first, first + frontend.n_frames)
        expected = network.encode(torch.from_numpy(db)[None]).mean(2)[0].numpy()
    np.testing.assert_allclose(vectors[1], expected, atol=1e-3)
    with pytest.raises(BundleError, match="returns no embedding; export the run again"):
        embed(oracle, tmp_path / "o.parquet", recordings=[recordings / "odd.wav"])


def test_a_bundle_that_claims_to_be_of_embeddings_is_refused(write, labels, tmp_path):
    adopted = adopt(write(), tmp_path / "b", labels=labels, model=MODEL)
    contract = dataclasses.replace(adopted.contract, net=Net(pool="mean"))
    manifest = json.loads((tmp_path / "b" / "bundle.json").read_text())
    manifest |= {"contract": to_dict(contract), "fingerprint": contract.fingerprint}
    (tmp_path / "b" / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"net.pool is 'mean'"):
        bundle.load(tmp_path / "b")


def test_windows_shorter_than_a_row_cover_it():
    frontend = wave_frontend(RATE, WINDOW)
    for seconds in (0.5, 3.0, 12.3, 60.0):
        n = round(seconds * RATE)
        plan = plan_windows(n, frontend, 1, 5)
        starts = plan.starts.reshape(len(plan.index), -1) * frontend.hop_length
        for row, begins in enumerate(starts):
            covered = np.zeros(n, bool)
            for begin in begins:
                covered[begin : begin + WINDOW] = True
            assert covered[row * 5 * RATE : (row + 1) * 5 * RATE].all()
            assert (begins + WINDOW <= max(n, WINDOW) + frontend.hop_length).all()
    assert len(plan_windows(32_000 * 60, Frontend(), 24, 30).starts) == 2 * 3


@pytest.mark.parametrize(("rate", "n"), [(48_000, 144_000), (32_000, 160_000), (22_050, 66_150), (16_000, 15_600)])
def test_a_wave_is_cut_into_frames_without_rest(rate, n):
    import torch

    from bcsed.audio.spectrogram import LogMel

    frontend = wave_frontend(rate, n)
    wave = np.random.default_rng(0).standard_normal(n, "f4")
    for begin, end in ((0, frontend.n_frames), (-2, 5), (frontend.n_frames - 3, frontend.n_frames + 4)):
        frames = WaveFrames(frontend).compute(wave, begin, end)
        np.testing.assert_array_equal(frames, LogMel(frontend).compute(wave, begin, end))
    np.testing.assert_array_equal(frames[:, :3].T.reshape(-1), wave[-3 * frontend.hop_length :])
    batch = LogMel(frontend)(torch.from_numpy(wave)[None])[0]
    np.testing.assert_array_equal(batch, WaveFrames(frontend).compute(wave, 0, frontend.n_frames))
    assert frontend.hop_length * frontend.n_frames == n
    assert frontend.window_s == n / rate
    assert frontend.hop_length >= rate / 100
    with pytest.raises(ConfigError, match="cannot be divided"):
        wave_frontend(rate, 2 * 1_000_003)
    with pytest.raises(ConfigError, match="use wave_frontend"):
        Frontend(channels="wave")


def test_what_contradicts_a_known_file_is_refused(tmp_path):
    wave = ops.parameter([-1, 144_000], np.float32, name="wave")
    narrow = ops.reduce_mean(wave, ops.constant(np.array([1])), keep_dims=True)
    scores = ops.broadcast(narrow, ops.constant(np.array([1, BIRDNET.n_classes])))
    graph = openvino.Model([ops.result(scores)], [wave], "net")
    assert complete(tmp_path, graph, ForeignModel(name="mine")).licence == BIRDNET.licence
    for stated in ({"sample_rate": 32_000}, {"n_samples": 48_000}, {"scores": "x"}, {"are_logits": False}):
        with pytest.raises(ConfigError, match=r"is BirdNET V2\.4, whose .* leave it out"):
            complete(tmp_path, graph, ForeignModel(**stated))


def test_names_that_repeat_keep_their_folders(write, recording, tmp_path):
    adopted = adopt(write(), tmp_path / "b", model=ForeignModel(sample_rate=RATE, embedding="features"))
    for site in ("one", "two"):
        (tmp_path / "sites" / site).mkdir(parents=True)
        (tmp_path / "sites" / site / "a.wav").write_bytes(recording.read_bytes())
    soundfile.write(tmp_path / "sites" / "short.wav", np.ones(800), RATE)
    embed(adopted, tmp_path / "e.parquet", recordings=[tmp_path / "sites"])
    assert set(read_embeddings(tmp_path / "e.parquet")[0]["filename"]) == {"one/a.wav", "two/a.wav", "short.wav"}


@pytest.mark.parametrize("fields", [{"peak": 0.0}, {"peak": float("nan")}, {"sample_rate": -1}, {"n_samples": 1 << 50}])
def test_values_that_no_network_has(fields):
    with pytest.raises(ConfigError, match="must be positive"):
        ForeignModel(**fields)


def test_scores_and_labels_belong_together(write, labels, tmp_path):
    with pytest.raises(ConfigError, match="need the names of their classes"):
        adopt(write(), tmp_path / "b", model=MODEL)
    with pytest.raises(ConfigError, match="name the output of their --scores too"):
        adopt(write(), tmp_path / "b", labels=labels, model=ForeignModel(sample_rate=RATE, embedding="features"))
