"""Surveys: detection history against a brute-force count, effort, activity, evidence, files, refusals."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from bcsed.cli.app import main
from bcsed.data.deployments import Sources, read_zone, resolve
from bcsed.errors import ConfigError, DataError
from bcsed.report.recordings import ReportContext
from bcsed.report.survey import survey_section
from bcsed.scores.detections import read_species
from bcsed.scores.survey import Reviewed, SurveySettings, read_reviews, read_rows, read_survey, survey
from bcsed.scores.survey.density import score_cells
from bcsed.scores.survey.reviews import locate, precision_above

ROW_S = 5
CLASSES = ["aves1", "b/c", "NA"]


def write_scores(path, recordings, rng, classes=CLASSES):
    """Write a score table of (name, rows); return it."""
    ids = [f"{name}_{ROW_S * (k + 1)}" for name, n in recordings for k in range(n)]
    scores = pd.DataFrame(rng.random((len(ids), len(classes)), np.float32), columns=classes, index=ids)
    scores.rename_axis("row_id").to_csv(path)
    return scores


def deploy(rows, sources=None, *, skip=False):
    return resolve(list(rows.recordings), rows.last_end_s().astype(float), sources or Sources(), skip=skip)


def random_deployment(rng):
    """Return recordings (name, rows) of some sites and recorders that do not overlap."""
    recordings = []
    start = datetime(2024, int(rng.integers(1, 13)), int(rng.integers(1, 29)))
    for site in range(int(rng.integers(1, 4))):
        moment = start + timedelta(seconds=int(rng.integers(0, 2 * 86_400)))
        for _ in range(int(rng.integers(1, 6))):
            n_rows = int(rng.integers(1, 40))
            recordings.append((f"S{site}_{moment:%Y%m%d_%H%M%S}", n_rows))
            moment += timedelta(seconds=n_rows * ROW_S + int(rng.choice([0, 7, 3600, 30_000, 200_000])))
    return recordings


def count(scores, settings):
    """Return detections by (site, occasion, class) and (site, hour, class), and seconds by (site, occasion): slowly."""
    times = {}
    for row_id in scores.index:
        stem, end = row_id.rsplit("_", 1)
        site, day, clock = stem.split("_")
        times[row_id] = site, datetime.strptime(day + clock, "%Y%m%d%H%M%S") + timedelta(seconds=int(end) - ROW_S)
    shift = timedelta(hours=settings.day_start_h)
    first = min((time - shift).date() for _, time in times.values())
    history, hourly, effort = {}, {}, {}
    values = scores.to_dict("index")
    for row_id, (site, time) in times.items():
        occasion = ((time - shift).date() - first).days // settings.occasion_days
        effort[site, occasion] = effort.get((site, occasion), 0) + ROW_S
        for name in scores.columns:
            if values[row_id][name] >= settings.thresholds.get(name, settings.threshold):
                history[site, occasion, name] = history.get((site, occasion, name), 0) + 1
                hourly[site, time.hour, name] = hourly.get((site, time.hour, name), 0) + 1
    return history, hourly, effort


def check_against_count(folder, seed):
    """Compare a random survey with the count, and return its number of sites."""
    rng = np.random.default_rng(seed)
    scores = write_scores(folder / "scores.csv", random_deployment(rng), rng)
    settings = SurveySettings(
        threshold=0.8,
        thresholds={"NA": 0.95},
        occasion_days=int(rng.integers(1, 4)),
        day_start_h=int(rng.choice([0, 12])),
    )
    rows = read_rows(folder / "scores.csv")
    result = survey(rows, deploy(rows), settings)
    history, hourly, effort = count(scores, settings)
    counts, effort_h = result.occasions()
    at = {
        (result.sites[s], o, CLASSES[k]): int(counts[s, o, k])
        for s, o, k in np.ndindex(counts.shape)
        if counts[s, o, k]
    }
    assert at == history
    by_hour = {
        (result.sites[s], h, CLASSES[k]): int(result.hourly_counts[s, h, k])
        for s, h, k in np.ndindex(result.hourly_counts.shape)
        if result.hourly_counts[s, h, k]
    }
    assert by_hour == hourly
    seconds = {(result.sites[s], o): round(3600 * h) for (s, o), h in np.ndenumerate(effort_h) if h}
    assert seconds == effort
    assert result.hourly_effort_h.sum() == pytest.approx(result.effort_h.sum())
    return len(result.sites)


@pytest.mark.parametrize("seed", range(12))
def test_history_equals_a_count(tmp_path, seed):
    check_against_count(tmp_path, seed)


@pytest.mark.slow
def test_history_equals_a_count_on_1000_deployments(tmp_path):
    """Of one to three sites each time."""
    n_deployments = sum(check_against_count(tmp_path, seed) for seed in range(100, 620))
    assert n_deployments >= 1000


@pytest.fixture
def small(tmp_path):
    """Return scores of two sites, of which the second has a day without effort."""
    names = ["A_20240501_235950", "A_20240502_120000", "A_20240503_010000", "B_20240501_060000", "B_20240503_060000"]
    scores = write_scores(tmp_path / "scores.csv", [(name, 4) for name in names], np.random.default_rng(0))
    scores[:] = 0.1
    scores.loc["A_20240501_235950_10", "aves1"] = 0.6
    scores.loc["A_20240501_235950_15", "aves1"] = 0.9
    scores.loc["A_20240501_235950_20", "b/c"] = 0.7
    scores.loc["B_20240503_060000_5", "aves1"] = 0.8
    scores.rename_axis("row_id").to_csv(tmp_path / "scores.csv")
    return tmp_path


def test_the_files_of_a_survey(small, capsys):
    out = small / "out"
    assert main(["survey", str(small / "scores.csv"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "5 recordings at 2 sites in 3 days, 0.0 h; 4 detections of 2 of 3 classes" in printed
    assert "time zone is not known" in printed
    history = (out / "history" / "aves1.csv").read_text()
    # The second row of A belongs to the first day, the third to the second.
    assert history == "site,2024-05-01,2024-05-02,2024-05-03\nA,1,1,0\nB,0,NA,1\n"
    assert (out / "counts" / "b_c.csv").read_text().splitlines()[1] == "A,0,1,0"
    assert (out / "effort.csv").read_text().splitlines()[2] == "B,0.005556,NA,0.005556"
    assert (out / "operation.csv").read_text() == "Station,2024-05-01,2024-05-02,2024-05-03\nA,1,1,1\nB,1,0,1\n"
    records = pd.read_csv(out / "records.csv", keep_default_na=False)
    # Two rows in succession are a record.
    assert records["DateTimeOriginal"].tolist() == ["2024-05-01 23:59:55", "2024-05-02 00:00:05", "2024-05-03 06:00:00"]
    assert records["score"].tolist() == [0.9, 0.7, 0.8]
    manifest, tables = read_survey(out)
    assert manifest["classes"]["NA"] == "NA.csv"
    hourly = tables["hourly"].set_index(["site", "hour", "class"])["per_hour"]
    assert hourly["A", 23, "aves1"] == pytest.approx(360)
    assert hourly["A", 0, "aves1"] == pytest.approx(360)
    assert ("A", 6, "aves1") not in hourly
    species = tables["species"].set_index(["site", "class"])
    assert species.loc[("A", "aves1"), ["n_detections", "n_days", "best_recording", "best_start_s"]].tolist() == [
        2,
        2,
        "A_20240501_235950",
        10,
    ]
    assert species.loc[("A", "aves1"), "best_time"] == "2024-05-02 00:00:00"
    assert species["best_reviewed"].unique().tolist() == ["no"]
    assert (out / "hourly.png").read_bytes().startswith(b"\x89PNG")


def test_a_survey_is_replaced_only_by_another(small):
    out, command = small / "out", ["survey", str(small / "scores.csv"), "--out"]
    assert main([*command, str(out), "--class-threshold", "aves1=0.99"]) == 0
    assert (out / "history" / "aves1.csv").read_text().endswith("A,0,0,0\nB,0,NA,0\n")
    assert main([*command, str(out)]) == 0
    (small / "mine").mkdir()
    (small / "mine" / "note.txt").write_text("mine")
    assert main([*command, str(small / "mine")]) == 2


def test_occasions_of_several_days_and_nights(small):
    rows = read_rows(small / "scores.csv")
    result = survey(rows, deploy(rows), SurveySettings(occasion_days=2, day_start_h=12))
    # The days start at noon of 30 April, 1 May, 2 May.
    assert result.occasion_days() == ["2024-04-30", "2024-05-02"]
    counts, _ = result.occasions()
    assert counts[:, :, 0].tolist() == [[2, 0], [0, 1]]


def test_local_time_moves_days(small):
    rows = read_rows(small / "scores.csv")
    names = {
        name: {"guano": f"Timestamp: {name[2:6]}-{name[6:8]}-{name[8:10]}T{name[11:13]}:{name[13:15]}:{name[15:]}Z"}
        for name in rows.recordings
    }
    result = survey(rows, deploy(rows, Sources(metadata=names, zone=read_zone("-05:00"))))
    assert str(result.first_day) == "2024-05-01"
    assert result.counts[0, :, 0].tolist() == [2, 0, 0]
    assert result.hourly_counts[0, 18, 0] == 1


def test_parquet_in_blocks_is_the_same(small, monkeypatch):
    rows = read_rows(small / "scores.csv")
    table = pd.read_csv(small / "scores.csv", index_col="row_id")
    stems = [name.rsplit("_", 1)[0] for name in table.index]
    keys = {"row_id": table.index, "recording": [f"wav/{name}.wav" for name in stems]}
    wide = pd.DataFrame({**keys, "start_s": rows.start_s, "end_s": rows.start_s + ROW_S})
    pd.concat([wide, table.reset_index(drop=True).astype("float32")], axis=1).to_parquet(small / "scores.parquet")
    monkeypatch.setattr("bcsed.scores.survey.rows._BLOCK", 3)
    other = read_rows(small / "scores.parquet")
    assert [len(values) for values in other.blocks()] == [3] * 6 + [2]
    results = [survey(each, deploy(each)) for each in (rows, other)]
    assert (results[0].counts == results[1].counts).all()
    assert results[0].records["time"].tolist() == results[1].records["time"].tolist()
    assert results[1].species["best_recording"][0] == "wav/A_20240501_235950.wav"
    reviewed = Reviewed(pd.DataFrame(review_lines(8)))
    assert survey(other, deploy(other), reviewed=reviewed).species["n_reviewed"].sum() == 8


def test_recordings_give_lengths_and_metadata(small, capsys):
    import soundfile

    folder = small / "wav"
    folder.mkdir()
    for name in ("A_20240502_120000", "B_20240501_060000", "C_20240501_060000"):
        soundfile.write(folder / f"{name}.wav", np.zeros(8000 * 17), 8000)
    out = small / "out"
    assert main(["survey", str(small / "scores.csv"), "--out", str(out), "--recordings", str(folder)]) == 0
    hours = pd.read_csv(out / "deployments.csv").set_index("recording")["hours"]
    assert (hours["A_20240502_120000"] * 3600, hours["A_20240503_010000"] * 3600) == pytest.approx((17, 20), abs=0.01)
    assert "C_20240501_060000.wav: it has no rows in the scores" in capsys.readouterr().out


def test_a_prediction_with_failures(small, capsys):
    (small / "failures.csv").write_text("recording,status,reason\nwav/A_20240503_010000.wav,filled,not readable\n")
    (small / "scores.csv").rename(small / "submission.csv")
    out = small / "out"
    assert main(["survey", str(small), "--out", str(out)]) == 0
    assert "A_20240503_010000: it was not scored: not readable" in capsys.readouterr().out
    assert (out / "effort.csv").read_text().splitlines()[1].endswith(",NA")


def review_lines(n, *, site="A_20240501_235950", **columns):
    lines = {"recording": [site] * 4 + ["B_20240501_060000"] * 4, "start_s": [0, 5, 10, 15] * 2, "class": ["aves1"] * 8}
    lines |= {
        "score": np.linspace(0.1, 0.9, 8),
        "positive": [False] * 4 + [True] * 4,
        "probability": np.full(8, 0.4),
        "stratum": ["s"] * 8,
    }
    return {name: values[:n] for name, values in {**lines, **columns}.items()}


def test_thresholds_of_sites_and_true_detections(tmp_path):
    rng = np.random.default_rng(1)
    recordings = [(f"{site}_202405{day:02d}_000000", 50) for site in "AB" for day in range(1, 5)]
    scores = write_scores(tmp_path / "scores.csv", recordings, rng, ["x", "y"])
    rows = read_rows(tmp_path / "scores.csv")
    picked = rng.permutation(len(scores))[:120]
    stems = np.array([row_id.rsplit("_", 1)[0] for row_id in scores.index], object)
    # At A a score of .5 is a call, at B one of .8.
    least = np.where([stem.startswith("A") for stem in stems], 0.5, 0.8)
    lines = {
        "recording": stems[picked],
        "start_s": rows.start_s[picked],
        "class": "x",
        "score": scores["x"].to_numpy(np.float64)[picked],
        "positive": (scores["x"].to_numpy() >= least)[picked],
        "probability": 120 / 400,
        "stratum": "s",
    }
    settings = SurveySettings(threshold=0.3, precision=1.0)
    result = survey(rows, deploy(rows), settings, Reviewed(pd.DataFrame(lines)))
    table = result.thresholds.set_index(["site", "class"])
    assert 0.5 <= table.loc[("A", "x"), "threshold"] < 0.6
    assert 0.8 <= table.loc[("B", "x"), "threshold"] < 0.9
    assert table["source"].tolist() == ["site", "all", "site", "all"]
    species = result.species.set_index(["site", "class"])
    assert species.loc[("A", "x"), "expected_true"] == species.loc[("A", "x"), "n_detections"]
    assert species.loc[("A", "x"), "expected_low"] < species.loc[("A", "x"), "expected_true"]
    assert np.isnan(species.loc[("A", "y"), "expected_true"])
    density = result.density.set_index("site")
    truth = {"": 0.5 * (0.5 + 0.2), "A": 0.5, "B": 0.2}
    for site, share in truth.items():
        assert density.loc[site, "low"] < share < density.loc[site, "high"]
    assert density["basis"].tolist() == ["all sites", "site", "site"]
    assert result.bins["variance_share"].sum() == pytest.approx(1)


def test_few_reviewed_rows_give_reasons(small):
    rows = read_rows(small / "scores.csv")
    result = survey(rows, deploy(rows), SurveySettings(min_reviewed=4), Reviewed(pd.DataFrame(review_lines(4))))
    assert result.thresholds["reason"][0] == "0 positive rows, 5 needed"
    assert result.density["reason"][0] == "4 reviewed rows, 5 needed"
    assert result.density["density"].isna().all()


REVIEW = "recording,start_s,class,score,stratum,probability,answer\n"
LINE = "A_20240501_235950,{},aves1,{},s,{},{}\n"


def test_unclear_answers_are_missing_at_random(tmp_path):
    path = tmp_path / "r.csv"
    answers = ("yes", "no", "OTHER", "unsure", "")
    path.write_text(REVIEW + "".join(LINE.format(5 * k, 0.5, 0.1, answer) for k, answer in enumerate(answers)))
    reviewed = read_reviews([path])
    assert reviewed.n_unclear == 2
    assert reviewed.table["positive"].tolist() == [True, False, False]
    # The three stand for the 50 rows for which the five stood.
    assert (1 / reviewed.table["probability"]).sum() == pytest.approx(50)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LINE.format(5, 0.5, 0.1, "maybe"), "answer must be yes, no, other, unsure, got 'maybe'"),
        (LINE.format(5, 1.5, 0.1, "yes"), "score must be a number of 0 to 1"),
        (LINE.format(5, 0.5, 0, "yes"), "probability must be a number"),
        (LINE.format("x", 0.5, 0.1, "yes"), "start_s must be"),
        (LINE.format(5, 0.5, 0.1, ""), "no row has an answer"),
        (2 * LINE.format(5, 0.5, 0.1, "yes"), "at 5 s and 'aves1' twice"),
    ],
)
def test_invalid_reviews(tmp_path, text, problem):
    path = tmp_path / "r.csv"
    path.write_text(REVIEW + text)
    with pytest.raises(DataError, match=problem):
        read_reviews([path])


def test_reviewed_rows_of_left_out_recordings_are_counted(small):
    rows = read_rows(small / "scores.csv")
    deployments = deploy(rows)
    out = str(deployments.table["recording"].iloc[0])
    fewer = dataclasses.replace(deployments, table=deployments.table[1:].reset_index(drop=True))
    lines = pd.DataFrame({**review_lines(2), "recording": out, "start_s": [0, 5]})
    result = survey(rows, fewer, reviewed=Reviewed(lines))
    assert ("review", "2 of 2 answered rows are of recordings that were left out") in result.deployments.notes


def test_scores_at_a_threshold_and_at_minus_zero():
    table = pd.DataFrame(
        {"score": [0.7] * 20, "probability": 1.0, "stratum": "s", "positive": [True] * 17 + [False] * 3}
    )
    share = precision_above(table.assign(score=np.float32(0.7)), 0.7)
    assert share is not None and share[0] == pytest.approx(0.85)
    assert score_cells(np.array([-0.0, 0.0], np.float32)).tolist() == [0, 0]


def test_reviews_of_other_scores_are_refused(small):
    rows = read_rows(small / "scores.csv")
    other = Reviewed(pd.DataFrame(review_lines(8, site="Z_20240501_235950")))
    with pytest.raises(DataError, match="'Z_20240501_235950' is not in the scores"):
        survey(rows, deploy(rows), reviewed=other)
    unknown = Reviewed(pd.DataFrame(review_lines(8)).assign(**{"class": "bat"}))
    with pytest.raises(DataError, match="'bat' is not in the scores"):
        survey(rows, deploy(rows), reviewed=unknown)


def test_thresholds_are_of_the_surveyed_scores(small):
    """A network that was trained again has other scores than that whose rows were reviewed."""
    rows = read_rows(small / "scores.csv")
    table = pd.read_csv(small / "scores.csv", index_col="row_id")
    own = [
        table.loc[f"{name}_{start_s + ROW_S}", "aves1"]
        for name, start_s in zip(*map(review_lines(8).get, ("recording", "start_s")), strict=True)
    ]
    results = [
        survey(rows, deploy(rows), reviewed=Reviewed(pd.DataFrame(review_lines(8, score=scores))))
        for scores in (own, np.full(8, 0.999))
    ]
    assert not [note for note in results[0].deployments.notes if note[0] == "review"]
    assert (
        "review",
        f"8 of 8 answered rows had other scores when they were chosen; those of {rows.path} are used",
    ) in results[1].deployments.notes
    for name in ("species", "thresholds", "density"):
        pd.testing.assert_frame_equal(*(getattr(result, name) for result in results))
    later = Reviewed(pd.DataFrame(review_lines(8)).assign(start_s=1000))
    with pytest.raises(DataError, match="the reviewed row of A_20240501_235950 at 1000 s is not in the scores"):
        survey(rows, deploy(rows), reviewed=later)


def test_recordings_that_were_moved(tiny, recordings, tmp_path, capsys):
    """They are found by their names, also where the scores have paths; recordings of others are refused."""
    (tmp_path / "in").mkdir()
    for number in range(2):
        shutil.copy(recordings / "odd.wav", tmp_path / "in" / f"S1_2024050{number + 1}_050000.wav")
    words = ["predict", str(tiny.path), "--recordings", str(tmp_path / "in"), "--out", str(tmp_path / "scores")]
    assert main([*words, "--format", "scores"]) == 0
    (tmp_path / "in").rename(tmp_path / "moved")
    call = ["survey", str(tmp_path / "scores"), "--recordings"]
    assert main([*call, str(tmp_path / "moved"), "--out", str(tmp_path / "out")]) == 0
    left_out = pd.read_csv(tmp_path / "out" / "left_out.csv")
    assert left_out.empty
    assert main([*call, str(recordings), "--out", str(tmp_path / "out2")]) == 2
    assert "recordings of --recordings has rows in the scores, which are of" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "out"), "--truth", "t.csv", "--out", str(tmp_path / "r.html")]) == 2
    assert "evaluates runs, bundles and predictions, and there is none" in capsys.readouterr().err


def test_the_answers_of_a_review(small, capsys):
    from bcsed.scores.review import choose_rows, review_id, write_review

    table = pd.read_csv(small / "scores.csv", index_col="row_id")
    chosen = choose_rows(table, budget=12, by="random", classes=["aves1"])
    write_review(chosen, small / "review", table)
    answers = {
        str(item): {"answer": "yes" if score > 0.5 else "no"}
        for item, score in zip(chosen["item"], chosen["score"], strict=True)
    }
    values = {"schema": 1, "review": review_id(chosen), "answers": answers}
    (small / "review" / "answers.json").write_text(json.dumps(values))
    command = ["survey", str(small / "scores.csv"), "--out", str(small / "out"), "--review", str(small / "review")]
    assert main(command) == 0
    _, tables = read_survey(small / "out")
    density = tables["density"].set_index("site")
    assert density.loc["", "low"] < 3 / 20 < density.loc["", "high"]
    assert tables["species"]["n_reviewed"].sum() >= 1
    assert main([*command[:-1], str(small / "scores.csv"), "more.json"]) == 2
    assert "is not a folder of `bcsed review`" in capsys.readouterr().err
    page = small / "page.html"
    assert main(["report", str(small / "out"), "--out", str(page)]) == 0
    text = page.read_text()
    assert "Survey out" in text
    assert "Species of the sites" in text
    assert "What to review next" in text
    assert text.count("<svg") >= 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--threshold", "0"], "threshold must be in (0, 1]"),
        (["--class-threshold", "bat=0.5"], "'bat'"),
        (["--occasion-days", "0"], "at least 1 day"),
        (["--day-start", "24"], "hour of 0 to 23"),
        (["--timezone", "Moon"], "time zone 'Moon' is not known"),
        (["--name-pattern", "(?P<site>.)"], "does not match"),
        (["--deployments", "nowhere.csv"], "there is no such file"),
        (["--review", "nowhere.csv"], "there is no such file"),
        (["--recordings", "nowhere"], "there is no such file or folder"),
        (["--thresholds", "nowhere.json"], "there is no such file of thresholds"),
    ],
)
def test_mistakes_are_one_sentence(small, capsys, options, problem):
    assert main(["survey", str(small / "scores.csv"), "--out", str(small / "out"), *options]) == 2
    message = capsys.readouterr().err
    assert message.startswith("bcsed: ")
    assert problem in message
    assert not (small / "out").exists()


def test_invalid_scores(small, tmp_path):
    table = pd.read_csv(small / "scores.csv", index_col="row_id")
    stems = [name.rsplit("_", 1)[0] for name in table.index]
    wide = pd.DataFrame({"recording": stems, "start_s": [0, 5, 10, 15] * 5, "end_s": [5, 10, 15, 20] * 5, "x": 0.5})
    path = tmp_path / "a.parquet"
    for change, problem in (
        (wide.assign(x=1.5), "not in \\[0, 1\\]"),
        (wide.assign(start_s=0, end_s=5), "more than once"),
        (wide.assign(end_s=wide["end_s"] + (wide.index == 3)), "must have one length"),
        (wide.drop(columns="recording"), "no column 'recording'"),
        (wide.iloc[:0], "has no rows"),
    ):
        change.astype({"x": "float32"}).to_parquet(path)
        with pytest.raises(DataError, match=problem):
            list(read_rows(path).blocks())
    (tmp_path / "b.csv").write_text("row_id,x\nA_20240501_235950,0.5\nB,0.5\n")
    with pytest.raises(DataError, match="not of the form"):
        read_rows(tmp_path / "b.csv")


def test_a_damaged_survey_is_refused(small):
    assert main(["survey", str(small / "scores.csv"), "--out", str(small / "out")]) == 0
    manifest = small / "out" / "survey.json"
    values = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**values, "schema": 7}))
    with pytest.raises(DataError, match="schema 7"):
        read_survey(small / "out")
    manifest.write_text(json.dumps({**values, "sites": 3}))
    with pytest.raises(DataError, match="sites must be a list"):
        read_survey(small / "out")
    manifest.write_text(json.dumps(values))
    (small / "out" / "daily.csv").unlink()
    with pytest.raises(DataError, match=r"daily\.csv: there is no such file"):
        read_survey(small / "out")


def test_settings():
    with pytest.raises(ConfigError, match="precision"):
        SurveySettings(precision=1.5)


@pytest.mark.parametrize("text", ["species\naves1\nNA\n", "site,species\nS0,aves1\nS0,NA\nS1,NA\nS1,b/c\n"])
def test_a_list_of_species_limits_detections(tmp_path, rng, capsys, text):
    """What it removes is counted: detections with the list and those that it removed are all detections."""
    scores = write_scores(tmp_path / "scores.csv", [("S0_20240501_050000", 30), ("S1_20240501_050000", 30)], rng)
    (tmp_path / "list.csv").write_text(text)
    words = ["survey", str(tmp_path / "scores.csv"), "--out", str(tmp_path / "out")]
    assert main([*words, "--species", str(tmp_path / "list.csv")]) == 0
    species = read_species(tmp_path / "list.csv", CLASSES)
    manifest, tables = read_survey(tmp_path / "out")
    for s, site in enumerate(("S0", "S1")):
        part = scores.iloc[30 * s : 30 * s + 30]
        counted = tables["daily"][tables["daily"]["site"] == site].set_index("class")["detections"]
        limits = tables["thresholds"][tables["thresholds"]["site"] == site].set_index("class")
        for name in CLASSES:
            permitted = name in species.classes_at(site, "")
            assert counted.get(name, 0) == (part[name] >= 0.5).sum() * permitted
            assert limits["threshold"].isna()[name] != permitted
            assert (limits["reason"][name] == f"not in {species.path}") != permitted
    n_all = int((scores >= 0.5).to_numpy().sum())
    assert sum(manifest["removed_detections"].values()) + manifest["n_detections"] == n_all
    assert f"{species.path} removed {n_all - manifest['n_detections']} detections" in capsys.readouterr().out
    section = survey_section(tmp_path / "out", ReportContext())
    assert section.items[0]["list of species"].startswith(f"{species.path}, which removed")


def test_a_list_of_species_that_cannot_be_used(tmp_path, rng, capsys):
    write_scores(tmp_path / "scores.csv", [("S0_20240501_050000", 3), ("S1_20240501_050000", 3)], rng)
    (tmp_path / "list.csv").write_text("site,species\nS0,aves1\n")
    words = ["survey", str(tmp_path / "scores.csv"), "--out", str(tmp_path / "out")]
    assert main([*words, "--species", str(tmp_path / "list.csv")]) == 2
    assert "S1_20240501_050000: its site is 'S1', and the sites of" in capsys.readouterr().err
    assert main([*words, "--taxonomy", str(tmp_path / "list.csv")]) == 2
    assert "add --species, or leave it out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("named", ["", "scores.parquet", "submission.csv"])
def test_a_survey_of_a_prediction_has_its_list_of_species(tiny, recordings, tmp_path, capsys, named):
    """Detections that predict removed do not come back, nor recordings that it could not read."""
    for number in range(2):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copy(recordings / "odd.wav", tmp_path / "in" / f"S1_2024050{number + 1}_050000.wav")
    (tmp_path / "in" / "S1_20240503_050000.wav").write_bytes(b"RIFF")
    kept = tiny.contract.classes[0]
    (tmp_path / "list.txt").write_text(kept)
    scores, limit = str(tmp_path / "scores"), ["--threshold", "0.001"]
    words = ["predict", str(tiny.path), "--recordings", str(tmp_path / "in"), "--out", scores, *limit]
    words += ["--format", "scores", "submission", "csv", "--species", str(tmp_path / "list.txt")]
    assert main(words) == 3
    assert main(["survey", f"{scores}/{named}", "--out", str(tmp_path / "out"), *limit]) == 0
    manifest, tables = read_survey(tmp_path / "out")
    assert set(tables["species"]["class"]) == {kept}
    assert set(manifest["removed_detections"]) == set(tiny.contract.classes) - {kept}
    assert tables["deployments"]["recording"].str.contains("20240503").sum() == 0
    printed = capsys.readouterr().out
    assert "removed" in printed
    assert "it was not scored" in printed


def test_a_reviewed_recording_is_found_by_the_end_of_its_path():
    """Its name has a folder because of a recording of its name that could not be scored."""
    lines = {"recording": ["a/0001", "b/0002.wav"], "class": "owl", "probability": 1.0}
    names = {"data/a/0001.wav": 0, "0001": 0, "data/x/b/0002.wav": 1, "0002": 1}
    located = locate(Reviewed(pd.DataFrame(lines)), names, ("owl",))
    assert located["recording"].tolist() == [0, 1]
    with pytest.raises(DataError, match="the reviewed recording 'a/0001' is not in the scores"):
        locate(Reviewed(pd.DataFrame(lines)), {"x/a/0001.wav": 0, "y/a/0001.wav": 1, "b/0002": 2}, ("owl",))


def test_strata_of_a_review_without_an_answer_are_named(tmp_path, caplog):
    lines = pd.DataFrame(
        {
            "recording": ["r", "r"],
            "start_s": [0, 5],
            "class": "owl",
            "score": 0.5,
            "stratum": ["low", "high"],
            "probability": 0.5,
            "answer": ["", "yes"],
        }
    )
    lines.to_csv(tmp_path / "answers.csv", index=False)
    assert len(read_reviews([tmp_path / "answers.csv"]).table) == 1
    assert "1 of 2 strata (low) have no clear answer: the estimates leave out 50% of the rows" in caplog.text
