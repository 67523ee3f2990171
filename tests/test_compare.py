from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE

from bcsed import predict
from bcsed.analysis import compare
from bcsed.config.contract import FRONTENDS
from bcsed.config.diff import describe_difference
from bcsed.config.experiments import GROUPS, find_experiment
from bcsed.config.strict import to_dict
from bcsed.errors import BundleError, ConfigError, DataError
from bcsed.models import bundle
from bcsed.scores import metrics
from bcsed.scores.evaluation import Evaluation, read_evaluation, read_truth, write_evaluation
from bcsed.train import TrainInputs, TrainOptions
from bcsed.train.api import train_grid

CLASSES = ("a", "b", "c")
N_FILES, PER_FILE = 12, 6


def truth_and_noise() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    n = N_FILES * PER_FILE
    truth = (rng.random((n, 3)) < 0.3).astype(np.uint8)
    truth[:3], truth[3:6] = np.eye(3, dtype=np.uint8), 0
    # The difficulty of a recording is the same for every network.
    return truth, rng.random((n, 3)) + np.repeat(rng.random((N_FILES, 3)), PER_FILE, axis=0)


def make_evaluation(
    skill: float, seed: int = 0, *, kind: str = "rows", prefix: str = "S", n_files: int = N_FILES
) -> Evaluation:
    truth, noise = (values[: n_files * PER_FILE] for values in truth_and_noise())
    files = [f"{prefix}{k:02}" for k in range(n_files) for _ in range(PER_FILE)]
    variation = np.random.default_rng([2, seed]).random(noise.shape)
    return Evaluation(
        kind=kind,
        ids=tuple(f"{name}_{5 * (k % PER_FILE + 1)}" for k, name in enumerate(files)),
        files=tuple(files),
        classes=CLASSES,
        truth=truth,
        scores=(skill * truth + noise + 0.2 * variation).astype(np.float32),
    )


def make_run(
    folder: Path,
    evaluation: Evaluation | None,
    *,
    name: str = "tiny",
    fold: int | None = 0,
    checkpoint: str = "last",
    seconds: float = 2.0,
    classes: tuple[str, ...] = CLASSES,
    clips: str = "0" * 64,
    sources: dict[str, object] | None = None,
    **changes,
) -> Path:
    """Write what a finished training leaves, but for its checkpoints."""
    row = find_experiment("tiny").vary(name, **{"fit__epochs": 3, "fit__warmup_epochs": 1, **changes})
    recipe = {group: to_dict(getattr(row, group)) for group in GROUPS}
    contract = {"frontend": recipe["frontend"], "net": recipe["net"], "classes": list(classes)}
    description = {"experiment": name, "recipe": recipe, "contract": contract, "fold": fold, "sources": sources or {}}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(
        json.dumps(
            {**description, "start": "random weights", "clips_sha256": clips, "data": str(folder), "priors": [0.1] * 3}
        )
    )
    history = {"epoch": [1, 2, 3], "loss": [3.0, 2.0, 1.0], "row_auc": [0.5, 0.6, 0.7], "seconds": [seconds] * 3}
    pd.DataFrame(history).to_csv(folder / "metrics.csv", index=False)
    if evaluation is not None:
        write_evaluation(folder / f"validation-{checkpoint}.npz", evaluation)
    return folder


def two(tmp_path: Path, second: Evaluation, **changes) -> pd.DataFrame:
    """Compare a run with another one."""
    first = make_run(tmp_path / "first", make_evaluation(0.3))
    other = make_run(tmp_path / "second", second, **changes)
    return compare.compare_variants([compare.read_run(first), compare.read_run(other)])


