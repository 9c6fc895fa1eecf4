"""Labels from a file into the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pandas as pd

from undertone.errors import DataError
from undertone.records import Feedback, utc
from undertone.tasks import get_task
from undertone.text import repair
from undertone.workspace import Workspace


def add_file(task: str, path: str, workspace: Workspace | None = None) -> dict[str, Any]:
    """Store the labels in a CSV with columns message_id and label, and optionally labeller and labelled_at.

    Labels for messages that were never scored are kept too, counted as ``unknown``: they count once the
    message is scored.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds a label the task does not have;
            then nothing is stored.
    """
    spec, workspace = get_task(task), workspace or Workspace()
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError("a CSV file of labels", f"{type(error).__name__}: {error}", f"check {path}") from error
    missing = [column for column in ("message_id", "label") if column not in frame]
    if missing:
        raise DataError("the columns message_id and label", f"{', '.join(frame.columns)}", f"add {', '.join(missing)}")
    wrong = sorted(set(frame["label"]) - set(spec.labels))
    if wrong:
        raise DataError(f"labels of {task}: {', '.join(spec.labels)}", ", ".join(map(repr, wrong[:5])), f"mend {path}")
    now = datetime.now(UTC)
    labels = [
        Feedback(
            message_id=repair(str(row["message_id"])),  # as serving stores it
            task=task,
            label=str(row["label"]),
            labeller=repair(str(row.get("labeller") or workspace.settings.actor)),
            labelled_at=utc(datetime.fromisoformat(str(row["labelled_at"]))) if row.get("labelled_at") else now,
        )
        for row in frame.to_dict("records")
    ]
    known = workspace.store.known([label.message_id for label in labels])
    added = workspace.store.add_feedback(labels)
    return {"added": added, "unknown": sum(label.message_id not in known for label in labels)}
