from __future__ import annotations

import base64
import io
import itertools
import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, start_browser, write_csv
from test_compare import make_run
from test_train import SMALL

from bcsed import plot, predict, train
from bcsed.audio.headers import read_info
from bcsed.audio.windows import count_rows
from bcsed.cli import main
from bcsed.cli.app import make_parser
from bcsed.errors import ConfigError, DataError
from bcsed.models.ensemble import from_bundles
from bcsed.predict.outputs import OutputOptions
from bcsed.report.api import report
from bcsed.report.excerpt import encode_ogg, excerpt_rows, score_excerpt, spectrogram_excerpt
from bcsed.report.page import Figure, Page, Section, Sound, Table, fit, render, svg, time_axis, with_prefix
from bcsed.report.recordings import Recording, ReportContext, Viewer, in_time, row_length
from bcsed.report.scores import _recordings, read_prediction
from bcsed.scores import postprocess
from bcsed.scores.checks.ids import split_row_id
from bcsed.scores.detections.taxonomy import ClassName
from bcsed.scores.evaluation import Evaluation
from bcsed.scores.events import evaluate_events, rows_of_table
from bcsed.scores.table import read_table
from bcsed.train import pseudolabels as pseudolabel

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "$\\frac$ & 'co'")
VOID = {"meta", "link", "input", "br", "img"}


