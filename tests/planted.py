"""Planted faults: variants of the correct notebook with one fault each, as are common in such scripts."""

from __future__ import annotations

import librosa
import numpy as np
import pandas as pd
import soxr
import torch
from lab import Notebook
from scipy.ndimage import uniform_filter1d
from scipy.signal import get_window
from torch import nn


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
            return self.to_db(self.mel() @ np.abs(stft) ** 2)[:, :256]

        return np.stack([clip(start) for start in self.starts(1920)]).astype(np.float32)


class ReadAs48(Notebook):
    fault = "audio of 32 kHz read as 48 kHz, and resampled"

    def samples(self, path):
        return soxr.resample(super().samples(path), 48_000, 32_000)


class NotResampled(Notebook):
    fault = "audio of 48 kHz read as 32 kHz, cut to the minute"

    def samples(self, path):
        wave = super().samples(path)
        return soxr.resample(wave, 32_000, 48_000)[: len(wave)]


class Quiet(Notebook):
    fault = "samples multiplied by 0.5"

    def samples(self, path):
        return super().samples(path) * np.float32(0.5)


class Inverted(Notebook):
    fault = "inverted polarity"

    def samples(self, path):
        return -super().samples(path)


class Offset(Notebook):
    fault = "a constant of 0.01 added to the samples"

    def samples(self, path):
        return super().samples(path) + np.float32(0.01)


class Dithered(Notebook):
    fault = "dither of 0.001"

    def samples(self, path):
        wave = super().samples(path)
        return wave + np.random.default_rng(0).normal(0, 1e-3, len(wave)).astype(np.float32)


class Wrapped(Notebook):
    fault = "samples multiplied by 8, which wrap around in 16 bits"

    def samples(self, path):
        return (8 * super().samples(path).astype(np.float64) + 1) % 2 - 1


class Clipped(Notebook):
    fault = "samples clipped at 0.05"

    def samples(self, path):
        return np.clip(super().samples(path), -0.05, 0.05)


class EightBits(Notebook):
    fault = "samples of 8 bits"

    def samples(self, path):
        return np.round(super().samples(path) * 128) / 128


class Trimmed(Notebook):
    fault = "the first 1.5 s trimmed"

    def samples(self, path):
        return super().samples(path)[48_000:]


class Interpolated(Notebook):
    fault = "resampled to 44.1 kHz and back by linear interpolation"

    def samples(self, path):
        wave = super().samples(path)
        time = np.arange(len(wave))
        other = np.arange(0, len(wave), 32_000 / 44_100)
        return np.interp(time, other, np.interp(other, time, wave)).astype(np.float32)


class Emphasised(Notebook):
    fault = "pre-emphasis of 0.97 before the spectrogram"

    def power(self, wave):
        return super().power(np.append(wave[:1], wave[1:] - np.float32(0.97) * wave[:-1]))


class NotCentred(Notebook):
    fault = "center=False, with silence at the end"

    def power(self, wave):
        padded = np.append(wave, np.zeros(2048, np.float32))
        return np.abs(librosa.stft(padded, n_fft=2048, hop_length=1000, center=False)) ** 2


class OtherWindow(Notebook):
    fault = "a Hamming window instead of Hann"
    window, n_fft, pad_mode, exponent = "hamming", 2048, "constant", 2

    def power(self, wave):
        kind = {"n_fft": self.n_fft, "window": self.window, "pad_mode": self.pad_mode}
        return np.abs(librosa.stft(wave, hop_length=1000, **kind)) ** self.exponent


class ShortWindow(OtherWindow):
    fault = "a window of 1024 samples in an FFT of 2048"
    window = np.pad(get_window("hann", 1024), 512)


class Kaiser(OtherWindow):
    fault = "a Kaiser window"
    window = ("kaiser", 8.0)


class Reflected(OtherWindow):
    fault = "the recording's ends padded by reflection"
    window, pad_mode = "hann", "reflect"


class Amplitude(OtherWindow):
    fault = "amplitude instead of power"
    window, exponent = "hann", 1


class Unnormed(Notebook):
    fault = "mel bands without a norm"
    norm = None


class FromZero(Notebook):
    fault = "mel bands from 0 Hz to 16 kHz"
    fmin, fmax = 0, 16_000


class HighBandsFirst(Notebook):
    fault = "mel bands in the reverse order"

    def db(self, wave):
        return super().db(wave)[::-1]


class RelativeToMaximum(Notebook):
    fault = "dB relative to the maximum, and top_db of 20 of the recording"

    def to_db(self, power):
        return librosa.power_to_db(power, ref=np.max, top_db=20)


