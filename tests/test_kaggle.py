"""Kaggle's sessions without Kaggle: both layouts, rehearsal and rerun, what is refused, what is packed."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import seal

from bcsed import kaggle, train
from bcsed._version import __version__
from bcsed.config.contract import Net
from bcsed.config.experiments import find_experiment, parse_changes
from bcsed.errors import ConfigError, DataError
from bcsed.kaggle import datasets, inputs, session, submission, wheels
from bcsed.models import bundle
from bcsed.predict.budget import process_age_s
from bcsed.rounds import read_ledger
from bcsed.scores.table import make_table, read_table, row_ids
from bcsed.train.checkpoints import load_state

RATE = 32_000
CLASSES = ("1139490", "cuckoo1", "frog1")
LEGACY = {"competition": "{slug}", "dataset": "{slug}", "notebook": "{slug}"}
NEW = {"competition": "competitions/{slug}", "dataset": "datasets/me/{slug}", "notebook": "notebooks/me/{slug}"}
LAYOUTS = {"legacy": LEGACY, "new": NEW}


def place(root: Path, layout: str, kind: str, slug: str) -> Path:
    """Return where Kaggle mounts something, its parents made."""
    path = root / "input" / LAYOUTS[layout][kind].format(slug=slug)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


class Levels(torch.nn.Module):
    """It reports how loud each step is, once for each class, in its own unit."""

    steps = 8

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("units", torch.arange(1, n_classes + 1) / 40.0)

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        B, F, T = db.shape
        what = db.reshape(B, F, self.steps, T // self.steps).mean((1, 3))[..., None] * self.units
        return what, torch.zeros_like(what)


def sealed_as(folder: Path, classes: tuple[str, ...]) -> Path:
    seal(Levels(len(classes)), folder, classes, Net(backbone="oracle"))
    return folder


@pytest.fixture(scope="session")
def sealed(tmp_path_factory):
    """A bundle of the small competition's classes, in another order than its columns."""
    return sealed_as(tmp_path_factory.mktemp("sealed") / "student", CLASSES[::-1])


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """A bundle of another competition."""
    return sealed_as(tmp_path_factory.mktemp("other") / "stranger", ("1139490", "cuckoo1", "x"))


@pytest.fixture(scope="session")
def some(tmp_path_factory):
    """A bundle of some of the classes."""
    return sealed_as(tmp_path_factory.mktemp("some") / "specialist", CLASSES[:2])


@pytest.fixture
def messages():
    return []


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def tree(tmp_path, land25, layout):
    """Kaggle's folders before the rerun: the small competition, its test set hidden."""
    root = tmp_path / "kaggle"
    data = place(root, layout, "competition", "birdclef-2025")
    shutil.copytree(land25[0], data)
    for path in (data / "test_soundscapes").iterdir():
        path.unlink()
    (data / "test_soundscapes" / "readme.txt").write_text("the test set is put here when the notebook is scored\n")
    (root / "working").mkdir()
    return root


@functools.cache
def noise(seconds: float, seed: int) -> bytes:
    """Return an OGG file; a minute takes most of a second to encode."""
    rng, file = np.random.default_rng(seed), io.BytesIO()
    n = round(seconds * RATE)
    level = np.repeat(rng.uniform(0.005, 0.2, int(np.ceil(seconds))), RATE)[:n]
    soundfile.write(file, (level * rng.standard_normal(n)).astype("float32"), RATE, format="OGG")
    return file.getvalue()


def minute(path: Path, seconds: float = 60.0, seed: int = 3) -> Path:
    path.write_bytes(noise(seconds, seed))
    return path


def attach(root: Path, layout: str, sealed: Path, slug: str = "bcsed-train") -> Path:
    folder = place(root, layout, "notebook", slug)
    shutil.copytree(sealed, folder / sealed.name)
    return folder / sealed.name


def submission_csv(root: Path) -> Path:
    return root / "working" / "submission.csv"


def test_importing_it_imports_nothing_of_training():
    code = "import sys, bcsed.kaggle; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "bcsed.kaggle.session" in loaded
    assert not loaded & {
        "torch",
        "timm",
        "openvino",
        "matplotlib",
        "bcsed.train",
        "bcsed.train.dataset",
        "bcsed.train.losses",
    }


# ---- finding inputs ---------------------------------------------------------------------------------------


def test_a_competition_is_found_in_either_layout_and_said(tree, layout, messages):
    found = kaggle.find_input(inputs.COMPETITION, "birdclef-2025", root=tree, log=messages.append)
    assert found == place(tree, layout, "competition", "birdclef-2025")
    assert messages == [f"competition: {found}"]


def test_a_competition_under_another_name_is_taken_and_said(tree, layout, messages):
    found = kaggle.find_input(inputs.COMPETITION, "birdclef-2031", root=tree, log=messages.append)
    assert found == place(tree, layout, "competition", "birdclef-2025")
    assert "'birdclef-2031' is in neither layout" in messages[0]


def test_a_path_overrides(tree, layout, messages):
    there = place(tree, layout, "competition", "birdclef-2025")
    for wanted in (str(there), str(there.relative_to(tree / "input"))):
        assert kaggle.find_input(inputs.COMPETITION, wanted, root=tree, log=messages.append) == there
    with pytest.raises(DataError, match="no competition: there is no '/nowhere/birdclef' below"):
        kaggle.find_input(inputs.COMPETITION, "/nowhere/birdclef", root=tree, log=messages.append)


def test_what_is_not_there_is_told_with_what_is(tree, layout, messages):
    place(tree, layout, "dataset", "bcsed-wheels").mkdir()
    with pytest.raises(DataError, match=r"no bundle: there is no 'my-bundles' below .*attach the output of the train"):
        kaggle.find_input(inputs.BUNDLE, "my-bundles", root=tree, log=messages.append)
    with pytest.raises(DataError) as caught:
        kaggle.find_input(inputs.BUNDLE, root=tree, log=messages.append)
    for kind, slug in (("competition", "birdclef-2025"), ("dataset", "bcsed-wheels")):
        assert LAYOUTS[layout][kind].format(slug=slug) in str(caught.value)


