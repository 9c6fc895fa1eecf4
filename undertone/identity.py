"""Who somebody is. A name is proven by the key of that name, and by MLflow where the settings ask for it.

The names that tags, aliases and flags carry prove nothing and are never asked.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from undertone.errors import ConfigError, DecisionError, RegistryError
from undertone.keys import Key, Trust, check_name, fingerprint, is_encrypted, make, private_path, trust, unlock
from undertone.settings import Settings


@dataclass(frozen=True, slots=True)
class Signer:
    """A person with the key that proves it."""

    name: str
    key: Path
    passphrase: str | None = field(default=None, repr=False)


def approver(settings: Settings, name: str, passphrase: str | None = None, mlflow: str | None = None) -> Signer:
    """`name` as an approver, proven.

    In the single-person profile the first approver's key is made on the spot.

    Args:
        passphrase: of their private key; None: the settings'.
        mlflow: the user that MLflow's basic-auth knows this person as, where a caller has asked already.

    Raises:
        ConfigError: there is no usable key or no passphrase.
        DecisionError: the key is not that of a trusted approver, or MLflow knows this person by another name.
    """
    check_name(name)
    rules = Trust.of(settings)
    trusted = rules.keys("approver")
    private = private_path(settings, name)
    untouched = not trusted and not rules.revoked()  # nobody was ever trusted here
    if not private.is_file() and untouched and settings.profile == "single":
        _, public = make(settings, name)
        trust(settings, name, public, "approver")
    known = rules.approver(name)
    if known is None or not private.is_file():
        raise ConfigError(
            f"a private key of {name!r} at {private}, and its public half in {settings.trusted_dir}",
            f"{'a' if private.is_file() else 'no'} private key; trusted approvers are "
            f"{', '.join(key.name for key in trusted) or 'nobody'}",
            f"act as one of them (UNDERTONE_ACTOR), or `undertone keys new {name}` and `undertone keys trust {name}`",
        )
    return _signer(settings, known, private, passphrase, mlflow)


def trainer(settings: Settings, name: str) -> Signer | None:
    """`name` as a trainer, proven; None where duties are not separated and nobody asks for proof.

    Raises:
        ConfigError: duties are separated, and there is no usable key of that name.
        DecisionError: the key is not the trusted one of that name.
    """
    rules = Trust.of(settings)
    if not rules.separate:
        return None
    check_name(name)
    private, known = private_path(settings, name), rules.trainer(name)
    if known is None or not private.is_file():
        raise ConfigError(
            f"a key that proves that {name!r} trains (nobody may approve what they trained)",
            f"{'a' if private.is_file() else 'no'} private key at {private}, "
            f"{'a' if known else 'no'} trusted public key of that name",
            f"`undertone keys new {name}` and `undertone keys trust {name} --role trainer`, or train as yourself",
        )
    return _signer(settings, known, private, None, None)


def mlflow_user(settings: Settings, username: str, password: str) -> str:
    """The user that MLflow's basic-auth knows by this name and password: MLflow itself is asked.

    Raises:
        ConfigError: MLflow is no server, or has no authentication.
        DecisionError: it does not know them.
        RegistryError: it is out of reach.
    """
    import httpx

    if not settings.mlflow_uri.startswith(("http://", "https://")):
        raise ConfigError(
            'an MLflow server with basic-auth (identity = "mlflow")',
            settings.mlflow_uri,
            "set UNDERTONE_TRACKING_URI, or UNDERTONE_IDENTITY=key",
        )
    url = f"{settings.mlflow_uri.rstrip('/')}/api/2.0/mlflow/users/current"
    try:
        answer = httpx.get(url, auth=(username, password), timeout=10)
    except httpx.HTTPError as error:
        raise RegistryError(f"an answer from {url}", type(error).__name__, "check that MLflow is up") from error
    if answer.status_code in {401, 403}:
        raise DecisionError("a user and password that MLflow knows", f"a refusal of {username!r}", "check both")
    try:
        return str(answer.json()["user"]["username"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            "an MLflow server started with `--app-name basic-auth`",
            f"{answer.status_code} from {url}",
            "start it so, or set UNDERTONE_IDENTITY=key",
        ) from error


def _signer(settings: Settings, known: Key, private: Path, passphrase: str | None, mlflow: str | None) -> Signer:
    name = known.name
    if settings.profile == "team" and not is_encrypted(private):
        raise ConfigError(
            f"a private key with a passphrase in the team profile ({private})",
            "one without",
            f"make another: `undertone keys new {name}`",
        )
    if settings.identity == "mlflow":
        user = mlflow or mlflow_user(
            settings, os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
        )
        if user != name:
            raise DecisionError(
                f"an act of {user}, as whom MLflow knows you", f"one in the name of {name}", f"UNDERTONE_ACTOR={user}"
            )
    if passphrase is None and settings.passphrase is not None:
        passphrase = settings.passphrase.get_secret_value()
    if fingerprint(unlock(private, passphrase).public_key()) != known.fingerprint:
        raise DecisionError(
            f"the private key of {name}", "a key whose public half is another's", f"check {private} and {known.path}"
        )
    return Signer(name, private, passphrase)
