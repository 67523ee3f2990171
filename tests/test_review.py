"""Review by people: the choice of rows, the page, the answers, and estimates from them."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import start_browser

from bcsed.audio.headers import read_info
from bcsed.cli.app import main
from bcsed.config.contract import TINY_128
from bcsed.config.recipe import Data
from bcsed.data.annotations import read_annotations
from bcsed.data.competitions import FOLDERS
from bcsed.data.label_files import multi_hot, read_soundscape_labels, truth_table
from bcsed.errors import ConfigError, DataError
from bcsed.scores import review
from bcsed.scores.calibration import read_thresholds
from bcsed.scores.review import choose
from bcsed.scores.review.choose import _inclusion
from bcsed.scores.table import make_table, row_ids
from bcsed.train.dataset.excerpts import ExcerptSampler
from bcsed.train.soundscapes import read_labelled_rows, split_soundscapes

CLASSES = ("rook1", "024", "owl")


def world(seed: int, n_recordings: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of rows at three sites, and the truth, which the scores predict with an error of each class."""
    rng = np.random.default_rng(seed)
    names = [f"S{k % 3}_20250101_{k % 24:02d}00{k // 24:02d}" for k in range(n_recordings)]
    ids = [name for stem in names for name in row_ids(stem, 12, 5)]
    logits = rng.normal(-3, 2, (len(ids), len(CLASSES)))
    truth = rng.random(logits.shape) < 1 / (1 + np.exp(-(logits * rng.uniform(0.7, 1.2, 3) + rng.uniform(-1, 0.5, 3))))
    scores = make_table(ids, CLASSES, (1 / (1 + np.exp(-logits))).astype(np.float32))
    return scores, pd.DataFrame(truth, index=scores.index, columns=scores.columns)


