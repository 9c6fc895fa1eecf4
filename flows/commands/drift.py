"""`undertone drift`: what the watches saw."""

from __future__ import annotations

from typing import Annotated, Any

import typer

app = typer.Typer(help="What the drift watches saw and decided: show.", no_args_is_help=True)


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="one task; default: all", metavar="[TASK]")] = "",
    limit: Annotated[int, typer.Option(help="newest watches shown")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print the answer as JSON")] = False,
) -> None:
    """Verdicts and retrain decisions, oldest first."""
    from flows.terminal import emit, table
    from undertone.workspace import Workspace

    rows = Workspace().ledger.entries(task or None, ["drift", "retrain"], 2 * limit, newest_first=True)[::-1]
    data: list[dict[str, Any]] = [
        {
            "at": row.at,
            "task": row.task,
            "version": row.version,
            "what": row.payload.get("verdict") or ("retrain" if row.payload.get("retrain") else "no retrain"),
            "reason": row.reason,
            "payload": row.payload,
        }
        for row in rows
    ]
    emit(data, as_json=as_json, text=table(data, ["at", "task", "version", "what", "reason"]))
