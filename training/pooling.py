"""Mean pooling for a model class that only knows the first token.

all-MiniLM and its kind were trained so that the *mean* of their token states is the sentence's meaning, but BERT's
standard classification class looks at the first token. A class of our own would lose the standard MLflow model, so the
mean is said in BERT's own words: one more encoder layer whose queries and keys are zero attends to all tokens alike,
its value and output projections pass states on, and its feed-forward part adds nothing. What the first token then
holds is the mean. From there on the layer is trained like any other: attention pooling that starts as the mean.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: The mean outweighs the first token's own state, which the layer's residual connection adds, by this factor.
WEIGHT = 10.0

#: Keeps the pooler's tanh near its straight part at the start.
POOLER_SCALE = 0.5


def wants_mean(base_model: Path) -> bool:
    """Whether a sentence-transformers folder says that its embedding is the mean of the token states."""
    try:
        pooling = json.loads((base_model / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(pooling.get("pooling_mode_mean_tokens"))


def add_mean_layer(model: PreTrainedModel) -> bool:
    """Append the averaging layer to a BERT classifier, in place. Other classes are left alone; gives whether it was."""
    import torch
    from transformers.models.bert.modeling_bert import BertForSequenceClassification, BertLayer

    if not isinstance(model, BertForSequenceClassification):
        return False
    config: Any = model.config
    layer: Any = BertLayer(config, layer_idx=config.num_hidden_layers)
    identity = torch.eye(config.hidden_size)
    attention, output = layer.attention.self, layer.attention.output
    with torch.no_grad():
        for part in (attention.query, attention.key, attention.value, output.dense, layer.output.dense):
            part.weight.zero_()
            part.bias.zero_()
        attention.value.weight.copy_(identity)
        output.dense.weight.copy_(WEIGHT * identity)
        layer.intermediate.dense.weight.normal_(0.0, config.initializer_range)
        layer.intermediate.dense.bias.zero_()
        pooler: Any = model.bert.pooler
        pooler.dense.weight.copy_(POOLER_SCALE * identity)
        pooler.dense.bias.zero_()
    model.bert.encoder.layer.append(layer)
    config.num_hidden_layers += 1
    return True