def answer(chosen: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Let the known truth answer."""
    pairs = zip(chosen["row_id"], chosen["class"], strict=True)
    return chosen.assign(answer=["yes" if truth.at[pair] else "no" for pair in pairs], other="")


class TestChoice:
    @pytest.mark.parametrize("by", review.WAYS)
    @pytest.mark.slow
    def test_every_candidate_can_be_chosen_and_the_probabilities_are_right(self, by):
        """The mean over many choices of the number of times that a candidate is chosen is its probability."""
        scores, _ = world(1, 6)
        counts = pd.Series(0.0, index=pd.MultiIndex.from_product([scores.index, CLASSES]))
        weights = counts.copy()
        n = 60
        for seed in range(n):
            chosen = review.choose_rows(scores, budget=30, by=by, seed=seed)
            assert len(chosen) == 30 and not chosen[["row_id", "class"]].duplicated().any()
            pairs = pd.MultiIndex.from_arrays([chosen["row_id"], chosen["class"]])
            counts[pairs] += 1
            weights[pairs] = chosen["probability"].to_numpy()
            assert chosen["probability"].between(0, 1, inclusive="right").all()
        # The weight of a chosen candidate estimates 1 for each candidate, and the number of all of them.
        likely = weights > 0.05
        error = (counts / n - weights)[likely] / np.sqrt(weights * (1.001 - weights) / n)[likely]
        assert error.abs().mean() < 1.1
        assert abs(float((counts[likely] - n * weights[likely]).sum() / counts.sum())) < 0.05

    def test_columns(self):
        scores, _ = world(1)
        chosen = review.choose_rows(scores, budget=50, by="bands", classes=["owl", "024"], seed=3)
        assert tuple(chosen.columns) == review.COLUMNS
        assert list(chosen["item"]) == list(range(1, 51))
        assert set(chosen["class"]) == {"owl", "024"}
        assert (chosen["end_s"] - chosen["start_s"] == 5).all()
        assert [f"{r}_{e}" for r, e in zip(chosen["recording"], chosen["end_s"], strict=True)] == list(chosen["row_id"])
        assert all(
            scores.at[r, c] == s for r, c, s in zip(chosen["row_id"], chosen["class"], chosen["score"], strict=True)
        )
        again = review.choose_rows(scores, budget=50, by="bands", classes=["owl", "024"], seed=3)
        pd.testing.assert_frame_equal(chosen, again)
        assert not chosen.equals(review.choose_rows(scores, budget=50, by="bands", classes=["owl", "024"], seed=4))

    def test_what_each_rule_prefers(self):
        scores, _ = world(2)
        by = {name: review.choose_rows(scores, budget=90, by=name) for name in review.WAYS}
        distance = {name: float((chosen["score"] - 0.5).abs().mean()) for name, chosen in by.items()}
        assert distance["uncertain"] < distance["random"] - 0.1
        for name in CLASSES:
            top = by["top"][(by["top"]["class"] == name) & (by["top"]["probability"] == 1)]
            assert set(scores[name].nlargest(15)) <= set(top["score"].astype(np.float32))
        assert set(by["site"]["stratum"]) == {"site S0", "site S1", "site S2"}
        assert by["site"]["stratum"].value_counts().max() == 30
        assert set(by["hour"]["stratum"]) == {f"hour {k:02d}" for k in range(24)}
        hours = by["hour"]["recording"].str.extract(r"_(\d\d)\d{4}$")[0]
        assert ("hour " + hours == by["hour"]["stratum"]).all()
        bands = by["bands"].groupby("stratum")["score"].agg(["min", "max", "size"])
        assert set(bands["size"]) == {5}
        for name in CLASSES:
            assert bands.at[f"{name} band 1 of 6", "max"] < bands.at[f"{name} band 6 of 6", "min"]

    @pytest.mark.parametrize("by", review.WAYS)
    def test_what_was_answered_is_not_chosen_again(self, by):
        """Reviews that leave out each other's answers choose every candidate once; of the rest, the rules are kept."""
        scores, truth = world(4, 24)
        rounds: list[pd.DataFrame] = []
        for _ in range(4):
            earlier = review.match_answers(pd.concat(rounds), scores, CLASSES) if rounds else None
            chosen = review.choose_rows(scores, budget=216, by=by, seed=1, answered=earlier)
            rounds.append(answer(chosen, truth))
        pairs = pd.concat(rounds)[["row_id", "class"]]
        assert len(pairs) == scores.size and not pairs.duplicated().any()
        assert np.allclose(rounds[-1]["probability"], 1)
        if by == "top":
            for name in CLASSES:
                left = scores[name].drop(rounds[0]["row_id"][rounds[0]["class"] == name])
                top = rounds[1][rounds[1]["stratum"] == f"{name} top"]
                assert sorted(top["score"].astype(np.float32)) == sorted(left.nlargest(36))
        everything = review.match_answers(pd.concat(rounds), scores, CLASSES)
        with pytest.raises(ConfigError, match=r"must be 2 to 0, .* without the answered ones"):
            review.choose_rows(scores, budget=2, by=by, answered=everything)

    def test_answers_that_do_not_belong_to_the_scores(self):
        scores, truth = world(5, 1)
        answers = answer(review.choose_rows(scores, budget=20, by="random"), truth)
        later = scores.rename(lambda row: row.replace("2025", "2026", 1))
        with pytest.raises(DataError, match="none of the 20 answers is of a row and a class of the scores"):
            review.match_answers(answers, later, CLASSES)
        both = pd.concat([scores * 0.5, later])
        matching = review.match_answers(answers, both, ["owl"])
        assert set(matching["class"]) == {"owl"} and set(matching["probability"]) == {1}
        assert np.allclose(matching["score"], answers["score"][answers["class"] == "owl"] / 2)
        with pytest.raises(DataError, match=r"begins at \d*5 s; rows have 10 s now"):
            review.match_answers(answers, scores[scores.index.str.endswith("0")], CLASSES)

    def test_two_reviews_together_estimate_the_precision_of_all_rows(self, tmp_path):
        """Answers of `top` are those of the best rows; the second review alone would state a far lower precision."""
        scores, truth = world(6, 40)
        scores, truth = scores[["owl"]], truth[["owl"]]
        rng = np.random.default_rng(0)
        detected = scores["owl"] >= 0.1
        expected = float(truth["owl"][detected].mean())
        estimates, alone, n_detected = [], [], []
        for seed in range(40):
            first = answer(review.choose_rows(scores, budget=120, by="top", seed=seed), truth)
            # Another network scores the rows that are reviewed next.
            new = (scores * 0.9 + 0.1 * rng.random(scores.shape)).astype(np.float32)
            new[:] = np.where(detected.to_numpy()[:, None], new.clip(lower=0.1), new.clip(upper=0.09))
            earlier = review.match_answers(first, new, ["owl"])
            second = review.choose_rows(new, budget=60, by="random", seed=seed, answered=earlier)
            folder = tmp_path / str(seed)
            folder.mkdir()
            review.write_review(second, folder, new, earlier)
            answers = {
                str(item): {"answer": "yes" if truth.at[row, "owl"] else "no"}
                for item, row in zip(second["item"], second["row_id"], strict=True)
            }
            page = {"schema": 1, "review": review.review_id(review.read_review(folder)), "answers": answers}
            (folder / "answers.json").write_text(json.dumps(page))
            together = review.read_answers(folder)
            for lines, shares in ((together, estimates), (together[together["stratum"] != "answered"], alone)):
                curve = review.estimate_precision(lines)
                line = curve[curve["threshold"] >= 0.1].iloc[-1]
                shares.append(line["precision"])
            n_detected.append(review.estimate_precision(together).query("threshold >= 0.1")["n_detected"].iloc[-1])
            labels = review.to_labels(together, new.loc[list(together["row_id"].unique())])
            assert len(labels) == 180
        assert np.mean(estimates) == pytest.approx(expected, abs=0.02)
        assert np.mean(alone) < expected - 0.1
        assert np.mean(n_detected) == pytest.approx(detected.sum(), rel=0.05)

    def test_certain_candidates(self):
        assert np.allclose(_inclusion(np.array([100.0, 1, 1, 2]), 2), [1, 0.25, 0.25, 0.5])
        assert np.allclose(_inclusion(np.ones(3), 3), 1)

    @pytest.mark.parametrize(
        ("options", "error", "words"),
        [
            ({"budget": 1}, ConfigError, "got 1"),
            ({"budget": 10**6}, ConfigError, "2160"),
            ({"budget": 20, "by": "hour"}, ConfigError, "24 strata, which need at least 48"),
            ({"budget": 20, "by": "best"}, ConfigError, "'best'"),
            ({"budget": 20, "classes": ["wren"]}, ConfigError, "'wren'"),
        ],
    )
    def test_refusals(self, options, error, words):
        with pytest.raises(error, match=re.escape(words)):
            review.choose_rows(world(1)[0], **options)

    def test_row_ids_that_are_not_rows(self):
        table = make_table(["a", "b"], CLASSES, np.full((2, 3), 0.5, np.float32))
        with pytest.raises(DataError, match="'a' does not end with its end second"):
            review.choose_rows(table, budget=2)
        table.index = pd.Index(["a_5", "b_5"], name="row_id")
        with pytest.raises(DataError, match="no recording's name has its time"):
            review.choose_rows(table, budget=4, by="hour")


class TestEstimates:
    def test_a_review_of_everything_is_exact(self):
        scores, truth = world(3, 2)
        lines = answer(review.choose_rows(scores, budget=scores.size, by="random"), truth)
        curve = review.estimate_precision(lines).set_index(["class", "threshold"])
        for name in CLASSES:
            threshold = float(np.sort(scores[name])[10])
            line = curve.loc[(name, threshold)]
            expected = truth[name][scores[name] >= threshold].mean()
            assert line[["precision", "low", "high"]].to_numpy() == pytest.approx([expected] * 3, abs=1e-5)
            assert line["n_detected"] == pytest.approx((scores[name] >= threshold).sum())

    def test_answers_that_are_missing_do_not_shift_the_estimate(self):
        """An unsure and an unanswered line are represented by the answered ones of their stratum."""
        lines = pd.DataFrame({"stratum": ["a", "a", "a", "b"], "probability": [0.1, 0.1, 0.1, 1.0]})
        lines["answer"] = ["yes", "unsure", "", "no"]
        clear = review.weigh(lines)
        assert list(1 / clear["probability"]) == pytest.approx([30, 1])
        share, low, high = review.estimate_share(
            clear["positive"].to_numpy(bool),
            clear["probability"].to_numpy(float),
            clear["stratum"].to_numpy(object),
            np.ones(2, bool),
        )
        assert share == pytest.approx(30 / 31)
        assert low < share < high

    @pytest.mark.parametrize("by", ["uncertain", pytest.param("bands", marks=pytest.mark.slow)])
    def test_intervals_cover_quickly(self, by):
        assert 0.8 <= self.coverage(by, 25, budget=120) <= 1.0

    @pytest.mark.slow
    @pytest.mark.parametrize("by", review.WAYS)
    def test_intervals_cover_the_truth_as_often_as_stated(self, by):
        """90 % intervals cover the truth in 85 to 95 % of 200 simulations."""
        assert 0.85 <= self.coverage(by, 200, budget=120) <= 0.95

    @staticmethod
    def coverage(by: str, n: int, budget: int) -> float:
        """Return the share of intervals that contain the true precision, at several thresholds of each class."""
        covered = []
        for seed in range(n):
            scores, truth = world(seed)
            clear = review.weigh(answer(review.choose_rows(scores, budget=budget, by=by, seed=seed), truth))
            score, name = clear["score"].to_numpy(), clear["class"].to_numpy()
            columns = (clear[key].to_numpy(kind) for key, kind in (("positive", bool), ("probability", float)))
            arrays = (*columns, clear["stratum"].to_numpy(object))
            for label in CLASSES:
                for least in (0.0, 0.1, 0.3, 0.5):
                    threshold = score[(name == label) & (score >= least)].min(initial=2)
                    inside = (name == label) & (score >= threshold)
                    if inside.sum() >= 5:
                        true = truth[label][scores[label].to_numpy(np.float64) >= threshold].mean()
                        _, low, high = review.estimate_share(*arrays, inside)
                        covered.append(low - 1e-9 <= true <= high + 1e-9)
        return float(np.mean(covered))

    def test_thresholds_are_those_that_predict_reads(self, tmp_path):
        scores, truth = world(4)
        lines = answer(review.choose_rows(scores, budget=600, by="bands"), truth)
        curve = review.estimate_precision(lines)
        table = review.find_thresholds(lines, curve, precision=0.7, min_positives=3)
        review.write_thresholds(table, tmp_path / "thresholds.json", precision=0.7, min_positives=3)
        thresholds = read_thresholds(tmp_path / "thresholds.json", CLASSES)
        assert thresholds
        for name, threshold in thresholds.items():
            mine = curve[curve["class"] == name]
            assert mine[mine["threshold"] == threshold]["precision"].item() >= 0.7
            lower = mine[(mine["threshold"] < threshold) & (mine["n_positive"] >= 3)]
            assert (lower["precision"] < 0.7).all()
        without = json.loads((tmp_path / "thresholds.json").read_text())["without"]
        assert set(without) | set(thresholds) == set(CLASSES)
        none = review.find_thresholds(lines, curve, precision=1, min_positives=500)
        assert none["threshold"].isna().all() and none["reason"].str.contains("500 needed").all()
        with pytest.raises(ConfigError, match="got 2 and 3"):
            review.find_thresholds(lines, curve, precision=2, min_positives=3)


# ---- the folder ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Two recordings, the second of which ends within its last row, and their scores."""
    folder = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    tables = []
    for name, seconds in (("S1_20250101_060000", 10.0), ("S2_20250101_070000", 7.3)):
        wave = 0.1 * rng.standard_normal(round(seconds * 16_000))
        soundfile.write(folder / f"{name}.wav", wave.astype("float32"), 16_000)
        tables.append(make_table(row_ids(name, 2, 5), CLASSES, rng.random((2, 3)).astype(np.float32)))
    pd.concat(tables).to_csv(folder / "scores.csv")
    return folder


@pytest.fixture(scope="module")
def folder(sounds, tmp_path_factory):
    """The review of six of the twelve candidates."""
    out = tmp_path_factory.mktemp("review") / "review"
    options = ["--recordings", str(sounds), "--budget", "6", "--by", "random", "--out", str(out)]
    assert main(["review", str(sounds / "scores.csv"), *options]) == 0
    return out


def write_answers(folder, path, answers: dict[int, dict[str, str]]):
    values = {"schema": 1, "review": review.review_id(review.read_review(folder)), "answers": answers}
    path.write_text(json.dumps(values))
    return path


ANSWERED = {1: {"answer": "yes"}, 2: {"answer": "no"}, 3: {"answer": "other", "other": "wren"}, 4: {"answer": "unsure"}}


class TestFolder:
    def test_content(self, folder, sounds):
        chosen = review.read_review(folder)
        assert tuple(chosen.columns) == review.COLUMNS and len(chosen) == 6
        assert set(chosen["recording"]) <= {"S1_20250101_060000.wav", "S2_20250101_070000.wav"}
        assert (chosen["probability"] == 0.5).all()
        page = (folder / "review.html").read_text()
        assert page.count("<section") == page.count("<audio") == 6
        assert "http" not in re.sub(r"http-equiv|http://www.w3.org/\S+", "", page)
        for line in chosen.to_dict("records"):
            wave, rate = soundfile.read(folder / "snippets" / f"{line['item']:04d}.flac")
            end_s = 7.3 if line["recording"].startswith("S2") else 10.0
            first, last = max(0, line["start_s"] - 2), min(end_s, line["end_s"] + 2)
            whole, _ = soundfile.read(sounds / line["recording"])
            assert len(wave) == round((last - first) * rate)
            assert np.allclose(wave, whole[round(first * rate) : round(last * rate)], atol=1e-4)

    def test_answers_of_the_page(self, folder, tmp_path):
        path = write_answers(folder, tmp_path / "answers.json", ANSWERED)
        answers = review.read_answers(folder, [path])
        assert list(answers["answer"]) == ["yes", "no", "other", "unsure", "", ""]
        assert list(answers["other"]) == ["", "", "wren", "", "", ""]

    def test_answers_in_tables_are_those_of_the_page(self, folder, tmp_path):
        """The same answers, written into the combined table of Raven, and into the labels of Audacity."""
        path = write_answers(folder, tmp_path / "answers.json", ANSWERED)
        chosen, expected = review.read_review(folder), review.read_answers(folder, [path])
        raven, audacity = (shutil.copytree(folder / "snippets", tmp_path / name) for name in ("raven", "audacity"))
        combined = raven / "bcsed.selections.txt"
        assert list(read_annotations(combined)["label"]) == [f"{name}?" for name in chosen["class"]]
        words = {1: chosen["class"][0], 2: "no", 3: "wren", 4: "?"}
        lines = combined.read_text().splitlines()
        for number, word in words.items():
            cells = lines[number].split("\t")
            cells[-2] = word
            lines[number] = "\t".join(cells)
            labels = audacity / f"{number:04d}.bcsed.data.labels.txt"
            assert read_annotations(labels)["label"].item() == f"{chosen['class'][number - 1]}?"
            labels.write_text(re.sub(r"\t[^\t]*;", f"\t{word};", labels.read_text()))
        combined.write_text("\n".join(lines) + "\n")
        for item in audacity.glob("*.selections.txt"):
            item.unlink()
        for tables in (combined, raven, audacity):
            pd.testing.assert_frame_equal(review.read_answers(folder, [tables]), expected)
        pd.testing.assert_frame_equal(review.read_answers(folder, [combined, path]), expected)

    def test_labels_and_events(self):
        lines = [("x.wav", 0, 5, "a", "yes", ""), ("x.wav", 0, 5, "b", "no", ""), ("x.wav", 5, 10, "a", "unsure", "")]
        lines += [
            ("x.wav", 10, 15, "a", "other", "c"),
            ("y.wav", 0, 5, "a", "other", "fox"),
            ("y.wav", 5, 10, "b", "", ""),
        ]
        answers = pd.DataFrame(lines, columns=["recording", "start_s", "end_s", "class", "answer", "other"])
        answers["row_id"] = [f"{line[0][0]}_{line[2]}" for line in lines]
        ids = list(answers["row_id"].unique())
        scores = make_table(ids, ("a", "b", "c"), np.array([[0.9, 0.5, 0.1]] * len(ids), np.float32))
        labels = review.to_labels(answers, scores)
        expected = [("x.wav", 0, 5, "a", "a;b"), ("x.wav", 10, 15, "c", "a;c"), ("y.wav", 0, 5, "", "a")]
        assert list(labels.itertuples(index=False, name=None)) == expected
        more = review.to_labels(answers, scores, absent_below=0.6)
        assert list(more["primary_label"]) == list(labels["primary_label"])
        assert list(more["known"]) == ["a;b;c", "a;b;c", "a;b;c"]
        events = review.to_events(answers)
        calls = [("x.wav", 0, 5, "a"), ("x.wav", 10, 15, "c"), ("y.wav", 0, 5, "fox")]
        assert list(events.itertuples(index=False, name=None)) == calls
        contradiction = pd.concat([answers, answers[:1].assign(answer="no")])
        with pytest.raises(DataError, match=r"'a' is answered as present and as absent in x\.wav, 0 to 5 s"):
            review.to_labels(contradiction, scores)

    def test_the_command_reads_and_estimates(self, folder, sounds, tmp_path, capsys):
        path = write_answers(folder, tmp_path / "answers.json", ANSWERED)
        out = tmp_path / "labels.csv"
        call = ["review", "read", str(folder), str(path), "--out", str(out), "--thresholds", str(tmp_path / "t.json")]
        assert main([*call, "--min-positives", "1", "--precision", "0.5"]) == 0
        assert "1 yes, 1 no, 1 other, 1 unsure, 2 unanswered" in capsys.readouterr().out
        chosen = review.read_review(folder)
        labels = read_soundscape_labels(out, CLASSES)
        assert set().union(*labels["labels"]) == {chosen["class"][0]}
        table = pd.read_csv(tmp_path / "labels_answers.csv", dtype=str, keep_default_na=False)
        assert list(table.columns) == [*review.COLUMNS, "answer", "other"]
        assert list(pd.read_csv(tmp_path / "labels_events.csv")["label"].sort_values()) == sorted(
            [chosen["class"][0], "wren"]
        )
        assert set(read_thresholds(tmp_path / "t.json")) <= set(CLASSES)
        assert main([*call, "--min-positives", "1", "--precision", "0.5"]) == 0
        assert "1 species that were named (wren) are not classes of the review" in capsys.readouterr().out
        for suffix in ("", "_answers", "_events", "_precision"):
            same = tmp_path / f"new{suffix}.csv"
            assert main([*call[:-4], "--out", str(tmp_path / "new.csv"), "--thresholds", str(same)]) == 2
            assert f"{same} is one of the tables that are written" in capsys.readouterr().err
            assert not list(tmp_path.glob("new*"))
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert main([*call, "--min-positives", "1", "--precision", "0.5"]) == 0
        again = tmp_path / "again"
        words = [str(sounds / "scores.csv"), "--recordings", str(sounds), "--by", "random", "--out", str(again)]
        assert main(["review", *words, "--budget", "5", "--answered", str(tmp_path / "labels_answers.csv")]) == 0
        assert "4 of 4 earlier answers are of these rows and classes" in capsys.readouterr().out
        before = set(zip(chosen["row_id"][:4], chosen["class"][:4], strict=True))
        drawn = review.read_review(again)
        assert not before & set(zip(drawn["row_id"], drawn["class"], strict=True))
        page = write_answers(again, again / "answers.json", {1: {"answer": "no"}})
        assert main(["review", "read", str(again), str(page), "--out", str(tmp_path / "both.csv")]) == 0
        assert "1 yes, 2 no, 1 other, 1 unsure, 4 unanswered" in capsys.readouterr().out
        table = pd.read_csv(tmp_path / "both_answers.csv", dtype=str, keep_default_na=False)
        assert set(zip(table["row_id"][5:], table["class"][5:], strict=True)) == before
        assert table["item"].is_unique
        (tmp_path / "labels_events.csv").write_text("mine")
        assert main(call) == 2

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "not readable as JSON"),
            ("[]", "JSON object"),
            ('{"schema": 1, "review": "x", "answers": {}}', "another review"),
            ('{"schema": 9, "review": "x", "answers": {}}', "schema 9"),
            (
                '{"schema": 1, "review": "ID", "answers": {"7": {"answer": "yes"}}}',
                "item '7', which is not in the review",
            ),
            (
                '{"schema": 1, "review": "ID", "answers": {"1": {"answer": "yes"}, "1": {"answer": "no"}}}',
                "'1' occurs twice",
            ),
            ('{"schema": 1, "review": "ID", "answers": {"1": {"answer": "maybe"}}}', "maybe"),
            ('{"schema": 1, "review": "ID", "answers": {"1": 3}}', "answer 3"),
            ('{"schema": 1, "review": "ID", "answers": {}}', "no item"),
        ],
    )
    def test_bad_answers(self, folder, tmp_path, text, words):
        path = tmp_path / "answers.json"
        path.write_text(text.replace("ID", review.review_id(review.read_review(folder))))
        with pytest.raises(DataError, match=words):
            review.read_answers(folder, [path])

    def test_contradicting_files_and_labels_without_text(self, folder, tmp_path):
        first = write_answers(folder, tmp_path / "a.json", {1: {"answer": "yes"}})
        second = write_answers(folder, tmp_path / "b.json", {1: {"answer": "no"}})
        with pytest.raises(DataError, match="item 1 is answered 'no', and 'yes' before"):
            review.read_answers(folder, [first, second])
        labels = tmp_path / "0001.bcsed.data.labels.txt"
        labels.write_text("0.0\t5.0\t\n")
        with pytest.raises(DataError, match="label"):
            review.read_answers(folder, [labels])
        # An unanswered snippet of another review.
        labels.write_text("0.0\t5.0\tno such class?\n")
        with pytest.raises(DataError, match=r"'no such class\?' is no label of snippet 0001"):
            review.read_answers(folder, [labels])
        other = tmp_path / "0099.bcsed.data.labels.txt"
        other.write_text("0.0\t5.0\tno\n")
        with pytest.raises(DataError, match="'0099' is not a snippet"):
            review.read_answers(folder, [other])

    def test_a_recording_that_may_be_one_of_two_is_refused(self, sounds, tmp_path, capsys):
        """Scores of one folder, and another folder with a file of the same name beside it."""
        for name in ("a", "b"):
            shutil.copytree(sounds, tmp_path / name)
        words = ["review", str(tmp_path / "a" / "scores.csv"), "--budget", "4", "--by", "random"]
        assert main([*words, "--recordings", str(tmp_path), "--out", str(tmp_path / "new")]) == 2
        assert "0000.wav; name its own folder as --recordings" in capsys.readouterr().err
        assert not (tmp_path / "new").exists()
        assert main([*words, "--recordings", str(tmp_path / "a"), "--out", str(tmp_path / "new")]) == 0

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (["scores.csv", "--out", "FOLDER", "--recordings", "."], "is not empty"),
            (["scores.csv", "--out", "new"], "from --recordings PATH"),
            (["scores.csv", "--out", "new", "--recordings", "S1_20250101_060000.wav"], "1 of 2 recordings"),
            (["scores.csv", "--out", "new", "--recordings", ".", "--answered", "no.csv"], "no.csv"),
            (["read", "FOLDER", "--out", "new.csv", "--answered", "no.csv"], "--answered chooses rows"),
            (["read", "--out", "new.csv"], "name the folder of the review"),
            (["read", ".", "--out", "new.csv"], "is not a folder of `bcsed review`"),
            (["read", "FOLDER", "--out", "new.csv"], "answers.json: there is no such file"),
            (["read", "FOLDER", "--out", "new.csv", "--recordings", "."], "needs only the folder"),
        ],
    )
    def test_bad_calls(self, folder, sounds, call, words, monkeypatch, capsys):
        monkeypatch.chdir(sounds)
        budget = ["--budget", "10"] if call[0] == "scores.csv" else []
        assert main(["review", *[part.replace("FOLDER", str(folder)) for part in call], *budget]) == 2
        assert words in capsys.readouterr().err
        assert not (sounds / "new").exists() and not (sounds / "new.csv").exists()


