"""The training loop, written out: the order of its lines is the method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from .. import augment
from ..config import Contract
from ..dataset import Clips, batches, epoch_order
from ..errors import DataError
from ..experiments import Experiment
from ..losses import criterion
from ..model import SedNet
from ..plot import learning_curves
from ..rows import replacing
from ..spectrogram import LogMel
from . import run as runs
from .data import Prepared
from .schedule import rate
from .validate import validate_clips, validate_rows

# Called with (epoch, steps done, steps of the epoch, mean loss so far).
Progress = Callable[[int, int, int, float], None]


class Loop:
    """The state of a training, and its loop."""

    def __init__(
        self,
        experiment: Experiment,
        contract: Contract,
        ready: Prepared,
        network: SedNet,
        device: torch.device,
        out: Path,
        jobs: int,
        cache_gb: float,
        checkpoint_min: float,
    ) -> None:
        self.experiment, self.contract, self.ready = experiment, contract, ready
        self.network, self.device, self.out, self.jobs = network, device, out, jobs
        self.fit, self.checkpoint_s = experiment.fit, 60.0 * checkpoint_min
        self.clips = Clips(ready.recordings, experiment.signal, experiment.data, cache_gb)
        self.mel = LogMel(experiment.signal).to(device)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=self.fit.lr_start, weight_decay=self.fit.weight_decay
        )
        self.half = self.fit.mixed_precision and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.half)
        self.n_steps = max(1, len(ready.train_rows) // self.fit.batch_size)
        self.epoch = self.step = 0
        self.loss_sum = 0.0
        self.best = -math.inf
        self.history: list[dict[str, float]] = []

    def run(self, progress: Progress | None, epoch_done: Callable[[Mapping[str, float]], None] | None) -> None:
        """Train all epochs that are left."""
        saved = time.monotonic()
        while self.epoch < self.fit.epochs:
            began = time.monotonic()
            mix = augment.from_config(self.experiment.augment, self.experiment.signal.top_db, self.epoch)
            feed = batches(
                self.clips,
                epoch_order(self.ready.train_rows, self.fit.seed, self.epoch),
                self.ready.targets,
                self.ready.weights,
                batch_size=self.fit.batch_size,
                crop=self.experiment.data.crop,
                seed=self.fit.seed,
                epoch=self.epoch,
                first_step=self.step,
                jobs=self.jobs,
            )
            self.network.train()
            for batch in feed:
                self.loss_sum += self._learn(batch.waves, batch.targets, batch.weights, mix)
                self.step += 1
                if progress is not None:
                    progress(self.epoch, self.step, self.n_steps, self.loss_sum / self.step)
                if time.monotonic() - saved > self.checkpoint_s and self.step < self.n_steps:
                    self._save(runs.LAST)
                    saved = time.monotonic()
            self._finish_epoch(time.monotonic() - began)
            saved = time.monotonic()
            if epoch_done is not None:
                epoch_done(self.history[-1])

    def _learn(
        self,
        waves: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        mix: tuple[augment.Sumix, augment.Noise, augment.Masks],
    ) -> float:
        """Take one step and return its loss."""
        # All of a step's randomness follows from its place, so a resumed run draws the same.
        place = np.random.SeedSequence([self.fit.seed, self.epoch, 3, self.step]).generate_state(2)
        generator = torch.Generator(self.device).manual_seed(int(place[0]))
        torch.manual_seed(int(place[1]))
        sumix, noise, masks = mix
        on_device = tuple(x.to(self.device, non_blocking=True) for x in (waves, targets, weights))
        with torch.no_grad():
            mixed, target, weight = sumix((on_device[0], on_device[1], on_device[2]), generator)
            db = masks(self.mel(noise(mixed, generator)), generator)
        learning_rate = rate(self.fit, self.epoch + self.step / self.n_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, dtype=torch.float16, enabled=self.half):
            what, when = self.network(db)
        loss = criterion(what, when, target, weight, fit=self.fit, kind=self.contract.net.pool)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError(
                f"the loss became {value} in epoch {self.epoch + 1}, step {self.step + 1}; the last checkpoint "
                "is kept. Try a lower fit__lr, or fit__mixed_precision=false (NFNets overflow in half "
                "precision)."
            )
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return value

    def _finish_epoch(self, seconds: float) -> None:
        values: dict[str, float] = {
            "epoch": self.epoch + 1,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": self.loss_sum / max(1, self.step),
            **self._validate(),
        }
        chosen = values.get("row_auc", values.get("clip_auc"))
        # A NaN is better than nothing, and worse than any number.
        score = -math.inf if chosen is None or math.isnan(chosen) else chosen
        improved = chosen is not None and (score > self.best or not (self.out / runs.BEST).is_file())
        self.best = max(self.best, score)
        values["best"] = float(improved)
        values["seconds"] = seconds
        self.history.append(values)
        self.epoch, self.step, self.loss_sum = self.epoch + 1, 0, 0.0
        if improved:
            self._save(runs.BEST)
        self._save(runs.LAST)
        self._report()

    def _validate(self) -> dict[str, float]:
        self.network.eval()
        found: dict[str, float] = {}
        if len(self.ready.valid_rows):
            found |= validate_clips(
                self.network,
                self.contract,
                self.clips,
                self.ready.valid_rows,
                self.ready.truth,
                device=self.device,
                batch_size=self.fit.batch_size,
                jobs=self.jobs,
            )
        if self.ready.soundscapes:
            found |= validate_rows(
                self.network,
                self.contract,
                self.ready.soundscapes,
                self.ready.row_truth,
                row_s=self.ready.year.row_s,
                row_id=self.ready.year.row_id,
                device=self.device,
            )
        return found

    def _report(self) -> None:
        table = pd.DataFrame(self.history)
        with replacing(self.out / runs.METRICS) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
        with replacing(self.out / runs.PLOT) as temporary:
            learning_curves(table, temporary, title=self.experiment.name)

    def _save(self, name: str) -> None:
        state: dict[str, Any] = {
            "model": self.network.state_dict(),
            "epoch": self.epoch,
            "metrics": self.history[-1] if self.history else {},
        }
        if name == runs.LAST:
            state |= {
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "step": self.step,
                "loss_sum": self.loss_sum,
                "best": self.best,
                "history": self.history,
            }
        runs.save_state(self.out / name, state)

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Take up the state of a checkpoint."""
        if state is None:
            return
        self.network.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.loss_sum = state["epoch"], state["step"], state["loss_sum"]
        self.best, self.history = state["best"], list(state["history"])
