"""`undertone labels`: labels of training rows that are probably wrong, and their corrections."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.commands.options import Json, LabelColumn, Task, TextColumn

app = typer.Typer(help="Labels of training rows: check, apply.", no_args_is_help=True)


@app.command()
def check(
    task: Task,
    source: Annotated[str, typer.Option(help="labelled rows, as `train` reads them; default: the task's own")] = "",
    folds: Annotated[int, typer.Option(min=2, help="of the cross-validation")] = 5,
    version: Annotated[
        int | None,
        typer.Option(
            help="take this registered version's probabilities, for rows that it has not seen, in place of the"
            " cross-validation"
        ),
    ] = None,
    base_model: Annotated[str | None, typer.Option(help="a hub name or a folder; default: the task's own")] = None,
    out: Annotated[str, typer.Option(help="a CSV file for people to review", metavar="FILE")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many rows, the most suspicious")] = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="the file shows neither the given nor the suggested label")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="of split and folds; default: the settings' seed")] = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    as_json: Json = False,
) -> None:
    """Find training rows whose label is probably wrong, by confident learning, and write them down for review."""
    from pathlib import Path

    from flows import label_check
    from flows.terminal import emit, say, talk
    from undertone.workspace import Workspace

    talk()
    found = label_check.check(
        Workspace(),
        task,
        source,
        folds=folds,
        limit=limit,
        seed=seed,
        version=version,
        base=base_model,
        text_column=text_column,
        label_column=label_column,
    )
    if out:
        label_check.write_review(found, Path(out), blind=blind)
    emit(found.as_dict(), as_json=as_json, text=label_check.check_text(found))
    if out:
        say(
            f"wrote {len(found.rows)} rows into {out}: fill in the column label (a label, or {label_check.DROP}), then"
            f" `undertone labels apply {task} {out} --source {found.source} --out FOLDER`"
        )


@app.command()
def apply(
    task: Task,
    file: Annotated[str, typer.Argument(help="the reviewed CSV: row_id and label (a label, drop, or nothing)")],
    out: Annotated[str, typer.Option(help="a new folder for the corrected rows", metavar="FOLDER")],
    source: Annotated[str, typer.Option(help="the source that was checked; default: the task's own")] = "",
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    as_json: Json = False,
) -> None:
    """Write the source's rows with the reviewed labels as a new source to train on; the source itself stays."""
    from pathlib import Path

    from flows import label_check
    from flows.terminal import emit
    from undertone.tasks import get_task
    from undertone.workspace import Workspace

    found = label_check.apply(
        Workspace(),
        task,
        file,
        source or get_task(task).source,
        Path(out),
        text_column=text_column,
        label_column=label_column,
    )
    emit(found, as_json=as_json, text=label_check.apply_text(task, found))
