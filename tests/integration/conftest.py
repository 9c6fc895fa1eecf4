"""A workspace on SQLite in a temporary folder, and model folders small enough to make by hand."""

import functools
import hashlib
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.receiver import Receiver
from undertone import governance, keys, model_folder
from undertone.model_folder import Lineage, ModelCardData, digest, manifest
from undertone.registry import ModelVersion
from undertone.settings import Settings
from undertone.tasks import get_task
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, tzinfo=UTC)
WORDS = {"[UNK]": 0, "good": 1, "bad": 2, "parcel": 3, "great": 4}


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with migrated, empty databases: MLflow's migrations take most of a second, a copy takes none."""
    home = tmp_path_factory.mktemp("empty-home")
    made = Workspace(Settings(home=home, artifact_uri=(home / "mlruns" / "artifacts").as_uri()))
    made.store.ping()
    made.registry.client.search_experiments()
    made.store.engine.dispose()
    return home


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """Where alerts are posted to, and tried again at once."""
    from flows import channels

    monkeypatch.setattr(channels, "PAUSES", (0.0, 0.0))
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def enrol(workspace: Workspace, name: str, role: keys.Role = "approver", passphrase: str | None = None) -> keys.Key:
    """A key of `name` that counts here, its private half on this machine."""
    _, public = keys.make(workspace.settings, name, passphrase)
    return keys.trust(workspace.settings, name, public, role)


@pytest.fixture(name="enrol")
def enrolling(workspace: Workspace) -> Callable[..., keys.Key]:
    """Give somebody a key that counts."""
    return functools.partial(enrol, workspace)


@pytest.fixture
def workspace(tmp_path: Path, empty_home: Path) -> Workspace:
    shutil.copytree(empty_home, tmp_path / "home")
    return Workspace(Settings(home=tmp_path / "home", actor="ann", follow_seconds=0.2, engine_threads=1))


def build_model_folder(folder: Path, task: str, trainer: str, shift: float) -> Path:
    """A word-bag classifier as an ONNX graph: "good" pulls to the last label, "bad" to the first."""
    labels = get_task(task).labels
    table = np.zeros((len(WORDS), 4), dtype=np.float32)
    table[1], table[2], table[3], table[4] = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 0, 0, 1)
    head = np.zeros((4, len(labels)), dtype=np.float32)
    head[0, -1], head[1, 0], head[2, :] = 4.0 + shift, 4.0, 0.1
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["words"]),
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["mask3"]),
            helper.make_node("Mul", ["words", "mask3"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "middle"], ["sentence_embedding"], keepdims=0),
            helper.make_node("MatMul", ["sentence_embedding", "head"], ["logits"]),
        ],
        "bag",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "t"]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(labels)]),
            helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["n", 4]),
        ],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(head, "head"),
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ],
    )
    extras = folder / model_folder.EXTRAS
    extras.mkdir(parents=True)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(made, folder / model_folder.GRAPH)
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / model_folder.TOKENIZER))
    lineage = Lineage(
        source="test", data_sha256="d" * 64, rows=100, commit="c" * 40, lock_sha256="e" * 64, trainer=trainer,
        trained_at=NOW, seed=7, effort="smoke", base_model="bag", base_model_sha256="f" * 64,
    )  # fmt: skip
    ModelCardData(task=task, labels=labels, max_tokens=16, temperature=1.0, lineage=lineage).write(folder)
    return folder


def registering(workspace: Workspace, scratch: Path) -> Callable[..., ModelVersion]:
    """Registers one more version of a task, with the ledger rows that training would leave.

    Where duties are separated the trainer's key signs, as in training.
    """
    count = iter(range(1_000))

    def make(
        task: str = "sentiment",
        *,
        passed: bool = True,
        gated: bool = True,
        trainer: str = "tom",
        edit: Callable[[Path], None] | None = None,
        evidence: dict[str, bytes] | None = None,
        claimed_by: Workspace | None = None,
        against: int | None = None,
    ) -> ModelVersion:
        number = next(count)
        folder = build_model_folder(scratch / f"made-{number}", task, trainer=trainer, shift=float(number))
        if edit is not None:
            edit(folder)
        registry = workspace.registry
        run = registry.client.create_run(registry.experiment_id())
        sha = digest(manifest(folder))
        made = registry.create(task, folder, run.info.run_id, {"undertone.manifest_sha256": sha})
        claim = governance.claim(claimed_by or workspace, task, sha, "d" * 64, trainer)
        if claim is not None:
            workspace.ledger.append(
                "registered", task, at=NOW, actor=trainer, reason="test", version=made.version,
                payload={"claim": claim.model_dump()},
            )  # fmt: skip
        digests = {}
        for name, data in (evidence or {}).items():
            (scratch / name).write_bytes(data)
            registry.put_file(run.info.run_id, scratch / name, "evaluation")
            digests[name] = hashlib.sha256(data).hexdigest()
        if gated:
            workspace.ledger.append(
                "gate", task, at=NOW, actor="gate", reason="as told", version=made.version,
                payload={"passed": passed, "manifest_sha256": sha, "evidence": digests}
                | ({} if against is None else {"champion": against}),
            )  # fmt: skip
        return made

    return make


@pytest.fixture(name="registering", scope="session")
def registering_anywhere() -> Callable[[Workspace, Path], Callable[..., ModelVersion]]:
    """What `register` is, for a workspace that lives longer than a test."""
    return registering


@pytest.fixture
def register(workspace: Workspace, tmp_path: Path) -> Callable[..., ModelVersion]:
    """Register one more version of a task."""
    return registering(workspace, tmp_path)
