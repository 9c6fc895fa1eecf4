"""One trunk under several tasks' heads: real training, graphs, engines and scoring over a small random BERT."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest

from serving.metrics import Metrics
from serving.model_slot import ModelSlot
from serving.scoring import Scorer
from serving.shadow import Shadow
from training.effort import Effort
from training.export import assemble
from training.finetune import finetune
from training.trunk import OWN, checkpoint, freeze
from undertone import engine as engines
from undertone import governance, signing
from undertone.engine import Engine
from undertone.errors import ConfigError, VerificationError
from undertone.governance import Act
from undertone.keys import Trust
from undertone.model_folder import EXACT, GRAPH, INT8, SPLIT_GRAPHS, TOKENIZER, Lineage, ModelCardData
from undertone.records import Message
from undertone.registry import ModelVersion
from undertone.tasks import TASKS, TaskSpec
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, tzinfo=UTC)
EFFORT = Effort(name="toy", epochs=1, learning_rate=5e-3, batch_size=8)
TEXTS = ["love the parcel", "awful late refund", "late " * 40, "", "great app, thanks! 🎉", "x"]


def train(spec: TaskSpec, base: Path, into: Path, effort: Effort, *, split: bool) -> Path:
    labels = [spec.labels[number % len(spec.labels)] for number in range(24)]
    rows = pd.DataFrame({"text": [f"{label} parcel app" for label in labels], "label": labels})
    found = finetune(
        rows, rows, spec, effort, base_model=base, seed=1, checkpoints=into / "checkpoints", progress=False, threads=1
    )
    folder = assemble(found, spec, into / "model", split=split)
    lineage = Lineage(
        source="toy", data_sha256="0" * 64, rows=24, commit="none", lock_sha256="0" * 64, trainer="tom", trained_at=NOW,
        seed=1, effort="toy", base_model=str(base), base_model_sha256="0" * 64, trunk=OWN,
    )  # fmt: skip
    ModelCardData(
        task=spec.name, labels=spec.labels, max_tokens=spec.max_tokens, temperature=1.0, lineage=lineage
    ).write(folder)
    return folder


@pytest.fixture(scope="module")
def models(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three tasks on one trunk; ``whole``: sentiment in one graph; ``other``: sarcasm on layers of its own."""
    root = tmp_path_factory.mktemp("trunks")
    made = {"sentiment": train(TASKS["sentiment"], tiny_base_model, root / "sentiment", EFFORT, split=True)}
    base = Path(checkpoint(str(made["sentiment"]), cast(Any, None), root / "copies"))
    for task in ("sarcasm", "emotion"):
        made[task] = train(TASKS[task], base, root / task, freeze(EFFORT, base), split=True)
    made["whole"] = root / "whole"
    assemble(root / "sentiment" / "checkpoints" / "model", TASKS["sentiment"], made["whole"])
    ModelCardData.read(made["sentiment"]).write(made["whole"])
    made["other"] = train(TASKS["sarcasm"], base, root / "other", EFFORT, split=True)
    return made


@pytest.mark.parametrize("precision", [EXACT, INT8])
def test_trunk_and_head_answer_as_the_whole_graph_does(models, precision):
    split, whole = (Engine(models[name], 2, engine=precision) for name in ("sentiment", "whole"))
    assert whole.trunk_key is None
    ours, theirs = split.score(TEXTS), whole.score(TEXTS)
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    with pytest.raises(ValueError, match="without a trunk"):
        whole.encode([[1, 2]])


@pytest.mark.parametrize("precision", [EXACT, INT8])
def test_tasks_on_one_trunk_have_its_bytes_and_share_it_in_memory(models, precision):
    trunk, head = SPLIT_GRAPHS[precision]
    assert len({(models[task] / trunk).read_bytes() for task in TASKS}) == 1
    assert len({(models[task] / head).read_bytes() for task in TASKS}) == len(TASKS)
    assert len({(models[task] / TOKENIZER).read_bytes() for task in TASKS}) == 1
    loaded = [Engine(models[task], 1, engine=precision) for task in TASKS]
    assert len({engine.trunk_key for engine in loaded}) == 1
    assert len({id(engine._trunk) for engine in loaded}) == 1
    other = Engine(models["other"], 1, engine=precision)
    assert other.trunk_key != loaded[0].trunk_key
    assert other._trunk is not loaded[0]._trunk