class Parsed(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(html.decode())
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and data.strip():
            self.texts.setdefault(self._open[-1], []).append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def parse(path: Path) -> Parsed:
    return check(path.read_bytes())


def check(html: bytes) -> Parsed:
    """Check what every page must satisfy."""
    page = Parsed(html)
    assert page.all("html")[0]["lang"] == "en"
    for landmark in ("header", "nav", "main", "footer", "h1", "script", "style"):
        assert len(page.all(landmark)) == 1, landmark
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [str(attributes["id"]) for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert name not in attributes or attributes[name] in ids
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), (tag, value)
            assert value is None or not value.startswith("#") or value[1:] in ids
        assert not [name for name in attributes if name.startswith("on")]
    for figure in page.all("svg"):
        assert figure["role"] == "img"
        assert figure["aria-label"]
    assert len(page.all("figure")) == len(page.all("figcaption")) == len(page.all("svg"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy is not None and policy.startswith("default-src 'none'")
    return page


def evaluation_of(kind: str = "rows", classes: tuple[str, ...] = ("a", "b", "c")) -> Evaluation:
    rng = np.random.default_rng(3)
    files = [f"S{k:02}" for k in range(6) for _ in range(4)]
    truth = (rng.random((24, 3)) < 0.3).astype(np.uint8)
    truth[:3], truth[3:6] = np.eye(3, dtype=np.uint8), 0
    return Evaluation(
        kind=kind,
        ids=tuple(f"{name}_{5 * (k % 4 + 1)}" for k, name in enumerate(files)),
        files=tuple(files),
        classes=classes,
        truth=truth,
        scores=((truth + rng.random((24, 3))) / 2).astype(np.float32),
    )


@pytest.fixture(scope="module")
def run(year, tmp_path_factory):
    """A training of two epochs with data and weights."""
    return train.train(SMALL, year, tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def scores(tiny, recordings, tmp_path_factory):
    """The output folder of predict for an ensemble."""
    out = tmp_path_factory.mktemp("report") / "scores"
    output = OutputOptions(formats=("submission", "scores", "members"))
    predict.predict(from_bundles([tiny, tiny], [2, 1]), [recordings], out=out, output=output)
    return out


@pytest.fixture(scope="module")
def truth(scores, tmp_path_factory):
    """Labels of the predicted rows; every class occurs."""
    table = pd.read_csv(scores / "submission.csv", index_col="row_id")
    known = (np.arange(table.size).reshape(table.shape) % 4 == 0).astype(int)
    path = tmp_path_factory.mktemp("report") / "truth.csv"
    pd.DataFrame(known, table.index, table.columns).to_csv(path)
    return path


class TestPage:
    def test_cells_are_text_or_numbers(self):
        table = Table(caption="c", columns=("name", "x", "n"), rows=[("<b>", 0.12345, np.int64(3)), ("é", None, 4)])
        page = check(render(Page("t", "s", [Section("one", [table])])))
        assert page.texts["th"][:3] == ["name", "x", "n"]
        assert page.texts["td"] == ["0.123", "3", "4"]
        assert [cell.get("data-v") for cell in page.all("td")] == ["0.12345", "3.0", None, "4.0"]

    def test_empty_columns_are_left_out(self):
        table = Table(caption="c", columns=("a", "b", "c"), rows=[("x", None, 1), ("y", float("nan"), 2)])
        assert table.headings == [("a", False), ("c", True)]

    def test_a_long_table_is_cut_with_a_note(self):
        table = Table(caption="c", columns=("a",), rows=[(k,) for k in range(5000)])
        html = render(Page("t", "s", [Section("one", [table])]))
        assert b"The first 3000 of 5000 rows." in html
        assert len(Parsed(html).all("tr")) == 3001

    @pytest.mark.parametrize("name", HOSTILE)
    def test_everything_is_escaped(self, name):
        items = [
            name,
            {name: name},
            Table(caption=name, columns=(name, name), rows=[(name, name)]),
            Sound(uri="data:audio/ogg;base64,", caption=name, start_s=0),
        ]
        page = check(render(Page(name, name, [Section(name, items, [Section(name, recording=True)])], left_out=name)))
        assert not page.all("img")
        assert page.texts["h1"] == page.texts["caption"] == page.texts["dt"] == page.texts["h2"] == [name]

    def test_the_largest_items_are_left_out_first(self):
        def page() -> Page:
            sounds = [Sound(uri="x" * 4000, caption=f"sound {k}", start_s=0) for k in range(3)]
            parts = [Section(f"r{k}", [sounds[k]], recording=True) for k in range(3)]
            rows = [("y" * 20,)] * 400
            return Page("t", "s", [Section("one", [Table(caption="c", columns=("a",), rows=rows)], parts)])

        n_bytes = len(render(page()))
        assert b"left out" not in fit(page(), n_bytes)
        small = fit(page(), n_bytes - 3000)
        assert len(small) <= n_bytes - 3000
        assert b"1 of the sounds were left out" in small
        # The last sound is left out before the first.
        assert b"sound 1" in small and b"sound 2" not in small
        smaller = fit(page(), n_bytes - 13_000)
        assert b"3 of the sounds and 1 of the ends of tables were left out" in smaller
        with pytest.raises(DataError, match=r"the page would be 0\.0 MB, .* more than it may be; name fewer paths"):
            fit(page(), 3000)


class TestSvg:
    def test_colours_follow_the_page(self):
        ax = plot.class_auc_bars(pd.DataFrame({"class": ["a"], "n_positive": [1], "auc": [0.5]}), taxa={"a": "Aves"})
        text, width = svg(ax)
        assert text.startswith("<svg ") and "currentColor" in text and "var(--c0)" in text
        assert "#000000" not in text and "#1f77b4" not in text
        assert "<metadata>" not in text and not re.search(r"<svg [^>]*(width|height)=", text)
        assert width == round(96 * ax.figure.get_figwidth())
        assert "ROC-AUC per class" in text  # text stays text

    def test_images_are_webp(self):
        from bcsed.config.contract import TINY_128

        text, _ = svg(plot.spectrogram(np.random.default_rng(0).normal(size=(64, 300)).astype("f4"), TINY_128))
        assert "data:image/webp;base64," in text and "image/png" not in text

    def test_ids_are_unique_in_the_page(self):
        text, _ = svg(plot.loss(pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.0]})))
        prefixed = with_prefix(text, "p1-2", 'a "quoted" <alt>')
        ids = set(re.findall(r'\bid="([^"]+)"', prefixed))
        assert ids and all(name.startswith("p1-2-") for name in ids)
        assert set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", prefixed)) <= ids
        assert 'aria-label="a &quot;quoted&quot; &lt;alt&gt;"' in prefixed

    def test_time_axis(self):
        ax = plot.detections(pd.DataFrame(columns=["start_s", "end_s", "label", "score"]), span_s=(5, 20))
        svg(ax)
        axis = time_axis(ax)
        assert (axis["start"], axis["end"]) == (5, 20)
        assert 0 <= axis["left"] < axis["right"] <= 1


class TestExcerpt:
    @pytest.mark.parametrize(
        ("name", "block"), [("long", (0, 12)), ("long", (3, 7)), ("odd", (0, 5)), ("blip", (0, 1))]
    )
    def test_the_outputs_of_a_time_step_belong_to_its_time(self, oracle, recordings, name, block):
        """The oracle's logit is loudness, so the logit of a time step is the mean of the spectrogram there."""
        frontend, classes = oracle.contract.frontend, oracle.contract.classes
        audio = read_info(recordings / f"{name}.wav")
        excerpt = score_excerpt(from_bundles([oracle]).members[0], audio, 5, block, classes)
        per_step = frontend.n_frames // oracle.steps
        hop_s = frontend.hop_length / frontend.sample_rate
        n_rows = count_rows(audio.n_samples, audio.sample_rate, 5)
        full_db = spectrogram_excerpt(audio, frontend, 5, (0, n_rows)).db
        first = block[0] * 160
        assert excerpt.first_frame == first
        np.testing.assert_array_equal(excerpt.db, full_db[:, first : first + excerpt.db.shape[1]])
        assert len(excerpt.logits) >= 1
        for step, logit in enumerate(excerpt.logits[:, 0]):
            begin = round((excerpt.first_s + step * excerpt.step_s) / hop_s)
            if begin + per_step <= full_db.shape[1]:
                assert logit == pytest.approx(full_db[:, begin : begin + per_step].mean() / 20, abs=1e-4)
        assert len(excerpt.rows) == block[1] - block[0]

    def test_an_excerpt_lies_around_its_middle_row(self):
        assert excerpt_rows(12, 5, 11) == (0, 12)
        assert excerpt_rows(3, 5, 0) == (0, 3)
        assert excerpt_rows(720, 5, 300) == (294, 306)
        assert excerpt_rows(720, 5, 719) == (708, 720)
        assert excerpt_rows(5, 90, 3) == (3, 4)

    def test_the_sound_is_that_part_of_the_recording(self, recordings):
        audio = read_info(recordings / "long.wav")
        uri = encode_ogg(audio, 10.0, 20.0)
        kind, _, data = uri.partition(",")
        assert kind == "data:audio/ogg;base64"
        wave, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert (len(wave), rate) == (10 * RATE, RATE)
        assert len(data) < 120_000
        own, _ = soundfile.read(recordings / "long.wav", start=10 * RATE, frames=10 * RATE)
        louder = [np.sqrt(np.square(values.reshape(20, -1)).mean(1)) for values in (wave, own)]
        assert np.corrcoef(*np.log(louder))[0, 1] > 0.95
        with pytest.raises(DataError, match="has no audio from 70 to 80 s"):
            encode_ogg(audio, 70.0, 80.0)


class TestRecordings:
    def test_the_worst_come_first_and_then_the_best(self, recordings):
        truth = np.array([[1, 0], [0, 0], [0, 1]], np.float32)
        path = recordings / "odd.wav"
        examples = [
            Recording(name=name, path=path, scores=np.abs(truth - wrong).astype(np.float32), truth=truth)
            for name, wrong in (("good", 0.1), ("bad", 0.9), ("fair", np.array([[0.9], [0.1], [0.1]])))
        ]
        section = Viewer(classes=("a", "b"), context=ReportContext(n_examples=1)).section(examples)
        assert [part.title for part in section.sections] == ["Worst: bad (ROC-AUC 0.000)", "Best: good (ROC-AUC 1.000)"]
        assert all(part.recording for part in section.sections)
        kinds = [type(item) for item in section.sections[0].items]
        assert kinds[:3] == [Figure, Sound, str]
        text = section.sections[0].items[2]
        assert text.endswith("True: a: 0 to 5 s; b: 10 to 15 s.")
        assert text.startswith("Detections: b (0.90): 0 to 10 s; a (0.90): 5 to 15 s.")

    def test_no_recording_is_shown_twice(self, recordings):
        examples = [
            Recording(name=f"r{k}", path=recordings / "blip.wav", scores=np.full((1, 2), k / 5)) for k in range(3)
        ]
        parts = Viewer(classes=("a", "b"), context=ReportContext(n_examples=2)).section(examples).sections
        assert [part.title.split(":")[0] for part in parts] == ["Lowest scores", "Lowest scores", "Highest scores"]
        assert len({part.title for part in parts}) == 3

    def test_a_recording_that_is_gone_or_damaged(self, tmp_path):
        (tmp_path / "bad.wav").write_bytes(b"no audio")
        examples = [Recording(name="bad", path=tmp_path / "bad.wav", scores=np.ones((1, 1), np.float32))]
        section = Viewer(classes=("a",)).section(examples)
        assert "The recording cannot be shown" in section.sections[0].items[0]
        gone = Viewer(classes=("a",)).section([Recording(name="gone", path=None, scores=np.ones((1, 1), np.float32))])
        assert not gone.sections
        assert "--recordings" in gone.items[0]

    def test_unknown_rows_are_not_evaluated(self):
        rows = np.array([2, 0])
        scores = in_time(rows, np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), 0.0)
        truth = in_time(rows, np.array([[1, 0], [0, 1]], np.float32), np.nan)
        recording = Recording(name="x", path=None, scores=scores, truth=truth)
        assert np.isnan(truth[1]).all()
        assert recording.auc == 1.0
        assert recording.central_row in (0, 2)

    def test_the_length_of_a_row_is_the_common_divisor_of_its_ends(self):
        assert row_length(["H02_20230420_074000_15", "H02_20230420_074000_5"]) == 5

    def test_unknown_classes_are_not_evaluated(self):
        scores = np.array([[0.9, 0.5], [0.1, 0.6]], np.float32)
        truth = np.array([[1, np.nan], [0, np.nan]], np.float32)
        assert Recording(name="x", path=None, scores=scores, truth=truth).auc == 1.0

    def test_outputs_are_matched_to_classes_by_name(self, oracle, recordings):
        audio = read_info(recordings / "short.wav")
        member = from_bundles([oracle]).members[0]
        excerpt = score_excerpt(member, audio, 5, (0, 2), ("loud", "quiet"))
        reordered = score_excerpt(member, audio, 5, (0, 2), ("quiet", "loud"))
        for field in ("logits", "attention", "rows"):
            np.testing.assert_array_equal(getattr(reordered, field), getattr(excerpt, field)[:, ::-1])

    def test_names_are_shown_with_labels(self, recordings):
        truth = np.array([[1.0], [0], [0], [0], [0]], np.float32)
        names = {"wren1": ClassName("T. troglodytes", "Wren", "Aves")}
        examples = [Recording(name="odd", path=recordings / "odd.wav", scores=1 - truth, truth=truth)]
        viewer = Viewer(classes=("wren1",), context=ReportContext(names=names, n_examples=1))
        section = viewer.section(examples)
        assert "True: wren1, Wren: 0 to 5 s." in section.sections[0].items[2]
        assert ">Wren</text>" in section.sections[0].items[0].svg


