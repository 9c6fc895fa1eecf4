"""What the retrain policy looks at, read from the ledger and the store; and a person's order to it.

A retrain that the watch starts leaves a row before it begins, with all that it takes to begin it again. It has ended
once the gate judged its version or it failed; a row after which nothing of that came is of a training that was killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import false, func, select

from monitoring.audit import AuditResult
from monitoring.policy import Asked, Situation
from undertone import identity
from undertone.errors import DecisionError
from undertone.governance import Act
from undertone.lease import live
from undertone.records import DriftVerdict, LedgerEntry, utc
from undertone.schema import feedback, messages
from undertone.store import Store
from undertone.tasks import TaskSpec, get_task
from undertone.workspace import Workspace

#: Who writes the watch's rows: what it saw, drew, decided and told.
WATCH = "drift-watch"

#: Who trains when the policy says so; the ledger's rows of such trainings carry this name.
TRAINER = "retrain-policy"

#: Rows of the ledger that tell what became of trainings.
KINDS = ("registered", "gate", "rejected", "training_failed", "retrain", "retrain_asked")


@dataclass(frozen=True, slots=True)
class Killed:
    """A retrain that was started and ended neither in a judged version nor in a failure.

    Attributes:
        at: the clock with which it was first started.
        training: arguments of `flows.retrain.retrain`, as the ledger keeps them.
    """

    at: datetime
    training: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trainings:
    """What the ledger says of a task's trainings; times as `monitoring.policy.Situation` wants them."""

    last_model_at: datetime | None
    killed: Killed | None
    failed_at: datetime | None
    started: tuple[datetime, ...]
    cpu_hours: float
    asked: Asked | None


def lease(task: str) -> str:
    """Name of the lease that a training of `task` holds."""
    return f"train {task}"


def read_situation(
    workspace: Workspace,
    spec: TaskSpec,
    *,
    now: datetime,
    trained_at: datetime | None = None,
    verdict: DriftVerdict | None = None,
    audit: AuditResult | None = None,
) -> tuple[Situation, Killed | None]:
    """The situation at `now`, and the killed retrain that may go on.

    Args:
        trained_at: when the champion was trained, by its own card: counts where the ledger has no training of the task.
    """
    rows = workspace.ledger.entries(spec.name, KINDS)
    known = read_trainings(rows, now, timedelta(days=spec.cadence.max_days))
    last_model_at = known.last_model_at or trained_at
    watched = workspace.ledger.latest(spec.name, ["drift"])
    situation = Situation(
        now=now,
        last_model_at=last_model_at,
        last_watch_at=watched.at if watched else None,
        verdict=verdict,
        audit=audit,
        fresh_labels=fresh_labels(workspace.store, spec.name, last_model_at, now),
        retraining=live(workspace.store, lease(spec.name), datetime.now(UTC)),
        unfinished_at=known.killed.at if known.killed else None,
        failed_at=known.failed_at,
        trainings=known.started,
        cpu_hours=known.cpu_hours,
        asked=known.asked,
    )
    return situation, known.killed


def ask_retrain(workspace: Workspace, task: str, act: Act) -> LedgerEntry:
    """A person's order to retrain `task` at the next watch, whatever cadence, cooldown and budget say.

    Raises:
        DecisionError: no reason is given, or the key is not that of a trusted approver.
        ConfigError: there is no such task, or no usable key.
    """
    get_task(task)
    if not act.reason.strip():
        raise DecisionError("a reason for an override of the cadence", "none", "say why: `--reason '…'`")
    signer = identity.approver(workspace.settings, act.actor, act.passphrase, act.mlflow_user)
    return workspace.ledger.append("retrain_asked", task, at=act.at, actor=signer.name, reason=act.reason)


def read_trainings(rows: Sequence[LedgerEntry], now: datetime, longest: timedelta) -> Trainings:
    """Fold a task's rows of `KINDS`, in the ledger's order. Pure.

    The order of rows counts, not their times: a clock that was set forward once, or back, is forgotten with the next
    row.

    Args:
        longest: back from `now` to which processor hours count.
    """
    last_model_at: datetime | None = None
    begun: LedgerEntry | None = None  # the newest start that has not ended
    newest: LedgerEntry | None = None  # the newest start
    failed_at: datetime | None = None
    asked: Asked | None = None
    started: list[datetime] = []
    own: set[int] = set()  # versions that the policy trained
    cpu_s = 0.0
    for row in rows:
        if abs(now - row.at) < longest:
            cpu_s += float((row.payload.get("spent") or {}).get("cpu_s") or 0)
        if row.kind == "retrain_asked":
            asked = Asked(row.actor, row.reason, row.at)
        elif row.kind == "retrain" and row.payload.get("started"):
            begun = newest = row
            asked = None
            started.append(row.at)
        elif row.kind == "registered":
            last_model_at, asked = row.at, None
            if row.actor == TRAINER and row.version is not None:
                own.add(row.version)
            elif row.actor != TRAINER:
                begun = None  # a person trained meanwhile: what was killed is of yesterday
        elif _ends(row):
            begun = None
        if _failed(row, own):
            # a resumed training carries the clock with which it first began; it failed after it was resumed
            failed_at = max(row.at, newest.at) if newest and row.kind != "rejected" else row.at
    return Trainings(last_model_at, _killed(begun), failed_at, tuple(started), cpu_s / 3_600, asked)


def fresh_labels(store: Store, task: str, since: datetime | None, until: datetime) -> int:
    """Messages that people labelled after `since` and until `until`.

    Labels that the model suggested do not count, nor do those from which nothing is learned: those of a second person,
    and of a text that retention has removed.
    """
    query = (
        select(func.count(feedback.c.message_id.distinct()))
        .join(messages, messages.c.id == feedback.c.message_id)
        .where(
            feedback.c.task == task,
            feedback.c.suggested == false(),
            feedback.c.origin != "second",
            feedback.c.labelled_at <= utc(until),
            messages.c.text_removed_at.is_(None),
        )
    )
    if since is not None:
        query = query.where(feedback.c.labelled_at > utc(since))
    with store.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _ends(row: LedgerEntry) -> bool:
    """Whether the training that began last has ended with this row; one that was stopped by a signal goes on."""
    if row.kind == "training_failed":
        return row.actor == TRAINER and not row.payload.get("stopped")
    return row.kind == "gate"


def _failed(row: LedgerEntry, own: set[int]) -> bool:
    """Whether a training of the policy ended in nothing that may serve. People's own trainings cool nothing down."""
    if row.kind == "training_failed":
        return row.actor == TRAINER and not row.payload.get("stopped")
    return row.version in own and (row.kind == "rejected" or (row.kind == "gate" and not row.payload.get("passed")))


def _killed(begun: LedgerEntry | None) -> Killed | None:
    if begun is None:
        return None
    training = begun.payload.get("training") or {}
    return Killed(utc(datetime.fromisoformat(training["now"])), training) if "now" in training else None
