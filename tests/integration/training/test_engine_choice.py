"""Which engine serves: the int8 one where it keeps the exact one's answers, on real steps over a small random BERT."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training import steps
from training.bert_graph import write_graph
from training.effort import Effort
from training.export import assemble
from training.finetune import finetune
from training.work import Request, Work
from undertone.engine import Engine
from undertone.model_folder import EXACT, GRAPH, GRAPH_INT8, INT8, ModelCardData, manifest
from undertone.tasks import SENTIMENT
from undertone.workspace import Workspace

NOW = datetime(2026, 10, 5, tzinfo=UTC)
MOODS = {"negative": "awful", "neutral": "fine", "positive": "love"}
WORDS = ("parcel", "late", "refund", "app", "team", "tomorrow")


def rows_of(count: int, seed: int) -> pd.DataFrame:
    """Messages of random words among which one names the label."""
    generator = random.Random(seed)
    labels = [SENTIMENT.labels[number % 3] for number in range(count)]
    texts = [
        " ".join([*generator.choices(WORDS, k=5), MOODS[label], *generator.choices(WORDS, k=3)]) for label in labels
    ]
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.fixture(scope="module")
def checkpoint(tiny_base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = rows_of(300, 1)
    return finetune(
        rows,
        rows,
        SENTIMENT,
        Effort(name="toy", epochs=4, learning_rate=5e-3, batch_size=16),
        base_model=tiny_base_model,
        seed=1,
        checkpoints=tmp_path_factory.mktemp("checkpoints"),
        progress=False,
        threads=1,
    )


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assemble(checkpoint, SENTIMENT, tmp_path_factory.mktemp("exported") / "model")


@pytest.fixture
def work(workspace: Workspace, exported: Path, tiny_base_model: Path, tmp_path: Path) -> Work:
    rows_of(600, 2).to_csv(tmp_path / "rows.csv", index=False)
    asked = Request("sentiment", str(tmp_path / "rows.csv"), "smoke", 1, NOW, "tom", base_model=str(tiny_base_model))
    made = steps.prepare(workspace, asked)
    shutil.copytree(exported, made.model)
    return made


def spoil(work: Work, checkpoint: Path) -> None:
    """The int8 graph of another model in the place of this one's."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    generator = np.random.default_rng(0)
    noisy = {
        name: (tensor.numpy() + generator.normal(0, 0.2, tensor.shape)).astype(np.float32)
        for name, tensor in model.state_dict().items()
    }
    write_graph(noisy, model.config, work.model / GRAPH_INT8, "int8")


def test_the_int8_engine_serves_where_it_keeps_the_answers(workspace: Workspace, work: Work) -> None:
    scores = steps.score(workspace, work)
    card = ModelCardData.read(work.model)
    assert card.engine == INT8
    assert card.agreement is not None
    assert card.agreement >= 0.97
    texts = steps._capped(work, "holdout")["text"].tolist()
    arrays = np.load(scores)
    for name, array in ((INT8, "holdout_logits"), (EXACT, "holdout_exact_logits")):
        np.testing.assert_allclose(
            Engine(work.model, engine=name).score(texts).logits, arrays[array], atol=1e-4, err_msg=name
        )
    assert np.abs(arrays["holdout_logits"] - arrays["holdout_exact_logits"]).max() > 1e-4
    assert len(set(arrays["holdout_logits"].argmax(axis=1))) > 1, "or agreement would say nothing"
    steps.calibrate(work, scores)
    calibrated = ModelCardData.read(work.model)
    assert calibrated == card.model_copy(update={"temperature": calibrated.temperature})
    fidelity = steps._served_fidelity(work, scores)
    assert fidelity.engine == INT8
    assert 0.9 < fidelity.agreement <= 1


@pytest.mark.parametrize("damage", ["other answers", "no graph"])
def test_a_graph_that_loses_answers_leaves_the_folder(
    damage: str, workspace: Workspace, work: Work, checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if damage == "no graph":
        (work.model / GRAPH_INT8).write_bytes(b"not a graph")
    else:
        spoil(work, checkpoint)
    scores = steps.score(workspace, work)
    assert GRAPH in manifest(work.model)
    assert GRAPH_INT8 not in manifest(work.model)
    card = ModelCardData.read(work.model)
    assert (card.engine, card.agreement) == (EXACT, None)
    assert "served by the exact engine" in caplog.text
    arrays = np.load(scores)
    np.testing.assert_array_equal(arrays["holdout_logits"], arrays["holdout_exact_logits"])
    assert str(steps._served_fidelity(work, scores)) == "exact"


def test_where_export_made_one_graph_that_one_serves(workspace: Workspace, work: Work) -> None:
    (work.model / GRAPH_INT8).unlink()
    steps.score(workspace, work)
    assert ModelCardData.read(work.model).engine == EXACT
