"""Every scored message reaches the store once: first a line on disk, then, behind the answer, a row.

`append` writes JSON lines to a segment file before a request is answered. A thread drains closed segments into the
store and deletes each after its commit; a store that is down only lets segments pile up. A worker
that was killed leaves its folder behind, without an owner: the next worker drains it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Generator, Sequence
from contextlib import closing, suppress
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from serving.metrics import Metrics
from serving.spool_line import decode, encode
from undertone.errors import StoreError, UndertoneError
from undertone.records import ScoredMessage
from undertone.settings import Settings

if TYPE_CHECKING:
    from undertone.store import Store

log = logging.getLogger("undertone.serving")

ROWS = 500
SEGMENT_BYTES = 16_000_000
PAUSE_S = 0.5
RETRY_S = 1.0
#: Seconds that a new worker leaves the store alone, unless it has something for it.
SETTLE_S = 2.0
LOCK = "owner.lock"
UNREADABLE = ".unreadable"


class Recording(Protocol):
    """What becomes of scored messages, as `Worker` sees it."""

    problem: str | None

    @property
    def backlog(self) -> int:
        """Messages that were scored and are not in the store yet."""

    def start(self) -> None:
        """Begin."""

    def append(self, scored: Sequence[ScoredMessage]) -> None:
        """Take `scored`. Raises `OSError`: it cannot, and took none."""

    def stop(self) -> None:
        """End."""


class Nowhere:
    """Leaves scored messages to whoever asked for them: a stream stores them before it acknowledges."""

    problem: str | None = None
    backlog = 0

    def start(self) -> None:
        """Nothing."""

    def append(self, scored: Sequence[ScoredMessage]) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class Recorder:
    """A write-ahead spool in front of the store.

    Args:
        settings: name the spool's place and the store.
        metrics: the backlog goes there.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._root = settings.state_dir / "spool"
        self._folder = self._root / uuid.uuid4().hex[:12]
        self._owner: TextIOWrapper | None = None
        self._guard = threading.Lock()
        self._segment: int | None = None
        self._segment_bytes = 0
        self._segment_path = self._folder
        self._backlog = 0
        self._store: Store | None = None
        self._stopping = threading.Event()
        self._appended = threading.Event()
        self._thread = threading.Thread(target=self._drain_forever, name="record", daemon=True)
        self.problem: str | None = None

    @property
    def backlog(self) -> int:
        """Messages that this worker scored and the store does not hold yet."""
        return self._backlog

    def start(self) -> None:
        """Begin to drain."""
        self._thread.start()

    def append(self, scored: Sequence[ScoredMessage]) -> None:
        """Write `scored` to disk, in one call; when it returns, a killed process loses none of them.

        Raises:
            OSError: the disk is full, gone or not writable; nothing was written.
        """
        lines = b"".join(encode(item) for item in scored)
        with self._guard:
            segment = self._open_segment()
            written = os.write(segment, lines)
            if written != len(lines):  # a full disk can take a part: take it back, so that no torn line stays
                os.ftruncate(segment, self._segment_bytes)
                raise OSError(28, "no space left on device", str(self._segment_path))
            self._segment_bytes += written
            self._count(len(scored))
            self._appended.set()
            if self._segment_bytes >= SEGMENT_BYTES:
                self._close_segment()

    def stop(self, patience_s: float = 3.0) -> None:
        """Drain what can be drained, then end; what cannot stays on disk for the next worker."""
        self._stopping.set()
        self._appended.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)
        if self._thread.is_alive():
            return  # the store does not answer; the lock falls with the process
        with self._guard:
            self._close_segment()
            if self._owner is not None and not any(self._folder.glob("*.jsonl*")):
                shutil.rmtree(self._folder, ignore_errors=True)
            if self._owner is not None:
                self._owner.close()
                self._owner = None

    # segments: under the guard --------------------------------------------------------------

    def _open_segment(self) -> int:
        if self._owner is None:
            self._claim()
        if self._segment is None:
            self._segment_path = self._folder / f"{uuid.uuid1().time:020d}.jsonl"
            self._segment = os.open(self._segment_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._segment_bytes = 0
        return self._segment

    def _close_segment(self) -> None:
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None

    def _claim(self) -> None:
        """Make this worker's folder. It gets its name once it is locked, so nobody takes it for a dead worker's."""
        fresh = self._root / f".{self._folder.name}"
        fresh.mkdir(parents=True, exist_ok=True)
        owner = (fresh / LOCK).open("w")
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.rename(fresh, self._folder)
        self._owner = owner

    # draining: in the thread ----------------------------------------------------------------

    def _drain_forever(self) -> None:
        self._appended.wait(SETTLE_S)
        from undertone.store import Store

        while True:
            last = self._stopping.is_set()
            try:
                self._store = self._store or Store.open(self._settings, timeout_s=5)
                self._drain_all(self._store)
            except (StoreError, OSError) as error:
                self._report(error)
            except Exception as error:  # the thread's edge: a recorder that died would lose what waits, in silence
                self._report(error)
                log.exception("scored messages cannot be written to the store")
            else:
                if self.problem:
                    log.warning("the store answers again; waiting rows are written")
                self.problem = None
            if last:
                break
            self._stopping.wait(RETRY_S if self.problem else PAUSE_S)
        if self._store is not None:
            self._store.engine.dispose()

    def _report(self, error: Exception) -> None:
        if not isinstance(error, UndertoneError):
            error = StoreError(
                "a prediction store", f"{type(error).__name__}: {error}", "check UNDERTONE_STORE_URL; rows wait on disk"
            )
        if self.problem is None:
            log.warning("scored messages wait on disk: %s", error)
        self.problem = str(error)

    def _drain_all(self, store: Store) -> None:
        with self._guard:  # listed under the guard: a segment opened a moment later still takes lines
            self._close_segment()
            closed = sorted(self._folder.glob("*.jsonl"))
        if not self._root.is_dir():
            return
        for segment in closed:
            rows = self._drain(store, segment)
            with self._guard:
                self._count(-rows)
        for folder in sorted(self._root.iterdir()):
            if folder != self._folder and folder.is_dir() and not folder.name.startswith("."):
                with closing(self._orphans(folder)) as segments:  # gives the lock back whatever the store says
                    for segment in segments:
                        self._drain(store, segment)

    def _orphans(self, folder: Path) -> Generator[Path, None, None]:
        """Segments of a worker that is gone, held by its lock while they are drained."""
        with suppress(OSError), (folder / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its worker lives
            segments = sorted(folder.glob("*.jsonl"))
            if segments:
                log.info("draining %d segments that a stopped worker left", len(segments))
            yield from segments
            if not any(folder.glob("*.jsonl*")):
                shutil.rmtree(folder, ignore_errors=True)

    def _drain(self, store: Store, segment: Path) -> int:
        """Write a segment's rows, then delete it. A line that cannot be read keeps the file, under another name."""
        rows, broken = 0, 0
        with segment.open("rb") as stream:
            readable = decode(stream)
            while chunk := list(islice(readable, ROWS)):
                good = [item for item in chunk if item is not None]
                store.record(good)
                rows += len(good)
                broken += len(chunk) - len(good)
        if broken:
            kept = segment.with_name(segment.name + UNREADABLE)
            segment.rename(kept)
            log.error("%d lines cannot be read and are kept in %s; the other %d are in the store", broken, kept, rows)
        else:
            segment.unlink()
        return rows + broken

    def _count(self, change: int) -> None:
        self._backlog += change
        self._metrics.backlog.set(self._backlog)
