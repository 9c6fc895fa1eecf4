"""A BERT classifier as an ONNX graph, written node by node: no exporter finds these by itself.

- Padding leaves the graph at its door: tokens of all texts stand in one list, [tokens, hidden]. Attention alone needs
  them text by text, so rows are padded around it and nowhere else.
- The last layer serves the head, and the head reads the first token: that layer is computed for first tokens alone.
- All layers before the last may stand in a graph of their own, a *trunk*, that heads of several tasks read.
- Weights of the int8 graph are int8 with a scale for each column. What meets them is quantised token by token, to 7
  bits around 64: a text's answer does not depend on the texts it shares a batch with, and 2 x 127 x 127 stays below
  32,768, so the 16-bit sums of processors without VNNI do not saturate.

Why by hand, and measured against what: docs/decisions/0016.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Precision = Literal["fp32", "int8"]
Shape = tuple[str, str | int]

#: ONNX Runtime's own operators: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
_CONTRIB = "com.microsoft"
_OPSET, _CONTRIB_OPSET, _IR = 17, 1, 9

#: Greatest weight, and the middle and the reach of a quantised token.
_WEIGHT_LIMIT, _MIDDLE, _REACH = 127, 64, 63
#: Least scale: a column or a token of zeros is divided by something.
_TINY = 1e-9

#: What a graph over texts takes.
TEXTS: dict[str, tuple[int, Shape]] = dict.fromkeys(
    ("input_ids", "attention_mask"), (TensorProto.INT64, ("batch", "tokens"))
)

_EMBEDDINGS = ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight")
_LAYER = (
    *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    *("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
)


def can_write(weights: Mapping[str, Any], config: Any) -> bool:
    """Whether `write_graph` knows this model: BERT's encoder as it came out in 2018, a pooler and a classifier."""
    plain = (
        config.model_type == "bert"
        and config.hidden_act == "gelu"
        and getattr(config, "position_embedding_type", "absolute") == "absolute"
        and not getattr(config, "is_decoder", False)
        and not getattr(config, "add_cross_attention", False)
    )
    return plain and set(weights) == set(_names(config.num_hidden_layers))


def write_graph(
    weights: Mapping[str, NDArray[np.float32]], config: Any, target: Path, precision: Precision = "fp32"
) -> None:
    """Write the graph of a `BertForSequenceClassification` to `target`. The same weights give the same bytes.

    Inputs are ``input_ids`` and ``attention_mask``, int64 [batch, tokens], padded on the right. Outputs are float32:
    ``logits`` [batch, labels] and ``sentence_embedding`` [batch, hidden], the mean over a text's tokens of the states
    before the last layer, which is the head's own. A text without any token counts as one of one token.

    Args:
        weights: the model's state by name, with which `can_write` agrees.
        config: its `transformers.BertConfig`, or what `training.families.as_bert` makes of another family's.
        target: the file to write.
        precision: ``int8`` also keeps the words' embeddings as float16, which halves the file.
    """
    bert = _Bert(weights, config, precision)
    bert.head(bert.trunk())
    bert.graph.write(target, TEXTS, {"logits": _labels(weights), "sentence_embedding": ("batch", config.hidden_size)})


def write_split(
    weights: Mapping[str, NDArray[np.float32]], config: Any, trunk: Path, head: Path, precision: Precision = "fp32"
) -> None:
    """Write what `write_graph` writes as two graphs, of which one feeds the other.

    The bytes of `trunk` depend on the weights before the last layer alone: models that share these share the file. It
    gives ``token_states`` [rows, hidden] of all tokens that count, and ``sentence_embedding``. `head` takes
    ``token_states`` and ``attention_mask``, and gives ``logits``.
    """
    below, above = _Bert(weights, config, precision), _Bert(weights, config, precision)
    states, wide = below.trunk(), config.hidden_size
    below.graph.add("Identity", [states], "token_states")
    below.graph.write(trunk, TEXTS, {"token_states": ("rows", wide), "sentence_embedding": ("batch", wide)})
    above.head("token_states")
    taken = {"token_states": (TensorProto.FLOAT, ("rows", wide)), "attention_mask": TEXTS["attention_mask"]}
    above.graph.write(head, taken, {"logits": _labels(weights)})


