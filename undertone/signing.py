"""Signatures: an approval over a folder's bytes, a trainer's claim to them, and the order to serve them.

An approver writes a `Statement` into the model folder and signs the whole folder (OpenSSF model-signing, elliptic-curve
keys). A `Claim` is the trainer's own signature under who made these bytes; an `Order` is an approver's word that this
version is to serve *now*, numbered by the ledger, so that an older approval cannot be played back. A trial has a
statement and an order of its own kind: neither passes for an approval's, nor the other way round. Whoever serves the
folder needs the public keys alone: a changed, added or missing file, a statement for another version, an unknown or
revoked key, or an approver who is the trainer is refused.
"""

from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from undertone.errors import ConfigError, VerificationError
from undertone.identity import Signer
from undertone.keys import Key, Trust, load_public, unlock
from undertone.model_folder import STATEMENT, ModelCardData, digest, files, manifest, refuse_code
from undertone.tasks import TrialKind, TrialPolicy

SIGNATURE = "approval.sig"
ORDER = "order.json"

Signed = TypeVar("Signed", bound="_Signed")
Stated = TypeVar("Stated", bound="Statement")


class _Signed(BaseModel):
    """A small record signed as such: ECDSA with SHA-256 over its canonical JSON without ``signature``, base64."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str
    manifest_sha256: str
    signature: str = ""

    def message(self) -> bytes:
        """The bytes that are signed."""
        values = {"kind": type(self).__name__.lower(), **self.model_dump(mode="json", exclude={"signature"})}
        return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()

    def sign(self: Signed, signer: Signer) -> Signed:
        """This record with the signature of `signer`."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        made = unlock(signer.key, signer.passphrase).sign(self.message(), ec.ECDSA(hashes.SHA256()))
        return self.model_copy(update={"signature": base64.b64encode(made).decode()})

    def holds(self, key: Key) -> bool:
        """Whether `key` signed this record."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        public = load_public(key.path)
        try:
            if public is None:
                return False
            public.verify(base64.b64decode(self.signature), self.message(), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


class Claim(_Signed):
    """A trainer's word: I made these bytes from this data."""

    data_sha256: str
    trainer: str


class Order(_Signed):
    """An approver's word: from now on this version serves.

    ``serial`` is the number of the ledger's last row when it was given, and ``ledger_hash`` that row's hash: orders of
    a task have rising serials, and a ledger that was cut or rewritten afterwards no longer fits them.
    """

    version: int
    kind: Literal["approved", "rolled_back"]
    serial: int
    ledger_hash: str
    approver: str
    at: datetime
    reason: str


class TrialOrder(_Signed):
    """An approver's word: this challenger scores `share` of the messages beside the champion, until one word ends it.

    Numbered by the ledger like an `Order`. ``champion`` is the version that it is compared with.
    """

    version: int
    kind: TrialKind
    share: float
    champion: int
    policy: TrialPolicy
    serial: int
    ledger_hash: str
    approver: str
    at: datetime
    reason: str


