"""`undertone models`: what is registered, and what people decide about it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flows.commands.options import Json, Task

app = typer.Typer(
    help="Registered versions: list, show, compare, approve, reject, rollback, freeze, unfreeze, evidence, reproduce;"
    " shadow, canary, trial, end-trial.",
    no_args_is_help=True,
)

Version = Annotated[int, typer.Argument(help="number of the model version", metavar="VERSION")]
Reason = Annotated[str, typer.Option(help="why; kept in the ledger")]
Now = Annotated[str, typer.Option(help="the clock, ISO 8601; default: this moment", metavar="TIME")]


@app.command("list")
def list_versions(
    task: Annotated[str, typer.Argument(help="one task; default: all", metavar="[TASK]")] = "", as_json: Json = False
) -> None:
    """Every registered version, newest first."""
    from flows.terminal import emit, say, table
    from undertone.tasks import TASKS, get_task
    from undertone.workspace import Workspace

    registry = Workspace().registry
    names = [get_task(task).name] if task else list(TASKS)
    rows: list[dict[str, Any]] = [
        {
            "task": item.task,
            "version": item.version,
            "champion": "champion" if item.champion else "",
            "gate": item.gate,
            "macro_f1": item.tags.get("undertone.macro_f1", ""),
            "trainer": item.tags.get("undertone.trainer", ""),
            "approved_by": item.tags.get("undertone.approved_by", ""),
            "synthetic": item.tags.get("undertone.synthetic", ""),
            "registered": item.created_at,
        }
        for name in names
        for item in registry.versions(name)
    ]
    if not rows:
        say(f"no versions yet: `undertone train {names[0]}` makes one")
    columns = ["task", "version", "champion", "gate", "macro_f1", "trainer", "approved_by", "synthetic", "registered"]
    emit(rows, as_json=as_json, text=table(rows, columns))


@app.command()
def show(task: Task, version: Version, as_json: Json = False) -> None:
    """One version: tags, lineage, the gate's lines, and what people did with it."""
    import tempfile
    from pathlib import Path

    from flows.terminal import emit, table
    from undertone import model_folder
    from undertone.workspace import Workspace

    workspace = Workspace()
    found = workspace.registry.get(task, version)
    with tempfile.TemporaryDirectory() as scratch:
        workspace.registry.download_file(task, version, model_folder.METADATA, Path(scratch))
        card = model_folder.ModelCardData.read(Path(scratch))
    history = [row for row in workspace.ledger.entries(task) if row.version == version and row.kind != "drift"]
    gate = next((row for row in reversed(history) if row.kind == "gate"), None)
    data: dict[str, Any] = {
        "task": task,
        "version": version,
        "champion": found.champion,
        "tags": found.tags,
        "model": card.model_dump(mode="json"),
        "gate": gate.payload if gate else None,
        "history": [{"at": row.at, "kind": row.kind, "actor": row.actor, "reason": row.reason} for row in history],
    }
    lines = gate.payload.get("lines", []) if gate else []
    text = "\n\n".join(
        part
        for part in (
            f"{task} {version}{' (champion)' if found.champion else ''}",
            table([{"key": k, "value": v} for k, v in card.lineage.model_dump().items()], ["key", "value"]),
            table(lines, ["name", "passed", "found", "required"]) if lines else "the gate has not judged it",
            table(data["history"], ["at", "kind", "actor", "reason"]),
        )
    )
    emit(data, as_json=as_json, text=text)


@app.command()
def compare(
    task: Task,
    a: Annotated[int, typer.Argument(help="number of the version to compare with", metavar="A")],
    b: Annotated[int, typer.Argument(help="number of the version that is looked at", metavar="B")],
    source: Annotated[
        str,
        typer.Option(
            help="labelled rows, as `train` reads them; default: the holdout of the newer version, made again from what"
            " it records"
        ),
    ] = "",
    text_column: Annotated[str | None, typer.Option(help="column with the message")] = None,
    label_column: Annotated[str | None, typer.Option(help="column with the label")] = None,
    keep_seen: Annotated[
        bool, typer.Option("--keep-seen", help="compare on rows too that a version learned from or was chosen by")
    ] = False,
    out: Annotated[
        str,
        typer.Option(help="folder for report.html, compare.json, gained.csv and lost.csv", metavar="FOLDER"),
    ] = "",
    as_json: Json = False,
) -> None:
    """Two versions on the same unseen rows: differences by slice and label, examples gained and lost, calibration."""
    from pathlib import Path

    from flows import comparing
    from flows.terminal import emit, say, talk
    from undertone.workspace import Workspace

    talk()
    found = comparing.compare(
        Workspace(), task, (a, b), source=source, text_column=text_column, label_column=label_column,
        keep_seen=keep_seen,
    )  # fmt: skip
    names = comparing.write(found, Path(out)) if out else []
    emit(found.as_dict(), as_json=as_json, text=comparing.text(found))
    if names:
        say(f"wrote {', '.join(names)} into {out}")


