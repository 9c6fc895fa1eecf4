"""The last layer for the first token alone: what a classifier never reads is not computed.

BERT's classification class reads one state of the last layer, the first token's. There, the queries, the feed-forward
part and the norms of all other tokens change neither an answer nor a gradient, and are most of the work.
`training.bert_graph` leaves them out of the serving graph for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers.models.bert.modeling_bert import BertForSequenceClassification, BertLayer


class FirstTokenLayer(BertLayer):
    """A `BertLayer` that gives the first token's state only, [rows, 1, hidden], from the same weights."""

    def forward(  # type: ignore[override]
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *_: Any, **__: Any
    ) -> torch.Tensor:
        """States of all tokens in, [rows, tokens, hidden]; the first one's out."""
        rows, hidden = hidden_states.shape[0], hidden_states.shape[2]
        attention: Any = self.attention.self
        heads = attention.num_attention_heads
        first = hidden_states[:, :1]

        def split(states: torch.Tensor) -> torch.Tensor:
            return states.view(rows, -1, heads, hidden // heads).transpose(1, 2)

        context = torch.nn.functional.scaled_dot_product_attention(
            split(attention.query(first)),
            split(attention.key(hidden_states)),
            split(attention.value(hidden_states)),
            attn_mask=None if attention_mask is None else attention_mask[:, :, :1],
            dropout_p=attention.dropout.p if self.training else 0.0,
        )
        joined = context.transpose(1, 2).reshape(rows, 1, hidden)
        given: torch.Tensor = self.feed_forward_chunk(self.attention.output(joined, first))
        return given


@contextmanager
def first_token_only(model: Any) -> Iterator[None]:
    """Within the block, `model`'s last layer is a `FirstTokenLayer`, where the model is BERT's classification class."""
    layer = model.bert.encoder.layer[-1] if isinstance(model, BertForSequenceClassification) else None
    if layer is None or type(layer) is not BertLayer or model.config.is_decoder:
        yield
        return
    layer.__class__ = FirstTokenLayer
    try:
        yield
    finally:
        layer.__class__ = BertLayer
