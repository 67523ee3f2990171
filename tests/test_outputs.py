"""What a run leaves behind: ensembles of unlike members, post-processing, formats, frames, precision, exit statuses."""

from __future__ import annotations

import copy
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import RATE, Loudness, seal

from bcsed import predict
from bcsed.audio.decode import read_there
from bcsed.cli.app import main
from bcsed.config.contract import Contract, Frontend, Net
from bcsed.data.annotations import read_annotations
from bcsed.errors import BundleError, ConfigError, DataError
from bcsed.files import atomic_write
from bcsed.models import bundle
from bcsed.models.ensemble import from_bundles
from bcsed.models.export import export
from bcsed.predict.outputs import OutputOptions
from bcsed.predict.spec import Windowing
from bcsed.report.scores import read_prediction
from bcsed.scores import detections, postprocess
from bcsed.scores.table import read_table, table_file

SLIDING = Windowing(windows="sliding", stride_s=2.0)


@pytest.fixture(scope="module")
def other(tiny, network, tmp_path_factory):
    """A member that answers two of the three classes, in another order, and differently."""
    changed = copy.deepcopy(network)
    last = changed.heads[0]
    with torch.no_grad():
        what, when = last.logits[-1], last.attention
        what.weight.data, what.bias.data = what.weight.data[[2, 0]] * 1.5, what.bias.data[[2, 0]] + 0.4
        when.weight.data, when.bias.data = when.weight.data[[2, 0]], when.bias.data[[2, 0]]
    changed.n_classes = 2
    contract = Contract(frontend=tiny.contract.frontend, net=tiny.contract.net, classes=("c", "a"))
    folder = tmp_path_factory.mktemp("other") / "bundle"
    return export(changed, folder, contract=contract, priors=np.full(2, 0.3, "float32"))


@pytest.mark.parametrize("mean", ["prob", "logit", "rank"])
def test_members_with_some_of_the_classes_are_scattered_by_name(tiny, other, recordings, mean):
    path = [recordings]
    both = predict.predict(from_bundles([other, tiny], [1, 3], mean=mean), path).scores
    assert list(both.columns) == ["a", "b", "c"]
    tables = {"first": predict.predict([other], path).scores, "second": predict.predict([tiny], path).scores}
    expected = postprocess.combine(tables, [1, 3], kind=mean, classes=("a", "b", "c"))
    np.testing.assert_allclose(both, expected.loc[both.index, both.columns], atol=1e-6)
    if mean == "prob":
        np.testing.assert_allclose(both["b"], tables["second"]["b"], atol=1e-7)
        np.testing.assert_allclose(both["a"], (tables["first"]["a"] + 3 * tables["second"]["a"]) / 4, atol=1e-6)


def test_a_list_that_nobody_answers_or_that_is_too_short_is_refused(tiny, other, recordings, tmp_path):
    template = tmp_path / "sample_submission.csv"
    template.write_text("row_id,a,b,c,d\nx_5,.3,.3,.3,.3\n")
    with pytest.raises(BundleError, match=r"no member has class 'd' \(1 of 4 classes"):
        predict.predict([tiny, other], [recordings], output=OutputOptions(sample_submission=template))
    template.write_text("row_id,x,y\nx_5,.3,.3\n")
    with pytest.raises(BundleError, match=r"member 1 has none of the 2 requested classes; its classes are"):
        predict.predict([other, tiny], [recordings], output=OutputOptions(sample_submission=template))
    with pytest.raises(ConfigError, match="one of prob, logit, rank; got 'median'"):
        from_bundles([tiny], mean="median")


@pytest.mark.parametrize("mean", ["prob", "rank"])
def test_classes_that_are_not_requested_are_not_used(tiny, other, recordings, mean):
    """A specialist with more classes is a member: its scores of the requested classes equal those of the full run."""
    full = predict.predict(from_bundles([other, tiny], mean=mean), [recordings]).scores
    some = predict.predict(from_bundles([other, tiny], mean=mean, classes=("c", "a")), [recordings]).scores
    assert list(some.columns) == ["c", "a"]
    np.testing.assert_allclose(some, full[["c", "a"]], atol=1e-7)


