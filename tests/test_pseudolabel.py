from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import soundfile
from conftest import RATE, edit_json

from bcsed import predict
from bcsed.cli.app import main
from bcsed.errors import ConfigError, DataError
from bcsed.files import sha256
from bcsed.train import pseudolabels as pseudolabel
from bcsed.train.pseudolabels.api import Selection, select
from bcsed.train.pseudolabels.table import Pseudolabels

CLASSES = ("a", "b")
SCORES = np.array([[0.9, 0.2], [0.5, 0.05], [0.7, 0.4], [0.1, 0.4]], np.float32)


def selected(**selection):
    return (select(SCORES, CLASSES, Selection(**selection)) > 0).astype(int).T.tolist()


def test_thresholds_and_their_exceptions():
    assert selected() == [[1, 1, 1, 0], [0, 0, 0, 0]]
    assert selected(threshold=0.6) == [[1, 0, 1, 0], [0, 0, 0, 0]]
    assert selected(thresholds={"b": 0.3}) == [[1, 1, 1, 0], [0, 0, 1, 1]]
    assert selected(thresholds={"b": 0.3}, top_n=1) == [[1, 0, 0, 0], [0, 0, 1, 0]]


def test_a_floor_with_the_highest_of_each_class():
    assert selected(kind="top", top_n=2) == [[1, 0, 1, 0], [0, 0, 1, 1]]
    assert selected(kind="top", top_n=3) == [[1, 1, 1, 0], [1, 0, 1, 1]]
    assert selected(kind="top", top_n=4, floor=0.3) == [[1, 1, 1, 0], [0, 0, 1, 1]]
    # Of equals the first.
    assert selected(kind="top", top_n=1) == [[1, 0, 0, 0], [0, 0, 1, 0]]


def test_soft_keeps_everything_to_its_power():
    np.testing.assert_allclose(select(SCORES, CLASSES, Selection(kind="soft")), SCORES, atol=5e-4)
    sharp = select(SCORES, CLASSES, Selection(kind="soft", power=2.0))
    np.testing.assert_allclose(sharp, SCORES**2, atol=5e-4)
    # A selected label is never 0 in float16.
    tiny = select(np.full((1, 2), 0.6, np.float32), CLASSES, Selection(power=100.0))
    assert (tiny > 0).all()


def test_balanced_classes_have_the_same_sum_and_order():
    def sums(amount):
        return select(scores, CLASSES, Selection(kind="soft", balance=amount)).sum(0, dtype=float)

    rng = np.random.default_rng(0)
    scores = rng.random((500, 2), np.float32) ** (4, 20)
    raw = scores.sum(0)
    np.testing.assert_allclose(sums(1.0), raw.mean(), rtol=1e-3)
    np.testing.assert_allclose(sums(0.5), np.sqrt(raw * raw.mean()), rtol=1e-3)
    np.testing.assert_allclose(sums(0.0), raw, rtol=1e-3)
    balanced = select(scores, CLASSES, Selection(kind="soft", balance=1.0)).astype(float)
    assert (np.diff(balanced[np.argsort(scores[:, 1]), 1]) >= 0).all()
    # Before the selection: of the rare class, rows reach the threshold.
    rare = scores * np.float32((1, 0.4))
    assert (select(rare, CLASSES, Selection())[:, 1] > 0).sum() == 0
    assert (select(rare, CLASSES, Selection(balance=1.0))[:, 1] > 0).sum() > 20


def test_a_class_without_differences_is_not_balanced():
    scores = np.stack([SCORES[:, 0], np.zeros(4, np.float32)], axis=1)
    assert not select(scores, CLASSES, Selection(kind="soft", balance=1.0))[:, 1].any()
    assert select(scores[:0], CLASSES, Selection(balance=1.0)).shape == (0, 2)
    certain = np.stack([SCORES[:, 0], np.array([0, 0, 1, 1], np.float32)], axis=1)
    balanced = select(certain, CLASSES, Selection(kind="soft", balance=1.0))[:, 1].astype(float)
    np.testing.assert_allclose(balanced.sum(), certain.sum() / 2, rtol=1e-3)


