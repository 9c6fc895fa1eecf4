"""People's keys: who may approve, who may only train, and whose word no longer counts.

Trust is a folder of public keys (``<name>.pub``): whoever can write there decides whose approvals are served, so on
every worker it belongs to the person who runs the worker. A revoked key moves to ``revoked/`` below and can never be
trusted again, under any name.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from undertone.errors import ConfigError, DecisionError
from undertone.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

Role = Literal["approver", "trainer"]

REVOKED = "revoked"

#: Fewest characters of a passphrase.
PASSPHRASE = 12

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


@dataclass(frozen=True, slots=True)
class Key:
    """A public key. ``fingerprint`` is the SHA-256 of its DER form, in hexadecimal."""

    name: str
    role: Role
    fingerprint: str
    path: Path
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose signatures count here, read from disk at every question.

    Attributes:
        approvers: folder of public keys that may approve.
        trainers: folder of public keys that may train and not approve.
        team: nobody may approve what they trained, whatever the number of approvers.
    """

    approvers: Path
    trainers: Path
    team: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Trust:
        """What the settings name."""
        return cls(settings.trusted_dir, settings.trainers_dir, settings.profile == "team")

    @property
    def separate(self) -> bool:
        """Whether duties are separated: in the team profile, and wherever two people may approve."""
        return self.team or len({key.fingerprint for key in self.keys("approver")}) > 1

    def keys(self, role: Role) -> list[Key]:
        """Every key of that role that counts, by name. A file that is no public key counts for nothing."""
        folder = self.approvers if role == "approver" else self.trainers
        found = [_read(path, role) for path in sorted(folder.glob("*.pub"))]
        revoked = {key.fingerprint for key in self.revoked()}
        return [key for key in found if key is not None and key.fingerprint not in revoked]

    def revoked(self) -> list[Key]:
        """Every key that was revoked, whatever its role was."""
        folders: tuple[tuple[Path, Role], ...] = ((self.approvers, "approver"), (self.trainers, "trainer"))
        found = [_read(path, role) for folder, role in folders for path in sorted((folder / REVOKED).glob("*.pub"))]
        return [Key(key.name, key.role, key.fingerprint, key.path, revoked=True) for key in found if key is not None]

    def approver(self, name: str) -> Key | None:
        """The approver called `name`, if their key counts."""
        return next((key for key in self.keys("approver") if key.name == name), None)

    def trainer(self, name: str) -> Key | None:
        """The trainer called `name`: an approver may train too (and then somebody else approves)."""
        return self.approver(name) or next((key for key in self.keys("trainer") if key.name == name), None)


def approvers(settings: Settings) -> list[Key]:
    """Whose approvals are served."""
    return Trust.of(settings).keys("approver")


def separate(settings: Settings) -> bool:
    """Whether an approver must be somebody else than the trainer."""
    return Trust.of(settings).separate


