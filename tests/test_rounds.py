from __future__ import annotations

import dataclasses
import json
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import edit_json

from bcsed import rounds, train
from bcsed.cli.app import main
from bcsed.config.experiments import STUDIES
from bcsed.errors import BcsedError, BundleError, ConfigError, DataError
from bcsed.models import bundle
from bcsed.rounds.api import _teachers
from bcsed.rounds.plan import Plan, Round
from bcsed.train.data import TrainOptions
from bcsed.train.pseudolabels import read_pseudolabels

QUICK = (
    "net.backbone=mobilenetv3_small_050",
    "fit.epochs=2",
    "fit.batch_size=6",
    "data.min_class_count=2",
    "data.n_folds=3",
)


def plan_of(*later: Round, **options) -> Plan:
    return Plan(name="test", rounds=(Round(experiments=("tiny",)), *later), set=QUICK, **options)


LATER = Round(experiments=("tiny",), seeds=(0, 1), teacher=("previous",), share=0.5, power=1.5, cap=0.9, epochs=1)


@pytest.fixture(scope="module")
def done(land25, tmp_path_factory):
    """Two rounds, finished."""
    data, _ = land25
    out = tmp_path_factory.mktemp("rounds") / "out"
    return out, rounds.run(plan_of(LATER, fold=0), data, out)


@pytest.mark.slow
def test_finished_rounds_are_evaluated_on_other_data(done, land25, tmp_path, capsys):
    out, ledger = done
    data, _ = land25
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    assert all(student["scored_on"] == "held-out data" for entry in ledger for student in entry["students"])
    for truth, problem in ((tmp_path / "none.csv", "none.csv"), (data / "train.csv", "empty: there is no such file")):
        with pytest.raises(DataError, match=problem):
            rounds.run(plan_of(LATER, fold=0), data, copy, recordings=[tmp_path / "empty"], truth=truth)
    names = sorted(path.stem for path in (data / "test_soundscapes").glob("*.ogg"))
    rows = [f"{name}_{end},{k % 2},{(k + 1) % 2},0" for k, name in enumerate(names) for end in (5, 10)]
    (tmp_path / "truth.csv").write_text("row_id,1139490,cuckoo1,frog1\n" + "\n".join(rows) + "\n")
    again = rounds.run(
        plan_of(LATER, fold=0), data, copy, recordings=[data / "test_soundscapes"], truth=tmp_path / "truth.csv"
    )
    assert all(student["scored_on"] == "truth.csv" for entry in again for student in entry["students"])
    assert rounds.read_ledger(copy) == again
    assert "on truth.csv" in rounds.describe_round(again[0])
    # A corrected file of the same name is another truth.
    text = (tmp_path / "truth.csv").read_text().replace(",0,1,0", ",2,0,0").replace(",1,0,0", ",0,1,0")
    (tmp_path / "truth.csv").write_text(text.replace(",2,0,0", ",1,0,0"))
    corrected = rounds.run(
        plan_of(LATER, fold=0), data, copy, recordings=[data / "test_soundscapes"], truth=tmp_path / "truth.csv"
    )
    assert corrected[0]["students"][0]["auc"] == pytest.approx(1 - again[0]["students"][0]["auc"], abs=1e-5)


@pytest.mark.slow
def test_a_plan_writes_rounds_and_a_ledger(done):
    out, ledger = done
    assert json.loads((out / "ledger.json").read_text()) == {"schema": 2, "rounds": ledger}
    assert rounds.read_ledger(out) == ledger
    assert [entry["round"] for entry in ledger] == [1, 2]
    first, second = ledger
    assert (first["teacher"], first["pseudolabels"]) == ([], None)
    assert [student["name"] for student in second["students"]] == ["tiny-s0", "tiny-s1"]
    for entry in ledger:
        for student in entry["students"]:
            sealed = bundle.load(out / f"round-{entry['round']}" / student["name"] / "bundle")
            assert (sealed.sha256, sealed.contract.fingerprint) == (student["sha256"], student["fingerprint"])
            assert student["scored_on"] == "held-out data"
            assert 0 <= student["auc"] <= 1
            assert sealed.provenance["round"] == entry["round"]
    assert second["teacher"] == [
        {
            "experiment": "tiny-round-1",
            "fingerprint": first["students"][0]["fingerprint"],
            "sha256": first["students"][0]["sha256"],
            "weight": 1.0,
        }
    ]
    counts = second["pseudolabels"]
    assert counts["selection"] == {"kind": "soft", "power": 1.5}
    assert (counts["recordings"], counts["rows"], counts["rows_with_label"]) == (6, 24, 24)


