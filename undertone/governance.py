"""Acts of a person on a model version: approve, reject, roll back, freeze. Each leaves a row in the ledger.

An approval downloads the registered bytes, checks that they are the ones the gate judged and that the approver did not
train them, signs them and the order to serve them with the approver's key, keeps both in MLflow, writes the ledger and
only then moves the alias. The serving worker trusts the signatures, not the alias.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from undertone import identity, signing, trials
from undertone.card_description import APPROVAL_HEADING, description
from undertone.engine import Engine
from undertone.errors import DecisionError, UndertoneError
from undertone.evidence import read_evidence
from undertone.identity import Signer
from undertone.keys import Trust
from undertone.lease import hold
from undertone.model_folder import CARD, MODEL, STATEMENT, ModelCardData, digest, manifest, refuse_code
from undertone.records import LedgerEntry
from undertone.signing import ORDER, SIGNATURE, Claim, Order, Statement
from undertone.tasks import get_task
from undertone.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something to a model version, why and when.

    Attributes:
        passphrase: of the actor's private key; None: the settings'.
        mlflow_user: whom MLflow's basic-auth knows the actor as, where the caller has asked already.
    """

    actor: str
    reason: str
    at: datetime
    passphrase: str | None = field(default=None, repr=False)
    mlflow_user: str | None = None


def approve(workspace: Workspace, task: str, version: int, act: Act, *, override: bool = False) -> LedgerEntry:
    """Sign `version` and make it the champion.

    Args:
        override: approve although the gate failed or a person rejected it; needs a reason.

    Raises:
        DecisionError: the gate did not pass it (or never judged these bytes, or judged them against another champion)
            and there is no override, promotion of the task is frozen, or the actor trained it and duties are separated.
        RegistryError: no such version, or MLflow is out of reach.
        ConfigError: there is no key to sign with.
    """
    get_task(task)
    if override:
        need_reason(act, "an override", "`--override --reason '…'`")
    signer = approver(workspace, act)
    refuse_frozen(workspace, task)
    workspace.registry.get(task, version)
    with promoting(workspace, task), tempfile.TemporaryDirectory(prefix="undertone-approve-") as scratch:
        copy = Path(scratch)
        folder = workspace.registry.download(task, version, copy / MODEL)
        refuse_code(folder)
        card = ModelCardData.read(folder)
        manifest_sha256 = digest(manifest(folder))
        gate = gate_row(workspace, task, version, manifest_sha256, override)
        text = _card_text(workspace, task, version, gate, act, override)
        said = told(workspace, task, version, card, manifest_sha256, gate.payload, act, override)
        statement = Statement(**said, card_sha256=hashlib.sha256(text.encode()).hexdigest() if text else None)
        refuse_own(statement, workspace)
        signing.sign(folder, statement, signer, copy / SIGNATURE)
        signing.verify(folder, copy / SIGNATURE, Trust.of(workspace.settings), task, version)
        if text:
            (copy / CARD).write_text(text, encoding="utf-8")
        evidence = {"override": override, "gate_row": gate.seq}
        entry = _promote(workspace, "approved", statement, copy, signer, act, evidence)
        workspace.registry.tag(task, version, {"undertone.approved_by": act.actor})
        if text:
            workspace.registry.describe(task, version, description(text))
    return entry


def reject(workspace: Workspace, task: str, version: int, act: Act) -> LedgerEntry:
    """Turn `version` down; it can then be approved only with an override.

    Raises:
        DecisionError: it serves now (roll back instead), or no reason is given.
    """
    get_task(task)
    need_reason(act, "a rejection")
    approver(workspace, act)
    found = workspace.registry.get(task, version)
    if found.champion:
        raise DecisionError(
            "a version that does not serve", f"{task} {version} is the champion", f"`undertone models rollback {task}`"
        )
    entry = workspace.ledger.append("rejected", task, at=act.at, actor=act.actor, reason=act.reason, version=version)
    trial = trials.running(workspace.ledger, task)
    if trial is not None and trial.version == version:
        end_early(workspace, trial, act, f"the version was rejected: {act.reason}")
    workspace.registry.tag(task, version, {"undertone.rejected_by": act.actor})
    return entry


def rollback(workspace: Workspace, task: str, act: Act) -> LedgerEntry:
    """Put back the last approved version before the champion that still verifies, loads and scores; freeze the task.

    Raises:
        DecisionError: there is none, or no reason is given.
    """
    get_task(task)
    need_reason(act, "a rollback")
    signer = approver(workspace, act)
    with promoting(workspace, task):
        current = workspace.registry.champion_version(task)
        failures: list[str] = []
        for version in _approved_before(workspace, task, current):
            with tempfile.TemporaryDirectory(prefix="undertone-rollback-") as scratch:
                copy = Path(scratch)
                try:
                    statement = fetch(workspace, task, version, copy)
                    Engine(copy / MODEL).smoke()
                except UndertoneError as error:
                    failures.append(f"{version}: {error}")
                    continue
                entry = _promote(workspace, "rolled_back", statement, copy, signer, act, {"passed_over": failures})
            freeze(workspace, task, act)
            return entry
    raise DecisionError(
        f"an earlier approved version of {task!r} that still verifies",
        "; ".join(failures) or "none",
        f"approve one: `undertone models list {task}`",
    )


