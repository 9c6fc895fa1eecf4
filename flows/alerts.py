"""Alerts: what `monitoring.incidents` has people told, by webhook, notification block and Prefect event, once each.

The ledger keeps every message with the channels that got it. What a channel did not get is tried again at the next
watch, in order; a message's ``id`` stays the same, so a receiver can tell a repeat after a killed watch.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import prefect
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.artifacts import publish
from flows.channels import Channels
from flows.situation import WATCH
from monitoring.incidents import KINDS, News, as_markdown, as_text, news, subject, undelivered
from monitoring.policy import RetrainDecision
from undertone.errors import UndertoneError
from undertone.lease import hold
from undertone.records import DriftVerdict, utc
from undertone.tasks import TaskSpec
from undertone.text import repair
from undertone.workspace import Workspace

log = logging.getLogger("undertone.alerts")

#: Seconds to wait for another watch that tells people now.
PATIENCE = 60.0


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
    channels = Channels(workspace.settings, subject, as_text)
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
