"""Acts of a person on a trial: a challenger scores a share of the messages beside the champion, until somebody ends it.

A trial is signed as an approval is, with a statement and an order of its own kind, and moves no alias.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from undertone import signing, trials
from undertone.errors import ConfigError, DecisionError
from undertone.governance import (
    Act,
    approver,
    end_early,
    gate_row,
    need_reason,
    ordered,
    promoting,
    refuse_frozen,
    refuse_own,
    told,
)
from undertone.keys import Trust
from undertone.model_folder import MODEL, STATEMENT, ModelCardData, digest, manifest, refuse_code
from undertone.records import LedgerEntry
from undertone.signing import SIGNATURE, TrialOrder, TrialStatement
from undertone.tasks import TrialKind, TrialPolicy, get_task
from undertone.workspace import Workspace


def start(
    workspace: Workspace,
    task: str,
    version: int,
    act: Act,
    *,
    kind: TrialKind,
    share: float,
    override: bool = False,
    max_disagreement: float | None = None,
) -> LedgerEntry:
    """Let `version` score a share of the messages beside the champion: compared only, or answered to a few customers.

    A trial of the same version that runs already gives way: its share grows, or a shadow becomes a canary.

    Args:
        kind: a shadow needs no verdict of the gate; a canary needs what an approval needs.
        share: of the customers, 0 to 1.
        override: a canary although the gate failed or a person rejected it; needs a reason.
        max_disagreement: in place of the task's policy; a shadow goes on however much it disagrees.

    Raises:
        DecisionError: the gate did not pass it, the task is frozen or has no champion, another version is on trial, or
            the actor trained it and duties are separated.
        RegistryError: no such version, or MLflow is out of reach.
        ConfigError: there is no key to sign with, or a share that cannot be.
    """
    policy = _policy(task, kind, share, max_disagreement)
    if override:
        need_reason(act, "an override", "`--override --reason '…'`")
    signer = approver(workspace, act)
    refuse_frozen(workspace, task)
    workspace.registry.get(task, version)
    with promoting(workspace, task), tempfile.TemporaryDirectory(prefix="undertone-trial-") as scratch:
        before = trials.running(workspace.ledger, task)
        champion = _challenged(workspace, task, version, before)
        copy = Path(scratch)
        folder = workspace.registry.download(task, version, copy / MODEL)
        refuse_code(folder)
        manifest_sha256 = digest(manifest(folder))
        gate = _gate(workspace, task, version, kind, manifest_sha256, override)
        verdict = gate.payload if gate else {}
        card = ModelCardData.read(folder)
        said = told(workspace, task, version, card, manifest_sha256, verdict, act, override)
        statement = TrialStatement(**said, purpose=kind)
        refuse_own(statement, workspace)
        words = ordered(workspace, statement, signer, act)
        order = TrialOrder(**words, kind=kind, share=share, champion=champion, policy=policy).sign(signer)
        signing.sign(folder, statement, signer, copy / SIGNATURE)
        signing.verify_trial(folder, copy / SIGNATURE, order, Trust.of(workspace.settings))
        workspace.registry.put_trial(task, version, folder / STATEMENT, copy / SIGNATURE)
        entry = workspace.ledger.append(
            "trial_started",
            task,
            at=act.at,
            actor=signer.name,
            reason=act.reason,
            version=version,
            payload={
                "manifest_sha256": manifest_sha256,
                "order": order.model_dump(mode="json"),
                "override": override,
                "gate_row": gate.seq if gate else None,
            },
        )
        if before is not None:
            end_early(workspace, before, act, f"a {kind} of {share:.0%} took its place (row {entry.seq})")
    return entry


def end(workspace: Workspace, task: str, act: Act) -> LedgerEntry:
    """End the trial of `task`: the champion answers everybody again.

    Raises:
        DecisionError: none runs, or no reason is given.
    """
    get_task(task)
    need_reason(act, "the end of a trial")
    approver(workspace, act)
    trial = trials.running(workspace.ledger, task)
    row = (
        trials.end(workspace.ledger, trial, at=act.at, actor=act.actor, reason=act.reason, automatic=False)
        if trial
        else None
    )
    if row is None:
        raise DecisionError(
            f"a trial of {task!r}", "none that runs", f"`undertone models trial {task}` shows the last one"
        )
    return row


def _policy(task: str, kind: TrialKind, share: float, max_disagreement: float | None) -> TrialPolicy:
    policy = get_task(task).trial
    most = policy.max_share if kind == "canary" else 1.0
    if not 0 < share <= most:
        raise ConfigError(
            f"a share above 0 and of at most {most:g}",
            f"{share:g}",
            "for all customers, approve the version" if share > 0 else "`--share 0.05` is one customer in twenty",
        )
    if kind == "shadow":
        return policy.model_copy(update={"max_disagreement": 1.0})  # it answers nobody: there is nothing to give back
    if max_disagreement is None:
        return policy
    if not 0 <= max_disagreement <= 1:
        raise ConfigError("a disagreement between 0 and 1", f"{max_disagreement:g}", "`--max-disagreement 0.3`")
    return policy.model_copy(update={"max_disagreement": max_disagreement})


def _challenged(workspace: Workspace, task: str, version: int, before: trials.Trial | None) -> int:
    """The champion that a trial of `version` is compared with."""
    row = workspace.ledger.champion(task)
    if row is None or row.version is None:
        raise DecisionError(
            f"a champion of {task!r} to compare with", "none", f"approve one: `undertone models approve {task} VERSION`"
        )
    if row.version == version:
        raise DecisionError("a version that does not serve", f"{task} {version}, the champion", "try another version")
    if before is not None and before.version != version:
        raise DecisionError(
            f"no other trial of {task!r}",
            f"one of version {before.version} since row {before.number}",
            f"end it: `undertone models end-trial {task} --reason '…'`",
        )
    return row.version


def _gate(
    workspace: Workspace, task: str, version: int, kind: TrialKind, manifest_sha256: str, override: bool
) -> LedgerEntry | None:
    """The gate's verdict on these bytes. A shadow may go without one, never with one on other bytes."""
    gate = workspace.ledger.latest(task, ["gate"], version)
    if kind == "shadow" and (gate is None or gate.payload.get("manifest_sha256") == manifest_sha256):
        return gate
    return gate_row(workspace, task, version, manifest_sha256, override)