class TestInputs:
    def test_a_run(self, run, tmp_path):
        result = report([run], tmp_path / "out.html", n_examples=1)
        page = parse(result.path)
        assert result.parts == ("Training run",)
        assert result.n_bytes == result.path.stat().st_size < 3e6
        scored = ["Classes", "Scores, precision and recall", "Recordings"]
        assert page.texts["h3"] == ["Learning", "Data", "Clips that contradict their label", *scored]
        assert len(page.all("audio")) == 2
        assert "24 clips, 3 classes" in result.path.read_text()
        texts = " ".join(page.texts["text"])
        for title in ("Clips per class", "Durations", "Folds", "ROC-AUC per class", "Mel spectrogram", "Detections"):
            assert title in texts
        assert "attention score" in texts
        assert "Aves" in texts

    def test_a_run_whose_data_and_weights_are_gone(self, tmp_path):
        folder = make_run(tmp_path / "run", evaluation_of())
        shutil.rmtree(tmp_path / "gone", ignore_errors=True)
        parsed = parse(report([folder], tmp_path / "out.html").path)
        texts = " ".join(parsed.texts["p"])
        assert "The training data cannot be read" in texts
        assert "The recordings were not found" in texts
        assert len(parsed.all("audio")) == 0

    def test_a_run_without_held_out_data(self, tmp_path):
        folder = make_run(tmp_path / "run", None, fold=None)
        page = parse(report([folder], tmp_path / "out.html").path)
        assert (
            "The run has no held-out data, so there are no scores; add some with --recordings and --truth."
            in page.texts["p"]
        )

    @pytest.mark.parametrize("installed", [False, True])
    def test_events_of_annotations(self, scores, recordings, tmp_path, monkeypatch, installed):
        """Recordings without annotations do not count, neither for rows nor for events."""
        table = read_table(scores / "submission.csv")
        name = split_row_id(table.index[0])[0]
        write_csv(tmp_path / "events.csv", ["recording", "start_s", "end_s", "label"], [[name, 0, 4, "a"]])
        path = tmp_path / "events.csv"
        if installed:
            pytest.importorskip("sed_scores_eval")
            mine = rows_of_table(table[[split_row_id(row)[0] == name for row in table.index]])
            values = evaluate_events(mine, [path])
            found = f"{values.macro('intersection_f1'):.4f} at threshold 0.5; PSDS1 {values.psds['psds1']:.4f}"
        else:
            monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
            found = "event-based figures need sed_scores_eval: pip install 'bcsed[events]'"
        page = parse(report([scores], tmp_path / "out.html", truth=path, n_examples=0).path)
        assert "Events" in page.texts["h3"]
        assert any(found in text for text in page.texts["p"])
        if installed:
            assert any("1 events of 1 of 3 classes in 1 annotated recordings, collar 5 s" in p for p in page.texts["p"])

    @pytest.mark.slow
    def test_several_runs_are_compared(self, tmp_path):
        runs = [
            make_run(tmp_path / "one", evaluation_of()),
            make_run(tmp_path / "two", evaluation_of(), fit__lr=2e-3),
            make_run(tmp_path / "three", None, fold=None),
        ]
        result = report(runs, tmp_path / "out.html")
        page = parse(result.path)
        assert result.parts == ("Comparison", "Training one", "Training two", "Training three")
        assert page.texts["caption"][:2] == ["Variants", "Differences"]
        assert "fit.lr: 0.001 -> 0.002" in page.texts["td"]
        assert any("three has no scores to compare" in text for text in page.texts["p"])
        assert "Gain over line 1" in " ".join(page.texts["text"])

    @pytest.mark.slow
    def test_scores_with_truth(self, scores, truth, recordings, tmp_path):
        result = report([scores], tmp_path / "out.html", truth=truth, n_examples=1)
        page = parse(result.path)
        texts = " ".join(page.texts["text"])
        for title in ("ROC-AUC per class", "Reliability", "Precision and recall", "Correlation of members", "Ablation"):
            assert title in texts, title
        assert {"Members", "Ablation", "Recordings"} <= set(page.texts["caption"])
        assert "attention score" in texts  # the manifest contains the path of the bundle
        assert len(page.all("audio")) == 2

    @pytest.mark.slow
    def test_scores_without_truth(self, scores, tmp_path):
        page = parse(report([scores], tmp_path / "out.html", n_examples=1).path)
        titles = page.texts["h4"]
        assert [title.split(":")[0] for title in titles] == ["Lowest scores", "Highest scores"]
        assert "Classes, the highest scores first" in page.texts["caption"]
        assert any("With --truth, each member" in text for text in page.texts["p"])

    @pytest.mark.slow
    def test_truth_of_some_classes_in_another_order(self, scores, truth, tmp_path):
        table = pd.read_csv(truth, index_col="row_id")
        table[["c", "a"]].head(9).to_csv(tmp_path / "some.csv")
        page = parse(report([scores], tmp_path / "out.html", truth=tmp_path / "some.csv", n_examples=1).path)
        assert any("over 2 of 2 classes, on 9 soundscape rows" in text for text in page.texts["p"])
        assert "attention score" in " ".join(page.texts["text"])

    @pytest.mark.slow
    def test_truth_without_positive_rows(self, scores, truth, tmp_path):
        table = pd.read_csv(truth, index_col="row_id")
        (table * 0).to_csv(tmp_path / "none.csv")
        page = parse(report([scores], tmp_path / "out.html", truth=tmp_path / "none.csv", n_examples=1).path)
        texts = " ".join(page.texts["p"])
        assert "ROC-AUC is not defined on 20 soundscape rows: " in texts
        assert "The contributions of members and stages cannot be computed" in texts

    @pytest.mark.slow
    def test_a_table_alone_and_recordings_and_bundle_named(self, scores, recordings, tiny, tmp_path):
        table = scores / "submission.csv"
        alone = parse(report([table], tmp_path / "alone.html").path)
        assert not alone.all("audio")
        options = {"recordings": [recordings], "n_examples": 1}
        with_sound = parse(report([table], tmp_path / "seen.html", **options).path)
        assert len(with_sound.all("audio")) == 2
        assert any("Attention is not shown" in text for text in with_sound.texts["p"])
        with_bundle = parse(report([table], tmp_path / "with_bundle.html", bundle=tiny.path, **options).path)
        assert "attention score" in " ".join(with_bundle.texts["text"])

    @pytest.mark.slow
    def test_a_run_on_other_soundscapes(self, run, year, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(run, folder)
        rows = [f"soundscape_{k}_{5 * r}" for k in range(3) for r in (1, 2, 3, 4)]
        known = np.eye(3, dtype=int)[np.arange(12) % 3]
        labels = pd.DataFrame(known, pd.Index(rows, name="row_id"), ["1139490", "cuckoo1", "frog1"])
        labels.to_csv(tmp_path / "truth.csv")
        sounds = [year / "test_soundscapes"]
        result = report([folder], tmp_path / "out.html", recordings=sounds, truth=tmp_path / "truth.csv", n_examples=1)
        page = parse(result.path)
        assert "It is evaluated on 12 soundscape rows of other recordings." in page.texts["p"]
        assert all("soundscape_" in title for title in page.texts["h4"])

    @pytest.mark.slow
    def test_a_bundle_on_soundscapes(self, run, year, tmp_path):
        from bcsed.models.export import export

        trained = train.load_run(run)
        sealed = export(
            trained.network,
            tmp_path / "bundle",
            contract=trained.contract,
            priors=trained.priors,
            recipe=trained.recipe,
            provenance=trained.provenance,
        )
        labels = tmp_path / "labels.csv"
        labels.write_text(
            "filename,start,end,primary_label\nsoundscape_1.ogg,0,5,cuckoo1\nsoundscape_1.ogg,5,10,frog1\n"
        )
        before = sorted(path.name for path in sealed.path.iterdir())
        sounds = [year / "test_soundscapes"]
        result = report([sealed.path], tmp_path / "out.html", recordings=sounds, truth=labels, n_examples=1)
        page = parse(result.path)
        assert page.texts["h3"] == ["Classes", "Scores, precision and recall", "Recordings"]
        assert page.texts["h4"][0].startswith("Worst: soundscape_1 (ROC-AUC")
        assert len(page.all("audio")) == 1
        assert sorted(path.name for path in sealed.path.iterdir()) == before

    def test_pseudolabels(self, land25, tmp_path):
        _, table = land25
        page = parse(report([table], tmp_path / "out.html").path)
        texts = " ".join(page.texts["text"])
        assert "Rows per class" in texts and "Rows per recording" in texts and "24 labels" in texts
        assert page.texts["caption"] == ["Classes", "Recordings"]

    @pytest.mark.slow
    def test_a_bundle_and_a_folder_of_all(self, run, tiny, scores, tmp_path):
        shutil.copytree(tiny.path, tmp_path / "demo" / "bundle")
        shutil.copytree(scores, tmp_path / "demo" / "scores")
        make_run(tmp_path / "demo" / "run", evaluation_of())
        (tmp_path / "demo" / "notes.txt").touch()
        result = report([tmp_path / "demo"], tmp_path / "out.html", n_examples=0)
        assert result.parts == ("Bundle bundle", "Training run", "Scores scores")
        assert tiny.contract.fingerprint in parse(result.path).texts["dd"]

    def test_rounds(self, land25, tmp_path):
        student = {"name": "tiny-s0", "experiment": "tiny", "sha256": "s"}
        student |= {"auc": 0.61, "n_classes": 3, "scored_on": "held-out data"}
        ledger = [
            {"round": 1, "teacher": [], "pseudolabels": None, "students": [student]},
            {"round": 2, "teacher": [{}], "pseudolabels": {"rows_with_label": 24}, "students": [student]},
        ]
        out = tmp_path / "rounds"
        (out / "round-2").mkdir(parents=True)
        (out / "ledger.json").write_text(json.dumps({"schema": 2, "rounds": ledger}))
        for suffix in (".parquet", ".json"):
            shutil.copy(land25[1].with_suffix(suffix), out / "round-2" / f"pseudolabels{suffix}")
        result = report([out], tmp_path / "out.html")
        assert result.parts == ("Rounds rounds", "Pseudolabels pseudolabels.parquet")
        assert "0.610" in parse(result.path).texts["td"]
        (out / "ledger.json").write_text("[{}]")
        with pytest.raises(DataError, match=r"ledger\.json.* is damaged"):
            report([out], tmp_path / "out.html")


class TestRefusals:
    def test_unknown_paths(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for path, why in (
            (tmp_path / "none", "no such path"),
            (tmp_path / "empty", "contains nothing that can be reported"),
        ):
            with pytest.raises(DataError, match=rf"{why}; name a run, a bundle"):
                report([path], tmp_path / "out.html")
        assert not (tmp_path / "out.html").exists()

    def test_named_twice(self, tiny, tmp_path):
        with pytest.raises(DataError, match="is named more than once; name it once"):
            report([tiny.path, tiny.path], tmp_path / "out.html")

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"paths": []}, "got 0 paths, 3 examples and 10 MB"),
            ({"n_examples": -1}, "got 1 paths, -1 examples"),
            ({"limit_mb": 0}, "and 0 MB"),
            ({"out": "page.pdf"}, r"must be named like report\.html, got 'page\.pdf'"),
        ],
    )
    def test_a_wrong_call(self, tiny, change, sentence):
        call = {"paths": [tiny.path], "out": "page.html", **change}
        with pytest.raises(ConfigError, match=sentence):
            report(call.pop("paths"), call.pop("out"), **call)

    def test_truth_of_other_recordings(self, scores, tmp_path):
        (tmp_path / "truth.csv").write_text("row_id,a,b,c\nelsewhere_5,1,0,0\n")
        with pytest.raises(DataError, match=r"none of the 1 labelled rows of .* is in .*; name the labels"):
            report([scores], tmp_path / "out.html", truth=tmp_path / "truth.csv")

    def test_rows_without_an_end_second(self, tmp_path):
        (tmp_path / "scores.csv").write_text("row_id,a\nx_5,0.5\nx_later,0.5\n")
        with pytest.raises(DataError, match="the row 'x_later' does not end with its end second"):
            report([tmp_path / "scores.csv"], tmp_path / "out.html")

    def test_an_unfinished_prediction(self, scores, tmp_path):
        (tmp_path / "scores").mkdir()
        (tmp_path / "scores" / "manifest.json").write_text('{"settings": {}}')
        with pytest.raises(DataError, match="is not a finished folder of predict"):
            report([tmp_path / "scores"], tmp_path / "out.html")
        (tmp_path / "scores" / "manifest.json").write_text('{"schema": 9}')
        with pytest.raises(DataError, match="has schema 9"):
            report([tmp_path / "scores"], tmp_path / "out.html")
        shutil.copy(scores / "manifest.json", tmp_path / "scores" / "manifest.json")
        with pytest.raises(DataError, match="contains no score table"):
            report([tmp_path / "scores"], tmp_path / "out.html")


