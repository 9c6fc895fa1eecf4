"""What goes over the wire: requests into messages, scored messages into answers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from serving.errors import NotJson, TooMany
from serving.ids import new_id
from undertone.errors import DataError
from undertone.masking import Masker
from undertone.records import Message, ScoredMessage, utc
from undertone.text import repair

if TYPE_CHECKING:
    from serving.explain_child import Explanation

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

#: Characters of a client's own words (an unknown field's name, say) that an error repeats.
QUOTED = 300


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("a time is ISO 8601 text")
    try:
        return utc(datetime.fromisoformat(value.strip()))
    except (ValueError, OverflowError) as error:  # the first and last day of the calendar have no UTC in every zone
        raise ValueError("a time is ISO 8601, as in 2026-11-24T09:30:00Z") from error


def _not_blank(value: Any) -> Any:
    if isinstance(value, str) and not repair(value).strip():
        raise ValueError("it is blank")
    return value


ShortText = Annotated[str, Field(max_length=100)]
Identifier = Annotated[str, Field(min_length=1, max_length=200), BeforeValidator(_not_blank)]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class MessageIn(BaseModel):
    """One customer message."""

    model_config = ConfigDict(extra="forbid")

    id: Identifier | None = Field(None, description="your id; the message is stored once per id. Made up if missing")
    text: str = Field(description="what the customer wrote; not blank")
    channel: ShortText | None = Field(None, description="chat, email, social, ticket, …")
    segment: ShortText | None = Field(None, description="revenue segment")
    customer_id: Identifier | None = None
    sent_at: Moment | None = Field(
        None,
        validation_alias=AliasChoices("sent_at", "time"),
        description="ISO 8601; without a zone it is UTC. `time` is understood too",
    )


class ScoreRequest(BaseModel):
    """Several messages. A single message may also be sent as the body itself.

    All or nothing: where one message is not as described, none is scored.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {
                "messages": [
                    {
                        "id": "m-1",
                        "text": "Great, the third parcel lost this month. You people are amazing.",
                        "channel": "chat",
                        "segment": "pay_per_use",
                        "sent_at": "2026-11-24T09:30:00Z",
                    }
                ]
            }
        },
    )

    messages: list[MessageIn] = Field(min_length=1)


class WordAnswer(BaseModel):
    """A word by its characters, and what it adds to the label's probability; ``error`` is that figure's own."""

    text: str
    start: int
    end: int
    attribution: float
    error: float | None


class ExplanationAnswer(BaseModel):
    """Shapley values of the words, from ``samples`` orders. They sum to ``probability - base``.

    ``base`` is the label's probability with every word masked.
    """

    probability: float
    base: float
    samples: int
    words: list[WordAnswer]


class TaskAnswer(BaseModel):
    """One task's answer: probabilities are calibrated and sum to 1."""

    label: str
    confidence: float
    needs_review: bool | None = Field(None, description="too unsure to go without a person; null: no limit is known")
    probabilities: dict[str, float]
    version: int
    digest: str
    explanation: ExplanationAnswer | None = Field(None, description="with `explain=true`")


class MessageAnswer(BaseModel):
    """All answers for one message. ``sentiment`` has heard sarcasm; ``sentiment_reason`` says what that did.

    ``sentiment_probability`` is calibrated; ``needs_review``: it is too low to go without a person, null where the
    model brings no limit.

    A task that serves no model just now is missing from ``tasks``; `/readyz` says why. ``truncated``: the text was
    longer than the worker or a model reads, and only its beginning was scored.
    """

    id: str
    sentiment: str | None
    sentiment_reason: str | None
    sentiment_probability: float | None = None
    needs_review: bool | None = None
    truncated: bool
    tasks: dict[str, TaskAnswer]


class ScoreResponse(BaseModel):
    """Answers in the order of the messages: a list, also for a single message."""

    messages: list[MessageAnswer]


class ErrorParts(BaseModel):
    """What was expected, what was found, what to do next."""

    expected: str
    found: str
    next_step: str


class ErrorResponse(BaseModel):
    """Every error has this shape."""

    error: ErrorParts


def parse(body: bytes, received_at: datetime, *, max_messages: int, max_chars: int, mask: Masker) -> list[Message]:
    """The messages in a request's body: all of them, or none.

    Args:
        body: JSON.
        received_at: now.
        max_messages: more are refused.
        max_chars: of a text that are read.
        mask: what is replaced in texts. Here and nowhere else: what the model reads is what is stored.

    Raises:
        NotJson: the body is not JSON.
        TooMany: it holds more than `max_messages`.
        DataError: a message has no text, a wrong type or an unknown field.
    """
    return messages_of(read_json(body), received_at, max_messages=max_messages, max_chars=max_chars, mask=mask)


def read_json(body: bytes) -> Any:
    """What is in a body that must be JSON.

    Raises:
        NotJson: it is not.
    """
    try:
        return _load(body)
    except (ValueError, RecursionError) as error:
        raise NotJson("a JSON body", f"{type(error).__name__}: {error}", "send a message or {messages: […]}") from error


