"""`undertone feedback`: labels that people gave to scored messages."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.options import Json, Task

app = typer.Typer(help="Labels given by people: add, show.", no_args_is_help=True)


@app.command()
def add(
    task: Task,
    file: Annotated[str, typer.Argument(help="CSV with message_id and label (and labeller, labelled_at, suggested)")],
    as_json: Json = False,
) -> None:
    """Store labels for scored messages; the next training with `+feedback` learns from them."""
    from flows.labels import add_file
    from flows.terminal import emit

    result = add_file(task, file)
    text = f"{result['added']} labels added" + (
        f", {result['unknown']} for messages never scored" * bool(result["unknown"])
    )
    emit(result, as_json=as_json, text=text)


@app.command()
def show(task: Task, as_json: Json = False) -> None:
    """The labels in the store, newest per message."""
    from flows.terminal import emit, table
    from undertone.tasks import get_task
    from undertone.workspace import Workspace

    rows = [dict(row) for row in Workspace().store.labelled(get_task(task).name)]
    shown = [row | {"text": row["text"][:80]} for row in rows]
    emit(rows, as_json=as_json, text=table(shown, ["message_id", "label", "labeller", "labelled_at", "text"]))
