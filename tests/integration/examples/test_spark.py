"""A table scored by the example, on a real local Spark, against the engine that serves.

Runs where `pyspark` imports and Java is installed (docs/how-to/score-a-table.md); elsewhere it is skipped.
"""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.effort import Effort
from training.export import assemble, write_card
from training.finetune import finetune
from undertone import governance
from undertone.engine import Engine
from undertone.governance import Act
from undertone.model_folder import ModelCardData
from undertone.tasks import get_task

pytest.importorskip("pyspark", reason="pyspark is not installed: docs/how-to/score-a-table.md")
if shutil.which("java") is None:
    pytest.skip("no Java on this machine: `apt-get install default-jre-headless`", allow_module_level=True)

EXAMPLE = Path(__file__).parents[3] / "examples" / "score_a_table_with_spark.py"
PLAIN = ["love the great app", "awful late parcel, worst support", "okay, it arrived tuesday", "love " * 300]
#: What MLflow's wrapper takes for Python: alone in a batch each of these would fail or be scored as something else.
LITERALS = ["123", "None", "[1, 2]", '"love"', "{[]: 1}", "{'a': 1}", "('love', 'awful')", "love " * 5000]
ODD = ["two\nlines, love", "tab\there", "bell\x07awful", "café 🎉", "@someone see https://example.com/1", "it's late"]


@pytest.fixture
def approved(workspace, register, enrol, tiny_base_model, tmp_path):
    """A toy BERT as version 1 of sentiment, approved by ann."""
    spec = get_task("sentiment")
    words = {"negative": "awful late parcel", "neutral": "okay it arrived tuesday", "positive": "love great app"}
    rows = pd.DataFrame({"text": [words[label] for label in spec.labels] * 24, "label": list(spec.labels) * 24})
    toy = Effort(name="toy", epochs=8, learning_rate=5e-3, batch_size=8)
    checkpoint = finetune(
        rows, rows, spec, toy, base_model=tiny_base_model, seed=1, checkpoints=tmp_path / "checkpoints",
        progress=False, threads=1,
    )  # fmt: skip

    def make_it_a_bert(folder: Path) -> None:
        card = ModelCardData.read(folder)
        shutil.rmtree(folder)
        assemble(checkpoint, spec, folder)
        write_card(folder, card.model_copy(update={"max_tokens": spec.max_tokens}))

    enrol("ann")
    register("sentiment", edit=make_it_a_bert)
    governance.approve(workspace, "sentiment", 1, Act("ann", "reads toys well", pd.Timestamp.now("UTC")))
    return workspace


def run(workspace, table: Path, scores: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | workspace.settings.environment() | {"SPARK_LOCAL_IP": "127.0.0.1"}
    command = [sys.executable, str(EXAMPLE), str(table), str(scores), "--master", "local[2]"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, cwd=table.parent)


def test_spark_gives_the_engines_labels(approved, tmp_path):
    texts = [*PLAIN, *ODD, *LITERALS]
    with (tmp_path / "messages.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("id", "text"), *enumerate([*texts, "", "  \t "])])
    # one message a file: Spark reads each as a batch of its own, so that no plain text stands beside a literal
    alone = tmp_path / "alone"
    alone.mkdir()
    for number, text in enumerate(LITERALS):
        pd.DataFrame({"id": [number], "text": [text]}).to_parquet(alone / f"{number}.parquet")

    done = run(approved, tmp_path / "messages.csv", tmp_path / "scores")
    assert done.returncode == 0, done.stderr[-3000:]
    found = pd.read_parquet(tmp_path / "scores").set_index("id").rename(index=int).sort_index()
    governance.fetch(approved, "sentiment", 1, tmp_path / "copy")
    engine = Engine(tmp_path / "copy" / "model")
    scores = engine.score(texts)
    labels = [engine.labels[index] for index in scores.logits.argmax(axis=1)]
    assert found["label"].tolist() == labels
    assert len(set(labels)) > 1
    best = np.exp(scores.logits).max(axis=1) / np.exp(scores.logits).sum(axis=1)
    assert np.abs(found["score"].to_numpy() - best).max() < 1e-3
    assert set(found["model_version"]) == {1}

    done = run(approved, alone, tmp_path / "scores-alone")
    assert done.returncode == 0, done.stderr[-3000:]
    found = pd.read_parquet(tmp_path / "scores-alone").sort_values("id")
    assert found["label"].tolist() == labels[-len(LITERALS) :]


def test_a_version_that_nobody_signed_for_is_not_scored_with(workspace, register, enrol, tmp_path):
    enrol("ann")
    register("sentiment")
    workspace.registry.set_champion("sentiment", 1)
    (tmp_path / "messages.csv").write_text("text\nlove it\n")
    done = run(workspace, tmp_path / "messages.csv", tmp_path / "scores")
    assert done.returncode == 1
    assert "approval of 'sentiment' 1" in done.stderr
    assert not (tmp_path / "scores").exists()
