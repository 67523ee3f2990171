"""Planted faults: one bundle, one correct inference notebook, and variants of it with one fault each.

A small network is trained on the synthetic competition and exported. `Notebook` is an independent inference script,
written with other libraries (librosa, soundfile, NumPy): it agrees with bcsed to rounding. Each subclass contains one
fault that is common in such scripts. ``python tests/faults.py OUT.md`` writes a table with the macro ROC-AUC of each
and the output of `bcsed doctor` and `bcsed trace`.
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

from bcsed.audio.decode import read_audio
from bcsed.audio.headers import read_info
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
# Index of the recording that is traced.
TRACED = 1


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
    )


def train(data: Path, classes: tuple[str, ...]) -> tuple[SmallNetwork, SmallNetwork]:
    """Train on clips mixed into soundscapes; return the network and an older checkpoint of it."""
    torch.manual_seed(0)
    rng, mel = np.random.default_rng(0), LogMel(FRONTEND)
    clips: list[list[torch.Tensor]] = [[] for _ in classes]
    for clip in pd.read_csv(data / "train.csv", dtype=str).itertuples():
        wave = read_audio(read_info(data / "train_audio" / str(clip.filename)), FRONTEND.sample_rate)[0]
        db = mel.compute(wave, 0, max(1, min(256, len(wave) // FRONTEND.hop_length)))
        clips[classes.index(str(clip.primary_label))].append(db)
    truth = read_table(data / "train_soundscapes_truth.csv")[list(classes)]
    soundscapes, labels = [], []
    for path in sorted((data / "train_soundscapes").glob("*.ogg")):
        soundscapes.append(mel.compute(read_audio(read_info(path), FRONTEND.sample_rate)[0], 0, 1920))
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

    def image(self, windows: np.ndarray) -> np.ndarray:
        x = self.scale(windows)
        deltas = [librosa.feature.delta(x, width=5, mode="nearest", axis=-1)]
        deltas.append(librosa.feature.delta(deltas[0], width=5, mode="nearest", axis=-1))
        half = x.shape[-1] // 2
        return np.stack([np.concatenate((v[..., :half], v[..., half:]), 1) for v in (x, *deltas)], 1).astype(np.float32)

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

    def run(self, path: Path) -> dict[str, np.ndarray]:
        """Return every stage of one recording."""
        samples = self.samples(path)
        db = self.db(samples)
        windows = self.windows(samples, db)
        with np.errstate(invalid="ignore"):
            image = self.image(windows)
        logits, attention = self.outputs(image)
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


class WindowZero(Notebook):
    fault = "window 0's scores for all rows"

    def rows(self, logits, attention):
        return np.repeat(super().rows(logits, attention)[:1], 12, 0)


class Shifted(Notebook):
    fault = "rows one row too late"

    def rows(self, logits, attention):
        correct = super().rows(logits, attention)
        return np.concatenate((correct[:1], correct[:-1]))


class SmallImage(Notebook):
    fault = "an image of 80 px stretched to 128 (as 256 px to 384)"
    hop, n_mels, n_frames = 1600, 40, 160

    def image(self, windows):
        small = torch.from_numpy(super().image(windows))
        return nn.functional.interpolate(small, (128, 128), mode="bilinear").numpy()

    def share(self):
        self.hop, self.n_frames = 1000, 256
        try:
            return super().share()
        finally:
            del self.hop, self.n_frames


class Hop(Notebook):
    fault = "hop length 750 instead of 1000"
    hop = 750

    def share(self):
        self.hop = 1000
        try:
            return super().share()
        finally:
            del self.hop


class MelScale(Notebook):
    fault = "HTK's mel scale instead of Slaney's"
    htk = True


class Unscaled(Notebook):
    fault = "normalisation skipped in half of the windows"

    def scale(self, windows):
        skipped = np.random.default_rng(167).random(12) < 0.5
        high = windows.max((1, 2), keepdims=True)
        return np.where(skipped[:, None, None], np.maximum(windows, high - 80), super().scale(windows))


class BatchMaximum(Notebook):
    fault = "dB maximum over the batch"

    def scale(self, windows):
        floored = np.maximum(windows, windows.max() - 80)
        return (floored - floored.min()) / (floored.max() - floored.min())


class OldCheckpoint(Notebook):
    fault = "an older checkpoint"

    def outputs(self, image):
        with torch.inference_mode():
            logits, attention = self.lab.old.compute_outputs(torch.from_numpy(image))
        return logits.numpy(), attention.numpy()


class Permuted(Notebook):
    fault = "columns in another order than their names"

    def table(self, scores):
        correct = super().table(scores)
        taxa = pd.read_csv(self.lab.data / "taxonomy.csv", dtype=str)
        return correct.set_axis(list(taxa.sort_values("scientific_name")["primary_label"]), axis=1)[
            list(self.lab.classes)
        ]


class Clip(Notebook):
    fault = "the window's output instead of the row's time steps"

    def share(self):
        return np.ones((12, 16))


class Twice(Notebook):
    fault = "resampled twice, via 16 kHz"

    def samples(self, path):
        return soxr.resample(soxr.resample(super().samples(path), 32_000, 16_000), 16_000, 32_000)


class Padded(Notebook):
    fault = "5-s clips padded with silence to the window"

    def windows(self, wave, db):
        silent = np.full((64, 48), -100, np.float32)
        clips = [self.db(wave[160_000 * row : 160_000 * (row + 1)]) for row in range(12)]
        return np.stack([np.concatenate((silent, clip, silent), 1) for clip in clips])

    def share(self):
        return np.repeat([[0.0] * 3 + [1.0] * 10 + [0.0] * 3], 12, 0)


class Half(Notebook):
    fault = "power of 16-bit integers in half precision, which overflows"

    def power(self, wave):
        with np.errstate(over="ignore"):
            return super().power(wave * 32_768).astype(np.float16)

    def scale(self, windows):
        with np.errstate(invalid="ignore"):
            return super().scale(windows)


class DeltasAfterFold(Notebook):
    fault = "deltas computed after the fold"

    def image(self, windows):
        folded = super().image(windows)[:, 0]
        slope = librosa.feature.delta(folded, width=5, mode="nearest", axis=-1)
        return np.stack((folded, slope, librosa.feature.delta(slope, width=5, mode="nearest", axis=-1)), 1).astype(
            np.float32
        )


class Logits(Notebook):
    fault = "logits instead of probabilities"

    def rows(self, logits, attention):
        correct = super().rows(logits, attention)
        return np.log(correct) - np.log1p(-correct)


class TextOrder(Notebook):
    fault = "rows sorted as text, aligned by position"

    def rows(self, logits, attention):
        return super().rows(logits, attention)[np.argsort(sorted(range(12), key=lambda row: str(5 * (row + 1))))]


class NoAttention(Notebook):
    fault = "the mean over time steps instead of the attention"

    def rows(self, logits, attention):
        return super().rows(logits, np.zeros_like(attention))


class Alone(Notebook):
    fault = "the STFT of each window computed separately, with reflection padding"

    def windows(self, wave, db):
        def clip(start):
            samples = wave[1000 * start : 1000 * (start + 256)]
            stft = librosa.stft(samples, n_fft=2048, hop_length=1000, pad_mode="reflect")
            mel = librosa.filters.mel(sr=32_000, n_fft=2048, n_mels=64, fmin=20, fmax=14_000)
            return 10 * np.log10(np.maximum(mel @ np.abs(stft) ** 2, 1e-10))[:, :256]

        return np.stack([clip(start) for start in self.starts(1920)]).astype(np.float32)


FAULTS: tuple[type[Notebook], ...] = (
    WindowZero,
    Shifted,
    SmallImage,
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
    DeltasAfterFold,
    Logits,
    TextOrder,
    NoAttention,
    Alone,
)


@dataclass(frozen=True)
class Result:
    """AUC of one notebook, and the last lines of the commands that exit with an error status."""

    fault: str
    auc: float
    alone: str
    pair: str
    trace: str


def run_command(*argv: object) -> tuple[int, str]:
    """Run a command in this process; return its exit status and last line."""
    import contextlib
    import io

    from bcsed.cli import main

    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        status = main([str(word) for word in argv])
    return status, stream.getvalue().strip().splitlines()[-1]


def diagnose_notebook(lab: Lab, notebook: type[Notebook], folder: Path) -> Result:
    """Score with a notebook, and run doctor and trace on its table and arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    table, stages = notebook(lab).score()
    scores, correct = folder / f"{notebook.__name__}.csv", folder / "bcsed.csv"
    table.to_csv(scores, index_label="row_id")
    lab.correct.to_csv(correct, index_label="row_id")
    arrays = folder / f"{notebook.__name__}.npz"
    np.savez(arrays, **stages)
    finite = np.isfinite(table.to_numpy()).all()
    auc = metrics.macro_auc(lab.truth, table[lab.truth.columns])[0] if finite else np.nan
    template = (
        "--recordings",
        lab.data / "test_soundscapes",
        "--sample-submission",
        lab.data / "sample_submission.csv",
    )
    out = ("--out", folder / f"bcsed-{notebook.__name__}.npz")
    lines = [
        run_command("doctor", scores, *template),
        run_command("doctor", correct, scores),
        run_command("trace", lab.bundle, lab.recordings[TRACED], *out, "--against", arrays),
    ]
    return Result(notebook.fault, auc, *(line if status else "" for status, line in lines))


