from __future__ import annotations

import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training import export
from training.bert_graph import write_graph
from training.effort import Effort
from training.export import TOLERANCE, assemble, write_card
from training.finetune import finetune
from undertone import model_folder
from undertone.engine import Engine
from undertone.errors import TrainingError
from undertone.model_folder import Lineage, ModelCardData, manifest
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad"), max_tokens=16)
TEXTS = ["love the parcel", "awful @nobody https://example.com/1", "late " * 60, "", "great app 🎉", "x"]


@pytest.fixture(scope="module")
def checkpoint(tiny_base_model, tmp_path_factory) -> Path:
    rows = pd.DataFrame({"text": ["love great app", "awful late parcel"] * 16, "label": ["glad", "sad"] * 16})
    effort = Effort(name="toy", epochs=2, learning_rate=5e-3, batch_size=8)
    return finetune(
        rows,
        rows,
        SPEC,
        effort,
        base_model=tiny_base_model,
        seed=1,
        checkpoints=tmp_path_factory.mktemp("checkpoints"),
        progress=False,
        threads=1,
    )


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory) -> Path:
    into = assemble(checkpoint, SPEC, tmp_path_factory.mktemp("export") / "model")
    lineage = Lineage(
        source="toy",
        data_sha256="0" * 64,
        rows=32,
        commit="none",
        lock_sha256="none",
        trainer="ada",
        trained_at=datetime(2026, 1, 1, tzinfo=UTC),
        seed=1,
        effort="toy",
        base_model="tiny",
        base_model_sha256="0" * 64,
    )
    write_card(
        into,
        ModelCardData(task="mood", labels=SPEC.labels, max_tokens=SPEC.max_tokens, temperature=1.0, lineage=lineage),
    )
    return into


def test_the_folder_holds_weights_and_words_only(folder):
    model_folder.refuse_code(folder)
    files = set(model_folder.manifest(folder))
    assert {"MLmodel", "model/model.safetensors", model_folder.GRAPH, model_folder.TOKENIZER} <= files
    assert not [name for name in files if name.endswith((".data", ".py", ".bin", ".pkl"))]


def test_the_folder_can_be_installed_and_loaded_elsewhere(folder, checkpoint):
    for path in folder.rglob("*"):
        if path.is_file():
            assert str(checkpoint).encode() not in path.read_bytes(), path
    requirements = (folder / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in requirements} >= {"mlflow", "transformers", "torch"}
    assert not [line for line in requirements if "+" in line], "local builds are not to be had from PyPI"


def test_the_engine_gives_what_torch_gives(folder, checkpoint):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    scores = Engine(folder).score(TEXTS)
    for index, text in enumerate(TEXTS):  # one by one: no padding on torch's side
        encoded = tokenizer(text, truncation=True, max_length=SPEC.max_tokens, return_tensors="pt")
        with torch.inference_mode():
            output = model(**encoded, output_hidden_states=True)
        assert np.abs(scores.logits[index] - output.logits[0].numpy()).max() < TOLERANCE
        mean = output.hidden_states[-2][0].mean(0).numpy()
        assert np.abs(scores.embeddings[index] - mean).max() < TOLERANCE
    assert scores.truncated.tolist() == [False, False, True, False, False, False]


def test_a_bert_needs_no_exporter_and_gets_both_graphs(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "export_graph", lambda *_: pytest.fail("torch's exporter takes seconds"))
    files = manifest(assemble(checkpoint, SPEC, tmp_path / "model"))
    assert {model_folder.GRAPH, model_folder.GRAPH_INT8} <= set(files)
    again = manifest(assemble(checkpoint, SPEC, tmp_path / "again"))
    for name in (model_folder.GRAPH, model_folder.GRAPH_INT8):
        assert files[name] == again[name]


def test_a_graph_that_answers_otherwise_is_refused(checkpoint, tmp_path, monkeypatch):
    def write_other(weights, config, target, precision="fp32"):
        bias = "classifier.bias"
        write_graph({**weights, bias: weights[bias] + np.float32(0.01)}, config, target, precision)

    monkeypatch.setattr(export, "write_graph", write_other)
    with pytest.raises(TrainingError, match=r"difference of 0\.01"):
        assemble(checkpoint, SPEC, tmp_path / "model")


@pytest.mark.parametrize("how", ["pyfunc", "transformers"])
def test_it_is_a_standard_mlflow_model(folder, how, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    words = [SPEC.labels[index] for index in Engine(folder).score(TEXTS).logits.argmax(axis=1)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own deprecations while loading
        if how == "pyfunc":
            found = mlflow.pyfunc.load_model(str(folder)).predict(TEXTS)
            assert list(found.columns) == ["label", "score"]
            assert found["label"].tolist() == words
        else:
            classify = mlflow.transformers.load_model(str(folder))
            assert [answer["label"] for answer in classify(TEXTS, truncation=True)] == words


def test_text_far_beyond_the_encoder_s_positions_is_cut(folder):
    import mlflow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = mlflow.pyfunc.load_model(str(folder)).predict(["The parcel is late, again. " * 500])
    assert found["label"].tolist()[0] in SPEC.labels


def test_the_signature_takes_text_and_gives_label_and_score(folder):
    from mlflow.models import Model

    signature = Model.load(str(folder)).signature
    assert signature.inputs.to_dict() == [{"type": "string", "required": True}]
    assert [column["name"] for column in signature.outputs.to_dict()] == ["label", "score"]


def test_a_checkpoint_of_other_labels_is_refused(checkpoint, tmp_path):
    with pytest.raises(TrainingError, match="glad, sad"):
        assemble(checkpoint, SPEC.model_copy(update={"labels": ("glad", "sad")}), tmp_path / "model")


def test_a_folder_with_files_is_left_alone(checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(TrainingError, match="empty"):
        assemble(checkpoint, SPEC, tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"


def test_a_bert_that_is_not_written_by_hand_exports_too(checkpoint, tmp_path):
    """Its embedding means the same; that both are torch's is checked by `assemble` itself."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_act="gelu_new",
        id2label=dict(enumerate(SPEC.labels)),
        label2id=SPEC.label_index(),
    )
    transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    made = assemble(tmp_path / "other", SPEC, tmp_path / "model")
    assert (made / model_folder.GRAPH).stat().st_size > 0
    assert not (made / model_folder.GRAPH_INT8).exists()
    for path in made.rglob("*.onnx"):
        assert str(checkpoint.parent).encode() not in path.read_bytes()


def test_nothing_is_printed(checkpoint, tmp_path, capfd):
    assemble(checkpoint, SPEC, tmp_path / "model")
    assert capfd.readouterr() == ("", "")