def test_a_class_that_only_a_late_member_answers_holds_its_prior(tiny, other):
    members = from_bundles([other, tiny])
    assert np.isnan(members.averaging.combine([(0, np.full((1, 2), 0.5, np.float32))])[0, 1])


def test_shifted_looks_are_averaged_and_stay_in_place(oracle, tiny, recordings):
    path = [recordings / "long.wav"]
    views = [predict.predict([tiny], path, windowing=Windowing(shifts_s=(s,))).scores for s in (0.0, 1.5, -1.5)]
    mean = predict.predict([tiny], path, windowing=Windowing(shifts_s=(0, 1.5, -1.5))).scores
    np.testing.assert_allclose(mean, sum(views) / 3, atol=1e-6)
    assert not np.allclose(views[0], views[1])
    # The oracle's rows still report their own loudness, each at its own place.
    plain, shifted = (
        predict.predict([oracle], path, windowing=Windowing(shifts_s=(s,))).scores["loud"] for s in (0.0, 1.0)
    )
    np.testing.assert_allclose(shifted.iloc[1:-1], plain.iloc[1:-1], atol=0.08)
    with pytest.raises(ConfigError, match=r"windows of 8 s can be shifted by at most 1.5 s .* got 2"):
        predict.predict([tiny], path, windowing=Windowing(shifts_s=(2.0,)))
    with pytest.raises(ConfigError, match="a shift of 1 s is for centred windows"):
        predict.predict([tiny], path, windowing=replace(SLIDING, shifts_s=(1.0,)))


def test_steps_are_applied_recording_by_recording(tiny, recordings, tmp_path):
    steps = postprocess.parse_stages(["smooth=.2,.6,.2", "top=2"])
    plain = predict.predict([tiny], [recordings]).scores
    result = predict.predict([tiny], [recordings], stages=steps, out=tmp_path / "out")
    np.testing.assert_array_equal(result.scores, postprocess.apply(plain, steps))
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert postprocess.parse_stages(told["post_processing"]) == steps


FORMATS = ("submission", "scores", "raven", "audacity", "csv", "parquet", "members", "frames")


def test_every_format_at_once(oracle, recordings, tmp_path):
    """Loud seconds of the oracle are detections; every file tells the same."""
    folder = tmp_path / "in"
    shutil.copytree(recordings, folder / "site")
    (folder / "site" / "empty.wav").touch()
    output = OutputOptions(formats=FORMATS, detection=detections.DetectionSettings(threshold=0.12))
    result = predict.predict([oracle], [folder], windowing=SLIDING, out=tmp_path / "out", output=output)
    out, table = tmp_path / "out", result.scores
    np.testing.assert_allclose(read_table(out / "submission.csv"), table, atol=1e-7)
    wide = pd.read_parquet(out / "scores.parquet")
    assert list(wide.columns) == ["row_id", "recording", "start_s", "end_s", "loud", "quiet"]
    np.testing.assert_array_equal(wide[["loud", "quiet"]], table)
    assert wide["row_id"].tolist() == list(table.index)
    assert (wide["end_s"] - wide["start_s"] == 5).all()
    lines = detections.read_detections(out / "detections.csv")
    assert len(lines) == len(detections.read_detections(out / "detections.parquet")) > 0
    assert lines["end_s"].max() <= 60
    for name in ("blip", "long", "odd", "short"):
        raven = read_annotations(out / "raven" / f"{name}.bcsed.selections.txt")
        labels = read_annotations(out / "audacity" / f"{name}.bcsed.data.labels.txt")
        assert len(raven) == len(labels) == (lines["name"] == name).sum()
    # The last row of 23.4 s ends there.
    heard = lines[(lines["name"] == "odd") & (lines["end_s"] > 20)]
    assert heard["end_s"].le(23.4 + 1e-6).all()
    members = predict.read_members(out)
    np.testing.assert_array_equal(next(iter(members.values())), table)
    assert not (out / "raven" / "empty.bcsed.selections.txt").exists()
    assert pd.read_csv(out / "failures.csv")["status"].tolist() == ["failed"]
    assert list(pd.read_csv(out / "notes.csv").columns) == ["recording", "note"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["models"][0]["sha256"] == oracle.sha256
    assert manifest["settings"]["precision"] == "f32"
    assert {"bcsed", "openvino", "torch", "numpy"} <= set(manifest["versions"])


def test_no_detections_is_a_table_with_a_header(oracle, recordings, tmp_path):
    output = OutputOptions(
        formats=("raven", "audacity", "csv", "parquet"), detection=detections.DetectionSettings(threshold=1.0)
    )
    result = predict.predict([oracle], [recordings / "odd.wav"], out=tmp_path / "out", output=output)
    assert result.n_failed == 0
    assert "label" in (tmp_path / "out" / "detections.csv").read_text().splitlines()[0]
    assert len(detections.read_detections(tmp_path / "out" / "detections.parquet")) == 0
    assert (tmp_path / "out" / "raven" / "odd.bcsed.selections.txt").read_text().startswith("Selection\tView")
    assert (tmp_path / "out" / "audacity" / "odd.bcsed.data.labels.txt").exists()
    assert not (tmp_path / "out" / "submission.csv").exists()


def frames_of(folder) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(path) for path in (folder / "frames").iterdir()]).sort_values(
        ["recording", "start_s"]
    )


