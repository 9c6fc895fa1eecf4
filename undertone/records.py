"""Frozen records that travel between rooms. No behaviour beyond checks of their own shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Verdict = Literal["stable", "drifted", "too_few"]


def utc(moment: datetime) -> datetime:
    """`moment` in UTC; a naive time is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Message:
    """A customer's message as it arrived. ``text`` is what the model reads (already cut to the limit)."""

    id: str
    text: str
    channel: str | None = None
    segment: str | None = None
    customer_id: str | None = None
    sent_at: datetime | None = None
    received_at: datetime | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """One task's answer for one message.

    ``probabilities`` are calibrated, in label order, and sum to 1. ``embedding`` is the served
    encoder's mean-pooled last hidden state as little-endian float16 bytes, or None.
    """

    message_id: str
    task: str
    label: str
    probabilities: tuple[float, ...]
    model_version: int
    model_digest: str
    scored_at: datetime
    embedding: bytes | None = None

    @property
    def confidence(self) -> float:
        """The largest probability."""
        return max(self.probabilities)

    def __post_init__(self) -> None:
        if not all(math.isfinite(p) for p in self.probabilities):
            raise ValueError(f"probabilities of message {self.message_id} are not finite: {self.probabilities}")


@dataclass(frozen=True, slots=True)
class ScoredMessage:
    """A message with every task's prediction and the sentiment after sarcasm was heard."""

    message: Message
    predictions: tuple[Prediction, ...]
    final_sentiment: str | None = None
    final_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A label given by a person (or an upstream system) for a scored message."""

    message_id: str
    task: str
    label: str
    labeller: str
    labelled_at: datetime


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured difference between two windows.

    ``effect`` is in the units of ``method``; ``fired`` means p-value below alpha *and* effect at or over ``floor``.
    """

    name: str
    method: str
    effect: float
    floor: float
    p_value: float
    fired: bool
    severe: bool = False


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """What one look at one window said, with every number it rests on."""

    task: str
    verdict: Verdict
    signals: tuple[Signal, ...]
    reference_rows: int
    current_rows: int
    window_start: datetime
    window_end: datetime
    model_version: int
    reason: str
    act: bool = False


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One row of the ledger. ``hash`` covers every other field and the hash before it."""

    seq: int
    at: datetime
    kind: str
    task: str
    version: int | None
    actor: str
    reason: str
    payload: dict[str, Any] = field(default_factory=dict)
    previous_hash: str = ""
    hash: str = ""
