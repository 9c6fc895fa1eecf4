"""`python -m flows.reference`: reference pages written from the code; `make docs` writes them, a test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
WIDTH = 100

#: How PostgreSQL shows these types of a view.
_KINDS = {"varchar": "text", "float": "double precision", "integer": "integer or bigint"}

_POLICIES = ("gate", "quality", "drift", "audit", "trial", "review", "cadence")


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {
        "command-line.md": command_line(),
        "settings.md": settings(),
        "tasks.md": tasks(),
        "bi-views.md": bi_views(),
    }


def command_line() -> str:
    """The commands' own help."""
    from flows.cli import app

    command = typer.main.get_command(app)
    parts = ["# The command line", "", "Written by `make docs` from the commands' own help.", ""]
    for name, text in _helps(command, "undertone", None):
        parts += [f"## `{name}`", "", "```", text, "```", ""]
    return "\n".join(parts)


def settings() -> str:
    """Every setting with its environment variable and default."""
    from undertone.settings import Settings

    rows = []
    for name, field in Settings.model_fields.items():
        default = "your login name" if name == "actor" else f"`{field.get_default()}`"
        default = "" if default in {"``", "`None`"} else default
        rows.append(f"| `{name}` | `UNDERTONE_{name.upper()}` | {default} | {field.description or ''} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Written by `make docs`. An environment variable beats `undertone.toml` in the current folder, which"
            " beats the default. Unknown names are refused.",
            "",
            "| in `undertone.toml` | environment | default | what it is |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )


def tasks() -> str:
    """Every task's labels and policies."""
    from undertone.tasks import BUILT_IN

    parts = ["# Tasks", "", "Written by `make docs` from `undertone/tasks.py`.", "", *_task_fields()]
    for spec in BUILT_IN.values():
        parts += [
            f"## {spec.name}",
            "",
            spec.title,
            "",
            f"Labels: {', '.join(f'`{label}`' for label in spec.labels)}.",
            "",
        ]
        parts += ["| policy | value | what it is |", "| --- | --- | --- |"]
        for group, policy in ((name, getattr(spec, name)) for name in _POLICIES):
            for name, field in type(policy).model_fields.items():
                if name != "floors":
                    parts.append(f"| `{group}.{name}` | {getattr(policy, name)} | {field.description or 'days'} |")
        parts += ["", "| drift signal | warns from | acts from | severe from |", "| --- | --- | --- | --- |"]
        for name, floor in spec.drift.floors.items():
            parts.append(f"| {name} | {floor.warn} | {_or_never(floor.act)} | {_or_never(floor.severe)} |")
        parts.append("")
    return "\n".join(parts)


def bi_views() -> str:
    """Every view that BI tools read, with its columns."""
    from sqlalchemy.dialects import postgresql

    from undertone.views import SCHEMA, VIEWS

    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    parts = [
        "# Views for BI",
        "",
        "Written by `make docs` from `undertone/views.py`. The names are stable: a release may add columns and views,"
        " and takes none away without a word in the changelog. On PostgreSQL the same descriptions are the views' and"
        f" columns' comments. There the schema is `{SCHEMA}`; on SQLite the names are `{SCHEMA}_messages` and so on."
        " Times are UTC.",
        "",
        "[How BI tools connect](../how-to/connect-a-bi-tool.md).",
        "",
    ]
    for view in VIEWS:
        parts += [f"## `{SCHEMA}.{view.name}`", "", view.about, ""]
        parts += ["| column | type | what it holds |", "| --- | --- | --- |"]
        for column in view.columns:
            made = column.type() if isinstance(column.type, type) else column.type
            kind = str(made.compile(dialect=dialect)).lower()
            parts.append(f"| `{column.name}` | {_KINDS.get(kind, kind)} | {column.about} |")
        parts.append("")
    return "\n".join(parts)


def _task_fields() -> list[str]:
    """What a task's file may say."""
    from undertone.tasks import TaskSpec

    fields = {name: field for name, field in TaskSpec.model_fields.items() if name not in _POLICIES}
    rows = [f"| `{name}` | {_default(field)} | {field.description or ''} |" for name, field in fields.items()]
    policies = ", ".join(f"`[{name}]`" for name in _POLICIES)
    return [
        "## What a task is",
        "",
        "These three are built in. A TOML file adds a task ([how](../how-to/add-a-task.md)). It may have these fields,",
        f"and the tables {policies} with the policies listed below. What it leaves out is as here.",
        "",
        "| field | default | what it is |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]


def _default(field: Any) -> str:
    if field.is_required():
        return "none: it must be given"
    value = field.default
    return "" if value in ("", None) else f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def _or_never(floor: float | None) -> str:
    return "never" if floor is None else f"{floor}"


def _helps(command: Any, name: str, parent: Any) -> Iterator[tuple[str, str]]:
    context = command.make_context(
        name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield context.command_path, command.get_help(context).strip()
    for child_name, child in getattr(command, "commands", {}).items():
        yield from _helps(child, child_name, context)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file_name, page in pages().items():
        (FOLDER / file_name).write_text(page, encoding="utf-8")
        print(f"wrote {FOLDER / file_name}", file=sys.stderr)  # noqa: T201
