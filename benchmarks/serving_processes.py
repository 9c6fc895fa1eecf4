"""Processes of a server under test, read from /proc: which they are, their CPU time, their memory, their end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

#: Set in the environment of a server's first process, so that a descendant that left its parent is found too.
MARK = "BENCHMARK_SERVER"
_TICK = os.sysconf("SC_CLK_TCK")


class Tree:
    """A process with all that descends from it: by parent, by session, and by the mark in the environment."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._known = {root: _born(root)}

    def pids(self) -> list[int]:
        """Everything alive, newly found or found before."""
        stats = {pid: fields for pid in _numbers() if (fields := _stat(pid)) is not None}
        found = {pid for pid, born in self._known.items() if pid in stats and _born_of(stats[pid]) == born}
        mark = f"{MARK}={self.root}\0".encode()
        found |= {pid for pid, fields in stats.items() if int(fields[3]) == self.root}
        found |= {pid for pid in stats if pid not in found and mark in _environment(pid)}
        grown = True
        while grown:
            children = {pid for pid, fields in stats.items() if int(fields[1]) in found} - found
            found |= children
            grown = bool(children)
        found = {pid for pid in found if stats[pid][0] != "Z"}
        self._known |= {pid: _born_of(stats[pid]) for pid in found}
        return sorted(found)

    def cpu_s(self) -> float:
        """User and system seconds of all, with those of children that ended and were waited for."""
        fields = [found for pid in self.pids() if (found := _stat(pid)) is not None]
        return sum(int(value) for found in fields for value in found[11:15]) / _TICK

    def memory_mb(self) -> float:
        """Proportional set size (PSS) in 10^6 bytes: a page that several processes share counts once."""
        total = 0
        for pid in self.pids():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            except OSError:
                continue
            total += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
        return total * 1024 / 1e6

    def end(self) -> None:
        """Ask the first process to stop, then whatever is left of it, then end that; waits until nothing is alive."""
        _send([self.root] if self.root in self.pids() else [], signal.SIGTERM)
        self._wait(20.0, [self.root])
        for stop in (signal.SIGTERM, signal.SIGKILL):
            _send(self.pids(), stop)
            self._wait(5.0)

    def _wait(self, seconds: float, wanted: list[int] | None = None) -> None:
        """Wait until none of `wanted` (None: of all) is alive."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and (set(alive := self.pids()) & set(alive if wanted is None else wanted)):
            time.sleep(0.05)


@contextmanager
def spawned(
    command: Sequence[object], environment: Mapping[str, str], log: Path, folder: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Tree]]:
    """A server's first process and its tree, writing to `log`; nothing of it is left afterwards.

    Args:
        folder: that it runs in; None: this one.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as stream:
        # the child marks itself, so that whatever it leaves behind can be told
        child = subprocess.Popen(
            ["/bin/sh", "-c", f'export {MARK}=$$; exec "$@"', "sh", *map(str, command)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        tree = Tree(child.pid)
        try:
            yield child, tree
        finally:
            tree.end()
            child.wait()


def busy_s() -> float:
    """Seconds that all cores together were busy since the machine started, with what other machines took of them."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    user, nice, system, _, _, hardware, software, stolen = (int(value) for value in fields[1:9])
    return (user + nice + system + hardware + software + stolen) / _TICK


def wait_for_quiet(cores: int, patience_s: float, share: float = 0.05) -> float:
    """Wait until less than `share` of the cores is in use, for at most `patience_s`; gives the share last seen."""
    deadline = time.monotonic() + patience_s
    while True:
        began, before = time.monotonic(), busy_s()
        time.sleep(2.0)
        used = (busy_s() - before) / (cores * (time.monotonic() - began))
        if used < share or time.monotonic() >= deadline:
            return used


def _send(pids: list[int], stop: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, stop)
        except ProcessLookupError:
            continue


def _numbers() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat after the name: state, ppid, pgrp, session, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _born_of(fields: list[str]) -> str:
    return fields[19]


def _born(pid: int) -> str:
    fields = _stat(pid)
    return _born_of(fields) if fields else ""


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
