"""Cadence: days between model updates, against those that a task's policy wants (14 to 28)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from undertone.store import Store
from undertone.tasks import TaskSpec

#: Of an interval between two updates, and of the time since the last.
Pace = Literal["early", "within", "late"]


@dataclass(frozen=True, slots=True)
class Update:
    """A version that was put into service.

    Attributes:
        kind: approved or rolled_back.
        days_since_last: None: the task's first.
        pace: of these days; None: the task's first, or a rollback, which no cadence asks for.
    """

    model_version: int
    kind: str
    at: datetime
    actor: str
    days_since_last: float | None
    pace: Pace | None


@dataclass(frozen=True, slots=True)
class TaskCadence:
    """A task's updates.

    Attributes:
        updates: oldest first.
        intervals: between approvals that have a pace.
        within: of these, how many are from `min_days` to `max_days`.
        median_days: of these; None: fewer than two approvals.
        days_now: since the last update; None: there was none.
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
    raise NotImplementedError
