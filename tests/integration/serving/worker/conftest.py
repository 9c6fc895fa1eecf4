"""A home with real parts: SQLite MLflow, signed word-bag models as ONNX graphs, and workers that answer on a port."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper
from sqlalchemy import select
from tokenizers import Tokenizer, models, pre_tokenizers

from serving.app import create_app
from serving.worker import Worker
from undertone import keys, model_folder, signing
from undertone.identity import Signer
from undertone.model_folder import STATEMENT, Lineage, ModelCardData, digest, manifest
from undertone.registry import Registry
from undertone.schema import messages, predictions
from undertone.settings import Settings
from undertone.signing import ORDER, SIGNATURE, Claim, Order, Statement
from undertone.store import Store
from undertone.tasks import TASKS, get_task
from undertone.workspace import Workspace

NOW = datetime(2026, 11, 2, tzinfo=UTC)
VOCABULARY = {word: index for index, word in enumerate(["[UNK]", "good", "bad", "parcel", "great", "sure"])}


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 20) -> float:
    """Seconds it took until `condition` held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - started


def build_model_folder(folder: Path, task: str, labels: tuple[str, ...], shift: float) -> Path:
    """The mean of word vectors times a head: "good" pulls to the last label, "bad" to the first.

    `shift` tells models apart.
    """
    table = np.zeros((len(VOCABULARY), 4), dtype=np.float32)
    table[1], table[2], table[3], table[4], table[5] = (
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
        (2, 0, 0, 1),
        (0, 0, 0, 3),
    )
    head = np.zeros((4, len(labels)), dtype=np.float32)
    head[0, -1], head[1, 0], head[2, :], head[3, -1] = 4.0 + shift, 4.0, 0.1, 1.0
    initializers = {
        "table": table,
        "head": head,
        "axis2": np.array([2]),
        "axis1": np.array([1]),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["words"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "axis2"], ["mask3"]),
            helper.make_node("Mul", ["words", "mask3"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "axis1"], ["sum"], keepdims=0),
            helper.make_node("ReduceSum", ["mask3", "axis1"], ["count"], keepdims=0),
            helper.make_node("Div", ["sum", "count"], ["sentence_embedding"]),
            helper.make_node("MatMul", ["sentence_embedding", "head"], ["logits"]),
        ],
        "bag",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["n", "t"])
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(labels)]),
            helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["n", 4]),
        ],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    (folder / model_folder.EXTRAS).mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / model_folder.GRAPH
    )
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / model_folder.TOKENIZER))
    lineage = Lineage(
        source="test", data_sha256="d" * 64, rows=100, commit="c" * 40, lock_sha256="e" * 64, trainer="tom",
        trained_at=NOW, seed=7, effort="smoke", base_model="bag", base_model_sha256="f" * 64,
    )  # fmt: skip
    ModelCardData(task=task, labels=labels, max_tokens=16, temperature=1.5, lineage=lineage).write(folder)
    return folder


@dataclass
class Shelf:
    """The registry as trainers and approvers see it."""

    settings: Settings
    scratch: Path
    folders: dict[tuple[str, int], Path] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        workspace = Workspace(self.settings)
        self.registry, self.ledger = workspace.registry, workspace.ledger

    def signer(self, name: str) -> Signer:
        return Signer(name, self.settings.keys_dir / f"{name}.key")

    def register(
        self, task: str = "sentiment", labels: tuple[str, ...] | None = None, shift: float | None = None
    ) -> int:
        self.made += 1
        folder = self.scratch / f"made-{self.made}"
        build_model_folder(folder, task, labels or get_task(task).labels, float(self.made) if shift is None else shift)
        return self.register_folder(task, folder)

    def register_folder(self, task: str, folder: Path) -> int:
        run = self.registry.client.create_run(self.registry.experiment_id())
        version = self.registry.create(task, folder, run.info.run_id, {}).version
        self.folders[task, version] = folder
        return version

    def approve(self, version: int, task: str = "sentiment", approver: str = "ann") -> int:
        folder = self.folders[task, version]
        common = {"task": task, "manifest_sha256": digest(manifest(folder))}
        claim = Claim(**common, data_sha256="d" * 64, trainer="tom").sign(self.signer("tom"))
        statement = Statement(
            **common, version=version, data_sha256="d" * 64, rows=100, commit="c" * 40, lock_sha256="e" * 64,
            trainer="tom", gate={}, approver=approver, approved_at=NOW, reason="test", claim=claim,
        )  # fmt: skip
        # the files' names are the registry's business; their folder is ours
        signed = self.scratch / f"signed-{task}-{version}"
        signing.sign(folder, statement, self.signer(approver), signed / SIGNATURE)
        serial, head = self.ledger.head()
        order = Order(
            **common, version=version, kind="approved", serial=serial, ledger_hash=head, approver=approver, at=NOW,
            reason="test",
        ).sign(self.signer(approver))  # fmt: skip
        (signed / ORDER).write_text(order.model_dump_json())
        self.registry.put_approval(task, version, folder / STATEMENT, signed / SIGNATURE, signed / ORDER)
        self.ledger.append("approved", task, at=NOW, actor=approver, reason="test", version=version)
        self.registry.set_champion(task, version)
        return version

    def publish(self, task: str = "sentiment") -> int:
        """One more version, approved."""
        return self.approve(self.register(task), task)

    def artifacts(self, task: str, version: int) -> Path:
        """Where MLflow keeps a version's files."""
        found = self.registry.get(task, version)
        (folder,) = self.settings.mlflow_home.glob(f"artifacts/**/{found.model_id}/artifacts")
        return folder