def test_an_owner_tells_two_data_sets_apart(tmp_path, sealed, messages):
    for owner in ("ann", "bob"):
        shutil.copytree(sealed, tmp_path / "input" / "datasets" / owner / "birds" / "student")
        (tmp_path / "input" / "datasets" / owner / "birds" / "student" / "bundle.json").write_text(f'"{owner}"')
    found = kaggle.find_input(inputs.BUNDLE, "bob/birds", root=tmp_path, log=messages.append)
    assert found == tmp_path / "input" / "datasets" / "bob" / "birds" / "student"
    with pytest.raises(DataError, match=r"2 different inputs could be the bundle, such as .*ann.* and .*bob"):
        kaggle.find_input(inputs.BUNDLE, "birds", root=tmp_path, log=messages.append)


def test_the_same_bundle_in_both_layouts_is_one(tmp_path, sealed, messages):
    attach(tmp_path, "legacy", sealed)
    attach(tmp_path, "new", sealed)
    found = kaggle.find_bundles([], root=tmp_path, scratch=tmp_path / "scratch", log=messages.append)
    assert len(found) == 1


def test_recordings_are_not_walked_through(tree, layout, messages, monkeypatch):
    data = place(tree, layout, "competition", "birdclef-2025")
    entered = []
    scan = inputs.os.scandir
    monkeypatch.setattr(inputs.os, "scandir", lambda path: entered.append(Path(path).name) or scan(path))
    kaggle.find_inputs(inputs.BUNDLE, root=tree, log=messages.append)
    assert data.name in entered
    assert not {"train_audio", "train_soundscapes", *CLASSES} & set(entered)


def test_the_root_is_an_argument_or_an_environment_variable(tree, monkeypatch):
    monkeypatch.setenv(inputs.ROOT_VARIABLE, str(tree))
    assert kaggle.kaggle_root() == tree
    monkeypatch.delenv(inputs.ROOT_VARIABLE)
    assert kaggle.kaggle_root(tree) == tree
    with pytest.raises(DataError, match="has no folder input, so this is not a Kaggle notebook"):
        kaggle.kaggle_root(tree / "working")


def test_bundles_named_are_taken_in_their_order_and_once(tree, layout, sealed, other, messages):
    first, second = attach(tree, layout, sealed), attach(tree, layout, other, "rival")
    scratch = tree / "working" / ".bundles"
    found = kaggle.find_bundles(["stranger", "bcsed-train"], root=tree, scratch=scratch, log=messages.append)
    assert found == [second, first]
    with pytest.raises(ConfigError, match="is named twice among the bundles"):
        kaggle.find_bundles(["student", "bcsed-train"], root=tree, scratch=scratch, log=messages.append)


# ---- scoring -----------------------------------------------------------------------------------------------


def submit(root: Path, messages: list[str], **settings) -> submission.Submission:
    values = {"competition": "birdclef-2025", "rehearse": 2, "jobs": 1} | settings
    return kaggle.submit(kaggle.SubmitSettings(**values), root=root, log=messages.append)