class TestRead:
    def test_a_run(self, tmp_path):
        evaluation = make_evaluation(0.5)
        run = compare.read_run(make_run(tmp_path / "run", evaluation, fold=2, fit__seed=7))
        assert (run.name, run.experiment, run.fold, run.seed) == ("run", "tiny", 2, 7)
        assert (len(run.history), run.seconds, run.checkpoint, run.classes) == (3, 6.0, "last", CLASSES)
        assert run.evaluation is not None
        np.testing.assert_array_equal(run.evaluation.scores, evaluation.scores)
        assert (run.evaluation.ids, run.evaluation.files, run.evaluation.kind) == (
            evaluation.ids,
            evaluation.files,
            "rows",
        )
        assert run.settings["fit.lr"] == 1e-3
        assert "fit.seed" not in run.settings

    def test_the_best_checkpoint_is_preferred(self, tmp_path):
        folder = make_run(tmp_path / "run", make_evaluation(0.1))
        write_evaluation(folder / "validation-best.npz", make_evaluation(0.9))
        best, last = compare.read_run(folder), compare.read_run(folder, checkpoint="last")
        assert (best.checkpoint, last.checkpoint) == ("best", "last")
        assert best.evaluation.scores.mean() > last.evaluation.scores.mean()
        with pytest.raises(ConfigError, match="checkpoint must be best or last, got 'first'"):
            compare.read_run(folder, checkpoint="first")

    def test_no_run(self, tmp_path):
        with pytest.raises(DataError, match=r"is neither a run nor a bundle: it has no run\.json and no bundle\.json"):
            compare.read_run(tmp_path)

    def test_unfinished(self, tmp_path):
        folder = make_run(tmp_path / "run", make_evaluation(0.5))
        pd.read_csv(folder / "metrics.csv").head(1).to_csv(folder / "metrics.csv", index=False)
        with pytest.raises(DataError, match=r"is not finished: 1 of 3 epochs are trained; continue with .*--resume"):
            compare.read_run(folder)
        (folder / "metrics.csv").unlink()
        with pytest.raises(DataError, match="is not finished: 0 of 3 epochs"):
            compare.read_run(folder)

    def test_a_run_without_held_out_data(self, tmp_path):
        run = compare.read_run(make_run(tmp_path / "run", None))
        assert run.evaluation is None
        with pytest.raises(DataError, match="has no evaluation: it has no held-out data; evaluate it on"):
            compare.compare_variants([run])

    def test_an_evaluation_of_other_classes(self, tmp_path):
        folder = make_run(tmp_path / "run", make_evaluation(0.5), classes=("a", "b", "d", "e"))
        with pytest.raises(DataError, match=r"validation-last\.npz does not belong to this run: class 'c' .* \(3 such"):
            compare.read_run(folder)

    @pytest.mark.parametrize("name", ["run.json", "metrics.csv", "validation-last.npz"])
    def test_damaged_files(self, tmp_path, name):
        folder = make_run(tmp_path / "run", make_evaluation(0.5))
        (folder / name).write_bytes(b"\x93\x00 no such thing")
        with pytest.raises(DataError, match=rf"{name}(: not readable as| is damaged)"):
            compare.read_run(folder)

    def test_a_description_with_a_missing_part(self, tmp_path):
        folder = make_run(tmp_path / "run", make_evaluation(0.5))
        values = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps({k: v for k, v in values.items() if k != "recipe"}))
        with pytest.raises(DataError, match=r"run\.json is damaged: recipe is missing"):
            compare.read_run(folder)

    @pytest.mark.parametrize(
        ("part", "key", "value"),
        [
            ("recipe", "fit", {"epochs": None, "seed": 0}),
            ("recipe", "fit", {"epochs": float("inf"), "seed": 0}),
            ("contract", "classes", ["a", ["b"], "c"]),
            ("contract", "classes", ["a", 1.5, "c"]),
        ],
    )
    def test_a_description_with_values_of_other_kinds(self, tmp_path, part, key, value):
        folder = make_run(tmp_path / "run", make_evaluation(0.5))
        values = json.loads((folder / "run.json").read_text())
        values[part][key] = value
        (folder / "run.json").write_text(json.dumps(values))
        with pytest.raises(DataError, match=r"run\.json is damaged"):
            compare.read_run(folder)

    def test_a_bundle(self, tiny):
        with pytest.raises(DataError, match="does not record its training"):
            compare.read_run(tiny.path)


class TestEvaluation:
    def test_truncated_files(self, tmp_path):
        file = tmp_path / "evaluation.npz"
        write_evaluation(file, make_evaluation(0.5))
        content = file.read_bytes()
        for share in (0.0, 0.2, 0.5, 0.9, 0.99):
            file.write_bytes(content[: int(share * len(content))])
            with pytest.raises(DataError, match=r"evaluation\.npz: not readable as npz"):
                read_evaluation(file)

    def test_a_flipped_byte(self, tmp_path):
        file = tmp_path / "evaluation.npz"
        write_evaluation(file, make_evaluation(0.5))
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"evaluation\.npz(: not readable| is damaged)"):
            read_evaluation(file)

    def test_no_pickle_is_read(self, tmp_path):
        arrays = {name: np.array([{}], object) for name in ("kind", "ids", "files", "classes", "truth", "scores")}
        np.savez(tmp_path / "evaluation.npz", **arrays)
        with pytest.raises(DataError, match="not readable as npz"):
            read_evaluation(tmp_path / "evaluation.npz")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"scores": None}, "it lacks scores"),
            ({"kind": "birds"}, "must be one of rows, clips; got 'birds'"),
            ({"files": ["S00"]}, "72 items, 1 recordings and 3 classes do not fit"),
            ({"ids": ["x"] * 72}, "item 'x' occurs more than once"),
            ({"truth": np.zeros((72, 2), np.uint8)}, r"the truth must have shape \(72, 3\), got \(72, 2\)"),
            ({"truth": np.full((72, 3), 2, np.uint8)}, "truth must be 0 or 1, got 2"),
            ({"scores": np.full((72, 3), np.nan)}, "the score of 'S00_5', class 'a' is not a finite number"),
            ({"truth": np.full((72, 3), 0.5)}, "not readable as npz"),
        ],
    )
    def test_arrays_that_do_not_fit(self, tmp_path, change, message):
        file = tmp_path / "evaluation.npz"
        write_evaluation(file, make_evaluation(0.5))
        with np.load(file) as stored:
            arrays = {**stored, **change}
        np.savez(file, **{name: value for name, value in arrays.items() if value is not None})
        with pytest.raises(DataError, match=message):
            read_evaluation(file)

    def test_the_fingerprint_depends_on_everything_but_order_and_scores(self):
        first = make_evaluation(0.3)
        order = np.random.default_rng(0).permutation(len(first.ids))

        def ordered(**changes):
            values = {
                "kind": first.kind,
                "ids": tuple(first.ids[k] for k in order),
                "files": tuple(first.files[k] for k in order),
                "classes": first.classes[::-1],
                "truth": first.truth[order][:, ::-1],
                "scores": 0 * first.scores,
            }
            return Evaluation(**{**values, **changes})

        assert ordered().fingerprint == first.fingerprint
        assert ordered(kind="clips").fingerprint != first.fingerprint
        assert ordered(files=first.files).fingerprint != first.fingerprint
        assert ordered(classes=first.classes).fingerprint != first.fingerprint
        assert ordered(truth=first.truth).fingerprint != first.fingerprint


