"""A head on embeddings: trained on a small competition, evaluated out of fold, sealed with its network."""

from __future__ import annotations

import json
import shutil

import numpy as np
import openvino
import pandas as pd
import pytest
import soundfile
from conftest import RATE
from openvino import opset13 as ops

from bcsed import bundle, metrics, predict
from bcsed.analysis.noise import score_noise
from bcsed.cli import main
from bcsed.errors import BundleError, ConfigError, DataError
from bcsed.models.adopt import adopt
from bcsed.models.foreign import ForeignModel
from bcsed.models.heads import ProbeHead, SequenceHead, seal_head
from bcsed.predict.embed import embed
from bcsed.predict.embeddings import read_embeddings
from bcsed.train import probe, sequence
from bcsed.train.probe import ProbeOptions, train_probe

WINDOW = 2 * RATE
PITCHES = (900, 3000, 7000)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A foreign network whose embedding is the energy near some frequencies."""
    folder = tmp_path_factory.mktemp("network")
    t = np.arange(WINDOW // 8) / RATE
    hz = [pitch * factor for pitch in PITCHES for factor in (0.9, 0.95, 1.0, 1.05, 1.1)]
    bands = np.concatenate([[np.sin(2 * np.pi * f * t), np.cos(2 * np.pi * f * t)] for f in hz]).T.astype("f4") / 50
    wave = ops.parameter([1, WINDOW], np.float32, name="wave")
    pieces = ops.reshape(wave, ops.constant(np.array([8, -1])), special_zero=False)
    energy = ops.power(ops.matmul(pieces, ops.constant(bands), False, False), np.float32(2))
    features = ops.log(ops.add(ops.reduce_mean(energy, ops.constant(np.array([0])), keep_dims=True), np.float32(1e-3)))
    features.output(0).get_tensor().set_names({"features"})
    openvino.save_model(openvino.Model([ops.result(features)], [wave], "net"), folder / "net.xml")
    model = ForeignModel(sample_rate=RATE, embedding="features", licence="CC0")
    return adopt(folder / "net.xml", folder / "bundle", model=model)


@pytest.fixture(scope="module")
def table(foreign, year, tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "clips.parquet"
    embed(foreign, path, data=year)
    return path


def truth_of(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the truth of `write_year`'s soundscapes: one caller per row."""
    truth = pd.DataFrame(0, index=scores.index, columns=scores.columns)
    for row_id in scores.index:
        _, number, end_s = row_id.split("_")
        truth.loc[row_id, scores.columns[(int(number) + int(end_s) // 5 - 1) % 3]] = 1
    return truth


@pytest.mark.parametrize(
    "options",
    [
        ProbeOptions(),
        pytest.param(ProbeOptions(head="hidden", mix=0.5), marks=pytest.mark.slow),
        ProbeOptions(balance=True),
        ProbeOptions(head="sequence"),
    ],
)
def test_a_head_scores_soundscapes(table, year, tmp_path, options, monkeypatch):
    monkeypatch.setattr(probe, "_STEPS", 150)
    monkeypatch.setattr(sequence, "_UPDATES", 30)
    assert set(read_embeddings(table)[0]["filename"]) == set(pd.read_csv(year / "train.csv")["filename"])
    lines: list[str] = []
    sealed, evaluation = train_probe([table], year, tmp_path / "probe", options=options, log=lines.append)
    assert len(lines) == (5 if options.head == "linear" else 2)
    assert lines[0].endswith("of 24 clips")
    assert metrics.macro_auc(evaluation.truth, evaluation.scores)[0] > 0.95
    assert sealed.contract.classes == ("1139490", "cuckoo1", "frog1")
    assert sealed.provenance["licence"] == "CC0"
    assert bundle.check(sealed)["logits"] < 1e-3
    scores = predict.predict([sealed], [year / "test_soundscapes"]).scores
    assert metrics.macro_auc(truth_of(scores), scores)[0] > 0.95
    if options.head == "sequence":
        assert (sealed.steps, sealed.contract.frontend.window_s) == (5, 10)
        return
    embed(sealed, tmp_path / "again.parquet", data=year)
    np.testing.assert_allclose(read_embeddings(tmp_path / "again.parquet")[1], read_embeddings(table)[1], rtol=1e-5)


def test_the_sealed_head_computes_the_trained_one(table, year, foreign, tmp_path):
    rng = np.random.default_rng(0)
    E = foreign.n_features
    layers = ((rng.normal(0, 0.1, (5, E)), rng.normal(0, 1, 5)), (rng.normal(0, 1, (4, 5)), rng.normal(0, 1, 4)))
    head = ProbeHead(tuple((w.astype("f4"), b.astype("f4")) for w, b in layers))
    mean, scale = rng.normal(0, 1, E).astype("f4"), 2.5
    vectors = read_embeddings(table)[1]
    expected = head.scores((vectors - mean) / scale)
    assert np.allclose(head.unscaled(mean, scale).scores(vectors), expected, atol=1e-5)
    names = ("1139490", "cuckoo1", "frog1")
    sealed = seal_head(foreign, head, tmp_path / "b", classes=names, priors=np.full(3, 0.1, "f4"), provenance={})
    first = pd.read_csv(year / "train.csv")["filename"][0]
    path = year / "train_audio" / first
    windowing = predict.Windowing(row_s=2)
    scores = predict.predict([sealed], [path], windowing=windowing).scores.to_numpy()
    softmax = head.scores(vectors[: len(scores)])[:, :3]
    np.testing.assert_allclose(scores, softmax, atol=1e-5)


def make_sequence_head(n_values: int) -> SequenceHead:
    rng = np.random.default_rng(2)

    def layer(n_out: int, n_in: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(0, 0.5, (n_out, n_in)).astype("f4"), rng.normal(0, 0.5, n_out).astype("f4")

    layers = {"inner": layer(6, n_values), "query": layer(3, 6), "key": layer(3, 6), "value": layer(6, 6)}
    return SequenceHead(**layers, outer=layer(4, 12), position=rng.normal(0, 1, (5, 5)).astype("f4"))


@pytest.mark.parametrize("of", ["foreign", "tiny"])
def test_the_sealed_sequence_head_computes_the_trained_one(of, recordings, tmp_path, request):
    network = request.getfixturevalue(of)
    length = round(network.contract.frontend.window_s)
    embed(network, tmp_path / "e.parquet", recordings=[recordings / "long.wav"])
    vectors = read_embeddings(tmp_path / "e.parquet")[1]
    mean, scale = vectors.mean(0), float(vectors.std())
    head = make_sequence_head(network.n_features).unscaled(mean, scale)
    sealed = seal_head(
        network, head, tmp_path / "b", classes=("a", "b", "c"), priors=np.full(3, 0.1, "f4"), provenance={}
    )
    assert bundle.check(sealed)["logits"] < 1e-3
    windowing = predict.Windowing(row_s=length, windows="sliding", stride_s=5.0 * length)
    scores = predict.predict([sealed], [recordings / "long.wav"], windowing=windowing).scores.to_numpy()
    expected = head.scores(vectors[None, :5])[0, :, :3]
    # The next window of `tiny` begins in the fourth row, as the last one ends with the recording.
    np.testing.assert_allclose(scores[:3], expected[:3], atol=1e-4)
    # A window is scored by its neighbours too.
    other = vectors[None, :5].copy()
    other[0, 0] += 3 * scale
    assert np.abs(head.scores(other)[0, 1:, :3] - expected[1:]).max() > 1e-3
    # Weights are stored once.
    assert (sealed.path / "model.bin").stat().st_size < 1.1 * (network.path / "model.bin").stat().st_size + 4096


def test_windows_follow_each_other_without_gaps():
    names = np.array(["a", "a", "a", "b", "b", "b", "b", "a"], object)
    start_s = np.array([3.0, 0.0, 4.0, 0.0, 1.0, 3.0, 10.0, 6.0])
    following = sequence.find_followers(names, start_s, 3.0)
    # 0, 3, 6 of a; 4 is the last window, moved into the recording; 0, 3 of b, and 1 and 10 alone.
    assert following.tolist() == [7, 0, 2, 5, 4, 3, 6, 1]
    assert sequence.make_runs(np.array([1, 2]), following).tolist() == [[1, 0, 7, 1, 0], [2] * 5]
    select = probe.Windows(*[np.arange(8)] * 4, following).select(names == "b")
    assert (select.following.tolist(), select.clip_of.tolist()) == ([2, 1, 0, 3], [3, 4, 5, 6])


def test_scores_of_windows_are_means_over_positions():
    head, rng = make_sequence_head(4), np.random.default_rng(0)
    vectors, following = rng.normal(0, 1, (3, 4)).astype("f4"), np.array([1, 0, 2])
    scores = sequence.score_windows(head, vectors, following)
    np.testing.assert_allclose(scores[2], head.scores(vectors[None, [2] * 5])[0].mean(0), atol=1e-6)
    both = head.scores(vectors[[[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]])
    np.testing.assert_allclose(scores[0], (both[0, ::2].sum(0) + both[1, 1::2].sum(0)) / 5, atol=1e-6)


def test_a_sequence_head_learns_from_neighbours(monkeypatch):
    for name, value in {"_UPDATES": 80, "_HIDDEN": 32, "_QUERY": 8, "_RATE": 1e-2}.items():
        monkeypatch.setattr(sequence, name, value)
    # The class of the second half of each recording is only in the window before.
    rng = np.random.default_rng(0)
    vectors, targets = rng.normal(0, 0.1, (400, 4)).astype("f4"), np.zeros((400, 3), "f4")
    label = rng.integers(2, size=200)
    vectors[::2, 0] += 2 * label - 1
    vectors[1::2, 1] += 2
    targets[np.arange(400), np.repeat(label, 2)] = 1
    windows = probe.Windows(vectors, targets, np.zeros(400), np.arange(400) // 2, np.arange(400) ^ 1)
    windows = probe._add_silence(windows, np.full(4, -3, "f4"))
    arguments = (windows.vectors, windows.targets, np.ones(401, "f4"), windows.following, 0.0, 0)
    head = sequence.fit_sequence(*arguments)
    best = sequence.score_windows(head, vectors, windows.following[:400]).argmax(1)
    assert (best == np.repeat(label, 2)).mean() > 0.95
    # Scores do not spread from a call into silence.
    ending = windows.vectors[[0, 1, 400, 400, 400]]
    assert head.scores(ending[None])[0].argmax(1).tolist() == [label[0], label[0], 2, 2, 2]
    again = sequence.fit_sequence(*arguments)
    np.testing.assert_array_equal(again.outer[0], head.outer[0])


@pytest.mark.slow
def test_pseudolabelled_soundscapes_are_soft_targets(table, year, foreign, tmp_path, capsys):
    first, _ = train_probe([table], year, tmp_path / "first", log=lambda _: None)
    call = ["pseudolabel", str(first.path), "--recordings", str(year / "test_soundscapes"), "--soft"]
    assert main([*call, "--out", str(tmp_path / "p.parquet")]) == 0
    embed(foreign, tmp_path / "s.parquet", recordings=[year / "test_soundscapes"])
    tables, options, lines = [table, tmp_path / "s.parquet"], ProbeOptions(strength=0.1), []
    second, _ = train_probe(tables, year, tmp_path / "second", options=options, pseudolabels=tmp_path / "p.parquet")
    scores = [predict.predict([each], [year / "test_soundscapes"]).scores for each in (first, second)]
    assert not np.allclose(*scores, atol=1e-4)
    assert metrics.macro_auc(truth_of(scores[1]), scores[1])[0] > 0.95
    # Of rows that were not selected, it is not known that no class calls.
    assert main([*call[:-1], "--top-n", "2", "--out", str(tmp_path / "t.parquet")]) == 0
    few = {"options": options, "pseudolabels": tmp_path / "t.parquet", "log": lines.append}
    train_probe(tables, year, tmp_path / "top", **few)
    assert "windows have no label and are not used" in lines[0]
    with pytest.raises(DataError, match="none of its recordings has an embedding"):
        train_probe([table], year, tmp_path / "third", pseudolabels=tmp_path / "p.parquet")


def test_clips_without_a_class_are_the_negatives(table, year, tmp_path):
    import shutil

    shutil.copytree(year, tmp_path / "year")
    labels = pd.read_csv(tmp_path / "year" / "train.csv", dtype=str, keep_default_na=False)
    moved = labels["primary_label"] == "frog1"
    (tmp_path / "year" / "train_audio" / "nocall").mkdir()
    labels.loc[moved, "primary_label"] = "nocall"
    labels.to_csv(tmp_path / "year" / "train.csv", index=False)
    sealed, _ = train_probe([table], tmp_path / "year", tmp_path / "probe", log=lambda _: None)
    scores = predict.predict([sealed], [year / "test_soundscapes"]).scores
    frogs = truth_of(scores)["frog1"] == 1
    assert scores[frogs].to_numpy().max() < 0.3
    assert scores[~frogs].max(axis=1).min() > 0.5


def test_noise_is_none_of_the_classes(table, year, foreign, tmp_path, rng, capsys):
    """A hum in a band of one class scores as that class until it is given as noise; the classes stay as they were."""
    t = np.arange(20 * RATE) / RATE
    for name in ("hum", "new hum"):
        (tmp_path / name).mkdir()
        wave = 0.1 * np.sin(2 * np.pi * 3100 * t + rng.uniform(0, 6)) + 0.01 * rng.standard_normal(t.size)
        soundfile.write(tmp_path / name / "a.wav", wave, RATE)
    embed(foreign, tmp_path / "noise.parquet", recordings=[tmp_path / "hum"])
    words = ["probe", str(table), "--data", str(year), "--strength", "1", "--out"]
    assert main([*words, str(tmp_path / "before")]) == 0
    assert main([*words, str(tmp_path / "after"), "--noise", str(tmp_path / "noise.parquet")]) == 0
    assert "10 of these windows are of noise" in capsys.readouterr().out
    before, after = (bundle.load(tmp_path / name) for name in ("before", "after"))
    assert (before.provenance["n_noise_windows"], after.provenance["n_noise_windows"]) == (0, 10)
    noise = [score_noise(each, [tmp_path / "new hum"]) for each in (before, after)]
    with pytest.raises(BundleError, match="has no classes"):
        score_noise(foreign)
    assert noise[0].to_numpy().max() > 0.5 and noise[1].to_numpy().max() < 0.2
    scores = predict.predict([after], [year / "test_soundscapes"]).scores
    assert metrics.macro_auc(truth_of(scores), scores)[0] > 0.95
    # Noise of another site, with the same file name; and the same noise twice.
    embed(foreign, tmp_path / "other.parquet", recordings=[tmp_path / "new hum"])
    both = [tmp_path / "noise.parquet", tmp_path / "other.parquet"]
    assert train_probe([table], year, tmp_path / "both", noise=both)[0].provenance["n_noise_windows"] == 20
    shutil.copy(both[0], tmp_path / "copy.parquet")
    with pytest.raises(DataError, match=r"copy\.parquet: the window of 'a\.wav' at 0 s is there twice"):
        train_probe([table], year, tmp_path / "p", noise=[*both, tmp_path / "copy.parquet"])
    with pytest.raises(DataError, match=r"is in a table of noise and a clip of"):
        train_probe([table], year, tmp_path / "p", noise=[table])
    with pytest.raises(DataError, match="no such file of embeddings"):
        train_probe([table], year, tmp_path / "p", noise=[tmp_path / "absent.parquet"])
    assert not (tmp_path / "p").exists()


def test_mistakes(table, year, foreign, tiny, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"not made by .*bundle; name their --bundle"):
        train_probe([table], year, tmp_path / "p", bundle=tiny.path)
    embed(tiny, tmp_path / "tiny.parquet", recordings=[year / "test_soundscapes"])
    with pytest.raises(DataError, match="are not those of the bundle"):
        train_probe([table, tmp_path / "tiny.parquet"], year, tmp_path / "p")
    with pytest.raises(DataError, match="none of the 24 clips has an embedding"):
        train_probe([tmp_path / "tiny.parquet"], year, tmp_path / "p", bundle=tiny.path)
    shutil.copy(table, tmp_path / "copy.parquet")
    for tables in ({"embeddings": [table, table]}, {"embeddings": [table, tmp_path / "copy.parquet"]}):
        with pytest.raises(DataError, match="is there twice; name each table once"):
            train_probe(**tables, data=year, out=tmp_path / "p")
    (tmp_path / "text.parquet").write_text("hello")
    call = ["probe", str(tmp_path / "text.parquet"), "--data", str(year), "--out", str(tmp_path / "p")]
    assert main(call) == 2
    assert "text.parquet" in capsys.readouterr().err
    pd.DataFrame({"filename": ["a"], "start_s": [0.0]}).to_parquet(tmp_path / "short.parquet")
    with pytest.raises(DataError, match=r"short.parquet: not readable as a table of embeddings"):
        train_probe([tmp_path / "short.parquet"], year, tmp_path / "p")
    for fields in (
        {"head": "deep"},
        {"mix": 0.5},
        {"strength": -1.0},
        {"head": "sequence", "strength": 1.0},
        {"seed": -1},
    ):
        with pytest.raises(ConfigError):
            ProbeOptions(**fields)
    call = ["probe", str(table), "--data", str(year), "--out", str(tmp_path / "q"), "--strength", "1"]
    assert main(call) == 0
    printed = capsys.readouterr().out
    assert "out of fold: macro ROC-AUC" in printed
    assert "licence of the network: CC0" in printed
    assert main(call) == 2
    assert "already exists" in capsys.readouterr().err


@pytest.mark.slow
def test_a_probe_teaches_distilled_students(land25, foreign, tmp_path, capsys):
    """Later rounds are also labelled by a probe; students follow its embeddings of clips and soundscapes."""
    data, _ = land25
    embed(foreign, tmp_path / "clips.parquet", data=data)
    embed(foreign, tmp_path / "land.parquet", recordings=[data / "train_soundscapes"])
    train_probe([tmp_path / "clips.parquet"], data, tmp_path / "probe", log=lambda _: None)
    quick = ("frontend.n_frames=64", "frontend.hop_length=2000", "net.backbone=resnet10t", "fit.epochs=1")
    call = [
        "rounds",
        "borrowed",
        "--data",
        str(data),
        "--probe",
        str(tmp_path / "probe"),
        "--out",
        str(tmp_path / "out"),
    ]
    teacher = ["--teacher", str(tmp_path / "clips.parquet"), str(tmp_path / "land.parquet")]
    assert main([*call, *teacher, "--set", *quick, "fit.distil_weight=1"]) == 0
    assert "round 3: 3 students" in capsys.readouterr().out
    for number in (1, 2, 3):
        run = json.loads((tmp_path / "out" / f"round-{number}" / "tiny-s0" / "run" / "run.json").read_text())
        assert {key: run["sources"]["teacher"][key] for key in ("clips", "soundscapes")} == {
            "clips": 24,
            "soundscapes": 6,
        }
    ledger = json.loads((tmp_path / "out" / "ledger.json").read_text())["rounds"]
    assert [len(entry["teacher"]) for entry in ledger] == [0, 4, 4]


def test_labels_of_soundscapes_are_targets(land25, foreign, table, tmp_path):
    """Labels outweigh pseudolabels; a row of which only an absent class is known is not used."""
    data, _ = land25
    embed(foreign, tmp_path / "land.parquet", recordings=[data / "train_soundscapes"])
    name = sorted((data / "train_soundscapes").iterdir())[0].name
    lines = [
        "filename,start,end,primary_label,known",
        f"{name},0,5,frog1,frog1",
        f"{name},5,10,,frog1",
        f"{name},10,15,,frog1;cuckoo1;1139490",
    ]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    seen: list[str] = []
    tables, options = [table, tmp_path / "land.parquet"], ProbeOptions(strength=0.1)
    sealed, _ = train_probe(
        tables, data, tmp_path / "probe", options=options, labels=[tmp_path / "labels.csv"], log=seen.append
    )
    assert "1 of 3 labelled rows are not used" in seen[0]
    n_clip_windows, n_land = (len(read_embeddings(path)[0]) for path in tables)
    used = int(seen[1].split()[0]) - n_clip_windows
    # Windows of 2 s of two rows of 5 s, by their centres.
    assert 4 <= used <= 6 < n_land
    assert sealed.provenance["n_clips"] == 24
    (tmp_path / "other.csv").write_text("filename,start,end,primary_label\nother.ogg,0,5,frog1\n")
    lines += ["other.ogg,0,5,frog1,1139490;cuckoo1;frog1"]
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    train_probe(tables, data, tmp_path / "p", options=options, labels=[tmp_path / "labels.csv"], log=seen.append)
    assert any("1 of 2 recordings have no embedding of their own and are not used: other.ogg" in line for line in seen)
    with pytest.raises(DataError, match=r"other\.csv: none of its recordings has an embedding"):
        train_probe(tables, data, tmp_path / "no", labels=[tmp_path / "other.csv"], log=seen.append)


def test_windows_of_a_recording_that_ends_early_keep_their_times(tiny, tmp_path):
    """A FLAC file of 60 s is cut off; its first windows have the vectors and the times of the whole one."""
    tables = []
    for name, keep in (("whole", 1.0), ("cut", 0.45)):
        path = tmp_path / f"{name}.flac"
        soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(60 * RATE), RATE)
        path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
        embed(tiny, tmp_path / f"{name}.parquet", recordings=[path], step_s=2)
        tables.append(read_embeddings(tmp_path / f"{name}.parquet"))
    (whole, vectors, _), (cut, cut_vectors, _) = tables
    n = len(cut)
    assert 9 <= n < len(whole) and list(cut["start_s"]) == list(whole["start_s"][:n])
    np.testing.assert_allclose(cut_vectors[:6], vectors[:6], atol=1e-4)