@pytest.mark.parametrize("block_rows", [2, 120])
def test_frames_report_each_second(oracle, recordings, tmp_path, monkeypatch, block_rows):
    """Steps of the oracle last 1 s, and begin on whole seconds: frames are its seconds' loudness, once each."""
    from test_predict import loudness

    monkeypatch.setattr("bcsed.predict.blocks.BLOCK_ROWS", block_rows)
    out = tmp_path / "out"
    predict.predict([oracle], [recordings], windowing=SLIDING, out=out, output=OutputOptions(formats=("frames",)))
    frames = frames_of(out)
    for name, n in (("long", 60), ("odd", 24), ("short", 8), ("blip", 1)):
        path = recordings / f"{name}.wav"
        mine = frames[frames["recording"] == str(path)]
        assert mine["start_s"].tolist() == list(range(n))
        assert mine["end_s"].tolist() == list(range(1, n + 1))
        truth = 1 / (1 + np.exp(-loudness(path)))
        np.testing.assert_allclose(mine["loud"].iloc[: n - 1], truth[: n - 1], atol=1e-5)


def test_frames_are_those_of_the_recordings_and_weights_of_the_last_call(tiny, other, recordings, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    names = [path.name for path in sorted(recordings.glob("*.wav"))[:3]]
    for name in names:
        shutil.copy(recordings / name, source)
    call = {"windowing": SLIDING, "out": out, "output": OutputOptions(formats=("frames", "submission"))}
    predict.predict([tiny], [source], **call)
    before = frames_of(out)
    # A replaced file: as many frames as before, and only those of the new one.
    wave, rate = soundfile.read(source / names[1])
    soundfile.write(source / names[1], 0.3 * wave[::-1], rate)
    predict.predict([tiny], [source], **call)
    after = frames_of(out)
    assert not after.duplicated(["recording", "start_s"]).any() and len(after) == len(before)
    kept = after["recording"] != str(source / names[1])
    pd.testing.assert_frame_equal(after[kept].reset_index(drop=True), before[kept.to_numpy()].reset_index(drop=True))
    assert not np.allclose(after[~kept.to_numpy()]["a"], before[~kept.to_numpy()]["a"])
    # Rows follow other weights, frames would not.
    both = {**call, "out": tmp_path / "both"}
    predict.predict(from_bundles([tiny, other], (1.0, 1.0)), [source], **both)
    with pytest.raises(DataError, match=r"another run|other settings|differ"):
        predict.predict(from_bundles([tiny, other], (1.0, 9.0)), [source], **both)


def test_files_of_an_earlier_call_are_not_read(tiny, other, recordings, tmp_path):
    """Another call in the same folder, with other weights and formats."""
    out = tmp_path / "out"
    formats = OutputOptions(formats=("submission", "scores", "members"))
    predict.predict(from_bundles([tiny, other], (1.0, 1.0)), [recordings], out=out, output=formats)
    new = predict.predict(from_bundles([tiny, other], (1.0, 9.0)), [recordings], out=out).scores
    assert (out / "scores.parquet").is_file()
    read = read_prediction(out)
    np.testing.assert_allclose(read.scores.loc[new.index], new, atol=1e-6)
    assert read.members == {} and table_file(out).name == "submission.csv"
    only = OutputOptions(formats=("scores",))
    newer = predict.predict(from_bundles([tiny, other], (9.0, 1.0)), [recordings], out=out, output=only).scores
    np.testing.assert_allclose(read_table(table_file(out)).loc[newer.index], newer, atol=1e-6)


def test_classes_that_are_not_requested_are_noted(tiny, recordings, tmp_path):
    (tmp_path / "s.csv").write_text("row_id,a,b\nx_5,0,0\n")
    output = OutputOptions(sample_submission=tmp_path / "s.csv", formats=())
    result = predict.predict([tiny], [recordings], output=output)
    assert (str(tiny.path), "1 of its classes are not requested and not used: 'c'") in set(
        map(tuple, result.notes.to_numpy().tolist())
    )
    assert result.n_rows == len(result.scores) > 0


def test_frames_that_have_no_line_of_time_are_refused(oracle, tiny, recordings, tmp_path):
    frames = OutputOptions(formats=("frames",))
    with pytest.raises(ConfigError, match="only with sliding windows"):
        predict.predict([oracle], [recordings], out=tmp_path / "out", output=frames)
    with pytest.raises(ConfigError, match="a mean of ranks has none"):
        ranks = from_bundles([oracle], mean="rank")
        predict.predict(ranks, [recordings], out=tmp_path / "out", output=frames, windowing=SLIDING)
    with pytest.raises(ConfigError, match="frames are written to an output folder"):
        predict.predict([oracle], [recordings], output=frames, windowing=SLIDING)
    frontend = Frontend(sample_rate=32_000, n_fft=2048, hop_length=500, n_mels=64, n_frames=256, time_folds=2)
    quick = seal(Loudness(), tmp_path / "quick", ("loud", "quiet"), Net(backbone="oracle"), frontend)
    with pytest.raises(ConfigError, match=r"steps of 0.5 and 1 s; frames need steps of one length"):
        predict.predict([oracle, quick], [recordings], out=tmp_path / "out", output=frames, windowing=SLIDING)
    with pytest.raises(ConfigError, match=r"formats are submission, .* got 'kml'"):
        OutputOptions(formats=("kml",))


@pytest.mark.slow
def test_two_signals_hear_one_decoding(oracle, recordings, tmp_path, monkeypatch):

    frontend = Frontend(sample_rate=32_000, n_fft=2048, hop_length=500, n_mels=64, n_frames=512, time_folds=2)
    quick = seal(Loudness(), tmp_path / "quick", ("loud", "quiet"), Net(backbone="oracle"), frontend)
    calls, original = [], read_there
    monkeypatch.setattr("bcsed.predict.blocks.read_there", lambda *a: calls.append(1) or original(*a))
    both = predict.predict([oracle, quick], [recordings / "long.wav"]).scores
    assert len(calls) == 1
    alone = [predict.predict([one], [recordings / "long.wav"]).scores for one in (oracle, quick)]
    np.testing.assert_allclose(both, (alone[0] + alone[1]) / 2, atol=1e-6)


def cpu_has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_precision_is_a_choice_and_recorded(tiny, recordings, tmp_path, capsys):
    words = ["predict", str(tiny.path), "--recordings", str(recordings), "--out", str(tmp_path / "out")]
    if not cpu_has_bf16():
        assert main([*words, "--precision", "bf16"]) == 2
        assert "does not support bfloat16" in capsys.readouterr().err
        return
    assert main([*words, "--precision", "bf16"]) == 0
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["settings"]["precision"] == "bf16"
    half, full = read_table(tmp_path / "out" / "submission.csv"), predict.predict([tiny], [recordings]).scores
    assert 0 < np.abs(half - full).to_numpy().max() < 0.05
    with pytest.raises(DataError, match="its precision is 'bf16', now it is 'f32'"):
        predict.predict([tiny], [recordings], out=tmp_path / "out")
    capsys.readouterr()
    truth = (full > full.median()).astype(float)
    truth.to_csv(tmp_path / "truth.csv", index_label="row_id")
    assert main(["check", str(tiny.path), "--precision", "bf16"]) == 0
    assert "bf16 changes the logits of the probe by up to" in capsys.readouterr().out
    words = ["evaluate", str(tiny.path), "--precision", "bf16", "--recordings", str(recordings)]
    assert main([*words, "--truth", str(tmp_path / "truth.csv")]) == 0
    printed = capsys.readouterr().out
    assert "bf16 changes" in printed and "from 1.0000" in printed
    assert "macro ROC-AUC" in printed.splitlines()[-1]
    with pytest.raises(ConfigError, match="one of f32, bf16; got 'int8'"):
        bundle.compile_graph(bundle.read_graph(tiny), tiny.contract.frontend, precision="int8")


def test_recordings_belong_to_the_evaluation_of_a_bundle(tiny, recordings, tmp_path, capsys):
    words = ["--truth", str(tmp_path / "truth.csv")]
    assert main(["evaluate", str(tmp_path / "scores.csv"), *words, "--recordings", str(recordings)]) == 2
    assert "need a bundle" in capsys.readouterr().err
    assert main(["evaluate", str(tiny.path), *words]) == 2
    assert "with --recordings" in capsys.readouterr().err


def test_exit_statuses_and_what_is_left(tiny, recordings, tmp_path, capsys):
    def run(*paths: object, out: str) -> int:
        return main(["predict", str(tiny.path), "--recordings", *map(str, paths), "--out", str(tmp_path / out)])

    (tmp_path / "bad.ogg").touch()
    assert run(recordings, out="a") == 0
    assert run(recordings, tmp_path / "bad.ogg", out="b") == 3
    assert run(tmp_path / "bad.ogg", out="c") == 4
    assert run(tmp_path / "nowhere", out="d") == 2
    assert "empty (0 bytes)" in capsys.readouterr().err
    assert [len(pd.read_csv(tmp_path / out / "failures.csv")) for out in "abc"] == [0, 1, 1]
    assert not (tmp_path / "c" / "submission.csv").exists()
    assert json.loads((tmp_path / "c" / "manifest.json").read_text())["n_failed"] == 1


def test_a_full_disk_is_one_sentence_and_costs_nothing_that_is_done(tiny, recordings, tmp_path, monkeypatch):
    original, n = Path.write_bytes, 0

    def full(path, data):
        nonlocal n
        n += path.parent.name == "parts"
        if n == 3:
            original(path, data[:100])
            raise OSError(28, "No space left on device")
        return original(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"could not be written .No space left on device"):
        predict.predict([tiny], [recordings], out=tmp_path / "out")
    monkeypatch.undo()
    assert predict.predict([tiny], [recordings], out=tmp_path / "out").n_resumed >= 2


def test_the_graph_cache_is_filled_and_used(tiny, recordings, tmp_path):
    first = predict.predict(from_bundles([tiny], cache=tmp_path / "cache"), [recordings / "odd.wav"]).scores
    assert list((tmp_path / "cache").iterdir())
    second = predict.predict(from_bundles([tiny], cache=tmp_path / "cache"), [recordings / "odd.wav"]).scores
    np.testing.assert_array_equal(first, second)


def test_scores_of_a_folder_are_ablated(tiny, other, recordings, tmp_path, capsys):
    names = tmp_path / "taxonomy.csv"
    names.write_text("primary_label,class_name,common_name\na,Aves,Ay\nb,Amphibia,Bee\nc,Aves,Sea\n")
    out = tmp_path / "out"
    words = ["predict", str(tiny.path), str(other.path), "--recordings", str(recordings), "--out", str(out)]
    formats = ["--format", "submission", "members", "csv", "--threshold", "0.4", "--class-threshold", "b=0.45"]
    assert (
        main([*words, *formats, "--postprocess", "smooth=.2,.6,.2", "smooth.Amphibia=1", "--taxonomy", str(names)]) == 0
    )
    assert "rank correlation between members" in capsys.readouterr().out
    assert "Ay" in (out / "detections.csv").read_text()
    truth = tmp_path / "truth.csv"
    plain = predict.predict([tiny], [recordings]).scores
    (plain > plain.median()).astype(float).to_csv(truth, index_label="row_id")
    assert main(["evaluate", str(out), "--truth", str(truth), "--ablate", "top=2", "power=2"]) == 0
    said = capsys.readouterr().out
    assert "top=2" in said
    assert "power=2" in said
    assert "rank" in said
    assert "1-bundle" in said
    assert main(["evaluate", str(out), "--truth", str(truth), "--ablate", "tpo=2"]) == 2
    refused = capsys.readouterr()
    assert "tpo" in refused.err and not refused.out
    shutil.rmtree(out / "members")
    assert main(["evaluate", str(out), "--truth", str(truth), "--ablate", "top=2"]) == 2
    assert "post-processed by smooth=0.2,0.6,0.2" in capsys.readouterr().err
    assert main(["evaluate", str(out), "--truth", str(truth)]) == 0
    assert main(["evaluate", str(tmp_path), "--truth", str(truth)]) == 2
    assert "is not a finished folder of predict" in capsys.readouterr().err


def test_any_rate_and_any_channels(tiny, tmp_path, rng):
    """96 kHz stereo, 8 kHz, 0.3 s: rows are those of the duration."""
    for name, rate, channels, seconds in (
        ("fast", 96_000, 2, 11.0),
        ("slow", 8_000, 1, 6.0),
        ("brief", 44_100, 3, 0.3),
    ):
        wave = 0.1 * rng.standard_normal((round(seconds * rate), channels))
        soundfile.write(tmp_path / f"{name}.WAV", wave, rate)
    result = predict.predict([tiny], [tmp_path])
    assert list(result.scores.index) == ["brief_5", "fast_5", "fast_10", "fast_15", "slow_5", "slow_10"]
    assert result.n_failed == 0
    assert RATE == 32_000


def test_members_of_an_earlier_call_are_removed(tiny, recordings, tmp_path):
    output = predict.OutputOptions(formats=("members", "submission"))
    shutil.copytree(tiny.path, tmp_path / "renamed")
    for each in (tiny, bundle.load(tmp_path / "renamed")):
        predict.predict([each], [recordings], out=tmp_path / "out", output=output)
    assert [path.name for path in (tmp_path / "out" / "members").iterdir()] == ["1-renamed.parquet"]


def test_frames_of_a_remote_folder(oracle, recordings):
    output = predict.OutputOptions(formats=("frames", "submission"))
    upath = pytest.importorskip("upath")
    out, windowing = upath.UPath("memory://frames/out"), Windowing(windows="sliding")
    for _ in range(2):
        predict.predict([oracle], [recordings], out=str(out), output=output, windowing=windowing)
        assert (out / "submission.csv").is_file() and list((out / "frames").iterdir())


def test_an_unknown_taxon_is_refused_before_the_first_recording(tiny, recordings, tmp_path):
    stages = postprocess.parse_stages(["smooth.Aves=0.2,0.6,0.2"])
    with pytest.raises(ConfigError, match="no class is of the taxon 'Aves'"):
        predict.predict([tiny], [recordings], out=tmp_path / "out", stages=stages)
    assert not (tmp_path / "out").exists()


def test_threads_that_write_one_file_leave_one_of_both(tmp_path):
    def write(letter):
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text(letter * 9)
            both.wait()
            temporary.write_text(letter * 9)

    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(write, "AB"))
    assert (tmp_path / "a.txt").read_text() in ("A" * 9, "B" * 9)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