class NaturalLogarithm(Notebook):
    fault = "natural logarithm of the power + 1e-6"

    def to_db(self, power):
        return np.log(power + 1e-6)


class Pcen(Notebook):
    fault = "PCEN instead of dB"

    def to_db(self, power):
        return librosa.pcen(power * 2**31, sr=32_000, hop_length=1000)


class LateWindows(Notebook):
    fault = "windows that start 16 frames late"

    def windows(self, wave, db):
        starts = np.minimum(np.array(self.starts(db.shape[1])) + 16, db.shape[1] - 256)
        return np.stack([db[:, start : start + 256] for start in starts])


class HalvesSwapped(Notebook):
    fault = "the second half of the fold on top"

    def stack(self, x):
        return np.roll(super().stack(x), 64, 1)


class Alternate(Notebook):
    fault = "alternate frames folded instead of halves"

    def stack(self, x):
        return np.concatenate((x[..., ::2], x[..., 1::2]), 1)


class Transposed(Notebook):
    fault = "the image transposed"

    def image(self, windows):
        return super().image(windows).swapaxes(2, 3)


class ChannelsReversed(Notebook):
    fault = "the channels of the image reversed"

    def image(self, windows):
        return super().image(windows)[:, ::-1].copy()


class WideDeltas(Notebook):
    fault = "deltas of 9 frames instead of 5"

    def deltas(self, x):
        slope = librosa.feature.delta(x, width=9, mode="nearest", axis=-1)
        return [x, slope, librosa.feature.delta(slope, width=9, mode="nearest", axis=-1)]


class Standardised(Notebook):
    fault = "normalised by mean and deviation of the window"

    def scale(self, windows):
        floored = np.maximum(windows, windows.max((1, 2), keepdims=True) - 80)
        return (floored - floored.mean((1, 2), keepdims=True)) / floored.std((1, 2), keepdims=True, ddof=1)


class Masked(Notebook):
    fault = "SpecAugment's masks left on"

    def image(self, windows):
        masked = super().image(windows).copy()
        masked[:, :, 20:30] = 0
        masked[:, :, :, 40:60] = 0
        return masked


class TrainMode(Notebook):
    fault = "BatchNorm in training mode"

    def outputs(self, image):
        modules = [module for module in self.lab.network.modules() if isinstance(module, nn.BatchNorm2d)]
        saved = [{key: value.clone() for key, value in module.state_dict().items()} for module in modules]
        for module in modules:
            module.train()
        try:
            return super().outputs(image)
        finally:
            for module, state in zip(modules, saved, strict=True):
                module.load_state_dict(state)
                module.eval()


class AveragedWeights(Notebook):
    fault = "the mean of two checkpoints"

    def outputs(self, image):
        network, old = self.lab.network, self.lab.old
        saved = {key: value.clone() for key, value in network.state_dict().items()}
        mean = {key: (value + old.state_dict()[key]) / 2 for key, value in saved.items()}
        network.load_state_dict({key: value.to(saved[key].dtype) for key, value in mean.items()})
        try:
            return super().outputs(image)
        finally:
            network.load_state_dict(saved)


class ClassNotLoaded(Notebook):
    fault = "the weights of one class are zero"

    def outputs(self, image):
        logits, attention = super().outputs(image)
        logits = logits.copy()
        logits[..., 3] = self.lab.network.logits.bias[3].item()
        return logits, attention


class BrainFloat(Notebook):
    fault = "weights rounded to bfloat16"

    def outputs(self, image):
        network = self.lab.network
        saved = {key: value.clone() for key, value in network.state_dict().items()}
        network.load_state_dict({key: value.bfloat16().to(value.dtype) for key, value in saved.items()})
        try:
            return super().outputs(image)
        finally:
            network.load_state_dict(saved)


class ClassesReversed(Notebook):
    fault = "the classes of the network in the reverse order"

    def outputs(self, image):
        return tuple(values[..., ::-1] for values in super().outputs(image))


class SoftmaxOfClasses(Notebook):
    fault = "softmax of the attention over the classes"

    def rows(self, logits, attention):
        weight = np.exp(attention)
        weight = weight / weight.sum(2, keepdims=True) * self.share()[..., None]
        return (weight / weight.sum(1, keepdims=True) / (1 + np.exp(-logits))).sum(1)


class Maximum(Notebook):
    fault = "the maximum of the row's time steps"

    def rows(self, logits, attention):
        return np.where(self.share()[..., None] > 0, 1 / (1 + np.exp(-logits)), 0).max(1)


