"""The reconciler as a flow: it runs every hour, and a run with open findings fails, so that everybody sees it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import prefect

from flows.artifacts import publish
from undertone.errors import DecisionError
from undertone.reconcile import Reconciliation
from undertone.reconcile import reconcile as look
from undertone.workspace import Workspace


@prefect.flow(name="reconcile")
def reconcile(now: datetime | None = None) -> dict[str, Any]:
    """Compare the registry with the ledger; gives the open findings.

    Raises:
        DecisionError: there are open findings.
    """
    found = look(Workspace(), now or datetime.now(UTC))
    publish("reconcile", as_markdown(found))
    if found.open:
        raise DecisionError(
            "a registry as the ledger says",
            "; ".join(f"{item.task} {item.version or ''}: {item.what}" for item in found.open),
            "`undertone ledger reconcile` says more, `undertone ledger show --kind finding` since when",
        )
    return as_dict(found)


def as_dict(found: Reconciliation) -> dict[str, Any]:
    """JSON-ready values."""
    return {
        "open": [asdict(item) for item in found.open],
        "new": [asdict(item) for item in found.new],
        "cleared": [{"task": row.task, "version": row.version, **row.payload} for row in found.cleared],
    }


def as_markdown(found: Reconciliation) -> str:
    """A page for Prefect."""
    if not found.open:
        return "# Registry and ledger agree\n"
    rows = [f"| {item.task} | {item.version or ''} | {item.what} | {item.detail} |" for item in found.open]
    return "\n".join(
        ["# The ledger does not explain this", "", "| task | version | what | detail |", "|---|---|---|---|", *rows, ""]
    )
