"""TEMPORARY: stand-in until reconcile lands."""

from __future__ import annotations

from undertone.records import LedgerEntry
from undertone.workspace import Workspace


def open_findings(workspace: Workspace) -> list[LedgerEntry]:
    return []
