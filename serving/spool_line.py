"""A scored message as one JSON line of the spool, and back."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

import orjson

from undertone.records import Message, Prediction, ScoredMessage

log = logging.getLogger("undertone.serving")


def encode(item: ScoredMessage) -> bytes:
    """`item` as one line of JSON, newline included; embeddings as base64."""
    message = item.message
    values = {
        "message": {
            "id": message.id,
            "text": message.text,
            "channel": message.channel,
            "segment": message.segment,
            "customer_id": message.customer_id,
            "sent_at": _moment(message.sent_at),
            "received_at": _moment(message.received_at),
            "truncated": message.truncated,
        },
        "predictions": [
            {
                "message_id": answer.message_id,
                "task": answer.task,
                "label": answer.label,
                "probabilities": answer.probabilities,
                "model_version": answer.model_version,
                "model_digest": answer.model_digest,
                "scored_at": answer.scored_at.isoformat(),
                "embedding": None if answer.embedding is None else base64.b64encode(answer.embedding).decode(),
                "needs_review": answer.needs_review,
            }
            for answer in item.predictions
        ],
        "final_sentiment": item.final_sentiment,
        "final_reason": item.final_reason,
        "final_probability": item.final_probability,
        "needs_review": item.needs_review,
    }
    return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)


def decode(stream: BinaryIO) -> Iterator[ScoredMessage | None]:
    """The rows of a segment in order; None for a line that cannot be read.

    A last line without its newline was torn by its worker's end: its request was never answered, so it is left out.
    """
    for line in stream:
        if not line.endswith(b"\n"):
            log.warning("a torn last line in %s is left out: its request was never answered", stream.name)
            return
        try:
            yield _scored(orjson.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError):
            yield None


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value is not None else None


def _scored(values: dict[str, Any]) -> ScoredMessage:
    message = values["message"]
    for name in ("sent_at", "received_at"):
        message[name] = datetime.fromisoformat(message[name]) if message[name] else None
    predictions = tuple(
        Prediction(
            **answer
            | {
                "probabilities": tuple(answer["probabilities"]),
                "scored_at": datetime.fromisoformat(answer["scored_at"]),
                "embedding": base64.b64decode(answer["embedding"]) if answer["embedding"] is not None else None,
            }
        )
        for answer in values["predictions"]
    )
    return ScoredMessage(
        Message(**message),
        predictions,
        values["final_sentiment"],
        values["final_reason"],
        values.get("final_probability"),  # lines of a worker before 0005 lack these two
        values.get("needs_review"),
    )
