"""The daily pick: messages whose label would teach most go to the reviewers, as many as the queue has room for."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import prefect

from flows.audits import queue_picks
from undertone.records import utc
from undertone.tasks import get_task
from undertone.workspace import Workspace

log = logging.getLogger("undertone.reviews")


@prefect.flow(name="pick reviews", flow_run_name="pick {task}")
def pick_reviews(task: str, room: int = 50, days: float = 7.0, now: datetime | None = None) -> dict[str, Any]:
    """Fill the review queue of a task up to `room` open reviews. Audits and second labels take no room.

    A queue that nobody works on so does not grow, and without a champion nothing is picked.

    Args:
        days: of the messages sent in the last so many days.
        now: the clock; empty: this moment.

    Returns:
        ``open`` reviews that were there, and ``added`` ones.
    """
    workspace, name = Workspace(), get_task(task).name
    now = utc(now) if now else datetime.now(UTC)
    there = sum(row["open"] for row in workspace.reviews.tally(name, now) if row["kind"] == "review")
    added = 0
    if workspace.ledger.champion(name, now) is None:
        log.info("%s has no champion whose answers to review", name)
    elif there < room:
        added = queue_picks(workspace, name, room - there, now, days)
    log.info("%s: %d reviews were open, %d more went to the reviewers", name, there, added)
    return {"open": there, "added": added}
