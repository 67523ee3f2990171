"""Two runs into one folder: refused at the same time, and one after the other if files would be lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from test_train import JOBS, SMALL

from bcsed import predict, rounds, train
from bcsed.cli.app import main
from bcsed.errors import DataError
from bcsed.files import lock_folder
from bcsed.scores.table import read_table
from bcsed.train.api import train_grid
from bcsed.train.pseudolabels import make_pseudolabels

IN_USE = "is in use by another process of bcsed; wait until it ends, or name another folder"


def test_a_folder_is_held_until_the_block_or_the_process_ends(tmp_path):
    code = """
import sys
from pathlib import Path
from bcsed.files import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "folder")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=IN_USE), lock_folder(tmp_path / "new" / "folder"):
            pass
        other.kill()
    for _ in range(2):
        with lock_folder(tmp_path / "new" / "folder"):
            pass
    assert not list((tmp_path / "new" / "folder").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: file exists"), lock_folder(tmp_path / "file"):
        pass


def test_a_prediction_into_a_folder_in_use_is_refused(tiny, recordings, tmp_path):
    with lock_folder(tmp_path / "out"), pytest.raises(DataError, match=IN_USE):
        predict.predict([tiny], [recordings / "short.wav"], out=tmp_path / "out")
    assert predict.predict([tiny], [recordings / "short.wav"], out=tmp_path / "out").n_scored == 1


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_into_a_folder_in_use_is_refused(year, tmp_path, resume):
    experiment = SMALL.vary("one", fit__epochs=1)
    if resume:
        with pytest.raises(KeyboardInterrupt):
            train.train(experiment, year, tmp_path / "run", options=JOBS, progress=interrupt)
    with lock_folder(tmp_path / "run"), pytest.raises(DataError, match=IN_USE):
        train.train(experiment, year, tmp_path / "run", resume=resume, options=JOBS)
    assert (tmp_path / "run" / "run.json").is_file() == resume


def interrupt(*_):
    raise KeyboardInterrupt


def test_rounds_in_a_folder_in_use_are_refused(year, tmp_path):
    with lock_folder(tmp_path / "rounds"), pytest.raises(DataError, match=IN_USE):
        rounds.run(rounds.find_plan("tiny"), year, tmp_path / "rounds")


def test_other_recordings_do_not_replace_finished_scores(tiny, recordings, tmp_path):
    out, both = tmp_path / "out", [recordings / "short.wav", recordings / "odd.wav"]
    predict.predict([tiny], both, out=out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shutil.copytree(recordings, tmp_path / "elsewhere")
    for others in (
        [recordings / "long.wav"],  # none of them
        [recordings / "odd.wav"],  # fewer
        [recordings / "odd.wav", recordings / "long.wav"],  # as many
        [tmp_path / "elsewhere" / path.name for path in both],  # of the same names
    ):
        with pytest.raises(
            DataError, match=r"scores of [12] recordings? that (is|are) not among the [12] of this call"
        ):
            predict.predict([tiny], others, out=out)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    # More of them, or the same in another order, lose nothing.
    assert predict.predict([tiny], [*both[::-1], recordings / "long.wav"], out=out).n_resumed == 2
    assert len(read_table(out / "submission.csv")) > before[out / "submission.csv"].count(b"\n")


def test_the_same_recordings_by_another_way_are_the_same(tiny, recordings, tmp_path, monkeypatch):
    audio = tmp_path / "audio"
    audio.mkdir()
    for name in ("short.wav", "odd.wav"):
        shutil.copy(recordings / name, audio)
    (tmp_path / "link").symlink_to(audio)
    monkeypatch.chdir(audio)
    assert predict.predict([tiny], [audio], out=tmp_path / "out").n_resumed == 0
    for way in ("../audio", ".", tmp_path / "link", tmp_path / "link" / ".." / "audio"):
        assert predict.predict([tiny], [way], out=tmp_path / "out").n_resumed == 2
    audio.rename(tmp_path / "moved")
    with pytest.raises(DataError, match=r"such as .*odd\.wav, which no longer exists; name a new folder, or remove"):
        predict.predict([tiny], [tmp_path / "moved"], out=tmp_path / "out")


def test_links_to_one_file_are_different_recordings(tiny, recordings, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.wav").symlink_to(recordings / "odd.wav")
    output = predict.OutputOptions(formats=("frames",))
    windowing = predict.Windowing(windows="sliding")
    predict.predict([tiny], [tmp_path / "a.wav"], out=tmp_path / "out", output=output, windowing=windowing)
    with pytest.raises(DataError, match=r"a\.wav; name a new folder, remove that one, or name its recordings too"):
        predict.predict([tiny], [tmp_path / "b.wav"], out=tmp_path / "out", output=output, windowing=windowing)


def test_other_recordings_are_refused_in_every_form(tiny, recordings, tmp_path):
    sliding = predict.Windowing(windows="sliding")
    for formats in ((), ("raven", "csv"), ("members",), ("frames",)):
        arguments = {"out": tmp_path / "-".join(formats), "windowing": sliding}
        arguments |= {"output": predict.OutputOptions(formats=formats)}
        predict.predict([tiny], [recordings / "short.wav", recordings / "odd.wav"], **arguments)
        with pytest.raises(DataError, match=r"not among the 1 of this call, such as /.*short\.wav; name a new folder"):
            predict.predict([tiny], [recordings / "odd.wav"], **arguments)


def test_pseudolabels_of_other_recordings_are_refused(tiny, recordings, tmp_path):
    out = tmp_path / "a.parquet"
    make_pseudolabels([tiny], [recordings / "short.wav", recordings / "odd.wav"], out)
    with pytest.raises(DataError, match="is already there"):
        make_pseudolabels([tiny], [recordings / "odd.wav"], out)
    out.unlink()
    with pytest.raises(DataError, match="not among the 1 of this call"):
        make_pseudolabels([tiny], [recordings / "odd.wav"], out)


def test_recordings_without_scores_may_be_left_out(tiny, recordings, tmp_path, capsys):
    (tmp_path / "empty.wav").touch()
    words = ["predict", str(tiny.path), "--out", str(tmp_path / "out"), "--recordings", str(recordings / "short.wav")]
    assert main([*words, str(tmp_path / "empty.wav")]) == 3
    assert main(words) == 0
    # An interrupted run has no files that could be lost.
    (tmp_path / "b").mkdir()
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    (tmp_path / "b" / "manifest.json").write_text(json.dumps({key: manifest[key] for key in ("schema", "settings")}))
    words[3] = str(tmp_path / "b")
    assert main([*words[:-1], str(recordings / "odd.wav")]) == 0
    assert main(words) == 2
    assert "scores of 1 recording that is not among the 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["precious", "<html><title>mine</title></html>", '{"a": 1}'])
def test_files_of_other_origin_are_not_replaced(tiny, year, recordings, tmp_path, capsys, text):
    scores = tmp_path / "scores"
    predict.predict([tiny], [recordings / "odd.wav"], out=scores)
    read_table(scores / "submission.csv").round().to_csv(tmp_path / "truth.csv")
    for command, name in (
        (f"report {scores} --bundle {tiny.path}", "page.html"),
        (f"calibrate {scores}/submission.csv --truth {tmp_path}/truth.csv --min-positives 1", "labels.json"),
        (f"trace {tiny.path} {recordings}/odd.wav", "arrays.npz"),
        (f"doctor --data {year}", "train.csv"),
    ):
        words = [*command.split(), "--out", str(tmp_path / name)]
        (tmp_path / name).write_text(text)
        assert main(words) == 2, command
        assert f"{name} is already there, and is not a" in capsys.readouterr().err
        assert (tmp_path / name).read_text() == text


@pytest.mark.slow
def test_own_and_empty_files_are_replaced(tiny, recordings, tmp_path):
    predict.predict([tiny], [recordings / "odd.wav"], out=tmp_path / "scores")
    for command, name in (
        (f"report {tmp_path}/scores", "page.html"),
        (f"trace {tiny.path} {recordings}/odd.wav", "a.npz"),
    ):
        (tmp_path / name).touch()
        for _ in range(2):
            assert main([*command.split(), "--out", str(tmp_path / name)]) == 0


def test_a_description_of_other_origin_is_not_replaced(tiny, recordings, tmp_path):
    (tmp_path / "plan.json").write_text('{"rounds": []}')
    with pytest.raises(DataError, match=r"plan\.json is already there, and is not the description of a table"):
        make_pseudolabels([tiny], [recordings / "odd.wav"], tmp_path / "plan.parquet")
    assert not (tmp_path / "plan.scores").exists()


@pytest.mark.parametrize("change", ["fewer clips", "another label", "more clips"])
def test_finished_runs_are_not_taken_for_those_of_other_data(year, grid, tmp_path, change):
    data = tmp_path / "data"
    shutil.copytree(year, data)
    lines = (data / "train.csv").read_text().splitlines(keepends=True)
    if change == "more clips":
        shutil.copy(data / "train_audio" / "frog1" / "XC2000.ogg", data / "train_audio" / "frog1" / "XC2999.ogg")
    changed = {
        "fewer clips": lines[:-1],
        "another label": [*lines[:-1], lines[-1].replace("frog1,", "cuckoo1,", 1)],
        "more clips": [*lines, lines[-1].replace("XC2007", "XC2999")],
    }[change]
    (data / "train.csv").write_text("".join(changed))
    assert changed != lines
    with pytest.raises(DataError, match=r"was trained on other clips or labels than those of .*; name another"):
        train_grid([QUICK], data, grid, options=JOBS)
    # The same data in another folder is the same.
    shutil.copy(year / "train.csv", data / "train.csv")
    assert train_grid([QUICK], data, grid, options=JOBS)


QUICK = SMALL.vary("quick", fit__epochs=1)


@pytest.fixture(scope="module")
def grid(year, tmp_path_factory):
    out = tmp_path_factory.mktemp("grid")
    train_grid([QUICK], year, out, options=JOBS)
    return out
