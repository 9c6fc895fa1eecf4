"""One worker at a time: a named lease in the store, renewed while it is held.

A holder that died gives way: at once when it ran on this machine (its process is gone), else when
its lease runs out.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

from undertone.errors import DecisionError, StoreError
from undertone.store import Store


@contextmanager
def hold(store: Store, name: str, seconds: float = 120.0) -> Iterator[None]:
    """Hold the lease `name` for the block; a thread renews it every quarter of `seconds`.

    Raises:
        DecisionError: another live process holds it.
    """
    holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
    if not store.acquire(name, holder, _now(), seconds):
        other = store.holder(name)
        if other is not None and _is_dead(other):
            store.release(name, other)
        if not store.acquire(name, holder, _now(), seconds):
            raise DecisionError(
                f"nobody else at work on {name!r}",
                f"a run by {store.holder(name)}",
                f"wait for it to end; if it was killed, its lease ends within {seconds:.0f} seconds",
            )
    stopped = threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, name, holder, seconds, stopped), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        stopped.set()
        renewal.join()
        store.release(name, holder)


def _renew(store: Store, name: str, holder: str, seconds: float, stopped: threading.Event) -> None:
    while not stopped.wait(seconds / 4):
        with suppress(StoreError):  # tried again at the next turn; the lease outlives three missed ones
            store.acquire(name, holder, _now(), seconds)


def _is_dead(holder: str) -> bool:
    host, pid, _ = holder.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _now() -> datetime:
    return datetime.now(UTC)
