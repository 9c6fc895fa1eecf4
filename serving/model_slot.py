"""One task's place in the worker: the version that serves, on disk and in memory, and the last refusal.

On disk, under ``<served_dir>/<task>/``: ``current.json`` names the folder of the last good version; each folder holds
``model/``, its signature and the order to serve it. A copy is verified every time it is loaded. Workers that share a
home share these copies.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from undertone import signing
from undertone.engine import Engine
from undertone.errors import UndertoneError, VerificationError
from undertone.keys import Trust
from undertone.model_folder import MODEL
from undertone.signing import ORDER, SIGNATURE, Order, Statement
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    from serving.challenger import Challenger, NoTrial

POINTER = "current.json"
STAGING = "staging"
LOCK = "fetch.lock"


@dataclass(frozen=True, slots=True)
class Pointer:
    """What ``current.json`` says: the last good version, its folder's name, its id in MLflow, and its order's serial.

    A version number alone is not enough: a model that is deleted and registered anew starts again at 1.
    """

    version: int
    folder: str
    origin: str
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """A version in service. ``origin`` is the id of its logged model in MLflow, ``fingerprint`` its approver's key."""

    version: int
    origin: str
    engine: Engine
    since: datetime
    folder: Path
    statement: Statement
    order: Order
    fingerprint: str

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest."""
        return self.statement.manifest_sha256


@dataclass(frozen=True, slots=True)
class Refusal:
    """A version that was not put into service, and why. The version is None where not even that could be read."""

    version: int | None
    error: dict[str, str]
    at: datetime


@contextmanager
def exclusive(folder: Path) -> Iterator[bool]:
    """The right to change the copies in `folder`, which is made. False: another worker holds it just now."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


class ModelSlot:
    """Holds what serves for one task. Replacing it is one assignment: calls under way finish on what they hold.

    Args:
        spec: the task.
        folder: where copies of this task's versions are kept.
        trust: whose keys count.
        threads: threads for one engine.
    """

    def __init__(self, spec: TaskSpec, folder: Path, trust: Trust, threads: int) -> None:
        self.spec = spec
        self.folder = folder
        self.trust = trust
        self.threads = threads
        self.served: Served | None = None
        self.refusal: Refusal | None = None
        self.trial: Challenger | NoTrial | None = None
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
            return Pointer(
                int(values["version"]),
                Path(values["folder"]).name,
                str(values.get("origin", "")),
                int(values.get("serial", 0)),
            )
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
        model = folder / MODEL
        with self.reading(folder):
            statement = signing.verify(model, folder / SIGNATURE, self.trust, self.spec.name, version)
            order = signing.read_order(folder / ORDER, self.spec.name, version)
            signing.verify_order(order, statement, self.trust)
            approver = self.trust.approver(statement.approver)
            engine = self.open_engine(model)
        fingerprint = approver.fingerprint if approver else ""
        return Served(version, origin, engine, datetime.now(UTC), folder, statement, order, fingerprint)

    def open_engine(self, model: Path) -> Engine:
        """The engine of a verified folder, with this task's labels, tried once."""
        engine = Engine(model, self.threads)
        self._check_labels(engine)
        engine.smoke()
        return engine

    @contextmanager
    def reading(self, folder: Path) -> Iterator[None]:
        """Whatever goes wrong with a copy in the block comes out as an `UndertoneError`."""
        try:
            yield
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

    def copies(self) -> list[tuple[int, int, Path]]:
        """Serial, version and folder of every copy on disk, the newest order first; a copy without one is left out."""
        found = []
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if folder.name != STAGING:
                with suppress(OSError, ValueError):
                    order = Order.model_validate_json((folder / ORDER).read_text(encoding="utf-8"))
                    found.append((order.serial, order.version, folder))
        return sorted(found, key=lambda copy: (-copy[0], copy[2].name))

    def newest_serial(self) -> int:
        """The highest serial of an order that served here: an older one is a replay."""
        try:
            pointer = self.pointer()
        except VerificationError:
            pointer = None
        return max([pointer.serial if pointer else 0, *(serial for serial, _, _ in self.copies())])

    def recheck(self) -> UndertoneError | None:
        """Whether what serves still counts; where it does not, the newest copy that does takes its place, or nothing.

        Returns:
            Why the version that served was taken out, or None.
        """
        served = self.served
        if served is None:
            return None
        try:
            signing.check_standing(served.statement, served.order, served.fingerprint, self.trust)
        except UndertoneError as error:
            self.served = self._newest_good_copy()
            return error
        return None

    def fall_back(self) -> None:
        """Serve the copy on disk with the newest order that still verifies, if there is one."""
        self.served = self._newest_good_copy()

    def _newest_good_copy(self) -> Served | None:
        for _, version, folder in self.copies():
            with suppress(UndertoneError):
                return self.load(folder, version, "")
        return None

    def _check_labels(self, engine: Engine) -> None:
        if (engine.card.task, engine.labels) != (self.spec.name, self.spec.labels):
            raise VerificationError(
                f"labels {', '.join(self.spec.labels)} of {self.spec.name}",
                f"{', '.join(engine.labels)} of {engine.card.task}",
                "approve a version of this task",
            )

    def exclusive(self) -> AbstractContextManager[bool]:
        """The right to change this task's copies on disk. False: another worker of this home holds it just now."""
        return exclusive(self.folder)

    def stage(self) -> Path:
        """An empty folder to fetch a version into; only with `exclusive`. Always the same, so errors read alike."""
        folder = self.folder / STAGING
        shutil.rmtree(folder, ignore_errors=True)
        (folder / MODEL).mkdir(parents=True)
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
            pointer = Pointer(staged.version, folder.name, staged.origin, staged.order.serial)
            json.dump(asdict(pointer), stream)
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
        served, refusal, trial = self.served, self.refusal, self.trial
        return {
            "version": served.version if served else None,
            "digest": served.digest if served else None,
            "approved_by": served.statement.approver if served else None,
            "ordered": {"kind": served.order.kind, "by": served.order.approver, "serial": served.order.serial}
            if served
            else None,
            "since": served.since.isoformat() if served else None,
            "refused": {"version": refusal.version, "at": refusal.at.isoformat(), **refusal.error} if refusal else None,
            "trial": trial.state() if trial else None,
        }
