"""Fine-tuning in several processes, on one machine or more: torch's launcher starts them, Accelerate syncs them.

The batch is shared out, so that a step sees the rows it sees in one process. The processes exchange gradients over gloo
on CPUs and NCCL on GPUs. On several machines each one runs the launcher on the same job folder, which lies on storage
that all of them see; `command` says how.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.effort import Effort
from undertone.errors import ConfigError, TrainingError
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    from pandas import DataFrame

log = logging.getLogger("undertone.training")

#: Folder of the job among a run's checkpoints, and its files.
JOB = "job"
_ROWS, _SETTINGS, _CURVES, _ERRORS = "rows.parquet", "job.json", "curves.jsonl", "errors.txt"
_POLL_S = 0.2
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How many processes, and where.

    Attributes:
        processes: processes on each machine.
        nodes: machines.
        rendezvous: ``HOST:PORT`` where machines meet; empty on one machine.
    """

    processes: int = 1
    nodes: int = 1
    rendezvous: str = ""

    @property
    def world(self) -> int:
        """Processes on all machines."""
        return self.processes * self.nodes

    def check(self, effort: Effort) -> None:
        """Refuse what several processes cannot do.

        Raises:
            ConfigError: the batch does not divide, machines have no place to meet, or the effort stops early.
        """
        if effort.batch_size % self.world:
            raise ConfigError(
                f"a batch size that {self.world} processes can share",
                f"{effort.batch_size}",
                f"for example `--set batch_size={-(-effort.batch_size // self.world) * self.world}`",
            )
        if self.nodes > 1 and not self.rendezvous:
            raise ConfigError(
                "a place where machines meet", "none", "set UNDERTONE_TRAIN_RENDEZVOUS=HOST:PORT, this machine's"
            )
        if effort.patience:
            raise ConfigError(
                "an effort that does not stop early, for several processes",
                f"patience {effort.patience}",
                "use the standard effort, or `--set patience=none`",
            )

    def command(self, job: Path) -> list[str]:
        """What starts this machine's processes; the other machines run the same."""
        meet = [f"--rdzv-endpoint={self.rendezvous}"] if self.rendezvous else ["--rdzv-endpoint=127.0.0.1:0"]
        return [
            *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={self.nodes}"),
            *(f"--nproc-per-node={self.processes}", "--rdzv-backend=c10d", *meet, f"--rdzv-id={job.parent.name}"),
            *([] if self.nodes > 1 else ["--local-addr=127.0.0.1"]),
            *("-m", "training.distributed", str(job)),
        ]


#: This process.
ALONE = Launch()


def train(
    launch: Launch,
    rows: DataFrame,
    spec: TaskSpec,
    effort: Effort,
    *,
    base_model: Path,
    seed: int,
    checkpoints: Path,
    note: Callable[[dict[str, float], int], None] | None,
    progress: bool,
    threads: int | None,
) -> None:
    """Fine-tune in the processes of `launch`; the model then lies where `training.finetune` puts it.

    A signal ends the processes; the next call goes on from the last checkpoint.

    Raises:
        ConfigError: `Launch.check` refuses.
        TrainingError: a process ended without a model.
    """
    launch.check(effort)
    job = checkpoints / JOB
    shutil.rmtree(job, ignore_errors=True)
    job.mkdir(parents=True)
    rows.to_parquet(job / _ROWS)
    settings = {
        "spec": spec.model_dump(mode="json"),
        "effort": effort.model_dump(),
        "base_model": str(base_model),
        "seed": seed,
        "checkpoints": str(checkpoints),
        "progress": progress,
        "world": launch.world,
    }
    (job / _SETTINGS).write_text(json.dumps(settings), encoding="utf-8")
    command = launch.command(job)
    each = max(1, (threads or launch.processes) // launch.processes)
    if launch.nodes > 1:
        log.info("on each of the other machines, in this folder: %s", " ".join(["torchrun", *command[3:]]))
    with (job / _ERRORS).open("wb") as errors:
        # the bar goes to the terminal; what processes say at their end is kept for the error
        process = subprocess.Popen(
            command,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(each)},
            stdout=errors,
            stderr=None if progress else errors,
            start_new_session=True,
        )
        told = 0
        try:
            while process.poll() is None:
                time.sleep(_POLL_S)
                told = _pass_on(job, told, note)
        finally:
            _end(process)
    _pass_on(job, told, note)
    if process.returncode or not (checkpoints / "model").is_dir():
        said = (job / "failed.txt").read_text(encoding="utf-8") if (job / "failed.txt").is_file() else ""
        raise TrainingError(
            f"{launch.world} processes that end with a model",
            said or f"exit code {process.returncode}; see {job / _ERRORS}",
            "mend what it names; the same command goes on from the last checkpoint",
        )
    shutil.rmtree(job, ignore_errors=True)


def main(job: Path) -> None:
    """One of the processes: started by torch's launcher, which tells it its rank."""
    import pandas as pd

    from training.finetune import train_here

    asked: dict[str, Any] = json.loads((job / _SETTINGS).read_text(encoding="utf-8"))
    first = int(os.environ["RANK"]) == 0
    curves = (job / _CURVES).open("a", encoding="utf-8") if first else None

    def note(values: dict[str, float], step: int) -> None:
        if curves is not None:
            curves.write(json.dumps([values, step]) + "\n")
            curves.flush()

    try:
        train_here(
            pd.read_parquet(job / _ROWS),
            None,
            TaskSpec.model_validate(asked["spec"]),
            Effort.model_validate(asked["effort"]),
            base_model=Path(asked["base_model"]),
            seed=asked["seed"],
            checkpoints=Path(asked["checkpoints"]),
            log=note if first else None,
            progress=asked["progress"] and first,
            world=asked["world"],
        )
    except Exception as error:
        (job / "failed.txt").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
        raise
    finally:
        if curves is not None:
            curves.close()


def _pass_on(job: Path, told: int, note: Callable[[dict[str, float], int], None] | None) -> int:
    """Give whole lines of curves from byte `told` on to `note`; gives how far it came."""
    try:
        with (job / _CURVES).open("rb") as stream:
            stream.seek(told)
            fresh = stream.read()
    except FileNotFoundError:
        return told
    whole = fresh[: fresh.rfind(b"\n") + 1]
    for line in whole.splitlines():
        values, step = json.loads(line)
        if note is not None:
            note(values, step)
    return told + len(whole)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the launcher and, through it, its processes, where they still run."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