def _labels(weights: Mapping[str, NDArray[np.float32]]) -> Shape:
    return ("batch", len(weights["classifier.bias"]))


def _names(layers: int) -> list[str]:
    parts = [f"encoder.layer.{number}.{name}" for number in range(layers) for name in _LAYER]
    both = ["bert.embeddings.LayerNorm", "bert.pooler.dense", "classifier", *(f"bert.{name}" for name in parts)]
    return [f"bert.embeddings.{name}" for name in _EMBEDDINGS] + [
        f"{name}.{kind}" for name in both for kind in ("weight", "bias")
    ]


class _Graph:
    """Nodes and constants as they come. Each method gives the name of the value; what is there is not added again."""

    def __init__(self) -> None:
        self._nodes: dict[str, onnx.NodeProto] = {}
        self._constants: dict[str, NDArray[Any]] = {}

    def add(self, kind: str, inputs: list[str], output: str, *, domain: str = "", **attributes: Any) -> str:
        """A node with one output."""
        if output not in self._nodes:
            self._nodes[output] = helper.make_node(kind, inputs, [output], output, domain=domain, **attributes)
        return output

    def constant(self, name: str, values: Any, kind: Any) -> str:
        """A constant of the NumPy type `kind`."""
        if name not in self._constants:
            self._constants[name] = np.array(values, kind, order="C")
        return name

    def write(self, target: Path, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, Shape]) -> None:
        """Write all of it, with `inputs` by type and shape, and float32 `outputs`."""
        taken = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        constants = [numpy_helper.from_array(values, name) for name, values in self._constants.items()]
        model = helper.make_model(
            helper.make_graph(list(self._nodes.values()), "bert", taken, given, constants),
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(_CONTRIB, _CONTRIB_OPSET)],
            ir_version=_IR,
            producer_name="undertone",
        )
        onnx.save(model, str(target))


