"""`undertone tasks`: what can be trained here, built in or by a file."""

from __future__ import annotations

from typing import Any

import typer

from flows.commands.options import Json, Task

app = typer.Typer(help="Tasks: list, show. A file adds one: docs/how-to/add-a-task.md.", no_args_is_help=True)


@app.command("list")
def list_tasks(as_json: Json = False) -> None:
    """Every task of this home: its labels, its data, and the file that adds it."""
    from flows.terminal import emit, table
    from undertone.settings import get_settings
    from undertone.tasks import BUILT_IN, TASKS

    folder = get_settings().tasks_dir
    rows: list[dict[str, Any]] = [
        {
            "task": spec.name,
            "labels": ", ".join(spec.labels),
            "source": spec.source,
            "base_model": spec.base_model,
            "from": "built in" if spec.name in BUILT_IN else str(folder / f"{spec.name}.toml"),
        }
        for spec in TASKS.values()
    ]
    emit(rows, as_json=as_json, text=table(rows, ["task", "labels", "source", "base_model", "from"]))


@app.command()
def show(task: Task, as_json: Json = False) -> None:
    """One task with every field, those that its file leaves out as well."""
    from flows.terminal import emit, table
    from undertone.tasks import get_task

    spec = get_task(task).model_dump(mode="json")
    rows = [{"field": name, "value": value} for name, value in _flat(spec)]
    emit(spec, as_json=as_json, text=table(rows, ["field", "value"]))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for name, value in values.items()
        for pair in (_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)])
    ]
