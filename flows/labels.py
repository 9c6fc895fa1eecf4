"""Labels from files into the store, and messages out of it for people to label."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import pandas as pd

from undertone.csv_cells import as_csv, inert_row
from undertone.errors import DataError
from undertone.records import Feedback, utc
from undertone.reviews import GivenLabel, Reviews
from undertone.tasks import TaskSpec, get_task
from undertone.text import repair
from undertone.workspace import Workspace

Format = Literal["csv", "label-studio"]

#: Columns of an exported queue; labellers fill in `label`, and `reviewer` if they like.
COLUMNS = ("review_id", "text", "channel", "segment", "sent_at", "label", "reviewer")


def add_file(task: str, path: str, workspace: Workspace | None = None) -> dict[str, Any]:
    """Store the labels in a CSV with columns message_id and label, and optionally labeller, labelled_at and suggested.

    Labels for messages that were never scored are kept too, counted as ``unknown``: they count once the
    message is scored. ``suggested`` (true or false) says that the labeller saw the model's answer first.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds a label the task does not have;
            then nothing is stored.
    """
    spec, workspace = get_task(task), workspace or Workspace()
    rows = read_csv(path, ("message_id", "label"))
    _check_labels(spec, [row["label"] for row in rows], path)
    now = datetime.now(UTC)
    labels = [
        Feedback(
            message_id=repair(row["message_id"]),  # as serving stores it
            task=task,
            label=row["label"],
            labeller=repair(row.get("labeller") or workspace.settings.actor),
            labelled_at=_time(row.get("labelled_at"), path) or now,
            origin="import",
            suggested=_truth(row.get("suggested"), path),
        )
        for row in rows
    ]
    known = workspace.store.known([label.message_id for label in labels])
    added = workspace.store.add_feedback(labels)
    return {"added": added, "unknown": sum(label.message_id not in known for label in labels)}


def export_reviews(task: str, layout: Format = "csv", workspace: Workspace | None = None) -> str:
    """The open items of the review queue as a file's content, without the model's answers.

    Args:
        layout: ``csv`` with `COLUMNS`, or ``label-studio``: a list of tasks as JSON, with ``data.text`` and
            ``data.review_id``.
    """
    items = Reviews((workspace or Workspace()).store).export(get_task(task).name)
    if layout == "label-studio":
        tasks = [
            {"data": {"review_id": item["id"], **{name: item[name] for name in ("text", "channel", "segment")}}}
            for item in items
        ]
        return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"
    rows = [
        {"review_id": item["id"], "sent_at": item["sent_at"].isoformat()}
        | inert_row({name: item[name] for name in ("text", "channel", "segment")})
        for item in items
    ]
    return as_csv(COLUMNS, rows)


def import_reviews(
    task: str, path: str, reviewer: str = "", now: datetime | None = None, workspace: Workspace | None = None
) -> dict[str, int]:
    """Labels for items of the review queue: a CSV as `export_reviews` writes it, or Label Studio's JSON export.

    Rows without a label stay open. All labels count, or none.

    Args:
        reviewer: who labelled rows that name nobody; default: the settings' actor.

    Raises:
        DataError: the file cannot be read, an item or a label is unknown, or a label began as a suggestion.

    Returns:
        As `undertone.reviews.Reviews.import_labels`, and ``open``: rows without a label.
    """
    spec, workspace = get_task(task), workspace or Workspace()
    reviewer = reviewer or workspace.settings.actor
    rows = _label_studio(path) if path.lower().endswith(".json") else read_csv(path, ("review_id", "label"))
    given = [row for row in rows if row["label"]]
    _check_labels(spec, [row["label"] for row in given], path)
    labels = [
        GivenLabel(
            _number(row["review_id"], path),
            row["label"],
            repair(row.get("reviewer") or reviewer),
            _time(row.get("labelled_at"), path),
        )
        for row in given
    ]
    counts = Reviews(workspace.store).import_labels(task, labels, now or datetime.now(UTC))
    return counts | {"open": len(rows) - len(given)}


def _label_studio(path: str) -> list[dict[str, str]]:
    """Rows of Label Studio's JSON export (https://labelstud.io/guide/task_format): the newest annotation of each task.

    Raises:
        DataError: it is something else, an annotation has several choices, or began as a prediction.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            tasks = json.load(stream)
        return [_annotated(task) for task in tasks]
    except OSError as error:
        raise DataError("a JSON file of labels", f"{type(error).__name__}: {error}", f"check {path}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "Label Studio's export in the format JSON, with data.review_id in each task",
            f"{type(error).__name__}: {error}",
            f"export {path} anew, as JSON and not as JSON-MIN",
        ) from error


def _annotated(task: Mapping[str, Any]) -> dict[str, str]:
    item = {"review_id": str(task["data"]["review_id"]), "label": ""}
    kept = [one for one in task["annotations"] if not one.get("was_cancelled") and one["result"]]
    if not kept:
        return item
    newest = max(kept, key=lambda one: one.get("updated_at") or one.get("created_at") or "")
    if newest.get("parent_prediction"):
        raise DataError(
            "labels that people gave without a suggestion",
            f"an annotation of item {item['review_id']} that began as a prediction",
            "label it again in a project without predictions",
        )
    choices = [choice for one in newest["result"] if one["type"] == "choices" for choice in one["value"]["choices"]]
    if len(choices) != 1:
        raise DataError("one choice an item", f"{len(choices)} for item {item['review_id']}", "choose one label")
    who = newest.get("completed_by")
    who = (who.get("email") or who.get("id")) if isinstance(who, dict) else who
    named = {"reviewer": who if isinstance(who, str) else f"label-studio user {who}"} if who else {}
    at = newest.get("created_at")
    return item | {"label": str(choices[0])} | named | ({"labelled_at": str(at)} if at else {})


def read_csv(path: str, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV file, every cell as text.

    Raises:
        DataError: it cannot be read, or lacks one of `columns`.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError("a CSV file of labels", f"{type(error).__name__}: {error}", f"check {path}") from error
    missing = [column for column in columns if column not in frame]
    if missing:
        raise DataError(f"the columns {' and '.join(columns)}", ", ".join(frame.columns), f"add {', '.join(missing)}")
    return [{str(name): str(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _check_labels(spec: TaskSpec, labels: Sequence[str], path: str) -> None:
    wrong = sorted(set(labels) - set(spec.labels))
    if wrong:
        found = ", ".join(map(repr, wrong[:5]))
        raise DataError(f"labels of {spec.name}: {', '.join(spec.labels)}", found, f"mend {path}")


def _time(value: str | None, path: str) -> datetime | None:
    if not value:
        return None
    try:
        return utc(datetime.fromisoformat(value))
    except ValueError as error:
        raise DataError("times such as 2026-10-05T03:00Z, or none", repr(value), f"mend {path}") from error


def _truth(value: str | None, path: str) -> bool:
    word = (value or "").strip().lower()
    if word not in {"", "true", "false"}:
        raise DataError("true, false or nothing in the column suggested", repr(value), f"mend {path}")
    return word == "true"


def _number(value: str, path: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise DataError("numbers in the column review_id", repr(value), f"mend {path}") from error