def make(settings: Settings, name: str, passphrase: str | None = None) -> tuple[Path, Path]:
    """Make a P-256 key pair for `name`: ``keys/<name>.key``, readable by its owner only, and ``keys/<name>.pub``.

    Nobody trusts it yet.

    Raises:
        ConfigError: the name does not fit or has a key, or the team profile is given no good passphrase.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    check_name(name)
    if settings.profile == "team" and len(passphrase or "") < PASSPHRASE:
        raise ConfigError(
            f"a passphrase of at least {PASSPHRASE} characters for a key in the team profile",
            f"{len(passphrase or '')} characters",
            "choose a longer one (asked for at the terminal, or UNDERTONE_PASSPHRASE)",
        )
    private, public = private_path(settings, name), settings.keys_dir / f"{name}.pub"
    if private.exists():
        raise ConfigError(f"no key of {name!r} yet", f"one at {private}", "choose another name, or revoke that key")
    key = ec.generate_private_key(ec.SECP256R1())
    encryption = (
        serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
    )
    private.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
    _write_public(key.public_key(), public)
    return private, public


def trust(settings: Settings, name: str, public_key: Path, role: Role) -> Key:
    """Let `public_key` count as that of `name`.

    Raises:
        ConfigError: the file is no P-256 public key, or the name is taken by another key.
        DecisionError: that key was revoked.
    """
    check_name(name)
    known, rules = _read(public_key, role), Trust.of(settings)
    if known is None:
        raise ConfigError("an elliptic-curve public key in PEM form", f"something else at {public_key}", "name another")
    if known.fingerprint in {key.fingerprint for key in rules.revoked()}:
        raise DecisionError(
            "a key that was never revoked", f"{known.fingerprint[:16]}, revoked", f"make a new one for {name}"
        )
    twin = next((key for key in rules.keys("approver") + rules.keys("trainer") if key.fingerprint == known.fingerprint
                 and key.name != name), None)  # fmt: skip
    if twin is not None:
        raise ConfigError("one name for one key", f"this key already counts as {twin.name!r}", "make one key a person")
    path = (settings.trusted_dir if role == "approver" else settings.trainers_dir) / f"{name}.pub"
    if path.exists() and (before := _read(path, role)) is not None and before.fingerprint != known.fingerprint:
        raise ConfigError(f"no other key of {name!r}", f"one at {path}", f"`undertone keys revoke {name}` first")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(public_key.read_bytes())
    return Key(name, role, known.fingerprint, path)


def revoke(settings: Settings, name: str) -> list[Key]:
    """Stop trusting the key of `name`, for good; every approval it signed stops being served.

    Raises:
        ConfigError: no trusted key has that name.
    """
    rules = Trust.of(settings)
    found = [key for key in rules.keys("approver") + rules.keys("trainer") if key.name == name]
    if not found:
        names = ", ".join(sorted({key.name for key in rules.keys("approver") + rules.keys("trainer")})) or "nobody"
        raise ConfigError(f"a trusted key of {name!r}", f"keys of {names}", "`undertone keys list` shows them all")
    for key in found:
        folder = key.path.parent / REVOKED
        folder.mkdir(exist_ok=True)
        key.path.replace(folder / f"{name}.{key.fingerprint[:16]}.pub")
    return found


def private_path(settings: Settings, name: str) -> Path:
    """Where the private key of `name` is kept on this machine."""
    return settings.private_key if name == settings.actor else settings.keys_dir / f"{name}.key"


def is_encrypted(private_key: Path) -> bool:
    """Whether a private key asks for a passphrase."""
    return private_key.is_file() and b"ENCRYPTED" in private_key.read_bytes()


def unlock(private_key: Path, passphrase: str | None) -> EllipticCurvePrivateKey:
    """The private key itself.

    Raises:
        ConfigError: there is none, it is no elliptic-curve key, or the passphrase is missing.
        DecisionError: the passphrase is wrong.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    usable = f"a private key at {private_key}"
    try:
        data = private_key.read_bytes()
        key = serialization.load_pem_private_key(
            data, passphrase.encode() if passphrase and b"ENCRYPTED" in data else None
        )
    except OSError as error:
        raise ConfigError(
            usable, f"{type(error).__name__}", "`undertone keys new`, or UNDERTONE_SIGNING_KEY"
        ) from error
    except TypeError as error:  # encrypted, and no passphrase was given
        raise ConfigError(
            f"the passphrase of {private_key.name}", "none", "type it when asked, or set UNDERTONE_PASSPHRASE"
        ) from error
    except ValueError as error:
        if passphrase and is_encrypted(private_key):
            raise DecisionError(f"the passphrase of {private_key.name}", "another one", "try again") from error
        raise ConfigError(usable, "a file that is none", "set UNDERTONE_SIGNING_KEY") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(usable, f"a key of another kind ({type(key).__name__})", "`undertone keys new` makes one")
    return key


def fingerprint(public_key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the key's DER form, in hexadecimal."""
    from cryptography.hazmat.primitives import serialization

    der = public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def load_public(path: Path) -> EllipticCurvePublicKey | None:
    """The public key in a PEM file; None where there is none."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def check_name(name: str) -> None:
    """Raise `ConfigError` unless `name` can name a person and a file."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "a name of letters, digits and . _ @ -, at most 64", repr(name[:80]), "choose another (UNDERTONE_ACTOR)"
        )


def _read(path: Path, role: Role) -> Key | None:
    key = load_public(path)
    name = path.name.removesuffix(".pub")
    if path.parent.name == REVOKED:
        name = name.rsplit(".", 1)[0]
    return None if key is None else Key(name, role, fingerprint(key), path)


def _write_public(key: EllipticCurvePublicKey, path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
