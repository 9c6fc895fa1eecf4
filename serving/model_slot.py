"""One task's place in the worker: the version that serves, on disk and in memory, and the last refusal.

On disk, under ``<served_dir>/<task>/``: ``current.json`` names the folder of the last good version; each folder holds
``model/`` and its signature. A copy is verified every time it is loaded. Workers that share a home share these copies.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undertone import signing
from undertone.engine import Engine
from undertone.errors import UndertoneError, VerificationError
from undertone.signing import SIGNATURE
from undertone.tasks import TaskSpec

POINTER = "current.json"
STAGING = "staging"
LOCK = "fetch.lock"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What ``current.json`` says: the last good version, its folder's name, and its id in MLflow.

    A version number alone is not enough: a model that is deleted and registered anew starts again at 1.
    """

    version: int
    folder: str
    origin: str


@dataclass(frozen=True, slots=True)
class Served:
    """A version in service. ``origin`` is the id of its logged model in MLflow."""

    version: int
    origin: str
    digest: str
    engine: Engine
    since: datetime
    approver: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was not put into service, and why. The version is None where not even that could be read."""

    version: int | None
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
        self._told: set[tuple[int | None, str]] = set()

    def pointer(self) -> Pointer | None:
        """What the disk says was good last; None on a new home.

        Raises:
            VerificationError: the pointer file is there and cannot be read.
        """
        path = self.folder / POINTER
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            # only the folder's name counts: a pointer never leads outside
            return Pointer(int(values["version"]), Path(values["folder"]).name, str(values.get("origin", "")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise VerificationError(
                f"a version and a folder in {path}",
                f"{type(error).__name__}: {error}",
                "nothing to do where MLflow answers: the champion is fetched again",
            ) from error

    def load(self, folder: Path, version: int, origin: str) -> Served:
        """Verify, load and try the copy in `folder`.

        Raises:
            VerificationError: the signature, the bytes, the task, the labels or the answers do not hold.
            UndertoneError: the copy cannot be read just now.
        """
        model = folder / "model"
        try:
            statement = signing.verify(model, folder / SIGNATURE, self.trusted, self.spec.name, version)
            engine = Engine(model, self.threads)
            self._check_labels(engine)
            engine.smoke()
        except UndertoneError:
            raise
        except OSError as error:
            raise UndertoneError(
                "a copy that can be read", f"{type(error).__name__}: {error}", f"check disk and rights of {folder}"
            ) from error
        except Exception as error:  # libraries meet a foreign file's content here; whatever they raise is a refusal
            raise VerificationError(
                f"a model of {self.spec.name} that scores", f"{type(error).__name__}: {error}", "train the model again"
            ) from error
        return Served(version, origin, statement.manifest_sha256, engine, datetime.now(UTC), statement.approver, folder)

    def _check_labels(self, engine: Engine) -> None:
        if (engine.card.task, engine.labels) != (self.spec.name, self.spec.labels):
            raise VerificationError(
                f"labels {', '.join(self.spec.labels)} of {self.spec.name}",
                f"{', '.join(engine.labels)} of {engine.card.task}",
                "approve a version of this task",
            )

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """The right to change this task's copies on disk. False: another worker of this home holds it just now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    def stage(self) -> Path:
        """An empty folder to fetch a version into; only with `exclusive`. Always the same, so errors read alike."""
        folder = self.folder / STAGING
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "model").mkdir(parents=True)
        return folder

    def put(self, staged: Served) -> None:
        """Make the staged copy the last good one, serve it from the next call on, drop copies older than the last two.

        The pointer moves first: what serves is always on disk. Only with `exclusive`.
        """
        try:
            before = self.pointer()
        except VerificationError:
            before = None
        folder = self.folder / f"{staged.version}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        os.rename(staged.folder, folder)
        fresh = self.folder / f"{POINTER}.new"
        with fresh.open("w", encoding="utf-8") as stream:
            json.dump({"version": staged.version, "folder": folder.name, "origin": staged.origin}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(fresh, self.folder / POINTER)
        self.serve(replace(staged, folder=folder))
        keep = {folder.name, before.folder if before else folder.name}
        for old in self.folder.iterdir():
            if old.is_dir() and old.name not in keep:
                shutil.rmtree(old, ignore_errors=True)

    def serve(self, served: Served) -> None:
        """Answer with `served` from the next call on."""
        self.served, self.refusal = served, None

    def refuse(self, version: int | None, error: UndertoneError) -> bool:
        """Remember why `version` does not serve. Gives whether that was not yet told for this version and reason."""
        parts = error.as_dict()
        if self.refusal is None or (self.refusal.version, self.refusal.error) != (version, parts):
            self.refusal = Refusal(version, parts, datetime.now(UTC))
        key = (version, str(error))
        news = key not in self._told
        self._told.add(key)
        return news

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