@pytest.mark.slow
def test_hostile_names_come_through_as_text(tmp_path, recordings):
    """Names of classes, folders and recordings contain HTML."""
    classes = HOSTILE
    folder = make_run(tmp_path / "<b>run", evaluation_of(classes=classes), classes=classes)
    (tmp_path / "sounds").mkdir()
    name = "<svg onload=alert(3)>"
    shutil.copy(recordings / "odd.wav", tmp_path / "sounds" / f"{name}.wav")
    rows = pd.Index([f"{name}_{5 * k}" for k in range(1, 6)], name="row_id")
    pd.DataFrame(np.linspace(0, 1, 15).reshape(5, 3), rows, list(classes)).to_csv(tmp_path / "<i>scores.csv")
    table = pseudolabel.Pseudolabels(
        filename=np.array([name, name], object),
        start_s=np.array([0, 5]),
        end_s=np.array([5, 10]),
        values=np.array([[0.5, 0, 0.7], [0, 0.9, 0]], np.float16),
        classes=classes,
        provenance={"selection": {"kind": "<u>", "power": 1.0}, "teachers": [], "n_failed": 0},
    )
    pseudolabel.write_pseudolabels(table, tmp_path / "pl.parquet")
    paths = [folder, tmp_path / "<i>scores.csv", tmp_path / "pl.parquet"]
    result = report(paths, tmp_path / "out.html", recordings=[tmp_path / "sounds"])
    page = parse(result.path)
    assert not [tag for tag, _ in page.tags if tag in ("b", "i", "u", "img")]
    for hostile in classes:
        assert any(hostile in text for text in page.texts["th"])
        assert any(hostile in text for text in page.texts["text"])
    assert any(name in text for text in page.texts["h4"])
    assert "<b>run" in page.texts["h1"][0]
    raw = result.path.read_text()
    assert "<script>alert" not in raw and "<img" not in raw and "<svg onload" not in raw