HEADER = "| planted fault | macro ROC-AUC | `doctor` on the table alone | `doctor` with a correct table | `trace` |"
PREFACE = """# Planted faults

A notebook written with librosa and NumPy scores the synthetic competition as bcsed does, to rounding. Each line plants
one fault in it (`tests/faults.py`), and states the macro ROC-AUC over 14 classes on 96 rows of held-out soundscapes,
and what the commands find; an empty cell is no error. {n_small} of the {n_faults} faults lower the macro ROC-AUC by
less than 0.02: the score alone does not reveal them. `tests/test_faults.py` checks each verdict, and
`python tests/faults.py tests/FAULTS.md` writes this file.

"""


def to_markdown(results: list[Result]) -> str:
    """Return a table of the correct notebook and the faults, with the part of each verdict that names the fault."""
    correct, *others = results
    n_small = sum(result.auc > correct.auc - 0.02 for result in others)
    lines = [HEADER, "|---|---|---|---|---|"]
    for result in results:
        auc = f"{result.auc:.3f}" if np.isfinite(result.auc) else "none"
        alone = re.sub(r"^\w+: this table has errors: ", "", result.alone).removesuffix(".")
        cells = (result.fault, auc, alone, shorten(result.pair), describe_stage(result.trace))
        lines.append(f"| {' | '.join(cells)} |")
    return PREFACE.format(n_small=n_small, n_faults=len(others)) + "\n".join(lines) + "\n"