def test_a_rehearsal_scores_training_soundscapes_and_carries_the_time_over(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    result = submit(tree, messages)
    assert (result.rerun, result.n_recordings, result.n_rows, result.n_failed) == (False, 2, 8, 0)
    table = read_table(submission_csv(tree))
    data = place(tree, layout, "competition", "birdclef-2025")
    first, second = sorted((data / "train_soundscapes").iterdir())[:2]
    assert list(table.index) == row_ids(first.stem, 4, 5) + row_ids(second.stem, 4, 5)
    # The bundle answers in another order; columns are matched by name.
    assert tuple(table.columns) == CLASSES
    assert any("rehearsal: 2 recordings in" in line and "700 would take" in line for line in messages)
    assert result.full_s > result.seconds * 350


def test_a_rerun_scores_the_test_recordings_whatever_the_variable_says(tree, layout, sealed, messages, monkeypatch):
    attach(tree, layout, sealed)
    data = place(tree, layout, "competition", "birdclef-2025")
    wanted = [minute(data / "test_soundscapes" / f"soundscape_{number}.ogg", seed=number).stem for number in (2, 1)]
    monkeypatch.setenv(submission.RERUN_VARIABLE, "1")
    result = submit(tree, messages)
    assert (result.rerun, result.n_recordings, result.n_rows) == (True, 2, 24)
    assert list(read_table(submission_csv(tree)).index) == [
        row_id for stem in sorted(wanted) for row_id in row_ids(stem, 12, 5)
    ]


def test_the_submission_is_what_predict_answers(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    submit(tree, messages)
    from bcsed import predict

    data = place(tree, layout, "competition", "birdclef-2025")
    paths = sorted((data / "train_soundscapes").iterdir())[:2]
    answered = predict.predict([bundle.load(sealed)], paths, options=predict.RunOptions(jobs=0)).scores
    np.testing.assert_allclose(
        read_table(submission_csv(tree)).to_numpy(), answered[list(CLASSES)].to_numpy(), atol=1e-6
    )


def test_shifts_pooling_and_precision_are_those_of_the_prediction(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    submit(tree, messages, tta_shifts_s=[0, 1.5], pool="max")
    from bcsed import predict

    data = place(tree, layout, "competition", "birdclef-2025")
    paths = sorted((data / "train_soundscapes").iterdir())[:2]
    windowing = predict.Windowing(shifts_s=(0.0, 1.5), pool="max")
    scores = predict.predict([bundle.load(sealed)], paths, windowing=windowing).scores[list(CLASSES)]
    np.testing.assert_allclose(read_table(submission_csv(tree)).to_numpy(), scores.to_numpy(), atol=1e-6)
    with pytest.raises(ConfigError, match="precision must be one of f32, bf16"):
        submit(tree, messages, precision="int8")


def test_a_table_that_another_cell_wrote_is_a_member(tree, layout, sealed, messages):
    from bcsed import predict
    from bcsed.scores.postprocess import ClassWeights, Power, combine
    from bcsed.scores.table import make_table

    folder = place(tree, layout, "competition", "birdclef-2025") / "train_soundscapes"
    paths = sorted(folder.iterdir())[:2]
    ids = [row_id for path in paths for row_id in row_ids(path.stem, 4, 5)]
    values = np.random.default_rng(3).uniform(0.01, 0.9, (8, 4))
    theirs = make_table(ids, [CLASSES[1], "unknown", CLASSES[0], CLASSES[2]], values)
    file = tree / "working" / "theirs.csv"
    theirs.to_csv(file, index_label="row_id")
    # Without a bundle, the table alone.
    theirs.to_csv(submission_csv(tree), index_label="row_id")
    with pytest.raises(ConfigError, match=r"submission\.csv would be replaced"):
        submit(tree, messages, tables=["submission.csv"])
    assert submission_csv(tree).is_file()
    submit(tree, messages, tables=[str(file)])
    np.testing.assert_allclose(read_table(submission_csv(tree)), theirs[list(CLASSES)], atol=1e-6)
    assert any("1 columns are not in sample_submission.csv, 'unknown' first" in line for line in messages)
    attach(tree, layout, sealed)
    settings = {"weights": [1, 2], "class_weights": [f"2.{CLASSES[0]}=0"], "ensemble_mean": "rank"}
    submit(tree, messages, tables=[str(file)], postprocess=["2.power=2"], **settings)
    ours = predict.predict([bundle.load(sealed)], paths).scores
    members = {"ours": ours, "theirs": Power(2)(theirs)}
    expected = combine(members, [1, ClassWeights(2, ((CLASSES[0], 0.0),))], "rank", CLASSES)
    np.testing.assert_allclose(read_table(submission_csv(tree)), expected, atol=1e-6)
    theirs.iloc[:7].to_csv(file, index_label="row_id")
    with pytest.raises(DataError, match="lacks 1 of 8 rows"):
        submit(tree, messages, tables=[str(file)])
    submit(tree, messages, tables=[str(file)], missing_rows="others")


def test_a_rerun_without_test_recordings_writes_nothing(tree, layout, sealed, messages, monkeypatch):
    attach(tree, layout, sealed)
    submission_csv(tree).write_text("left from before")
    monkeypatch.setenv(submission.RERUN_VARIABLE, "true")
    with pytest.raises(DataError, match=r"this is the scoring rerun .* contains no recording; nothing is written"):
        submit(tree, messages)
    assert not submission_csv(tree).exists()


def test_nothing_to_rehearse_on(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    shutil.rmtree(place(tree, layout, "competition", "birdclef-2025") / "train_soundscapes")
    with pytest.raises(DataError, match=r"contains no recording, and .* none for a rehearsal; attach all"):
        submit(tree, messages)


def test_no_bundle_attached(tree, layout, messages):
    with pytest.raises(DataError, match=r"no bundle below .*; attach the output of the training notebook.* contains "):
        submit(tree, messages)


def test_two_bundles_with_different_classes(tree, layout, sealed, some, messages):
    attach(tree, layout, sealed, "a")
    attach(tree, layout, some, "b")
    with pytest.raises(DataError, match=r"student and .*specialist have different classes: only one .* has 'frog1'"):
        submit(tree, messages)
    # Asked for by name, a specialist has its say where it has one.
    assert submit(tree, messages, bundles=["student", "specialist"]).n_rows == 8


def test_a_bundle_of_another_competition(tree, layout, other, messages):
    attach(tree, layout, other)
    with pytest.raises(
        DataError, match=r"has the class 'x' \(1 such classes\), which .* does not have; it was trained"
    ):
        submit(tree, messages)


def test_a_table_in_which_nothing_was_scored_is_never_written(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    data = place(tree, layout, "competition", "birdclef-2025")
    for number in (1, 2):
        (data / "test_soundscapes" / f"soundscape_{number}.ogg").write_bytes(b"no audio at all")
    with pytest.raises(DataError, match=r"none of 2 recordings could be scored .*; no submission is written"):
        submit(tree, messages)
    assert not submission_csv(tree).exists()


def test_a_bad_recording_among_good_ones_is_filled_and_named(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    data = place(tree, layout, "competition", "birdclef-2025")
    minute(data / "test_soundscapes" / "soundscape_1.ogg")
    (data / "test_soundscapes" / "soundscape_2.ogg").write_bytes(b"no audio at all")
    result = submit(tree, messages)
    assert (result.n_failed, result.n_rows) == (1, 24)
    assert any(line.startswith("filled: ") and "soundscape_2.ogg" in line for line in messages)
    assert len(read_table(submission_csv(tree))) == 24


@pytest.mark.parametrize(
    ("seconds", "count"),
    [(59.9, 12), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((60.04, 12), (54.0, 11))), (7.0, 2)],
)
def test_a_soundscape_of_another_length_has_its_rows_and_is_named(tree, layout, sealed, messages, seconds, count):
    attach(tree, layout, sealed)
    data = place(tree, layout, "competition", "birdclef-2025")
    minute(data / "test_soundscapes" / "soundscape_1.ogg")
    minute(data / "test_soundscapes" / "soundscape_2.ogg", seconds)
    submit(tree, messages)
    assert list(read_table(submission_csv(tree)).index)[12:] == row_ids("soundscape_2", count, 5)
    assert f"soundscape_2.ogg lasts {seconds:.4g} s and not 60: it has {count} rows" in messages


def test_the_template_decides_the_order_of_columns(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    data = place(tree, layout, "competition", "birdclef-2025")
    submit(tree, messages)
    before = read_table(submission_csv(tree))
    template = read_table(data / "sample_submission.csv")
    template[["frog1", "1139490", "cuckoo1"]].to_csv(data / "sample_submission.csv")
    submit(tree, messages)
    after = read_table(submission_csv(tree))
    assert tuple(after.columns) == ("frog1", "1139490", "cuckoo1")
    np.testing.assert_array_equal(after[list(CLASSES)].to_numpy(), before.to_numpy())
    assert "sample_submission.csv has its columns in another order than student; they are matched by name" in messages


def test_time_counts_from_the_start_and_in_a_session_at_work_from_the_call(tree, layout, sealed, messages, monkeypatch):
    attach(tree, layout, sealed)
    # This process is older than that: nothing is scored, and so nothing is written.
    with pytest.raises(DataError, match=r"none of 2 recordings could be scored .*the time was up.*; no submission"):
        submit(tree, messages, budget_min=0.001)
    monkeypatch.setenv(submission.RUN_TYPE_VARIABLE, "Interactive")
    age = process_age_s()
    assert age - 1 < submission._clock_start_s() < age + 60
    monkeypatch.setenv(submission.RUN_TYPE_VARIABLE, "Batch")
    assert submission._clock_start_s() == 0


@pytest.fixture
def good(tmp_path):
    """A valid submission of two recordings."""
    ids = row_ids("a", 12, 5) + row_ids("b", 12, 5)
    table = make_table(ids, CLASSES, np.random.default_rng(1).random((24, 3), np.float32))
    table.to_csv(tmp_path / "submission.csv")
    kaggle.validate(tmp_path / "submission.csv", ids, CLASSES)
    return tmp_path / "submission.csv", table


def same_answer(table):
    table.iloc[:12] = table.iloc[0].to_numpy()
    table.iloc[12:] = table.iloc[12].to_numpy()
    return table


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda t: t[list(CLASSES[::-1])], "columns in another order: column 1 is 'frog1', not '1139490'"),
        (lambda t: t.iloc[:-1], "has 23 rows, but the recordings have 24: the other rows"),
        (lambda t: t.iloc[::-1], "row 'b_60' instead of 'a_5'"),
        (lambda t: t.assign(frog1=np.nan), "has the value nan at row 'a_5', class 'frog1'"),
        (lambda t: t * 0 + 0.5, "has the same scores in every row"),
        (same_answer, "identical rows in 2 of 2 recordings, 'a' first"),
    ],
)
def test_what_kaggle_would_refuse_or_score_half_is_refused_here(good, spoil, sentence):
    path, table = good
    spoil(table).to_csv(path, index_label="row_id")
    with pytest.raises(DataError, match=sentence):
        kaggle.validate(path, list(row_ids("a", 12, 5) + row_ids("b", 12, 5)), CLASSES)


def test_rows_that_were_not_scored_get_their_recordings_mean():
    messages: list[str] = []
    table = make_table(["a_5", "a_10"], ["x"], np.array([[0.2], [0.4]], "float32"))
    whole = submission._fill_rows(table, ["a_5", "a_10", "a_15", "b_5"], messages.append)
    np.testing.assert_allclose(whole.loc[["a_15", "b_5"], "x"], 0.3, rtol=1e-6)
    assert "2 of 4 rows were not scored, 'a_15' first" in messages[0]


# ---- sessions ----------------------------------------------------------------------------------------------

CHANGES = (
    "fit.epochs=2",
    "fit.warmup_epochs=0",
    "fit.cycle_epochs=2",
    "fit.batch_size=6",
    "data.n_folds=3",
    "data.min_class_count=1",
)


def learn(root: Path, messages: list[str], **settings) -> Path | None:
    values = {"experiment": "tiny", "changes": CHANGES, "competition": "birdclef-2025", "jobs": 1, "cache_gb": 0.1}
    values["pretrained"] = "none"
    return kaggle.train(kaggle.TrainSettings(**values | settings), root=root, log=messages.append)


# Sessions differ in nothing but where inputs lie, which the tests above try in both layouts.
one_layout = pytest.mark.parametrize("layout", ["new"], indirect=True)


@pytest.mark.slow
@one_layout
def test_a_session_that_ends_is_continued_from_its_output(tree, layout, messages, tmp_path, monkeypatch):
    assert learn(tree, messages) is not None
    whole = load_state(tree / "working" / "run" / "last.pt")
    assert any("no run to resume among the inputs, so the training starts" in line for line in messages)
    shutil.rmtree(tree / "working")
    # Asked before an epoch and between its steps: the time is over in the middle of the second epoch.
    asked = []
    honest = train.loop.Loop._must_stop
    monkeypatch.setattr(train.loop.Loop, "_must_stop", lambda loop: asked.append(loop.step) or len(asked) > 3)
    assert learn(tree, messages) is None
    assert any("attach this notebook's output as an input and run it again" in line for line in messages)
    assert not (tree / "working" / "bundle-tiny-0").exists()
    monkeypatch.setattr(train.loop.Loop, "_must_stop", honest)
    earlier = place(tree, layout, "notebook", "bcsed-train")
    shutil.move(tree / "working", earlier)
    for path in sorted((earlier / "run").iterdir()):
        path.chmod(0o444)
    (tree / "working").mkdir()
    sealed = learn(tree, messages)
    assert sealed is not None
    assert messages.count(f"run to resume: {earlier / 'run'}") == 1
    left = load_state(earlier / "run" / "last.pt")
    assert (left["epoch"], left["step"]) == (1, 1)
    assert bundle.load(sealed).provenance["epoch"] in (1, 2)
    state = load_state(tree / "working" / "run" / "last.pt")
    assert [entry["epoch"] for entry in state["history"]] == [1, 2]
    # To the bit what an uninterrupted session comes to.
    assert all((state["model"][name] == whole["model"][name]).all() for name in whole["model"])


@pytest.mark.slow
@one_layout
def test_a_finished_run_is_sealed_and_not_trained_again(tree, layout, messages):
    first = learn(tree, messages)
    assert first is not None
    weights = bundle.load(first).sha256
    again = learn(tree, messages)
    assert bundle.load(again).sha256 == weights
    assert any("started in this session" in line for line in messages)


@pytest.mark.slow
@one_layout
def test_another_training_is_not_continued(tree, layout, messages):
    learn(tree, messages, hours=24.0)
    shutil.move(tree / "working", place(tree, layout, "notebook", "bcsed-train"))
    (tree / "working").mkdir()
    with pytest.raises(DataError, match=r"cannot be resumed: .*fold: 0 -> 1"):
        learn(tree, messages, fold=1)
    shutil.rmtree(tree / "working" / "run")
    assert learn(tree, messages, fold=1, resume="fresh") is not None
    assert "resume='fresh': everything is trained from the beginning" in messages


@one_layout
def test_which_run_is_meant_has_to_be_clear(tree, layout, messages):
    for slug in ("one", "two"):
        folder = place(tree, layout, "notebook", slug) / "run"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(f'{{"slug": "{slug}"}}')
    with pytest.raises(DataError, match="could both be the run to resume; name one of them as resume, or 'fresh'"):
        learn(tree, messages)
    with pytest.raises(DataError, match="no run to resume: there is no 'three' below"):
        learn(tree, messages, resume="three")


@one_layout
def test_the_run_of_the_initial_weights_is_not_continued(tree, layout, messages):
    for slug in ("bcsed-train", "bcsed-student"):
        folder = place(tree, layout, "notebook", slug) / "run"
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(f'{{"slug": "{slug}"}}')
    weights = session.find_weights("bcsed-train", tree, messages.append)
    out = tree / "working" / "run"
    assert session.copy_earlier(inputs.RUN, out, "auto", tree, messages.append, start=weights)
    assert json.loads((out / "run.json").read_text()) == {"slug": "bcsed-student"}
    shutil.rmtree(out)
    shutil.rmtree(folder)
    assert not session.copy_earlier(inputs.RUN, out, "auto", tree, messages.append, start=weights)
    assert not out.exists()


@one_layout
def test_hours_that_are_over(tree, layout, messages):
    with pytest.raises(ConfigError, match="hours=1e-06 are over before the training starts"):
        learn(tree, messages, hours=1e-6)


@one_layout
@pytest.mark.slow
def test_a_table_of_pseudolabels_is_needed_only_where_it_is_heard(tree, layout, messages, land25):
    injects = (*CHANGES, "pseudo.share=0.25")
    with pytest.raises(DataError, match=r"no table of pseudolabels below .*; attach the output of the pseudolabel not"):
        learn(tree, messages, changes=injects)
    with pytest.raises(ConfigError, match="tiny injects no pseudolabelled soundscapes, so 'pl' would not be used"):
        learn(tree, messages, pseudolabels="pl")
    folder = place(tree, layout, "notebook", "bcsed-pseudolabel")
    folder.mkdir()
    for path in land25[1].parent.glob("pl.*"):
        shutil.copy(path, folder / path.name)
    # Other Parquet files may lie beside it; a table has its provenance.
    (folder / "part-0.parquet").write_bytes(b"PAR1")
    assert learn(tree, messages, changes=injects) is not None
    assert f"table of pseudolabels: {folder / 'pl.parquet'}" in messages


WEIGHTS = "tf_efficientnet_b0_aa-827b6e33.pth"


def attach_model(root: Path, layout: str) -> Path:
    """Attach a Kaggle model with a file of weights."""
    model = "tf-efficientnet/pytorch/tf-efficientnet-b0/1"
    file = root / "input" / (f"models/timm/{model}" if layout == "new" else model) / WEIGHTS
    file.parent.mkdir(parents=True)
    file.write_bytes(b"tensors")
    return file


def test_without_a_start_the_attached_weights_are_listed(tree, layout, messages):
    with pytest.raises(ConfigError, match=r"'none' for a random start; .*input has no file of weights: attach a model"):
        learn(tree, messages, pretrained="")
    file = attach_model(tree, layout)
    with pytest.raises(ConfigError) as caught:
        learn(tree, messages, pretrained="")
    assert f"input has {file.relative_to(tree / 'input')}." in str(caught.value)
    assert not (tree / "working" / "run").exists()
    for name in (WEIGHTS, "tf-efficientnet", "timm/tf-efficientnet", str(file)):
        assert session.find_weights(name, tree, messages.append) == file
    assert session.find_weights("none", tree, messages.append) is None
    with pytest.raises(DataError, match=r"no initial weights: there is no 'b1\.pth' below"):
        learn(tree, messages, pretrained="b1.pth")


@one_layout
def test_arguments_about_the_start_reach_the_training(tree, layout, messages, monkeypatch):
    calls = []
    monkeypatch.setattr(train.api, "train", lambda *args, **kwargs: calls.append((args, kwargs)))
    folder = attach_model(tree, layout).parent
    (folder / "names.json").write_text('{"net.": "backbone."}')
    for name in ("perch.npz", "rows.csv", "S1.txt"):
        (folder / name).touch()
    settings = {"pretrained": WEIGHTS, "teacher": ["perch.npz"], "allow_mismatch": True, "on_error": "skip"}
    settings |= {"labels": ["rows.csv"], "events": ["S1.txt"]}
    for key_map, expected in (
        ("order", "order"),
        ('{"": "backbone."}', {"": "backbone."}),
        ("names.json", {"net.": "backbone."}),
        ("", None),
    ):
        assert learn(tree, messages, key_map=key_map, **settings) is None
        (experiment, *_), given = calls.pop()
        wanted = {"pretrained": folder / WEIGHTS, "teacher": [folder / "perch.npz"], "allow_mismatch": True}
        wanted |= {"labels": [folder / "rows.csv"], "events": [folder / "S1.txt"], "noise": None}
        no_tables = {"pseudolabels": None, "clip_pseudolabels": None}
        assert vars(given["inputs"]) == {**wanted, **no_tables, "key_map": expected}
        assert (experiment.recipe["fit"]["epochs"], given["options"].on_error) == (2, "skip")
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="would not use the key map or --allow-mismatch: give initial weights as"):
        learn(tree, messages, key_map="order")


# ---- rounds ------------------------------------------------------------------------------------------------

PLAN = {
    "name": "two",
    "set": [*CHANGES[1:], "net.backbone=mobilenetv3_small_050", "fit.epochs=1"],
    "rounds": [
        {"experiments": ["tiny"]},
        {"experiments": ["tiny"], "teacher": ["previous"], "share": 0.5},
    ],
}


def iterate(root: Path, messages: list[str], plan: dict | str, **settings) -> Path | None:
    """Attach a plan and run the rounds notebook's function."""
    if isinstance(plan, dict):
        folder = place(root, "new", "dataset", "my-plan")
        folder.mkdir(exist_ok=True)
        (folder / "plan.json").write_text(json.dumps(plan))
        plan = "my-plan"
    values = {"competition": "birdclef-2025", "plan": plan, "pretrained": "none", "jobs": 1, "cache_gb": 0.1}
    return kaggle.rounds(kaggle.RoundsSettings(**values | settings), root=root, log=messages.append)


@pytest.mark.slow
@one_layout
def test_rounds_continue_from_the_output_of_the_session_before(tree, layout, messages, monkeypatch):
    earlier = place(tree, layout, "notebook", "bcsed-rounds")

    def begin_session() -> None:
        shutil.rmtree(earlier, ignore_errors=True)
        shutil.move(tree / "working", earlier)
        for path in earlier.rglob("*"):
            path.chmod(path.stat().st_mode & ~0o222 if path.is_file() else 0o755)
        (tree / "working").mkdir()

    # The minutes that are left for labelling, and for each training: the first session ends in the labelling of round
    # 2, the second one before its training.
    for minutes in ([0.0, 60.0], [60.0, 0.0]):
        labels_all = minutes[0] > 0
        monkeypatch.setattr(session, "minutes_left", lambda _, left=minutes: left.pop(0) if left else 0.0)
        assert iterate(tree, messages, PLAN) is None
        assert "attach this notebook's output as an input and run it again to continue" in messages[-1]
        first = read_ledger(tree / "working" / "rounds")
        assert len(first) == 1
        scores = tree / "working" / "rounds" / "round-2" / "pseudolabels.scores"
        assert scores.is_dir() != labels_all
        begin_session()
    monkeypatch.undo()
    out = iterate(tree, messages, PLAN)
    assert out == tree / "working" / "rounds"
    assert f"rounds to resume: {earlier / 'rounds'}" in messages
    ledger = read_ledger(out)
    assert ledger[:1] == first and [entry["round"] for entry in ledger] == [1, 2]
    assert messages.count("round 1: training tiny-s0, 1 epochs") == 1
    # A random start, as the settings demand.
    description = json.loads((out / "round-1" / "tiny-s0" / "run" / "run.json").read_text())
    assert description["start"] == "random weights" and not description["recipe"]["fit"]["pretrained"]
    assert kaggle.find_bundles(["round-2"], root=attach_rounds(tree, out), scratch=tree, log=messages.append) == [
        tree / "again" / "input" / "notebooks" / "me" / "bcsed-rounds" / "rounds" / "round-2" / "tiny-s0" / "bundle"
    ]


def attach_rounds(root: Path, out: Path) -> Path:
    """Attach the output of the rounds to another notebook, and return its root."""
    shutil.copytree(out, root / "again" / "input" / "notebooks" / "me" / "bcsed-rounds" / "rounds")
    return root / "again"


@one_layout
def test_a_plan_on_kaggle_names_inputs(tree, layout, sealed, messages, monkeypatch):
    file, teacher = attach_model(tree, layout), attach(tree, layout, sealed)
    calls = []
    monkeypatch.setattr("bcsed.rounds.run", lambda plan, *_, **kwargs: calls.append((plan, kwargs)))
    second = {"experiments": ["tiny"], "teacher": ["previous", "student"], "share": 0.5, "pretrained": str(file)}
    mine = place(tree, layout, "dataset", "mine")
    (mine / "rain").mkdir(parents=True)
    for name in ("rows.csv", "S1.selections.txt", "rain/1.ogg"):
        (mine / name).touch()
    named = {"labels": ["rows.csv"], "events": ["S1.selections.txt"], "noise": "rain"}
    settings = {"pretrained": WEIGHTS, **named}
    iterate(tree, messages, {**PLAN, "rounds": [PLAN["rounds"][0], second]}, **settings)
    ((plan, given),) = calls
    # The recorded plan keeps the names; the rounds use the paths.
    assert [each.pretrained for each in given["recorded"].rounds] == [WEIGHTS, str(file)]
    assert [each.pretrained for each in plan.rounds] == [str(file), str(file)]
    assert given["recorded"].rounds[1].teacher == ("previous", "student")
    assert plan.rounds[1].teacher == ("previous", str(teacher))
    assert {name: getattr(given["recorded"], name) for name in named} == {
        "labels": ("rows.csv",),
        "events": ("S1.selections.txt",),
        "noise": "rain",
    }
    assert (plan.labels, plan.events) == ((str(mine / "rows.csv"),), (str(mine / "S1.selections.txt"),))
    assert plan.noise == str(mine / "rain")
    with pytest.raises(DataError, match="no annotation table: there is no 'birds"):
        iterate(tree, messages, PLAN, pretrained=WEIGHTS, events=["birds.txt"])
    # Without time, a student is not begun, and the notebook ends without an error.
    monkeypatch.setattr("bcsed.rounds.run", lambda *_, trainer, options, **__: trainer(None, "", file, options=options))
    assert iterate(tree, messages, PLAN, hours=1e-6) is None
    assert messages[-1].startswith("stopped after ")


@one_layout
def test_rounds_that_cannot_begin(tree, layout, messages):
    with pytest.raises(ConfigError, match="set pretrained to the initial weights, or 'none' for a random start"):
        iterate(tree, messages, "tiny", pretrained="")
    with pytest.raises(DataError, match=r"no plan of rounds: there is no 'tyni' below .*name a preset of"):
        iterate(tree, messages, "tyni")
    named = {**PLAN, "rounds": [{"experiments": ["tiny"], "pretrained": WEIGHTS}]}
    with pytest.raises(ConfigError, match=r"every round of .* names its initial weights, so 'x' would not be used"):
        iterate(tree, messages, named, pretrained="x")
    with pytest.raises(DataError, match="no initial weights: there is no 'tf_efficientnet_b0_aa"):
        iterate(tree, messages, named)
    with pytest.raises(ConfigError, match="recordings and truth go together"):
        iterate(tree, messages, "tiny", recordings=["train_soundscapes"])
    assert not (tree / "working" / "rounds").exists()


@one_layout
def test_soundscapes_are_labelled_and_what_time_does_not_allow_is_left_for_later(tree, layout, sealed, messages):
    attach(tree, layout, sealed)
    settings = kaggle.PseudolabelSettings(
        competition="birdclef-2025", jobs=0, limit=4, threshold=0.01, class_thresholds=("frog1=0.02",), pool="max"
    )
    options = {"root": tree, "log": messages.append}
    assert kaggle.pseudolabel(dataclasses.replace(settings, hours=1e-6), **options) is None
    assert any("attach this notebook's output" in line for line in messages)
    earlier = place(tree, layout, "notebook", "bcsed-pseudolabel")
    shutil.move(tree / "working", earlier)
    (tree / "working").mkdir()
    out = kaggle.pseudolabel(settings, **options)
    assert out == tree / "working" / "pseudolabels.parquet"
    assert any(line.startswith("scores to continue: ") for line in messages)
    from bcsed.train import pseudolabels as pseudolabel

    table = pseudolabel.read_pseudolabels(out)
    assert len(table.values) == 16
    assert table.provenance["selection"]["thresholds"] == {"frog1": 0.02}
    assert table.provenance["windowing"]["pool"] == "max"
    assert not pseudolabel.scores_folder(out).exists()


@one_layout
def test_clips_and_soundscapes_are_embedded(tree, layout, tiny, sealed, messages):
    attach(tree, layout, tiny.path, "foundation")
    settings = kaggle.EmbedSettings(competition="birdclef-2025", jobs=0)
    options = {"root": tree, "log": messages.append}
    assert kaggle.embed(dataclasses.replace(settings, hours=1e-6), **options) is None
    assert any("attach this notebook's output" in line for line in messages)
    out = kaggle.embed(settings, **options)
    assert out == tree / "working" / "embeddings.parquet"
    from bcsed.predict.embed import parts_folder
    from bcsed.predict.embeddings import read_embeddings

    names = read_embeddings(out)[0]["filename"]
    assert names.nunique() == len(next(tree.rglob("train.csv")).read_text().splitlines()) - 1
    assert not parts_folder(out).exists()
    out.unlink()
    kaggle.embed(dataclasses.replace(settings, of="soundscapes"), **options)
    assert set(read_embeddings(out)[0]["filename"]) == {path.name for path in tree.rglob("train_soundscapes/*.ogg")}
    with pytest.raises(ConfigError, match="of must be clips or soundscapes"):
        kaggle.embed(dataclasses.replace(settings, of="nights"), **options)
    attach(tree, layout, sealed)
    out.unlink()
    with pytest.raises(ConfigError, match="2 bundles are attached; name the one to use"):
        kaggle.embed(settings, **options)


@pytest.mark.slow
@one_layout
def test_two_processes_share_a_training_and_stop_together(tree, layout, messages):
    changes = [change for change in CHANGES if "batch_size" not in change] + ["fit.batch_size=4"]
    assert learn(tree, messages, processes=2, hours=24.0, changes=changes) is not None
    assert [line.split(",")[0] for line in messages if line.startswith("epoch ")] == ["epoch 1/2", "epoch 2/2"]
    with pytest.raises(DataError, match="2 processes cannot share a batch of 3 equally"):
        learn(tree, messages, processes=2, hours=24.0, resume="fresh", changes=[*changes, "fit.batch_size=3"])
    # The time is over when they have come together: neither waits for the other.
    out = tree / "working" / "run"
    shutil.rmtree(out, ignore_errors=True)
    row = find_experiment("tiny").vary("tiny", **parse_changes(changes))
    data = place(tree, layout, "competition", "birdclef-2025")
    files, options = train.TrainInputs(), train.TrainOptions(jobs=1, stop_after_min=0.0)
    rest = {"inputs": files, "options": options, "processes": 2, "log": messages.append}
    session.run_training(row, data, out, fold=0, resume=False, **rest)
    assert not train.finished(out)


@pytest.mark.slow
def test_no_step_is_begun_when_the_time_is_over(year, tmp_path):
    row = find_experiment("tiny").vary("t", **parse_changes(list(CHANGES)))
    train.train(row, year, tmp_path / "run", options=train.TrainOptions(stop_after_min=0.0))
    assert not train.finished(tmp_path / "run")
    train.train(row, year, tmp_path / "run", resume=True, options=train.TrainOptions(stop_after_min=60.0))
    assert train.finished(tmp_path / "run")


# ---- data sets ---------------------------------------------------------------------------------------------


def write_wheel(path: Path, text: str = "") -> Path:
    """Write a wheel without a module but `text`, with the metadata that its name states."""
    name, version, *_ = path.name.split("-")
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}_says.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def fake_wheels(folder: Path, *, version: str = __version__, platform: str = "manylinux_2_31_x86_64") -> Path:
    folder.mkdir(parents=True)
    for name in (
        f"bcsed-{version}-py3-none-any",
        f"openvino-2026.4.1-1-cp312-cp312-{platform}",
        f"openvino-2026.4.1-1-cp313-cp313-{platform}",
        "openvino_telemetry-2025.2.0-py3-none-any",
    ):
        write_wheel(folder / f"{name}.whl")
    (folder / "numpy-2.0.0-cp312-cp312-manylinux_2_28_x86_64.whl").write_bytes(b"not to be taken")
    return folder


def test_wheels_are_gathered_into_a_flat_folder_with_sums_and_sizes(tmp_path, messages):
    out = kaggle.dataset(tmp_path / "out", "me", wheels=fake_wheels(tmp_path / "in"), log=messages.append)
    names = sorted(path.name for path in out.iterdir())
    assert [name.split("-")[0] for name in names] == [
        "SHA256SUMS",
        "bcsed",
        "dataset",
        "openvino",
        "openvino",
        "openvino_telemetry",
    ]
    assert all(path.is_file() for path in out.iterdir())
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=out, check=True, capture_output=True)
    assert json.loads((out / "dataset-metadata.json").read_text())["id"] == "me/bcsed-wheels"
    assert messages[-1].endswith("in 4 files")


