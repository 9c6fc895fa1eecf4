"""Acts of a person on a model version: approve, reject, roll back. Each leaves a row in the ledger.

An approval downloads the registered bytes, checks that they are the ones the gate judged, signs
them with the approver's key, keeps the signature in MLflow, writes the ledger and only then moves
the alias. The serving worker trusts the signature, not the alias.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from undertone import signing
from undertone.engine import Engine
from undertone.errors import ConfigError, DecisionError, UndertoneError
from undertone.model_folder import ModelCardData, digest, manifest, refuse_code
from undertone.records import LedgerEntry
from undertone.settings import Settings
from undertone.tasks import get_task
from undertone.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Act:
    """Who does something to a model version, why and when."""

    actor: str
    reason: str
    at: datetime


def approve(workspace: Workspace, task: str, version: int, act: Act, *, override: bool = False) -> LedgerEntry:
    """Sign `version` and make it the champion.

    Args:
        override: approve although the gate failed or a person rejected it; needs a reason.

    Raises:
        DecisionError: the gate did not pass it (or never judged these bytes) and there is no override.
        RegistryError: no such version, or MLflow is out of reach.
        ConfigError: there is no key to sign with.
    """
    get_task(task)
    if override and not act.reason.strip():
        raise DecisionError("a reason for an override", "none", "say why: `--override --reason '…'`")
    key = approver_key(workspace.settings, act.actor)
    workspace.registry.get(task, version)
    with tempfile.TemporaryDirectory(prefix="undertone-approve-") as scratch:
        folder = workspace.registry.download(task, version, Path(scratch) / "model")
        refuse_code(folder)
        card = ModelCardData.read(folder)
        manifest_sha256 = digest(manifest(folder))
        gate = _gate_row(workspace, task, version, manifest_sha256, override)
        statement = signing.Statement(
            task=task,
            version=version,
            manifest_sha256=manifest_sha256,
            data_sha256=card.lineage.data_sha256,
            rows=card.lineage.rows,
            commit=card.lineage.commit,
            lock_sha256=card.lineage.lock_sha256,
            trainer=card.lineage.trainer,
            gate=gate.payload if gate else {},
            approver=act.actor,
            approved_at=act.at,
            reason=act.reason,
            override=override,
        )
        signature = Path(scratch) / signing.SIGNATURE
        signing.sign(folder, statement, key, signature)
        signing.verify(folder, signature, workspace.settings.trusted_dir, task, version)
        workspace.registry.put_approval(task, version, folder, signature)
    entry = workspace.ledger.append(
        "approved",
        task,
        at=act.at,
        actor=act.actor,
        reason=act.reason,
        version=version,
        payload={
            "manifest_sha256": manifest_sha256,
            "override": override,
            "gate_row": gate.seq if gate else None,
            "replaces": workspace.registry.champion_version(task),
        },
    )
    workspace.registry.set_champion(task, version)
    workspace.registry.tag(task, version, {"undertone.approved_by": act.actor})
    return entry


def reject(workspace: Workspace, task: str, version: int, act: Act) -> LedgerEntry:
    """Turn `version` down; it can then be approved only with an override.

    Raises:
        DecisionError: it serves now (roll back instead), or no reason is given.
    """
    get_task(task)
    if not act.reason.strip():
        raise DecisionError("a reason for a rejection", "none", "say why: `--reason '…'`")
    found = workspace.registry.get(task, version)
    if found.champion:
        raise DecisionError(
            "a version that does not serve", f"{task} {version} is the champion", f"`undertone models rollback {task}`"
        )
    entry = workspace.ledger.append("rejected", task, at=act.at, actor=act.actor, reason=act.reason, version=version)
    workspace.registry.tag(task, version, {"undertone.rejected_by": act.actor})
    return entry


def rollback(workspace: Workspace, task: str, act: Act) -> LedgerEntry:
    """Put back the last approved version before the champion that still verifies, loads and scores.

    Raises:
        DecisionError: there is none, or no reason is given.
    """
    get_task(task)
    if not act.reason.strip():
        raise DecisionError("a reason for a rollback", "none", "say why: `--reason '…'`")
    current = workspace.registry.champion_version(task)
    failures: list[str] = []
    for version in _approved_before(workspace, task, current):
        try:
            prove(workspace, task, version)
        except UndertoneError as error:
            failures.append(f"{version}: {error}")
            continue
        entry = workspace.ledger.append(
            "rolled_back",
            task,
            at=act.at,
            actor=act.actor,
            reason=act.reason,
            version=version,
            payload={"replaces": current, "passed_over": failures},
        )
        workspace.registry.set_champion(task, version)
        return entry
    raise DecisionError(
        f"an earlier approved version of {task!r} that still verifies",
        "; ".join(failures) or "none",
        f"approve one: `undertone models list {task}`",
    )


def prove(workspace: Workspace, task: str, version: int) -> signing.Statement:
    """Fetch an approved version as the worker would: verify the signature, load the engine, score two texts."""
    with tempfile.TemporaryDirectory(prefix="undertone-prove-") as scratch:
        folder = workspace.registry.download(task, version, Path(scratch) / "model")
        signature = Path(scratch) / signing.SIGNATURE
        workspace.registry.fetch_approval(task, version, folder, signature)
        statement = signing.verify(folder, signature, workspace.settings.trusted_dir, task, version)
        Engine(folder).smoke()
        return statement


def approver_key(settings: Settings, actor: str) -> Path:
    """The private key of `actor`; made on first use while nobody else's key is trusted.

    Raises:
        ConfigError: other approvers are trusted and this one has no key.
    """
    key = settings.private_key if actor == settings.actor else settings.keys_dir / f"{actor}.key"
    if key.is_file():
        return key
    trusted = sorted(path.stem for path in settings.trusted_dir.glob("*.pub"))
    if trusted:
        raise ConfigError(
            f"a private key of {actor!r} at {key}",
            f"none; trusted approvers are {', '.join(trusted)}",
            "approve as one of them (UNDERTONE_ACTOR), or name a key with UNDERTONE_SIGNING_KEY",
        )
    signing.make_key(key, settings.trusted_dir / f"{actor}.pub")
    return key


def _gate_row(
    workspace: Workspace, task: str, version: int, manifest_sha256: str, override: bool
) -> LedgerEntry | None:
    gate = workspace.ledger.latest(task, ["gate"], version)
    rejected = workspace.ledger.latest(task, ["rejected"], version)
    if gate is None:
        found = "no gate verdict"
    elif gate.payload.get("manifest_sha256") != manifest_sha256:
        found = "files that changed after the gate judged them"
    elif not gate.payload.get("passed"):
        found = f"a gate that failed: {gate.reason}"
    elif rejected is not None:
        found = f"a rejection by {rejected.actor}: {rejected.reason}"
    else:
        return gate
    if override and gate is not None and gate.payload.get("manifest_sha256") == manifest_sha256:
        return gate
    raise DecisionError(
        f"{task} {version} as the gate passed it",
        found,
        "train a better one, or sign it all the same with `--override --reason '…'`"
        if gate is not None and gate.payload.get("manifest_sha256") == manifest_sha256
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
