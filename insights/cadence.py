"""Cadence: days between model updates, against those that a task's policy wants (14 to 28)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal

from sqlalchemy import RowMapping, select

from insights.counts import view
from undertone.records import utc
from undertone.store import Store
from undertone.tasks import TaskSpec

DAY_S = 86_400.0

#: Of an interval between two updates, and of the time since the last.
Pace = Literal["early", "within", "late"]


@dataclass(frozen=True, slots=True)
class Update:
    """A version that was put into service.

    Attributes:
        kind: approved or rolled_back.
        days_since_last: since the update before, of either kind; None: the task's first.
        days_since_approval: since the approval before; None: the first, or a rollback, which no cadence asks for.
        pace: of the days since the approval before; None with them.
    """

    model_version: int
    kind: str
    at: datetime
    actor: str
    days_since_last: float | None
    days_since_approval: float | None
    pace: Pace | None


@dataclass(frozen=True, slots=True)
class TaskCadence:
    """A task's updates.

    Attributes:
        updates: oldest first.
        intervals: how many times there are between two approvals.
        within: of these, how many are from `min_days` to `max_days`.
        median_days: between approvals; None: fewer than two.
        days_now: since the last approval; None: there was none.
        pace_now: early: the next one is not wanted yet; within: it is; late: it is overdue; None: there was none.
    """

    task: str
    min_days: int
    max_days: int
    updates: tuple[Update, ...]
    intervals: int
    within: int
    median_days: float | None
    days_now: float | None
    pace_now: Pace | None


def cadence(store: Store, specs: Iterable[TaskSpec], now: datetime) -> tuple[TaskCadence, ...]:
    """Each task's updates, in the order of `specs`.

    Raises:
        StoreError: the store is out of reach.
    """
    table = view(store, "model_updates")
    with store.reading() as connection:
        rows = connection.execute(select(table).order_by(table.c.seq)).mappings().all()
    return tuple(_of_task([row for row in rows if row["task"] == spec.name], spec, utc(now)) for spec in specs)


def _of_task(rows: Sequence[RowMapping], spec: TaskSpec, now: datetime) -> TaskCadence:
    updates: list[Update] = []
    approved: datetime | None = None
    for row in rows:
        days = None
        if row["kind"] == "approved":
            days = None if approved is None else (row["at"] - approved).total_seconds() / DAY_S
            approved = row["at"]
        pace = None if days is None else _pace(days, spec)
        updates.append(
            Update(row["model_version"], row["kind"], row["at"], row["actor"], row["days_since_last"], days, pace)
        )
    intervals = [update.days_since_approval for update in updates if update.days_since_approval is not None]
    days_now = None if approved is None else (now - approved).total_seconds() / DAY_S
    return TaskCadence(
        spec.name,
        spec.cadence.min_days,
        spec.cadence.max_days,
        tuple(updates),
        len(intervals),
        sum(update.pace == "within" for update in updates),
        median(intervals) if intervals else None,
        days_now,
        None if days_now is None else _pace(days_now, spec),
    )


def _pace(days: float, spec: TaskSpec) -> Pace:
    if days < spec.cadence.min_days:
        return "early"
    return "within" if days <= spec.cadence.max_days else "late"
