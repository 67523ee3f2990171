from __future__ import annotations

import ast
import hashlib
import io

import numpy as np
import pandas as pd
import pytest
import soundfile

from bcsed.data import synthetic as sample
from bcsed.data.competitions import (
    BIRDCLEF_2025,
    BIRDCLEF_2026,
    detect_competition,
    read_class_list,
    site_of,
)
from bcsed.data.label_files import check_files, read_soundscape_labels, read_train, truth_table
from bcsed.data.synthetic import ogg, plan, scenes
from bcsed.data.synthetic.species import SAMPLE_RATE_HZ, Individual, quick_length
from bcsed.errors import ConfigError, DataError

SCALE = 0.1
SPECS = {2025: BIRDCLEF_2025, 2026: BIRDCLEF_2026}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a folder per year, at a tenth of the size."""
    root = tmp_path_factory.mktemp("sample")
    return {year: sample.write(root / str(year), year=year, scale=SCALE) for year in SPECS}


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


# ---- reproducibility -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_seed_gives_the_same_bytes_for_any_number_of_threads(folders, tmp_path):
    again = sample.write(tmp_path / "again", year=2026, scale=SCALE, jobs=1)
    assert digests(again) == digests(folders[2026])


@pytest.mark.slow
def test_another_seed_gives_another_competition(folders, tmp_path):
    other = sample.write(tmp_path / "other", year=2025, scale=SCALE, seed=1)
    mine, theirs = digests(folders[2025]), digests(other)
    audio = {digest for name, digest in mine.items() if name.endswith(".ogg")}
    assert audio.isdisjoint(theirs.values())
    for name in ("train.csv", sample.TEST_TRUTH_CSV, sample.TRAIN_TRUTH_CSV):
        assert mine[name] != theirs[name]
    assert mine["taxonomy.csv"] == theirs["taxonomy.csv"]


@pytest.mark.slow
def test_no_sound_is_written_twice(folders):
    for folder in folders.values():
        audio = [digest for name, digest in digests(folder).items() if name.endswith(".ogg")]
        assert len(set(audio)) == len(audio)


# ---- schema ----------------------------------------------------------------------------------------------

COLUMNS = {
    2025: "primary_label, secondary_labels, type, filename, collection, rating, url, latitude, longitude, "
    "scientific_name, common_name, author, license",
    2026: "primary_label, secondary_labels, type, latitude, longitude, scientific_name, common_name, "
    "class_name, inat_taxon_id, author, license, rating, url, filename, collection",
}


@pytest.mark.parametrize("year", SPECS)
def test_train_csv_has_the_notation_of_its_year(folders, year):
    train = table(folders[year] / "train.csv")
    assert ", ".join(train.columns) == COLUMNS[year]
    empty = {2025: "['']", 2026: "[]"}[year]
    for column in ("secondary_labels", "type"):
        assert empty in set(train[column])
        others = train[column][train[column] != empty].map(ast.literal_eval)
        assert all(isinstance(cell, list) and cell and all(cell) for cell in others)
    assert set(train["collection"]) <= {"XC", "iNat", "CSA"}
    for row in train.itertuples():
        assert row.filename.startswith(f"{row.primary_label}/{row.collection}")
    assert (train["rating"][train["collection"] != "XC"].astype(float) == 0).all()
    assert train["rating"].astype(float).between(0, 5).all()
    assert train["author"].value_counts().max() > 1


@pytest.mark.parametrize("year", SPECS)
def test_the_listed_files_exist(folders, year):
    folder = folders[year]
    listed = set(table(folder / "train.csv")["filename"])
    assert listed == {str(p.relative_to(folder / "train_audio")) for p in folder.glob("train_audio/*/*.ogg")}
    expected = {
        *("recording_location.txt", "sample_submission.csv", "taxonomy.csv", "test_soundscapes", "train.csv"),
        *("train_audio", "train_soundscapes", sample.TEST_TRUTH_CSV, sample.TRAIN_TRUTH_CSV),
    }
    expected |= {"train_soundscapes_labels.csv"} if year == 2026 else set()
    assert {path.name for path in folder.iterdir()} == expected


@pytest.mark.parametrize("year", SPECS)
def test_classes_are_sorted_as_text_and_mixed(folders, year):
    folder = folders[year]
    taxonomy = table(folder / "taxonomy.csv")
    stub = table(folder / "sample_submission.csv")
    labels = list(taxonomy["primary_label"])
    assert labels == sorted(labels) == list(stub.columns[1:])
    assert len(labels) == {2025: 14, 2026: 15}[year]
    assert set(taxonomy["class_name"]) == {"Aves", "Amphibia", "Insecta", "Mammalia"}
    assert np.allclose(stub.iloc[:, 1:].astype(float), 1 / len(labels))
    assert len(stub) == 3
    without_clips = set(labels) - set(table(folder / "train.csv")["primary_label"])
    assert without_clips == ({"47158son01"} if year == 2026 else set())


@pytest.mark.parametrize("year", SPECS)
def test_bcsed_reads_it(folders, year):
    folder, spec = folders[year], SPECS[year]
    assert detect_competition(folder) == spec
    classes = read_class_list(folder, spec)
    train = read_train(folder, spec, classes)
    check_files(train)
    assert train["recording"].is_unique
    assert train["secondary"].map(len).max() > 0
    for path in folder.glob("train_soundscapes/*.ogg"):
        assert site_of(path, spec) in plan.EDITIONS[year].sites


def test_names_of_test_soundscapes(folders):
    for path in folders[2025].glob("test_soundscapes/*"):
        assert path.stem.startswith("soundscape_")
        assert path.stem.removeprefix("soundscape_").isdigit()
    dates = {
        split: {path.stem.split("_")[4][:6] for path in folders[2026].glob(f"{split}_soundscapes/*")}
        for split in ("train", "test")
    }
    assert max(dates["train"]) < min(dates["test"])


def test_counts_at_full_size_are_very_unequal():
    for edition in plan.EDITIONS.values():
        clips = plan.clips(edition, seed=0, scale=1)
        counts = pd.Series([clip.species.label for clip in clips]).value_counts()
        assert 250 <= len(clips) <= 300
        assert (counts.min(), counts.max()) == (3, 60)
        seconds = np.array([clip.duration_s for clip in clips])
        assert seconds.min() >= 0.5
        assert seconds.max() <= 12
        assert 0 < (seconds < 1).sum() < 20
        assert all(clip.species not in clip.others for clip in clips)


# ---- truth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", SPECS)
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_class_has_positive_and_negative_rows(folders, year, split):
    name = {"train": sample.TRAIN_TRUTH_CSV, "test": sample.TEST_TRUTH_CSV}[split]
    truth = pd.read_csv(folders[year] / name, index_col="row_id")
    assert list(truth.columns) == list(table(folders[year] / "taxonomy.csv")["primary_label"])
    stems = sorted(path.stem for path in folders[year].glob(f"{split}_soundscapes/*.ogg"))
    assert list(truth.index) == [f"{stem}_{end}" for stem in stems for end in range(5, 61, 5)]
    assert set(np.unique(truth)) == {0, 1}
    assert (truth.sum() > 0).all()
    assert (truth.sum() < len(truth)).all()


def test_labels_agree_with_the_truth_and_are_repeated(folders):
    folder, spec = folders[2026], SPECS[2026]
    classes = read_class_list(folder, spec)
    raw = table(folder / spec.soundscape_labels_csv)
    assert list(raw.columns) == ["filename", "start", "end", "primary_label"]
    for _, rows in raw.groupby("filename"):
        assert len(rows) == 24
        assert rows.iloc[:12].to_numpy().tolist() == rows.iloc[12:].to_numpy().tolist()
        assert rows["start"].iloc[1] == "00:00:05"
    labels = read_soundscape_labels(folder / spec.soundscape_labels_csv, classes)
    mine = truth_table(labels, classes)
    truth = pd.read_csv(folder / sample.TRAIN_TRUTH_CSV, index_col="row_id").loc[mine.index]
    assert np.array_equal(mine, truth)
    assert mine["47158son01"].any()


def test_the_class_without_clips_is_in_labelled_soundscapes():
    items = plan.soundscapes(plan.EDITIONS[2026], seed=0, count=16, test=False)
    labelled = plan.labelled(items, seed=0, share=0.4)
    assert len(labelled) == 6
    with_it = [item for item in labelled if any(species.clips == 0 for species in item.cast)]
    assert len(with_it) >= 2


def test_a_row_needs_enough_of_a_song():
    events = [scenes.Event("b", 4.0, 5.2), scenes.Event("a", 9.7, 10.3), scenes.Event("a", 12.0, 21.0)]
    truth = scenes.row_truth(events, ["a", "b"], n_rows=4, row_s=5, min_overlap_s=0.25)
    assert truth.T.tolist() == [[0, 1, 1, 1], [1, 0, 0, 0]]


def test_songs_raise_the_level_in_positive_rows():
    """At a site without wind, a band is louder in the rows with a song of its species."""
    (species,) = (each for each in sample.SPECIES if each.label == "fallin1")
    still = scenes.Site(name="still", tilt_db_per_octave=-3)
    wave, events = scenes.soundscape([species], still, duration_s=60, rng=np.random.default_rng(0), snr_db=(10, 15))
    power = np.abs(np.fft.rfft(wave.reshape(12, -1))) ** 2
    low, high = (5 * hz for hz in species.band_hz)  # five seconds: bins 0.2 Hz apart
    level = power[:, int(low) : int(high)].sum(1)
    positive = scenes.row_truth(events, ["fallin1"], n_rows=12, row_s=5, min_overlap_s=0.25)[:, 0] == 1
    assert level[positive].min() > 1.1 * np.median(level[~positive])


# ---- sound -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("year", SPECS)
def test_recordings_are_ogg_vorbis_of_the_right_length(folders, year):
    expected = {f"train_audio/{c.filename}": c.duration_s for c in plan.clips(plan.EDITIONS[year], seed=0, scale=SCALE)}
    for path in sorted(folders[year].rglob("*.ogg")):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.samplerate, info.channels) == ("OGG", "VORBIS", 32_000, 1)
        seconds = expected.get(path.relative_to(folders[year]).as_posix(), 60)
        assert info.frames == round(seconds * 32_000)
    wave, _ = soundfile.read(path, dtype="float32")
    assert np.isfinite(wave).all()
    assert 0.001 < np.abs(wave).max() <= 1


@pytest.mark.parametrize("species", sample.SPECIES, ids=lambda species: species.label)
def test_songs_stay_in_their_band_and_differ_between_individuals(species):
    rng = np.random.default_rng(7)
    songs = [species.song(Individual.draw(rng), rng) for _ in range(6)]
    for song in songs:
        assert song.dtype == np.float32
        assert np.abs(song).max() == pytest.approx(1)
        assert 0.4 <= len(song) / SAMPLE_RATE_HZ <= 9
        size = 1 << len(song).bit_length()
        power = np.abs(np.fft.rfft(song, size)) ** 2
        low, high = (round(hz * size / SAMPLE_RATE_HZ) for hz in species.band_hz)
        assert power[low : high + 1].sum() > 0.9 * power.sum()
    assert len({len(song) for song in songs}) > 1


@pytest.mark.parametrize("n", [16, 17, 1000, 16_001, 31_999, 160_000, 1_920_000])
def test_a_quick_length_is_even_and_little_more(n):
    size = quick_length(n)
    assert n <= size <= n * 9 / 8 + 1
    assert size % 2 == 0


@pytest.mark.parametrize("site", plan.EDITIONS[2025].sites)
def test_backgrounds_have_unit_level_and_differ(site):
    rng = np.random.default_rng([1, *site.encode()])
    wave = scenes.background(scenes.Site.draw(site, rng), 40_001, rng)
    assert wave.shape == (40_001,)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(1)


def test_a_clip_is_as_loud_over_its_noise_as_asked():
    (species,) = (each for each in sample.SPECIES if each.label == "47158son01")
    still = scenes.Site(name="still", tilt_db_per_octave=-3)
    quiet, loud = (
        scenes.focal_clip(species, still, duration_s=4, snr_db=snr_db, rng=np.random.default_rng(0))
        for snr_db in (0, 20)
    )

    def contrast_db(wave):
        power = np.abs(np.fft.rfft(wave)) ** 2
        inside, outside = power[4 * 5900 : 4 * 8300].sum(), power[4 * 1000 : 4 * 3000].sum()
        return 10 * np.log10(inside / outside)

    # The noise itself is in the band too: 0 dB of song over it is 3 dB more in all, less its pauses.
    assert 14 < contrast_db(loud) - contrast_db(quiet) < 20


def test_only_the_serial_number_changes():
    wave = np.random.default_rng(0).normal(0, 0.1, 70_000).astype(np.float32)
    mine, again, other = (ogg.encode(wave, 32_000, serial=serial) for serial in (5, 5, 2**32 - 1))
    assert mine == again != other
    assert mine[14:18] == (5).to_bytes(4, "little")
    assert ogg.with_serial(other, 5) == mine
    decoded = [soundfile.read(io.BytesIO(data))[0] for data in (mine, other)]
    assert len(decoded[0]) == len(wave)
    assert np.array_equal(*decoded)
    assert np.corrcoef(decoded[0], wave)[0, 1] > 0.9


def test_checksums_are_those_of_libogg():
    """The encoder's pages do not change if their serial number is set again."""
    buffer = io.BytesIO()
    wave = np.random.default_rng(1).normal(0, 0.1, 40_000).astype(np.float32)
    soundfile.write(buffer, wave, 32_000, format="OGG", subtype="VORBIS")
    original = buffer.getvalue()
    assert ogg.with_serial(original, int.from_bytes(original[14:18], "little")) == original


# ---- refusals --------------------------------------------------------------------------------------------


def test_a_folder_in_use_is_refused_untouched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty: name a new or empty folder"):
        sample.write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(DataError, match="is a file"):
        sample.write(tmp_path / "mine.txt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"year": 2024}, "year 2024: the synthetic data exists for 2025 and 2026"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"scale": 0.0}, "scale 0.0 is outside 0 to 100"),
        ({"scale": float("nan")}, "scale nan is outside"),
        ({"jobs": 0}, "jobs 0: use at least one thread"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        sample.write(tmp_path / "new", **change)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_an_interrupted_folder_lacks_train_csv(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(ogg, "encode", fail)
    with pytest.raises(KeyboardInterrupt):
        sample.write(tmp_path / "new", scale=SCALE)
    assert not list((tmp_path / "new").glob("*.csv"))
