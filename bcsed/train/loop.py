"""The training loop, written out: the order of its lines is the method."""

from __future__ import annotations

import dataclasses
import io
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .. import interrupt
from ..audio.spectrogram import LogMel
from ..config.contract import Contract
from ..config.experiments import Experiment
from ..config.recipe import Fit
from ..errors import DataError
from ..files import atomic_write, read_errors
from ..models.network import SedNet, modern_names, pool
from ..plot.training import learning_curves
from ..scores.evaluation import Evaluation, write_evaluation
from .augment import Excerpts, Injector, Masks, Mix, Noise, WaveBatch, make_augmentations, set_level
from .checkpoints import BEST, CONTRADICTIONS, LAST, METRICS, PLOT, VALIDATION
from .data import TrainingData, TrainOptions
from .dataset.batches import Batch, BatchInputs, batches, epoch_order
from .distributed import Distributed, half_type
from .losses import cosine_distance, criterion, strong_loss
from .validate import measure, rank_contradictions, validate_clips, validate_rows

# Called with (epoch, steps done, steps of the epoch, mean loss so far).
Progress = Callable[[int, int, int, float], None]
EpochDone = Callable[[Mapping[str, float]], None]
Augmentations = tuple[Noise, Mix, Masks]

# Curves are drawn when the training ends or stops, and at most this often before.
_DRAW_S = 30.0
# Attributes of the loop that a checkpoint contains in addition to tensors.
_COUNTERS = ("epoch", "step", "loss_sum", "best", "history")


def learning_rate(fit: Fit, progress: float) -> float:
    """Return the learning rate after `progress` epochs.

    Linear from `lr_start` to `lr` during the warm-up; then cosine cycles of `cycle_epochs` from a peak to zero, each
    peak `cycle_decay` times the previous one (SGDR, Loshchilov and Hutter 2017; 1 repeats the same peak).

    >>> fit = Fit(lr=1e-3, lr_start=1e-4, warmup_epochs=2, cycle_epochs=8)
    >>> [round(learning_rate(fit, epoch), 6) for epoch in (0, 2, 6, 10, 18)]
    [0.0001, 0.001, 0.0005, 0.0005, 0.00025]
    """
    if progress < fit.warmup_epochs:
        return fit.lr_start + (fit.lr - fit.lr_start) * progress / fit.warmup_epochs
    cycle, position = divmod(progress - fit.warmup_epochs, fit.cycle_epochs)
    peak = fit.lr * math.pow(fit.cycle_decay, cycle)
    return peak * 0.5 * (1.0 + math.cos(math.pi * position / fit.cycle_epochs))


