"""The laboratory of the planted faults: a small network in a bundle, and a correct inference notebook.

The network is trained on the synthetic competition. `Notebook` is an independent inference script, written with other
libraries (librosa, soundfile, NumPy): it agrees with bcsed to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import soundfile
import torch
from torch import nn

from bcsed.analysis.trace import Trace, trace
from bcsed.audio.decode import read_audio
from bcsed.audio.headers import read_info
from bcsed.audio.spectrogram import LogMel
from bcsed.config.contract import TINY_128, Contract, Net
from bcsed.data import synthetic as sample
from bcsed.models.export import export
from bcsed.models.network import ToImage, pool, unfold
from bcsed.predict.api import RunOptions, predict
from bcsed.scores.table import make_table, read_table

FRONTEND = TINY_128
STEPS, OLD = 340, 170
# Index of the recording that is traced.
TRACED = 1
# The methods and settings on which a stage depends.
_SAMPLES, _DB = "samples", "samples power mel to_db db hop n_mels htk fmin fmax norm"
_IMAGE = f"{_DB} windows starts n_frames scale deltas stack image"
BEFORE = {"samples": _SAMPLES, "db": _DB, "windows": f"{_DB} windows starts n_frames", "image": _IMAGE}
BEFORE["outputs"] = f"{_IMAGE} outputs"


class SmallNetwork(nn.Module):
    """Four convolutions and a linear layer over all frequencies; trains in seconds."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.to_image, self.norm = ToImage(FRONTEND), nn.BatchNorm2d(3)
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
        return self.compute_outputs(self.to_image(db))

    def compute_outputs(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = unfold(self.body(self.norm(image)), FRONTEND.time_folds)
        B, C, f, t = x.shape
        x = self.features(x.reshape(B, C * f, t).transpose(1, 2))
        return self.logits(x), torch.tanh(self.attention(x.transpose(1, 2)).transpose(1, 2))


@dataclass(frozen=True)
class Lab:
    """The bundle, its networks, and the recordings with their truth."""

    data: Path
    bundle: Path
    classes: tuple[str, ...]
    network: SmallNetwork
    old: SmallNetwork
    recordings: tuple[Path, ...]
    truth: pd.DataFrame
    correct: pd.DataFrame
    trace: Trace
    stages: dict[tuple[str, Path], Any] = field(default_factory=dict)  # of the correct notebook, computed once


def prepare(folder: Path) -> Lab:
    """Write the synthetic competition, train, export, and score with bcsed."""
    data = sample.write(folder / "data")
    classes = tuple(map(str, read_table(data / "sample_submission.csv").columns))
    network, old = train(data, classes)
    contract = Contract(frontend=FRONTEND, net=Net(backbone="small"), classes=classes)
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
        correct=predict([sealed], recordings, options=RunOptions(jobs=0)).scores,
        trace=trace(sealed, recordings[TRACED]),
    )


