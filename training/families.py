"""Families of encoders, by ``model_type`` in their configuration: what they can read, and what makes them a BERT.

Imports no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from undertone.errors import ConfigError, TrainingError

Weights = Mapping[str, NDArray[np.float32]]

#: Families whose positions are counted from one after the padding token's id, so that 514 of them are 512 tokens.
_COUNTS_FROM_PADDING = {
    *("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text", "mpnet"),
    *("xmod", "ibert", "longformer", "luke", "esm"),
}
#: Endings of the class in a configuration's ``architectures`` that is no encoder.
_WRITES_TEXT = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "DoubleHeadsModel")

#: BERT's names for the parts of RoBERTa (and XLM-R, which is the same) and of DistilBERT.
_ROBERTA = (
    (r"^roberta\.", "bert."),
    (r"^classifier\.dense\.", "bert.pooler.dense."),
    (r"^classifier\.out_proj\.", "classifier."),
)
_DISTILBERT = (
    (r"^distilbert\.transformer\.", "bert.encoder."),
    (r"^distilbert\.", "bert."),
    (r"^pre_classifier\.", "bert.pooler.dense."),
    (r"\.attention\.q_lin\.", ".attention.self.query."),
    (r"\.attention\.k_lin\.", ".attention.self.key."),
    (r"\.attention\.v_lin\.", ".attention.self.value."),
    (r"\.attention\.out_lin\.", ".attention.output.dense."),
    (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
    (r"\.ffn\.lin1\.", ".intermediate.dense."),
    (r"\.ffn\.lin2\.", ".output.dense."),
    (r"\.output_layer_norm\.", ".output.LayerNorm."),
)


def position_limit(config: Mapping[str, Any]) -> int | None:
    """Most tokens that a model of this configuration reads, special ones included; None where it has no limit."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.get("model_type") in _COUNTS_FROM_PADDING:
        return positions - (config.get("pad_token_id") or 0) - 1
    return positions


def require_encoder(config: Mapping[str, Any], name: str) -> None:
    """Refuse a configuration of a model that writes text in place of reading it.

    Raises:
        ConfigError: it is a decoder, or has one.
    """
    built = [str(item) for item in config.get("architectures") or []]
    found = None
    if config.get("is_encoder_decoder"):
        found = "an encoder with a decoder"
    elif config.get("is_decoder") or any(item.endswith(_WRITES_TEXT) and "bert" not in item.lower() for item in built):
        found = "a decoder"
    if found:
        raise ConfigError(
            "an encoder (BERT, RoBERTa, DistilBERT, ModernBERT, XLM-R and their kind)",
            f"{name} is {found}: {', '.join(built) or config.get('model_type')}",
            "use another base model: docs/how-to/choose-a-base-model.md",
        )


def layers_of(model: Any) -> list[Any]:
    """The encoder layers of a `transformers` classifier, lowest first.

    Raises:
        TrainingError: they are not where any family known here has them, or are one and the same.
    """
    base = model.base_model
    for owner in (getattr(base, "encoder", None), getattr(base, "transformer", None), base):
        for name in ("layer", "layers"):
            found = getattr(owner, name, None)
            if found is not None and len(found):
                return list(found)
    raise TrainingError(
        "a base model with layers that can be frozen",
        f"a {model.config.model_type} has none of its own",
        "train with `--set frozen_layers=0`, or use another base model",
    )


def as_bert(weights: Weights, config: Any) -> tuple[Weights, Any]:
    """A classifier of a family that computes what a BERT does, told as one: weights by BERT's names, and its numbers.

    RoBERTa counts positions from its padding token's id on, has one kind of token, and its head is a pooler and a
    classifier. DistilBERT has no kinds of token, and a ReLU in its pooler. Any other model comes back as it is.
    Positions are those of texts padded on the right, in which no token that counts is the padding token.
    """
    if config.model_type in {"roberta", "xlm-roberta"}:
        named = _renamed(weights, _ROBERTA)
        places = "bert.embeddings.position_embeddings.weight"
        if places in named and config.pad_token_id is not None:
            named[places] = named[places][config.pad_token_id + 1 :]
        return named, _plain(config, hidden_act=config.hidden_act, layer_norm_eps=config.layer_norm_eps)
    if config.model_type == "distilbert":
        named = _renamed(weights, _DISTILBERT)
        named["bert.embeddings.token_type_embeddings.weight"] = np.zeros((1, config.hidden_size), np.float32)
        return named, _plain(config, hidden_act=config.activation, layer_norm_eps=1e-12, pooler="Relu")
    return weights, config


def _renamed(weights: Weights, names: tuple[tuple[str, str], ...]) -> dict[str, NDArray[np.float32]]:
    renamed = {}
    for name, values in weights.items():
        for pattern, ours in names:
            name = re.sub(pattern, ours, name)
        renamed[name] = values
    return renamed


def _plain(config: Any, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(
        model_type="bert",
        position_embedding_type=getattr(config, "position_embedding_type", "absolute"),
        is_decoder=getattr(config, "is_decoder", False),
        add_cross_attention=getattr(config, "add_cross_attention", False),
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        **more,
    )
