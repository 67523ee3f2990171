"""Which classes a bundle detects in noise: synthetic kinds or a folder, thresholds, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE

from bcsed.analysis.noise import NOISES, find_detections, score_noise
from bcsed.cli import main
from bcsed.data.synthetic.scenes import background
from bcsed.data.synthetic.species import SAMPLE_RATE_HZ
from bcsed.errors import DataError

KINDS = {"pink noise", "rain", "silence", "white noise", "wind"}


def slope_db(wave: np.ndarray) -> float:
    """Return the slope of the power spectrum between 200 Hz and 12.8 kHz, in dB per octave."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    hz = np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE_HZ)
    levels = [10 * np.log10(power[(hz >= low) & (hz < 2 * low)].mean()) for low in 200 * 2.0 ** np.arange(6)]
    return float(np.polyfit(np.arange(6), levels, 1)[0])


def test_the_noises_are_what_their_names_say(rng):
    waves = {site.name: background(site, 10 * SAMPLE_RATE_HZ, rng) for site in NOISES}
    slopes = {name: slope_db(wave) for name, wave in waves.items()}
    assert abs(slopes["white noise"]) < 1.5 and abs(slopes["pink noise"] + 3) < 1.5 and slopes["wind"] < -4
    kurtosis = {name: np.mean(wave**4) / np.mean(wave**2) ** 2 for name, wave in waves.items()}
    assert kurtosis["rain"] > 4 > 3.5 > kurtosis["white noise"]


def test_synthetic_noise(tiny):
    table = score_noise(tiny, seconds=5)
    assert set(table.index) == KINDS and list(table.columns) == ["a", "b", "c"]
    pd.testing.assert_frame_equal(table, score_noise(tiny, seconds=5))
    assert not table.equals(score_noise(tiny, seconds=5, seed=1))


def test_a_finding_names_the_classes_that_reach_their_threshold():
    table = pd.DataFrame([[0.5, 0.9, 0.1], [0.4, 0.2, 0.1]], index=["rain", "wind"], columns=["a", "b", "c"])
    (finding,) = find_detections(table, {})
    assert finding.sentence == "rain: 2 of 3 classes reach their threshold: b 0.90, a 0.50"
    assert (finding.severity, finding.count, finding.examples) == ("error", 2, ("b", "a"))
    assert [each.examples for each in find_detections(table, {"b": 0.95, "c": 0.1}, 0.6)] == [("c",), ("c",)]
    assert not find_detections(table, {"b": 0.91}, 0.6)


def test_command(oracle, tmp_path, capsys, rng):
    (tmp_path / "night").mkdir()
    for name, gain in (("faint", 0.001), ("strong", 0.3)):
        soundfile.write(tmp_path / "night" / f"{name}.wav", gain * rng.standard_normal(12 * RATE), RATE)
    scores = score_noise(oracle, [tmp_path / "night"])
    between = float(scores["loud"].mean())
    assert scores.loc["faint", "loud"] < between < scores.loc["strong", "loud"]
    words = ["check", str(oracle.path), "--noise", str(tmp_path / "night"), "--class-threshold", "quiet=1"]
    assert main([*words, "--threshold", "1"]) == 0
    assert "OK      no class is detected in 2 of 2 recordings of noise" in capsys.readouterr().out
    (tmp_path / "thresholds.json").write_text(f'{{"loud": {between}}}')
    assert main([*words, "--thresholds", str(tmp_path / "thresholds.json")]) == 1
    printed = capsys.readouterr().out
    assert "error   strong: 1 of 2 classes reach their threshold: loud" in printed and "error   faint" not in printed
    assert "FAILED  classes are detected in 1 of 2" in printed


def test_mistakes(oracle, tmp_path, capsys):
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "empty").mkdir()
    (tmp_path / "thresholds.json").write_text('{"loud": 2}')
    for options, sentence in (
        (["--threshold", "0.3"], "add --noise, or leave them out"),
        (["--noise", str(tmp_path / "absent")], "no such file or folder"),
        (["--noise", str(tmp_path / "empty")], "no recordings in this folder"),
        (["--noise", str(tmp_path / "bad.wav")], "1 recordings of noise cannot be read"),
        (["--noise", "--class-threshold", "owl=0.5"], "'owl', which is not a class of"),
        (["--noise", "--class-threshold", "loud"], "class=threshold"),
        (["--noise", "--threshold", "1.5"], "a threshold must be in (0, 1]"),
        (["--noise", "--thresholds", str(tmp_path / "thresholds.json")], "must be in [0, 1]"),
    ):
        assert main(["check", str(oracle.path), *options]) == 2, options
        assert sentence in capsys.readouterr().err
    with pytest.raises(DataError, match="cannot be read"):
        score_noise(oracle, [tmp_path / "bad.wav"])
