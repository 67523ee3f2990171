"""The training loop, written out: the order of its lines is the method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..audio.spectrogram import LogMel
from ..config.contract import Contract
from ..config.experiments import Experiment
from ..errors import DataError
from ..files import atomic_write
from ..models.network import SedNet, pool
from ..plot.figures import learning_curves
from ..scores.evaluation import Evaluation, write_evaluation
from .augment import Excerpts, Injector, Masks, Mix, Noise, WaveBatch, from_config
from .checkpoints import ANSWERS, BEST, LAST, METRICS, PLOT, save_state
from .data import TrainingData
from .dataset.batches import Batch, BatchInputs, batches, epoch_order
from .dataset.clips import ClipReader
from .distributed import Distributed
from .losses import cosine_distance, criterion
from .options import TrainOptions
from .schedule import learning_rate
from .validate import measure, validate_clips, validate_rows

# Called with (epoch, steps done, steps of the epoch, mean loss so far).
Progress = Callable[[int, int, int, float], None]
Augmentations = tuple[Mix, Noise, Masks]


class Student(torch.nn.Module):
    """A network, and what is trained beside it to meet a teacher's embeddings.

    Parameters
    ----------
    network : SedNet
    size : int
        D of the embeddings; 0 for none.
    """

    def __init__(self, network: SedNet, size: int) -> None:
        super().__init__()
        self.network = network
        self.project = torch.nn.Linear(network.n_features, size) if size else None

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(B, F, T) dB -> what and when, (B, t, K) each, and an embedding (B, D)."""
        pooled = self.network.encode(db)
        logits, attention = self.network.apply_heads(pooled)
        told = pooled.float().mean(2)
        return logits, attention, told[:, :0] if self.project is None else self.project(told)


