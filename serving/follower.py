"""Follows the champion alias: a newly approved version is fetched, verified, loaded and put into service. Trials are
followed beside it (`serving.trial_follower`).

The alias only says where to look. A version comes into service when an approver signed its bytes and the order to serve
it, when the ledger names it as the champion, and when its order is not older than one that served before. Whatever goes
wrong, the last good version goes on serving, and the reason is shown.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from serving.fetching import Fetcher
from serving.metrics import Metrics
from serving.model_slot import ModelSlot, Served
from serving.trial_follower import TrialFollower
from undertone import signing
from undertone.aliases import Aliases, aliases
from undertone.errors import UndertoneError, VerificationError
from undertone.model_folder import MODEL, STATEMENT
from undertone.settings import Settings
from undertone.signing import ORDER, SIGNATURE, Order

if TYPE_CHECKING:
    from undertone.ledger import Ledger

log = logging.getLogger("undertone.serving")

#: Looks between two tries of a version whose bytes were refused, and between two checks that a served version number
#: still means the same logged model.
PATIENCE = 10

#: Seconds that a worker which serves from disk answers before it first looks: nobody waits for what it would find.
SETTLE_S = 2.0


@dataclass(slots=True)
class _Refused:
    """What was tried and refused: trying it again is worth a download only when the approval changed, or rarely."""

    version: int
    approval: str
    looks: int = 0


class Follower:
    """A thread that looks at every task's alias every ``settings.follow_seconds``.

    What it needs to look is imported in the thread, so a worker with good copies on disk answers before that.
    """

    def __init__(
        self, settings: Settings, slots: Mapping[str, ModelSlot], metrics: Metrics, begin_trial: Callable[[], None]
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._metrics = metrics
        self._aliases: Aliases | None = None
        self._fetcher = Fetcher(settings, lambda: any(slot.served for slot in slots.values()))
        self._trials = TrialFollower(settings, self._fetcher, metrics, begin_trial)
        self._ledger: Ledger | None = None
        self._refused: dict[str, _Refused] = {}
        self._looks = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self.problem: str | None = None

    def restore(self) -> None:
        """Serve the last good copies on disk, each verified again, all tasks at the same time. Needs no MLflow."""
        with ThreadPoolExecutor(len(self._slots), thread_name_prefix="restore") as threads:
            list(threads.map(self._restore, self._slots.values()))
        self._show_versions()

    def _restore(self, slot: ModelSlot) -> None:
        version = None
        try:
            pointer = slot.pointer()
            if pointer is None:
                return
            version = pointer.version
            slot.serve(slot.load(slot.folder / pointer.folder, version, pointer.origin))
        except UndertoneError as error:
            slot.fall_back()
            self._refuse(slot, version, error)
        if slot.served:
            log.info("%s %s serves from disk", slot.spec.name, slot.served.version)

    @property
    def settled(self) -> bool:
        """Whether every champion that can serve does so: all tasks serve, or a look has ended, well or not."""
        return self._looks > 0 or self.problem is not None or all(slot.served for slot in self._slots.values())

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look under way may take a few seconds more in the background."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2)
        self._fetcher.stop()

    def _follow(self) -> None:
        if any(slot.served for slot in self._slots.values()):
            self._stopping.wait(SETTLE_S)
        while not self._stopping.is_set():
            self.look()
            self._fetcher.rest()
            self._stopping.wait(self._settings.follow_seconds)
        self._fetcher.stop()
        if self._ledger is not None:
            self._ledger.store.engine.dispose()

    def look(self) -> None:
        """One look at every alias and trial. Never raises: what serves serves on, `problem` says what is wrong."""
        self._look_at_champions()
        if not self._stopping.is_set():
            self._look_at_trials()

    def _look_at_champions(self) -> None:
        try:
            registry = self._aliases = self._aliases or aliases(self._settings)
            for slot in self._slots.values():
                if self._stopping.is_set():
                    return
                self._look_at(registry, slot)
        except UndertoneError as error:
            self._report(error)
        except Exception as error:  # noqa: BLE001  the thread's edge: a worker that stopped following would say nothing
            self._report(
                UndertoneError("a look at the champions", f"{type(error).__name__}: {error}", "read the worker's log"),
                error,
            )
        else:
            self._looks += 1
            if self.problem:
                log.warning("MLflow answers again")
            self.problem = None

    def _look_at_trials(self) -> None:
        """The ledger alone says what is on trial. Where it does not answer, trials go on, and the recorder says so."""
        try:
            self._trials.look(self._open_ledger(), self._slots.values())
        except UndertoneError as error:
            log.debug("the trials cannot be followed: %s", error)
        except Exception:  # the thread's edge, as above
            log.exception("the trials cannot be followed")

    def _report(self, error: UndertoneError, cause: Exception | None = None) -> None:
        if self.problem is None:
            log.warning("the champions cannot be followed, the last good versions serve on: %s", error, exc_info=cause)
        self.problem = str(error)

    def _look_at(self, registry: Aliases, slot: ModelSlot) -> None:
        task = slot.spec.name
        self._recheck(slot)
        version = registry.champion_version(task)
        if version is None:
            if slot.served and slot.served.origin:
                slot.refusal = None
            return
        if self._serves(registry, slot, version):
            slot.refusal = None
            return
        try:
            with slot.exclusive() as mine:
                if mine:  # otherwise the next look finds the copy that another worker of this home is fetching
                    self._change(registry, slot, version)
        except UndertoneError as error:
            self._refuse(slot, version, error)
        except OSError as error:
            full = UndertoneError("room on disk for a model", str(error), f"check disk and rights of {slot.folder}")
            self._refuse(slot, version, full)

    def _recheck(self, slot: ModelSlot) -> None:
        """Take a version out of service whose approval no longer counts, and say so loudly."""
        before = slot.served
        error = slot.recheck()
        if error is None or before is None:
            return
        self._refuse(slot, before.version, error)
        now = f"version {slot.served.version} takes its place" if slot.served else "NOTHING SERVES NOW"
        log.error("%s %s was taken out of service, %s: %s", slot.spec.name, before.version, now, error)
        self._show_versions()

    def _check_ledger(self, task: str, version: int) -> Ledger:
        """The ledger, where everybody reads it, must name the version that the alias names.

        Raises:
            VerificationError: it names another one.
            StoreError: it cannot be read: what serves serves on.
        """
        ledger = self._open_ledger()
        row = ledger.champion(task)
        if row is None or row.version != version:
            raise VerificationError(
                f"an approval of {task} {version} in the ledger as its newest promotion",
                f"{row.kind.replace('_', ' ')} {row.version} (row {row.seq})" if row else "no promotion",
                f"the alias was moved by hand: `undertone models approve {task} {version}`, or move it back",
            )
        return ledger

    def _open_ledger(self) -> Ledger:
        from undertone.ledger import Ledger
        from undertone.store import Store

        self._ledger = self._ledger or Ledger(Store.open(self._settings, timeout_s=5))
        return self._ledger

    def _check_order(self, slot: ModelSlot, order: Order, ledger: Ledger) -> None:
        """An order is the newest one: by the ledger, and by what served here before.

        Raises:
            VerificationError: it is played back.
        """
        misfit = ledger.misfit(order.task, order.serial, order.ledger_hash)
        newest = slot.newest_serial()
        if order.serial < newest:
            misfit = f"serial {order.serial} after {newest}"
        if misfit is not None:
            raise VerificationError(
                f"the newest order for {order.task}, not older than one that served here",
                misfit,
                f"`undertone models rollback {order.task}`, or approve {order.version} again",
            )

    def _serves(self, registry: Aliases, slot: ModelSlot, version: int) -> bool:
        """Whether `version` is what serves; its number at every look, now and then also what the number stands for."""
        served = slot.served
        if served is None or served.version != version:
            return False
        return self._looks % PATIENCE != 0 or registry.model_id(slot.spec.name, version) == served.origin

    def _change(self, registry: Aliases, slot: ModelSlot, version: int) -> None:
        """Put `version` into service: the copy of another worker of this home, or one fetched from the registry."""
        before = slot.served
        origin = registry.model_id(slot.spec.name, version)
        ledger = self._check_ledger(slot.spec.name, version)
        shared = self._shared_copy(slot, version, origin)
        if shared:
            slot.serve(shared)
        else:
            folder = slot.stage()
            try:
                fetched = self._fetch(ledger, slot, version, origin, folder)
                if fetched is None:
                    return
                slot.put(fetched)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        self._refused.pop(slot.spec.name, None)
        self._metrics.swaps.labels(slot.spec.name).inc()
        self._show_versions()
        log.info("%s %s serves now%s", slot.spec.name, version, f", instead of {before.version}" if before else "")

    def _shared_copy(self, slot: ModelSlot, version: int, origin: str) -> Served | None:
        try:
            pointer = slot.pointer()
            if pointer is None or (pointer.version, pointer.origin) != (version, origin):
                return None
            return slot.load(slot.folder / pointer.folder, version, origin)
        except UndertoneError:
            return None  # a copy that does not hold is fetched again; if that fails too, the reason is shown

    def _fetch(self, ledger: Ledger, slot: ModelSlot, version: int, origin: str, folder: Path) -> Served | None:
        """Download and load `version`; None where the same bytes were refused a moment ago.

        The approval comes first: it is small, and without one there is nothing to download.
        """
        task, model = slot.spec.name, folder / MODEL
        self._fetcher.approval(task, version, folder)
        order = signing.read_order(folder / ORDER, task, version)
        self._check_order(slot, order, ledger)
        parts = (model / STATEMENT, folder / SIGNATURE, folder / ORDER)
        approval = hashlib.sha256(b"".join(part.read_bytes() for part in parts if part.is_file())).hexdigest()
        refused = self._refused.get(task)
        if refused and (refused.version, refused.approval) == (version, approval) and refused.looks < PATIENCE:
            refused.looks += 1
            return None
        self._fetcher.model(task, version, model)
        try:
            return slot.load(folder, version, origin)
        except VerificationError:
            self._refused[task] = _Refused(version, approval)
            raise

    def _refuse(self, slot: ModelSlot, version: int | None, error: UndertoneError) -> None:
        if slot.refuse(version, error):
            self._metrics.refusals.labels(slot.spec.name).inc()
            log.warning("%s %s is not served: %s", slot.spec.name, version, error)

    def _show_versions(self) -> None:
        self._metrics.model.clear()
        for name, slot in self._slots.items():
            if slot.served:
                self._metrics.model.labels(name, slot.served.digest[:12]).set(slot.served.version)