# ---- the labels ----------------------------------------------------------------------------------------------

LABELS = """filename,start,end,primary_label,known
x.wav,0,5,,a
x.wav,5,10,,a;c
x.wav,10,15,b,a;b
"""


class TestKnownClasses:
    def test_labels_of_some_classes_are_read(self, tmp_path):
        (tmp_path / "labels.csv").write_text(LABELS)
        labels = read_soundscape_labels(tmp_path / "labels.csv", ("a", "b", "c"))
        assert list(labels["known"]) == [("a",), ("a", "c"), ("a", "b")]
        values = multi_hot(labels["labels"], ("a", "b", "c"), labels["known"])
        nan = np.nan
        np.testing.assert_array_equal(values, [[0, nan, nan], [0, nan, 0], [0, 1, nan]])
        with pytest.raises(DataError, match="only some classes are known"):
            truth_table(labels, ("a", "b", "c"))
        (tmp_path / "all.csv").write_text("filename,start,end,primary_label,known\nx.wav,0,5,a,b;a\n")
        assert truth_table(read_soundscape_labels(tmp_path / "all.csv", ("a", "b")), ("a", "b")).size == 2

    @pytest.mark.parametrize(("line", "words"), [("x.wav,0,5,b,a", "not in its column known"), ("x.wav,0,5,,d", "'d'")])
    def test_refusals(self, tmp_path, line, words):
        (tmp_path / "labels.csv").write_text(LABELS + line.replace("0,5", "15,20") + "\n")
        with pytest.raises(DataError, match=words):
            read_soundscape_labels(tmp_path / "labels.csv", ("a", "b", "c"))

    def test_partly_known_rows_train_and_do_not_validate(self, tmp_path):
        (tmp_path / "soundscapes").mkdir()
        soundfile.write(tmp_path / "soundscapes" / "x.wav", np.zeros(20 * 32_000, np.float32), 32_000)
        path, classes = tmp_path / "review.csv", ("a", "b", "c")
        path.write_text(LABELS)
        split = split_soundscapes(tmp_path, FOLDERS, classes, Data(soundscapes="train"), None, [path])
        assert list(split.train["known"]) == [("a",), ("a", "c"), ("a", "b")]
        assert not split.valid and not split.labelled
        assert not split_soundscapes(tmp_path, FOLDERS, classes, Data(soundscapes="validate"), None, [path]).valid
        more = tmp_path / "more.csv"
        more.write_text("filename,start,end,primary_label,known\nx.wav,0,5,b,b\n")
        joined = read_labelled_rows([path, more], tmp_path / "soundscapes", classes, 5)
        assert joined.loc[0, ["labels", "known"]].tolist() == [("b",), ("a", "b")]
        more.write_text("filename,start,end,primary_label,known\nx.wav,0,5,a,a\n")
        with pytest.raises(DataError, match="two files label"):
            read_labelled_rows([path, more], tmp_path / "soundscapes", classes, 5)

    def test_unknown_classes_are_no_negatives_in_training(self, tmp_path):
        """Of a window, a class is negative only if it is known in all but a second of it."""
        soundfile.write(tmp_path / "x.wav", np.zeros(20 * 32_000, np.float32), 32_000)
        (tmp_path / "labels.csv").write_text(LABELS)
        labels = read_soundscape_labels(tmp_path / "labels.csv", ("a", "b", "c"))
        values = multi_hot(labels["labels"], ("a", "b", "c"), labels["known"])
        rows = (np.zeros(3, np.int64), labels["start_s"].to_numpy(), labels["end_s"].to_numpy(), values)
        sampler = ExcerptSampler([read_info(tmp_path / "x.wav")], *rows, frontend=TINY_128, data=Data(), pseudo=False)
        targets, weights = sampler._labels(0, 0, 8 * 32_000)
        assert targets.tolist() == [0, 0, 0] and weights.tolist() == [1, 0, 0]
        targets, weights = sampler._labels(0, round(4.5 * 32_000), round(10.5 * 32_000))
        assert targets.tolist() == [0, 0, 0] and weights.tolist() == [1, 0, 1]
        targets, weights = sampler._labels(0, 8 * 32_000, 16 * 32_000)
        assert targets.tolist() == pytest.approx([0, Data().label_target, 0]) and weights.tolist() == [1, 1, 0]