class TestTable:
    def test_one_run_has_the_interval_of_the_bootstrap(self, tmp_path):
        evaluation = make_evaluation(0.3)
        line = compare.compare_variants([compare.read_run(make_run(tmp_path / "run", evaluation))], n_draws=4000).iloc[
            0
        ]
        assert line["auc"] == pytest.approx(metrics.macro_auc(evaluation.truth, evaluation.scores)[0])
        rng = np.random.default_rng(3)
        wanted = metrics.bootstrap_auc(evaluation.truth, evaluation.scores, evaluation.files, n=4000, rng=rng)
        assert (line["low"], line["high"]) == pytest.approx(wanted, abs=0.01)
        assert line["n_classes"] == "3"
        assert line["scored_on"] == "72 soundscape rows of 12 recordings"
        assert (line["differs"], line["note"], line["n_runs"], line["seconds"]) == ("", "", 1, 6.0)
        assert np.isnan(line["gain"])

    def test_an_interval_computed_by_hand(self, tmp_path):
        """One class, two recordings: a sample contains only the good one, only the bad one, or both."""
        scores = np.array([[0.9], [0.1], [0.2], [0.8]], np.float32)
        truth = np.array([[1], [0], [1], [0]], np.uint8)
        ids = ("good_5", "good_10", "bad_5", "bad_10")
        evaluation = Evaluation(
            kind="rows", ids=ids, files=("good", "good", "bad", "bad"), classes=("a",), truth=truth, scores=scores
        )
        line = compare.compare_variants(
            [compare.read_run(make_run(tmp_path / "run", evaluation, classes=("a",)))]
        ).iloc[0]
        assert (line["auc"], line["low"], line["high"]) == (0.75, 0.0, 1.0)

    def test_seeds_form_one_variant_and_are_resampled_jointly(self, tmp_path):
        evaluations = [make_evaluation(0.3, seed) for seed in range(3)]
        runs = [
            compare.read_run(make_run(tmp_path / f"s{seed}", evaluation, fit__seed=seed, seconds=1.0 + seed))
            for seed, evaluation in enumerate(evaluations)
        ]
        table = compare.compare_variants(runs, n_draws=300)
        assert len(table) == 1
        line = table.iloc[0]
        assert (line["seeds"], line["folds"], line["n_runs"], line["seconds"]) == ("0, 1, 2", "0", 3, 6.0)
        assert line["auc"] == pytest.approx(np.mean([metrics.macro_auc(a.truth, a.scores)[0] for a in evaluations]))
        # Were seeds drawn each for itself, their mean would seem surer than any of them by the root of 3.
        widths = [
            np.diff(compare.compare_variants([run], n_draws=300)[["low", "high"]].to_numpy()[0])[0] for run in runs
        ]
        assert line["high"] - line["low"] > 0.8 * np.mean(widths)

    def test_folds_form_one_variant_and_are_resampled_independently(self, tmp_path):
        runs = [
            compare.read_run(make_run(tmp_path / f"f{fold}", make_evaluation(0.3, prefix=f"F{fold}_"), fold=fold))
            for fold in range(4)
        ]
        line = compare.compare_variants(runs).iloc[0]
        assert (line["folds"], line["n_runs"]) == ("0, 1, 2, 3", 4)
        assert line["scored_on"] == "288 soundscape rows of 48 recordings"
        single = compare.compare_variants(runs[:1]).iloc[0]
        assert line["high"] - line["low"] < 0.75 * (single["high"] - single["low"])

    def test_other_pseudolabels_form_another_variant_but_other_counts_do_not(self, tmp_path):
        sources = [("aa", 70, 0), ("aa", 65, 1), ("bb", 70, 0)]
        runs = [
            make_run(
                tmp_path / f"{k}",
                make_evaluation(0.3, prefix=f"F{fold}"),
                fold=fold,
                sources={"pseudolabels": {"sha256": sha, "rows": n}},
            )
            for k, (sha, n, fold) in enumerate(sources)
        ]
        table = compare.compare_variants([compare.read_run(run) for run in runs], n_draws=10)
        assert table["folds"].tolist() == ["0, 1", "0"]
        assert table["differs"].tolist() == ["", "sources.pseudolabels.sha256: aa -> bb"]

    def test_unequal_numbers_of_seeds_have_no_weight(self, tmp_path):
        easy, hard = make_evaluation(0.9, prefix="E"), make_evaluation(0.1, prefix="H")
        runs = [
            make_run(tmp_path / "e0", easy, fold=0),
            make_run(tmp_path / "e1", easy, fold=0, fit__seed=1),
            make_run(tmp_path / "h0", hard, fold=1),
        ]
        aucs = [metrics.macro_auc(a.truth, a.scores)[0] for a in (easy, hard)]
        assert compare.compare_variants([compare.read_run(run) for run in runs])["auc"].tolist() == [
            pytest.approx(np.mean(aucs))
        ]

    def test_pairing_narrows_the_interval_of_the_difference(self, tmp_path):
        table = two(tmp_path, make_evaluation(0.4, 1), data__label_target=0.8)
        first, second = table.iloc[0], table.iloc[1]
        assert second["gain"] == pytest.approx(second["auc"] - first["auc"])
        assert second["gain_low"] <= second["gain"] <= second["gain_high"]
        assert second["gain_low"] > 0
        # The two unpaired intervals overlap by far.
        assert second["low"] < first["high"]
        assert second["gain_high"] - second["gain_low"] < 0.4 * (second["high"] - second["low"])
        assert second["differs"] == "data.label_target: 1.0 -> 0.8"

    def test_equal_scores_have_no_gain(self, tmp_path):
        """Also in another order of items and classes."""
        same = make_evaluation(0.3)
        order = np.random.default_rng(5).permutation(72)
        turned = Evaluation(
            kind="rows",
            ids=tuple(same.ids[k] for k in order),
            files=tuple(same.files[k] for k in order),
            classes=CLASSES[::-1],
            truth=same.truth[order][:, ::-1],
            scores=same.scores[order][:, ::-1],
        )
        line = two(tmp_path, turned, fit__lr=2e-3).iloc[1]
        assert line[["gain", "gain_low", "gain_high"]].tolist() == pytest.approx([0, 0, 0], abs=1e-12)

    @pytest.mark.parametrize(
        "second",
        [make_evaluation(0.4, prefix="T"), make_evaluation(0.4, kind="clips"), make_evaluation(0.4, n_files=11)],
        ids=["other recordings", "clips", "fewer recordings"],
    )
    def test_other_data_are_not_paired(self, tmp_path, second):
        line = two(tmp_path, second, fit__lr=2e-3).iloc[1]
        assert line[["gain", "gain_low", "gain_high"]].isna().all()
        assert "scored on other data than line 1" in line["note"]
        assert np.isfinite(line["low"])

    def test_common_data_are_paired(self, tmp_path):
        runs = [make_run(tmp_path / f"f{k}", make_evaluation(0.3, prefix=f"F{k}"), fold=k) for k in range(3)]
        runs.append(make_run(tmp_path / "other", make_evaluation(0.4, prefix="F1"), fold=1, fit__lr=2e-3))
        line = compare.compare_variants([compare.read_run(run) for run in runs]).iloc[1]
        first, second = (metrics.macro_auc(a.truth, a.scores)[0] for a in (make_evaluation(0.3), make_evaluation(0.4)))
        assert line["gain"] == pytest.approx(second - first)
        assert "on common data only: 1 of 1 held-out sets here and of 3 in line 1" in line["note"]

    def test_overlapping_held_out_sets_are_resampled_jointly(self, tmp_path):
        """Two seeds that deal other folds share recordings, which are not two witnesses."""
        all_files, part = make_evaluation(0.3), make_evaluation(0.3, 1, n_files=11)
        runs = [make_run(tmp_path / "0", all_files), make_run(tmp_path / "1", part, fit__seed=1)]
        both = compare.compare_variants([compare.read_run(run) for run in runs]).iloc[0]
        alone = compare.compare_variants([compare.read_run(runs[0])]).iloc[0]
        assert both["n_runs"] == 2
        assert both["high"] - both["low"] > 0.85 * (alone["high"] - alone["low"])

    def test_the_table_does_not_depend_on_the_order_of_runs(self, tmp_path):
        runs = [
            compare.read_run(
                make_run(tmp_path / f"{lr}-{seed}", make_evaluation(0.3 + lr * 50, seed), fit__lr=lr, fit__seed=seed)
            )
            for lr, seed in itertools.product((1e-3, 2e-3), (0, 1))
        ]
        straight = compare.compare_variants(runs)
        pd.testing.assert_frame_equal(straight, compare.compare_variants(runs))
        turned = compare.compare_variants([runs[1], runs[0], runs[3], runs[2]])
        pd.testing.assert_frame_equal(straight, turned, rtol=1e-9)
        assert len(straight) == 2

    def test_one_recording_has_no_interval(self, tmp_path):
        line = compare.compare_variants(
            [compare.read_run(make_run(tmp_path / "r", make_evaluation(0.3, n_files=1)))]
        ).iloc[0]
        assert np.isnan([line["low"], line["high"]]).all()
        assert np.isfinite(line["auc"])
        assert line["note"] == "There is no interval: it needs more recordings."

    def test_classes_that_cannot_be_scored(self, tmp_path):
        some = make_evaluation(0.3)
        truth = some.truth.copy()
        truth[:, 2] = 0
        parts = {"kind": "rows", "ids": some.ids, "files": some.files, "classes": CLASSES, "scores": some.scores}
        line = two(tmp_path, Evaluation(**parts, truth=truth), fit__seed=1).iloc[0]
        assert line["n_classes"] == "2-3"
        folder = make_run(tmp_path / "none", Evaluation(**parts, truth=0 * truth))
        with pytest.raises(DataError, match="none: none of 3 classes has both a positive and a negative row"):
            compare.compare_variants([compare.read_run(folder)])

    def test_refusals(self, tmp_path):
        with pytest.raises(DataError, match="there is nothing to compare"):
            compare.compare_variants([])
        run = compare.read_run(make_run(tmp_path / "run", make_evaluation(0.3)))
        with pytest.raises(DataError, match="is named more than once"):
            compare.compare_variants([run, run])