def freeze(workspace: Workspace, task: str, act: Act) -> LedgerEntry:
    """Stop every promotion of `task`, automatic or by hand, until `unfreeze`. Rolling back stays possible.

    Raises:
        DecisionError: no reason is given.
    """
    get_task(task)
    need_reason(act, "a freeze")
    approver(workspace, act)
    return workspace.ledger.append("frozen", task, at=act.at, actor=act.actor, reason=act.reason)


def unfreeze(workspace: Workspace, task: str, act: Act) -> LedgerEntry:
    """Allow promotions of `task` again.

    Raises:
        DecisionError: it is not frozen, or no reason is given.
    """
    get_task(task)
    need_reason(act, "lifting a freeze")
    approver(workspace, act)
    if frozen(workspace, task) is None:
        raise DecisionError(f"a frozen task {task!r}", "one that is not", "nothing to do")
    return workspace.ledger.append("unfrozen", task, at=act.at, actor=act.actor, reason=act.reason)


def frozen(workspace: Workspace, task: str) -> LedgerEntry | None:
    """The row that froze `task`, or None while promotions are allowed."""
    last = workspace.ledger.latest(task, ["frozen", "unfrozen"])
    return last if last is not None and last.kind == "frozen" else None


def claim(workspace: Workspace, task: str, manifest_sha256: str, data_sha256: str, trainer: str) -> Claim | None:
    """The trainer's signature under new bytes; None where duties are not separated.

    Raises:
        ConfigError: duties are separated, and the trainer has no key.
    """
    signer = identity.trainer(workspace.settings, trainer)
    if signer is None:
        return None
    unsigned = Claim(task=task, manifest_sha256=manifest_sha256, data_sha256=data_sha256, trainer=trainer)
    return unsigned.sign(signer)


def fetch(workspace: Workspace, task: str, version: int, into: Path) -> Statement:
    """Fetch an approved version as the worker would (model, signature, order, card) and verify its approval.

    Raises:
        VerificationError: anything does not hold.
        RegistryError: no such version, no approval, or MLflow is out of reach.
    """
    workspace.registry.download(task, version, into / MODEL)
    workspace.registry.fetch_approval(task, version, into)
    return signing.verify(into / MODEL, into / SIGNATURE, Trust.of(workspace.settings), task, version)


def _promote(
    workspace: Workspace,
    kind: Literal["approved", "rolled_back"],
    statement: Statement,
    copy: Path,
    signer: Signer,
    act: Act,
    evidence: dict[str, Any],
) -> LedgerEntry:
    """Order, approval's files, ledger, alias, in this order: a crash in between serves nothing that is not recorded."""
    task, version = statement.task, statement.version
    trial = trials.running(workspace.ledger, task)
    order = Order(**ordered(workspace, statement, signer, act), kind=kind).sign(signer)
    (copy / ORDER).write_text(order.model_dump_json(indent=2) + "\n", encoding="utf-8")
    names = (f"{MODEL}/{STATEMENT}", SIGNATURE, ORDER, CARD)
    workspace.registry.put_approval(task, version, *(copy / name for name in names if (copy / name).is_file()))
    entry = workspace.ledger.append(
        kind,
        task,
        at=act.at,
        actor=signer.name,
        reason=act.reason,
        version=version,
        payload={
            "manifest_sha256": statement.manifest_sha256,
            "replaces": workspace.registry.champion_version(task),
            "order": order.model_dump(mode="json"),
            **evidence,
        },
    )
    workspace.registry.set_champion(task, version)
    if trial is not None:
        end_early(workspace, trial, act, f"version {version} was {kind.replace('_', ' ')} (row {entry.seq})")
    return entry


def told(
    workspace: Workspace,
    task: str,
    version: int,
    card: ModelCardData,
    manifest_sha256: str,
    gate: dict[str, Any],
    act: Act,
    override: bool,
) -> dict[str, Any]:
    """What every statement says of a version."""
    return {
        "task": task,
        "version": version,
        "manifest_sha256": manifest_sha256,
        "data_sha256": card.lineage.data_sha256,
        "rows": card.lineage.rows,
        "commit": card.lineage.commit,
        "lock_sha256": card.lineage.lock_sha256,
        "trainer": card.lineage.trainer,
        "gate": gate,
        "approver": act.actor,
        "approved_at": act.at,
        "reason": act.reason,
        "override": override,
        "claim": _claim_of(workspace, task, version),
    }


def ordered(workspace: Workspace, statement: Statement, signer: Signer, act: Act) -> dict[str, Any]:
    """What every order says: whose word it is on the version of `statement`, and how far the ledger was."""
    serial, head = workspace.ledger.head()
    return {
        "task": statement.task,
        "version": statement.version,
        "manifest_sha256": statement.manifest_sha256,
        "serial": serial,
        "ledger_hash": head,
        "approver": signer.name,
        "at": act.at,
        "reason": act.reason,
    }