def train(data: Path, classes: tuple[str, ...]) -> tuple[SmallNetwork, SmallNetwork]:
    """Train on clips mixed into soundscapes; return the network and an older checkpoint of it."""
    torch.manual_seed(0)
    rng, mel = np.random.default_rng(0), LogMel(FRONTEND)
    clips: list[list[torch.Tensor]] = [[] for _ in classes]
    for clip in pd.read_csv(data / "train.csv", dtype=str).itertuples():
        wave = read_audio(read_info(data / "train_audio" / str(clip.filename)), FRONTEND.sample_rate)[0]
        db = mel.compute(wave, 0, max(1, min(256, len(wave) // FRONTEND.hop_length)))
        clips[classes.index(str(clip.primary_label))].append(torch.from_numpy(db))
    truth = read_table(data / "train_soundscapes_truth.csv")[list(classes)]
    soundscapes, labels = [], []
    for path in sorted((data / "train_soundscapes").glob("*.ogg")):
        wave = read_audio(read_info(path), FRONTEND.sample_rate)[0]
        soundscapes.append(torch.from_numpy(mel.compute(wave, 0, 1920)))
        labels.append(truth.loc[[f"{path.stem}_{5 * (row + 1)}" for row in range(12)]].to_numpy(np.float32))
    network, old = SmallNetwork(len(classes)), SmallNetwork(len(classes))
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=STEPS)
    network.train()
    for step in range(STEPS):
        if step == OLD:
            old.load_state_dict(network.state_dict())
        db, weight, target = map(
            torch.stack, zip(*(sample_window(soundscapes, labels, clips, rng, k % 2) for k in range(16)), strict=True)
        )
        scores = pool(*network(db), "prob", weight).clamp(1e-6, 1 - 1e-6)
        loss = nn.functional.binary_cross_entropy(scores, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.eval(), old.eval()


def sample_window(soundscapes, labels, clips, rng, with_clip):
    """Return a window around a row of a soundscape, optionally with a clip mixed into it."""
    soundscape, row = rng.integers(len(soundscapes)), rng.integers(12)
    start = int(np.clip(row * 160 - 48 + rng.integers(-48, 49), 0, 1920 - 256))
    first = start + 16 * np.arange(16)
    weight = np.maximum(np.minimum(first + 16, (row + 1) * 160) - np.maximum(first, row * 160), 0.0)
    db, target = soundscapes[soundscape][:, start : start + 256], labels[soundscape][row]
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
    """An independent implementation from recording to rows, with a method per stage; agrees with bcsed to rounding."""

    fault = "none: another implementation"
    hop, n_mels, n_frames, htk = 1000, 64, 256, False
    fmin, fmax, norm = 20, 14_000, "slaney"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def samples(self, path: Path) -> np.ndarray:
        return soundfile.read(path, dtype="float32")[0]

    def power(self, wave: np.ndarray) -> np.ndarray:
        return np.abs(librosa.stft(wave, n_fft=2048, hop_length=self.hop, pad_mode="constant")) ** 2

    def mel(self) -> np.ndarray:
        shape = {"sr": 32_000, "n_fft": 2048, "n_mels": self.n_mels, "fmin": self.fmin, "fmax": self.fmax}
        return librosa.filters.mel(**shape, htk=self.htk, norm=self.norm)

    def to_db(self, power: np.ndarray) -> np.ndarray:
        return 10 * np.log10(np.maximum(power, 1e-10))

    def db(self, wave: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            db = self.to_db(self.mel() @ self.power(wave))
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

    def deltas(self, x: np.ndarray) -> list[np.ndarray]:
        slope = librosa.feature.delta(x, width=5, mode="nearest", axis=-1)
        return [x, slope, librosa.feature.delta(slope, width=5, mode="nearest", axis=-1)]

    def stack(self, x: np.ndarray) -> np.ndarray:
        half = x.shape[-1] // 2
        return np.concatenate((x[..., :half], x[..., half:]), 1)

    def image(self, windows: np.ndarray) -> np.ndarray:
        return np.stack([self.stack(x) for x in self.deltas(self.scale(windows))], 1).astype(np.float32)

    def outputs(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode():
            logits, attention = self.lab.network.compute_outputs(torch.from_numpy(image))
        return logits.numpy(), attention.numpy()

    def share(self) -> np.ndarray:
        """Return the frames that each time step shares with each row, (12, steps)."""
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

    def compute(self, stage: str, path: Path, *values: Any) -> Any:
        """Compute a stage; once for all notebooks that do not change it or an earlier one."""
        same = [getattr(type(self), name) == getattr(Notebook, name) for name in BEFORE[stage].split()]
        if not all(same):
            return getattr(self, stage)(*values)
        key = (stage, path)
        if key not in self.lab.stages:
            self.lab.stages[key] = getattr(self, stage)(*values)
        return self.lab.stages[key]

    def run(self, path: Path) -> dict[str, np.ndarray]:
        """Return every stage of one recording."""
        samples = self.compute("samples", path, path)
        db = self.compute("db", path, samples)
        windows = self.compute("windows", path, samples, db)
        with np.errstate(invalid="ignore"):
            image = self.compute("image", path, windows)
        logits, attention = self.compute("outputs", path, image)
        stages = {
            "samples": samples,
            "db": db,
            "windows": windows,
            "image": image,
            "logits": logits,
            "attention": attention,
        }
        return {**stages, "rows": self.rows(logits, attention)}

    def score(self) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
        """Return the table of all recordings, and the stages of the one that is traced."""
        stages_of = {path.stem: self.run(path) for path in self.lab.recordings}
        table = self.table({stem: stages["rows"] for stem, stages in stages_of.items()})
        stem = self.lab.recordings[TRACED].stem
        ids = [f"{stem}_{5 * (row + 1)}" for row in range(12)]
        return table, {**stages_of[stem], "rows": table.loc[ids, list(self.lab.classes)].to_numpy()}