class TestDifferences:
    def test_fields_and_other_settings(self, tmp_path):
        table = two(
            tmp_path, make_evaluation(0.3), clips="f" * 64, augment__sumix_draw=(0,), fit__loss="focal", fit__seed=3
        )
        assert table["differs"].tolist() == [
            "",
            "augment.sumix_draw: [0, 1, 1, 2] -> [0]; fit.loss: bce -> focal; clips_sha256: 00000000 -> ffffffff",
        ]

    def test_front_ends_are_named(self, tmp_path):
        table = two(tmp_path, make_evaluation(0.3), frontend=FRONTENDS["WIDE_256"])
        assert table["differs"][1] == "frontend: TINY_128 -> WIDE_256"
        difference = describe_difference({"frontend": to_dict(FRONTENDS["TINY_128"])}, {"frontend": {"n_mels": 32}})
        assert difference.startswith("frontend.sample_rate: 32000 -> missing; ")

    def test_a_name_alone_is_a_variant_without_a_difference(self, tmp_path):
        table = two(tmp_path, make_evaluation(0.4), name="other")
        assert table["experiment"].tolist() == ["tiny", "other"]
        assert table["differs"].tolist() == ["", ""]

    def test_classes(self):
        difference = describe_difference({"classes": ["a", "b"]}, {"classes": ["a", "c", "d"]})
        assert difference == "classes: 2 (a, b, ...) -> 3 (a, c, ...)"


