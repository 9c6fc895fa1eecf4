"""Follows the champion alias: a newly approved version is fetched, verified, loaded and put into service.

Whatever goes wrong, the last good version goes on serving, and the reason is shown.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Mapping

from serving.metrics import Metrics
from serving.model_slot import ModelSlot
from undertone.errors import RegistryError, UndertoneError
from undertone.registry import Registry
from undertone.settings import Settings
from undertone.signing import SIGNATURE

log = logging.getLogger("undertone.serving")

#: Looks after which a version whose bytes were refused is tried again (they may have been repaired).
RETRY_LOOKS = 10


class Follower:
    """A thread that looks at every task's alias every ``settings.follow_seconds``.

    The registry is opened in the thread, so a worker with good copies on disk answers before MLflow is even imported.
    """

    def __init__(self, settings: Settings, slots: Mapping[str, ModelSlot], metrics: Metrics) -> None:
        self._settings = settings
        self._slots = slots
        self._metrics = metrics
        self._registry: Registry | None = None
        self._looks_since_refusal: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self.problem: str | None = None

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End; a look under way may take a few seconds more in the background."""
        self._stopping.set()
        self._thread.join(timeout=2)

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self.look()
            self._stopping.wait(self._settings.follow_seconds)

    def look(self) -> None:
        """One look at every alias."""
        try:
            registry = self._registry = self._registry or Registry(self._settings, patient=False)
            for slot in self._slots.values():
                self._look_at(registry, slot)
            if self.problem:
                log.warning("MLflow answers again")
            self.problem = None
        except UndertoneError as error:
            if self.problem is None:
                log.warning("the champions cannot be looked up, the last good versions serve on: %s", error)
            self.problem = str(error)

    def _look_at(self, registry: Registry, slot: ModelSlot) -> None:
        task = slot.spec.name
        version = registry.champion_version(task)
        if version is None or (slot.served and slot.served.version == version):
            slot.refusal = None
            return
        if self._must_wait(slot, version):
            return
        folder = slot.staging(version)
        signature = folder / SIGNATURE
        (folder / "model").mkdir()
        try:
            registry.fetch_approval(task, version, folder / "model", signature)
            registry.download(task, version, folder / "model")
            served = slot.load(folder, version)
        except UndertoneError as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._looks_since_refusal[task] = 0 if not isinstance(error, RegistryError) else RETRY_LOOKS
            self._metrics.refusals.labels(task).inc()
            if slot.refuse(version, error):
                log.warning("%s %s is not served: %s", task, version, error)
            return
        before = slot.served
        slot.put(served)
        self._metrics.swaps.labels(task).inc()
        self._metrics.model.clear()
        for name, other in self._slots.items():
            if other.served:
                self._metrics.model.labels(name, other.served.digest[:12]).set(other.served.version)
        log.info("%s %s serves now%s", task, version, f", instead of {before.version}" if before else "")

    def _must_wait(self, slot: ModelSlot, version: int) -> bool:
        """A version whose bytes were refused is not downloaded again at every look."""
        if slot.refusal is None or slot.refusal.version != version:
            return False
        looks = self._looks_since_refusal.get(slot.spec.name, RETRY_LOOKS) + 1
        self._looks_since_refusal[slot.spec.name] = looks
        return looks <= RETRY_LOOKS
