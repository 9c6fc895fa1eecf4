"""One task's place in the worker: the version that serves, on disk and in memory, and the last refusal.

On disk, under ``<served_dir>/<task>/``: ``current.json`` names the folder of the last good version; each folder holds
``model/`` and its signature. A copy is verified every time it is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undertone import signing
from undertone.engine import Engine
from undertone.errors import UndertoneError, VerificationError
from undertone.model_folder import digest, manifest
from undertone.signing import SIGNATURE
from undertone.tasks import TaskSpec

POINTER = "current.json"


@dataclass(frozen=True, slots=True)
class Served:
    """A version in service."""

    version: int
    digest: str
    engine: Engine
    since: datetime
    approver: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was not put into service, and why."""

    version: int
    error: dict[str, str]
    at: datetime


class ModelSlot:
    """Holds what serves for one task. Replacing it is one assignment: calls under way finish on what they hold.

    Args:
        spec: the task.
        folder: where copies of this task's versions are kept.
        trusted: folder of approvers' public keys.
        threads: threads for one engine.
    """

    def __init__(self, spec: TaskSpec, folder: Path, trusted: Path, threads: int) -> None:
        self.spec = spec
        self.folder = folder
        self.trusted = trusted
        self.threads = threads
        self.served: Served | None = None
        self.refusal: Refusal | None = None

    def restore(self) -> bool:
        """Load the last good copy from disk, verified again. Gives whether there is one that serves."""
        try:
            pointer = json.loads((self.folder / POINTER).read_text(encoding="utf-8"))
            version, name = int(pointer["version"]), Path(pointer["folder"]).name
        except (OSError, ValueError, KeyError, TypeError):
            return False
        try:
            self.served = self.load(self.folder / name, version)
        except UndertoneError as error:
            self.refuse(version, error)
            return False
        return True

    def staging(self, version: int) -> Path:
        """A new folder to download `version` into."""
        folder = self.folder / f"{version}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        folder.mkdir(parents=True)
        return folder

    def load(self, folder: Path, version: int) -> Served:
        """Verify, load and try the copy in `folder`.

        Raises:
            VerificationError: the signature, the bytes, the task, the labels or the answers do not hold.
        """
        model = folder / "model"
        statement = signing.verify(model, folder / SIGNATURE, self.trusted, self.spec.name, version)
        engine = Engine(model, self.threads)
        if (engine.card.task, engine.labels) != (self.spec.name, self.spec.labels):
            raise VerificationError(
                f"labels {', '.join(self.spec.labels)} of {self.spec.name}",
                f"{', '.join(engine.labels)} of {engine.card.task}",
                "approve a version of this task",
            )
        engine.smoke()
        return Served(version, digest(manifest(model)), engine, datetime.now(UTC), statement.approver, folder)

    def put(self, served: Served) -> None:
        """Serve `served` from the next call on, remember it on disk, and drop copies older than the one before it."""
        before = self.served
        self.served, self.refusal = served, None
        fresh = self.folder / f"{POINTER}.new"
        fresh.write_text(json.dumps({"version": served.version, "folder": served.folder.name}), encoding="utf-8")
        os.replace(fresh, self.folder / POINTER)
        keep = {served.folder, before.folder if before else served.folder}
        for folder in self.folder.iterdir():
            if folder.is_dir() and folder not in keep:
                shutil.rmtree(folder, ignore_errors=True)

    def refuse(self, version: int, error: UndertoneError) -> bool:
        """Remember why `version` does not serve. Gives whether this is news."""
        known = self.refusal is not None and (self.refusal.version, self.refusal.error) == (version, error.as_dict())
        if not known:
            self.refusal = Refusal(version, error.as_dict(), datetime.now(UTC))
        return not known

    def state(self) -> dict[str, Any]:
        """What serves and what was refused, for `/readyz`."""
        served, refusal = self.served, self.refusal
        return {
            "version": served.version if served else None,
            "digest": served.digest if served else None,
            "approved_by": served.approver if served else None,
            "since": served.since.isoformat() if served else None,
            "refused": {"version": refusal.version, "at": refusal.at.isoformat(), **refusal.error} if refusal else None,
        }
