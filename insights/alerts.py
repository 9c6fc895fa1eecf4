"""Changes that people are told of: which are news, and what was told. Rows hold figures and message ids, no texts.

A change opens an alert of its series. While it lasts nothing more is told; once no look finds it any more it is over,
and the next change is news: at once where it goes the other way, else a week after the last at the soonest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import RowMapping, select, update
from sqlalchemy.dialects import postgresql, sqlite

from insights.changes import Change, words_of
from undertone.records import utc
from undertone.schema import insight_alerts
from undertone.store import Store

#: A series that changed the same way again sooner is not told again.
QUIET = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Alert:
    """A change that was found.

    Attributes:
        series: task, label, cut and value, as `Change.series`.
        period: start of the period that changed.
        detail: `Change.as_dict`, with ``over_at`` once it is over and ``channels``: who was told through which.
        told_at: when every channel had it; None: not yet.
    """

    id: int
    series: str
    period: datetime
    found_at: datetime
    detail: Mapping[str, Any]
    told_at: datetime | None

    @property
    def rose(self) -> bool:
        """Whether the share rose."""
        return bool(self.detail["difference"] > 0)

    @property
    def over(self) -> bool:
        """Whether the series was steady since."""
        return self.detail.get("over_at") is not None

    @property
    def words(self) -> str:
        """The change in one sentence."""
        return words_of(self.detail)


def read_alerts(store: Store, limit: int | None = None, since: datetime | None = None) -> tuple[Alert, ...]:
    """Alerts, the newest first.

    Args:
        since: those found from then on; None: all.
    """
    query = select(insight_alerts).order_by(insight_alerts.c.id.desc()).limit(limit)
    if since is not None:
        query = query.where(insight_alerts.c.found_at >= since)
    with store.reading() as connection:
        return tuple(_alert(row) for row in connection.execute(query).mappings())


def news(found: Iterable[Change], alerts: Sequence[Alert], now: datetime) -> list[Change]:
    """Those changes that people do not know of yet, one for each series.

    Args:
        found: what the looks found, the shortest look first.
        alerts: what was told before, the newest first.
    """
    told: dict[str, Change] = {}
    for change in found:
        if change.verdict != "changed" or change.difference is None or change.series in told:
            continue
        last = next((alert for alert in alerts if alert.series == change.series), None)
        known = last is not None and last.rose == (change.difference > 0)
        if last is None or not known or (last.over and now - last.found_at >= QUIET):
            told[change.series] = change
    return list(told.values())


def record_alerts(store: Store, found: Iterable[Change], now: datetime) -> int:
    """Keep changes as alerts, once for each series and period; gives how many were new."""
    rows = [
        {"series": change.series, "period": change.period.start, "found_at": utc(now), "detail": change.as_dict()}
        for change in found
    ]
    dialect = postgresql if store.engine.dialect.name == "postgresql" else sqlite
    query = dialect.insert(insight_alerts).on_conflict_do_nothing()
    with store.transaction() as connection:
        return sum(connection.execute(query.values(**row)).rowcount for row in rows)


def close_alerts(store: Store, found: Iterable[Change], alerts: Iterable[Alert], now: datetime) -> int:
    """Mark open alerts as over where a look finds the series steady and none finds it changed; gives how many.

    Args:
        found: what the looks found.
    """
    verdicts = {(change.series, change.verdict) for change in found}
    ended = [
        alert
        for alert in alerts
        if not alert.over and (alert.series, "steady") in verdicts and (alert.series, "changed") not in verdicts
    ]
    for alert in ended:
        _write(store, alert, detail=dict(alert.detail) | {"over_at": utc(now).isoformat()})
    return len(ended)


def mark_told(store: Store, alert: Alert, channels: Mapping[str, bool], now: datetime) -> None:
    """Keep which channels took an alert; it is told once all of them did."""
    reached = dict(alert.detail.get("channels", {})) | dict(channels)
    told_at = utc(now) if all(reached.values()) else None
    _write(store, alert, detail=dict(alert.detail) | {"channels": reached}, told_at=told_at)


def _write(store: Store, alert: Alert, **values: Any) -> None:
    with store.transaction() as connection:
        connection.execute(update(insight_alerts).where(insight_alerts.c.id == alert.id).values(**values))


def _alert(row: RowMapping) -> Alert:
    return Alert(**{name: row[name] for name in ("id", "series", "period", "found_at", "detail", "told_at")})
