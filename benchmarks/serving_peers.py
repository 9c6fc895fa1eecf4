"""Who is measured by `benchmarks.serving`: how each server starts, what it is sent, and how its answers read.

Every peer has a folder in `benchmarks/peers` with what it needs installed and, where it wants code, one small app.
All serve the same checkpoint in float32 with as many threads as there are cores, batches of at most 32 to 64, padded
to the longest of a batch, and each with the batching that its own documentation recommends.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PEERS = Path(__file__).parent / "peers"


@dataclass(frozen=True)
class Place:
    """Where a server runs: its interpreter, working folder and port, and the models it may serve."""

    python: Path
    folder: Path
    port: int
    spare_ports: tuple[int, int]
    model: Path
    checkpoint: Path


@dataclass(frozen=True)
class Server:
    """One server under test.

    Attributes:
        key: name of its folder, environment and row.
        package: distribution whose version is told.
        batching: how it joins messages of several requests; empty: it does not.
        body: JSON for some texts; `many` where that form is another one.
        labels: label words in the JSON of an answer.
    """

    key: str
    title: str
    package: str
    batching: str
    path: str
    command: Callable[[Place], list[str | Path]]
    body: Callable[[Sequence[str]], Any]
    labels: Callable[[Any], list[str]]
    extra: Callable[[Place], dict[str, str]] = lambda place: {}

    def environment(self, place: Place, cores: int) -> dict[str, str]:
        """The whole environment of the server: nothing is downloaded, nothing is reported to anybody."""
        kept = ("HOME", "LANG", "LC_ALL", "TMPDIR", "USER")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PATH": f"{place.python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(place.folder),
            "PORT": str(place.port),
            "CHECKPOINT": str(place.checkpoint),
            "THREADS": str(cores),
            "OMP_NUM_THREADS": str(cores),
            "MKL_NUM_THREADS": str(cores),
            **QUIET,
            **self.extra(place),
        }


QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "BENTOML_DO_NOT_TRACK": "True",
    "RAY_USAGE_STATS_ENABLED": "0",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
}


def _answers(rows: Any) -> list[str]:
    return [str(row["label"]) for row in rows]


def _frame(texts: Sequence[str]) -> dict[str, Any]:
    return {"inputs": list(texts)}


def _protocol(texts: Sequence[str]) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)}]}


def _own(place: Place) -> list[str | Path]:
    return [place.python, "app.py"]


SERVERS = {
    server.key: server
    for server in (
        Server(
            "mlflow", "`mlflow models serve`", "mlflow", "", "/invocations",
            lambda at: [
                at.python, "-m", "mlflow", "models", "serve", "--model-uri", at.model, "--host", "127.0.0.1",
                "--port", str(at.port), "--env-manager", "local",
            ],
            _frame,
            lambda answer: _answers(answer["predictions"]),
        ),
        Server(
            "fastapi_pipeline", "FastAPI + transformers pipeline", "fastapi", "", "/score",
            _own, lambda texts: {"texts": list(texts)}, _answers,
        ),
        Server(
            "litserve", "LitServe", "litserve", "max_batch_size 32, batch_timeout 5 ms", "/score",
            _own, lambda texts: {"texts": list(texts)}, lambda answer: _answers(answer["answers"]),
        ),
        Server(
            "bentoml", "BentoML", "bentoml", "adaptive, max_batch_size 64", "/score",
            lambda at: [
                at.python, "-m", "bentoml", "serve", "app:Classifier", "--host", "127.0.0.1", "--port", str(at.port),
            ],
            lambda texts: {"texts": list(texts)},
            _answers,
            lambda at: {"BENTOML_HOME": str(at.folder / "home")},
        ),
        Server(
            "ray_serve", "Ray Serve", "ray", "`@serve.batch` 32, 5 ms", "/score",
            _own, lambda texts: {"texts": list(texts)}, _answers,
        ),
        Server(
            "mlserver", "MLServer (runtime class)", "mlserver", "adaptive, max_batch_size 32, 5 ms",
            "/v2/models/sentiment/infer",
            lambda at: [at.python.parent / "mlserver", "start", "."],
            _protocol,
            lambda answer: [str(label) for label in answer["outputs"][0]["data"]],
            lambda at: {
                "MLSERVER_HTTP_PORT": str(at.port),
                "MLSERVER_GRPC_PORT": str(at.spare_ports[0]),
                "MLSERVER_METRICS_PORT": str(at.spare_ports[1]),
            },
        ),
        Server(
            "infinity", "infinity-emb (torch)", "infinity-emb", "dynamic, batch-size 32", "/classify",
            lambda at: [
                at.python.parent / "infinity_emb", "v2", "--model-id", at.checkpoint, "--served-model-name",
                "sentiment", "--engine", "torch", "--device", "cpu", "--dtype", "float32", "--batch-size", "32",
                "--no-bettertransformer", "--host", "127.0.0.1", "--port", str(at.port),
            ],
            lambda texts: {"model": "sentiment", "input": list(texts)},
            lambda answer: [max(row, key=lambda one: one["score"])["label"] for row in answer["data"]],
        ),
    )
}  # fmt: skip


def undertone(environment: dict[str, str], key: str = "undertone") -> Server:
    """The worker of this repository, in its own environment, on a home that `environment` names."""
    return Server(
        key, "Undertone", "undertone", "continuous", "/v1/score",
        lambda at: [sys.executable, "-m", "serving"],
        lambda texts: {"messages": [{"text": text} for text in texts]},
        lambda answer: [row["tasks"]["sentiment"]["label"] for row in answer["messages"]],
        lambda at: {"UNDERTONE_PORT": str(at.port), "PYTHONPATH": str(PEERS.parents[1]), **environment},
    )  # fmt: skip


class NotInstalled(Exception):
    """A peer's environment cannot be made; says why."""


def interpreter(key: str, cache: Path) -> Path:
    """The interpreter of the peer's own virtual environment, made once from its requirements.

    Raises:
        NotInstalled: pip failed.
    """
    folder = cache / "venvs" / key
    wanted = (PEERS / key / "requirements.txt").read_text(encoding="utf-8")
    stamp, python = folder / "installed.txt", folder / "bin" / "python"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    log = cache / "logs" / f"install-{key}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", folder],
        [python, "-m", "pip", "install", "--no-compile", "--quiet", "-r", PEERS / key / "requirements.txt"],
    ]
    for command in commands:
        with log.open("ab") as stream:
            done = subprocess.run(command, stdout=stream, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise NotInstalled(f"{' '.join(map(str, command[1:4]))} failed: {' '.join(last)[:300]}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def version(python: Path, package: str) -> str:
    """The version of `package` beside `python`; empty if it is not there."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def working_folder(key: str, cache: Path) -> Path:
    """A copy of the peer's app with the shared model code, so that nothing is written into the repository."""
    folder = cache / "run" / key
    shutil.rmtree(folder, ignore_errors=True)
    if (PEERS / key).is_dir():
        shutil.copytree(PEERS / key, folder)
        shutil.copy(PEERS / "torch_model.py", folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_labels(server: Server, body: bytes) -> list[str] | None:
    """Labels in an answer's body; None if it is not one."""
    try:
        return server.labels(json.loads(body))
    except (ValueError, KeyError, TypeError, IndexError):
        return None
