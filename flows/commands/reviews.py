"""`undertone reviews`: messages that people label without seeing the model's answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer

from flows.commands.options import Json, Task

app = typer.Typer(
    help="Messages for people to label: next, label, skip, undo, show, agreement, pick, export, import.",
    no_args_is_help=True,
)

Item = Annotated[int, typer.Argument(help="number of the item, as `next` shows it", metavar="ITEM")]
Reviewer = Annotated[str, typer.Option(help="who labels; default: the settings' actor", metavar="NAME")]


@app.command(name="next")
def next_items(
    task: Task,
    count: Annotated[int, typer.Option(min=1, max=200, help="at most this many items")] = 1,
    minutes: Annotated[float, typer.Option(min=1, help="they are yours for so long")] = 30,
    reviewer: Reviewer = "",
    as_json: Json = False,
) -> None:
    """Take the next messages in hand: audits first, then the most valuable. Nobody else gets them meanwhile."""
    from datetime import UTC, datetime

    from flows.terminal import emit, say

    queue, name = _queue(reviewer)
    now = datetime.now(UTC)
    items = queue.next(task, name, now, count=count, minutes=minutes)
    emit(items, as_json=as_json, text="\n\n".join(_card(item, now) for item in items))
    if not items:
        say(f"nothing of {task} to label")
    elif not as_json:
        say("\nlabel one with `undertone reviews label ITEM LABEL`, or `undertone reviews skip ITEM`")


@app.command()
def label(
    item: Item,
    label: Annotated[str, typer.Argument(help="one of the task's labels", metavar="LABEL")],
    reviewer: Reviewer = "",
    as_json: Json = False,
) -> None:
    """Give an item its label; your own may be corrected by giving another."""
    from datetime import UTC, datetime

    from flows.terminal import emit

    queue, name = _queue(reviewer)
    queue.label(item, label, name, datetime.now(UTC))
    emit({"item": item, "label": label, "reviewer": name}, as_json=as_json, text=f"item {item} is {label}")


@app.command()
def skip(item: Item, reviewer: Reviewer = "", as_json: Json = False) -> None:
    """Close an item without a label: nobody could tell. The next draw replaces it."""
    from datetime import UTC, datetime

    from flows.terminal import emit

    queue, name = _queue(reviewer)
    queue.skip(item, name, datetime.now(UTC))
    emit({"item": item, "skipped": True, "reviewer": name}, as_json=as_json, text=f"item {item} is skipped")


@app.command()
def undo(
    task: Annotated[str, typer.Argument(help="the last act on this task; default: on any", metavar="[TASK]")] = "",
    reviewer: Reviewer = "",
    as_json: Json = False,
) -> None:
    """Take your last label or skip back: the item is yours again, and the label's feedback is gone."""
    from datetime import UTC, datetime

    from flows.terminal import emit
    from undertone.tasks import get_task

    queue, name = _queue(reviewer)
    undone = queue.undo(name, datetime.now(UTC), get_task(task).name if task else None)
    was = undone["label"] or "skipped"
    emit(undone, as_json=as_json, text=f"item {undone['id']} of {undone['task']} was {was}; it is open again")


@app.command()
def agreement(task: Task, as_json: Json = False) -> None:
    """How far two people give a message the same label: Cohen's kappa in all, by pair of people and by label."""
    from dataclasses import asdict

    from flows.terminal import emit, table
    from undertone.agreement import agree, agree_by_label, by_people
    from undertone.tasks import get_task

    spec = get_task(task)
    twice = _queue()[0].twice(spec.name)
    kept = [one for one in twice if one.same_guideline]
    pairs = [(one.first_label, one.second_label) for one in kept]
    people = [(names, agree(spec.labels, both)) for names, both in by_people(kept).items()]
    labels = agree_by_label(spec.labels, pairs)
    differ = [one for one in kept if one.first_label != one.second_label]
    found = {
        "task": spec.name,
        "all": (all_ := agree(spec.labels, pairs)) and asdict(all_),
        "people": [{"names": list(names), **asdict(one)} for names, one in people if one],
        "labels": [asdict(one) for one in labels],
        "differ": [asdict(one) | {"labelled_at": one.labelled_at.isoformat()} for one in differ],
        "other_guidelines": len(twice) - len(kept),
    }
    shown = [{"who": "all", **_agreed(all_)}] if all_ else []
    shown += [{"who": " and ".join(names), **_agreed(one)} for names, one in people if one]
    by_label = [
        {
            "label": one.label,
            "agreement": "-" if one.specific is None else f"{one.specific:.2f}",
            "instead": ", ".join(f"{name} {count}" for name, count in one.instead),
        }
        for one in labels
    ]
    columns = ["item", "message_id", "first_reviewer", "first_label", "second_reviewer", "second_label"]
    parts = [table(shown, ["who", "messages", "same", "kappa", "interval"])]
    parts += [table(by_label, ["label", "agreement", "instead"]), table([asdict(one) for one in differ], columns)]
    emit(found, as_json=as_json, text="\n\n".join(parts) if all_ else f"no message of {task} has two labels yet")


