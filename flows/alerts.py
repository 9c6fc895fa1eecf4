"""Alerts: what `monitoring.incidents` has people told, by webhook, notification block and Prefect event, once each.

The ledger keeps every message with the channels that got it. What a channel did not get is tried again at the next
watch, in order; a message's ``id`` stays the same, so a receiver can tell a repeat after a killed watch.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import prefect
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.artifacts import publish
from flows.situation import WATCH
from monitoring.incidents import KINDS, News, as_markdown, as_text, news, subject, undelivered
from monitoring.policy import RetrainDecision
from undertone.errors import UndertoneError
from undertone.lease import hold
from undertone.records import DriftVerdict, utc
from undertone.settings import Settings
from undertone.tasks import TaskSpec
from undertone.text import repair
from undertone.workspace import Workspace

log = logging.getLogger("undertone.alerts")

#: Seconds a receiver has for each step of an answer, and those between the tries.
TIMEOUT = 5.0
PAUSES = (0.5, 1.5)
#: Seconds to wait for another watch that tells people now.
PATIENCE = 60.0

_WEBHOOK = "webhook"


def notify(
    workspace: Workspace,
    spec: TaskSpec,
    verdict: DriftVerdict,
    decision: RetrainDecision,
    page: Path | None,
    now: datetime,
) -> None:
    """Tell people what the watch just recorded has them told; most watches tell nothing.

    Call it when the ledger has the watch's row. It raises nothing because a channel, or the store, is out of reach.

    Args:
        page: the report's first page; None: there is none.
        now: the clock of the watch, as in its row.
    """
    try:
        with hold(workspace.store, f"alert {spec.name}", wait=PATIENCE):
            _tell(workspace, spec, verdict, decision, page, utc(now))
    except UndertoneError as error:
        log.warning("%s: people are told at the next watch: %s", spec.name, error)


@prefect.flow(name="tell", flow_run_name="tell {message[task]}")
def tell(message: dict[str, Any]) -> None:
    """Keep an incident's page in Prefect; an automation runs it for every event of `monitoring.incidents.EVENTS`."""
    publish(f"incident-{message['task']}", as_markdown(message))


def _tell(
    workspace: Workspace,
    spec: TaskSpec,
    verdict: DriftVerdict,
    decision: RetrainDecision,
    page: Path | None,
    now: datetime,
) -> None:
    rows = workspace.ledger.entries(spec.name, KINDS)
    channels = _Channels(workspace.settings)
    for row, missed in undelivered(rows):
        again = channels.send(row.payload, [name for name in missed if name in channels.names])
        if any(again.values()):
            workspace.ledger.append(
                row.kind,
                row.task,
                at=now,
                actor=row.actor,
                version=row.version,
                reason=f"told late: {row.reason}",
                payload={key: row.payload[key] for key in ("incident", "kind", "step")}
                | {"of": row.seq, "channels": again},
            )
    for item in news(rows, ask_labels=decision.ask_labels):
        mine = (item.look.at, item.look.version) == (now, verdict.model_version)
        message = _message(item, decision if mine else None, page if mine else None)
        _emit(message)
        workspace.ledger.append(
            item.ledger_kind,
            spec.name,
            at=now,
            actor=WATCH,
            version=item.version,
            reason=item.reason,
            payload=message | {"channels": channels.send(message, channels.names)},
        )


def _message(item: News, decision: RetrainDecision | None, page: Path | None) -> dict[str, Any]:
    """What is sent: JSON-ready, and no customer's text."""
    look = item.look.payload
    told: dict[str, Any] | None = None
    if decision is not None:
        told = {"retrain": decision.retrain, "rule": decision.rule, "reason": repair(decision.reason)}
    return {
        "event": item.event,
        "id": f"{item.incident}/{item.step}",
        "incident": item.incident,
        "kind": item.kind,
        "step": item.step,
        "task": item.look.task,
        "version": item.version,
        "verdict": look.get("verdict"),
        "reason": told["reason"] if told is not None and item.kind == "labels" else item.reason,
        "decision": told,
        "window": look.get("window"),
        "report": str(page) if page is not None else look.get("report"),
        "run": flow_run.ui_url,
        "at": item.look.at.isoformat(),
    }


class _Channels:
    """The webhook and the notification blocks of the settings. One that fails gets nothing more in this watch."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.webhook_url
        self.names = [*([_WEBHOOK] if self.url else []), *settings.notification_blocks]
        self.down: set[str] = set()

    def send(self, message: Mapping[str, Any], names: list[str]) -> dict[str, bool]:
        """Send to the named channels; gives which of them took it."""
        return {name: self._sent(name, message) for name in names}

    def _sent(self, name: str, message: Mapping[str, Any]) -> bool:
        if name in self.down:  # what it missed comes first at the next watch: people read in order
            return False
        problem = _post(self.url, message) if name == _WEBHOOK else _through_block(name, message)
        if problem:
            self.down.add(name)
            where = f"webhook at {_host(self.url)}" if name == _WEBHOOK else name
            log.warning("%s: %s did not take %s: %s", message["task"], where, message["event"], problem)
        return not problem


def _post(url: str, message: Mapping[str, Any]) -> str:
    """Post as JSON, three tries; gives the problem, or nothing. The address is secret: problems do not name it."""
    body = {key: value for key, value in message.items() if key != "channels"}
    problem = ""
    for pause in (*PAUSES, None):
        try:
            with _quiet_httpx():
                status = httpx.post(url, json=body, timeout=TIMEOUT).status_code
            if status < 300:
                return ""
            problem = f"HTTP status {status}"
            if status < 500 and status != 429:  # the same again would not help
                return problem
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = type(error).__name__
        if pause is not None:
            time.sleep(pause)
    return problem


def _through_block(name: str, message: Mapping[str, Any]) -> str:
    """Send through a Prefect notification block, ``type/name``; gives the problem, or nothing."""
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block

    try:
        block = Block.load(name)
        if not isinstance(block, NotificationBlock):
            return "it is no notification block"
        with _quiet_httpx(), block.raise_on_failure():
            sent: object = block.notify(as_text(message), subject(message))
            if inspect.iscoroutine(sent):  # a block of somebody's own may know async only
                asyncio.run(sent)
    except Exception as error:  # noqa: BLE001 - blocks are other people's code, and an alert must not end the watch
        return type(error).__name__
    return ""


def _emit(message: Mapping[str, Any]) -> None:
    """Prefect's event, inside a run. Its id is the message's, so the same told twice is one event."""
    if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
        emit_event(
            message["event"],
            resource={
                "prefect.resource.id": f"undertone.task.{message['task']}",
                "prefect.resource.name": message["task"],
                "undertone.version": str(message["version"]),
            },
            payload=dict(message),
            id=uuid.uuid5(uuid.NAMESPACE_URL, message["id"]),
        )


@contextmanager
def _quiet_httpx() -> Iterator[None]:
    """Keep httpx from logging the whole address of a request: a webhook's address is its secret."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("httpx")
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host or "no host"
    except httpx.InvalidURL:
        return "no readable address"
