"""Event-based evaluation against a slow and obvious count."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import write_csv

from bcsed.cli import main
from bcsed.errors import ConfigError, DataError
from bcsed.scores import events as event_scores
from bcsed.scores.events import evaluate_events, read_frames, rows_of_table

try:
    event_scores._import_tool()
    installed = True
except ConfigError:
    installed = False
needs_tool = pytest.mark.skipif(not installed, reason="sed_scores_eval is not installed")

CLASSES = ("jay", "wren", "macro_average")
HEADER = ["recording", "start_s", "end_s", "label"]


def detections(rows: pd.DataFrame, name: str, threshold: float) -> list[tuple[float, float]]:
    """Runs of scores of at least the threshold."""
    runs, start = [], None
    for begin, score in zip(rows["start_s"], rows[name], strict=True):
        if score >= threshold and start is None:
            start = begin
        if score < threshold and start is not None:
            runs.append((start, begin))
            start = None
    return runs + ([(start, rows["end_s"].iloc[-1])] if start is not None else [])


def overlap(a, b) -> float:
    return max(0.0, min(a[1], b[1]) - max(a[0], b[0]))


def most_pairs(pairs: list[tuple[int, int]]) -> int:
    """The largest number of pairs without a common member, by trying all subsets of the smaller side."""
    first = sorted({a for a, _ in pairs})
    best = 0
    options = [[None, *(b for a, b in pairs if a == item)] for item in first]
    for choice in itertools.product(*options):
        used = [b for b in choice if b is not None]
        if len(used) == len(set(used)):
            best = max(best, len(used))
    return best


def count_collar(found, truth, collar) -> tuple[int, int]:
    pairs = [
        (k, j)
        for k, event in enumerate(truth)
        for j, each in enumerate(found)
        if abs(each[0] - event[0]) <= collar + 1e-9
        and abs(each[1] - event[1]) <= max(collar, 0.2 * (event[1] - event[0])) + 1e-9
    ]
    hits = most_pairs(pairs)
    return hits, len(found) - hits


def count_intersection(found, truth, dtc, gtc) -> tuple[int, int, list]:
    good = [each for each in found if sum(overlap(each, e) for e in truth) >= dtc * (each[1] - each[0]) - 1e-9]
    hits = sum(sum(overlap(each, e) for each in good) >= gtc * (e[1] - e[0]) - 1e-9 for e in truth)
    return hits, len(found) - len(good), [each for each in found if each not in good]


def f1(hits: int, false: int, n: int) -> float:
    return 2 * hits / (hits + false + n)


def slow_psds(tables, truth, present, dtc, gtc, *, cttc=None, alpha_ct=0.0) -> float:
    """The area under the mean minus the standard deviation of the staircases of the classes, up to 100 per hour."""
    hours = sum(rows["end_s"].max() for rows in tables.values()) / 3600
    curves = []
    for name in present:
        points = [(0.0, 0.0)]
        scores = np.unique(np.concatenate([rows[name] for rows in tables.values()]))
        for threshold in scores[::-1]:
            hits = false = n = 0
            crossed = dict.fromkeys([other for other in present if other != name], 0)
            for recording, rows in tables.items():
                mine = truth[recording].get(name, [])
                h, f, wrong = count_intersection(detections(rows, name, threshold), mine, dtc, gtc)
                hits, false, n = hits + h, false + f, n + len(mine)
                for other in crossed:
                    theirs = truth[recording].get(other, [])
                    crossed[other] += sum(
                        bool(cttc) and sum(overlap(w, e) for e in theirs) >= cttc * (w[1] - w[0]) - 1e-9 for w in wrong
                    )
            rate = false / hours
            if alpha_ct and crossed:
                per_hour = [
                    crossed[other] / (sum(e[1] - e[0] for t in truth.values() for e in t.get(other, [])) / 3600)
                    for other in crossed
                ]
                rate += alpha_ct * np.mean(per_hour)
            points.append((rate, hits / n))
        curves.append(points)
    edges = sorted({x for points in curves for x, _ in points if x < 100} | {100.0})
    area = 0.0
    for low, high in itertools.pairwise(edges):
        heights = [max(y for x, y in points if x <= low) for points in curves]
        area += (high - low) * max(0.0, np.mean(heights) - np.std(heights))
    return area / 100


def random_case(seed: int, folder):
    """Random scores of three recordings, the last without events, and the events as a table and by class."""
    rng = np.random.default_rng(seed)
    lines, tables, truth, events = [], {}, {}, []
    n_classes = 1 + seed % 3
    for number, name in enumerate(("r_1", "r_2", "quiet")):
        n, truth[name] = int(rng.integers(6, 12)), {}
        values = rng.random((n, len(CLASSES))).round(1)
        rows = pd.DataFrame({"recording": name, "start_s": 5.0 * np.arange(n), "end_s": 5.0 * np.arange(1, n + 1)})
        tables[name] = pd.concat([rows, pd.DataFrame(values, columns=CLASSES)], axis=1)
        lines.append(tables[name])
        for label in CLASSES[: n_classes if number < 2 else 0]:
            edges = np.sort(rng.choice(np.arange(1, 10 * n) / 2, 2 * int(rng.integers(1, 3)), replace=False))
            truth[name][label] = [tuple(pair) for pair in edges.reshape(-1, 2)]
            events += [(name, *pair, label) for pair in truth[name][label]]
    write_csv(folder / "events.csv", HEADER, [list(event) for event in events])
    return pd.concat(lines, ignore_index=True).sample(frac=1, random_state=seed), tables, truth, n_classes


@needs_tool
@pytest.mark.parametrize("seed", range(12))
def test_figures_are_those_of_a_slow_count(tmp_path, seed):
    table, tables, truth, n_classes = random_case(seed, tmp_path)
    collar = (None, 2.0)[seed % 2]
    values = evaluate_events(table, [tmp_path / "events.csv"], threshold=0.6, collar_s=collar)
    present = list(CLASSES[:n_classes])
    assert list(values.per_class["class"]) == present
    assert (values.n_recordings, values.n_classes, values.collar_s) == (3, 3, collar or 5.0)
    for line in values.per_class.itertuples():
        name, by_threshold = line[1], {"collar": [], "intersection": []}
        for threshold in (0.6, *np.unique(table[name])):
            counts = np.zeros((2, 3), int)
            for recording, rows in tables.items():
                found, events = detections(rows, name, threshold), truth[recording].get(name, [])
                counts[0] += (*count_collar(found, events, collar or 5.0), len(events))
                counts[1] += (*count_intersection(found, events, 0.5, 0.5)[:2], len(events))
            for kind, count in zip(by_threshold, counts, strict=True):
                by_threshold[kind].append(f1(*count))
        for kind, scores in by_threshold.items():
            assert getattr(line, f"{kind}_f1") == pytest.approx(scores[0])
            assert getattr(line, f"best_{kind}_f1") == pytest.approx(max(scores))
    assert values.psds["psds1"] == pytest.approx(slow_psds(tables, truth, present, 0.7, 0.7))
    crossing = {"cttc": 0.3, "alpha_ct": 0.5} if n_classes > 1 else {}
    assert values.psds["psds2"] == pytest.approx(slow_psds(tables, truth, present, 0.1, 0.1, **crossing))


@needs_tool
def test_touching_events_are_one_and_order_does_not_matter(tmp_path):
    table, *_ = random_case(4, tmp_path)
    write_csv(tmp_path / "one.csv", HEADER, [["r_1", 2, 9, "jay"]])
    parts = [["r_1", 7, 9, "jay"], ["r_1", 2, 5, "jay"], ["r_1", 4, 7, "jay"]]
    write_csv(tmp_path / "parts.csv", HEADER, parts)
    both = [evaluate_events(table, [tmp_path / name]) for name in ("one.csv", "parts.csv")]
    pd.testing.assert_frame_equal(both[0].per_class, both[1].per_class)
    assert both[0].per_class["events"].tolist() == [1]


@needs_tool
def test_recordings_without_events_are_negatives(tmp_path):
    table, *_ = random_case(4, tmp_path)
    paths = [tmp_path / "events.csv"]
    silent = table.assign(**{name: table[name].where(table["recording"] != "quiet", 0.0) for name in CLASSES})
    full, quiet = evaluate_events(table, paths), evaluate_events(silent, paths)
    assert quiet.macro("intersection_f1") > full.macro("intersection_f1")
    assert quiet.macro("collar_f1") > full.macro("collar_f1")
    assert quiet.psds["psds2"] >= full.psds["psds2"]


@needs_tool
def test_a_perfect_score_table(tmp_path, capsys):
    """Rows exactly at the events: all figures are 1; also by the command, from rows and from time steps."""
    table = pd.DataFrame(
        np.zeros((8, 2), np.float32),
        index=pd.Index([f"a_{5 * k}" for k in range(1, 9)], name="row_id"),
        columns=["jay", "wren"],
    )
    table.iloc[2:4, 0] = table.iloc[5, 1] = 0.9
    table.to_csv(tmp_path / "scores.csv")
    write_csv(tmp_path / "events.csv", HEADER, [["a.wav", 10, 20, "jay"], ["a", 25, 30, "wren"]])
    (tmp_path / "scores" / "frames").mkdir(parents=True)
    rows_of_table(table).to_parquet(tmp_path / "scores" / "frames" / "1.parquet")
    for scores, unit in (("scores.csv", "8 rows"), ("scores", "8 time steps"), ("scores/frames", "8 time steps")):
        command = ["evaluate", str(tmp_path / scores), "--events", str(tmp_path / "events.csv"), "--per-class"]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert "collar F1 1.0000" in out
        assert "intersection F1 1.0000" in out
        assert "PSDS1 1.0000, PSDS2 1.0000; 2 events of 2 of 2 classes" in out
        assert unit in out
        assert out.count("\n") == 4
    assert main(["evaluate", str(tmp_path / "scores.csv")]) == 2
    assert "--events" in capsys.readouterr().err


@needs_tool
def test_rows_and_tables_that_cannot_be_evaluated(tmp_path):
    table, *_ = random_case(1, tmp_path)
    paths = [tmp_path / "events.csv"]
    with pytest.raises(DataError, match="not consecutive at 5 s"):
        evaluate_events(table[(table["recording"] != "r_1") | (table["start_s"] != 5)], paths)
    with pytest.raises(ConfigError, match="threshold"):
        evaluate_events(table, paths, threshold=1.0)
    with pytest.raises(ConfigError, match="collar"):
        evaluate_events(table, paths, collar_s=0.0)
    for line, sentence in ((["r_1", 1, 2, "tit"], "'tit'"), (["r_9", 1, 2, "jay"], "r_9")):
        write_csv(tmp_path / "other.csv", HEADER, [line])
        with pytest.raises(DataError, match=sentence):
            evaluate_events(table, [tmp_path / "other.csv"])
    with pytest.raises(DataError, match="no end second"):
        rows_of_table(pd.DataFrame({"jay": [0.5]}, index=pd.Index(["a"], name="row_id")))
    with pytest.raises(DataError, match="--format frames"):
        read_frames(tmp_path)
    pd.DataFrame({"jay": [0.5]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="no column 'recording'"):
        read_frames(tmp_path)


def test_without_the_extra_the_command_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    with pytest.raises(ConfigError, match=r"pip install 'bcsed\[events\]'"):
        evaluate_events(random_case(1, tmp_path)[0], [tmp_path / "events.csv"])
