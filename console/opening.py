"""The console's workspace: shared by threads, and impatient, because a person waits for the page."""

from __future__ import annotations

from functools import cached_property
from threading import RLock

from undertone.registry import Registry
from undertone.settings import Settings
from undertone.store import Store
from undertone.workspace import Workspace

#: Seconds to wait for the store before the page says that it is out of reach.
STORE_S = 10.0


class SharedWorkspace(Workspace):
    """A workspace whose parts are opened once, by whichever request needs them first; what fails is tried again.

    Args:
        settings: where things live.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._opening = RLock()

    @cached_property
    def store(self) -> Store:
        """The prediction store, migrated."""
        with self._opening:
            return self.__dict__.get("store") or Store.open(self.settings, STORE_S)

    @cached_property
    def registry(self) -> Registry:
        """The model registry, asked once and not for minutes."""
        with self._opening:
            return self.__dict__.get("registry") or Registry(self.settings, patient=False)
