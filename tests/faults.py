"""The story of experiment 167, again: one bundle, one notebook that scores it rightly, and faults planted in it.

A network is trained for some seconds on the synthetic competition and sealed. `Notebook` is somebody's own inference
script, written with other libraries (librosa, soundfile, NumPy): it agrees with bcsed to rounding. Each of its
subclasses does one thing otherwise, as such scripts do. ``python tests/faults.py OUT.md`` plants them one at a time
and writes what each did to the area under the curve, and what `bcsed doctor` and `bcsed trace` say.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import soundfile
import soxr
import torch
from torch import nn

from bcsed.audio.decode import load_audio
from bcsed.audio.spectrogram import LogMel
from bcsed.config.contract import TINY_128, Contract, Net
from bcsed.data import synthetic as sample
from bcsed.models.export import export
from bcsed.models.network import ToImage, pool, unfold
from bcsed.predict.api import RunOptions, predict
from bcsed.scores import metrics
from bcsed.scores.table import make_table, read_table

FRONTEND = TINY_128
STEPS, OLD = 340, 170
# The recording that is traced.
TRACED = 1


class Ear(nn.Module):
    """A small network that learns in seconds: four convolutions, and the frequencies kept apart."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.picture, self.norm = ToImage(FRONTEND), nn.BatchNorm2d(3)
        layers: list[nn.Module] = []
        for before, after in zip((3, 24, 48, 48), (24, 48, 48, 72), strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.steps = FRONTEND.n_frames // 16
        self.features = nn.Sequential(
            nn.Dropout(0.2), nn.Linear(72 * FRONTEND.n_mels // 16, 128), nn.ReLU(), nn.Dropout(0.2)
        )
        self.logits, self.attention = nn.Linear(128, n_classes), nn.Conv1d(128, n_classes, 3, padding=1)

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.view(self.picture(db))

    def view(self, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = unfold(self.body(self.norm(picture)), FRONTEND.folds)
        B, C, f, t = x.shape
        x = self.features(x.reshape(B, C * f, t).transpose(1, 2))
        return self.logits(x), torch.tanh(self.attention(x.transpose(1, 2)).transpose(1, 2))


@dataclass(frozen=True)
class Lab:
    """What the faults are planted in."""

    data: Path
    bundle: Path
    classes: tuple[str, ...]
    network: Ear
    old: Ear
    recordings: tuple[Path, ...]
    truth: pd.DataFrame
    healthy: pd.DataFrame


def prepare(folder: Path) -> Lab:
    """Write the sample, train, seal, and score it with bcsed."""
    data = sample.write(folder / "data")
    classes = tuple(map(str, read_table(data / "sample_submission.csv").columns))
    network, old = train(data, classes)
    contract = Contract(frontend=FRONTEND, net=Net(backbone="ear"), classes=classes)
    sealed = export(network, folder / "bundle", contract=contract, priors=np.full(len(classes), 0.1, "float32"))
    recordings = tuple(sorted((data / "test_soundscapes").glob("*.ogg")))
    return Lab(
        data=data,
        bundle=sealed.path,
        classes=classes,
        network=network,
        old=old,
        recordings=recordings,
        truth=read_table(data / "test_truth.csv"),
        healthy=predict([sealed], recordings, options=RunOptions(jobs=0)).scores,
    )


def train(data: Path, classes: tuple[str, ...]) -> tuple[Ear, Ear]:
    """Learn from focal clips laid over soundscapes; return the network and an older checkpoint of it."""
    torch.manual_seed(0)
    rng, hear = np.random.default_rng(0), LogMel(FRONTEND)
    clips: list[list[torch.Tensor]] = [[] for _ in classes]
    for clip in pd.read_csv(data / "train.csv", dtype=str).itertuples():
        wave = load_audio(data / "train_audio" / str(clip.filename), FRONTEND.sample_rate)
        picture = hear.compute(wave, 0, max(1, min(256, len(wave) // FRONTEND.hop_length)))
        clips[classes.index(str(clip.primary_label))].append(picture)
    truth = read_table(data / "train_soundscapes_truth.csv")[list(classes)]
    lands, told = [], []
    for path in sorted((data / "train_soundscapes").glob("*.ogg")):
        lands.append(hear.compute(load_audio(path, FRONTEND.sample_rate), 0, 1920))
        told.append(truth.loc[[f"{path.stem}_{5 * (row + 1)}" for row in range(12)]].to_numpy(np.float32))
    network, old = Ear(len(classes)), Ear(len(classes))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=STEPS)
    network.train()
    for step in range(STEPS):
        if step == OLD:
            old.load_state_dict(network.state_dict())
        db, weight, target = map(
            torch.stack, zip(*(draw(lands, told, clips, rng, k % 2) for k in range(16)), strict=True)
        )
        answer = pool(*network(db), "prob", weight).clamp(1e-6, 1 - 1e-6)
        loss = nn.functional.binary_cross_entropy(answer, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval(), old.eval()


def draw(lands, told, clips, rng, with_clip):
    """Draw a window around a row of a soundscape, every other time with a clip laid over it."""
    land, row = rng.integers(len(lands)), rng.integers(12)
    start = int(np.clip(row * 160 - 48 + rng.integers(-48, 49), 0, 1920 - 256))
    first = start + 16 * np.arange(16)
    weight = np.maximum(np.minimum(first + 16, (row + 1) * 160) - np.maximum(first, row * 160), 0.0)
    db, target = lands[land][:, start : start + 256], told[land][row]
    if with_clip:
        k = rng.integers(len(clips))
        clip = clips[k][rng.integers(len(clips[k]))]
        n = clip.shape[1]
        at = int(rng.integers(257 - n))
        level = db.amax() - clip.amax() + float(rng.uniform(-15, 5))
        db = db.clone()
        db[:, at : at + n] = 10 * torch.log10(10 ** (db[:, at : at + n] / 10) + 10 ** ((clip + level) / 10))
        weight = ((first + 16 > at) & (first < at + n)) + 1e-3
        target = np.eye(len(clips), dtype=np.float32)[k]
    return db, torch.tensor(weight, dtype=torch.float32), torch.tensor(target)


class Notebook:
    """Somebody's own way from a recording to rows, one method a stage; it agrees with bcsed to rounding."""

    told = "nothing: another implementation"
    hop, n_mels, n_frames, htk = 1000, 64, 256, False

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def samples(self, path: Path) -> np.ndarray:
        return soundfile.read(path, dtype="float32")[0]

    def power(self, wave: np.ndarray) -> np.ndarray:
        return np.abs(librosa.stft(wave, n_fft=2048, hop_length=self.hop, pad_mode="constant")) ** 2

    def db(self, wave: np.ndarray) -> np.ndarray:
        mel = librosa.filters.mel(sr=32_000, n_fft=2048, n_mels=self.n_mels, fmin=20, fmax=14_000, htk=self.htk)
        with np.errstate(invalid="ignore"):
            db = 10 * np.log10(np.maximum(mel @ self.power(wave), 1e-10))
        return db[:, : len(wave) // self.hop].astype(np.float32)

    def starts(self, n_frames: int) -> list[int]:
        middles = [(2 * row + 1) * 80_000 / self.hop for row in range(12)]
        return [int(np.clip(int(middle + 0.5) - self.n_frames // 2, 0, n_frames - self.n_frames)) for middle in middles]

    def windows(self, wave: np.ndarray, db: np.ndarray) -> np.ndarray:
        return np.stack([db[:, start : start + self.n_frames] for start in self.starts(db.shape[1])])

    def scale(self, windows: np.ndarray) -> np.ndarray:
        high = windows.max((1, 2), keepdims=True)
        floored = np.maximum(windows, high - 80)
        low = floored.min((1, 2), keepdims=True)
        return (floored - low) / (high - low)

    def picture(self, windows: np.ndarray) -> np.ndarray:
        x = self.scale(windows)
        slopes = [librosa.feature.delta(x, width=5, mode="nearest", axis=-1)]
        slopes.append(librosa.feature.delta(slopes[0], width=5, mode="nearest", axis=-1))
        half = x.shape[-1] // 2
        return np.stack([np.concatenate((v[..., :half], v[..., half:]), 1) for v in (x, *slopes)], 1).astype(np.float32)

    def answer(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            logits, attention = self.lab.network.view(torch.from_numpy(picture))
        return logits.numpy(), attention.numpy()

    def share(self) -> np.ndarray:
        """How much of each step belongs to each row, (12, steps)."""
        first = np.array(self.starts(1920))[:, None] + 16 * np.arange(16)
        begin = 160 * np.arange(12)[:, None]
        return np.maximum(np.minimum(first + 16, begin + 160) - np.maximum(first, begin), 0)

    def rows(self, logits: np.ndarray, attention: np.ndarray) -> np.ndarray:
        weight = np.exp(attention) * self.share()[..., None]
        with np.errstate(over="ignore"):
            return (weight / weight.sum(1, keepdims=True) / (1 + np.exp(-logits))).sum(1)

    def table(self, scores: dict[str, np.ndarray]) -> pd.DataFrame:
        ids = [f"{stem}_{5 * (row + 1)}" for stem in scores for row in range(12)]
        return make_table(ids, self.lab.classes, np.concatenate(list(scores.values())))

    def run(self, path: Path) -> dict[str, np.ndarray]:
        """Return every stage of one recording."""
        samples = self.samples(path)
        db = self.db(samples)
        windows = self.windows(samples, db)
        with np.errstate(invalid="ignore"):
            picture = self.picture(windows)
        logits, attention = self.answer(picture)
        stages = {
            "samples": samples,
            "db": db,
            "windows": windows,
            "picture": picture,
            "logits": logits,
            "attention": attention,
        }
        return {**stages, "rows": self.rows(logits, attention)}

    def score(self) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """Return the table of all recordings, and the stages of the one that is traced."""
        done = {path.stem: self.run(path) for path in self.lab.recordings}
        table = self.table({stem: stages["rows"] for stem, stages in done.items()})
        stem = self.lab.recordings[TRACED].stem
        ids = [f"{stem}_{5 * (row + 1)}" for row in range(12)]
        return table, {**done[stem], "rows": table.loc[ids, list(self.lab.classes)].to_numpy()}


class WindowZero(Notebook):
    told = "window 0's answer for all rows"

    def rows(self, logits, attention):
        return np.repeat(super().rows(logits, attention)[:1], 12, 0)


class Shifted(Notebook):
    told = "rows one place too late"

    def rows(self, logits, attention):
        right = super().rows(logits, attention)
        return np.concatenate((right[:1], right[:-1]))


class SmallPicture(Notebook):
    told = "a picture of 80 px stretched to 128 (256 px fed to 384)"
    hop, n_mels, n_frames = 1600, 40, 160

    def picture(self, windows):
        small = torch.from_numpy(super().picture(windows))
        return nn.functional.interpolate(small, (128, 128), mode="bilinear").numpy()

    def share(self):
        self.hop, self.n_frames = 1000, 256
        try:
            return super().share()
        finally:
            del self.hop, self.n_frames


class Hop(Notebook):
    told = "hop length 750 instead of 1000"
    hop = 750

    def share(self):
        self.hop = 1000
        try:
            return super().share()
        finally:
            del self.hop


class MelScale(Notebook):
    told = "HTK's mel scale instead of Slaney's"
    htk = True


class Unscaled(Notebook):
    told = "normalisation skipped half of the time"

    def scale(self, windows):
        skipped = np.random.default_rng(167).random(12) < 0.5
        high = windows.max((1, 2), keepdims=True)
        return np.where(skipped[:, None, None], np.maximum(windows, high - 80), super().scale(windows))


class BatchMaximum(Notebook):
    told = "dB maximum over the batch"

    def scale(self, windows):
        floored = np.maximum(windows, windows.max() - 80)
        return (floored - floored.min()) / (floored.max() - floored.min())


class OldCheckpoint(Notebook):
    told = "an older checkpoint"

    def answer(self, picture):
        with torch.inference_mode():
            logits, attention = self.lab.old.view(torch.from_numpy(picture))
        return logits.numpy(), attention.numpy()


class Permuted(Notebook):
    told = "columns in another order than their names"

    def table(self, scores):
        right = super().table(scores)
        taxa = pd.read_csv(self.lab.data / "taxonomy.csv", dtype=str)
        return right.set_axis(list(taxa.sort_values("scientific_name")["primary_label"]), axis=1)[
            list(self.lab.classes)
        ]


class Clip(Notebook):
    told = "the clip's answer instead of the row's frames"

    def share(self):
        return np.ones((12, 16))


class Twice(Notebook):
    told = "resampled twice, by way of 16 kHz"

    def samples(self, path):
        return soxr.resample(soxr.resample(super().samples(path), 32_000, 16_000), 16_000, 32_000)


class Padded(Notebook):
    told = "5-s clips padded with silence to the window"

    def windows(self, wave, db):
        silent = np.full((64, 48), -100, np.float32)
        clips = [self.db(wave[160_000 * row : 160_000 * (row + 1)]) for row in range(12)]
        return np.stack([np.concatenate((silent, clip, silent), 1) for clip in clips])

    def share(self):
        return np.repeat([[0.0] * 3 + [1.0] * 10 + [0.0] * 3], 12, 0)


class Half(Notebook):
    told = "power of 16-bit integers in half precision, which overflows"

    def power(self, wave):
        with np.errstate(over="ignore"):
            return super().power(wave * 32_768).astype(np.float16)

    def scale(self, windows):
        with np.errstate(invalid="ignore"):
            return super().scale(windows)


class SlopesAfterFold(Notebook):
    told = "slopes taken after the fold"

    def picture(self, windows):
        folded = super().picture(windows)[:, 0]
        slope = librosa.feature.delta(folded, width=5, mode="nearest", axis=-1)
        return np.stack((folded, slope, librosa.feature.delta(slope, width=5, mode="nearest", axis=-1)), 1).astype(
            np.float32
        )


class Logits(Notebook):
    told = "logits instead of probabilities"

    def rows(self, logits, attention):
        right = super().rows(logits, attention)
        return np.log(right) - np.log1p(-right)


class TextOrder(Notebook):
    told = "rows sorted as text, bound by position"

    def rows(self, logits, attention):
        return super().rows(logits, attention)[np.argsort(sorted(range(12), key=lambda row: str(5 * (row + 1))))]


class NoAttention(Notebook):
    told = "the mean of the frames instead of the attention"

    def rows(self, logits, attention):
        return super().rows(logits, np.zeros_like(attention))


class Alone(Notebook):
    told = "each window transformed by itself, padded by reflection"

    def windows(self, wave, db):
        def clip(start):
            mine = wave[1000 * start : 1000 * (start + 256)]
            stft = librosa.stft(mine, n_fft=2048, hop_length=1000, pad_mode="reflect")
            mel = librosa.filters.mel(sr=32_000, n_fft=2048, n_mels=64, fmin=20, fmax=14_000)
            return 10 * np.log10(np.maximum(mel @ np.abs(stft) ** 2, 1e-10))[:, :256]

        return np.stack([clip(start) for start in self.starts(1920)]).astype(np.float32)


FAULTS: tuple[type[Notebook], ...] = (
    WindowZero,
    Shifted,
    SmallPicture,
    Hop,
    MelScale,
    Unscaled,
    BatchMaximum,
    OldCheckpoint,
    Permuted,
    Clip,
    Twice,
    Padded,
    Half,
    SlopesAfterFold,
    Logits,
    TextOrder,
    NoAttention,
    Alone,
)


@dataclass(frozen=True)
class Named:
    """What the commands say of one way to score."""

    told: str
    auc: float
    alone: str
    beside: str
    traced: str


def command(*argv: object) -> tuple[int, str]:
    """Run one of the commands, and return its exit status and last line."""
    import contextlib
    import io

    from bcsed.cli import main

    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        status = main([str(word) for word in argv])
    return status, stream.getvalue().strip().splitlines()[-1]


def name(lab: Lab, way: type[Notebook], folder: Path) -> Named:
    """Score in one way, and let doctor and trace look at it by command."""
    folder.mkdir(parents=True, exist_ok=True)
    table, stages = way(lab).score()
    scores, right = folder / f"{way.__name__}.csv", folder / "bcsed.csv"
    table.to_csv(scores, index_label="row_id")
    lab.healthy.to_csv(right, index_label="row_id")
    np.savez(folder / f"{way.__name__}.npz", **stages)
    finite = np.isfinite(table.to_numpy()).all()
    auc = metrics.macro_auc(lab.truth, table[lab.truth.columns])[0] if finite else np.nan
    recordings = lab.data / "test_soundscapes"
    alone = command(
        "doctor", scores, "--recordings", recordings, "--sample-submission", lab.data / "sample_submission.csv"
    )
    beside = command("doctor", right, scores)
    recording = lab.recordings[TRACED]
    traced = command(
        "trace",
        lab.bundle,
        recording,
        "--out",
        folder / f"bcsed-{way.__name__}.npz",
        "--against",
        folder / f"{way.__name__}.npz",
    )
    return Named(way.told, auc, *(line if status else "" for status, line in (alone, beside, traced)))


def markdown(named: list[Named]) -> str:
    """Write the table of the README: of each verdict what names the fault."""
    lines = ["| fault | AUC | `doctor`, alone | `doctor`, beside a healthy table | `trace` |", "|---|---|---|---|---|"]
    for each in named:
        auc = f"{each.auc:.3f}" if np.isfinite(each.auc) else "none"
        alone = each.alone.removeprefix("FAILED: this table is ill: ").removesuffix(".")
        lines.append(f"| {each.told} | {auc} | {alone} | {short(each.beside)} | {stage(each.traced)} |")
    return "\n".join(lines) + "\n"


def short(verdict: str) -> str:
    """Leave out names of files, and what follows from the verdict."""
    mean = re.search(r"mean Spearman [\d.]+", verdict)
    if "no shift, order or function" in verdict:
        return f"other ({mean[0]})" if mean else "other"
    if "nothing to compare" in verdict:
        return "nothing to compare"
    text = verdict.removeprefix("FAILED: ").removesuffix(".")
    text = re.sub(r"^\w+\.\w+ (and \w+\.csv |has |is .*?(?=through)|gives )?", "", text)
    text = re.sub(r"to all rows of a recording in .* recordings, where .*", "to all rows of a recording: row 1's", text)
    return re.split(r"; put right|: areas under|: '|, '| \(to |, by up to|: row 1's answer", text)[0]


def stage(verdict: str) -> str:
    """Keep the stage and the cause."""
    first = re.match(r"(\w+) is the first stage", verdict)
    if first is None:
        return ""
    cause = re.split(r"% of it; |its shape is [^;]*; ", verdict)[-1].removesuffix(".")
    return f"`{first[1]}`: {short(cause).replace(', where', '')}"


def main() -> None:
    torch.set_num_threads(1)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lab = prepare(Path(folder))
        ready = time.monotonic()
        named = [name(lab, way, Path(folder) / "tables") for way in (Notebook, *FAULTS)]
        text = markdown(named)
    print(text)
    print(
        f"{ready - began:.0f} s to write the sample and train, {time.monotonic() - ready:.0f} s for {len(named)} ways"
    )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