@pytest.mark.slow
def test_students_are_trained_with_the_settings_of_the_round(done):
    out, _ = done
    description = json.loads((out / "round-2" / "tiny-s1" / "run" / "run.json").read_text())
    assert description["recipe"]["pseudo"]["share"] == 0.5
    assert description["recipe"]["pseudo"]["cap"] == 0.9
    assert description["recipe"]["data"]["pseudo_soft"] is True
    assert (description["recipe"]["fit"]["epochs"], description["recipe"]["fit"]["seed"]) == (1, 1)
    table = read_pseudolabels(out / "round-2" / "pseudolabels.parquet")
    assert description["sources"]["pseudolabels"]["sha256"] == table.provenance["sha256"]
    first = json.loads((out / "round-1" / "tiny-s0" / "run" / "run.json").read_text())
    assert first["recipe"]["pseudo"]["share"] == 0
    assert first["recipe"]["fit"]["epochs"] == 2


@pytest.mark.slow
def test_a_finished_plan_does_nothing_again(done, land25, monkeypatch):
    out, ledger = done

    def never(*_, **__):
        raise AssertionError("finished work is repeated")

    for name in ("train", "export_run"):
        monkeypatch.setattr(f"bcsed.rounds.api.{name}", never)
    monkeypatch.setattr("bcsed.rounds.api.make_pseudolabels", never)
    assert rounds.run(plan_of(LATER, fold=0), land25[0], out) == ledger


