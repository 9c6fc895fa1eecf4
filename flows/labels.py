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
from undertone.reviews import GivenLabel
from undertone.tasks import TaskSpec, get_task
from undertone.text import repair
from undertone.workspace import Workspace

Format = Literal["csv", "label-studio"]

#: Columns of an exported queue; labellers fill in `label`, and `reviewer` if they like.
COLUMNS = ("review_id", "text", "channel", "segment", "sent_at", "guideline", "label", "reviewer")


def add_file(task: str, path: str, workspace: Workspace | None = None) -> dict[str, Any]:
    """Store the labels in a CSV with the columns message_id and label.

    Others may be there: labeller, labelled_at, suggested and guideline (version of the labelling guideline).

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
            suggested=_truth(row.get("suggested"), "suggested", path),
            guideline=_guideline(row),
        )
        for row in rows
    ]
    known = workspace.store.known([label.message_id for label in labels])
    added = workspace.store.add_feedback(labels)
    return {"added": added, "unknown": sum(label.message_id not in known for label in labels)}


def export_reviews(
    task: str, layout: Format = "csv", workspace: Workspace | None = None, reviewer: str | None = None
) -> str:
    """The open items of the review queue as a file's content.

    Neither the models' answers are in it nor why an item was picked: who labels shall know neither. Second items are
    rows like all others.

    Args:
        layout: ``csv`` with `COLUMNS`, or ``label-studio``: a list of tasks as JSON, with ``data.text`` and
            ``data.review_id``.
        reviewer: leave out second items of messages that this one labelled; None: all.
    """
    workspace = workspace or Workspace()
    guideline = workspace.settings.guideline
    shown = [
        {"review_id": item["id"]}
        | {name: item[name] for name in ("text", "channel", "segment", "sent_at")}
        | {"guideline": guideline}
        for item in workspace.reviews.export(get_task(task).name, reviewer)
    ]
    if layout == "label-studio":
        tasks = [{"data": {name: cell for name, cell in item.items() if name != "sent_at"}} for item in shown]
        return json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"
    return as_csv(COLUMNS, [inert_row(item | {"sent_at": item["sent_at"].isoformat()}) for item in shown])


def import_reviews(
    task: str, path: str, reviewer: str = "", now: datetime | None = None, workspace: Workspace | None = None
) -> dict[str, int]:
    """Labels for items of the review queue: a CSV as `export_reviews` writes it, or Label Studio's JSON export.

    Rows without a label stay open. All labels count, or none. Where two people annotated a task in Label Studio, the
    newest annotation is the item's label, and the newest of the other person its second label.

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
            _guideline(row),
            second=_truth(row.get("second"), "second", path),
        )
        for row in given
    ]
    counts = workspace.reviews.import_labels(task, labels, now or datetime.now(UTC))
    return counts | {"open": len(rows) - len(given)}


def _label_studio(path: str) -> list[dict[str, str]]:
    """Rows of Label Studio's JSON export (https://labelstud.io/guide/task_format).

    The newest annotation of each task is one, and the newest by somebody else another one, marked as ``second``.

    Raises:
        DataError: it is something else, an annotation has several choices, or began as a prediction.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            tasks = json.load(stream)
        return [row for task in tasks for row in _annotated(task)]
    except OSError as error:
        raise DataError("a JSON file of labels", f"{type(error).__name__}: {error}", f"check {path}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            "Label Studio's export in the format JSON, with data.review_id in each task",
            f"{type(error).__name__}: {error}",
            f"export {path} anew, as JSON and not as JSON-MIN",
        ) from error


def _annotated(task: Mapping[str, Any]) -> list[dict[str, str]]:
    data = task["data"]
    item = {"review_id": str(data["review_id"]), "label": "", "guideline": str(data.get("guideline") or "")}
    kept = [one for one in task["annotations"] if not one.get("was_cancelled") and one["result"]]
    if not kept:
        return [item]
    kept.sort(key=lambda one: one.get("updated_at") or one.get("created_at") or "")
    others = [one for one in kept if _annotator(one) != _annotator(kept[-1])]
    second = [item | _annotation(item["review_id"], others[-1]) | {"second": "true"}] if others else []
    return [item | _annotation(item["review_id"], kept[-1]), *second]


def _annotation(item: str, annotation: Mapping[str, Any]) -> dict[str, str]:
    """Label, reviewer and time of one annotation."""
    if annotation.get("parent_prediction"):
        raise DataError(
            "labels that people gave without a suggestion",
            f"an annotation of item {item} that began as a prediction",
            "label it again in a project without predictions",
        )
    choices = [choice for one in annotation["result"] if one["type"] == "choices" for choice in one["value"]["choices"]]
    if len(choices) != 1:
        raise DataError("one choice an item", f"{len(choices)} for item {item}", "choose one label")
    who, at = _annotator(annotation), annotation.get("created_at")
    named = {"reviewer": who} if who else {}
    return {"label": str(choices[0])} | named | ({"labelled_at": str(at)} if at else {})


def _annotator(annotation: Mapping[str, Any]) -> str:
    """Who annotated; empty: the export does not say."""
    who = annotation.get("completed_by")
    who = (who.get("email") or who.get("id")) if isinstance(who, dict) else who
    return "" if not who else who if isinstance(who, str) else f"label-studio user {who}"


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


def _guideline(row: Mapping[str, str]) -> str | None:
    """The version of the guideline that a row names, as much of it as the store keeps; None: none."""
    return repair(row.get("guideline") or "").strip()[:40] or None


def _truth(value: str | None, column: str, path: str) -> bool:
    word = (value or "").strip().lower()
    if word not in {"", "true", "false"}:
        raise DataError(f"true, false or nothing in the column {column}", repr(value), f"mend {path}")
    return word == "true"


def _number(value: str, path: str) -> int:
    try:
        return int(value)
    except ValueError as error:
        raise DataError("numbers in the column review_id", repr(value), f"mend {path}") from error