def test_wheels_that_could_not_be_installed_are_refused(tmp_path, messages):
    def refuse(sentence, *, error=DataError, python=datasets.PYTHONS, **fake):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        with pytest.raises(error, match=sentence):
            kaggle.dataset(
                folder / "out", "me", wheels=fake_wheels(folder / "in", **fake), python=python, log=messages.append
            )

    refuse("no wheel of openvino for Python 3.14 on Linux x86_64; there is openvino-", python=("3.12", "3.14"))
    refuse("no wheel of openvino for Python 3.12", platform="macosx_11_0_arm64")
    refuse("bcsed-9.0.0-py3-none-any.whl has another version than the running bcsed", version="9.0.0")
    refuse("a Python version is written 3.12, got '312'", python=("312",), error=ConfigError)
    (newest,) = fake_wheels(tmp_path / "wheels").glob("*cp313*")
    newest.unlink()
    with pytest.raises(DataError, match=r"no wheel of openvino for Python 3\.13 on Linux"):
        kaggle.dataset(tmp_path / "y", "me", wheels=tmp_path / "wheels", log=messages.append)
    with pytest.raises(DataError, match=r"no wheel of bcsed for Python 3\.12 on Linux x86_64; there is none"):
        kaggle.dataset(tmp_path / "x", "me", wheels=tmp_path, log=messages.append)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return a wheel of bcsed and the folder into which pip installed it."""
    folder = tmp_path_factory.mktemp("installed")
    wheels._build(Path(__file__).parent.parent, folder)
    (wheel,) = folder.glob("*.whl")
    wheels._pip("install", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel))
    return wheel, folder / "site"


def pack(site: Path, out: Path) -> subprocess.CompletedProcess:
    """Pack the wheel again in a process that uses the installed copy, from a folder that is not a clone."""
    code = (
        "import sys; from pathlib import Path; from bcsed.kaggle import wheels; "
        "assert not wheels._is_clone(Path.cwd()); "
        "print(wheels.pack_installed(Path(wheels.__file__).parents[2], Path(sys.argv[1])))"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code, str(out)]
    return subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, check=False)


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


@pytest.mark.slow
def test_an_installed_copy_is_packed_into_the_same_wheel(installed, tmp_path):
    wheel, site = installed
    result = pack(site, tmp_path)
    assert result.returncode == 0, result.stderr
    packed = Path(result.stdout.strip())
    assert packed.name == wheel.name
    assert contents(packed) == contents(wheel)
    # pip accepts it, and the record of the new installation is complete.
    wheels._pip("install", "--no-deps", "--no-index", "--target", str(tmp_path / "site"), str(packed))
    (tmp_path / "again").mkdir()
    assert pack(tmp_path / "site", tmp_path / "again").returncode == 0


@pytest.mark.slow
def test_an_installed_copy_that_was_changed_is_refused(installed, tmp_path):
    site = shutil.copytree(installed[1], tmp_path / "site")
    (tmp_path / "out").mkdir()
    with (site / "bcsed" / "py.typed").open("a") as file:
        file.write("changed")
    result = pack(site, tmp_path / "out")
    assert result.returncode and f"{site / 'bcsed' / 'py.typed'} was changed after its installation" in result.stderr
    assert not list((tmp_path / "out").iterdir())
    with pytest.raises(DataError, match="has no record of pip about bcsed"):
        wheels.pack_installed(tmp_path, tmp_path / "out")


def test_an_installed_copy_uses_a_clone_in_the_current_folder(tmp_path, messages, monkeypatch):
    root = Path(__file__).parent.parent
    monkeypatch.setattr(wheels, "__file__", str(tmp_path / "site-packages" / "bcsed" / "kaggle" / "wheels.py"))
    built = []
    monkeypatch.setattr(wheels, "_build", lambda clone, _: built.append(clone))
    monkeypatch.setattr(wheels, "_pip", lambda *_: None)
    monkeypatch.chdir(root)
    with pytest.raises(DataError, match="no wheel of bcsed"):
        wheels.collect_wheels(tmp_path, ("3.12",), None, messages.append)
    assert built == [root]


@pytest.mark.parametrize("how", ["as it is", "unpacked into a folder", "unpacked in place"])
def test_a_packed_bundle_is_found_again_however_kaggle_unpacks_it(tree, layout, sealed, messages, how):
    out = kaggle.dataset(tree / "out", "me", bundles=[sealed], log=messages.append)
    packed = out / "student.zip"
    mounted = place(tree, layout, "dataset", "bcsed-bundles")
    mounted.mkdir()
    if how == "as it is":
        shutil.copy(packed, mounted)
    else:
        with zipfile.ZipFile(packed) as inside:
            inside.extractall(mounted / "student" if how == "unpacked into a folder" else mounted)
    for wanted in ([], ["student"], ["bcsed-bundles"]) if how != "as it is" else ([], ["student"]):
        (found,) = kaggle.find_bundles(wanted, root=tree, scratch=tree / "working" / "b", log=messages.append)
        there = bundle.load(found)
        assert there.contract == bundle.load(sealed).contract
        assert there.name == "student"
        assert not (found / "weights.safetensors").exists()


def test_bundles_are_packed_to_the_same_bytes_and_with_weights_where_asked(tmp_path, sealed, messages):
    first, second = (kaggle.dataset(tmp_path / n, "me", bundles=[sealed], log=messages.append) for n in "ab")
    assert (first / "student.zip").read_bytes() == (second / "student.zip").read_bytes()
    third = kaggle.dataset(tmp_path / "c", "me", bundles=[sealed], with_weights=True, log=messages.append)
    with zipfile.ZipFile(third / "student.zip") as inside:
        assert "student/weights.safetensors" in inside.namelist()


def test_bundles_that_no_notebook_would_take_together_are_not_packed_together(tmp_path, sealed, other, messages):
    with pytest.raises(ConfigError, match="have different classes, which notebooks do not combine by default"):
        kaggle.dataset(tmp_path / "a", "me", bundles=[sealed, other], log=messages.append)
    shutil.copytree(sealed, tmp_path / "elsewhere" / "student")
    with pytest.raises(ConfigError, match="two bundles are called 'student'"):
        kaggle.dataset(tmp_path / "b", "me", bundles=[sealed, tmp_path / "elsewhere" / "student"], log=messages.append)


def test_a_zip_that_would_write_elsewhere_is_refused(tmp_path):
    (tmp_path / "input" / "evil").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "input" / "evil" / "x.zip", "w") as packed:
        packed.writestr("../bundle.json", "{}")
    with pytest.raises(DataError, match=r"contains a folder '\.\.', which is not a bundle"):
        datasets.unpack(tmp_path / "input", tmp_path / "scratch" / "deep")
    (tmp_path / "input" / "evil" / "x.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="not readable as a zip"):
        datasets.unpack(tmp_path / "input", tmp_path / "scratch")


@pytest.mark.parametrize(
    ("owner", "slug", "sentence"),
    [
        ("my name", "", "'my name' is not a Kaggle user name"),
        ("me", "wheel", "has 6 to 50 characters, a-z, 0-9 and '-'"),
    ],
)
def test_names_that_kaggle_does_not_take(tmp_path, messages, owner, slug, sentence):
    with pytest.raises(ConfigError, match=sentence):
        kaggle.dataset(tmp_path / "out", owner, slug=slug, log=messages.append)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_taken(tmp_path, messages):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="is already there; name a new folder for the data set"):
        kaggle.dataset(tmp_path, "me", log=messages.append)