class _Bert:
    """The parts of the model, each added to `graph`.

    States are [rows, hidden]: a row is a token, of all texts one after another; in the last layer also a text.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], config: Any, precision: Precision) -> None:
        self.graph = _Graph()
        self._weights, self._config, self._int8 = weights, config, precision == "int8"

    def trunk(self) -> str:
        """States before the last layer; adds ``sentence_embedding``."""
        self._unpad()
        states = self.embed()
        for number in range(self._config.num_hidden_layers - 1):
            states = self.layer(number, states)
        self.mean(states)
        return states

    def head(self, states: str) -> str:
        """``logits`` from the states before the last layer."""
        self._unpad()
        states = self.layer(self._config.num_hidden_layers - 1, states, first_only=True)
        pooled = self.graph.add("Gemm", [states, *self._parameters("bert.pooler.dense")], "pooled", transB=1)
        pooled = self.graph.add(getattr(self._config, "pooler", "Tanh"), [pooled], "pooled.tanh")
        return self.graph.add("Gemm", [pooled, *self._parameters("classifier")], "logits", transB=1)

    def embed(self) -> str:
        """States of all tokens before the first layer."""
        graph, prefix = self.graph, "bert.embeddings"
        graph.add("Reshape", ["input_ids", "flat"], "flat_ids")
        graph.add("Compress", ["flat_ids", "counts"], "ids", axis=0)
        graph.add("Unsqueeze", ["places_of_text", "at0"], "places_row")
        graph.add("Expand", ["places_row", "shape"], "places_of_all")
        graph.add("Reshape", ["places_of_all", "flat"], "flat_places")
        graph.add("Compress", ["flat_places", "counts"], "positions", axis=0)
        table = self._weights[f"{prefix}.word_embeddings.weight"]
        types = self._weights[f"{prefix}.token_type_embeddings.weight"]
        table_of_places = self._weights[f"{prefix}.position_embeddings.weight"] + types[0]
        words = graph.constant("words", table, np.float16 if self._int8 else np.float32)
        words = graph.add("Gather", [words, "ids"], "token_words", axis=0)
        if self._int8:
            words = graph.add("Cast", [words], "token_words_fp32", to=TensorProto.FLOAT)
        places = graph.add(
            "Gather", [graph.constant("places", table_of_places, np.float32), "positions"], "token_places", axis=0
        )
        return self._add_and_norm(words, places, f"{prefix}.LayerNorm", "embedded")

    def layer(self, number: int, states: str, *, first_only: bool = False) -> str:
        """States after a layer; `first_only`: of each text's first token alone."""
        graph, name, to = self.graph, f"bert.encoder.layer.{number}.", f"layer{number}."
        key = self._pad(self._linear(states, f"{name}attention.self.key", f"{to}key"))
        value = self._pad(self._linear(states, f"{name}attention.self.value", f"{to}value"))
        rows = "first_rows" if first_only else "cells"
        if first_only:
            states = graph.add("Gather", [states, rows], f"{to}first", axis=0)
        query = self._linear(states, f"{name}attention.self.query", f"{to}query", rows)
        query = graph.add("Unsqueeze", [query, "at1"], f"{query}.padded") if first_only else self._pad(query)
        attended = self._attend(query, key, value, f"{to}attended")
        if not first_only:
            attended = graph.add("Gather", [attended, "cells"], f"{to}attended.rows", axis=0)
        found = self._linear(attended, f"{name}attention.output.dense", f"{to}found", rows)
        found = self._add_and_norm(found, states, f"{name}attention.output.LayerNorm", f"{to}noted")
        wide = self._linear(found, f"{name}intermediate.dense", f"{to}wide", rows, gelu=True)
        narrow = self._linear(wide, f"{name}output.dense", f"{to}narrow", rows)
        return self._add_and_norm(narrow, found, f"{name}output.LayerNorm", f"{to}states")

    def mean(self, states: str) -> str:
        """``sentence_embedding``: the mean of each text's tokens."""
        graph = self.graph
        graph.add("Cast", ["mask"], "mask_float", to=TensorProto.FLOAT)
        graph.add("Unsqueeze", ["mask_float", graph.constant("at2", [2], np.int64)], "mask_states")
        graph.add("Mul", [self._pad(states), "mask_states"], "counted_states")
        graph.add("ReduceSum", ["counted_states", "at1"], "sum", keepdims=0)
        graph.add("ReduceSum", ["mask_float", "at1"], "count", keepdims=1)
        return graph.add("Div", ["sum", "count"], "sentence_embedding")

    def _unpad(self) -> None:
        """Which tokens count, and the ways between their rows and [batch, tokens]; known from the mask alone.

        ``padded_rows`` [batch, tokens]: the row of each cell; a padded cell has the last row before it, which the mask
        hides. ``cells``: the cell of each row. ``first_rows`` [batch]: the row of each text's first token.
        """
        graph, hidden = self.graph, self._config.hidden_size
        for name, number in {"zero": 0, "one": 1, "flat": [-1], "at0": [0], "at1": [1], "states": [-1, hidden]}.items():
            graph.constant(name, number, np.int64)
        graph.add("Shape", ["attention_mask"], "shape")
        graph.add("Gather", ["shape", "one"], "width", axis=0)
        graph.add("Range", ["zero", "width", "one"], "places_of_text")
        graph.add("Equal", ["places_of_text", "zero"], "is_first")  # the first token counts always
        graph.add("Cast", ["is_first"], "is_first_int", to=TensorProto.INT64)
        graph.add("Max", ["attention_mask", "is_first_int"], "mask")
        graph.add("Cast", ["mask"], "mask_int", to=TensorProto.INT32)
        graph.add("Reshape", ["mask", "flat"], "flat_mask")
        graph.add("Cast", ["flat_mask"], "counts", to=TensorProto.BOOL)
        graph.add("CumSum", ["flat_mask", "zero"], "counted_so_far")
        graph.add("Sub", ["counted_so_far", "one"], "flat_padded_rows")
        graph.add("Reshape", ["flat_padded_rows", "shape"], "padded_rows")
        graph.add("Gather", ["padded_rows", "zero"], "first_rows", axis=1)
        graph.add("NonZero", ["counts"], "counts_at")
        graph.add("Reshape", ["counts_at", "flat"], "cells")

    def _pad(self, states: str) -> str:
        return self.graph.add("Gather", [states, "padded_rows"], f"{states}.padded", axis=0)

    def _attend(self, query: str, key: str, value: str, output: str) -> str:
        """Attention over [batch, tokens, hidden], its answer flat again."""
        inputs, heads = [query, key, value, "", "mask_int"], self._config.num_attention_heads
        self.graph.add("MultiHeadAttention", inputs, f"{output}.padded", domain=_CONTRIB, num_heads=heads)
        return self.graph.add("Reshape", [f"{output}.padded", "states"], output)

    def _add_and_norm(self, one: str, other: str, name: str, output: str) -> str:
        """Two nodes: ONNX Runtime's one for both, SkipLayerNormalization, is slower on processors than they are."""
        inputs = [self.graph.add("Add", [one, other], f"{output}.sum"), *self._parameters(name)]
        return self.graph.add("LayerNormalization", inputs, output, axis=-1, epsilon=self._config.layer_norm_eps)

    def _linear(self, states: str, name: str, output: str, rows: str = "cells", *, gelu: bool = False) -> str:
        """`states` times the weight plus the bias, through GELU where asked; `rows`: a value with as many rows."""
        product = self._product_int8(states, name, rows) if self._int8 else self._product(states, name)
        if gelu:
            return self.graph.add("BiasGelu", [product, self._bias(name)], output, domain=_CONTRIB)
        return self.graph.add("Add", [product, self._bias(name)], output)

    def _product(self, states: str, name: str) -> str:
        weight = self.graph.constant(f"{name}.weight", self._weights[f"{name}.weight"].T, np.float32)
        return self.graph.add("MatMul", [states, weight], f"{name}.product")

    def _product_int8(self, states: str, name: str, rows: str) -> str:
        graph, values = self.graph, self._weights[f"{name}.weight"].T
        scale = np.maximum(np.abs(values).max(axis=0), _TINY) / _WEIGHT_LIMIT
        weight = graph.constant(f"{name}.weight", np.rint(values / scale), np.int8)
        columns = graph.constant(f"{name}.scale", scale, np.float32)
        zeros = graph.constant(f"{name}.zero", np.zeros(len(scale)), np.int8)
        one, middle = graph.constant("scale_one", 1, np.float32), graph.constant("middle", _MIDDLE, np.uint8)
        quantised, scales = self._quantise(states, rows)
        inputs = [quantised, weight, one, columns, middle, zeros]
        graph.add("MatMulIntegerToFloat", inputs, f"{name}.integers", domain=_CONTRIB)
        return graph.add("Mul", [f"{name}.integers", scales], f"{name}.product")

    def _quantise(self, states: str, rows: str) -> tuple[str, str]:
        """`states` in 7 bits, and a scale for each row, as a column."""
        graph = self.graph
        tiny, reach = graph.constant("tiny", _TINY, np.float32), graph.constant("reach", 1 / _REACH, np.float32)
        # greatest absolute value of a row: without a copy of all absolute values
        graph.add("ReduceMax", [states], f"{states}.highest", axes=[-1], keepdims=0)
        graph.add("ReduceMin", [states], f"{states}.lowest", axes=[-1], keepdims=0)
        graph.add("Neg", [f"{states}.lowest"], f"{states}.depth")
        graph.add("Max", [f"{states}.highest", f"{states}.depth", tiny], f"{states}.greatest")
        scale = graph.add("Mul", [f"{states}.greatest", reach], f"{states}.scale")
        # QuantizeLinear wants as many zero points as scales: one vector for all tokens, one for all texts
        middle = numpy_helper.from_array(np.array([_MIDDLE], np.uint8))
        middles = graph.add(
            "ConstantOfShape", [graph.add("Shape", [rows], f"{rows}.shape")], f"{rows}.middles", value=middle
        )
        quantised = graph.add("QuantizeLinear", [states, scale, middles], f"{states}.quantised", axis=0)
        return quantised, graph.add("Unsqueeze", [scale, "at1"], f"{states}.scales")

    def _parameters(self, name: str) -> list[str]:
        """Weight and bias as they are."""
        return [self.graph.constant(f"{name}.weight", self._weights[f"{name}.weight"], np.float32), self._bias(name)]

    def _bias(self, name: str) -> str:
        return self.graph.constant(f"{name}.bias", self._weights[f"{name}.bias"], np.float32)