class TestRender:
    def test_text_and_files(self, tmp_path):
        runs = [
            compare.read_run(make_run(tmp_path / "a", make_evaluation(0.3))),
            compare.read_run(make_run(tmp_path / "b", make_evaluation(0.4), fit__lr=2e-3)),
            compare.read_run(make_run(tmp_path / "c", make_evaluation(0.4, prefix="T"), fit__loss="focal")),
        ]
        table = compare.compare_variants(runs, n_draws=100)
        lines = compare.format_table(table).splitlines()
        assert " ".join(lines[0].split()) == "experiment runs folds seeds AUC 95 % classes gain 95 % time per run"
        starts = {line.index("tiny") for line in lines[1:4]}
        assert len(starts) == 1
        assert f"{table['gain'][1]:+.4f}" in lines[2]
        assert "2  fit.lr: 0.001 -> 0.002" in lines
        assert any(line.startswith("3  It was scored on other data") for line in lines)
        out = compare.write_table(table, tmp_path / "out", runs)
        assert sorted(path.name for path in out.iterdir()) == ["compare.csv", "compare.md", "compare.png", "curves.png"]
        again = pd.read_csv(out / "compare.csv", keep_default_na=False, na_values={"gain": ""})
        assert again.columns.tolist() == table.columns.tolist()
        assert again["gain"].to_numpy() == pytest.approx(table["gain"].to_numpy(), abs=1e-5, nan_ok=True)
        lines = (out / "compare.md").read_text().splitlines()
        assert lines[2].count("|") == lines[4].count("|") == 12
        assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")

    def test_columns_of_gains_are_omitted_without_gains(self, tmp_path):
        table = compare.compare_variants([compare.read_run(make_run(tmp_path / "a", make_evaluation(0.3)))], n_draws=10)
        assert "gain" not in compare.format_table(table)


class TestTruth:
    def test_both_forms(self, tmp_path):
        wide = tmp_path / "wide.csv"
        wide.write_text("row_id,b,a\nx_5,0,1\nx_10,1,0\n")
        pd.testing.assert_frame_equal(
            read_truth(wide, CLASSES),
            pd.DataFrame({"b": [0, 1], "a": [1, 0]}, index=pd.Index(["x_5", "x_10"], name="row_id")),
            check_column_type=False,
        )
        labels = tmp_path / "labels.csv"
        labels.write_text("filename,start,end,primary_label\nx.ogg,00:00:00,00:00:05,a;b\nx.ogg,5,10,\n")
        table = read_truth(labels, CLASSES)
        assert table.index.tolist() == ["x_5", "x_10"]
        assert table.to_numpy().tolist() == [[1, 1, 0], [0, 0, 0]]

    def test_refusals(self, tmp_path):
        with pytest.raises(DataError, match="there is no such file"):
            read_truth(tmp_path / "none.csv", CLASSES)
        (tmp_path / "wide.csv").write_text("row_id,z\nx_5,1\n")
        with pytest.raises(DataError, match=r"class 'z' is not in the scores \(1 such classes\)"):
            read_truth(tmp_path / "wide.csv", CLASSES)


