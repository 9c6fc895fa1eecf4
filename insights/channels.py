"""How channels perform: what is said there, how sure that is, and how soon it can be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import RowMapping, and_, case, func, select

from insights.changes import Change, changes
from insights.counts import view, within
from insights.estimate import Estimate
from insights.latency import Latency, latency
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

    Shares and changes are told for the largest ones alone, `insights.trend.MOST_SERIES` of them.

    Raises:
        StoreError: the store is out of reach.
    """
    everywhere = replace(period, channel=None)
    found = changes(store, list(SHOWN), everywhere, cuts=("channel",), examples=0)
    by_channel: dict[str | None, dict[str, Change]] = {}
    for change in found:
        if change.cut == "channel" and change.label in SHOWN[change.task]:
            by_channel.setdefault(change.value, {})[change.label] = change
    times = {item.channel: item for item in latency(store, everywhere) if not item.all}
    table, before = view(store, "messages"), everywhere.before()
    now = table.c.event_at >= period.start
    query = (
        select(
            table.c.channel,
            func.sum(case((now, 1), else_=0)).label("messages"),
            func.sum(case((now, 0), else_=1)).label("before"),
            func.sum(case((and_(now, table.c.needs_review), 1), else_=0)).label("unsure"),
            func.sum(case((and_(now, table.c.needs_review.is_not(None)), 1), else_=0)).label("judged"),
        )
        .where(*within(table, replace(everywhere, start=before.start)))
        .group_by(table.c.channel)
    )
    with store.reading() as connection:
        rows = [row for row in connection.execute(query).mappings() if row["channel"] in times]
    if period.channel is not None:
        rows = [row for row in rows if row["channel"] == period.channel]
    told = [_of_channel(row, by_channel.get(row["channel"], {}), times[row["channel"]]) for row in rows]
    return tuple(sorted(told, key=lambda item: (-item.messages, item.channel or "")))


def _of_channel(row: RowMapping, moved: Mapping[str, Change], took: Latency) -> Channel:
    nothing = Estimate(0, None, None, None, None, "no answer of that task")
    shares = {label: moved[label].after if label in moved else nothing for labels in SHOWN.values() for label in labels}
    return Channel(
        row["channel"],
        int(row["messages"]),
        int(row["before"]),
        **shares,
        unsure=float(row["unsure"] / row["judged"]) if row["judged"] else None,
        latency=took,
        changes=dict(moved),
    )
