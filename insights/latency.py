"""Time to insight: from when a customer sent a message to when an analyst can see it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, Subquery, case, func, literal, null, select, union_all

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

_KINDS = ("live", "backfilled", "wrong", "unknown")


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
    store_s, insight_s = table.c.seconds_to_store, table.c.seconds_to_insight
    upstream = insight_s - store_s
    kind = case(
        (insight_s.is_(None), "unknown"), (upstream > BACKFILL_S, "backfilled"), (upstream < -CLOCK_S, "wrong"),
        else_="live",
    )  # fmt: skip
    rows = (
        select(table.c.channel, kind.label("kind"), insight_s.label("insight"), store_s.label("store"))
        .where(*within(table, period))
        .subquery()
    )
    with store.reading() as connection:
        counted = connection.execute(_counts(rows)).all()
        placed = connection.execute(_percentiles(rows)).all()
    channels = sorted({row.channel for row in counted}, key=lambda name: (name is None, name or ""))
    found = [_of_channel(counted, placed, name, all_of=False) for name in channels]
    return (_of_channel(counted, placed, None, all_of=True), *sorted(found, key=lambda item: -item.messages))


def _counts(rows: Subquery) -> Select[Any]:
    """Messages by channel and kind, and how many of them were soon visible."""
    soon = [func.sum(case((rows.c.insight < limit, 1), else_=0)) for limit in (MINUTE_S, LIMIT_S)]
    return select(
        rows.c.channel, rows.c.kind, func.count().label("messages"), soon[0].label("minute"), soon[1].label("limit")
    ).group_by(rows.c.channel, rows.c.kind)


def _percentiles(rows: Subquery) -> Select[Any]:
    """Percentiles of live messages by nearest rank: of each channel, then of all (``whole``)."""
    live = select(rows).where(rows.c.kind == "live").subquery()
    ranked = []
    for whole in (False, True):
        parts = {} if whole else {"partition_by": live.c.channel}
        for name in ("insight", "store"):
            column = live.c[name]
            ranked.append(
                select(
                    literal(whole).label("whole"),
                    literal(name).label("name"),
                    (null() if whole else live.c.channel).label("channel"),
                    column.label("seconds"),
                    func.cume_dist().over(order_by=column, **parts).label("place"),
                )
            )
    placed = union_all(*ranked).subquery()
    keys = placed.c.whole, placed.c.name, placed.c.channel
    return select(
        *keys, *(func.min(case((placed.c.place >= q, placed.c.seconds))).label(f"p{q * 100:.0f}") for q in (0.5, 0.99))
    ).group_by(*keys)


def _of_channel(counted: Sequence[Row], placed: Sequence[Row], channel: str | None, all_of: bool) -> Latency:
    mine = [row for row in counted if all_of or row.channel == channel]
    of_kind = {kind: sum(row.messages for row in mine if row.kind == kind) for kind in _KINDS}
    live = [row for row in mine if row.kind == "live"]
    ranks = {row.name: row for row in placed if bool(row.whole) == all_of and (all_of or row.channel == channel)}
    insight, store = ranks.get("insight"), ranks.get("store")
    return Latency(
        channel,
        all_of,
        sum(of_kind.values()),
        *(of_kind[kind] for kind in _KINDS),
        insight.p50 if insight else None,
        insight.p99 if insight else None,
        store.p50 if store else None,
        store.p99 if store else None,
        sum(row.minute for row in live) / of_kind["live"] if live else None,
        sum(row.limit for row in live) / of_kind["live"] if live else None,
    )