@pytest.mark.slow
def test_another_plan_or_a_changed_network_is_refused(done, land25, tmp_path):
    out, _ = done
    with pytest.raises(DataError, match=r"contains another plan \(fold differs\)"):
        rounds.run(plan_of(LATER), land25[0], out)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(DataError, match="contains other files"):
        rounds.run(plan_of(LATER), land25[0], tmp_path / "full")
    copy = tmp_path / "copy"
    shutil.copytree(out, copy)
    shutil.copytree(land25[0], tmp_path / "other")
    lines = (tmp_path / "other" / "train.csv").read_text().splitlines(keepends=True)
    (tmp_path / "other" / "train.csv").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"round-1.tiny-s0.run was trained on other clips or labels"):
        rounds.run(plan_of(LATER, fold=0), tmp_path / "other", copy)
    edit_json(copy / "ledger.json", lambda ledger: ledger["rounds"][0]["students"][0].update(sha256="0"))
    with pytest.raises(DataError, match=r"round-1.tiny-s0.bundle is not the network listed in .*ledger\.json"):
        rounds.run(plan_of(LATER, fold=0), land25[0], copy)
    shutil.rmtree(copy / "round-1" / "tiny-s0" / "bundle")
    with pytest.raises(BundleError, match="there is no such folder"):
        rounds.run(plan_of(LATER, fold=0), land25[0], copy)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Round(experiments=()), "at least one experiment"),
        (lambda: Round(experiments=("tiny",), weights=(1.0,)), "1 weights for 0 members"),
        (lambda: Round(experiments=("tiny",), teacher=("a",), weights=(-1.0,)), "weights must be positive"),
        (lambda: Round(experiments=("tiny",), teacher=("a",), mean="rank"), "one of prob, logit; got 'rank'"),
        (lambda: Round(experiments=("tiny",), epochs=0), "epochs must be at least 1"),
        (lambda: Round(experiments=("tiny",), select="hard"), "one of threshold, top, soft"),
        (lambda: Round(experiments=("tiny",), thresholds=("a",)), "class=threshold"),
        (lambda: Round(experiments=("tiny",), windows="slidng"), "one of centred, sliding; got 'slidng'"),
        (lambda: Round(experiments=("tiny",), stride_s=2.0), "need windows=sliding"),
        (lambda: Round(experiments=("tiny",), frames=True), "need windows=sliding"),
        (lambda: Plan(name="x", rounds=()), "has no rounds"),
        (lambda: Plan(name=" ", rounds=(Round(experiments=("tiny",)),)), "must have a name"),
        (lambda: Plan(name="x", fold=5, rounds=(Round(experiments=("tiny",)),)), "'x': the fold of tiny-s0 .* 0 to 4"),
        (lambda: Plan(name="x", fold=-1, rounds=(Round(experiments=("tiny",)),)), "0 to 4, or null; got -1"),
        (lambda: Plan(name="x", fold=3, set=("data.n_folds=3",), rounds=(Round(experiments=("tiny",)),)), "0 to 2"),
        (lambda: plan_of(Round(experiments=("tinny",))), "no experiment 'tinny'"),
        (lambda: plan_of(Round(experiments=("tiny",), set=("fit.epoch=3",))), "fit has no field 'epoch'"),
        (
            lambda: plan_of(Round(experiments=("tiny",), teacher=("previous",))),
            "round 2 has a teacher, but tiny injects",
        ),
        (
            lambda: Plan(name="x", rounds=(Round(experiments=("tiny",), teacher=("previous",), share=0.5),)),
            "round 1 has no",
        ),
        (
            lambda: plan_of(Round(experiments=("tiny",), teacher=("round-2",), share=0.5)),
            "'round-2' of round 2 is not an earlier round",
        ),
        (
            lambda: plan_of(Round(experiments=("tiny",), teacher=("round-1/tiny-s3",), share=0.5)),
            "the students of that round are tiny-s0",
        ),
        (lambda: plan_of(Round(experiments=("tiny", "tiny"))), "round 2 names the student tiny-s0 twice"),
        (lambda: plan_of(Round(experiments=("tiny",), teacher=("previous",), share=2.0)), r"share must be in \[0, 1\]"),
    ],
)
def test_invalid_plans_fail_before_training(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_a_threshold_of_an_unknown_class_is_refused_before_training(land25, tmp_path):
    later = Round(experiments=("tiny",), teacher=("previous",), share=0.5, select="threshold", thresholds=("owl=0.1",))
    with pytest.raises(ConfigError, match="given for 'owl', which is not among the 3 classes"):
        rounds.run(plan_of(later), land25[0], tmp_path / "out", trainer=lambda *_, **__: pytest.fail("trained"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"teacher": ("nosuch",)}, "nosuch"),
        ({"teacher": ("nosuch.csv",)}, "nosuch.csv"),
        ({"teacher": ("previous",), "pretrained": "nosuch.pth"}, "nosuch.pth, which round 2 needs, does not exist"),
        ({"teacher": ("previous",), "embeddings": ("nosuch.parquet",)}, "nosuch.parquet, which round 2 needs"),
    ],
)
def test_files_of_later_rounds_are_missed_before_training(land25, tmp_path, change, sentence):
    later = Round(experiments=("tiny",), share=0.5, **change)
    with pytest.raises(BcsedError, match=sentence):
        rounds.run(plan_of(later), land25[0], tmp_path / "out", trainer=lambda *_, **__: pytest.fail("trained"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_soundscapes_that_cannot_be_read_stop_or_are_named(done, land25, tmp_path):
    """And other soundscapes than those that were labelled are refused."""
    out, data, said = tmp_path / "out", tmp_path / "data", []
    shutil.copytree(done[0], out)
    shutil.copytree(land25[0], data)
    (data / "train_soundscapes" / "BC2026_Train_0009_S04_20211231_201500.ogg").write_text("no sound")
    plan = rounds.plan.read_plan(out / "plan.json")
    with pytest.raises(DataError, match="round-2 did not label BC2026_Train_0009_S04_20211231_201500, which is in"):
        rounds.run(plan, data, out)
    for name in ("round-2", "ledger.json"):
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    quick = TrainOptions(jobs=2)
    for _ in range(2):
        with pytest.raises(DataError, match=r"1 of 7 soundscapes cannot be read, the first: .*0009.*--on-error skip"):
            rounds.run(plan, data, out, options=quick, log=said.append)
    with pytest.raises(KeyboardInterrupt):
        skip = TrainOptions(jobs=2, on_error="skip")
        rounds.run(plan, data, out, options=skip, log=said.append, trainer=lambda *_, **__: interrupt())
    assert sum("left out: " in line and "0009" in line for line in said) == 1


def interrupt():
    raise KeyboardInterrupt


def test_a_training_that_stops_early_is_not_exported(land25, tmp_path):
    options = TrainOptions(jobs=2, stop_after_min=1e-9)
    with pytest.raises(ConfigError, match="stopped before its last epoch"):
        rounds.run(plan_of(), land25[0], tmp_path / "out", options=options)
    assert not list(tmp_path.glob("out/*/*/bundle"))


def test_plan_files(tmp_path):
    file = tmp_path / "mine.json"
    values = {"rounds": [{"experiments": ["tiny"]}, {"experiments": ["tiny"], "teacher": ["previous"], "share": 0.25}]}
    file.write_text(json.dumps(values))
    plan = rounds.find_plan(str(file), ["fit.epochs=3"])
    assert (plan.name, plan.fold, len(plan.rounds)) == ("mine", None, 2)
    assert plan.student(2, "tiny-s0").fit.epochs == 3
    for change, sentence in (
        ({"rounds": 3}, 'must contain {"name"'),
        ({"rounds": [{"experiment": ["tiny"]}]}, "round 1 has no field 'experiment'; its fields are experiments"),
        ({"rounds": [{}]}, "round 1 lacks experiments"),
        ({"rounds": [7]}, "round 1 must be an object"),
        ({"rounds": [{"experiments": "tiny"}]}, r"Round\.experiments must be a list of str"),
        ({**values, "folds": 2}, "has no field 'folds'"),
    ):
        file.write_text(json.dumps(change))
        with pytest.raises(ConfigError, match=sentence):
            rounds.find_plan(str(file))
    file.write_text("no json")
    with pytest.raises(ConfigError, match="not readable as JSON"):
        rounds.find_plan(str(file))
    with pytest.raises(ConfigError, match="there is no plan 'tinny': no such file, and the presets are write-up"):
        rounds.find_plan("tinny")


def test_plans_in_the_words_of_schema_1_are_read(tmp_path):
    file = tmp_path / "old.json"
    second = {"experiments": ["tiny"], "teacher": ["previous"], "share": 0.25, "draw": "maxima"}
    file.write_text(json.dumps({"rounds": [{"experiments": ["tiny"]}, second]}))
    assert rounds.find_plan(str(file)).rounds[1].draw == "confidence"
    file.write_text(json.dumps({"rounds": [{"experiments": ["tiny"], "set": ["data.sampling=plain"]}]}))
    with pytest.raises(ConfigError, match=r"sampling must be one of .*'plain'"):
        rounds.find_plan(str(file))
    file.write_text(json.dumps({"schema": 3, "rounds": [{"experiments": ["tiny"]}]}))
    with pytest.raises(ConfigError, match="schema 3"):
        rounds.find_plan(str(file))


@pytest.mark.slow
def test_folders_of_schema_1_are_continued(done, land25, tmp_path):
    out, ledger = done
    old = tmp_path / "old"
    shutil.copytree(out, old)
    (old / "ledger.json").write_text(json.dumps(ledger))
    edit_json(old / "plan.json", lambda plan: plan.pop("schema"))
    assert rounds.run(plan_of(LATER, fold=0), land25[0], old) == ledger
    (old / "ledger.json").write_text('{"schema": 3}')
    with pytest.raises(DataError, match="schema 3"):
        rounds.read_ledger(old)
    (old / "ledger.json").write_text('{"schema": 2}')
    with pytest.raises(DataError, match="is damaged: it must contain a list of rounds"):
        rounds.read_ledger(old)


@pytest.mark.parametrize("name", list(rounds.PRESETS))
def test_presets_can_be_planned(name):
    plan = rounds.find_plan(name)
    for number, each in enumerate(plan.rounds, 1):
        for student in each.names():
            experiment = plan.student(number, student)
            assert (experiment.pseudo.share > 0) == bool(each.teacher)


def test_the_plan_of_networks_alone_balances_their_labels():
    plan = rounds.find_plan("rounds")
    assert [each.names() for each in plan.rounds] == [("tiny-s0", "tiny-s1", "tiny-s2")] * 2
    assert plan.rounds[1].selection().describe() == {"kind": "soft", "power": 1.0, "balance": 1.0}
    student = plan.student(2, "tiny-s1")
    assert (student.pseudo.mode, student.pseudo.same_class, student.pseudo.level) == ("substitute", False, "peak")
    assert student.data.pseudo_soft and student.fit.seed == 1


def test_a_probe_is_a_teacher(land25, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = rounds.find_plan("borrowed", probe="some/bundle", embeddings=["e.parquet"])
    assert [each.teacher for each in plan.rounds] == [(), *[("previous", "some/bundle")] * 2]
    assert {each.embeddings for each in plan.rounds} == {("e.parquet",)}
    assert [each.selection().balance for each in plan.rounds] == [0.0, 1.0, 1.0]
    with pytest.raises(ConfigError, match="a teacher of round 2 is a probe: name its bundle"):
        rounds.run(rounds.find_plan("borrowed"), land25[0], tmp_path / "out", trainer=lambda *_, **__: pytest.fail())
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="no round of the plan tiny has the teacher 'probe', so b would not be used"):
        rounds.find_plan("tiny", probe="b")


def test_every_student_has_the_labels_events_and_noise_of_the_command(monkeypatch, tmp_path, land25):
    """They are in the plan that is written; a folder that was begun before plans had these fields is continued."""
    data, _ = land25
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv", "events.txt", "rain"):
        Path(name).touch()
    seen = []
    monkeypatch.setattr(rounds.api, "_describe_student", lambda *_: pytest.fail("nothing was trained"))

    def trainer(*_, inputs, **__):
        seen.append(inputs)
        raise KeyboardInterrupt

    plan = dataclasses.replace(rounds.find_plan("tiny"), noise="rain", labels=("a.csv",))
    with pytest.raises(ConfigError, match="the plan tiny has the folder of noise rain, so wind would not be used"):
        rounds.add_files(plan, noise="wind")
    plan = rounds.add_files(plan, labels=["a.csv", "b.csv"], events=[Path("events.txt")])
    with pytest.raises(KeyboardInterrupt):
        rounds.run(plan, data, tmp_path / "out", trainer=trainer)
    assert (seen[0].labels, seen[0].events, seen[0].noise) == (("a.csv", "b.csv"), ("events.txt",), "rain")
    written = json.loads((tmp_path / "out" / "plan.json").read_text())
    assert (written["labels"], written["events"], written["noise"]) == (["a.csv", "b.csv"], ["events.txt"], "rain")
    with pytest.raises(DataError, match=r"contains another plan \(labels differs\)"):
        rounds.run(rounds.find_plan("tiny"), data, tmp_path / "out", trainer=trainer)
    edit_json(tmp_path / "out" / "plan.json", lambda plan: [plan.pop(name) for name in ("labels", "events", "noise")])
    with pytest.raises(KeyboardInterrupt):
        rounds.run(rounds.find_plan("tiny"), data, tmp_path / "out", trainer=trainer)


def test_the_command_names_the_files_of_a_person(monkeypatch, capsys):
    plans = []
    monkeypatch.setattr(rounds, "run", lambda plan, *_, **__: plans.append(plan) or [])
    files = ["--labels", "a.csv", "b.csv", "--events", "e.txt", "--noise", "rain"]
    assert main(["rounds", "tiny", "--data", "DIR", "--out", "out", *files]) == 0
    assert (plans[0].labels, plans[0].events, plans[0].noise) == (("a.csv", "b.csv"), ("e.txt",), "rain")


def test_the_winners_powers():
    plan = rounds.find_plan("noisy-student")
    assert [each.power for each in plan.rounds] == [1.0, 1.0, 1.54, 1.82, 1.67]
    last = plan.student(5, "noisy-2025-s0")
    assert (last.pseudo.mode, last.pseudo.share, last.pseudo.draw) == ("mix", 1.0, "confidence")
    assert (last.fit.loss, last.data.pseudo_soft, last.fit.drop_path) == ("ce", True, (0.15,))


def test_the_plan_of_the_post_mortem_has_its_thresholds_and_its_ensemble():
    plan = rounds.find_plan("write-up")
    selection = plan.rounds[1].selection()
    assert (selection.threshold, selection.top_n) == (0.5, 800)
    assert selection.thresholds == {"compot1": 0.7, "52884": 0.7, "pavpig2": 0.6, "65448": 0.65}
    assert not rounds.find_plan("teacher-small").rounds[1].thresholds
    plan = rounds.find_plan("write-up-ensemble")
    members = [plan.student(number, name).net.backbone for number in (2, 3) for name in plan.rounds[number - 1].names()]
    assert [name.split(".")[0][-2:] for name in members] == ["b1", "b1", "b3"]
    assert [each.teacher for each in plan.rounds[1:]] == [("previous",), ("round-1",)]


@pytest.mark.slow
def test_true_labels_take_the_place_of_a_teacher(land25, year, tmp_path, capsys):
    """A round on true labels has exactly these labels; its plan and its table name the file."""
    data, _ = land25
    names = sorted(path.name for path in (data / "train_soundscapes").iterdir())
    lines = ["filename,start,end,primary_label"]
    lines += [f"{name},{5 * row},{5 * row + 5},{'cuckoo1' if row == 1 else ''}" for name in names for row in range(4)]
    truth = tmp_path / "truth.csv"
    truth.write_text("\n".join(lines) + "\n")
    out = tmp_path / "study"
    words = ["study", "rounds", "--data", str(data), "--out", str(out), "--oracle", str(truth), "--set", *QUICK]
    assert main([*words, "fit.epochs=1", "data.soundscapes=validate"]) == 0
    printed = capsys.readouterr().out
    assert all(f"tiny-round-{number}" in printed for number in (1, 2, 3))
    table = read_pseudolabels(out / "rounds" / "round-3" / "pseudolabels.parquet")
    assert table.per_class() == {"1139490": 0, "cuckoo1": len(names), "frog1": 0}
    assert set(table.start_s[table.columns(table.classes)[:, 1] > 0]) == {5}
    run = json.loads((out / "rounds" / "round-3" / "tiny-s0" / "run" / "run.json").read_text())
    assert run["recipe"]["pseudo"]["mode"] == "substitute"
    # Windows of the clip's class, as its labels are certain; of pseudolabels, any.
    assert run["recipe"]["pseudo"]["same_class"]
    run = json.loads((out / "rounds" / "round-2" / "tiny-s0" / "run" / "run.json").read_text())
    assert not run["recipe"]["pseudo"]["same_class"]
    run = json.loads((out / "rounds" / "round-3" / "tiny-s0" / "run" / "run.json").read_text())
    assert not run["recipe"]["data"]["pseudo_soft"]
    assert main(["study", "mix", "--data", str(data), "--out", str(tmp_path / "x"), "--oracle", str(truth)]) == 2
    assert "--oracle belongs to" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="no such CSV file of true labels"):
        rounds.rounds_study(rounds.find_plan("rounds"), [0], tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="true labels are the only teacher"):
        Round(experiments=("tiny",), teacher=("previous", "truth.csv"))


def test_a_base_replaces_all_experiments():
    """The study of the teacher with a small network: an ensemble of three seeds against a single network."""
    small, many = (
        rounds.find_plan(name, ["fit.epochs=1"], base="tiny", seeds=(0, 1)) for name in rounds.QUESTIONS["teacher"]
    )
    assert [len(plan.rounds[0].names()) for plan in (small, many)] == [1, 3]
    for plan in (small, many):
        assert plan.rounds[1].names() == ("tiny-s0", "tiny-s1")
        assert plan.student(2, "tiny-s1").pseudo.share == 0.25
        assert not plan.student(2, "tiny-s1").data.pseudo_soft
    # A round of one experiment and several seeds keeps its number of students.
    assert [each.names() for each in rounds.find_plan("borrowed", base="exp-39").rounds] == [
        ("exp-39-s0", "exp-39-s1", "exp-39-s2")
    ] * 3


@pytest.mark.slow
def test_members_and_their_weights(done):
    out, _ = done
    third = Round(experiments=("tiny",), teacher=("previous", "round-1/tiny-s0"), weights=(3.0, 1.0), share=0.5)
    members = _teachers(plan_of(LATER, third, fold=0), 3, out)
    assert [weight for _, weight in members] == [1.5, 1.5, 1.0]
    assert [member.path.parent.name for member, _ in members] == ["tiny-s0", "tiny-s1", "tiny-s0"]
    path = str(out / "round-1" / "tiny-s0" / "bundle")
    elsewhere = plan_of(Round(experiments=("tiny",), teacher=(path,), share=0.5))
    assert _teachers(elsewhere, 2, out)[0][0].path == Path(path)


@pytest.mark.slow
def test_the_command_and_scores_on_soundscapes(land25, year, tmp_path, capsys):
    data, _ = land25
    truth = tmp_path / "truth.csv"
    lines = ["row_id,1139490,cuckoo1,frog1"]
    for number in range(3):
        labels = np.eye(3, dtype=int)[[(number + row) % 3 for row in range(4)]]
        lines += [f"soundscape_{number}_{5 * r + 5},{','.join(map(str, labels[r]))}" for r in range(4)]
    truth.write_text("\n".join(lines) + "\n")
    plan = tmp_path / "plan.json"
    values = {"rounds": [{"experiments": ["tiny"], "set": list(QUICK), "epochs": 1}]}
    plan.write_text(json.dumps(values))
    words = ["rounds", str(plan), "--data", str(data), "--out", str(tmp_path / "out"), "--truth", str(truth)]
    assert main(words) == 2
    assert "go together" in capsys.readouterr().err
    assert main([*words, "--recordings", str(year / "test_soundscapes")]) == 0
    assert "round 1: 1 students, macro ROC-AUC" in capsys.readouterr().out
    (entry,) = rounds.read_ledger(tmp_path / "out")
    assert (entry["students"][0]["n_classes"], entry["students"][0]["scored_on"]) == (3, "truth.csv")
    assert main(["rounds", str(tmp_path / "none.json"), "--data", str(data), "--out", str(tmp_path / "o")]) == 2
    assert "there is no plan" in capsys.readouterr().err


def run_plan(plan, data, out):
    rounds.run(rounds.find_plan(plan), data, out, options=train.TrainOptions(checkpoint_min=0))


def run_to_end(process):
    process.join()
    assert process.exitcode == 0


def results_of(out):
    """All results of a plan without dates and durations, as bytes."""
    names = ("model.bin", "weights.safetensors", "probe.npz", "pseudolabels.parquet", "ledger.json")
    paths = [
        path
        for path in out.rglob("*")
        if path.name in names or any(map(path.match, ("evaluation-*.npz", "validation-*.npz")))
    ]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_a_plan_killed_ten_times_gives_identical_results(land25, tmp_path, forkserver):
    data, _ = land25
    plan = tmp_path / "plan.json"
    quick = [*QUICK, "fit.epochs=1", "augment.sumix_draw=[0,1,1,2]", "pseudo.level=rms"]
    values = {
        "fold": 0,
        "set": quick,
        "rounds": [{"experiments": ["tiny"]}, {"experiments": ["tiny"], "teacher": ["previous"], "share": 0.5}],
    }
    plan.write_text(json.dumps(values))

    def start(out):
        process = forkserver.Process(target=run_plan, args=(str(plan), data, out))
        process.start()
        return process

    start_s = time.monotonic()
    run_to_end(start(tmp_path / "whole"))
    duration_s = time.monotonic() - start_s
    expected = results_of(tmp_path / "whole")
    assert {"ledger.json", "round-2/pseudolabels.parquet", "round-2/tiny-s0/bundle/model.bin"} <= set(expected)
    out, rng, killed = tmp_path / "killed", random.Random(3), []
    # Each try is killed after a random share of the duration of the plan. A try that has finished by then is
    # checked, and the plan starts again, until ten tries were killed.
    for _ in range(60):
        process = start(out)
        process.join(rng.uniform(0.1, 0.6) * duration_s)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            killed.append(len(list(out.rglob("*"))))
        else:
            assert process.exitcode == 0
            assert results_of(out) == expected
            shutil.rmtree(out)
        if len(killed) == 10:
            break
    assert len(killed) == 10
    # They were killed at different stages: the numbers of files differ.
    assert len(set(killed)) >= 3
    run_to_end(start(out))
    assert results_of(out) == expected
    assert not list(out.rglob(".*.part"))
    assert not list(out.rglob(".bundle.*"))


def test_help_lists_every_question_and_preset(capsys):
    for command, names in (("rounds", rounds.PRESETS), ("study", (*STUDIES, *rounds.QUESTIONS))):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        assert all(name in text for name in names)
    assert set(rounds.QUESTIONS["teacher"]) <= set(rounds.PRESETS)
    assert {*STUDIES, *rounds.QUESTIONS} == {"repeat", "labels", "heads", "mix", "teacher", "rounds"}
    assert train.finished("nowhere") is False
