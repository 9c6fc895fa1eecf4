"""One worker at a time: a named lease in the store, renewed while it is held.

A holder that died gives way: at once when it ran on this machine (its process is gone), else when
its lease runs out.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from undertone.errors import DecisionError, StoreError
from undertone.schema import leases
from undertone.store import Store

#: Seconds between two tries for a lease that somebody else holds.
TRY_AGAIN_S = 0.1


@contextmanager
def hold(
    store: Store, name: str, seconds: float = 120.0, *, wait: float = 0.0, holder: str | None = None
) -> Iterator[str]:
    """Hold the lease `name` for the block; a thread renews it every quarter of `seconds`.

    Args:
        wait: seconds to wait for another holder to end.
        holder: what an enclosing `hold` gave: the block goes on under its lease, which it renews and gives back itself.

    Gives:
        The holder's name.

    Raises:
        DecisionError: another live process holds it, or `holder` holds it no longer.
    """
    if holder is not None:
        if store.holder(name) != holder:
            raise DecisionError(
                f"the lease {name!r} in the hands of {holder}",
                f"it in those of {store.holder(name) or 'nobody'}",
                "start again: it was lost while the store was out of reach",
            )
        yield holder
        return
    holder = f"{socket.gethostname()}/{os.getpid()}/{_Process.of(os.getpid()).started}-{uuid.uuid4().hex[:8]}"
    _take(store, name, holder, seconds, wait)
    stopped = threading.Event()
    renewal = threading.Thread(target=_renew, args=(store, name, holder, seconds, stopped), daemon=True)
    renewal.start()
    try:
        yield holder
    finally:
        stopped.set()
        renewal.join()
        store.release(name, holder)


def live(store: Store, name: str, now: datetime) -> bool:
    """Whether a live process holds the lease `name`: it has not run out, and its holder is not known to be dead."""
    with store.reading() as connection:
        row = connection.execute(select(leases).where(leases.c.name == name, leases.c.expires_at > now)).first()
    return row is not None and not _is_dead(row.holder)


def _take(store: Store, name: str, holder: str, seconds: float, wait: float) -> None:
    deadline = time.monotonic() + wait
    while not store.acquire(name, holder, _now(), seconds):
        other = store.holder(name)
        if other is not None and _is_dead(other):
            store.release(name, other)
        elif time.monotonic() >= deadline:
            raise DecisionError(
                f"nobody else at work on {name!r}",
                f"a run by {other}",
                f"wait for it to end; if it was killed, its lease ends within {seconds:.0f} seconds",
            )
        else:
            time.sleep(TRY_AGAIN_S)


def _renew(store: Store, name: str, holder: str, seconds: float, stopped: threading.Event) -> None:
    while not stopped.wait(seconds / 4):
        with suppress(StoreError):  # tried again at the next turn; the lease outlives three missed ones
            store.acquire(name, holder, _now(), seconds)


def _is_dead(holder: str) -> bool:
    """Whether the holder ran on this machine and ended: it is gone, a zombie, or its number is another's."""
    host, pid, mark = holder.rsplit("/", 2)
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    now, started = _Process.of(int(pid)), mark.rpartition("-")[0]
    return now.ended or bool(started and now.started and started != now.started)


@dataclass(frozen=True, slots=True)
class _Process:
    """What Linux tells of a process in ``/proc/PID/stat`` (proc_pid_stat(5)).

    Attributes:
        started: clock ticks after boot; empty where the system does not tell.
        ended: it was killed, and its parent has not waited for it yet.
    """

    started: str = ""
    ended: bool = False

    @classmethod
    def of(cls, pid: int) -> _Process:
        try:
            # the name of the program stands in brackets and may hold anything
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            return cls(started=fields[19], ended=fields[0] in "ZXx")
        except (OSError, IndexError):
            return cls()


def _now() -> datetime:
    return datetime.now(UTC)
