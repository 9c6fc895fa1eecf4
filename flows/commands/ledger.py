"""`undertone ledger`: every decision, and whether the record still holds."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.options import Json

app = typer.Typer(help="Every decision, hash-chained: show, at, verify, export, reconcile.", no_args_is_help=True)


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
def at(
    moment: Annotated[str, typer.Argument(help="ISO 8601, such as 2026-11-03T10:00Z", metavar="TIME")],
    as_json: Json = False,
) -> None:
    """What served at a moment: for each task the version, who let it, why, and on which evidence."""
    from flows import terminal
    from undertone.tasks import TASKS
    from undertone.workspace import Workspace

    when = terminal.moment(moment)
    ledger = Workspace().ledger
    rows: list[dict[str, Any]] = []
    for task in TASKS:
        row = ledger.champion(task, when)
        approved = ledger.latest(task, ["approved"], row.version, until=when) if row else None
        gate = ledger.row(approved.payload["gate_row"]) if approved and approved.payload.get("gate_row") else None
        rows.append(
            {
                "task": task,
                "version": row.version if row else None,
                "since": row.at if row else None,
                "by": row.actor if row else None,
                "how": row.kind if row else "nothing served",
                "reason": row.reason if row else None,
                "ledger_row": row.seq if row else None,
                "approved_by": approved.actor if approved else None,
                "override": approved.payload.get("override") if approved else None,
                "gate": gate.payload.get("verdict") if gate else None,
                "gate_row": gate.seq if gate else None,
                "manifest_sha256": row.payload.get("manifest_sha256") if row else None,
            }
        )
    shown = [row | {"files": str(row["manifest_sha256"] or "")[:12]} for row in rows]
    columns = [
        "task",
        "version",
        "since",
        "how",
        "by",
        "approved_by",
        "override",
        "gate",
        "gate_row",
        "files",
        "reason",
    ]
    terminal.emit(rows, as_json=as_json, text=terminal.table(shown, columns))


@app.command()
def verify(
    file: Annotated[str, typer.Option(help="check an export instead of the store", metavar="FILE")] = "",
    as_json: Json = False,
) -> None:
    """Check every row's hash, the chain between them, and that no row was cut off at the end."""
    from pathlib import Path

    from flows.terminal import emit
    from undertone.errors import ConfigError
    from undertone.ledger import verify_export
    from undertone.workspace import Workspace

    if file:
        try:
            with Path(file).open(encoding="utf-8") as lines:
                rows = verify_export(lines)
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"an export at {file}", type(error).__name__, "`undertone ledger export`") from error
    else:
        rows = Workspace().ledger.verify()
    emit({"rows": rows, "unbroken": True}, as_json=as_json, text=f"{rows} rows, the chain is unbroken")


@app.command()
def export(
    output: Annotated[str, typer.Option(help="a file; default: standard output", metavar="FILE")] = "",
) -> None:
    """Every row as one line of JSON."""
    import sys
    from pathlib import Path

    from flows.terminal import say
    from undertone.workspace import Workspace

    lines = Workspace().ledger.export()
    if not output:
        sys.stdout.writelines(f"{line}\n" for line in lines)
        return
    with Path(output).open("w", encoding="utf-8") as stream:
        count = sum(bool(stream.write(f"{line}\n")) for line in lines)
    say(f"{count} rows in {output}")


@app.command()
def reconcile(as_json: Json = False) -> None:
    """Compare MLflow with the ledger; every open finding, and exit code 1 where there is one."""
    from datetime import UTC, datetime

    from flows.reconcile import as_dict
    from flows.terminal import emit, table
    from undertone.reconcile import reconcile as look
    from undertone.workspace import Workspace

    found = as_dict(look(Workspace(), datetime.now(UTC)))
    text = table(found["open"], ["task", "version", "what", "detail"]) if found["open"] else "registry and ledger agree"
    emit(found, as_json=as_json, text=text)
    raise typer.Exit(1 if found["open"] else 0)