class Loop:
    """The state of a training, and its loop."""

    def __init__(
        self,
        experiment: Experiment,
        contract: Contract,
        ready: TrainingData,
        network: SedNet,
        processes: Distributed,
        out: Path,
        options: TrainOptions,
        stop_at: float = math.inf,
    ) -> None:
        self.experiment, self.contract, self.ready, self.fit = experiment, contract, ready, experiment.fit
        self.processes, self.out, self.options, self.stop_at = processes, out, options, stop_at
        self.device, self.network = processes.device, network
        # Soundscapes have the other half of the memory.
        cache_gb = options.cache_gb / 2 if ready.injectors or ready.labelled else options.cache_gb
        clips = ClipReader(ready.recordings, experiment.frontend, experiment.data, cache_gb, ready.marks)
        self.feed = BatchInputs(
            clips, ready.targets, ready.weights, ready.own, ready.labelled, ready.injectors, ready.teacher
        )
        online = experiment.data.pseudo_source == "online"
        self.injectors = [Injector(inject, union=online and source.pseudo) for source, inject in ready.injectors]
        self.labels_itself = [online and source.pseudo for source, _ in ready.injectors]
        self.mel = LogMel(experiment.frontend).to(self.device)
        self.student = Student(network, ready.teacher.size if ready.teacher else 0).to(self.device)
        self.trained: torch.nn.Module = self.student
        if processes.size > 1:
            # Some timm models carry layers that only their classifier would use: the same ones in every step.
            self.trained = DistributedDataParallel(self.student, static_graph=True)
        # What is validated and kept: the network, or the moving average of its weights. BatchNorm's statistics
        # are the network's own; averaged ones, or ones estimated anew, have come out as NaN on NFNet heads.
        self.average: AveragedModel | None = None
        if self.fit.ema:
            self.average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(self.fit.ema))  # type: ignore[no-untyped-call]
        self.optimizer = torch.optim.AdamW(
            self.student.parameters(), lr=self.fit.lr_start, weight_decay=self.fit.weight_decay
        )
        self.half = self.fit.mixed_precision and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.half)
        self.n_steps = max(1, len(self._order(0)) // self.fit.batch_size)
        self.epoch = self.step = 0
        self.loss_sum = 0.0
        self.best = -math.inf
        self.history: list[dict[str, float]] = []

    @property
    def kept(self) -> SedNet:
        """The network whose weights are validated and kept."""
        return self.network if self.average is None else cast(SedNet, self.average.module)

    def run(self, progress: Progress | None, epoch_done: Callable[[Mapping[str, float]], None] | None) -> None:
        """Train all epochs that are left, or as many steps of them as there is time for."""
        saved = time.monotonic()
        while self.epoch < self.fit.epochs and not self._out_of_time():
            began = time.monotonic()
            mix = from_config(self.experiment.augment, self.experiment.frontend.top_db, self.epoch)
            feed = batches(
                self.feed,
                self._order(self.epoch),
                batch_size=self.fit.batch_size,
                crop=self.experiment.data.crop,
                seed=self.fit.seed,
                epoch=self.epoch,
                first_step=self.step,
                jobs=self.options.jobs,
                part=(self.processes.rank, self.processes.size),
            )
            self.trained.train()
            for batch in feed:
                self.loss_sum += self._learn(batch, mix)
                self.step += 1
                if progress is not None:
                    progress(self.epoch, self.step, self.n_steps, self.loss_sum / self.step)
                if self.step == self.n_steps:
                    continue
                stop = self._out_of_time()
                late = time.monotonic() - saved > 60.0 * self.options.checkpoint_min
                if (late or stop) and self.processes.first:
                    self._save(LAST)
                    saved = time.monotonic()
                if stop:
                    self.processes.wait()
                    return
            self._finish_epoch(time.monotonic() - began)
            saved = time.monotonic()
            if epoch_done is not None and self.processes.first:
                epoch_done(self.history[-1])

    def _out_of_time(self) -> bool:
        """Say whether the time is over, in all processes at the same step: none may wait for one that has left."""
        if self.stop_at == math.inf:
            return False
        late = torch.tensor(float(time.monotonic() > self.stop_at), device=self.device)
        return self.processes.mean(late) > 0

    def _order(self, epoch: int) -> Any:
        return epoch_order(self.ready.train_rows, self.fit.seed, epoch, own=self.ready.own, data=self.experiment.data)

    def _learn(self, batch: Batch, mix: Augmentations) -> float:
        """Take one step and return its loss."""
        # All of a step's randomness follows from its place, so a resumed run draws the same.
        place = [self.fit.seed, self.epoch, 3, self.step, *((self.processes.rank,) if self.processes.rank else ())]
        seeds = np.random.SeedSequence(place).generate_state(2)
        generator = torch.Generator(self.device).manual_seed(int(seeds[0]))
        torch.manual_seed(int(seeds[1]))
        with torch.no_grad():
            heard, db = self._hear(batch, mix, generator)
        rate = learning_rate(self.fit, self.epoch + self.step / self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half):
            logits, attention, embedding = self.trained(db)
        loss = criterion(logits, attention, heard.targets, heard.weights, fit=self.fit, kind=self.contract.net.pool)
        if self.fit.distil_weight:
            loss = loss + self.fit.distil_weight * cosine_distance(embedding, heard.vectors)
        value = self.processes.mean(loss)
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} in epoch {self.epoch + 1}, step {self.step + 1}; the last checkpoint "
                "is kept. Try a lower fit.lr, fit.clip_norm=1, or fit.mixed_precision=false (NFNets overflow in "
                "half precision)."
            )
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.fit.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.fit.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update_parameters(self.network)
        return value

    def _hear(self, batch: Batch, mix: Augmentations, generator: torch.Generator) -> tuple[WaveBatch, torch.Tensor]:
        """Mix, inject and disturb a batch; return it and its dB windows (B, F, T)."""
        mixing, noise, masks = mix
        heard = mixing(
            WaveBatch(*map(self._move, (batch.waves, batch.targets, batch.weights, batch.vectors))), generator
        )
        for inject, excerpts, itself in zip(self.injectors, batch.excerpts, self.labels_itself, strict=True):
            brought = Excerpts(*map(self._move, excerpts))
            heard = inject(heard, self._label(brought) if itself else brought, generator)
        return heard, masks(self.mel(noise(heard.waves, generator)), generator)

    def _move(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.device, non_blocking=True)

    def _label(self, excerpts: Excerpts) -> Excerpts:
        """Label excerpts with the network in training (in-situ pseudolabels)."""
        if not len(excerpts.places):
            return excerpts
        settings, network = self.experiment.data, self.kept
        first, last = settings.in_situ_weight
        weight = first + (last - first) * self.epoch / max(1, self.fit.epochs - 1)
        was_training = network.training
        network.eval()
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half):
            logits, attention = network(self.mel(excerpts.waves))
        network.train(was_training)
        p = pool(logits.float(), attention.float(), self.contract.net.pool)
        targets = torch.where(p < settings.in_situ_floor, torch.zeros_like(p), weight * p)
        weights = torch.where(targets > 0, settings.pseudo_loss_weight, 1.0)
        return excerpts._replace(targets=targets, weights=weights)

    def _finish_epoch(self, seconds: float) -> None:
        self.processes.wait()
        values: dict[str, float] = {
            "epoch": self.epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": self.loss_sum / max(1, self.step),
        }
        if not self.processes.first:
            self.history.append(values)
            self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
            self.processes.wait()
            return
        answers = self._validate()
        for found in answers:
            values |= measure(found)
        chosen = values.get("row_auc", values.get("clip_auc"))
        # A NaN is better than nothing, and worse than any number.
        score = -math.inf if chosen is None or math.isnan(chosen) else chosen
        improved = chosen is not None and (score > self.best or not (self.out / BEST).is_file())
        self.best = max(self.best, score)
        values["best"] = float(improved)
        values["seconds"] = seconds
        self.history.append(values)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        if answers:
            # Rows of soundscapes, where there are any: they are what is submitted.
            write_evaluation(self.out / ANSWERS.format("last"), answers[-1])
        if improved:
            write_evaluation(self.out / ANSWERS.format("best"), answers[-1])
            self._save(BEST)
        self._report()
        # Last: a run killed before it does this epoch's end again, and one killed after it has everything.
        self._save(LAST)
        self.processes.wait()

    def _validate(self) -> list[Evaluation]:
        network = self.kept
        network.eval()
        found = []
        if len(self.ready.valid_rows):
            answers = validate_clips(
                network,
                self.contract,
                self.feed.clips,
                self.ready.valid_rows,
                self.ready.truth,
                ids=self.ready.names,
                files=self.ready.originals,
                device=self.device,
                batch_size=self.fit.batch_size,
                jobs=self.options.jobs,
            )
            found.append(answers)
        if self.ready.soundscapes:
            answers = validate_rows(
                network,
                self.contract,
                self.ready.soundscapes,
                self.ready.row_truth,
                row_s=self.ready.year.row_s,
                row_id=self.ready.year.row_id,
                device=self.device,
            )
            found.append(answers)
        return found

    def _report(self) -> None:
        table = pd.DataFrame(self.history)
        with atomic_write(self.out / METRICS) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
        with atomic_write(self.out / PLOT) as temporary:
            learning_curves(table, temporary, title=self.experiment.name)

    def _save(self, name: str) -> None:
        state: dict[str, Any] = {
            "model": self.kept.state_dict(),
            "epoch": self.epoch,
            "metrics": self.history[-1] if self.history else {},
        }
        if name == LAST:
            state |= {
                "raw": self.student.state_dict(),
                "averaged": 0 if self.average is None else int(self.average.n_averaged),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "step": self.step,
                "loss_sum": self.loss_sum,
                "best": self.best,
                "history": self.history,
            }
        save_state(self.out / name, state)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Take up the state of a checkpoint."""
        if state is None:
            return
        self.student.load_state_dict(state["raw"])
        if self.average is not None:
            self.average.module.load_state_dict(state["model"])
            self.average.n_averaged.fill_(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.loss_sum = state["epoch"], state["step"], state["loss_sum"]
        self.best, self.history = state["best"], list(state["history"])
