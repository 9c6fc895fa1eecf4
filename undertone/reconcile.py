"""Does the registry still look as the ledger says? Whatever the ledger does not explain is a finding.

A finding is written into the ledger once, when it appears, and once more when it is gone; until then it is open.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from undertone import signing, trials
from undertone.errors import RegistryError, StoreError, UndertoneError
from undertone.evidence import read_evidence
from undertone.governance import fetch
from undertone.keys import Trust
from undertone.ledger import EVERY_TASK
from undertone.model_folder import MODEL
from undertone.records import LedgerEntry
from undertone.registry import ModelVersion
from undertone.signing import ORDER, SIGNATURE, Statement
from undertone.tasks import TASKS
from undertone.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the ledger does not explain. ``what`` is short and fixed, ``detail`` says the rest."""

    task: str
    version: int | None
    what: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What one look found: every open finding, and which of them are new or gone since the look before."""

    open: tuple[Finding, ...]
    new: tuple[Finding, ...]
    cleared: tuple[LedgerEntry, ...]


def reconcile(workspace: Workspace, now: datetime, actor: str = "reconciler") -> Reconciliation:
    """Look once, and write what is new and what is gone into the ledger.

    Raises:
        RegistryError: MLflow is out of reach: then nothing was compared, and nothing counts as gone.
    """
    found = tuple(findings(workspace))
    before = {_key(row): row for row in open_findings(workspace)}
    new = tuple(item for item in found if (item.task, item.version, item.what) not in before)
    now_open = {(item.task, item.version, item.what) for item in found}
    cleared = tuple(row for key, row in before.items() if key not in now_open)
    common: dict[str, Any] = {"at": now, "actor": actor}
    for item in new:
        seen = {"what": item.what}
        workspace.ledger.append("finding", item.task, reason=item.detail, version=item.version, payload=seen, **common)
    for row in cleared:
        gone = {"what": row.payload["what"], "finding": row.seq}
        workspace.ledger.append(
            "finding_cleared", row.task, reason="no longer so", version=row.version, payload=gone, **common
        )
    return Reconciliation(found, new, cleared)


def open_findings(workspace: Workspace) -> list[LedgerEntry]:
    """Rows of the findings that are not gone yet, oldest first."""
    opened: dict[Any, LedgerEntry] = {}
    for row in workspace.ledger.entries(kinds=["finding", "finding_cleared"]):
        if row.kind == "finding":
            opened[_key(row)] = row
        else:
            opened.pop(_key(row), None)
    return list(opened.values())


def findings(workspace: Workspace) -> Iterator[Finding]:
    """Everything that is not as the ledger says, at this moment."""
    try:
        workspace.ledger.verify()
    except StoreError as error:
        yield Finding(EVERY_TASK, None, "the ledger is broken", error.found)
    for task in TASKS:
        versions = {item.version: item for item in workspace.registry.versions(task)}
        yield from _alias(workspace, task)
        yield from _versions(workspace, task, versions)
        yield from _champion(workspace, task, versions)
        yield from _trial(workspace, task)


def _alias(workspace: Workspace, task: str) -> Iterator[Finding]:
    row, alias = workspace.ledger.champion(task), workspace.registry.champion_version(task)
    expected = row.version if row else None
    if alias != expected:
        ours = f"row {row.seq} of the ledger made version {expected} the champion" if row else "the ledger knows none"
        yield Finding(
            task, alias, "alias moved outside the ledger", f"the alias names {alias or 'no version'}, but {ours}"
        )


def _versions(workspace: Workspace, task: str, versions: dict[int, ModelVersion]) -> Iterator[Finding]:
    """Approved versions that are gone, and tags that say what the ledger does not."""
    gates: dict[int, LedgerEntry] = {}
    approvals: dict[int, LedgerEntry] = {}
    for row in workspace.ledger.entries(task, ["gate", "approved"]):
        if row.version is not None:
            (gates if row.kind == "gate" else approvals)[row.version] = row
    for version in sorted(approvals.keys() - versions.keys()):
        detail = f"approved in row {approvals[version].seq}, and not in MLflow any more"
        yield Finding(task, version, "approved version deleted", detail)
    for version, item in sorted(versions.items()):
        gate, approval = gates.get(version), approvals.get(version)
        said = {
            "undertone.gate": ("passed" if gate.payload.get("passed") else "failed") if gate else None,
            "undertone.approved_by": approval.actor if approval else None,
        }
        for tag, expected in said.items():
            found = item.tags.get(tag)
            if found != expected and found is not None:
                detail = f"{tag} says {found!r}; the ledger says {expected or 'nothing'}"
                yield Finding(task, version, f"forged tag {tag}", detail)


def _champion(workspace: Workspace, task: str, versions: dict[int, ModelVersion]) -> Iterator[Finding]:
    """The champion's bytes, approval, order and evidence."""
    row = workspace.ledger.champion(task)
    if row is None or row.version not in versions:
        return
    version = row.version
    with tempfile.TemporaryDirectory(prefix="undertone-reconcile-") as scratch:
        copy = Path(scratch)
        try:
            statement = fetch(workspace, task, version, copy)
            yield from _order(workspace, row, statement, copy)
        except RegistryError as error:
            workspace.registry.versions(task)  # raises where MLflow is out of reach: that is no finding
            yield Finding(task, version, "champion's files or approval gone", error.found)
        except UndertoneError as error:
            detail = f"expected {error.expected}; found {error.found}"
            yield Finding(task, version, "champion does not verify", detail)
    for problem in read_evidence(workspace, task, version).problems:
        yield Finding(task, version, f"evidence changed: {problem.split()[0]}", problem)


def _trial(workspace: Workspace, task: str) -> Iterator[Finding]:
    """The running trial's bytes, statement and order."""
    trial = trials.running(workspace.ledger, task)
    if trial is None:
        return
    with tempfile.TemporaryDirectory(prefix="undertone-reconcile-") as scratch:
        copy = Path(scratch)
        try:
            order = trial.order()
            trials.check_order(workspace.ledger, trial, order)
            workspace.registry.fetch_trial(task, order.version, copy)
            workspace.registry.download(task, order.version, copy / MODEL)
            signing.verify_trial(copy / MODEL, copy / SIGNATURE, order, Trust.of(workspace.settings))
        except RegistryError as error:
            workspace.registry.versions(task)  # raises where MLflow is out of reach: that is no finding
            yield Finding(task, trial.version, "trial's files or signature gone", error.found)
        except UndertoneError as error:
            detail = f"expected {error.expected}; found {error.found}"
            yield Finding(task, trial.version, "trial does not verify", detail)


def _order(workspace: Workspace, row: LedgerEntry, statement: Statement, copy: Path) -> Iterator[Finding]:
    order = signing.read_order(copy / ORDER, row.task, statement.version)
    signing.verify_order(order, statement, Trust.of(workspace.settings))
    recorded = row.payload.get("order")
    if recorded != order.model_dump(mode="json"):
        detail = f"the order with the version has serial {order.serial}; row {row.seq} names another"
        yield Finding(row.task, row.version, "order differs from the ledger's", detail)
    misfit = workspace.ledger.misfit(row.task, order.serial, order.ledger_hash)
    if misfit is not None:
        yield Finding(row.task, row.version, "order does not fit the ledger", misfit)


def _key(row: LedgerEntry) -> tuple[str, int | None, str]:
    return row.task, row.version, str(row.payload.get("what"))