def end_early(workspace: Workspace, trial: trials.Trial, act: Act, reason: str) -> None:
    """End a trial that another act makes pointless."""
    trials.end(workspace.ledger, trial, at=act.at, actor=act.actor, reason=reason, automatic=True)


@contextmanager
def promoting(workspace: Workspace, task: str) -> Iterator[None]:
    """One promotion of a task at a time: their orders are numbered by the ledger."""
    with hold(workspace.store, f"promote {task}", seconds=60):
        yield


def approver(workspace: Workspace, act: Act) -> Signer:
    """Who acts, proven; raises `ConfigError` or `DecisionError` where they are no approver."""
    return identity.approver(workspace.settings, act.actor, act.passphrase, act.mlflow_user)


def need_reason(act: Act, what: str, how: str = "`--reason '…'`") -> None:
    """Raises `DecisionError` where the act gives no reason."""
    if not act.reason.strip():
        raise DecisionError(f"a reason for {what}", "none", f"say why: {how}")


def refuse_frozen(workspace: Workspace, task: str) -> None:
    """Raises `DecisionError` while the task is frozen."""
    row = frozen(workspace, task)
    if row is not None:
        raise DecisionError(
            f"a task {task!r} whose promotion is not frozen",
            f"a freeze by {row.actor} at {row.at:%Y-%m-%d %H:%M}Z: {row.reason}",
            f"lift it: `undertone models unfreeze {task} --reason '…'`",
        )


def refuse_own(statement: Statement, workspace: Workspace) -> None:
    """Duties, told as a decision: the worker asks the same of whatever is signed."""
    try:
        signing.check_duties(statement, Trust.of(workspace.settings))
    except UndertoneError as error:
        raise DecisionError(error.expected, error.found, error.next_step.removeprefix("do not serve it; ")) from error


def _claim_of(workspace: Workspace, task: str, version: int) -> Claim | None:
    row = workspace.ledger.latest(task, ["registered"], version)
    value = row.payload.get("claim") if row else None
    return Claim.model_validate(value) if value else None


def _card_text(
    workspace: Workspace, task: str, version: int, gate: LedgerEntry, act: Act, override: bool
) -> str | None:
    """The model card with the approval added: frozen from now on. None where training left no card.

    Raises:
        DecisionError: evidence that the gate named is gone or was changed.
    """
    if not gate.payload.get("evidence"):
        return None
    evidence = read_evidence(workspace, task, version)
    if evidence.problems:
        raise DecisionError(
            f"the evidence on which the gate judged {task} {version}",
            "; ".join(evidence.problems),
            f"train again: `undertone train {task}`",
        )
    if CARD not in evidence.files:
        return None
    how = "by override, although the gate or a person refused it" if override else "as the gate passed it"
    reason = " ".join(act.reason.split()) or "none given"
    lines = [
        APPROVAL_HEADING,
        "",
        f"Approved {how}, by `{act.actor}` at {act.at:%Y-%m-%d %H:%M} UTC. Reason: {_plain(reason)}",
    ]
    return evidence.files[CARD].decode("utf-8").rstrip() + "\n\n" + "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """`text` without the characters that mean something in Markdown or HTML."""
    return "".join(f"\\{character}" if character in "\\`*_{}[]()<>#+!|&" else character for character in text)


def gate_row(workspace: Workspace, task: str, version: int, manifest_sha256: str, override: bool) -> LedgerEntry:
    """The gate's row that lets `version` pass, or that an override overrules; raises `DecisionError` without one."""
    gate = workspace.ledger.latest(task, ["gate"], version)
    rejected = workspace.ledger.latest(task, ["rejected"], version)
    row = workspace.ledger.champion(task)
    serves = row.version if row else None
    judged = gate is not None and gate.payload.get("manifest_sha256") == manifest_sha256
    if gate is None:
        found = "no gate verdict"
    elif not judged:
        found = "files that changed after the gate judged them"
    elif not gate.payload.get("passed"):
        found = f"a gate that failed: {gate.reason}"
    elif rejected is not None:
        found = f"a rejection by {rejected.actor}: {rejected.reason}"
    elif gate.payload.get("champion", serves) != serves:
        found = f"a verdict against version {gate.payload['champion']}, while {serves or 'nothing'} serves now"
    else:
        return gate
    if override and judged and gate is not None:
        return gate
    raise DecisionError(
        f"{task} {version} as the gate passed it",
        found,
        "train a better one, or sign it all the same with `--override --reason '…'`"
        if judged
        else f"train again: `undertone train {task}`",
    )


def _approved_before(workspace: Workspace, task: str, current: int | None) -> list[int]:
    """Versions to fall back to, best first: a version that was rolled back from does not come again."""
    served: list[int] = []
    for row in workspace.ledger.entries(task, ["approved", "rolled_back"]):
        if row.version is None:
            continue
        if row.kind == "rolled_back" and row.version in served:
            served = served[: served.index(row.version) + 1]
        else:
            served = [version for version in served if version != row.version] + [row.version]
    return [version for version in reversed(served) if version != current]