SMALL = find_experiment("tiny").vary(
    "small",
    net__backbone="mobilenetv3_small_050",
    fit__epochs=1,
    fit__warmup_epochs=0,
    fit__batch_size=6,
    data__min_class_count=2,
    data__n_folds=3,
)


@pytest.fixture(scope="module")
def trained(year, tmp_path_factory):
    """Two seeds of a real, short training."""
    out = tmp_path_factory.mktemp("named")
    return train_grid([SMALL], year, out, seeds=(0, 1), fold=0)


TRUTH = ["row_id,frog1,cuckoo1"] + [
    f"soundscape_{number}_{5 * row + 5},{(number + row) % 3 == 2:d},{(number + row) % 3 == 1:d}"
    for number, row in itertools.product(range(3), range(4))
]


@pytest.fixture(scope="module")
def evaluated(trained, year, tmp_path_factory):
    """A run that was scored on soundscapes once, and its truth."""
    folder = tmp_path_factory.mktemp("evaluated")
    shutil.copytree(trained[0], folder / "run")
    (folder / "truth.csv").write_text("\n".join(TRUTH) + "\n")
    compare.evaluate_on_soundscapes(
        compare.read_run(folder / "run"), [year / "test_soundscapes"], folder / "truth.csv", jobs=2
    )
    return folder


@pytest.fixture
def scored(evaluated, tmp_path):
    """A copy of it, to be changed: run and truth."""
    shutil.copytree(evaluated, tmp_path / "copy")
    return tmp_path / "copy" / "run", tmp_path / "copy" / "truth.csv"


def no_prediction(*_, **__):
    raise AssertionError("predicted again")


@pytest.mark.slow
class TestOnSoundscapes:
    def test_scores_equal_a_prediction_and_are_stored(self, scored, year, monkeypatch):
        run, truth = scored
        scores = predict.predict([bundle.load(run / "compare-bundle")], [year / "test_soundscapes"]).scores
        monkeypatch.setattr("bcsed.analysis.compare.evaluate.predict", no_prediction)
        evaluation = compare.evaluate_on_soundscapes(compare.read_run(run), [year / "test_soundscapes"], truth)
        assert (evaluation.kind, evaluation.classes) == ("rows", ("frog1", "cuckoo1"))
        assert set(evaluation.files) == {"soundscape_0", "soundscape_1", "soundscape_2"}
        assert evaluation.truth.tolist() == [[int(cell) for cell in line.split(",")[1:]] for line in TRUTH[1:]]
        wanted = scores.loc[list(evaluation.ids), list(evaluation.classes)].to_numpy()
        np.testing.assert_allclose(evaluation.scores, wanted, atol=1e-6)
        assert len(list(run.glob("evaluation-truth-*.npz"))) == 1

    def test_another_truth_uses_the_same_bundle(self, scored, year):
        run, truth = scored
        before = bundle.load(run / "compare-bundle").provenance["exported"]
        truth.write_text("\n".join(TRUTH[:9]) + "\n")
        assert len(compare.evaluate_on_soundscapes(compare.read_run(run), [year / "test_soundscapes"], truth).ids) == 8
        assert bundle.load(run / "compare-bundle").provenance["exported"] == before
        assert len(list(run.glob("evaluation-truth-*.npz"))) == 2

    def test_another_checkpoint_is_exported_again(self, scored, trained, year):
        run, truth = scored
        first = compare.evaluate_on_soundscapes(compare.read_run(run), [year / "test_soundscapes"], truth)
        for name in ("best.pt", "last.pt"):
            shutil.copy(trained[1] / name, run / name)
        second = compare.evaluate_on_soundscapes(compare.read_run(run), [year / "test_soundscapes"], truth)
        assert np.abs(first.scores - second.scores).max() > 1e-4

    def test_a_damaged_bundle_is_exported_again(self, scored, year):
        run, truth = scored
        stored = next(iter(run.glob("evaluation-truth-*.npz")))
        first = read_evaluation(stored)
        stored.unlink()
        (run / "compare-bundle" / "model.bin").write_bytes(b"damaged")
        again = compare.evaluate_on_soundscapes(compare.read_run(run), [year / "test_soundscapes"], truth)
        np.testing.assert_allclose(again.scores, first.scores, atol=1e-6)

    def test_a_bundle_is_not_changed(self, scored, year, tmp_path):
        run, truth = scored
        wanted = read_evaluation(next(iter(run.glob("evaluation-truth-*.npz"))))
        sealed = compare.read_run(run / "compare-bundle")
        assert (sealed.experiment, sealed.fold, sealed.seed, sealed.evaluation) == ("small", 0, 0, None)
        assert sealed.settings == compare.read_run(run).settings
        before = sorted(sealed.path.iterdir())
        evaluation = compare.evaluate_on_soundscapes(sealed, [year / "test_soundscapes"], truth, keep=tmp_path / "kept")
        np.testing.assert_allclose(evaluation.scores, wanted.scores, atol=1e-6)
        assert sorted(sealed.path.iterdir()) == before
        assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".npz"]
        (sealed.path / "model.bin").write_bytes(b"damaged")
        with pytest.raises(BundleError, match=r"model\.bin was changed after sealing"):
            compare.evaluate_on_soundscapes(sealed, [year / "test_soundscapes"], truth)

    def test_rows_that_cannot_be_scored(self, scored, year):
        run, truth = compare.read_run(scored[0]), scored[1]
        with pytest.raises(
            DataError, match=r"2 of 3 recordings that .*truth\.csv names are not among .* 'soundscape_0'"
        ):
            compare.evaluate_on_soundscapes(run, [year / "test_soundscapes" / "soundscape_1.ogg"], truth)
        truth.write_text("\n".join([*TRUTH, "soundscape_2_90,1,0"]) + "\n")
        with pytest.raises(DataError, match=r"1 of 13 rows of .*truth\.csv have no score, 'soundscape_2_90' first"):
            compare.evaluate_on_soundscapes(run, [year / "test_soundscapes"], truth)
        truth.write_text("\n".join([*TRUTH, "soundscape_0_5,0.5,0"]).replace("soundscape_0_5,0,0\n", "") + "\n")
        with pytest.raises(DataError, match=r"truth\.csv: truth must be 0 or 1, got 0\.5"):
            compare.evaluate_on_soundscapes(run, [year / "test_soundscapes"], truth)

    def test_an_unreadable_recording(self, scored, year, tmp_path):
        run, truth = scored
        shutil.copytree(year / "test_soundscapes", tmp_path / "sounds")
        (tmp_path / "sounds" / "soundscape_1.ogg").write_text("no sound")
        with pytest.raises(DataError, match=r"4 of 12 rows .* 'soundscape_1_5' first \(.*soundscape_1\.ogg: not read"):
            compare.evaluate_on_soundscapes(compare.read_run(run), [tmp_path / "sounds"], truth)


