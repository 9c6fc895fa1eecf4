"""A process beside the worker, for what must not be in it: heavy libraries, and work that gives way to requests.

It is started afresh (never forked), does one thing at a time, and ends when told to, or with the worker, however that
ends.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

#: How much a child gives way to a worker that serves (`nice`).
NICENESS = 10


def start(begin: Callable[..., None], *values: Any) -> ProcessPoolExecutor:
    """A child that calls `begin` with `values` before anything else; `begin` calls `live_with_parent`."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=begin, initargs=values)


def processes(child: ProcessPoolExecutor | None) -> list[BaseProcess]:
    """The process, if there is one."""
    return list((getattr(child, "_processes", None) or {}).values())


def end(child: ProcessPoolExecutor | None) -> None:
    """End it, whatever it does."""
    if child is None:
        return
    running = processes(child)
    child.shutdown(wait=False, cancel_futures=True)
    for process in running:  # what it is at would keep the worker from ending
        with suppress(OSError, ValueError):
            process.terminate()


def live_with_parent(niceness: int = NICENESS) -> None:
    """First thing in the child: give way, and end with the worker."""
    os.nice(niceness)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