# ---- in a browser --------------------------------------------------------------------------------------------


@pytest.fixture
def browse(tmp_path):
    """Return a function that starts a browser, always with the same profile."""
    started = []

    def start():
        downloads = {"download.default_directory": str(tmp_path)}
        started.append(start_browser(tmp_path / "profile", "--window-size=1100,900", prefs=downloads))
        return started[-1]

    yield start
    for browser in started:
        browser.quit()


@pytest.mark.slow
class TestBrowser:
    def test_a_review_by_keyboard_goes_on_after_the_browser_has_ended(self, browse, folder, tmp_path):
        from selenium.webdriver.common.keys import Keys
        from selenium.webdriver.support.ui import WebDriverWait

        def status() -> str:
            return browser.execute_script("return document.getElementById('count').textContent")

        def shown() -> int:
            return browser.execute_script(
                "return Number(document.querySelector('main section:not([hidden])').dataset.item)"
            )

        def press(*keys: str) -> None:
            browser.switch_to.active_element.send_keys(*keys)

        browser = browse()
        page = (folder / "review.html").as_uri()
        browser.get(page)
        assert (status(), shown()) == ("0 of 6 answered", 1)
        press("y")
        press("n")
        assert (status(), shown()) == ("2 of 6 answered", 3)
        press("o")
        press("yn wren", Keys.ENTER)
        assert (status(), shown()) == ("3 of 6 answered", 4)
        press("u")
        press(Keys.ARROW_RIGHT)
        assert shown() == 6
        press(Keys.ARROW_LEFT)
        assert shown() == 5
        WebDriverWait(browser, 20).until(
            lambda _: browser.execute_script("return document.querySelectorAll('audio')[4].currentTime > 0.2")
        )
        assert browser.get_log("browser") == []
        browser.quit()
        browser = browse()
        browser.get(page)
        assert (status(), shown()) == ("4 of 6 answered", 5)
        browser.find_element("id", "download").send_keys(Keys.ENTER)
        path = tmp_path / "answers.json"
        WebDriverWait(browser, 20).until(lambda _: path.exists())
        answers = review.read_answers(folder, [path])
        assert list(answers["answer"]) == ["yes", "no", "other", "unsure", "", ""]
        assert answers["other"][2] == "yn wren"
        browser.execute_script("localStorage.clear()")
        browser.get(page)
        assert status() == "0 of 6 answered"
        browser.find_element("id", "load").send_keys(str(path))
        WebDriverWait(browser, 20).until(lambda _: status() == "4 of 6 answered")
        other = tmp_path / "other.json"
        other.write_text(path.read_text().replace('"review": "', '"review": "x'))
        browser.find_element("id", "load").send_keys(str(other))
        message = "return document.getElementById('status').textContent"
        WebDriverWait(browser, 20).until(lambda _: "not contain answers" in browser.execute_script(message))

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_names_for_screen_readers_and_no_requests(self, browse, folder, scheme):
        browser = browse()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get((folder / "review.html").as_uri())
        nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        roles = ("button", "textbox", "combobox", "image", "progressbar", "region", "group", "Audio")
        named = [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]
        ]
        mine = [(role, name) for role, name in named if role in roles]
        assert {"Yes", "No", "No, another species", "Unsure", "Next →"} <= {
            name for role, name in mine if role == "button"
        }
        assert any(role == "region" and name.endswith("?") for role, name in mine)
        assert all(name for role, name in mine if role not in ("group", "Audio"))
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        paper, ink = browser.execute_script(
            "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
        )
        light = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (paper, ink)]
        assert (light[0] > light[1] + 400) == (scheme == "light") and abs(light[0] - light[1]) > 400