class TestTrainGrid:
    def test_real_runs_can_be_compared(self, trained):
        table = compare.compare_variants([compare.read_run(folder) for folder in trained])
        assert [folder.name for folder in trained] == ["small-s0", "small-s1"]
        assert table["seeds"].tolist() == ["0, 1"]
        aucs = [pd.read_csv(folder / "metrics.csv")["clip_auc"].iloc[-1] for folder in trained]
        assert table["auc"][0] == pytest.approx(np.mean(aucs), abs=1e-5)
        assert table["scored_on"][0].endswith("held-out clips")

    def test_finished_runs_are_kept_and_others_resumed(self, trained, year, tmp_path, monkeypatch):
        for folder in trained:
            shutil.copytree(folder, tmp_path / folder.name)
        (tmp_path / "small-s1" / "last.pt").unlink()
        calls, started = [], []

        def fake(experiment, data, out, *, fold, resume, options, **_):
            calls.append((experiment.name, experiment.fit.seed, data, out.name, fold, resume, options.jobs))

        monkeypatch.setattr("bcsed.train.api.train", fake)

        other = SMALL.vary("other", fit__lr=2e-3)
        folders = train_grid(
            [SMALL, other],
            year,
            tmp_path,
            seeds=(0, 1),
            fold=0,
            begin=lambda *values: started.append(values),
            options=TrainOptions(jobs=3),
        )
        assert [folder.name for folder in folders] == ["small-s0", "small-s1", "other-s0", "other-s1"]
        assert calls == [
            ("small", 1, year, "small-s1", 0, True, 3),
            ("other", 0, year, "other-s0", 0, False, 3),
            ("other", 1, year, "other-s1", 0, False, 3),
        ]
        assert started[0] == (tmp_path / "small-s1", 2, 4)

    def test_folders_of_other_trainings_are_refused(self, trained, year, monkeypatch):
        out = trained[0].parent

        def never(*_, **__):
            raise AssertionError

        monkeypatch.setattr("bcsed.train.api.train", never)
        with pytest.raises(DataError, match=r"small-s0 holds another training .*\(fit\.lr: 0\.001 -> 0\.002\); name"):
            train_grid([SMALL.vary("small", fit__lr=2e-3)], year, out)
        with pytest.raises(DataError, match=r"small-s0 holds another training .*\(fold: 0 -> 2\)"):
            train_grid([SMALL], year, out, fold=2)
        assert train_grid([SMALL], year, out) == [out / "small-s0"]
        # Files of this call that the finished run was not trained with.
        (out / "noise").mkdir()
        shutil.copy(next((year / "test_soundscapes").glob("*.ogg")), out / "noise")
        for inputs, names in (
            (TrainInputs(noise=out / "noise"), "noise"),
            (TrainInputs(labels=[year / "train.csv"], pretrained="other"), "labels, pretrained"),
            (TrainInputs(teacher=[year / "train.csv"], pseudolabels=year / "train.csv"), "pseudolabels, teacher"),
        ):
            with pytest.raises(DataError, match=rf"small-s0 was trained with other files \({names}\) than asked"):
                train_grid([SMALL], year, out, inputs=inputs)

    def test_refusals(self, year, tmp_path):
        with pytest.raises(ConfigError, match="there is nothing to train"):
            train_grid([], year, tmp_path)
        with pytest.raises(ConfigError, match=r"two trainings would share the folder .*small-s0"):
            train_grid([SMALL, SMALL], year, tmp_path)


