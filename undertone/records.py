"""Frozen records that travel between rooms. No behaviour beyond checks of their own shape."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Verdict = Literal["stable", "warn", "act", "severe", "too_few"]
#: How far one signal, or one window alone, goes: below its floors, then over the first, the second and the third.
Level = Literal["none", "warn", "act", "severe"]
LEVELS: tuple[Level, ...] = ("none", "warn", "act", "severe")
#: Verdicts that say that something drifted: each buys an audit.
WARNINGS = LEVELS[1:]
#: Where a label came from: given unasked, from a random audit, from the queue of useful answers, from labelling one of
#: these again, from a file.
Origin = Literal["person", "audit", "review", "second", "import"]


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
    encoder's mean-pooled last hidden state as little-endian float16 bytes, or None. ``needs_review``: the model is
    too unsure to answer without a person; None where it brings no limit.
    """

    message_id: str
    task: str
    label: str
    probabilities: tuple[float, ...]
    model_version: int
    model_digest: str
    scored_at: datetime
    embedding: bytes | None = None
    needs_review: bool | None = None

    @property
    def confidence(self) -> float:
        """The largest probability."""
        return max(self.probabilities)

    def __post_init__(self) -> None:
        if not all(math.isfinite(p) for p in self.probabilities):
            raise ValueError(f"probabilities of message {self.message_id} are not finite: {self.probabilities}")


@dataclass(frozen=True, slots=True)
class ScoredMessage:
    """A message with every task's prediction and the sentiment after sarcasm was heard.

    ``final_probability`` is that of ``final_sentiment``; ``needs_review`` is None where no limit is known.
    """

    message: Message
    predictions: tuple[Prediction, ...]
    final_sentiment: str | None = None
    final_reason: str | None = None
    final_probability: float | None = None
    needs_review: bool | None = None


@dataclass(frozen=True, slots=True)
class Feedback:
    """A label given by a person (or an upstream system) for a scored message.

    ``suggested``: the labeller saw the model's own answer first, so the label is no independent evidence: it is kept
    out of audits, and its share of a training is capped. ``guideline``: version of the labelling guideline it follows.
    """

    message_id: str
    task: str
    label: str
    labeller: str
    labelled_at: datetime
    origin: Origin = "person"
    suggested: bool = False
    guideline: str | None = None


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured difference between two windows.

    Attributes:
        name: one of `undertone.tasks.DriftPolicy.floors`.
        effect: in the units of `method`.
        floor: least effect that warns.
        p_value: of `method` alone, before any correction.
        level: the highest floor that the effect reaches, "none" unless chance is ruled out too.
        act: least effect that acts; None: this signal warns at most.
        severe: least effect that is severe; None: this signal acts at most.
        adjusted_p: after correction, over all signals (Holm) or over all segments (Benjamini-Hochberg).
        segment: of one segment's messages; None: of all.
        detail: what moved, in words, where the method knows.
    """

    name: str
    method: str
    effect: float
    floor: float
    p_value: float
    level: Level = "none"
    act: float | None = None
    severe: float | None = None
    adjusted_p: float = 1.0
    segment: str | None = None
    detail: str = ""

    @property
    def fired(self) -> bool:
        """Whether it warns at least."""
        return self.level != "none"


@dataclass(frozen=True, slots=True)
class Finding:
    """A requirement of the data quality gate that does not hold: which upstream is broken, how far, and the limit."""

    check: str
    upstream: str
    found: str
    value: float
    limit: float


@dataclass(frozen=True, slots=True)
class DriftVerdict:
    """What one look at one window said, with every number it rests on.

    Attributes:
        verdict: after persistence.
        level: of this window alone.
        signals: over all messages, then of segments that fired.
        current_rows: rows that tests looked at; ``total_rows`` counts all that the window has.
        window_start: earlier than asked where windows were merged (``merged`` > 1) to have enough rows.
        quality: what the data quality gate found; anything here blocks a retrain that drift asks for.
        policy_sha256: of every number that decided.
    """

    task: str
    verdict: Verdict
    signals: tuple[Signal, ...]
    reference_rows: int
    current_rows: int
    window_start: datetime
    window_end: datetime
    model_version: int
    reason: str
    level: Level = "none"
    total_rows: int = 0
    merged: int = 1
    quality: tuple[Finding, ...] = ()
    new_segments: tuple[str, ...] = ()
    vanished_segments: tuple[str, ...] = ()
    policy_sha256: str = ""

    @property
    def drifted(self) -> bool:
        """Whether it warns at least."""
        return self.verdict in WARNINGS


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
