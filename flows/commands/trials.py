"""`undertone models shadow|canary|trial|end-trial`: a challenger beside the champion, before anybody approves it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.models import Now, Reason, Version, act, tell
from flows.commands.options import Json, Task

app = typer.Typer()

_COLUMNS = ["what", "value"]


@app.command()
def shadow(
    task: Task,
    version: Version,
    share: Annotated[float, typer.Option(help="of the customers whose messages it scores, too")] = 0.2,
    reason: Reason = "",
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Let a version score a share of the messages, for comparison only: nobody gets its answers."""
    from undertone import trial_acts
    from undertone.workspace import Workspace

    workspace = Workspace()
    by = act(workspace, reason, now)
    tell(trial_acts.start(workspace, task, version, by, kind="shadow", share=share), as_json)


@app.command()
def canary(
    task: Task,
    version: Version,
    share: Annotated[float, typer.Option(help="of the customers, always the same ones, who get its answers")] = 0.05,
    max_disagreement: Annotated[
        float | None,
        typer.Option(help="share of answers that may differ from the champion's; default: the task's policy"),
    ] = None,
    reason: Reason = "",
    override: Annotated[bool, typer.Option("--override", help="although the gate or a person refused it")] = False,
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Let a version answer a share of the customers; errors or disagreement give them back to the champion."""
    from undertone import trial_acts
    from undertone.workspace import Workspace

    workspace = Workspace()
    entry = trial_acts.start(
        workspace,
        task,
        version,
        act(workspace, reason, now),
        kind="canary",
        share=share,
        override=override,
        max_disagreement=max_disagreement,
    )
    tell(entry, as_json)


@app.command("end-trial")
def end_trial(task: Task, reason: Reason = "", now: Now = "", as_json: Json = False) -> None:
    """End a task's trial, with a reason: the champion answers everybody again."""
    from undertone import trial_acts
    from undertone.workspace import Workspace

    workspace = Workspace()
    tell(trial_acts.end(workspace, task, act(workspace, reason, now)), as_json)


@app.command()
def trial(task: Task, as_json: Json = False) -> None:
    """The trial that runs, or the last one: agreement, errors, time, labels and slices, over all workers."""
    from flows.terminal import emit, say
    from undertone.tasks import get_task
    from undertone.workspace import Workspace

    data = _state(Workspace(), get_task(task).name)
    if data is None:
        say(f"no trial yet: `undertone models shadow {task} VERSION --share 0.2` begins one")
    emit(data, as_json=as_json, text=_text(data) if data else "")


def _state(workspace: Any, task: str) -> dict[str, Any] | None:
    from serving.trial import at_least
    from undertone import trials
    from undertone.trial_figures import Figures

    row = workspace.ledger.latest(task, ["trial_started"])
    if row is None:
        return None
    found = trials.Trial(row)
    running, end = trials.running(workspace.ledger, task), trials.ending(workspace.ledger, found)
    figures = Figures.model_validate(end.payload["figures"]) if end else trials.pooled(workspace.ledger.store, row.seq)
    order = row.payload.get("order", {})
    return {
        "task": task,
        "version": row.version,
        "kind": order.get("kind"),
        "share": order.get("share"),
        "champion": order.get("champion"),
        "policy": order.get("policy"),
        "started": {"at": row.at, "by": row.actor, "reason": row.reason, "row": row.seq},
        "running": running is not None and running.number == row.seq,
        "ended": {"at": end.at, "by": end.actor, "reason": end.reason, "row": end.seq} if end else None,
        "figures": figures.summary()
        | {"disagreement_at_least": round(at_least(figures.disagreed, figures.compared), 4)},
    }


def _text(data: dict[str, Any]) -> str:
    from flows.terminal import table

    figures, ended, started = data["figures"], data["ended"], data["started"]
    rows = [
        ("trial", f"{data['kind']} of {data['task']} {data['version']} beside {data['champion']}"),
        ("share", data["share"]),
        ("started", f"{started['at']:%Y-%m-%d %H:%M}Z by {started['by']} (ledger row {started['row']})"),
        ("state", _state_text(data["running"], ended)),
        *((name.replace("_", " "), value) for name, value in figures.items() if not isinstance(value, dict)),
    ]
    parts = [table([{"what": what, "value": value} for what, value in rows], _COLUMNS)]
    for name, columns in (("labels", ["champion", "challenger"]), ("slices", ["compared", "agreement"])):
        if figures[name]:
            lines = [{name: key, **values} for key, values in figures[name].items()]
            parts.append(table(lines, [name, *columns]))
    return "\n\n".join(parts)


def _state_text(running: bool, ended: dict[str, Any] | None) -> str:
    if ended:
        return f"ended {ended['at']:%Y-%m-%d %H:%M}Z by {ended['by']}: {ended['reason']} (ledger row {ended['row']})"
    return "runs" if running else "ended by a promotion"