QUICK = (
    *("--set", "net__backbone=mobilenetv3_small_050", "--set", "fit__epochs=1", "--set", "fit__batch_size=6"),
    *("--set", "data__min_class_count=2", "--set", "data__n_folds=3", "--base", "tiny", "--jobs", "2"),
)


@pytest.mark.slow
def test_a_study_trains_and_compares(year, tmp_path, capsys):
    from bcsed.cli.app import main

    words = ["study", "mix", "--data", str(year), "--out", str(tmp_path / "out"), *QUICK]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "mix-none-s0: training 1 of 4" in text
    assert "augment.mix: off -> cutmix" in text
    assert {"compare.csv", "compare.md", "compare.png", "curves.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
    # Again: nothing is left to train.
    assert main(words) == 0
    assert "training" not in capsys.readouterr().out.replace("training time", "")


def test_invalid_studies_and_comparisons(year, tmp_path, capsys):
    from bcsed.cli.app import main

    for words, sentence in (
        (["study", "mixx", "--data", str(year), "--out", str(tmp_path)], "no question 'mixx'; there are repeat"),
        (["compare", "mix", "--recordings", "x"], "--recordings and --truth go together"),
        (["compare", "mix"], "mix"),
    ):
        assert main(words) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("question", "more", "sentence"),
    [
        *[
            ("rounds", words, f"`bcsed study rounds` would not use {words[0]}")
            for words in (
                ["--pseudolabels", "x"],
                ["--clip-pseudolabels", "x"],
                ["--pretrained", "x"],
                ["--allow-mismatch"],
            )
        ],
        ("teacher", ["--key-map", "order"], "`bcsed study teacher` would not use --key-map"),
        ("rounds", ["--noise", "nosuch"], "nosuch, which round 1 needs, does not exist"),
        ("rounds", ["--labels", "nosuch.csv"], "nosuch.csv, which round 1 needs, does not exist"),
        ("rounds", ["--truth", "x"], "--recordings and --truth go together"),
        ("mix", ["--recordings", "x"], "--recordings and --truth go together"),
        ("mix", ["--recordings", "x", "--truth", "nosuch.csv"], "nosuch.csv"),
    ],
)
def test_studies_are_checked_before_training(year, tmp_path, capsys, monkeypatch, question, more, sentence):
    from bcsed.cli.app import main
    from bcsed.train import api

    monkeypatch.setattr(api, "prepare_data", lambda *_, **__: pytest.fail("trained"))
    out = tmp_path / "out"
    assert main(["study", question, "--data", str(year), "--out", str(out), *more]) == 2
    assert sentence in capsys.readouterr().err


def test_a_study_leaves_the_folder_of_other_work_alone(year, tmp_path, capsys):
    from bcsed.cli.app import main

    (tmp_path / "thesis.txt").write_text("all of it")
    for question in ("mix", "rounds"):
        assert main(["study", question, "--data", str(year), "--out", str(tmp_path)]) == 2
        assert "contains other files, such as thesis.txt; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
def test_the_study_of_the_teacher(land25, tmp_path, capsys, monkeypatch):
    from bcsed import rounds
    from bcsed.cli.app import main
    from bcsed.rounds import plan as presets

    # Enough steps that the scores of a teacher's rows differ, and that some exceed a low threshold.
    monkeypatch.setattr(presets, "_LABELLED", dataclasses.replace(presets._LABELLED, threshold=0.05))
    words = ["study", "teacher", "--data", str(land25[0]), "--out", str(tmp_path / "out"), *QUICK]
    words += ["--set", "fit__epochs=4", "--set", "fit__lr=0.005", "--set", "augment__mix=off"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "3 networks label" in text
    assert "2  tiny-round-2" in text
    for plan, n_teachers in (("teacher-small", 1), ("teacher-ensemble", 3)):
        ledger = rounds.read_ledger(tmp_path / "out" / plan)
        assert len(ledger[1]["teacher"]) == n_teachers
        assert ledger[1]["pseudolabels"]["selection"]["kind"] == "threshold"


def test_recordings_of_one_name_and_size_have_their_own_evaluation(tiny, tmp_path, rng):
    from types import SimpleNamespace

    from bcsed.analysis.compare.evaluate import _digits
    from bcsed.predict.spec import Windowing

    (tmp_path / "truth.csv").write_text("row_id,a\n")
    compared, digits = SimpleNamespace(path=tiny.path, contract={}), []
    for name in ("raw", "clean"):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "a.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(RATE), RATE)
        digits.append(_digits(compared, None, [path], tmp_path / "truth.csv", Windowing()))
    assert len(set(digits)) == 2