@pytest.mark.slow
def test_the_page_keeps_to_its_budget(scores, truth, tmp_path):
    full = report([scores], tmp_path / "full.html", truth=truth)
    assert full.left_out == ""
    limit_mb = round(0.8 * full.n_bytes / 1e6, 3)
    less = report([scores], tmp_path / "less.html", truth=truth, limit_mb=limit_mb)
    assert less.n_bytes <= limit_mb * 1e6
    assert less.left_out.startswith(f"To keep the page under {limit_mb:g} MB, ")
    page = parse(less.path)
    assert less.left_out in page.texts["p"]
    assert len(page.all("audio")) < len(parse(full.path).all("audio"))


def test_the_command(scores, tmp_path, capsys):
    out = tmp_path / "out.html"
    assert main(["report", str(scores), "--out", str(out), "--examples", "1", "--limit-mb", "0.25"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r".*out\.html: 0\.\d MB; Scores scores", lines[0])
    assert lines[1].startswith("To keep the page under 0.25 MB")
    assert make_parser().parse_args(["report", "x"]).out == "report.html"


# ---- in a browser --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(run, scores, truth, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "report.html"
    return report([run, scores], out, truth=truth, n_examples=1).path


@pytest.fixture
def browser(tmp_path):
    started = start_browser(tmp_path / "profile", logs={"browser": "ALL", "performance": "ALL"})
    yield started
    started.quit()


def media(browser, **features: str) -> None:
    listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})