class WrongOverlap(Notebook):
    fault = "half the weight for the first and last time steps of a row"

    def share(self):
        correct = super().share()
        inner = np.pad(correct, ((0, 0), (1, 1)))
        return correct * (2 + np.sign(inner[:, :-2]) + np.sign(inner[:, 2:])) // 4


class Early(Notebook):
    fault = "rows one row too early"

    def rows(self, logits, attention):
        correct = super().rows(logits, attention)
        return np.concatenate((correct[1:], correct[-1:]))


class RowsReversed(Notebook):
    fault = "the rows of each recording reversed"

    def rows(self, logits, attention):
        return super().rows(logits, attention)[::-1]


class Smoothed(Notebook):
    fault = "the mean of three rows"

    def rows(self, logits, attention):
        return uniform_filter1d(super().rows(logits, attention), 3, axis=0, mode="nearest")


class OtherRecordings(Notebook):
    fault = "recordings in another order than their names"

    def table(self, scores):
        stems = list(scores)
        return super().table(dict(zip(stems, [scores[stem] for stem in stems[::-1]], strict=True)))


class OneRecordingTwice(Notebook):
    fault = "one recording has the scores of another"

    def table(self, scores):
        stems = list(scores)
        return super().table({**scores, stems[4]: scores[stems[5]]})


class RecordingMissing(Notebook):
    fault = "a recording missing"

    def table(self, scores):
        return super().table({stem: rows for stem, rows in scores.items() if stem != list(scores)[3]})


class OneRecordingZero(Notebook):
    fault = "zeros for a recording that failed"

    def table(self, scores):
        return super().table({**scores, list(scores)[3]: np.zeros((12, len(self.lab.classes)))})


class Complement(Notebook):
    fault = "1 - p"

    def table(self, scores):
        return 1 - super().table(scores)


class SquareRoot(Notebook):
    fault = "the square root of the probabilities"

    def table(self, scores):
        return super().table(scores) ** 0.5


class Ranks(Notebook):
    fault = "ranks within each class"

    def table(self, scores):
        return super().table(scores).rank(pct=True)


class SigmoidTwice(Notebook):
    fault = "the sigmoid applied twice"

    def table(self, scores):
        return 1 / (1 + np.exp(-super().table(scores)))


class ClippedScores(Notebook):
    fault = "probabilities clipped to 0.02 to 0.9"

    def table(self, scores):
        return super().table(scores).clip(0.02, 0.9)


class ClassZero(Notebook):
    fault = "one class is zero"

    def table(self, scores):
        correct = super().table(scores)
        return correct.assign(**{self.lab.classes[2]: 0.0})


class ClassesTwice(Notebook):
    fault = "one class has the scores of another"

    def table(self, scores):
        correct = super().table(scores)
        return correct.assign(**{self.lab.classes[2]: correct[self.lab.classes[7]]})


class SumToOne(Notebook):
    fault = "each row divided by its sum"

    def table(self, scores):
        correct = super().table(scores)
        return correct.div(correct.sum(axis=1), axis=0)


class TwoDigits(Notebook):
    fault = "probabilities rounded to 2 digits"

    def table(self, scores):
        return super().table(scores).round(2)


class HalfPrecision(Notebook):
    fault = "probabilities in half precision"

    def table(self, scores):
        return super().table(scores).astype(np.float16).astype(np.float64)


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
    ReadAs48,
    NotResampled,
    Quiet,
    Inverted,
    Offset,
    Dithered,
    Wrapped,
    Clipped,
    EightBits,
    Trimmed,
    Interpolated,
    Emphasised,
    NotCentred,
    OtherWindow,
    ShortWindow,
    Kaiser,
    Reflected,
    Amplitude,
    Unnormed,
    FromZero,
    HighBandsFirst,
    RelativeToMaximum,
    NaturalLogarithm,
    Pcen,
    LateWindows,
    HalvesSwapped,
    Alternate,
    Transposed,
    ChannelsReversed,
    WideDeltas,
    Standardised,
    Masked,
    TrainMode,
    AveragedWeights,
    ClassNotLoaded,
    BrainFloat,
    ClassesReversed,
    SoftmaxOfClasses,
    Maximum,
    WrongOverlap,
    Early,
    RowsReversed,
    Smoothed,
    OtherRecordings,
    OneRecordingTwice,
    RecordingMissing,
    OneRecordingZero,
    Complement,
    SquareRoot,
    Ranks,
    SigmoidTwice,
    ClippedScores,
    ClassZero,
    ClassesTwice,
    SumToOne,
    TwoDigits,
    HalfPrecision,
)