def test_a_trunk_that_no_engine_holds_leaves_memory(models):
    key = Engine(models["other"], 1).trunk_key
    assert not [held for held, _ in engines._trunks if held == key]


def scorer(models: dict[str, Path], names: dict[str, str]) -> tuple[Scorer, dict[str, Engine]]:
    loaded = {task: Engine(models[name], 1) for task, name in names.items()}
    slots = {task: SimpleNamespace(served=SimpleNamespace(engine=made), trial=None) for task, made in loaded.items()}
    made = Scorer(cast(dict[str, ModelSlot], slots), cast(Shadow, None), Metrics(), 1.0)
    return made, loaded


@pytest.mark.parametrize(
    ("sarcasm", "runs"), [("sarcasm", 1), ("other", 2)], ids=["all on one trunk", "one on a trunk of its own"]
)
def test_a_worker_runs_a_trunk_once_for_all_tasks_on_it(models, sarcasm, runs, monkeypatch):
    made, loaded = scorer(models, {"sentiment": "sentiment", "sarcasm": sarcasm, "emotion": "emotion"})
    expected = {task: engine.score(TEXTS) for task, engine in loaded.items()}
    trunks, ran, run = {id(engine._trunk) for engine in loaded.values()}, [], engines._Graph.run

    def counted(graph: Any, *arguments: Any, **options: Any) -> Any:
        ran.append(id(graph))
        return run(graph, *arguments, **options)

    monkeypatch.setattr(engines._Graph, "run", counted)
    messages = [Message(str(number), text, "chat", "home", NOW, NOW) for number, text in enumerate(TEXTS)]
    rows = made.score(messages, False)
    assert len([graph for graph in ran if graph in trunks]) == runs
    assert len(ran) == runs + len(loaded)
    for task, scores in expected.items():
        np.testing.assert_allclose(
            [row[task].probabilities for row in rows], scores.probabilities, atol=1e-5, err_msg=task
        )
        np.testing.assert_array_equal([row[task].truncated for row in rows], scores.truncated)


@pytest.mark.parametrize("victim", SPLIT_GRAPHS[EXACT])
def test_a_changed_trunk_or_head_voids_the_signature(
    models, victim, workspace: Workspace, register: Callable[..., ModelVersion], enrol: Any, tmp_path: Path
):
    def split(folder: Path) -> None:
        (folder / GRAPH).unlink()
        for name in (*SPLIT_GRAPHS[EXACT], TOKENIZER):
            shutil.copyfile(models["sentiment"] / name, folder / name)

    enrol("ann")
    made = register(edit=split)
    governance.approve(workspace, "sentiment", made.version, Act("ann", "reads well", NOW))
    folder = workspace.registry.download("sentiment", made.version, tmp_path / "model")
    workspace.registry.fetch_approval("sentiment", made.version, tmp_path)
    trust = Trust.of(workspace.settings)
    signing.verify(folder, tmp_path / signing.SIGNATURE, trust, "sentiment", made.version)
    (folder / victim).write_bytes((folder / victim).read_bytes() + b"\0")
    with pytest.raises(VerificationError):
        signing.verify(folder, tmp_path / signing.SIGNATURE, trust, "sentiment", made.version)


def test_a_registered_version_is_a_trunk_by_its_name(models, workspace: Workspace, register: Any, tmp_path: Path):
    def trained(folder: Path) -> None:
        shutil.rmtree(folder)
        shutil.copytree(models["sentiment"], folder)

    made = register(edit=trained)
    copies = tmp_path / "copies"
    name = f"models:/sentiment/{made.version}"
    by_name = checkpoint(name, workspace.registry, copies)
    assert by_name == checkpoint(str(models["sentiment"]), workspace.registry, copies)
    assert [path.name for path in copies.iterdir()] == [Path(by_name).name]
    with pytest.raises(ConfigError, match="models:/sentiment/3"):
        checkpoint("models:/sentiment", workspace.registry, copies)
