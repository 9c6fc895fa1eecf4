"""What workers of this machine have not brought to the store yet, looked through for one customer's messages.

A live worker brings its segments to the store within a second, where `undertone.tombstones` stops what is erased: they
are waited for, never touched. Segments of a dead worker, and files with lines that could not be read, are written anew
without the customer's lines.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from serving.recorder import LOCK, UNREADABLE
from undertone.redaction import Sought

#: Seconds that a live worker is waited for.
PATIENCE_S = 15.0


class Spool:
    """The spool of this machine's workers, as a place of `undertone.privacy`.

    Args:
        root: its folder, ``state_dir/spool``.
        patience_s: seconds that a live worker is waited for.
    """

    name = "the spool of this machine's workers"

    def __init__(self, root: Path, patience_s: float = PATIENCE_S) -> None:
        self._root = root
        self._patience_s = patience_s

    def find(self, sought: Sought) -> dict[str, int]:
        """Lines with a message of the customer, by what they are in."""
        counts = {"lines": 0, "unreadable lines": 0}
        for path in self._files():
            kind = "unreadable lines" if path.name.endswith(UNREADABLE) else "lines"
            with suppress(FileNotFoundError):  # its worker has just brought it to the store
                counts[kind] += sum(names(line, sought) for line in path.read_bytes().splitlines(keepends=True))
        return {kind: count for kind, count in counts.items() if count}

    def erase(self, sought: Sought) -> tuple[dict[str, int], list[str]]:
        """Take the customer's lines out; gives their numbers, and what is left, a sentence each."""
        counts = {"lines": 0, "unreadable lines": 0}
        left = []
        for folder in self._folders():
            with _owned(folder) as free:
                for path in sorted(folder.glob(f"*{UNREADABLE}")):
                    counts["unreadable lines"] += _rewrite(path, sought)
                if free:
                    counts["lines"] += sum(_rewrite(path, sought) for path in sorted(folder.glob("*.jsonl")))
            if not free and not self._drained(folder):
                left.append(f"a live worker has messages in {folder} and does not reach the store: run it again")
        return {kind: count for kind, count in counts.items() if count}, left

    def expire(self, before: datetime) -> int:
        """Delete files with lines that could not be read, last written before that moment; gives their number."""
        old = [path for path in self._files() if path.name.endswith(UNREADABLE)]
        old = [path for path in old if path.stat().st_mtime < before.timestamp()]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def _drained(self, folder: Path) -> bool:
        """Wait until what a live worker has on disk now is in the store."""
        waiting, deadline = list(folder.glob("*.jsonl")), time.monotonic() + self._patience_s
        while any(path.exists() for path in waiting):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _folders(self) -> list[Path]:
        return sorted(path for path in self._root.iterdir() if path.is_dir()) if self._root.is_dir() else []

    def _files(self) -> Iterator[Path]:
        for folder in self._folders():
            yield from sorted(folder.glob("*.jsonl*"))


def names(line: bytes, sought: Sought) -> bool:
    """Whether a line of the spool is of the customer; of a broken one, whether it has the id or a text in it."""
    try:
        message: Any = orjson.loads(line)["message"]
        own = sought.customer is not None and message.get("customer_id") == sought.customer
        return own or message.get("id") in sought.message_ids
    except (ValueError, KeyError, TypeError, AttributeError):
        written = line.decode("utf-8", "replace")
        quoted = sought.customer is not None and f'"{sought.customer}"' in written
        return quoted or any(f'"{name}"' in written for name in sought.message_ids) or sought.replace(written)[1] > 0


@contextmanager
def _owned(folder: Path) -> Iterator[bool]:
    """Whether nobody else has the folder; while the block runs no worker drains it."""
    try:
        lock = (folder / LOCK).open("a")
    except FileNotFoundError:  # its worker has stopped and taken it along
        yield False
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def _rewrite(path: Path, sought: Sought) -> int:
    """Write a file anew without the customer's lines; gives their number."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not names(line, sought)]
    if len(kept) == len(lines):
        return 0
    if kept:
        fresh = path.with_name(f".{path.name}.new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.writelines(kept)
        fresh.replace(path)
    else:
        path.unlink()
    return len(lines) - len(kept)
