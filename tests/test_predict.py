"""The four tests that come first: oracle, locality, isolation (and every field of Signal, in test_bundle)."""

from __future__ import annotations

import copy
import gc
import json
import shutil
import time
import weakref

import librosa
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from bcsed import predict
from bcsed.audio.decode import read_audio, read_there
from bcsed.audio.headers import read_info
from bcsed.config.contract import TINY_128
from bcsed.errors import BundleError, ConfigError, DataError
from bcsed.models import bundle
from bcsed.models.backends import OpenVinoBackend
from bcsed.models.ensemble import Ensemble, from_bundles
from bcsed.predict.api import RunOptions
from bcsed.predict.outputs import OutputOptions
from bcsed.predict.pipeline import ScoringPipeline
from bcsed.predict.spec import Windowing, make_views
from bcsed.predict.store import SCHEMA, FolderStore, MemoryStore, StoredScores, describe_recordings
from bcsed.scores.table import read_table, row_ids

RATE = 32_000
SLIDING = Windowing(windows="sliding", stride_s=3.0)


def score(bundles, recordings, **options):
    models = bundles if isinstance(bundles, list | Ensemble) else [bundles]
    return predict.predict(models, recordings, **options)


def loudness(path) -> np.ndarray:
    """Each second's loudness as the oracle reports it, by librosa: (seconds,) of mean dB / 20."""
    wave = read_audio(read_info(path), RATE)[0]
    # Beyond its end a recording is silent; the last frames still reach back into it.
    seconds = -(-len(wave) // RATE)
    wave = np.pad(wave, (0, (seconds + 1) * RATE - len(wave)))
    power = librosa.feature.melspectrogram(
        y=wave, sr=RATE, n_fft=2048, hop_length=1000, n_mels=64, fmin=20, fmax=14_000, pad_mode="constant"
    )
    db = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    return db[:, : 32 * seconds].reshape(64, seconds, 32).mean((0, 2)) / 20


@pytest.mark.parametrize(
    "windowing", [Windowing(), SLIDING, Windowing(windows="sliding")], ids=["centred", "sliding-3", "sliding"]
)
@pytest.mark.parametrize("name", ["long", "odd", "short", "blip"])
def test_oracle_every_row_reports_its_own_loudness_at_its_own_place(oracle, recordings, name, windowing):
    """Steps of TINY_128 last 1 s and begin on whole seconds only where windows do: rows are compared with
    the mean of the seconds that they hold, and centred windows begin half a second off at most."""
    path = recordings / f"{name}.wav"
    table = score(oracle, [path], windowing=windowing).scores
    wave_s = read_info(path).duration_s
    truth = 1 / (1 + np.exp(-loudness(path)))
    assert len(table) == int(np.ceil(wave_s / 5))
    assert list(table.index) == row_ids(name, len(table), 5)
    for place in range(len(table)):
        inside = truth[5 * place : int(np.ceil(min(5 * place + 5, wave_s)))]
        lengths = np.minimum(1, wave_s - 5 * place - np.arange(len(inside)))
        expected = np.average(inside, weights=lengths)
        # A centred window's steps straddle seconds; each still belongs to the row by its overlap.
        slack = 1e-5 if windowing.windows == "sliding" else 0.08
        assert abs(table["loud"].iloc[place] - expected) < slack, (place, expected)
        assert table["quiet"].iloc[place] < 1


def test_oracle_rows_of_a_stair_are_a_stair(oracle, oracle_logit, tmp_path):
    """Each row has a level of its own, so a shifted, swapped or broadcast row cannot hide."""
    rng = np.random.default_rng(4)
    levels = rng.permutation(np.linspace(-70, -5, 12))
    wave = np.concatenate([10 ** (db / 20) * rng.standard_normal(5 * RATE) for db in levels]).astype("float32")
    soundfile.write(tmp_path / "stair.wav", wave, RATE, subtype="FLOAT")
    for member in (oracle, oracle_logit):
        for windowing in (Windowing(), SLIDING):
            table = score(member, [tmp_path / "stair.wav"], windowing=windowing).scores
            assert np.array_equal(np.argsort(table["loud"].to_numpy()), np.argsort(levels))


@pytest.mark.parametrize("windowing", [Windowing(), SLIDING], ids=["centred", "sliding"])
def test_locality_a_sound_changes_only_the_rows_it_touches(oracle, tmp_path, rng, windowing):
    wave = (0.01 * rng.standard_normal(60 * RATE)).astype("float32")
    soundfile.write(tmp_path / "a.wav", wave, RATE, subtype="FLOAT")
    wave[32 * RATE : 33 * RATE] += 0.5 * rng.standard_normal(RATE).astype("float32")
    soundfile.write(tmp_path / "b.wav", wave, RATE, subtype="FLOAT")
    before, after = (score(oracle, [tmp_path / f"{x}.wav"], windowing=windowing).scores.to_numpy() for x in "ab")
    changed = np.flatnonzero((before != after).any(1))
    assert changed.tolist() == [6]


def test_isolation_rows_depend_on_their_recording_alone(tiny, recordings):
    paths = sorted(recordings.iterdir())
    alone = {path.stem: score(tiny, [path], options=RunOptions(jobs=1)).scores for path in paths}
    for order, jobs in ((paths, 0), (paths[::-1], 3), (paths[1:] + paths[:1], 1)):
        result = score(tiny, order, options=RunOptions(jobs=jobs))
        assert result.scores.index.str.rsplit("_", n=1).str[0].unique().tolist() == [p.stem for p in order]
        for stem, table in alone.items():
            mine = result.scores[result.scores.index.str.startswith(f"{stem}_")]
            np.testing.assert_array_equal(mine.to_numpy(), table.to_numpy())


def test_blocks_do_not_show(tiny, recordings, monkeypatch):
    whole = score(tiny, [recordings / "long.wav"], windowing=SLIDING).scores
    centred = score(tiny, [recordings / "long.wav"]).scores
    monkeypatch.setattr("bcsed.predict.blocks.BLOCK_ROWS", 5)
    # Pooling fewer rows at a time may round the last bit of a sum differently.
    np.testing.assert_allclose(score(tiny, [recordings / "long.wav"]).scores, centred, atol=1e-6)
    np.testing.assert_allclose(score(tiny, [recordings / "long.wav"], windowing=SLIDING).scores, whole, atol=1e-6)


def test_an_ensemble_is_the_weighted_mean_and_its_order_does_not_matter(tiny, network, recordings, tmp_path):
    from bcsed.models.export import export

    # A copy: adding and subtracting again would leave the shared network rounded.
    shifted = copy.deepcopy(network)
    shifted.heads[0].logits[-1].bias.data += 1.0
    other = export(shifted, tmp_path / "b", contract=tiny.contract, priors=np.full(3, 0.4, "float32"))
    path = [recordings / "odd.wav"]
    first, second = score(tiny, path).scores, score(other, path).scores
    both = score(from_bundles([tiny, other], [3, 1]), path).scores
    np.testing.assert_allclose(both, 0.75 * first + 0.25 * second, atol=1e-6)
    np.testing.assert_allclose(score(from_bundles([other, tiny], [1, 3]), path).scores, both, atol=1e-6)


def test_a_window_is_answered_alike_in_whatever_company(tiny, rng):
    """Windows go to the network in pairs; one without company is looked at twice, and nobody's answer changes."""
    windows = (rng.standard_normal((5, 64, 256)) * 15 - 40).astype("float32")
    listener = OpenVinoBackend(tiny)

    def ask(places):
        answers = {}

        def take(place):
            def done(logits, attention):
                answers[place] = (logits.copy(), attention.copy())

            return done

        for place in places:
            listener.submit(windows[place], take(place))
        listener.finish()
        return answers

    together = ask(range(5))
    assert sorted(together) == list(range(5))
    for order in ([4], [1, 0], [3, 2, 0], [2]):
        for place, answer in ask(order).items():
            np.testing.assert_array_equal(answer[0], together[place][0])
            np.testing.assert_array_equal(answer[1], together[place][1])


def test_windows_wait_for_those_of_other_recordings(tiny, rng, tmp_path, monkeypatch):
    """A recording of one window costs one window: it goes to the network with the next recording's."""
    from bcsed.models import backends

    paths = [tmp_path / f"clip{place}.wav" for place in range(9)]
    for path in paths:
        soundfile.write(path, (0.1 * rng.standard_normal(4 * RATE)).astype("float32"), RATE)
    alone = [score(tiny, [path]).scores for path in paths]
    sizes = []
    original = backends._call_results
    monkeypatch.setattr(
        backends, "_call_results", lambda request, done: sizes.append(len(done)) or original(request, done)
    )
    together = score(tiny, paths).scores
    assert sorted(sizes) == [1, 2, 2, 2, 2]
    np.testing.assert_array_equal(together.to_numpy(), np.concatenate([table.to_numpy() for table in alone]))


@pytest.mark.parametrize("last", ["", "an unreadable file", "no further recording is taken"])
def test_all_callbacks_have_ended_when_the_scores_are_there(tiny, rng, tmp_path, monkeypatch, last):
    """A callback that still runs would delete its own request, for which OpenVINO waits forever."""
    from bcsed.models import backends

    paths = [tmp_path / f"clip{place}.wav" for place in range(3)]
    for path in paths:
        soundfile.write(path, (0.1 * rng.standard_normal(4 * RATE)).astype("float32"), RATE)
    if last == "an unreadable file":
        paths.append(tmp_path / "clip3.wav")
        paths[-1].write_bytes(b"RIFF")
    original, started, ended = backends._call_results, [], []

    def answer(request, callbacks):
        started.append(1)
        original(request, callbacks)
        time.sleep(0.2)
        ended.append(1)

    monkeypatch.setattr(backends, "_call_results", answer)
    ensemble = from_bundles([tiny])
    views = make_views(ensemble, Windowing())
    outcomes = ScoringPipeline(ensemble, views, jobs=0).score(describe_recordings(paths))
    for _ in range(2 if last == "no further recording is taken" else len(paths)):
        next(outcomes)
    outcomes.close() if last.startswith("no") else list(outcomes)
    assert len(started) == len(ended) == 2


def test_a_network_in_training_answers_the_pipeline_as_it_answers_validation(network, tiny, recordings, monkeypatch):
    """It holds windows back until a batch is full, and gives way to whoever waits."""
    import torch

    from bcsed.models.backends import TorchBackend
    from bcsed.predict.blocks import score_recording
    from bcsed.predict.pipeline import ScoringPipeline

    class Asked(TorchBackend):
        """Ends only what it is asked for: whoever waits in vain ends all, and would hide that nobody gave way."""

        asked = False

        def submit(self, *given):
            return self.ask(super().submit, *given)

        def flush(self, *given):
            return self.ask(super().flush, *given)

        def ask(self, logits, *given):
            self.asked = True
            try:
                return logits(*given)
            finally:
                self.asked = False

        def finish(self):
            assert self.asked or not self._windows
            super().finish()

    monkeypatch.setattr("bcsed.predict.pipeline.PATIENCE_S", 0)
    asked, alone = (
        Ensemble((kind(network, tiny.contract, torch.device("cpu")),), (1.0,)) for kind in (Asked, TorchBackend)
    )
    paths = sorted(recordings.iterdir())
    made = list(ScoringPipeline(asked, make_views(asked, Windowing())).score(describe_recordings(paths)))
    assert [one.recording.path for one in made] == paths
    for one in made:
        expected, _ = score_recording(read_info(one.recording.path), alone, Windowing())
        # Batches of other sizes round sums differently.
        np.testing.assert_allclose(one.scores.views["0-centred"], expected, atol=1e-6)


def test_a_run_lets_its_networks_go(tiny, recordings, monkeypatch):
    """OpenVINO keeps what it calls back: whatever leads from there to the network keeps its memory for good."""
    made = []
    original = OpenVinoBackend.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        made.append(weakref.ref(self))

    monkeypatch.setattr(OpenVinoBackend, "__init__", init)
    result = score(tiny, [recordings / "long.wav"])
    gc.collect()
    assert len(result.scores) == 12
    assert [one() for one in made] == [None]


def test_members_of_one_signal_share_its_picture(tiny, recordings, monkeypatch):
    from bcsed.audio.spectrogram import LogMel

    calls = []
    original = LogMel.compute
    monkeypatch.setattr(LogMel, "compute", lambda self, *a: calls.append(1) or original(self, *a))
    score([tiny, tiny, tiny], [recordings / "short.wav"])
    assert len(calls) == 1


def test_members_that_do_not_fit_are_refused(tiny, oracle, recordings):
    with pytest.raises(BundleError, match="members 1 and 2 do not have the same classes: 'loud' is in only one"):
        score([tiny, oracle], [recordings])
    with pytest.raises(ConfigError, match="2 weights for 1 members"):
        from_bundles([tiny], [1, 2])
    with pytest.raises(ConfigError, match="positive numbers"):
        from_bundles([tiny], [-1])
    with pytest.raises(ConfigError, match="at least one bundle"):
        score([], [recordings])


@pytest.fixture
def mixed(recordings, tmp_path):
    """Good recordings with bad ones first, between and last."""
    folder = tmp_path / "mixed"
    shutil.copytree(recordings, folder)
    (folder / "a-empty.ogg").touch()
    (folder / "m-text.ogg").write_text("not sound")
    (folder / "z-header.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "silence.wav", np.zeros(20 * RATE, "float32"), RATE)
    return folder


def test_bad_recordings_are_reported_and_cost_nobody_else(tiny, recordings, mixed, tmp_path):
    good = score(tiny, [recordings]).scores
    result = score(tiny, [mixed], out=tmp_path / "out")
    assert result.n_failed == 3
    assert set(result.failures["status"]) == {"failed"}
    assert result.failures["recording"].str.rsplit("/", n=1).str[1].tolist() == [
        "a-empty.ogg",
        "m-text.ogg",
        "z-header.wav",
    ]
    np.testing.assert_array_equal(result.scores.loc[good.index], good)
    assert result.silent == ("silence",)
    assert not result.scores.index.str.contains("empty|text|header").any()


def test_bad_recordings_are_filled_only_when_asked(tiny, mixed, tmp_path):
    result = score(tiny, [mixed], out=tmp_path / "out", output=OutputOptions(on_error="fill"))
    filled = result.scores[result.scores.index.str.startswith("a-empty_")]
    assert filled.shape == (12, 3)
    assert np.allclose(filled, 0.2)
    assert (result.failures["status"] == "filled").sum() == result.n_failed == 3
    with pytest.raises(ConfigError, match="on_error must be one of report, fill"):
        OutputOptions(on_error="noise")


def test_nan_is_scored_and_noted(tiny, tmp_path):
    wave = np.random.default_rng(0).standard_normal(12 * RATE).astype("float32") * 0.1
    wave[: RATE // 2] = np.nan
    soundfile.write(tmp_path / "nan.wav", wave, RATE, subtype="FLOAT")
    result = score(tiny, [tmp_path / "nan.wav"])
    assert np.isfinite(result.scores.to_numpy()).all()
    assert "not numbers" in result.notes["note"].iloc[0]


def test_a_killed_run_goes_on_without_scoring_anything_twice(tiny, recordings, tmp_path, monkeypatch):
    expected = score(tiny, [recordings]).scores
    seen = 0

    def kill(done, total):
        nonlocal seen
        seen = done
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(tiny, [recordings], out=tmp_path / "out", progress=kill)
    assert not (tmp_path / "out" / "submission.csv").exists()
    decoded = []
    original = read_there
    monkeypatch.setattr(
        "bcsed.predict.blocks.read_there", lambda found, *a: decoded.append(found.path.stem) or original(found, *a)
    )
    result = score(tiny, [recordings], out=tmp_path / "out")
    assert result.n_resumed >= 2
    assert len(decoded) == 4 - result.n_resumed
    np.testing.assert_array_equal(result.scores, expected)
    again = read_table(tmp_path / "out" / "submission.csv")
    np.testing.assert_allclose(again, expected, atol=1e-6)


@pytest.mark.parametrize("damage", [lambda d: d[: len(d) // 2], lambda d: d[:0], lambda d: d + b"x"])
def test_a_damaged_part_is_scored_again(tiny, recordings, tmp_path, damage):
    first = score(tiny, [recordings], out=tmp_path / "out").scores
    parts = sorted((tmp_path / "out" / "parts").iterdir())
    assert len(parts) == 4
    parts[0].write_bytes(damage(parts[0].read_bytes()))
    result = score(tiny, [recordings], out=tmp_path / "out")
    assert result.n_resumed == 3
    np.testing.assert_array_equal(result.scores, first)
    assert score(tiny, [recordings], out=tmp_path / "out").n_resumed == 4


def test_no_flipped_bit_of_a_part_goes_unseen(tmp_path, rng):
    """Not in the values, and not in what tells Parquet's reader how to read them."""
    part = StoredScores({"0-centred": rng.random((4, 3), dtype=np.float32)}, ("a note",), n_samples=4, sample_rate=1)
    FolderStore(tmp_path / "out", {}).put([("key", part)])
    (file,) = (tmp_path / "out" / "parts").iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 16
        file.write_bytes(damaged)
        assert not FolderStore(tmp_path / "out", {}).views("key"), place
        assert not file.exists()
    file.write_bytes(whole)
    np.testing.assert_array_equal(
        FolderStore(tmp_path / "out", {}).get("key").views["0-centred"], part.views["0-centred"]
    )


def test_a_part_with_another_value_is_scored_again(tiny, recordings, tmp_path):
    first = score(tiny, [recordings], out=tmp_path / "out").scores
    part = sorted((tmp_path / "out" / "parts").iterdir())[0]
    table = pq.read_table(part)
    values = table["0-centred"].combine_chunks().flatten().to_numpy().copy()
    values[0] += 0.01
    changed = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
    pq.write_table(table.set_column(2, table.schema.field(2), changed), part)
    result = score(tiny, [recordings], out=tmp_path / "out")
    assert result.n_resumed == 3
    np.testing.assert_array_equal(result.scores, first)


def test_a_changed_recording_is_scored_again(tiny, tmp_path, rng):
    wave = (0.1 * rng.standard_normal(8 * RATE)).astype("float32")
    soundfile.write(tmp_path / "r.wav", wave, RATE)
    before = score(tiny, [tmp_path / "r.wav"], out=tmp_path / "out").scores
    soundfile.write(tmp_path / "r.wav", wave[::-1][: 7 * RATE], RATE)
    after = score(tiny, [tmp_path / "r.wav"], out=tmp_path / "out")
    assert after.n_resumed == 0
    assert not np.array_equal(before, after.scores)


def test_another_runs_folder_is_refused(tiny, oracle, recordings, tmp_path):
    score(tiny, [recordings / "blip.wav"], out=tmp_path / "out")
    with pytest.raises(DataError, match="scores of another run: its windows is 'centred', now it is 'sliding'"):
        score(tiny, [recordings], out=tmp_path / "out", windowing=SLIDING)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.tex").touch()
    with pytest.raises(DataError, match="contains other files"):
        score(tiny, [recordings], out=tmp_path / "own")
    (tmp_path / "out" / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="is damaged"):
        score(tiny, [recordings], out=tmp_path / "out")


def test_a_folder_of_an_earlier_version_is_refused(tiny, recordings, tmp_path):
    score(tiny, [recordings / "blip.wav"], out=tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["schema"], values["settings"]["schema"]
    values["settings"]["bcsed"] = "0.1.0"
    manifest.write_text(json.dumps(values))
    with pytest.raises(DataError, match=r"schema 1, this version uses 2.; name a new folder"):
        score(tiny, [recordings], out=tmp_path / "out")


def test_equal_stems_are_told_apart_by_their_folders(tiny, recordings, tmp_path):
    for site in ("north", "south"):
        (tmp_path / "in" / site).mkdir(parents=True)
        shutil.copy(recordings / f"{'blip' if site == 'north' else 'short'}.wav", tmp_path / "in" / site / "0001.WAV")
    shutil.copy(recordings / "odd.wav", tmp_path / "in" / "0002.wav")
    result = score(tiny, [tmp_path / "in"], out=tmp_path / "out")
    names = result.scores.index.str.rsplit("_", n=1).str[0].unique().tolist()
    assert names == ["0002", "north/0001", "south/0001"]
    alone = score(tiny, [tmp_path / "in" / "south"]).scores
    np.testing.assert_array_equal(result.scores.loc[["south/0001_5", "south/0001_10"]], alone)


def test_columns_follow_the_template(tiny, recordings, tmp_path):
    template = tmp_path / "sample_submission.csv"
    template.write_text("row_id,c,a,b\nx_5,.3,.3,.3\n")
    result = score(
        tiny, [recordings / "blip.wav"], out=tmp_path / "out", output=OutputOptions(sample_submission=template)
    )
    assert list(result.scores.columns) == ["c", "a", "b"]
    assert list(read_table(tmp_path / "out" / "submission.csv").columns) == ["c", "a", "b"]
    template.write_text("row_id,c,a,x\nx_5,.3,.3,.3\n")
    with pytest.raises(BundleError, match="no member has class 'x'"):
        score(tiny, [recordings], output=OutputOptions(sample_submission=template))


def test_the_manifest_says_what_was_done(tiny, recordings, tmp_path):
    score(tiny, [recordings / "blip.wav"], out=tmp_path / "out")
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert told["settings"]["bundles"] == [[tiny.contract.fingerprint, tiny.sha256]]
    assert told["settings"]["precision"] == "f32"
    assert told["schema"] == told["settings"]["schema"] == SCHEMA
    assert "bcsed" not in told["settings"]
    assert told["n_rows"] == 1


def test_the_precision_is_pinned(tiny):
    compiled = bundle.compile_graph(bundle.read_graph(tiny), TINY_128)
    assert "float32" in str(compiled.get_property("INFERENCE_PRECISION_HINT")) or "f32" in str(
        compiled.get_property("INFERENCE_PRECISION_HINT")
    )


def test_notes_of_several_views_are_merged(tmp_path, rng):
    values = rng.random((4, 3), "float32")
    stores = [MemoryStore(), FolderStore(tmp_path / "out", {})]
    for store in stores:
        for view, notes in (("0-centred", ("quiet", "b")), ("1-centred", ()), ("0-sliding", ("b", "a"))):
            store.put([("key", StoredScores({view: values}, notes=notes))])
        assert store.notes_and_silence("key")[0] == store.get("key").notes == ("a", "b", "quiet")
    assert FolderStore(tmp_path / "out", {}).get("key").notes == ("a", "b", "quiet")


def test_parts_stay_in_memory_as_far_as_there_is_room(tmp_path, rng, monkeypatch):
    from bcsed.predict import store

    parts = {f"{place:02}": StoredScores({"0-centred": rng.random((4, 8), "float32")}) for place in range(10)}
    monkeypatch.setattr(store, "CACHE_BYTES", 3 * 4 * 8 * 4)
    folder = FolderStore(tmp_path / "out", {})
    for key, part in parts.items():
        folder.put([(key, part)])
        assert len(folder._cache) <= 3
    for key in ("09", "00", "01", "02", "03", "09"):
        np.testing.assert_array_equal(folder.get(key).views["0-centred"], parts[key].views["0-centred"])
        assert len(folder._cache) <= 3
    assert folder._n_cached == sum(values["0-centred"].nbytes for values in folder._cache.values())
    gone = next(file for file in (tmp_path / "out" / "parts").iterdir() if file not in folder._cache)
    gone.write_bytes(b"damaged")
    with pytest.raises(DataError, match="was damaged during the run"):
        for key in parts:
            folder.get(key)