def make_half_answered(seed: int) -> tuple[pd.DataFrame, int]:
    """Draw strata with probabilities in proportion to the score; half of the answers are missing at random."""
    rng = np.random.default_rng(seed)
    score = rng.random(600)
    positive = rng.random(600) < score
    lines = []
    for number, rows in enumerate(np.array_split(rng.permutation(600), 6)):
        p = np.minimum(1.0, 8 * score[rows] / score[rows].sum())
        drawn = rows[rng.random(len(rows)) < p]
        lines.append(
            pd.DataFrame(
                {"probability": p[np.isin(rows, drawn)], "stratum": str(number), "row": rows[np.isin(rows, drawn)]}
            )
        )
    table = pd.concat(lines, ignore_index=True)
    answers = np.where(positive[table["row"]], "yes", "no")
    return table.assign(answer=np.where(rng.random(len(table)) < 0.5, answers, "")), int(positive.sum())


def test_an_unfinished_review_states_the_number_of_calls_without_bias():
    """Lines with a high score have a high probability; those answered stand for all of their stratum."""
    errors = []
    for seed in range(300):
        table, truth = make_half_answered(seed)
        lines = review.weigh(table)
        answered = table[table["answer"] != ""]["stratum"].nunique()
        if answered == 6:
            errors.append(float((lines["positive"] / lines["probability"]).sum()) - truth)
    assert len(errors) > 200 and abs(np.mean(errors)) < 15


