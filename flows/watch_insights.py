"""The watch of what customers say: every few hours it compares the last day and the last week with the four weeks
before, and tells people what changed: once, while it lasts."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.artifacts import publish
from flows.channels import Channels
from insights.alerts import Alert, close_alerts, mark_told, news, read_alerts, record_alerts
from insights.changes import HISTORY, Change, changes
from insights.period import Period
from undertone.confusions import fill_confusions
from undertone.lease import hold
from undertone.records import utc
from undertone.tasks import TASKS
from undertone.workspace import Workspace

log = logging.getLogger("undertone.insights")

#: What is compared with the four weeks before it, the shortest first.
LOOKS = (timedelta(days=1), timedelta(days=7))
#: False discovery rate of one look. Looks are many, so that of a page that a person opens would cry wolf.
ALPHA = 0.01
#: Alerts that are older are not sent to a channel that missed them.
STALE = timedelta(days=7)
#: Seconds that a watch waits for another one.
TURN_S = 60.0
EVENT = "undertone.insight.changed"


@prefect.flow(name="watch insights")
def watch_insights(now: datetime | None = None) -> dict[str, Any]:
    """Find what changed in what customers say, and tell people what they do not know yet.

    Args:
        now: the clock, end of what is looked at; empty: this moment.

    Returns:
        series looked at, those that changed, the news in words, and which channels took them.
    """
    workspace = Workspace()
    now = utc(now) if now else datetime.now(UTC)
    with hold(workspace.store, "watch insights", wait=TURN_S):
        fill_errors(workspace, now)
        looks = look(workspace, now)
        fresh = keep(workspace, looks, now)
        sent = notify(workspace, now)
    every = [change for found in looks for change in found]
    return {
        "series": len({change.series for change in every}),
        "changed": sorted({change.series for change in every if change.verdict == "changed"}),
        "news": [alert.words for alert in fresh],
        "channels": sent,
    }


@prefect.task(name="fill errors", cache_policy=NO_CACHE)
def fill_errors(workspace: Workspace, now: datetime) -> None:
    """Where the store lacks the error counts of a version that answered lately, take them from its training."""
    for spec in TASKS.values():
        fill_confusions(workspace, spec, workspace.store.by_version(spec.name, now - HISTORY - max(LOOKS), now))


@prefect.task(name="look", cache_policy=NO_CACHE)
def look(workspace: Workspace, now: datetime) -> list[tuple[Change, ...]]:
    """Every series of every task, at each look; ends at a full hour."""
    end = now.replace(minute=0, second=0, microsecond=0)
    found = []
    for length in LOOKS:
        period = Period(end - length, end)
        against = replace(period, start=period.start - HISTORY, end=period.start)
        found.append(changes(workspace.store, list(TASKS), period, against=against, alpha=ALPHA))
    return found


@prefect.task(name="keep", cache_policy=NO_CACHE)
def keep(workspace: Workspace, looks: Sequence[Sequence[Change]], now: datetime) -> tuple[Alert, ...]:
    """Close what is over, and record what is news."""
    alerts = read_alerts(workspace.store)
    found = [change for one in looks for change in one]
    close_alerts(workspace.store, found, alerts, now)
    fresh = news(found, alerts, now)
    record_alerts(workspace.store, fresh, now)
    series = {change.series for change in fresh}
    kept = tuple(alert for alert in read_alerts(workspace.store, since=now) if alert.series in series)
    for alert in kept:
        log.info("%s", alert.words)
    return kept


@prefect.task(name="notify", cache_policy=NO_CACHE)
def notify(workspace: Workspace, now: datetime) -> dict[str, bool]:
    """Tell what some channel has not got yet; gives which channels took it all."""
    channels = Channels(workspace.settings, subject, as_text)
    waiting = [alert for alert in read_alerts(workspace.store, since=now - STALE) if alert.told_at is None]
    sent: dict[str, bool] = {}
    for name in channels.names:
        missed = [alert for alert in waiting if not alert.detail.get("channels", {}).get(name, False)]
        if missed:
            sent |= channels.send(message(missed, now), [name])
    for alert in waiting:
        mark_told(workspace.store, alert, sent, now)
    if waiting:
        _emit(message(waiting, now))
        publish("insights", as_markdown(message(waiting, now)))
    return sent


def message(alerts: Sequence[Alert], now: datetime) -> dict[str, Any]:
    """What is sent: JSON-ready, figures and message ids, no customer's text."""
    told = [
        {key: alert.detail[key] for key in _TOLD}
        | {"words": alert.words, "period": [alert.detail["period"][end] for end in ("start", "end")]}
        for alert in alerts
    ]
    return {
        "event": EVENT,
        "id": "insights/" + ",".join(str(alert.id) for alert in sorted(alerts, key=lambda item: item.id)),
        "task": "insights",
        "changes": told,
        "reason": "; ".join(alert.words for alert in alerts),
        "run": flow_run.ui_url,
        "at": now.isoformat(),
    }


_TOLD = ("task", "label", "cut", "value", "before", "after", "difference", "low", "high", "adjusted_p", "examples")


def subject(told: Mapping[str, Any]) -> str:
    """One line for a sent message."""
    first, more = told["changes"][0]["words"], len(told["changes"]) - 1
    return f"{first}; {more} more" if more else str(first)


def as_text(told: Mapping[str, Any]) -> str:
    """A sent message in words."""
    lines = [f"{change['words']}: {change['task']}, {' to '.join(change['period'])}" for change in told["changes"]]
    return "\n".join([*lines, "Next: open the console's page of changes for the messages behind it."])


def as_markdown(told: Mapping[str, Any]) -> str:
    """A sent message as a page."""
    return "\n".join(["# What customers say changed", "", *(f"- {line}" for line in as_text(told).split("\n")), ""])


def _emit(told: Mapping[str, Any]) -> None:
    """Prefect's event, inside a run; the same told twice is one event."""
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        emit_event(
            EVENT,
            resource={"prefect.resource.id": "undertone.insights", "prefect.resource.name": "insights"},
            payload=dict(told),
            id=uuid.uuid5(uuid.NAMESPACE_URL, told["id"]),
        )
