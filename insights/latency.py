"""Time to insight: from when a customer sent a message to when an analyst can see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, Row, case, func, literal, select, union_all

from insights.counts import view, within
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
    table = view(store, "messages")
    # kept as it is: a database would else work out each time again wherever it is named below
    times = (
        select(table.c.channel, table.c.seconds_to_insight.label("insight"), table.c.seconds_to_store.label("store"))
        .where(*within(table, period))
        .cte("times")
        .prefix_with("materialized")
    )
    upstream = times.c.insight - times.c.store
    kind = case(
        (times.c.insight.is_(None), "unknown"),
        (upstream > BACKFILL_S, "backfilled"),
        (upstream < -CLOCK_S, "clock_wrong"),
        else_="live",
    )
    parts = []
    for name in ("insight", "store"):
        keys = times.c.channel, kind.label("kind"), _cell(times.c[name]).label("seconds")
        parts.append(select(literal(name).label("name"), *keys, func.count().label("messages")).group_by(*keys))
    with store.reading() as connection:
        rows = connection.execute(union_all(*parts)).all()
    insight, stored = ([row for row in rows if row.name == name] for name in ("insight", "store"))
    channels = {row.channel for row in insight}
    found = [
        _latency(name, False, *([row for row in part if row.channel == name] for part in (insight, stored)))
        for name in channels
    ]
    return (
        _latency(None, True, insight, stored),
        *sorted(found, key=lambda item: (-item.messages, item.channel is None, item.channel or "")),
    )


def _cell(seconds: ColumnElement[float]) -> ColumnElement[float]:
    """Seconds, cut so that a database counts few different ones: to a twentieth under a minute, later to one or ten."""
    return case(
        (seconds.is_(None), None),  # SQLite's floor takes no null
        (seconds < MINUTE_S, func.floor(seconds * 20) / 20.0),
        (seconds < 3_600, func.floor(seconds)),
        else_=func.floor(seconds / 10) * 10.0,
    )


def _latency(channel: str | None, whole: bool, insight: Sequence[Row], stored: Sequence[Row]) -> Latency:
    of_kind: Counter[str] = Counter()
    for row in insight:
        of_kind[row.kind] += row.messages
    p50, p99 = _percentiles(insight)
    store_p50, store_p99 = _percentiles(stored)
    return Latency(
        channel,
        whole,
        of_kind.total(),
        of_kind["live"],
        of_kind["backfilled"],
        of_kind["clock_wrong"],
        of_kind["unknown"],
        p50,
        p99,
        store_p50,
        store_p99,
        _under(insight, MINUTE_S),
        _under(insight, LIMIT_S),
    )


def _percentiles(rows: Sequence[Row]) -> tuple[float | None, float | None]:
    """The 50th and 99th percentile of live messages, by nearest rank: the start of their cell."""
    live = sorted((float(row.seconds), int(row.messages)) for row in rows if row.kind == "live")
    if not live:
        return None, None
    seconds, messages = np.array(live).T
    reached = messages.cumsum()
    p50, p99 = (float(seconds[np.searchsorted(reached, np.ceil(q * reached[-1]))]) for q in (0.5, 0.99))
    return p50, p99


def _under(rows: Sequence[Row], limit: float) -> float | None:
    live = [row for row in rows if row.kind == "live"]
    under = sum(row.messages for row in live if row.seconds < limit)
    return under / sum(row.messages for row in live) if live else None
