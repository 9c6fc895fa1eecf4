"""Approvals as signatures over bytes (OpenSSF model-signing, elliptic-curve keys).

An approver writes a `Statement` into the model folder and signs the whole folder. Whoever serves the
folder needs only the approvers' public keys: a changed, added or missing file, a statement for
another version, or an unknown key is refused.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from undertone.errors import ConfigError, VerificationError
from undertone.model_folder import STATEMENT, digest, manifest, refuse_code

SIGNATURE = "approval.sig"


class Statement(BaseModel):
    """What an approver signs: these bytes, for this version, on this evidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
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


def make_key(private_key: Path, public_key: Path) -> None:
    """Make an elliptic-curve key pair (P-256) without a passphrase; the private file is readable by its owner only."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private_key.parent.mkdir(parents=True, exist_ok=True)
    public_key.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private_key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    public_key.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def sign(folder: Path, statement: Statement, private_key: Path, signature: Path) -> None:
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
        signing.Config().use_elliptic_key_signer(private_key=private_key).sign(folder, signature)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"a private key at {private_key}", f"{type(error).__name__}: {error}", "set UNDERTONE_SIGNING_KEY"
        ) from error


def verify(folder: Path, signature: Path, trusted: Path, task: str, version: int) -> Statement:
    """Check that a trusted approver signed exactly these bytes for exactly this version.

    Args:
        folder: the model folder with its statement inside.
        signature: the signature file, kept beside the folder.
        trusted: folder of public keys named ``<approver>.pub``.

    Raises:
        VerificationError: anything at all does not hold.
    """
    from model_signing import verifying

    refuse_code(folder)
    try:
        statement = Statement.model_validate_json((folder / STATEMENT).read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError) as error:
        raise _refused(task, version, "a signed statement", f"{type(error).__name__}: {error}") from error
    if (statement.task, statement.version) != (task, version):
        raise _refused(
            task, version, f"an approval of {task} {version}", f"one of {statement.task} {statement.version}"
        )
    _check_digest(folder, statement)
    public_key = trusted / f"{statement.approver}.pub"
    if Path(statement.approver).name != statement.approver or not public_key.is_file():
        raise _refused(task, version, f"an approver with a key in {trusted}", f"{statement.approver!r}")
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(folder, signature)
    except Exception as error:  # model-signing raises ValueError, OSError and protobuf errors; every one is a refusal
        raise _refused(
            task, version, f"the signature of {statement.approver}", f"{type(error).__name__}: {error}"
        ) from error
    return statement


def _check_digest(folder: Path, statement: Statement) -> None:
    found = digest(manifest(folder))
    if found != statement.manifest_sha256:
        raise _refused(
            statement.task, statement.version, f"files with digest {statement.manifest_sha256[:12]}", f"{found[:12]}"
        )


def _refused(task: str, version: int, expected: str, found: str) -> VerificationError:
    return VerificationError(
        expected, found, f"do not serve it; approve a version again: `undertone models approve {task} {version}`"
    )
