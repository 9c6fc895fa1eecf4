"""Files of messages: JSON Lines or CSV, and standard input. The embedded default, and the way to score what is old."""

from __future__ import annotations

import csv
import hashlib
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedReader, TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from serving.streams.address import STANDARD, Address
from serving.streams.base import Lag, Record, Row, StreamError
from serving.streams.positions import Positions
from undertone.errors import ConfigError, UndertoneError
from undertone.store import Store

#: Columns that a table of messages may have, under the names they are known by.
COLUMNS = {
    "id": ("message_id", "id"),
    "text": ("text", "message", "body", "tweet"),
    "sent_at": ("sent_at", "created_at", "time", "timestamp"),
    "channel": ("channel",),
    "segment": ("segment",),
    "customer_id": ("customer_id",),
}

#: Bytes at a file's beginning by which it is known again.
HEAD = 4_096
#: Records of standard input that are read ahead.
AHEAD = 2_000


@dataclass
class FileBatch:
    """Records of a file, and how to remember that they are done."""

    records: Sequence[Record]
    source: FileSource = field(repr=False)

    def ack(self) -> None:
        """See `Batch.ack`."""
        if self.records:
            self.source.done(len(self.records))


class FileSource:
    """A file from its first message, or from behind the last one that this group acknowledged, to its end.

    Args:
        store: keeps the position, so that the same command goes on after a stop. Standard input has none.
        max_bytes: of one message; what is longer is cut, and refused later.

    Raises:
        ConfigError: it cannot be read, or is a CSV without text.
        StoreError: the store does not answer.
    """

    def __init__(self, address: Address, store: Store, max_bytes: int) -> None:
        self._path = address.name
        self._max_bytes = max_bytes
        self._ended = False
        self._failure: Exception | None = None
        self._waiting: queue.Queue[Record | Exception | None] | None = None
        try:
            self._file: BufferedReader = open(os.dup(0) if self._path == STANDARD else self._path, "rb")  # noqa: SIM115
        except OSError as error:
            raise ConfigError(
                "a file of messages", f"{type(error).__name__}: {error}", f"check {self._path}"
            ) from error
        self._records = self._csv() if self._path.endswith(".csv") else self._lines()
        self._done = 0
        if self._path == STANDARD:
            self._size = 0
            self._mark = uuid.uuid4().hex  # another run's input is another file
            self._waiting = queue.Queue(AHEAD)
            threading.Thread(target=self._read_ahead, args=(self._waiting,), name="stdin", daemon=True).start()
            return
        self._size = os.path.getsize(self._path)
        with open(self._path, "rb") as file:  # two lines: many tables share their first
            self._mark = hashlib.sha256(b"".join(file.readline(HEAD) for _ in range(2))).hexdigest()
        self._positions = Positions(store, address.group, str(Path(self._path).resolve())[-500:])
        self._skip(self._positions.read().get(""))

    def poll(self, limit: int, timeout_s: float) -> FileBatch | None:
        """See `Source.poll`."""
        if self._waiting is None:
            found = list(islice(self._records, limit))
            return FileBatch(found, self) if found else None
        if self._failure is not None:
            raise self._failure
        if self._ended:
            return None
        found = self._take(self._waiting, limit, time.monotonic() + timeout_s)
        return None if self._ended and not found else FileBatch(found, self)

    def _take(self, waiting: queue.Queue[Record | Exception | None], limit: int, until: float) -> list[Record]:
        found: list[Record] = []
        with suppress(queue.Empty):
            while len(found) < limit:
                item = waiting.get_nowait() if found else waiting.get(timeout=max(0.0, until - time.monotonic()))
                if not isinstance(item, Record):
                    self._ended, self._failure = True, item
                    break
                found.append(item)
        return found

    def done(self, count: int) -> None:
        """Remember that `count` more records are done."""
        self._done += count
        if self._path != STANDARD:
            head = min(HEAD, os.path.getsize(self._path))
            self._positions.write({"": f"{self._done}:{head}:{self._head(head)}"})

    def hold(self) -> None:
        """See `Source.hold`."""

    def lag(self) -> Lag:
        """See `Source.lag`; a file's is not known before its end."""
        return Lag()

    def progress(self) -> tuple[int, int] | None:
        """See `Source.progress`."""
        return (min(self._file.tell(), self._size), self._size) if self._path != STANDARD else None

    def close(self) -> None:
        """See `Source.close`."""
        if self._path != STANDARD:  # a thread reads standard input; it ends with it, or with the process
            self._file.close()

    def _head(self, size: int) -> str:
        with open(self._path, "rb") as file:
            return hashlib.sha256(file.read(size)).hexdigest()

    def _skip(self, position: str | None) -> None:
        """Go behind what was done, if this still is the file that it was done in."""
        if position is None:
            return
        done, head, mark = position.split(":")
        if self._head(int(head)) == mark:
            self._done = sum(1 for _ in islice(self._records, int(done)))

    def _record(self, number: int, value: bytes) -> Record:
        told = hashlib.sha256(f"{self._mark} {number} ".encode() + value).hexdigest()[:32]
        return Record(value, f"{self._path}#{number}", f"file-{told}")

    def _lines(self) -> Iterator[Record]:
        number = 0
        while line := self._file.readline(self._max_bytes + 2):
            number += 1
            rest = line
            while len(rest) == self._max_bytes + 2 and not rest.endswith(b"\n"):
                rest = self._file.readline(self._max_bytes + 2)
            if line.strip():
                yield self._record(number, line.rstrip(b"\r\n"))

    def _csv(self) -> Iterator[Record]:
        csv.field_size_limit(max(csv.field_size_limit(), self._max_bytes))
        self._table = TextIOWrapper(self._file, "utf-8-sig", "replace", newline="")  # kept: it closes its file
        rows = csv.reader(self._table)
        header = next(rows, [])
        places = {
            key: next((header.index(name) for name in names if name in header), None) for key, names in COLUMNS.items()
        }
        if places["text"] is None:
            raise ConfigError(
                "a column `text`", ", ".join(header)[:300] or "an empty file", f"rename the text column of {self._path}"
            )
        known = {key: place for key, place in places.items() if place is not None}
        for number, row in enumerate(rows, start=2):
            values: dict[str, Any] = {
                key: row[place] for key, place in known.items() if place < len(row) and row[place]
            }
            yield self._record(number, orjson.dumps(values))

    def _read_ahead(self, waiting: queue.Queue[Record | Exception | None]) -> None:
        try:
            for record in self._records:
                waiting.put(record)
            waiting.put(None)
        except Exception as error:  # noqa: BLE001  the thread's edge: who polls is told
            waiting.put(error)
        finally:
            self._file.close()