@app.command()
def show(
    task: Annotated[str, typer.Argument(help="one task; default: all", metavar="[TASK]")] = "",
    as_json: Json = False,
) -> None:
    """What is open and what was labelled, by batch."""
    from datetime import UTC, datetime

    from flows.terminal import emit, table
    from undertone.tasks import get_task

    queue, _ = _queue()
    rows = queue.open(get_task(task).name if task else None, datetime.now(UTC))
    columns = ["task", "batch", "kind", "version", "asked_at", "open", "held", "labelled", "skipped", "erased"]
    emit(rows, as_json=as_json, text=table(rows, columns))


@app.command()
def pick(
    task: Task,
    count: Annotated[int, typer.Option(min=1, help="at most this many")] = 50,
    days: Annotated[float, typer.Option(help="of the messages sent in the last so many days")] = 7.0,
    as_json: Json = False,
) -> None:
    """Queue unsure answers of the champion that differ from each other, and some at random: once a day."""
    from datetime import UTC, datetime

    from flows.audits import queue_picks
    from flows.terminal import emit
    from undertone.workspace import Workspace

    added = queue_picks(Workspace(), task, count, datetime.now(UTC), days)
    emit({"added": added}, as_json=as_json, text=f"{added} messages of {task} went to the reviewers")


@app.command()
def export(
    task: Task,
    file: Annotated[str, typer.Option(help="where to write; default: standard output")] = "",
    layout: Annotated[str, typer.Option("--format", help="csv or label-studio")] = "csv",
    reviewer: Annotated[
        str, typer.Option(help="who will label: leave out what needs another person", metavar="NAME")
    ] = "",
) -> None:
    """All open items as a file, to label them elsewhere. It holds customers' words: keep it as closed as the store."""
    from pathlib import Path

    from flows.labels import export_reviews
    from flows.terminal import emit, say
    from undertone.errors import ConfigError

    if layout not in ("csv", "label-studio"):
        raise ConfigError("a format (csv, label-studio)", repr(layout), "use one of these")
    made = export_reviews(task, layout, reviewer=reviewer or None)  # type: ignore[arg-type]
    if file:
        try:
            Path(file).write_text(made, encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                "a file that can be written", f"{type(error).__name__}: {error}", "name another"
            ) from error
        say(f"wrote {file}")
    else:
        emit(None, as_json=False, text=made.rstrip("\n"))


@app.command(name="import")
def import_file(
    task: Task,
    file: Annotated[str, typer.Argument(help="CSV with review_id and label, or Label Studio's JSON export (.json)")],
    reviewer: Annotated[str, typer.Option(help="who labelled rows that name nobody; default: you")] = "",
    as_json: Json = False,
) -> None:
    """Labels made elsewhere: all of them, or none where one cannot be used. Importing twice changes nothing."""
    from flows.labels import import_reviews
    from flows.terminal import emit

    counts = import_reviews(task, file, reviewer)
    words = {
        "second": "of them for the second time",
        "unchanged": "were there already",
        "others": "are another reviewer's",
        "open": "have no label yet",
    }
    parts = [f"{counts['labelled']} items labelled", *(f"{counts[k]} {w}" for k, w in words.items() if counts[k])]
    emit(counts, as_json=as_json, text=", ".join(parts))


def _queue(reviewer: str = "") -> tuple[Any, str]:
    """The queue of this workspace, and who labels."""
    from undertone.workspace import Workspace

    workspace = Workspace()
    return workspace.reviews, reviewer or workspace.settings.actor


def _agreed(one: Any) -> dict[str, Any]:
    """A row on how far people agree."""
    kappa = "not defined" if one.kappa is None else f"{one.kappa:.2f}"
    interval = "too few to tell" if one.kappa_interval is None else "{:.2f} to {:.2f}".format(*one.kappa_interval)
    return {"messages": one.rows, "same": f"{100 * one.observed:.0f} %", "kappa": kappa, "interval": interval}


def _card(item: dict[str, Any], now: datetime) -> str:
    """One item for the terminal."""
    from undertone.reviews import age

    about = [item["channel"], item["segment"] and f"segment {item['segment']}", age(item["sent_at"], now)]
    return "\n".join(
        [
            f"item {item['id']}: " + ", ".join(filter(None, about)),
            *(f"  {line}" for line in item["text"].splitlines() or [""]),
            f"  {' | '.join(item['labels'])}",
        ]
    )
