"""Who looks and who acts: MLflow's user where the settings ask for one, a key's holder where duties are separate."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request

from console.forms import Missing, reason
from undertone.errors import DecisionError, UndertoneError
from undertone.governance import Act
from undertone.identity import mlflow_user
from undertone.keys import approvers, is_encrypted, private_path, separate
from undertone.settings import Settings

CHALLENGE = {"WWW-Authenticate": 'Basic realm="Undertone console", charset="UTF-8"'}


class Unknown(UndertoneError):
    """Somebody whom MLflow does not know."""


@dataclass(frozen=True, slots=True)
class Asking:
    """What a decision form asks beside the reason.

    Attributes:
        actor: in whose name it is signed; None: one of `names` is chosen.
        names: approvers to choose from.
        passphrase: whether the form has a field for it.
        needed: whether it may not be empty.
    """

    actor: str | None
    names: tuple[str, ...]
    passphrase: bool
    needed: bool


def user(request: Request, settings: Settings) -> str | None:
    """The MLflow user that HTTP Basic authentication proves; None where the settings ask for none.

    Raises:
        Unknown: no user and password, or MLflow does not know them.
        RegistryError: MLflow is out of reach.
    """
    if settings.identity != "mlflow":
        return None
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError(scheme)
        name, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        if not colon:
            raise ValueError("no colon")
        return mlflow_user(settings, name, password)
    except (ValueError, binascii.Error):
        raise Unknown("a user and password that MLflow knows", "none", "log in as MLflow knows you") from None
    except DecisionError as error:
        raise Unknown(error.expected, error.found, error.next_step) from error


def asking(settings: Settings, user: str | None) -> Asking:
    """What a form asks `user`."""
    apart = separate(settings)
    names = tuple(key.name for key in approvers(settings)) if apart and user is None else ()
    actor = user or (None if apart else settings.actor)
    locked = actor is not None and is_encrypted(private_path(settings, actor))
    return Asking(
        actor,
        names,
        passphrase=apart or (locked and settings.passphrase is None),
        needed=settings.profile == "team" or locked or actor is None,
    )


def act(settings: Settings, user: str | None, form: dict[str, str]) -> Act:
    """The act that a posted form describes, at this moment.

    Raises:
        Missing: reason, name or passphrase was left empty.
        DecisionError: the name is no approver's.
    """
    why, ask = reason(form), asking(settings, user)
    name = ask.actor or form.get("actor", "")
    if not name:
        raise Missing("the name of an approver", "none", "choose yours")
    if ask.actor is None and name not in ask.names:
        raise DecisionError(f"an approver ({', '.join(ask.names) or 'nobody yet'})", repr(name[:80]), "choose yours")
    if ask.actor is None and not is_encrypted(private_path(settings, name)):
        raise DecisionError(
            f"a private key of {name} that asks for a passphrase: it proves who chose that name on this page",
            "one without, or none here",
            f"decide at the command line of {name}, or make a key with UNDERTONE_PROFILE=team",
        )
    passphrase = form.get("passphrase", "")
    if ask.passphrase and ask.needed and not passphrase:
        raise Missing(f"the passphrase of {name}", "none", "type it; it is used once and kept nowhere")
    # never None where people must prove who they are: None would stand for the passphrase of the process
    return Act(name, why, datetime.now(UTC), passphrase if ask.passphrase else None, mlflow_user=user)
