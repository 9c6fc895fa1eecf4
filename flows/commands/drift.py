"""`undertone drift`: what the watches saw and decided, and what people say to that."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.options import Json, Task

app = typer.Typer(
    help="What the drift watches saw and decided: show, calibrate, retrain, examples.", no_args_is_help=True
)

Now = Annotated[str, typer.Option(help="the clock, ISO 8601; default: this moment", metavar="TIME")]

#: Rows of the ledger that `show` shows.
KINDS = ("drift", "retrain", "calibrated", "audit_drawn", "audit", "labels_asked", "retrain_asked")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="one task; default: all", metavar="[TASK]")] = "",
    limit: Annotated[int, typer.Option(help="newest rows shown")] = 40,
    as_json: Json = False,
) -> None:
    """Verdicts, audits and retrain decisions, oldest first."""
    from flows.terminal import emit, table
    from undertone.workspace import Workspace

    rows = Workspace().ledger.entries(task or None, KINDS, limit, newest_first=True)[::-1]
    data: list[dict[str, Any]] = [
        {
            "at": row.at,
            "task": row.task,
            "version": row.version,
            "what": _what(row.kind, row.payload),
            "rule": row.payload.get("rule"),
            "actor": row.actor,
            "reason": row.reason,
            "payload": row.payload,
        }
        for row in rows
    ]
    emit(data, as_json=as_json, text=table(data, ["at", "task", "version", "what", "rule", "reason"]))


@app.command()
def calibrate(
    task: Task,
    healthy: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM/TO", help="a time without drift, such as 2026-09-01/2026-09-29; may be repeated"),
    ] = None,
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Set the champion's effect floors from its own healthy windows: drawn from its reference, and stored ones."""
    from datetime import UTC, datetime

    from flows.floors import healthy_windows, set_floors
    from flows.look import read_champion
    from flows.terminal import emit, moment, table, talk
    from undertone.tasks import get_task
    from undertone.workspace import Workspace

    talk()
    workspace, spec = Workspace(), get_task(task)
    times = [_between(value) for value in healthy or ()]
    served = read_champion(workspace, spec)
    windows = healthy_windows(workspace, spec, served, times)
    at = moment(now) if now else datetime.now(UTC)
    made = set_floors(workspace, spec, served, windows, at, workspace.settings.actor)
    rows: list[dict[str, Any]] = [
        {"signal": name, "healthy": made.healthy.get(name), **floor.model_dump()} for name, floor in made.floors.items()
    ]
    data = {
        "task": task,
        "version": served.version.version,
        "resampled": made.resampled,
        "stored": made.stored,
        "rows": made.rows,
        "floors": rows,
    }
    note = f"{made.resampled} windows of {made.rows} drawn from the reference, {made.stored} stored ones"
    columns = ["signal", "healthy", "warn", "act", "severe"]
    emit(data, as_json=as_json, text=f"{table(rows, columns)}\n\n{task} {served.version.version}: {note}")


@app.command()
def retrain(
    task: Task,
    reason: Annotated[str, typer.Option(help="why; kept in the ledger")] = "",
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Ask for a retrain whatever the cadence says: the next watch starts it. It takes who may approve."""
    from dataclasses import asdict
    from datetime import UTC, datetime

    from flows.situation import ask_retrain
    from flows.terminal import ask_passphrase, emit, moment
    from undertone.governance import Act
    from undertone.workspace import Workspace

    workspace = Workspace()
    settings = workspace.settings
    at = moment(now) if now else datetime.now(UTC)
    entry = ask_retrain(workspace, task, Act(settings.actor, reason, at, ask_passphrase(settings)))
    text = f"the next watch retrains {task}, asked by {entry.actor}: {entry.reason} (ledger row {entry.seq})"
    emit(asdict(entry), as_json=as_json, text=text)


@app.command()
def examples(
    task: Task,
    count: Annotated[int, typer.Option(min=1, max=200, help="messages shown")] = 10,
    days: Annotated[float | None, typer.Option(help="length of the window; default: the settings' watch_days")] = None,
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Messages of the newest window that are most unlike the reference, read from the store now."""
    from datetime import UTC, datetime

    from flows.look import look, most_unlike, read_champion, window_texts
    from flows.terminal import emit, moment, say, table
    from undertone.tasks import get_task
    from undertone.workspace import Workspace

    workspace, spec = Workspace(), get_task(task)
    at = moment(now) if now else datetime.now(UTC)
    seen = look(workspace.store, spec, read_champion(workspace, spec), at, days or workspace.settings.watch_days)
    texts = window_texts(workspace.store, spec, seen)
    rows: list[dict[str, Any]] = [
        {"message_id": number, "text": texts[number]} for number in most_unlike(seen, count) if number in texts
    ]
    if not rows:
        say(f"no messages of {task} with embeddings from {seen.start:%Y-%m-%d %H:%M}Z to {seen.end:%Y-%m-%d %H:%M}Z")
    shown = [row | {"text": " ".join(row["text"].split())[:100]} for row in rows]
    emit(rows, as_json=as_json, text=table(shown, ["message_id", "text"]))


def _between(value: str) -> Any:
    from flows.terminal import moment
    from undertone.errors import ConfigError

    first, slash, last = value.partition("/")
    if not slash or moment(first) >= moment(last):
        raise ConfigError("two times in order, FROM/TO", repr(value), "write --healthy 2026-09-01/2026-09-29")
    return moment(first), moment(last)


def _what(kind: str, payload: dict[str, Any]) -> str:
    if kind == "drift":
        return str(payload.get("verdict", "")).replace("_", " ")
    if kind == "retrain":
        return "retrain" if payload.get("retrain") else "no retrain"
    return kind.replace("_", " ")
