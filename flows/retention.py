"""Retention as a flow: once a day, texts, customer ids and embeddings past their age are removed."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import prefect

from flows.artifacts import publish
from flows.privacy import run, text
from undertone.workspace import Workspace

log = logging.getLogger("undertone.privacy")


@prefect.flow(name="retain")
def retain(now: datetime | None = None, days: float | None = None) -> dict[str, Any]:
    """Remove what is past the retention of the settings; without one, nothing.

    Args:
        now: the clock; empty: this moment.
        days: of retention; empty: the settings'.
    """
    workspace = Workspace()
    days = workspace.settings.retention_days if days is None else days
    if not days:
        log.info("no retention is set (UNDERTONE_RETENTION_DAYS): texts are kept")
        return {"days": 0}
    result = run(workspace, now or datetime.now(UTC), days, log.info)
    publish("retention", f"# Retention\n\n{text(result)}\n")
    return result | {"days": days}
