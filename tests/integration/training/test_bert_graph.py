"""The graphs written by hand, beside torch: small random BERTs of odd sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from training.bert_graph import Precision, can_write, write_graph

PLACES = 24
LENGTHS = (2, 1, PLACES, 7, 3, 11)


def model_of(layers: int, hidden: int = 36, heads: int = 3, *, noise: float = 0.3, **changes: Any) -> Any:
    torch.manual_seed(layers)
    config = BertConfig(
        vocab_size=97, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=50,
        max_position_embeddings=PLACES, num_labels=5, layer_norm_eps=1e-6, **changes,
    )  # fmt: skip
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too: at the start they hide mistakes
            parameter.add_(noise * torch.randn(parameter.shape))
    return model


def weights_of(model: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def texts_of(lengths: tuple[int, ...]) -> list[list[int]]:
    generator = np.random.default_rng(1)
    return [generator.integers(1, 97, length).tolist() for length in lengths]


class Graph:
    """The graph of a model, run on lists of token ids."""

    def __init__(self, model: Any, folder: Path, precision: Precision = "fp32") -> None:
        self.path = folder / f"{precision}.onnx"
        write_graph(weights_of(model), model.config, self.path, precision)
        self._session = onnxruntime.InferenceSession(str(self.path), providers=["CPUExecutionProvider"])

    def __call__(self, texts: list[list[int]], width: int | None = None) -> tuple[Any, Any]:
        ids, mask = padded(texts, width)
        return tuple(self._session.run(["logits", "sentence_embedding"], {"input_ids": ids, "attention_mask": mask}))


def padded(texts: list[list[int]], width: int | None = None) -> tuple[Any, Any]:
    shape = len(texts), width or max(map(len, texts))
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    return ids, mask


def by_torch(model: Any, texts: list[list[int]]) -> tuple[Any, Any]:
    """Logits, and the mean of the states before the last layer, text by text: nothing is padded."""
    with torch.inference_mode():
        outputs = [model(torch.tensor([text]), output_hidden_states=True) for text in texts]
    embeddings = [output.hidden_states[-2][0].mean(0) for output in outputs]
    return torch.cat([output.logits for output in outputs]).numpy(), torch.stack(embeddings).numpy()


@pytest.mark.parametrize(("layers", "hidden", "heads"), [(1, 36, 3), (2, 36, 3), (3, 40, 5), (2, 16, 1)])
@pytest.mark.parametrize("lengths", [LENGTHS, (1,), (PLACES,), (5, 5), (1, 1, 1)])
def test_the_exact_graph_gives_what_torch_gives(layers, hidden, heads, lengths, tmp_path):
    model, texts = model_of(layers, hidden, heads), texts_of(lengths)
    for found, wanted in zip(Graph(model, tmp_path)(texts), by_torch(model, texts), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("layers", [1, 3])
def test_companions_and_padding_do_not_change_an_answer(layers, precision, tmp_path):
    graph, texts = Graph(model_of(layers), tmp_path, precision), texts_of(LENGTHS)
    alone = [np.concatenate(answers) for answers in zip(*(graph([text]) for text in texts), strict=True)]
    for other in (graph(texts), [answers[::-1] for answers in graph(texts[::-1])], graph(texts, PLACES)):
        for one, together in zip(alone, other, strict=True):
            np.testing.assert_allclose(one, together, atol=1e-5)


def test_the_int8_graph_stays_near_the_exact_one(tmp_path):
    model, texts = model_of(3, noise=0.1), texts_of(LENGTHS * 20)
    for exact, found in zip(Graph(model, tmp_path)(texts), Graph(model, tmp_path, "int8")(texts), strict=True):
        assert np.abs(found - exact).mean() < 0.1 * np.abs(exact - exact.mean(axis=0)).mean()


def test_a_column_or_a_token_of_zeros_is_no_trouble(tmp_path):
    model = model_of(2)
    with torch.no_grad():
        model.bert.encoder.layer[0].attention.self.query.weight.zero_()
        model.bert.embeddings.LayerNorm.weight.zero_()
        model.bert.embeddings.LayerNorm.bias.zero_()
    for precision in ("fp32", "int8"):
        assert all(np.isfinite(answer).all() for answer in Graph(model, tmp_path, precision)(texts_of(LENGTHS)))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_text_without_tokens_gets_an_answer_and_disturbs_nobody(precision, tmp_path):
    graph, texts = Graph(model_of(2), tmp_path, precision), texts_of((4, 9))
    for empty in (graph([[]], width=1), graph([[], []], width=3)):
        assert all(np.isfinite(answer).all() for answer in empty)
    for with_empty, without in zip(graph([texts[0], [], texts[1], []]), graph(texts), strict=True):
        np.testing.assert_allclose(with_empty[[0, 2]], without, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_same_weights_give_the_same_bytes(precision, tmp_path):
    files = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        files.append(Graph(model_of(2), tmp_path / name, precision).path.read_bytes())
    assert files[0] == files[1]


def test_the_int8_graph_holds_no_float_matrix_but_the_head_s(tmp_path):
    graph = onnx.load(str(Graph(model_of(2), tmp_path, "int8").path)).graph
    matrices = {item.name: item.data_type for item in graph.initializer if len(item.dims) == 2}
    floats = {name for name, kind in matrices.items() if kind == onnx.TensorProto.FLOAT}
    assert floats == {"places", "bert.pooler.dense.weight", "classifier.weight"}
    assert matrices["words"] == onnx.TensorProto.FLOAT16
    assert "SkipLayerNormalization" not in {node.op_type for node in graph.node}


def test_other_models_are_left_to_the_exporter():
    model = model_of(1)
    assert can_write(weights_of(model), model.config)
    for other in (model_of(1, hidden_act="gelu_new"), model_of(1, is_decoder=True)):
        assert not can_write(weights_of(other), other.config)
    model.config.position_embedding_type = "relative_key"
    assert not can_write(weights_of(model), model.config)
    model = model_of(1)
    assert not can_write({**weights_of(model), "bert.adapter.weight": np.eye(2)}, model.config)
    small = DistilBertConfig(vocab_size=9, dim=8, n_layers=1, n_heads=1, hidden_dim=8)
    distil = DistilBertForSequenceClassification(small)
    assert not can_write(weights_of(distil), distil.config)
