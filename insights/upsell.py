"""Subscription-upsell candidates: customers who are unhappy with paying per use, with the messages that say so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from insights.changes import Example
from insights.estimate import Estimate
from insights.period import Period
from undertone.store import Store

#: Segments of customers without a subscription.
SEGMENTS = ("pay_per_use", "pay-per-use")
NEGATIVE = ("negative",)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A customer to talk to.

    Attributes:
        messages: that the customer sent in the period.
        negative: of these, how many the model took for one of the negative labels.
        share: expected true share of negative ones, drawn towards the segment's where messages are few.
        low: lower bound of it (one-sided 95 %), by which candidates are ranked.
        evidence: the customer's negative messages, newest first.
    """

    customer_id: str
    segment: str
    messages: int
    negative: int
    share: float
    low: float
    evidence: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class UpsellSegment:
    """One segment: how its messages are, beside everybody else's."""

    segment: str
    customers: int
    messages: int
    negative: Estimate


@dataclass(frozen=True, slots=True)
class Upsell:
    """Candidates of a period.

    Attributes:
        segments: those asked for, and all others as one with the name "others".
        candidates: by `Candidate.low`, highest first; only customers whose bound is above their segment's share.
        customers: of the segments asked for.
        anonymous: messages of these segments that name no customer.
        lacking: what there is too little of to name candidates, in words; empty where nothing is.
    """

    task: str
    labels: tuple[str, ...]
    period: Period
    segments: tuple[UpsellSegment, ...]
    candidates: tuple[Candidate, ...]
    customers: int
    anonymous: int
    lacking: str = ""


def upsell(
    store: Store,
    period: Period,
    *,
    segments: Sequence[str] = SEGMENTS,
    task: str = "sentiment",
    labels: Sequence[str] = NEGATIVE,
    most: int = 50,
    evidence: int = 5,
) -> Upsell:
    """Customers of `segments` who are unhappy more often than their segment, and surely so.

    Args:
        most: candidates at most.
        evidence: messages of each candidate at most.

    Raises:
        ConfigError: no such task or label.
        StoreError: the store is out of reach.
    """
    raise NotImplementedError