@pytest.mark.parametrize(
    ("selection", "sentence"),
    [
        ({"kind": "hard"}, "one of threshold, top, soft"),
        ({"threshold": 1.0}, r"in \(0, 1\), got 1"),
        ({"thresholds": {"a": 0.0}}, "a: a threshold"),
        ({"kind": "top"}, "top_n must be at least 1"),
        ({"power": 0.0}, "power must be above 0"),
        ({"balance": 1.5}, r"balance must be in \[0, 1\]"),
        ({"floor": 1.0}, r"floor must be in \[0, 1\)"),
    ],
)
def test_invalid_selections(selection, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Selection(**selection)


def test_scores_at_a_threshold_are_selected():
    """A score of 0.9 is less than the number 0.9 in double precision."""
    for value in (0.1, 0.7, 0.9):
        scores = np.full((3, 2), value, np.float32)
        for kind in (Selection(threshold=value), Selection(kind="top", top_n=3, floor=value)):
            assert (select(scores, ("a", "b"), kind) > 0).all()


def test_a_threshold_for_a_class_that_does_not_exist():
    with pytest.raises(ConfigError, match="'z', which is not among the 2 classes"):
        select(SCORES, CLASSES, Selection(thresholds={"z": 0.5}))


@pytest.fixture
def labelled(oracle, recordings, tmp_path):
    out = tmp_path / "pl.parquet"
    return pseudolabel.make_pseudolabels([oracle], [recordings], out, selection=Selection(kind="soft")), out


def test_a_table_has_the_teachers_scores_by_name(labelled, oracle, recordings):
    table, out = labelled
    scores = predict.predict([oracle], [recordings]).scores
    assert len(table.values) == len(scores) == 12 + 5 + 2 + 1
    again = pseudolabel.read_pseudolabels(out)
    for name in ("filename", "start_s", "end_s", "values"):
        assert np.array_equal(getattr(again, name), getattr(table, name))
    for row in range(len(scores)):
        stem, end = scores.index[row].rsplit("_", 1)
        assert (again.filename[row], again.end_s[row]) == (f"{stem}.wav", int(end))
        assert again.start_s[row] == int(end) - 5
    np.testing.assert_allclose(again.columns(("quiet", "loud")), scores[["quiet", "loud"]], atol=5e-4)
    raw = pd.read_parquet(out)
    assert list(raw.columns) == ["filename", "start", "end", "loud", "quiet"]
    assert raw["loud"].dtype == np.float16


def test_labels_of_time_steps(tiny, recordings, tmp_path):
    """Their maximum over the time steps of a row is the row's score with max pooling."""
    out = tmp_path / "steps.parquet"
    table = pseudolabel.make_pseudolabels([tiny], [recordings], out, selection=Selection(kind="soft"), frames=True)
    step_s = tiny.contract.frontend.window_s / tiny.steps
    np.testing.assert_allclose(table.end_s - table.start_s, step_s)
    again = pseudolabel.read_pseudolabels(out)
    np.testing.assert_array_equal(again.start_s, table.start_s)
    windowing = predict.Windowing(windows="sliding", pool="max")
    rows = predict.predict([tiny], [recordings], windowing=windowing).scores
    name = "long.wav"
    of_file = table.filename == name
    for number in (1, 2):
        inside = of_file & (table.end_s > 5 * (number - 1)) & (table.start_s < 5 * number)
        expected = rows.loc[f"{name.rpartition('.')[0]}_{5 * number}"].to_numpy()
        np.testing.assert_allclose(table.values[inside].max(0), expected, atol=1e-3)
    with pytest.raises(ConfigError, match="only with sliding windows"):
        pseudolabel.make_pseudolabels(
            [tiny], [recordings], tmp_path / "x.parquet", frames=True, windowing=predict.Windowing()
        )


def test_provenance_has_teachers_selection_and_counts(labelled, oracle):
    provenance = json.loads(labelled[1].with_suffix(".json").read_text())
    assert provenance["teachers"][0]["fingerprint"] == oracle.contract.fingerprint
    assert provenance["teachers"][0]["sha256"] == oracle.sha256
    assert provenance["selection"] == {"kind": "soft", "power": 1.0}
    assert provenance["windowing"] == {
        "row_s": 5,
        "windows": "centred",
        "stride_s": None,
        "shifts_s": [0.0],
        "pool": "bundle",
    }
    assert provenance["rows_per_class"] == {"loud": 20, "quiet": 20}
    assert provenance["rows_per_file"]["long.wav"] == 12
    assert provenance["date"].endswith("+00:00")
    assert labelled[1].with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_another_selection_needs_no_other_scoring(labelled, oracle, recordings, tmp_path):
    folder = pseudolabel.scores_folder(labelled[1])
    before = {file.name: file.stat().st_mtime_ns for file in (folder / "parts").iterdir()}
    labelled[1].unlink()
    table = pseudolabel.make_pseudolabels([oracle], [recordings], labelled[1], selection=Selection(threshold=0.2))
    assert {file.name: file.stat().st_mtime_ns for file in (folder / "parts").iterdir()} == before
    assert 0 < (table.values > 0).sum() < table.values.size
    assert (table.values[table.values > 0] >= np.float16(0.2)).all()


def test_silent_and_unreadable_recordings_are_left_out_and_counted(oracle, recordings, tmp_path):
    folder = tmp_path / "land"
    shutil.copytree(recordings, folder)
    (folder / "text.ogg").write_text("no sound")
    soundfile.write(folder / "silent.wav", np.zeros(20 * RATE, "float32"), RATE)
    table = pseudolabel.make_pseudolabels([oracle], [folder], tmp_path / "pl.parquet")
    assert set(table.filename) == {"long.wav", "odd.wav", "short.wav", "blip.wav"}
    assert table.provenance["silent"] == ["silent"]
    assert (table.provenance["n_recordings"], table.provenance["n_failed"]) == (6, 1)


def test_recordings_of_low_rates_and_cancelling_channels_are_noted(tiny, tmp_path, capsys):
    folder, rng = tmp_path / "land", np.random.default_rng(3)
    folder.mkdir()
    for name, rate in (("low.wav", 16_000), ("lower.flac", 16_000), ("small.ogg", 8000), ("full.wav", RATE)):
        soundfile.write(folder / name, 0.1 * rng.standard_normal(10 * rate), rate)
    left = 0.1 * rng.standard_normal(10 * RATE)
    soundfile.write(folder / "stereo.flac", np.stack((left, -left), 1), RATE)
    words = ("pseudolabel", tiny.path, "--recordings", folder, "--out", tmp_path / "pl.parquet")
    assert main([*map(str, words)]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert len(notes) == 4
    assert any("2 recordings (low.wav, lower.flac): contains nothing above 8000 Hz" in note for note in notes)
    assert any("1 recording (small.ogg): contains nothing above 4000 Hz" in note for note in notes)
    assert any("1 recording (stereo.flac): its channels cancel" in note for note in notes)
    assert any("1 recording (stereo.flac): contains nothing but digital silence" in note for note in notes)
    assert pseudolabel.read_pseudolabels(tmp_path / "pl.parquet").provenance["notes"] == [n[8:] for n in notes]


def test_a_teacher_with_the_same_scores_in_all_rows_is_refused(oracle, recordings, tmp_path, monkeypatch):
    """The original's second round: all rows of a file had the scores of its first window."""

    def broadcast(*args, **options):
        result = predict.predict(*args, **options)
        stems = result.scores.index.str.rsplit("_", n=1).str[0]
        result.__dict__["scores"] = result.scores.groupby(stems, sort=False).transform("first")
        return result

    monkeypatch.setattr("bcsed.train.pseudolabels.api.predict", broadcast)
    with pytest.raises(DataError, match=r"all rows of 3 of 4 recordings are identical, 'long' first.*one window"):
        pseudolabel.make_pseudolabels([oracle], [recordings], tmp_path / "pl.parquet")
    assert not (tmp_path / "pl.parquet").exists()


def table_of(values, names=("x.ogg", "x.ogg", "y.ogg")):
    values = np.asarray(values, np.float16)
    ends = np.array([5, 10, 5, 10])[: len(names)]
    provenance = {"selection": {"kind": "soft", "power": 1.0}, "teachers": [], "n_failed": 0}
    return Pseudolabels(
        filename=np.array(names, object),
        start_s=ends - 5,
        end_s=ends,
        values=values,
        classes=CLASSES,
        provenance=provenance,
    )


def test_a_table_in_which_a_file_repeats_its_row_is_refused(tmp_path):
    pseudolabel.write_pseudolabels(table_of([[0.3, 0.4], [0.3, 0.4], [0.1, 0.2]]), tmp_path / "pl.parquet")
    with pytest.raises(DataError, match=r"all rows of 1 of 2 recordings are identical, 'x.ogg' first"):
        pseudolabel.read_pseudolabels(tmp_path / "pl.parquet")


def test_rows_that_rounding_makes_alike_are_read(tmp_path):
    table = table_of([[0.5] * 2] * 2 + [[0.1, 0.2], [0.3, 0.4]], names=("x.ogg", "x.ogg", "y.ogg", "y.ogg"))
    pseudolabel.write_pseudolabels(table, tmp_path / "pl.parquet")
    assert len(pseudolabel.read_pseudolabels(tmp_path / "pl.parquet").values) == 4


def test_rows_that_may_be_alike(tmp_path):
    # No label in all rows, or probability 1 in all rows (a long chorus).
    pseudolabel.write_pseudolabels(table_of([[0, 0], [0, 0], [1, 0]]), tmp_path / "none.parquet")
    pseudolabel.write_pseudolabels(table_of([[1, 0], [1, 0], [1, 0]]), tmp_path / "sure.parquet")
    assert len(pseudolabel.read_pseudolabels(tmp_path / "none.parquet").values) == 3
    assert pseudolabel.read_pseudolabels(tmp_path / "sure.parquet").per_file() == {"x.ogg": 2, "y.ogg": 1}


def test_columns_are_matched_by_name(tmp_path):
    table = table_of([[0.3, 0.4], [0.5, 0.6], [0.1, 0.2]])
    assert np.array_equal(table.columns(("b", "a")), table.values[:, ::-1])
    with pytest.raises(DataError, match=r"class 'b' is only in the pseudolabels \(2 such classes\)"):
        table.columns(("a", "c"))


def test_damaged_tables(tmp_path):
    path = tmp_path / "pl.parquet"
    with pytest.raises(DataError, match="there is no such table"):
        pseudolabel.read_pseudolabels(path)
    pseudolabel.write_pseudolabels(table_of([[0.3, 0.4], [0.5, 0.6], [0.1, 0.2]]), path)
    json_file = path.with_suffix(".json")
    good = json_file.read_text()
    edit_json(json_file, lambda provenance: provenance.update(sha256="0" * 64))
    with pytest.raises(DataError, match="was changed after it was written"):
        pseudolabel.read_pseudolabels(path)
    json_file.write_text("{}")
    with pytest.raises(DataError, match="classes is missing"):
        pseudolabel.read_pseudolabels(path)
    json_file.write_text("no json")
    with pytest.raises(DataError, match="not readable as JSON"):
        pseudolabel.read_pseudolabels(path)
    json_file.unlink()
    with pytest.raises(DataError, match=r"has no pl\.json, which"):
        pseudolabel.read_pseudolabels(path)
    json_file.write_text(good)
    path.write_bytes(path.read_bytes()[:-30])
    edit_json(json_file, lambda provenance: provenance.update(sha256=sha256(path)))
    with pytest.raises(DataError, match="not readable as Parquet"):
        pseudolabel.read_pseudolabels(path)


def test_a_table_without_a_schema_is_read(labelled):
    _, out = labelled

    def change(provenance):
        assert provenance.pop("schema") == 2
        provenance["rows"] = provenance.pop("windowing")

    expected = pseudolabel.read_pseudolabels(out).provenance
    edit_json(out.with_suffix(".json"), change)
    assert pseudolabel.read_pseudolabels(out).provenance == expected
    edit_json(out.with_suffix(".json"), lambda provenance: provenance.update(schema=3))
    with pytest.raises(DataError, match="has schema 3"):
        pseudolabel.read_pseudolabels(out)


def test_values_that_are_not_probabilities(tmp_path):
    for value in (1.5, -0.1, np.nan):
        path = tmp_path / "pl.parquet"
        pseudolabel.write_pseudolabels(table_of([[0.3, 0.4], [0.5, value], [0.1, 0.2]]), path)
        with pytest.raises(DataError, match="values that are not probabilities"):
            pseudolabel.read_pseudolabels(path)


def test_the_same_table_is_the_same_bytes(oracle, recordings, tmp_path):
    paths = [tmp_path / name / "pl.parquet" for name in "ab"]
    for path, jobs in zip(paths, (0, 3), strict=True):
        pseudolabel.make_pseudolabels([oracle], [recordings], path, jobs=jobs)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert pyarrow.parquet.read_metadata(paths[0]).num_rows == 20


def test_invalid_calls(labelled, oracle, recordings, tmp_path):
    with pytest.raises(DataError, match="is already there"):
        pseudolabel.make_pseudolabels([oracle], [recordings], labelled[1])
    with pytest.raises(ConfigError, match=r"a \.parquet file, got 'pl\.csv'"):
        pseudolabel.make_pseudolabels([oracle], [recordings], tmp_path / "pl.csv")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "text.ogg").write_text("no sound")
    with pytest.raises(DataError, match="none of 1 recordings could be labelled"):
        pseudolabel.make_pseudolabels([oracle], [tmp_path / "bad"], tmp_path / "none.parquet")


def test_the_command(oracle, recordings, tmp_path, capsys):
    out = tmp_path / "pl.parquet"
    words = ["pseudolabel", str(oracle.path), "--recordings", str(recordings), "--out", str(out)]
    assert main([*words, "--top-n", "3", "--min-score", "0.01", "--power", "1.5", "--balance", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "20 rows of 4 recordings" in printed
    assert "rows per class 3 to 3, median 3, 0 of 2 classes without a label" in printed
    selection = json.loads(out.with_suffix(".json").read_text())["selection"]
    assert selection == {"kind": "top", "floor": 0.01, "top_n": 3, "power": 1.5, "balance": 0.5}
    assert main([*words, "--soft"]) == 2
    assert "is already there" in capsys.readouterr().err
    assert main([*words, "--soft", "--threshold", "0.5"]) == 2
    assert "leave out --threshold" in capsys.readouterr().err
    for more, sentence in (
        (["--class-threshold", "loud=0.5", "loud=0.6"], "--class-threshold takes one value of 'loud', got two"),
        (["--min-score", "0.5"], "name only --top-n"),
        (["--top-n", "3", "--threshold", "0.5", "--min-score", "0.5"], "name only --top-n"),
        (["--taxonomy", "nosuch.csv"], "--taxonomy names the taxa of --class-weight"),
        (["--frames", "--windows", "sliding", "--row-s", "3"], "leave out --row-s"),
    ):
        assert main([*words, *more]) == 2
        assert sentence in capsys.readouterr().err
    assert main([*words, "--class-threshold", "loud"]) == 2
    assert "class=threshold, got 'loud'" in capsys.readouterr().err
    out.unlink()
    assert main([*words, "--class-threshold", "loud=.9"]) == 0
    assert json.loads(out.with_suffix(".json").read_text())["selection"]["thresholds"] == {"loud": 0.9}
