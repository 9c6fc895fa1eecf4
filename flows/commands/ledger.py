"""`undertone ledger`: every decision, and whether the record still holds."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(help="Every decision, hash-chained: show, verify.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="print the answer as JSON")]


@app.command()
def show(
    task: Annotated[str, typer.Option(help="only this task")] = "",
    kind: Annotated[str, typer.Option(help="only this kind, such as approved, gate, drift, retrain")] = "",
    limit: Annotated[int, typer.Option(help="newest rows shown")] = 50,
    as_json: Json = False,
) -> None:
    """The newest decisions, oldest of them first."""
    from dataclasses import asdict

    from flows.terminal import emit, table
    from undertone.errors import ConfigError
    from undertone.ledger import KINDS
    from undertone.workspace import Workspace

    if kind and kind not in KINDS:
        raise ConfigError(f"a kind ({', '.join(KINDS)})", repr(kind), "use one of these")
    rows = Workspace().ledger.entries(task or None, [kind] if kind else None, limit, newest_first=True)[::-1]
    shown = [asdict(row) | {"hash": row.hash[:12], "reason": row.reason[:100]} for row in rows]
    columns = ["seq", "at", "kind", "task", "version", "actor", "reason", "hash"]
    emit([asdict(row) for row in rows], as_json=as_json, text=table(shown, columns))


@app.command()
def verify(as_json: Json = False) -> None:
    """Check every row's hash and the chain between them."""
    from flows.terminal import emit
    from undertone.workspace import Workspace

    rows = Workspace().ledger.verify()
    emit({"rows": rows, "unbroken": True}, as_json=as_json, text=f"{rows} rows, the chain is unbroken")
