"""The command line, and the mistakes that people make: each ends in one sentence and exit status 2."""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
from test_train import SMALL

from bcsed import train
from bcsed.cli.app import main, make_parser
from bcsed.cli.options import read_experiment
from bcsed.cli.progress import Progress


@pytest.fixture(scope="module")
def made(year, tmp_path_factory):
    """A run of one epoch, made once: tests of the command line change copies of it."""
    return train.train(SMALL.vary("tiny", fit__epochs=1), year, tmp_path_factory.mktemp("cli") / "run")


@pytest.fixture
def here(year, made, tiny, tmp_path, monkeypatch):
    """A folder with a competition, a run, a bundle and a table, which a test may spoil."""
    shutil.copytree(year, tmp_path / "data")
    shutil.copytree(made, tmp_path / "run")
    shutil.copytree(tiny.path, tmp_path / "bundle")
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").touch()
    table = pd.DataFrame({"row_id": ["x_5", "x_10"], "a": [0.1, 0.9], "b": [0.2, 0.7], "c": [0.5, 0.5]})
    table.to_csv(tmp_path / "scores.csv", index=False)
    table.assign(a=[0, 1], b=[1, 0], c=[0, 0]).to_csv(tmp_path / "truth.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spoil_csv(name, change):
    return lambda here: change(pd.read_csv(here / name, dtype=str, keep_default_na=False)).to_csv(
        here / name, index=False
    )


def nothing(here):
    pass


vary_scores = spoil_csv("scores.csv", lambda table: table.assign(c=["0.1", "0.3"]))
TRAIN = "train tiny --data data --out new"
PREDICT = "predict bundle --recordings data/test_soundscapes --out new"
CLIP = "data/train_audio/frog1/XC2000.ogg"
MISTAKES = {
    "unknown experiment": ("train exp-1 --data data --out new", nothing, "there is no experiment 'exp-1'"),
    "unknown field": (f"{TRAIN} --set fit.epoch=1", nothing, "fit has no field 'epoch'"),
    "unknown group": (f"{TRAIN} --set fitt__epochs=1", nothing, "no field 'fitt'"),
    "value out of range": (f"{TRAIN} --set frontend.n_mels=100", nothing, "the nearest n_mels are 96 and 112"),
    "value of another type": (f"{TRAIN} --set data.crop=true", nothing, "Data.crop must be str, got True"),
    "set without a value": (f"{TRAIN} --set fit.epochs", nothing, "group.field=value, got 'fit.epochs'"),
    "unknown signal": (f"{TRAIN} --set frontend=WIDE_512", nothing, "no front end 'WIDE_512'"),
    "unknown backbone": (f"{TRAIN} --set net.backbone=resnet_b7 --fold none", nothing, "has no model 'resnet_b7'"),
    "fold out of range": (f"{TRAIN} --fold 9", nothing, "fold must be 0 to 4"),
    "no data": ("train tiny --data none --out new", nothing, "none"),
    "no competition": ("train tiny --data empty --out new", nothing, "empty"),
    "a column is missing": (
        TRAIN,
        spoil_csv("data/train.csv", lambda t: t.drop(columns="filename")),
        "filename",
    ),
    "an unknown label": (
        TRAIN,
        spoil_csv("data/train.csv", lambda t: t.assign(primary_label="dodo")),
        "dodo",
    ),
    "a table without rows": (TRAIN, spoil_csv("data/train.csv", lambda t: t.iloc[:0]), "train.csv"),
    "a list that is none": (
        TRAIN,
        spoil_csv("data/train.csv", lambda t: t.assign(secondary_labels="[1,")),
        "[1,",
    ),
    "classes disagree": (TRAIN, spoil_csv("data/taxonomy.csv", lambda t: t.iloc[1:]), "1139490"),
    "a clip is missing": (TRAIN, lambda here: (here / CLIP).unlink(), "there is no such file"),
    "a clip is empty": (TRAIN, lambda here: (here / CLIP).write_bytes(b""), "the file is empty"),
    "a clip is text": (TRAIN, lambda here: (here / CLIP).write_text("la la"), "not readable as audio"),
    "the run is there": ("train tiny --data data --out taken", nothing, "already there"),
    "nothing to resume": (f"{TRAIN} --resume", nothing, "no run to resume"),
    "no such weights": (
        "train exp-39 --data data --out new --pretrained w.bin --fold none",
        nothing,
        "no such file of weights",
    ),
    "no run": ("export empty --out new", nothing, "is no run of bcsed"),
    "the bundle is there": ("export run --out taken", nothing, "taken already exists"),
    "run.json is damaged": (
        "export run --out new",
        lambda here: (here / "run/run.json").write_text("{"),
        "not readable as JSON",
    ),
    "no bundle": ("predict empty --recordings data --out new", nothing, "is not a bundle"),
    "a changed bundle": (PREDICT, lambda here: (here / "bundle/model.bin").write_bytes(b"x"), "was changed"),
    "no recording": ("predict bundle --recordings none.ogg --out new", nothing, "no such file or folder"),
    "no recordings": ("predict bundle --recordings empty --out new", nothing, "no recordings in this folder"),
    "a stride for centred windows": (f"{PREDICT} --stride-s 2", nothing, "is for sliding windows"),
    "a stride beyond the window": (f"{PREDICT} --windows sliding --stride-s 99", nothing, "in (0, 8] s"),
    "too many weights": (f"{PREDICT} --weights 1 2", nothing, "2 weights for 1 members"),
    "rows of no length": (f"{PREDICT} --row-s 0", nothing, "at least 1 s"),
    "a negative number of threads": (f"{PREDICT} --jobs -1", nothing, "jobs must be at least 0"),
    "a taken output": (PREDICT.replace("new", "taken"), nothing, "contains other files"),
    "a template of other classes": (
        f"{PREDICT} --sample-submission data/sample_submission.csv",
        nothing,
        "requested classes; its classes are",
    ),
    "soundscapes of one name to label": (
        "pseudolabel bundle --recordings data/test_soundscapes copy --out pl.parquet",
        lambda here: shutil.copytree(here / "data/test_soundscapes", here / "copy"),
        "share the name",
    ),
    "a shift too far": (f"{PREDICT} --tta-shifts-s 0 9", nothing, "can be shifted by at most 1.5 s"),
    "a budget of nothing": (f"{PREDICT} --budget-min 0", nothing, "a positive number of minutes"),
    "no workers": (f"{PREDICT} --workers 0", nothing, "at least 1 worker"),
    "a step that is none": (f"{PREDICT} --postprocess sharpen=2", nothing, "is not a stage"),
    "a threshold of nothing": (f"{PREDICT} --format csv --threshold 0", nothing, "a threshold must be in (0, 1]"),
    "a threshold of no class": (f"{PREDICT} --format csv --class-threshold dodo=.5", nothing, "dodo"),
    "a threshold without detections": (f"{PREDICT} --threshold .7", nothing, "apply to detections; add --format raven"),
    "frames of centred windows": (f"{PREDICT} --format frames", nothing, "only with sliding windows"),
    "no such thresholds": (f"{PREDICT} --format csv --thresholds none.json", nothing, "no such file of thresholds"),
    "no scores": ("evaluate none.csv --truth truth.csv", nothing, "no such file"),
    "scores without ids": ("evaluate data/taxonomy.csv --truth truth.csv", nothing, "no column 'row_id'"),
    "scores that are no numbers": (
        "evaluate scores.csv --truth truth.csv",
        spoil_csv("scores.csv", lambda t: t.assign(a="")),
        "has the value nan",
    ),
    "scores that lack rows": (
        "evaluate scores.csv --truth truth.csv",
        spoil_csv("scores.csv", lambda t: t.iloc[:1]),
        "1 of 2 rows of the truth",
    ),
    "logits for probabilities": (
        "evaluate scores.csv --truth truth.csv",
        spoil_csv("scores.csv", lambda t: t.assign(a="-3.5")),
        "probabilities in [0, 1]",
    ),
    "a truth of other classes": (
        "evaluate scores.csv --truth truth.csv",
        spoil_csv("truth.csv", lambda t: t.rename(columns={"a": "z"})),
        "class 'z' is not in the scores",
    ),
    "nothing to score by": (
        "evaluate scores.csv --truth truth.csv",
        spoil_csv("truth.csv", lambda t: t.assign(a=0, b=0)),
        "class",
    ),
    "a taken sample": ("sample taken", nothing, "taken"),
    "a sample of nothing": ("sample new --scale 0", nothing, "scale 0.0 is outside 0 to 100"),
    "a threshold without events": (
        "evaluate scores.csv --truth truth.csv --threshold 0.9",
        nothing,
        "add --events FILE, or leave them out",
    ),
    "windows of a table": (
        "predict scores.csv --out new --windows sliding",
        vary_scores,
        "score tables have no windows",
    ),
    "shifts of a table": (
        "predict scores.csv --out new --tta-shifts-s 0 1",
        vary_scores,
        "score tables have no windows",
    ),
    "a budget of answers": ("review read empty --out new.csv --budget 3", nothing, "--budget chooses rows"),
    "a class of answers": ("review read empty --out new.csv --class a", nothing, "--class chooses rows"),
    "a precision of a choice": (
        "review scores.csv --recordings data --out new --precision 0.8",
        nothing,
        "--precision is for the answers",
    ),
    "tables of a table": ("evaluate scores.csv --truth truth.csv --ablate smooth.Aves=1,1,1", nothing, "--taxonomy"),
    "an unknown row of the table": ("experiments --diff exp-93 exp-1", nothing, "no experiment 'exp-1'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(here, capsys, mistake):
    line, spoil, sentence = MISTAKES[mistake]
    spoil(here)
    before = sorted(path for path in here.rglob("*"))
    assert main(line.split()) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("bcsed: ")
    assert sentence in told
    assert "\n" not in told
    assert told.endswith((".", ")", '"'))
    # Nothing was begun, and nothing lost.
    assert sorted(path for path in here.rglob("*")) == before


SEEDS = ("sample x --seed -1", "review x --out y --seed 1.5", "probe x --data y --out z --seed 99999999999999999999")


@pytest.mark.parametrize("line", ["", "fly", "train", "predict bundle", "sample x --year 1999", "calibrate x", *SEEDS])
def test_calls_that_make_no_sense_show_the_usage(line, capsys):
    with pytest.raises(SystemExit) as told:
        main(line.split())
    assert told.value.code == 2
    assert "usage: bcsed" in capsys.readouterr().err


def test_the_road_by_hand(here, capsys):
    assert main(["export", "run", "--out", "mine"]) == 0
    assert "fingerprint" in capsys.readouterr().out
    assert main(["check", "mine"]) == 0
    assert capsys.readouterr().out.startswith("OK      mine")
    road = "predict mine --recordings data/test_soundscapes --out scores --sample-submission data/sample_submission.csv"
    assert main(road.split()) == 0
    assert "scored 3 of 3 recordings" in capsys.readouterr().out
    labels = ["filename,start,end,primary_label"]
    labels += [
        f"soundscape_{n}.ogg,{5 * r},{5 * r + 5},{x}" for n, r, x in ((0, 0, "1139490"), (0, 1, "cuckoo1;frog1"))
    ]
    (here / "labels.csv").write_text("\n".join(labels) + "\n")
    assert main(["evaluate", "scores/submission.csv", "--truth", "labels.csv", "--per-class"]) == 0
    told = capsys.readouterr().out
    assert "over 3 of 3 classes, 2 rows" in told
    assert "cuckoo1" in told


def test_check_exits_with_1_if_one_lies(here, capsys):
    shutil.copytree(here / "bundle", here / "liar")
    (here / "liar" / "probe.npz").write_bytes(b"x")
    assert main(["check", "bundle", "liar", "empty"]) == 1
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["OK", "FAILED", "FAILED"]


@pytest.mark.parametrize(("good", "bad", "status"), [(1, 0, 0), (1, 1, 3), (0, 2, 4)])
def test_predict_tells_by_its_status(here, good, bad, status, capsys):
    folder = here / "mixed"
    folder.mkdir()
    for number in range(good):
        soundfile.write(folder / f"good{number}.wav", np.random.default_rng(0).standard_normal(32_000) * 0.1, 32_000)
    for number in range(bad):
        (folder / f"bad{number}.ogg").write_text("no sound")
    assert main(["predict", "bundle", "--recordings", "mixed", "--out", "new"]) == status
    told = capsys.readouterr()
    assert told.err.count("not readable as audio") == bad
    assert len(pd.read_csv(here / "new" / "failures.csv")) == bad
    assert (here / "new" / "submission.csv").exists() == bool(good)


def test_the_table_and_its_differences(capsys):
    assert main(["experiments"]) == 0
    assert "exp-167" in capsys.readouterr().out
    assert main(["experiments", "--diff", "exp-93", "exp-95"]) == 0
    told = capsys.readouterr().out
    assert "net.backbone" in told
    assert "frontend.hop_length" in told
    assert main(["experiments", "--diff", "exp-93", "exp-109"]) == 0
    assert "have the same settings" in capsys.readouterr().out


def test_versions(capsys):
    assert main(["versions"]) == 0
    assert "openvino" in capsys.readouterr().out


def test_an_interruption_is_no_failure(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("importlib.metadata.version", interrupted)
    assert main(["versions"]) == 130
    assert "finished work is kept" in capsys.readouterr().err


def all_commands(parser=None):
    """Yield each parser of a command, and its example as the words after `bcsed`."""
    parser = parser or make_parser()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from all_commands(child)


@pytest.mark.parametrize("command", list(all_commands()), ids=lambda command: command.prog)
def test_the_help_of_every_command_ends_with_an_example_that_parses(command):
    lines = command.format_help().strip().splitlines()
    assert lines[-2] == "example:"
    program, *words = shlex.split(lines[-1])
    assert program == "bcsed" and lines[-1].split()[1] == command.prog.split()[1]
    options = make_parser().parse_args(words)
    assert "experiment" not in options or read_experiment(options)


def test_the_help_lists_the_commands_in_groups_and_ends_with_three_examples(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    groups = {line.rstrip(":") for line in text.splitlines() if re.fullmatch(r"\w+:", line)}
    assert groups >= {"start", "train", "predict", "evaluate", "diagnose", "Kaggle", "examples"}
    names = {command.prog.split()[1] for command in all_commands()}
    assert names == set(re.findall(r"^  ([a-z]+)  ", text, re.MULTILINE))
    examples = text[text.index("examples:") :].split("\n\n")
    assert len([part for part in examples if "    bcsed " in part]) == 3
    for line in re.findall(r"^    bcsed (.*)", text, re.MULTILINE):
        make_parser().parse_args(shlex.split(line))


def test_several_changes_follow_one_set():
    changes = ["--set", "fit.epochs=3", "fit.lr=0.1", "--set", "net.heads=taxon"]
    experiment = read_experiment(make_parser().parse_args([*TRAIN.split(), *changes]))
    assert (experiment.fit.epochs, experiment.fit.lr, experiment.net.heads) == (3, 0.1, "taxon")


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_a_bar_with_pace_and_time_left(monkeypatch, capsys, terminal):
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with Progress() as progress:
        for done in range(1, 4):
            progress.update("recordings", done, 3, "loss 0.1")
            time.sleep(0.11)
        progress.log("a line")
    printed = capsys.readouterr()
    assert printed.out == "a line\n"
    bar = re.search(r"recordings: .*2/3 \[\d+:\d+<\d+:\d+,.*it/s, loss 0.1\]", printed.err)
    assert bool(bar) == terminal
    assert terminal or not printed.err
