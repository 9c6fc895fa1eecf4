"""Time to insight: from when a customer sent a message to when an analyst can see it."""

from __future__ import annotations

from dataclasses import dataclass

from insights.period import Period
from undertone.store import Store

#: A message that was sent longer than this before it was received was loaded later, not late.
BACKFILL_S = 24 * 3_600.0
#: Seconds by which senders' clocks may be ahead.
CLOCK_S = 60.0
MINUTE_S = 60.0
#: What the business asks for.
LIMIT_S = 4 * 3_600.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Time to insight of one channel, or of all messages. Percentiles and shares are of live messages alone.

    Attributes:
        channel: None: the messages that have none.
        all: over all channels; `channel` is None then.
        messages: all that were sent in the period.
        live: those that came as they were sent.
        backfilled: sent more than `BACKFILL_S` before they were received.
        clock_wrong: sent more than `CLOCK_S` after they were received, by the sender's clock.
        unknown: stored before Undertone kept that time.
        p50, p99: seconds from sent to visible; None: no live message.
        store_p50, store_p99: seconds from received to visible, Undertone's own part; None: no live message.
        under_minute: share of live messages visible within a minute; None: no live message.
        under_limit: share of live messages visible within four hours; None: no live message.
    """

    channel: str | None
    all: bool
    messages: int
    live: int
    backfilled: int
    clock_wrong: int
    unknown: int
    p50: float | None
    p99: float | None
    store_p50: float | None
    store_p99: float | None
    under_minute: float | None
    under_limit: float | None

    @property
    def name(self) -> str:
        """What to call it: "all", its channel, or "no channel"."""
        return "all" if self.all else self.channel or "no channel"


def latency(store: Store, period: Period) -> tuple[Latency, ...]:
    """All messages first, then each channel, largest first.

    Raises:
        StoreError: the store is out of reach.
    """
    raise NotImplementedError
