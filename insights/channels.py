"""How channels perform: what is said there, how sure that is, and how soon it can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from insights.changes import Change
from insights.estimate import Estimate
from insights.latency import Latency
from insights.period import Period
from undertone.store import Store

#: The labels that are shown, by task.
SHOWN: Mapping[str, tuple[str, ...]] = {"sentiment": ("negative", "positive"), "sarcasm": ("sarcastic",)}


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel in a period.

    Attributes:
        channel: None: the messages that have none.
        messages: scored ones, sent in the period.
        messages_before: in the period before.
        negative, positive, sarcastic: shares of its messages.
        unsure: share that needs a person; None: no limit was known.
        latency: time to insight of its messages.
        changes: of the three shares against the period before, by label; without examples.
    """

    channel: str | None
    messages: int
    messages_before: int
    negative: Estimate
    positive: Estimate
    sarcastic: Estimate
    unsure: float | None
    latency: Latency
    changes: Mapping[str, Change]


def channel_performance(store: Store, period: Period) -> tuple[Channel, ...]:
    """Every channel with a message in the period, largest first.

    Raises:
        StoreError: the store is out of reach.
    """
    raise NotImplementedError