def column(browser, table: str, index: int) -> list[str]:
    return browser.execute_script(
        "return [...arguments[0].tBodies[0].rows].filter(row => !row.hidden)"
        ".map(row => row.cells[arguments[1]].textContent)",
        table,
        index,
    )


def contrast(first: str, second: str) -> float:
    """WCAG's ratio of two colours as browsers compute them."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(first), light(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.slow
class TestBrowser:
    def test_it_loads_without_errors_and_requests(self, browser, page):
        # The browser's own requests at its start do not count.
        browser.get("about:blank")
        browser.get_log("performance")
        browser.get(page.as_uri())
        assert browser.get_log("browser") == []
        events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        requested = {
            event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"
        }
        assert {url for url in requested if not url.startswith("data:")} == {page.as_uri()}

    def test_tables_are_sorted_and_filtered_by_keyboard(self, browser, page):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.common.keys import Keys

        browser.get(page.as_uri())
        boxes = browser.find_elements(By.CSS_SELECTOR, ".table")
        box = next(item for item in boxes if item.find_element(By.TAG_NAME, "caption").text == "Recordings")
        table = box.find_element(By.TAG_NAME, "table")
        heads = table.find_elements(By.CSS_SELECTOR, "thead th")
        index = [head.text.split()[0] for head in heads].index("ROC-AUC")
        button = heads[index].find_element(By.TAG_NAME, "button")
        button.send_keys(Keys.ENTER)
        values = [float(value) for value in column(browser, table, index)]
        assert len(values) >= 8
        assert values == sorted(values)
        assert heads[index].get_attribute("aria-sort") == "ascending"
        button.send_keys(Keys.SPACE)
        assert [float(value) for value in column(browser, table, index)] == sorted(values, reverse=True)
        assert heads[index].get_attribute("aria-sort") == "descending"
        heads[0].find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert heads[index].get_attribute("aria-sort") == "none"
        names = column(browser, table, 0)
        assert names == sorted(names)
        field = box.find_element(By.TAG_NAME, "input")
        field.send_keys(names[0].upper())
        assert column(browser, table, 0) == [names[0]]
        assert box.find_element(By.CSS_SELECTOR, "[role=status]").text == f"1 of {len(names)} rows"

    def test_recordings_are_played(self, browser, page):
        from selenium.webdriver.common.by import By
        from selenium.webdriver.support.ui import WebDriverWait

        browser.get(page.as_uri())
        sounds = browser.find_elements(By.TAG_NAME, "audio")
        assert len(sounds) == 4
        wait = WebDriverWait(browser, 20)
        wait.until(lambda _: all(browser.execute_script("return arguments[0].duration > 0", node) for node in sounds))
        sounds.sort(key=lambda node: browser.execute_script("return arguments[0].duration", node))
        assert browser.execute_script("return arguments[0].duration", sounds[2]) > 5
        browser.execute_script("return arguments[0].play()", sounds[2])
        wait.until(lambda _: browser.execute_script("return arguments[0].currentTime > 0.3", sounds[2]))
        assert browser.execute_script("return arguments[0].error", sounds[2]) is None
        line = "return arguments[0].closest('section').querySelector('.playhead').hidden"
        wait.until(lambda _: not browser.execute_script(line, sounds[2]))
        browser.execute_script("return arguments[0].play()", sounds[3])
        assert browser.execute_script("return arguments[0].paused", sounds[2])

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_can_be_read_light_and_dark(self, browser, page, scheme):
        media(browser, prefers_color_scheme=scheme)
        browser.get(page.as_uri())
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (contrast(paper, "rgb(0, 0, 0)") > 10) == (scheme == "light")
        for what, least in (
            (".note, p", 4.5),
            ("figcaption", 4.5),
            ("nav a", 4.5),
            (".box svg text", 4.5),
            ("dt", 4.5),
        ):
            read = "const node = document.querySelector(arguments[0]); const style = getComputedStyle(node);"
            ink = browser.execute_script(read + "return node.ownerSVGElement ? style.fill : style.color", what)
            assert contrast(ink, paper) >= least, what
        inks = browser.execute_script(
            "return [...document.querySelectorAll('.box svg path')].filter(node => !node.closest('defs, clipPath'))"
            ".map(node => getComputedStyle(node).fill).filter(fill => fill.startsWith('rgb('))"
        )
        assert min(contrast(ink, paper) for ink in set(inks) - {paper}) >= 3

    @pytest.mark.parametrize("width", [360, 1280])
    def test_no_page_is_wider_than_its_window(self, browser, page, width):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width

    @pytest.mark.parametrize(("width", "n_columns"), [(1600, 3), (1100, 2), (400, 1)])
    def test_figures_share_a_row_where_they_fit(self, browser, page, width, n_columns):
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        boxes = browser.execute_script(
            "const heading = [...document.querySelectorAll('h3')].find(h => h.textContent.startsWith('Scores, prec'));"
            "return [...heading.parentElement.querySelectorAll('figure')].map(figure => figure.getBoundingClientRect())"
            ".map(box => [box.left, box.right, box.top])"
        )
        assert len(boxes) == 3
        first_row = [(left, right) for left, right, top in boxes if top == boxes[0][2]]
        assert len(first_row) == n_columns
        assert all(left > right for (_, right), (left, _) in itertools.pairwise(first_row))
        assert first_row[-1][1] <= width

    def test_focus_is_visible_and_motion_is_optional(self, browser, page):
        from selenium.webdriver.common.keys import Keys

        media(browser, prefers_reduced_motion="reduce")
        browser.get(page.as_uri())
        assert browser.execute_script("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
        browser.switch_to.active_element.send_keys(Keys.TAB)
        first = browser.switch_to.active_element
        assert first.text == "Skip to the content"
        assert first.value_of_css_property("outline-style") == "solid"
        first.send_keys(Keys.ENTER)
        assert browser.switch_to.active_element.get_attribute("id") == "main"


def test_the_sound_is_not_that_of_another_recording_of_the_name(tiny, tmp_path, rng):
    for site in ("a", "b"):
        (tmp_path / "wav" / site).mkdir(parents=True)
        soundfile.write(tmp_path / "wav" / site / "0001.wav", 0.1 * rng.standard_normal(10 * RATE), RATE)
    output = predict.OutputOptions(formats=("scores",))
    predict.predict([tiny], [tmp_path / "wav" / "a"], out=tmp_path / "out", output=output)
    prediction = read_prediction(tmp_path / "out")
    context = ReportContext(recordings=(tmp_path / "wav",))
    (shown,) = _recordings(prediction, list(prediction.scores.index), None, context, 5)
    assert shown.path == tmp_path / "wav" / "a" / "0001.wav"


def test_a_mean_of_members_is_processed_as_stated(tiny, recordings, tmp_path):
    stages = postprocess.parse_stages(["top=1"])
    tables = []
    for number, formats in enumerate([("members",), ("members", "submission")]):
        out, output = tmp_path / str(number), predict.OutputOptions(formats=formats)
        predict.predict([tiny], [recordings], out=out, stages=stages, output=output)
        tables.append(read_prediction(out).scores)
    np.testing.assert_allclose(*tables, atol=1e-6)
