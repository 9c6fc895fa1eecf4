"""`python -m flows.reference`: reference pages written from the code; `make docs` writes them, a test compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
WIDTH = 100


def pages() -> dict[str, str]:
    """Every generated page by its file name."""
    return {"command-line.md": command_line(), "settings.md": settings(), "tasks.md": tasks()}


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
    from undertone.tasks import TASKS

    parts = ["# Tasks", "", "Written by `make docs` from `undertone/tasks.py`.", ""]
    for spec in TASKS.values():
        parts += [
            f"## {spec.name}",
            "",
            spec.title,
            "",
            f"Labels: {', '.join(f'`{label}`' for label in spec.labels)}.",
            "",
        ]
        parts += ["| policy | value | what it is |", "| --- | --- | --- |"]
        policies = ("gate", "quality", "drift", "audit", "trial", "cadence")
        for group, policy in ((name, getattr(spec, name)) for name in policies):
            for name, field in type(policy).model_fields.items():
                if name != "floors":
                    parts.append(f"| `{group}.{name}` | {getattr(policy, name)} | {field.description or 'days'} |")
        parts += ["", "| drift signal | warns from | acts from | severe from |", "| --- | --- | --- | --- |"]
        for name, floor in spec.drift.floors.items():
            parts.append(f"| {name} | {floor.warn} | {_or_never(floor.act)} | {_or_never(floor.severe)} |")
        parts.append("")
    return "\n".join(parts)


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