class Statement(BaseModel):
    """What an approver signs together with the folder: these bytes, for this version, on this evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 2
    task: str
    version: int
    manifest_sha256: str
    data_sha256: str
    rows: int
    commit: str
    lock_sha256: str
    trainer: str
    gate: dict[str, Any]
    approver: str
    approved_at: datetime
    reason: str
    override: bool = False
    claim: Claim | None = None
    card_sha256: str | None = None


class TrialStatement(Statement):
    """What an approver signs for a trial: these bytes may score beside the champion, for this purpose only."""

    purpose: TrialKind


def sign(folder: Path, statement: Statement, signer: Signer, signature: Path) -> None:
    """Write `statement` into `folder` and sign every file of it.

    Raises:
        ConfigError: the private key cannot be used.
        VerificationError: the folder's bytes are not those the statement names.
    """
    from model_signing import signing

    _check_digest(folder, statement)
    (folder / STATEMENT).write_text(statement.model_dump_json(indent=2) + "\n", encoding="utf-8")
    signature.parent.mkdir(parents=True, exist_ok=True)
    try:
        # model-signing annotates the password as text and hands it on to a library that takes bytes
        password: Any = signer.passphrase.encode() if signer.passphrase else None
        signing.Config().use_elliptic_key_signer(private_key=signer.key, password=password).sign(folder, signature)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"a private key at {signer.key}", f"{type(error).__name__}: {error}", "set UNDERTONE_SIGNING_KEY"
        ) from error


def verify(folder: Path, signature: Path, trust: Trust, task: str, version: int) -> Statement:
    """Check that a trusted approver signed exactly these bytes for exactly this version.

    Args:
        folder: the model folder with its statement inside.
        signature: the signature file, kept beside the folder.
        trust: whose keys count.

    Raises:
        VerificationError: anything at all does not hold.
    """
    return _verify(folder, signature, trust, task, version, Statement)


def verify_trial(folder: Path, signature: Path, order: TrialOrder, trust: Trust) -> TrialStatement:
    """Check that trusted approvers signed exactly these bytes for this very trial, and ordered it.

    Raises:
        VerificationError: anything at all does not hold.
    """
    statement = _verify(folder, signature, trust, order.task, order.version, TrialStatement)
    verify_order(order, statement, trust)
    return statement


def _verify(folder: Path, signature: Path, trust: Trust, task: str, version: int, kind: type[Stated]) -> Stated:
    from model_signing import verifying

    refuse_code(folder)
    files(folder)
    try:
        statement = kind.model_validate_json((folder / STATEMENT).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise _refused(task, version, "a signed statement", f"{type(error).__name__}: {error}") from error
    if (statement.task, statement.version) != (task, version):
        raise _refused(
            task, version, f"an approval of {task} {version}", f"one of {statement.task} {statement.version}"
        )
    key = _approver(trust, statement.approver, task, version)
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=key.path).verify(folder, signature)
    except Exception as error:  # model-signing raises ValueError, OSError and protobuf errors; every one is a refusal
        raise _refused(
            task, version, f"the signature of {statement.approver}", f"{type(error).__name__}: {error}"
        ) from error
    _check_signed(folder, signature, statement)
    _check_lineage(folder, statement)
    check_duties(statement, trust)
    return statement


def verify_order(order: Order | TrialOrder, statement: Statement, trust: Trust) -> None:
    """Check that a trusted approver ordered the version of `statement` to serve, or its trial.

    Raises:
        VerificationError: it is an order for something else, or its signature does not hold.
    """
    task, version = statement.task, statement.version
    if (order.task, order.version, order.manifest_sha256) != (task, version, statement.manifest_sha256):
        raise _refused(task, version, f"an order to serve these files as {task} {version}", "one for others")
    wanted, found = (
        getattr(statement, "purpose", "approval"),
        order.kind if isinstance(order, TrialOrder) else "approval",
    )
    if wanted != found:
        raise _refused(task, version, f"an order for what was signed ({wanted})", f"one for another purpose ({found})")
    if not order.holds(_approver(trust, order.approver, task, version)):
        raise _refused(task, version, f"an order signed by {order.approver}", "another signature")


def read_order(path: Path, task: str, version: int) -> Order:
    """The order in the file `path`, which is one for this version.

    Raises:
        VerificationError: there is none, or it is for another one.
    """
    wanted = f"an approval of {task} {version} and an order to serve it"
    try:
        order = Order.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise _refused(task, version, wanted, f"{type(error).__name__}: {error}") from error
    if (order.task, order.version) != (task, version):
        raise _refused(task, version, wanted, f"one of {order.task} {order.version}")
    return order


def check_standing(statement: Statement, order: Order | TrialOrder, fingerprint: str, trust: Trust) -> None:
    """Check that what was verified once still counts: keys are revoked and people are added while a version serves.

    Args:
        fingerprint: of the approver's key when the folder was verified.

    Raises:
        VerificationError: the approval or the order does not count any more.
    """
    key = _approver(trust, statement.approver, statement.task, statement.version)
    if key.fingerprint != fingerprint:
        raise _refused(statement.task, statement.version, f"the key of {statement.approver} as it was", "another key")
    check_duties(statement, trust)
    verify_order(order, statement, trust)


def check_duties(statement: Statement, trust: Trust) -> None:
    """Where duties are separated, the trainer proves who they are, and the approver is somebody else.

    Raises:
        VerificationError: the approver is the trainer, or nobody proved who the trainer is.
    """
    if not trust.separate:
        return
    task, version, claim = statement.task, statement.version, statement.claim
    if claim is None:
        raise _refused(task, version, "a version that its trainer signed", "nobody's signature", train=True)
    trainer, approver = trust.trainer(claim.trainer), trust.approver(statement.approver)
    claimed = (claim.task, claim.manifest_sha256, claim.data_sha256, claim.trainer)
    if claimed != (task, statement.manifest_sha256, statement.data_sha256, statement.trainer):
        raise _refused(
            task, version, "a trainer's signature under this very version", f"one under {claim.task}", train=True
        )
    if trainer is None or not claim.holds(trainer):
        raise _refused(task, version, f"the signature of {claim.trainer!r}, a known trainer", "another", train=True)
    if claim.trainer == statement.approver or approver is None or approver.fingerprint == trainer.fingerprint:
        raise VerificationError(
            f"an approver who did not train {task} {version}",
            f"{statement.approver}, its trainer",
            "ask another approver",
        )


def _approver(trust: Trust, name: str, task: str, version: int) -> Key:
    key = trust.approver(name)
    if key is None:
        gone = any(found.name == name for found in trust.revoked())
        raise _refused(
            task,
            version,
            f"an approver with a key in {trust.approvers}",
            f"{name!r}, whose key was revoked" if gone else f"{name!r}",
        )
    return key


def _check_lineage(folder: Path, statement: Statement) -> None:
    """What the statement says of the model's making is what the folder says."""
    card = ModelCardData.read(folder)
    made = card.lineage
    inside = (card.task, made.data_sha256, made.rows, made.commit, made.lock_sha256, made.trainer)
    said = (
        statement.task,
        statement.data_sha256,
        statement.rows,
        statement.commit,
        statement.lock_sha256,
        statement.trainer,
    )
    if inside != said:
        raise _refused(statement.task, statement.version, "a statement that fits the folder", "another lineage")