class FileSink:
    """Appends JSON lines to a file, or writes them to standard output.

    Raises:
        ConfigError: the file cannot be opened.
    """

    def __init__(self, path: str, standard: int = 1) -> None:
        self._path = path
        self._new = path != STANDARD and not os.path.exists(path)
        try:
            self._file = open(os.dup(standard) if path == STANDARD else path, "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise ConfigError(
                "a file that can be written", f"{type(error).__name__}: {error}", f"check {path}"
            ) from error
        if path != STANDARD and _torn(Path(path)):
            self._file.write(b"\n")

    def write(self, rows: Sequence[Row]) -> None:
        """See `Sink.write`."""
        lines = b"".join(row.value + b"\n" for row in rows)
        if self._path == STANDARD:
            self._to_standard(lines)
            return
        try:
            before = self._file.seek(0, os.SEEK_END)
            if self._file.write(lines) != len(lines):  # a full disk can take a part: no torn line stays
                self._file.truncate(before)
                raise OSError(28, "no space left on device")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise StreamError(
                f"room for scores in {self._path}", str(error), "free some, or name another sink"
            ) from error

    def _to_standard(self, lines: bytes) -> None:
        left = memoryview(lines)
        try:
            while left:
                left = left[self._file.write(left) :]
        except BrokenPipeError:
            raise UndertoneError(
                "a reader of standard output", "it has gone", "start both again: what it had not read comes again"
            ) from None

    def close(self) -> None:
        """See `Sink.close`. A file that was made here and stayed empty goes."""
        self._file.close()
        if self._new and os.path.getsize(self._path) == 0:
            os.unlink(self._path)


def _torn(path: Path) -> bool:
    """Whether a file's last line has no end."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
    return False


def error_lines() -> FileSink:
    """Rows on standard error: dead letters of standard input."""
    sys.stderr.flush()
    return FileSink(STANDARD, standard=2)
