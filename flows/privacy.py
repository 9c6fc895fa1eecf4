"""Personal data on this machine: every place where it may be, and retention over all of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from serving.spool_erasure import Spool
from undertone import privacy
from undertone.settings import Settings
from undertone.workspace import Workspace


def places(settings: Settings) -> list[Spool]:
    """Where messages are beside the store, MLflow and unfinished trainings."""
    return [Spool(settings.state_dir / "spool")]


def run(workspace: Workspace, now: datetime, days: float, progress: Callable[[str], None]) -> dict[str, Any]:
    """`undertone.privacy.retain` over every place of this machine."""
    return privacy.retain(workspace, now, days, places(workspace.settings), progress=progress)


def text(result: dict[str, Any]) -> str:
    """A run for people."""
    if result["ledger_row"] is None:
        return f"nothing received before {result['before']} has a text, a customer or an embedding left"
    files = "".join(f", {count} in {name}" for name, count in result["files"].items())
    lines = [
        f"received before {result['before']}: {result['texts']:,} texts, {result['customers']:,} customer ids,"
        f" {result['embeddings']:,} embeddings, {result['survey_customers']:,} customers of surveys removed{files};"
        f" texts taken out of {result['redacted']} evidence files (ledger row {result['ledger_row']})",
        *(f"! {sentence}" for sentence in result["left"]),
    ]
    return "\n".join(lines)