@app.command()
def approve(
    task: Task,
    version: Version,
    reason: Reason = "",
    override: Annotated[bool, typer.Option("--override", help="approve what the gate or a person refused")] = False,
    now: Now = "",
    as_json: Json = False,
) -> None:
    """Sign a version's bytes and make it the champion. Serving workers follow within seconds."""
    from undertone import governance
    from undertone.workspace import Workspace

    workspace = Workspace()
    tell(governance.approve(workspace, task, version, act(workspace, reason, now), override=override), as_json)


@app.command()
def reject(task: Task, version: Version, reason: Reason = "", now: Now = "", as_json: Json = False) -> None:
    """Turn a version down, with a reason."""
    from undertone import governance
    from undertone.workspace import Workspace

    workspace = Workspace()
    tell(governance.reject(workspace, task, version, act(workspace, reason, now)), as_json)


@app.command()
def rollback(task: Task, reason: Reason = "", now: Now = "", as_json: Json = False) -> None:
    """Put back the last approved version that still verifies, loads and scores; freeze promotion until `unfreeze`."""
    from undertone import governance
    from undertone.workspace import Workspace

    workspace = Workspace()
    tell(governance.rollback(workspace, task, act(workspace, reason, now)), as_json)


@app.command()
def freeze(task: Task, reason: Reason = "", now: Now = "", as_json: Json = False) -> None:
    """Stop every promotion of a task, automatic or by hand, until `unfreeze`; rolling back stays possible."""
    from undertone import governance
    from undertone.workspace import Workspace

    workspace = Workspace()
    tell(governance.freeze(workspace, task, act(workspace, reason, now)), as_json)


@app.command()
def unfreeze(task: Task, reason: Reason = "", now: Now = "", as_json: Json = False) -> None:
    """Allow promotions of a task again."""
    from undertone import governance
    from undertone.workspace import Workspace

    workspace = Workspace()
    tell(governance.unfreeze(workspace, task, act(workspace, reason, now)), as_json)


@app.command()
def evidence(
    task: Task,
    version: Version,
    output: Annotated[str, typer.Option(help="the file to write; default: TASK-VERSION-evidence.zip")] = "",
    as_json: Json = False,
) -> None:
    """One file for an auditor: the signed model, its evidence and the ledger, verifiable offline with public tools."""
    from pathlib import Path

    from flows.terminal import emit
    from undertone.pack import write_pack
    from undertone.workspace import Workspace

    path = Path(output or f"{task}-{version}-evidence.zip")
    names = write_pack(Workspace(), task, version, path)
    text = f"{path}: {len(names)} files, {path.stat().st_size / 1e6:.1f} MB; README.md inside says how to verify it"
    emit({"file": str(path), "files": names}, as_json=as_json, text=text)


@app.command()
def reproduce(task: Task, version: Version, now: Now = "", as_json: Json = False) -> None:
    """Train a version again from its commit, data, seed and lock, and say how metrics and bytes compare."""
    from datetime import UTC, datetime

    from flows import running
    from flows.terminal import emit, moment

    with running.prefect_ready():
        from flows.reproduce import reproduce as again
        from flows.reproduce import text
        from undertone.workspace import Workspace

        result = again(Workspace(), task, version, now=moment(now) if now else datetime.now(UTC))
    emit(result, as_json=as_json, text=text(result))


def act(workspace: Any, reason: str, now: str) -> Any:
    """What the actor does now, with their passphrase."""
    from datetime import UTC, datetime

    from flows.terminal import ask_passphrase, moment
    from undertone.governance import Act

    settings = workspace.settings
    at = moment(now) if now else datetime.now(UTC)
    return Act(settings.actor, reason, at, ask_passphrase(settings))


def tell(entry: Any, as_json: bool) -> None:
    """The ledger row that an act left."""
    from dataclasses import asdict

    from flows.terminal import emit

    why = f": {entry.reason}" if entry.reason else ""
    what = f"{entry.task}{'' if entry.version is None else f' {entry.version}'}"
    text = f"{what} {entry.kind.replace('_', ' ')} by {entry.actor}{why} (ledger row {entry.seq})"
    emit(asdict(entry), as_json=as_json, text=text)
