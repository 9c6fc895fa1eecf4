"""`undertone apikeys`: who may call the serving worker."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.options import Json

app = typer.Typer(help="API keys of programs that call the serving worker: create, list, revoke.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="whose key: a program, a team", metavar="NAME")]


@app.command()
def create(
    name: Name,
    rate: Annotated[
        str, typer.Option(help="requests it may send, as 200/second; default: the settings' rate_limit", metavar="RATE")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a key and print it, once. From the first key on, the worker lets nobody in without one."""
    from flows.terminal import emit, say
    from serving import api_keys
    from undertone.settings import get_settings

    path = api_keys.path_of(get_settings())
    key = api_keys.create(path, name, rate)
    say(f"keep it: it is not shown again, {path} holds its SHA-256 only; workers know it within a second")
    emit({"name": name, "key": key, "path": str(path)}, as_json=as_json, text=key)


@app.command("list")
def list_keys(as_json: Json = False) -> None:
    """Every key that was made, by name; none of them is shown."""
    from flows.terminal import emit, say, table
    from serving import api_keys
    from undertone.settings import get_settings

    rows = [_row(key) for key in api_keys.read(api_keys.path_of(get_settings()))]
    if not rows:
        say("no API keys: the worker answers everyone who reaches it")
    emit(rows, as_json=as_json, text=table(rows, ["name", "counts", "created", "rate", "sha256"]))


@app.command()
def revoke(name: Name, as_json: Json = False) -> None:
    """Stop letting a key in, for good. Workers hear of it within a second."""
    from flows.terminal import emit
    from serving import api_keys
    from undertone.settings import get_settings

    gone = api_keys.revoke(api_keys.path_of(get_settings()), name)
    emit(_row(gone), as_json=as_json, text=f"{name} is revoked")


def _row(key: Any) -> dict[str, Any]:
    return {
        "name": key.name,
        "counts": f"revoked {key.revoked:%Y-%m-%d %H:%M}" if key.revoked else "yes",
        "created": f"{key.created:%Y-%m-%d %H:%M}",
        "rate": key.rate or "",
        "sha256": key.sha256[:16],
    }