def test_strata_without_an_answer_are_named():
    table = pd.DataFrame(
        {"answer": ["yes", "", "", "no"], "stratum": ["a", "b", "b", "c"], "probability": [0.5, 0.25, 0.25, 1.0]}
    )
    sentence = review.describe_gaps(table)
    assert sentence.startswith("1 of 3 strata (b) have no clear answer: the estimates leave out 73% of the rows")
    assert review.describe_gaps(table[table["answer"] != ""]) == ""


def test_a_threshold_is_above_0():
    answers = pd.DataFrame(
        {"class": "a", "answer": ["yes"] * 3, "stratum": "s", "probability": 0.5, "score": [0.0, 0.4, 0.6]}
    )
    curve = pd.DataFrame(
        {"class": "a", "threshold": [0.6, 0.4, 0.0], "n_positive": [1, 2, 3], "precision": 1.0, "low": 0.5, "high": 1.0}
    )
    assert review.find_thresholds(answers, curve, precision=0.9, min_positives=2)["threshold"].tolist() == [0.4]


@pytest.mark.parametrize(
    ("stem", "site"),
    [
        ("north/20230420_060000", "north"),
        ("SM4_0+1_20160612_053000", "SM4"),
        ("SITE_20230420_074000T", "SITE"),
        ("tape", ""),
    ],
)
def test_sites_of_a_review_are_those_of_names_and_folders(stem, site):
    assert choose._site(stem) == (f"site {site}" if site else "unknown site")