def messages_of(data: Any, received_at: datetime, *, max_messages: int, max_chars: int, mask: Masker) -> list[Message]:
    """The messages in a body that was read: all of them, or none. Arguments as those of `parse`.

    Raises:
        TooMany: it holds more than `max_messages`.
        DataError: a message has no text, a wrong type or an unknown field.
    """
    if isinstance(data, dict) and "messages" not in data:
        data = {"messages": [data]}
    if isinstance(data, dict) and isinstance(data.get("messages"), list) and len(data["messages"]) > max_messages:
        raise TooMany(
            f"at most {max_messages:,} messages in one request",
            f"{len(data['messages']):,}",
            f"send them in parts of {max_messages:,}",
        )
    try:
        request = ScoreRequest.model_validate(data)
    except ValidationError as error:
        raise DataError(
            "a message, or {messages: [message, …]}, as /docs describes",
            first_fault(error),
            "mend it; nothing of this request was scored",
        ) from error
    return [_message(item, index, received_at, max_chars, mask) for index, item in enumerate(request.messages)]


def _load(body: bytes) -> Any:
    """The JSON in `body`, which is UTF-8 as RFC 8259 asks.

    Lone surrogates, which JSON can spell and UTF-8 cannot, become U+FFFD.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass  # a byte order mark, a lone surrogate, a number beyond 64 bits: the slower reader takes them
    data = json.loads(body.decode("utf-8-sig"))
    if b"\\ud" in body or b"\\uD" in body:
        spelt_out = json.dumps(data, ensure_ascii=False)
        if _LONE_SURROGATE.search(spelt_out):
            data = json.loads(_LONE_SURROGATE.sub("\ufffd", spelt_out))
    return data


def first_fault(error: ValidationError) -> str:
    """Where the first fault is and what it is; how many more there are."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    where = ".".join(str(part) for part in faults[0]["loc"])
    what = faults[0]["msg"].removeprefix("Value error, ").replace("instance of ScoreRequest", "object")
    more = f" (and {len(faults) - 1:,} more)" if len(faults) > 1 else ""
    return (f"{where}: {what}" if where else what)[:QUOTED] + more


def render(
    scored: Sequence[ScoredMessage],
    labels: dict[str, tuple[str, ...]],
    explanations: Sequence[Mapping[str, Explanation]] | None = None,
) -> bytes:
    """The answer as JSON.

    Args:
        labels: label words of each task, in the order of its probabilities.
        explanations: of each message by task, where they were asked for.
    """
    answers = answers_of(scored, labels)
    if explanations is not None:
        for answer, item, found in zip(answers, scored, explanations, strict=True):
            for task, explanation in found.items():
                answer["tasks"][task]["explanation"] = _explanation(explanation, item.message.text)
    return orjson.dumps({"messages": answers})


def answers_of(scored: Sequence[ScoredMessage], labels: dict[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    """What a client, or a stream, is told of each message: `MessageAnswer`, ready for JSON."""
    return [
        {
            "id": item.message.id,
            "sentiment": item.final_sentiment,
            "sentiment_reason": item.final_reason,
            "sentiment_probability": None if item.final_probability is None else round(item.final_probability, 6),
            "needs_review": item.needs_review,
            "truncated": item.message.truncated,
            "tasks": {
                answer.task: {
                    "label": answer.label,
                    "confidence": round(answer.confidence, 6),
                    "needs_review": answer.needs_review,
                    "probabilities": {
                        label: round(p, 6) for label, p in zip(labels[answer.task], answer.probabilities, strict=True)
                    },
                    "version": answer.model_version,
                    "digest": answer.model_digest,
                }
                for answer in item.predictions
            },
        }
        for item in scored
    ]


def _explanation(explanation: Explanation, text: str) -> dict[str, Any]:
    return {
        "probability": explanation.probability,
        "base": explanation.base,
        "samples": explanation.samples,
        "words": [
            {
                "text": text[word.start : word.end],
                "start": word.start,
                "end": word.end,
                "attribution": word.attribution,
                "error": word.error,
            }
            for word in explanation.words
        ],
    }


def _message(item: MessageIn, index: int, received_at: datetime, max_chars: int, mask: Masker) -> Message:
    text = mask.read(item.text, max_chars)
    if not text.strip():
        raise DataError(
            "text in every message", f"none in messages.{index}", "leave it out; nothing of this request was scored"
        )
    return Message(
        id=repair(item.id) if item.id is not None else new_id(),
        text=text,
        channel=_plain(item.channel),
        segment=_plain(item.segment),
        customer_id=_plain(item.customer_id),
        sent_at=utc(item.sent_at) if item.sent_at is not None else None,
        received_at=received_at,
        truncated=len(item.text) > max_chars,
    )


def _plain(value: str | None) -> str | None:
    return repair(value).strip() or None if value is not None else None