class Student(torch.nn.Module):
    """A network, and a layer that projects its features to a teacher's embeddings of a size above 0."""

    def __init__(self, network: SedNet, size: int) -> None:
        super().__init__()
        self.network = network
        self.project = torch.nn.Linear(network.n_features, size) if size else None

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute logits and attention, (B, t, K) each, and an embedding (B, D) of dB windows (B, F, T)."""
        encoded = self.network.encode(db)
        logits, attention = self.network.apply_heads(encoded)
        features = encoded.float().mean(2)
        return logits, attention, features[:, :0] if self.project is None else self.project(features)


class Loop:
    """The state of a training, and its loop."""

    def __init__(
        self,
        experiment: Experiment,
        contract: Contract,
        data: TrainingData,
        network: SedNet,
        processes: Distributed,
        out: Path,
        options: TrainOptions,
        stop_at: float = math.inf,  # of the monotonic clock
    ) -> None:
        self.experiment, self.contract, self.data, self.fit = experiment, contract, data, experiment.fit
        self.processes, self.out, self.options, self.stop_at = processes, out, options, stop_at
        self.device, self.network = processes.device, network
        self.inputs = dataclasses.replace(data.inputs, steps=network.steps if self.fit.strong_weight else 0)
        online = experiment.data.pseudo_source == "online"
        # Online pseudolabels are computed by the network in training.
        self.online = [online and sampler.pseudo for sampler, _ in data.inputs.injectors]
        self.injectors = [
            Injector(inject, union=union) for (_, inject), union in zip(data.inputs.injectors, self.online, strict=True)
        ]
        self.mel = LogMel(experiment.frontend).to(self.device)
        teacher = data.inputs.teacher
        self.student = Student(network, len(teacher.unknown) if teacher else 0).to(self.device)
        self.trained: torch.nn.Module = self.student
        if processes.size > 1:
            # Some timm models have layers that only their classifier uses: the same ones in every step.
            self.trained = DistributedDataParallel(self.student, static_graph=True)
        # Only weights are averaged. BatchNorm statistics are the network's: averaged ones, and ones estimated anew,
        # became NaN on NFNet heads.
        self.average: AveragedModel | None = None
        if self.fit.ema:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(self.fit.ema))  # type: ignore[no-untyped-call]
        elif self.fit.swa_epochs:
            self.average = AveragedModel(network)  # the mean of the weights at the ends of epochs
        # One kernel for all parameters: on a CPU a sixth of the time.
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=self.fit.lr_start, weight_decay=self.fit.weight_decay, fused=True
        )
        self.half = half_type(self.device, network) if self.fit.mixed_precision else None
        # Gradients in float16 would be rounded to zero unless the loss is scaled; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half == torch.float16)
        self.n_steps = max(1, len(self._order(0)) // self.fit.batch_size)
        self.epoch, self.step, self.loss_sum, self.best = 0, 0, 0.0, -math.inf
        self.drawn_s, self.n_drawn = time.monotonic(), 0
        self.history: list[dict[str, float]] = []

    @property
    def validated_network(self) -> SedNet:
        """The network that is validated and saved: the one in training, or the average of its weights."""
        if self.average is None or not self.average.n_averaged:
            return self.network
        return cast(SedNet, self.average.module)

    def run(self, progress: Progress | None, epoch_done: EpochDone | None) -> None:
        """Train the remaining epochs, or as many steps of them as the time limit or an interruption allows."""
        saved = time.monotonic()
        while self.epoch < self.fit.epochs and not self._must_stop():
            began = time.monotonic()
            augmentations = make_augmentations(self.experiment.augment, self.experiment.frontend.top_db, self.epoch)
            self._start_epoch()
            feed = batches(
                self._inputs(),
                self._order(self.epoch),
                batch_size=self.fit.batch_size,
                crop=self.experiment.data.crop,
                seed=self.fit.seed,
                epoch=self.epoch,
                first_step=self.step,
                jobs=self.options.jobs,
                part=(self.processes.rank, self.processes.size),
            )
            for batch in feed:
                self.loss_sum += self._train_step(batch, augmentations)
                self.step += 1
                if progress is not None:
                    progress(self.epoch, self.step, self.n_steps, self.loss_sum / self.step)
                if self.step == self.n_steps:
                    continue
                stop = self._must_stop()
                late = time.monotonic() - saved > 60.0 * self.options.checkpoint_min
                if (late or stop) and self.processes.first:
                    self._save(LAST)
                    saved = time.monotonic()
                if stop:
                    self._draw()
                    self.processes.wait()
                    return
            self._finish_epoch(time.monotonic() - began)
            saved = time.monotonic()
            if epoch_done is not None and self.processes.first:
                epoch_done(self.history[-1])
        if self.epoch < self.fit.epochs:
            self._draw()

    def _start_epoch(self) -> None:
        self.trained.train()
        if self.epoch < self.fit.freeze_epochs:
            self.network.backbone.eval()  # its BatchNorm statistics do not change either

    def _must_stop(self) -> bool:
        """Return True if the time is over or the command was interrupted.

        In all processes at the same step: none may wait for one that stopped.
        """
        return self.processes.any(time.monotonic() > self.stop_at or interrupt.asked())

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        rows, class_index = self.data.train_rows, self.data.inputs.class_index
        return epoch_order(rows, self.fit.seed, epoch, class_index=class_index, data=self.experiment.data)

    def _inputs(self) -> BatchInputs:
        """Return the sources of the epoch's batches: soundscapes without labels only while a teacher is followed."""
        if not self.fit.distil_epochs or self.epoch < self.fit.distil_epochs:
            return self.inputs
        injectors = tuple(
            (sampler, inject if sampler.has_labels else dataclasses.replace(inject, share=0.0))
            for sampler, inject in self.inputs.injectors
        )
        return dataclasses.replace(self.inputs, injectors=injectors)

    def _train_step(self, batch: Batch, augmentations: Augmentations) -> float:
        """Update the weights once and return the loss."""
        # All random numbers of a step are derived from its key, so a resumed run draws the same ones.
        key = [self.fit.seed, self.epoch, 3, self.step, *((self.processes.rank,) if self.processes.rank else ())]
        seeds = np.random.SeedSequence(key).generate_state(2)
        generator = torch.Generator(self.device).manual_seed(int(seeds[0]))
        torch.manual_seed(int(seeds[1]))
        with torch.no_grad():
            waves, db = self._augment(batch, augmentations, generator)
        rate = learning_rate(self.fit, self.epoch + self.step / self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with self.mixed():
            logits, attention, embedding = self.trained(db)
        loss = criterion(logits, attention, waves.targets, waves.weights, fit=self.fit, kind=self.contract.net.pool)
        if self.fit.strong_weight:
            loss = loss + self.fit.strong_weight * strong_loss(logits, attention, waves.marks, self.fit)
        if self.fit.distil_weight:
            # Zero after the last epoch with distillation: all processes must use the same parameters in every step.
            used = not self.fit.distil_epochs or self.epoch < self.fit.distil_epochs
            loss = loss + used * self.fit.distil_weight * cosine_distance(embedding, waves.embeddings)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.epoch < self.fit.freeze_epochs:
            for weight in self.network.backbone.parameters():
                weight.grad = None  # the optimiser skips it, weight decay included
        if self.fit.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.fit.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and self.fit.ema:
            self.average.update_parameters(self.network)
        # Last, because a GPU has no other work while its results are read.
        value = self.processes.mean(loss)
        if not math.isfinite(value):
            advice = "a lower fit.lr, fit.clip_norm=1, or fit.mixed_precision=false (NFNets overflow in half precision)"
            if not batch.clips.waves.any():
                advice = "it without the recordings that warnings name: all clips of this batch are silent"
            raise DataError(f"the loss became {value} in epoch {self.epoch + 1}, step {self.step + 1}. Try {advice}.")
        return value

    def _augment(
        self, batch: Batch, augmentations: Augmentations, generator: torch.Generator
    ) -> tuple[WaveBatch, torch.Tensor]:
        """Return the batch with all augmentations, and its dB windows (B, F, T)."""
        noise, mix, masks = augmentations
        level, clips = self.experiment.augment.level, WaveBatch(*map(self._move, batch.clips))
        # The level is set before noise, and again after it: noise raises the peak.
        noisy = set_level(noise(set_level(clips.waves, level), generator), level)
        waves = mix(clips._replace(waves=noisy), generator)
        for injector, excerpts, online in zip(self.injectors, batch.excerpts, self.online, strict=True):
            moved = Excerpts(*map(self._move, excerpts))
            waves = injector(waves, self._pseudolabel(moved) if online else moved, generator)
        return waves, masks(self.mel(waves.waves), generator)

    def mixed(self) -> torch.autocast:
        """Return the context in which the network computes in half precision where that is faster."""
        return torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None)

    def _move(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device, non_blocking=True)

    def _pseudolabel(self, excerpts: Excerpts) -> Excerpts:
        """Label excerpts with the network in training (online pseudolabels)."""
        if not len(excerpts.sample_index):
            return excerpts
        settings, network = self.experiment.data, self.validated_network
        first, last = settings.in_situ_weight
        weight = first + (last - first) * self.epoch / max(1, self.fit.epochs - 1)
        modes = {module: module.training for module in network.modules()}  # a frozen backbone is not in training
        network.eval()
        with self.mixed():
            logits, attention = network(self.mel(excerpts.waves))
        for module, mode in modes.items():
            module.training = mode
        p = pool(logits.float(), attention.float(), self.contract.net.pool)
        targets = torch.where(p < settings.in_situ_floor, torch.zeros_like(p), weight * p)
        weights = torch.where(targets > 0, settings.pseudo_loss_weight, 1.0)
        return excerpts._replace(targets=targets, weights=weights)

    def _finish_epoch(self, seconds: float) -> None:
        """Validate, and write the metrics and checkpoints of an epoch."""
        self.processes.wait()
        if self.average is not None and self.fit.epochs - self.epoch <= self.fit.swa_epochs:
            self.average.update_parameters(self.network)
        rate, loss = self.optimizer.param_groups[0]["lr"], self.loss_sum / max(1, self.step)
        values: dict[str, float] = {"epoch": self.epoch + 1, "lr": rate, "loss": loss}
        evaluations: list[Evaluation] = []
        if self.processes.first:
            parts = (self.validated_network.eval(), self.contract, self.data)
            if len(self.data.valid_rows):
                size, jobs = self.fit.batch_size, self.options.jobs
                evaluations.append(validate_clips(*parts, device=self.device, batch_size=size, jobs=jobs))
            if self.data.soundscapes:
                evaluations.append(validate_rows(*parts, device=self.device))
        for evaluation in evaluations:
            values |= measure(evaluation)
        improved = self._improved(values)
        if self.processes.first:
            values |= {"best": float(improved), "seconds": seconds}
        self.history.append(values)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        if evaluations:
            # Rows of soundscapes if there are any, because they are submitted.
            write_evaluation(self.out / VALIDATION.format("last"), evaluations[-1])
        if improved:
            write_evaluation(self.out / VALIDATION.format("best"), evaluations[-1])
            if evaluations[0].kind == "clips":
                ranked = rank_contradictions(evaluations[0], self.data)
                with atomic_write(self.out / CONTRADICTIONS) as temporary:
                    ranked.to_csv(temporary, index=False, float_format="%.4f")
            self._save(BEST)
        if self.processes.first:
            with atomic_write(self.out / METRICS) as temporary:
                pd.DataFrame(self.history).to_csv(temporary, index=False, float_format="%.6g")
            # Drawing takes half a second, which may be longer than an epoch.
            if self.epoch == self.fit.epochs or time.monotonic() - self.drawn_s > _DRAW_S:
                self._draw()
            # Last: a run killed earlier repeats the end of this epoch, a run killed later has all files.
            self._save(LAST)
        self.processes.wait()

    def _draw(self) -> None:
        """Draw the curves, unless those of all epochs are drawn."""
        if self.processes.first and len(self.history) > self.n_drawn:
            with atomic_write(self.out / PLOT) as temporary:
                learning_curves(pd.DataFrame(self.history), temporary, title=self.experiment.name)
            self.drawn_s, self.n_drawn = time.monotonic(), len(self.history)

    def _improved(self, values: Mapping[str, float]) -> bool:
        """Return True if the epoch has the best validation so far, and remember it."""
        auc = values.get("row_auc", values.get("clip_auc"))
        if auc is None:
            return False
        # NaN is below every number, but better than no checkpoint.
        score = -math.inf if math.isnan(auc) else auc
        improved = score > self.best or not (self.out / BEST).is_file()
        self.best = max(self.best, score)
        return improved

    def _save(self, name: str) -> None:
        model, metrics = self.validated_network.state_dict(), self.history[-1] if self.history else {}
        state: dict[str, Any] = {"model": model, "epoch": self.epoch, "metrics": metrics}
        if name == LAST:
            state |= {
                "raw": self.student.state_dict(),
                "averaged": 0 if self.average is None else int(self.average.n_averaged),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "bfloat16": self.half == torch.bfloat16,
                **{name: getattr(self, name) for name in _COUNTERS},
            }
        # In memory first: torch reports a full disk as "unexpected pos".
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with atomic_write(self.out / name) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Restore the state of a checkpoint, if there is one; it may have tensor names of an earlier version."""
        if state is None:
            return
        with read_errors(self.out / LAST, "a checkpoint of this training"):
            raw, prefix = state["raw"], "network."
            tensors = {name.removeprefix(prefix): raw[name] for name in raw if name.startswith(prefix)}
            self.student.load_state_dict(
                {name: value for name, value in raw.items() if not name.startswith(prefix)}
                | {prefix + name: value for name, value in modern_names(tensors).items()}
            )
            if self.average is not None:
                self.average.module.load_state_dict(state["model"])
                self.average.n_averaged.fill_(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            if state["scaler"]:  # empty if the run was begun on a CPU
                self.scaler.load_state_dict(state["scaler"])
            if self.device.type == "cpu":
                # That of the first epochs, which another CPU or an earlier version chose.
                self.half = torch.bfloat16 if state.get("bfloat16") else None
            for name in _COUNTERS:
                setattr(self, name, state[name])