@dataclass
class Served:
    """A running worker, and how to talk to it."""

    client: httpx.Client
    worker: Worker

    def score(self, *items: Any, status: int = 200) -> Any:
        answer = self.client.post(
            "/v1/score", json={"messages": [i if isinstance(i, dict) else {"text": i} for i in items]}
        )
        assert answer.status_code == status, answer.text
        return answer.json()

    def ready(self) -> dict[str, Any]:
        return self.client.get("/readyz").json()

    def task(self, name: str = "sentiment") -> dict[str, Any]:
        return self.ready()["tasks"][name]

    def wait_version(self, version: int, task: str = "sentiment", seconds: float = 20) -> float:
        return wait_until(lambda: self.task(task)["version"] == version, f"{task} {version} serves", seconds)

    def wait_refused(self, version: int, task: str = "sentiment") -> dict[str, Any]:
        wait_until(lambda: (self.task(task)["refused"] or {}).get("version") == version, f"{task} {version} is refused")
        return self.task(task)["refused"]

    def wait_stored(self) -> None:
        wait_until(
            lambda: self.ready()["store_backlog"] == 0 and not self.ready()["store_problem"], "the store caught up"
        )

    def look(self) -> None:
        """Wait until the follower has looked once more, from beginning to end."""
        seen = self.worker.follower._looks
        wait_until(lambda: self.worker.follower._looks >= seen + 2, "two more looks at the aliases")


@contextmanager
def serving(settings: Settings) -> Iterator[Served]:
    """A worker on a port of its own, in this process, until the block ends."""
    app = create_app(settings)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        wait_until(lambda: server.started or not thread.is_alive(), "the worker listens")
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Served(client, app.state.worker)
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the worker did not stop"


@pytest.fixture(scope="session")
def blank_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in it: making one takes seconds, copying it none."""
    home = tmp_path_factory.mktemp("blank")
    settings = Settings(home=home)
    Registry(settings).champion_version("sentiment")
    return settings.mlflow_home / "mlflow.db"


def make_home(folder: Path, blank_mlflow: Path) -> Settings:
    made = Settings(home=folder, actor="ann", follow_seconds=0.1, engine_threads=1)
    made.mlflow_home.mkdir(parents=True)
    shutil.copy(blank_mlflow, made.mlflow_home / "mlflow.db")
    for name, role in (("ann", "approver"), ("tom", "trainer")):
        keys.trust(made, name, keys.make(made, name)[1], role)
    return made


@pytest.fixture
def settings(tmp_path: Path, blank_mlflow: Path) -> Settings:
    return make_home(tmp_path / "home", blank_mlflow)


@pytest.fixture
def shelf(settings: Settings, tmp_path: Path) -> Shelf:
    return Shelf(settings, tmp_path)


@pytest.fixture
def serve() -> Callable[[Settings], AbstractContextManager[Served]]:
    """Starts a worker for a `with` block."""
    return serving


def read_rows(settings: Settings) -> tuple[list[Any], list[Any]]:
    store = Store(settings.database_url)
    try:
        with store.reading() as connection:
            rows = connection.execute(select(messages).order_by(messages.c.id)).mappings().all()
            answers = connection.execute(select(predictions).order_by(predictions.c.message_id)).mappings().all()
    finally:
        store.engine.dispose()
    return list(rows), list(answers)


@pytest.fixture
def rows() -> Callable[[Settings], tuple[list[Any], list[Any]]]:
    """Reads messages and predictions from a store."""
    return read_rows


@pytest.fixture
def until() -> Callable[..., float]:
    return wait_until


@dataclass
class Desk:
    """A worker with a champion of every task that tests share: they may score, not publish."""

    served: Served
    settings: Settings
    shelf: Shelf


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, blank_mlflow: Path) -> Iterator[Desk]:
    scratch = tmp_path_factory.mktemp("desk")
    settings = make_home(scratch / "home", blank_mlflow)
    shelf = Shelf(settings, scratch)
    for task in TASKS:
        shelf.publish(task)
    with serving(settings) as served:
        for task in TASKS:
            served.wait_version(1, task)
        yield Desk(served, settings, shelf)