def shorten(verdict: str) -> str:
    """Remove file names, and what follows the cause."""
    correlation = re.search(r"mean Spearman [\d.]+", verdict)
    if "no shift, order or function" in verdict:
        return f"other ({correlation[0]})" if correlation else "other"
    if "nothing to compare" in verdict:
        return "nothing to compare"
    text = re.sub(r"^[A-Z]+: ", "", verdict).removesuffix(".")
    text = re.sub(r"^\S+\.\S+ (and \S+\.\S+ |has |is )?", "", text)
    text = re.sub(r" of (bcsed\.csv|bcsed [\w.]+), ", ": ", text)
    return re.split(
        r" in \d+ of \d+ recordings, |; after correction| \(to |: ROC-AUC is|: '|, '|, by up to|: row ", text
    )[0]


def describe_stage(verdict: str) -> str:
    """Return the stage and the cause of a verdict of `trace`."""
    first = re.match(r"(\w+) is the first stage", verdict)
    if first is None:
        return ""
    cause = re.split(r"% of it; |its shape is [^;]*; ", verdict)[-1].removesuffix(".")
    return f"`{first[1]}`: {shorten(cause)}"


def main() -> None:
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lab = prepare(Path(folder))
        trained = time.monotonic()
        results = [diagnose_notebook(lab, notebook, Path(folder) / "tables") for notebook in (Notebook, *FAULTS)]
        text = to_markdown(results)
    print(text)
    print(f"{trained - start:.0f} s to train, {time.monotonic() - trained:.0f} s for {len(results)} notebooks")
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
