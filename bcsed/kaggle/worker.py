"""One of several processes that share a training: what torchrun starts, one for each GPU.

``python -m torch.distributed.run --standalone --nproc_per_node=2 -m bcsed.kaggle.worker JOB.json``
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..config.experiments import find_experiment, parse_changes
from ..errors import BcsedError, DataError
from ..files import atomic_write
from .markers import Log

# What stands before a line that is for the user, among all that torchrun says.
_MARK, _FAULT = "bcsed> ", "bcsed! "


def train_distributed(job: Mapping[str, Any], folder: Path, n_processes: int, say: Log) -> None:
    """Run a training in several processes that share every batch.

    Parameters
    ----------
    job : mapping
        Arguments of `bcsed.train.train` as plain values: the experiment as its name and ``changes``, and the fields
        of ``inputs`` and ``options``.
    folder : Path
        Where the job is written down for the processes.
    n_processes : int
    say : callable
        Told what the first process says.

    Raises
    ------
    DataError
        If a process fails, with its sentence.
    """
    path = folder / ".job.json"
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(dict(job)), encoding="utf-8")
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={n_processes}"]
    command = [sys.executable, *launch, "-m", "bcsed.kaggle.worker", str(path)]
    fault, last = "", ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        for line in running.stdout or ():
            if line.startswith(_MARK):
                say(line.removeprefix(_MARK).rstrip())
            elif line.startswith(_FAULT):
                fault = line.removeprefix(_FAULT).rstrip()
            elif line.strip():
                last = line.strip()
    path.unlink(missing_ok=True)
    if running.returncode:
        raise DataError(fault or f"one of {n_processes} processes failed with status {running.returncode} ({last}).")


def main(path: str) -> int:
    """Train as one of the processes, as a job says."""
    from ..train.api import train
    from ..train.options import TrainInputs, TrainOptions
    from .session import epoch_line

    job = json.loads(Path(path).read_text(encoding="utf-8"))
    row = find_experiment(job.pop("experiment"))
    row = row.vary(row.name, **parse_changes(job.pop("changes")))
    inputs, settings = TrainInputs(**job.pop("inputs", {})), TrainOptions(**job.pop("options", {}))
    first = os.environ.get("RANK", "0") == "0"
    try:
        train(
            row,
            **job,
            inputs=inputs,
            options=settings,
            epoch_done=lambda values: _tell(_MARK + epoch_line(values, row.fit.epochs)),
        )
    except BcsedError as error:
        if first:
            _tell(_FAULT + str(error))
        return 2
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
