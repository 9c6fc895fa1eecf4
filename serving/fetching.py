"""Fetches versions from MLflow in a process of its own, which ends when it has nothing to do.

MLflow's client would take more memory than the worker itself, for something that happens once in weeks, and its imports
and downloads would hold up requests. The child gives way to the scoring threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from serving import child
from undertone.errors import RegistryError
from undertone.settings import Settings

#: Seconds without work after which the child ends.
IDLE_S = 60.0


class Fetcher:
    """Copies approvals, trials and model files out of MLflow. Only one thread may use it; any may `stop` it.

    Args:
        settings: name the registry.
        serves: whether the worker answers requests: only then does a child that starts give way to it.
    """

    def __init__(self, settings: Settings, serves: Callable[[], bool]) -> None:
        self._settings = settings
        self._serves = serves
        self._child: ProcessPoolExecutor | None = None
        self._used = 0.0

    def approval(self, task: str, version: int, into: Path) -> None:
        """As `undertone.registry.Registry.fetch_approval`."""
        self._do(_approval, self._settings, task, version, into)

    def trial(self, task: str, version: int, into: Path) -> None:
        """As `undertone.registry.Registry.fetch_trial`."""
        self._do(_trial, self._settings, task, version, into)

    def model(self, task: str, version: int, into: Path) -> None:
        """As `undertone.registry.Registry.download`."""
        self._do(_model, self._settings, task, version, into)

    def rest(self) -> None:
        """End the child if it was idle for `IDLE_S`."""
        if self._child is not None and time.monotonic() - self._used > IDLE_S:
            self.stop()

    def stop(self) -> None:
        """End the child, whatever it does."""
        ended, self._child = self._child, None
        child.end(ended)

    def _do(self, act: Callable[..., None], *values: Any) -> None:
        if "mlflow" in sys.modules:  # it is here already: a child would save nothing
            return act(*values)
        at_work = self._child
        if at_work is None:
            niceness = child.NICENESS if self._serves() else 0
            at_work = self._child = child.start(child.live_with_parent, niceness)
        try:
            return at_work.submit(act, *values).result()
        except (BrokenProcessPool, RuntimeError) as error:
            self.stop()
            raise RegistryError(
                "a process that fetches from MLflow", f"{type(error).__name__}: {error}", "read the worker's log"
            ) from error
        finally:
            self._used = time.monotonic()


def _approval(settings: Settings, task: str, version: int, into: Path) -> None:
    _registry(settings).fetch_approval(task, version, into)


def _trial(settings: Settings, task: str, version: int, into: Path) -> None:
    _registry(settings).fetch_trial(task, version, into)


def _model(settings: Settings, task: str, version: int, into: Path) -> None:
    _registry(settings).download(task, version, into)


def _registry(settings: Settings) -> Any:
    from undertone.registry import Registry

    return Registry(settings, patient=False)