def _check_digest(folder: Path, statement: Statement) -> None:
    found = digest(manifest(folder))
    if found != statement.manifest_sha256:
        raise _refused(
            statement.task, statement.version, f"files with digest {statement.manifest_sha256[:12]}", f"{found[:12]}"
        )


def _check_signed(folder: Path, signature: Path, statement: Statement) -> None:
    """The files that `signature`, which holds, speaks of are those of the statement, and all that there are.

    Their digests are read from the signature, which was just checked against their bytes: hashing hundreds of megabytes
    once more would double the time in which a worker starts.
    """
    payload = json.loads(base64.b64decode(json.loads(signature.read_text(encoding="utf-8"))["dsseEnvelope"]["payload"]))
    signed = {item["name"]: str(item["digest"]) for item in payload["predicate"]["resources"]}
    there = set(files(folder)) - {STATEMENT}
    signed.pop(STATEMENT, None)
    if there != set(signed):
        odd = sorted(there ^ set(signed))
        raise _refused(statement.task, statement.version, "the files that were signed and no other", ", ".join(odd[:5]))
    if digest(signed) != statement.manifest_sha256:
        raise _refused(
            statement.task,
            statement.version,
            f"files with digest {statement.manifest_sha256[:12]}",
            f"{digest(signed)[:12]}",
        )


def _refused(task: str, version: int, expected: str, found: str, *, train: bool = False) -> VerificationError:
    again = f"train it again: `undertone train {task}`" if train else f"`undertone models approve {task} {version}`"
    return VerificationError(expected, found, f"do not serve it; {again}")
