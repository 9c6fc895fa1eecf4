"""`undertone keys`: whose word counts."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.options import Json

app = typer.Typer(help="People's keys: new, trust, list, revoke.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="whose key", metavar="NAME")]
Reason = Annotated[str, typer.Option(help="why; kept in the ledger")]
Role = Annotated[str, typer.Option(help="approver, or trainer (trains, never approves)")]


@app.command()
def new(name: Name, as_json: Json = False) -> None:
    """Make a key pair. The private half stays here; nobody trusts the public half yet."""
    from flows.terminal import ask_new_passphrase, emit
    from undertone.keys import make
    from undertone.settings import get_settings

    settings = get_settings()
    private, public = make(settings, name, ask_new_passphrase(settings))
    text = f"private key: {private}\npublic key:  {public}\nnext, wherever it serves: undertone keys trust {name} FILE"
    emit({"name": name, "private": str(private), "public": str(public)}, as_json=as_json, text=text)


@app.command()
def trust(
    name: Name,
    file: Annotated[
        str, typer.Argument(help="public key; default: the one `keys new` made here", metavar="[FILE]")
    ] = "",
    role: Role = "approver",
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Let a public key count. With two approvers, nobody may approve what they trained."""
    from pathlib import Path

    from flows.terminal import emit, say
    from undertone import keys
    from undertone.errors import ConfigError
    from undertone.workspace import Workspace

    if role not in {"approver", "trainer"}:
        raise ConfigError("a role (approver, trainer)", repr(role), "use one of these")
    workspace = Workspace()
    settings = workspace.settings
    before = keys.separate(settings)
    key = keys.trust(settings, name, Path(file) if file else settings.keys_dir / f"{name}.pub", role)  # type: ignore[arg-type]
    _note(workspace, "key_trusted", name, reason, [key])
    if keys.separate(settings) and not before:
        say("from now on nobody may approve what they trained, and trainers sign what they register;")
        say("versions approved by their own trainer stop being served: have another approver sign them")
    emit(_row(key), as_json=as_json, text=f"{name} counts as {role} ({key.fingerprint[:16]}), in {key.path}")


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """Every key that counts, and every one that was revoked."""
    from flows.terminal import emit, say, table
    from undertone.keys import Trust
    from undertone.settings import get_settings

    rules = Trust.of(get_settings())
    found = [*rules.keys("approver"), *rules.keys("trainer"), *rules.revoked()]
    rows = [_row(key) for key in found]
    if not rows:
        say("no keys yet: the first approval makes one in the single-person profile, `undertone keys new` otherwise")
    emit(rows, as_json=as_json, text=table(rows, ["name", "role", "counts", "fingerprint", "path"]))


@app.command()
def revoke(name: Name, reason: Reason = "", as_json: Json = False) -> None:
    """Stop trusting a key, for good. Workers stop serving what it approved within seconds."""
    from flows.terminal import emit
    from undertone import keys
    from undertone.errors import DecisionError
    from undertone.workspace import Workspace

    if not reason.strip():
        raise DecisionError("a reason for revoking a key", "none", "say why: `--reason '…'`")
    workspace = Workspace()
    gone = keys.revoke(workspace.settings, name)
    _note(workspace, "key_revoked", name, reason, gone)
    text = f"{name} is revoked: what only that key approved is not served any more. Revoke it on every serving machine."
    emit([_row(key) for key in gone], as_json=as_json, text=text)


def _note(workspace: Any, kind: str, name: str, reason: str, found: list[Any]) -> None:
    """A ledger row by the login name of whoever may write in the trust folder: no key proves more than that."""
    import getpass
    from datetime import UTC, datetime

    from undertone.ledger import EVERY_TASK

    payload = {"name": name, "keys": [{"role": key.role, "fingerprint": key.fingerprint} for key in found]}
    actor = getpass.getuser()
    workspace.ledger.append(kind, EVERY_TASK, at=datetime.now(UTC), actor=actor, reason=reason, payload=payload)


def _row(key: Any) -> dict[str, Any]:
    counts = "revoked" if key.revoked else "yes"
    return {
        "name": key.name,
        "role": key.role,
        "counts": counts,
        "fingerprint": key.fingerprint[:16],
        "path": str(key.path),
    }
