"""What a reproduction starts from: data, base model, labels, locks and the machine, checked against the record."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from sqlalchemy import RowMapping

from flows.recorded_code import Code
from training import base_model, lineage, sources
from undertone.errors import DataError, RegistryError, VerificationError
from undertone.model_folder import Lineage
from undertone.records import Feedback, Message, ScoredMessage
from undertone.registry import ModelVersion, Registry
from undertone.store import Store

#: What a run records of its machine; a difference may move the last bits of every number.
_MACHINE = ("python", "platform", "machine", "cores")


def require_inputs(task: str, version: int, origin: Lineage) -> str:
    """Refuse at once what could not come out the same; gives the base model's name for the training."""
    for part in sources.parts(origin.source):
        path = Path(part.removeprefix("hf:"))
        if path.is_absolute() and not path.exists():
            raise DataError(
                f"the data of {task} {version} at {path}",
                "nothing there",
                f"put it back (its fingerprint was {origin.data_sha256[:12]}…); without it nothing can be reproduced",
            )
    found = base_model.resolve(origin.base_model)
    if found.sha256 != origin.base_model_sha256:
        raise VerificationError(
            f"base model {origin.base_model} with SHA-256 {origin.base_model_sha256}",
            found.sha256,
            "bring back the weights that the version was trained from",
        )
    folder = Path(origin.base_model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else origin.base_model


def lock_caveats(code: Code, origin: Lineage) -> list[str]:
    """What is not the same about the code and its locked packages, a sentence each."""
    found = [code.caveat] if code.caveat else []
    installed, its_own = lineage.lock_sha256(), code.lock_sha256
    if origin.lock_sha256 != installed:
        found.append(
            f"the version was trained with the lock {origin.lock_sha256[:12]}, installed here is {installed[:12]}"
        )
    if code.recorded and its_own is not None and its_own != origin.lock_sha256:
        found.append(f"the lock in its commit is {its_own[:12]}, recorded was {origin.lock_sha256[:12]}")
    return found


def machine_caveats(registry: Registry, made: ModelVersion) -> list[str]:
    """What is not the same about the machine and what is installed on it, a sentence each."""
    run = registry.client.get_run(made.run_id)
    here = lineage.machine()
    found = [
        f"{name} was {run.data.params[name]}, here it is {here[name]}"
        for name in _MACHINE
        if name in run.data.params and run.data.params[name] != here.get(name)
    ]
    try:
        then = set(registry.read_file(made.run_id, "environment/installed.txt").decode().split())
    except RegistryError:
        return found
    gone = sorted(then - set(lineage.distributions()))
    if gone:
        more = f" and {len(gone) - 5} more" if len(gone) > 5 else ""
        found.append(f"not installed here as it was then: {', '.join(gone[:5])}{more}")
    return found


def label_caveats(store: Store, task: str, origin: Lineage) -> list[str]:
    """What retention took from the labels that the version learned from, in a sentence; erased customers leave none."""
    if "feedback" not in sources.parts(origin.source):
        return []
    removed = store.labelled_without_text(task, origin.trained_at)
    return [f"retention has removed the texts of {removed} labelled messages"] if removed else []


def recorded_threads(registry: Registry, made: ModelVersion) -> int | None:
    """Threads of the training; None where its run does not say. Their number moves the last digits of every sum."""
    found = registry.client.get_run(made.run_id).data.params.get("threads", "")
    return int(found) if found.isdigit() else None


def copy_labels(ours: Store, theirs: Store, task: str, until: datetime) -> None:
    """Copy the messages that people had labelled for `task` by `until`, and their labels, into the store `theirs`."""
    rows = ours.labelled(task, until)
    theirs.record([ScoredMessage(_message(row), ()) for row in rows])
    names = ("message_id", "label", "labeller", "labelled_at", "origin", "suggested")
    theirs.add_feedback([Feedback(task=task, **{name: row[name] for name in names}) for row in rows])
    theirs.engine.dispose()


def _message(row: RowMapping) -> Message:
    return Message(
        id=row["message_id"],
        text=row["text"],
        channel=row["channel"],
        segment=row["segment"],
        sent_at=row["sent_at"],
        received_at=row["labelled_at"],  # training does not look at it, and the store wants one
    )
