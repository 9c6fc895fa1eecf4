"""Every scored message reaches the store once: first a line on disk, then, behind the answer, a row.

`append` writes JSON lines to a segment file before a request is answered. A thread drains closed segments into the
store and deletes each after its commit; a store that is down only lets segments pile up. A worker
that was killed leaves its folder behind, without an owner: the next worker drains it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from serving.metrics import Metrics
from undertone.errors import StoreError
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings
from undertone.store import Store

log = logging.getLogger("undertone.serving")

ROWS = 500
PAUSE_S = 0.2
RETRY_S = 1.0
LOCK = "owner.lock"


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
        self._folder.mkdir(parents=True)
        self._lock_file = (self._folder / LOCK).open("w")
        fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._guard = threading.Lock()
        self._segment: int | None = None
        self._segment_path = self._folder
        self._backlog = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._drain_forever, name="record", daemon=True)
        self._down = False

    def start(self) -> None:
        """Begin to drain."""
        self._thread.start()

    def append(self, scored: Sequence[ScoredMessage]) -> None:
        """Write `scored` to disk, in one call; when it returns, a killed process loses none of them.

        Raises:
            OSError: the disk is full or gone.
        """
        lines = b"".join(_encode(item) for item in scored)
        with self._guard:
            if self._segment is None:
                self._segment_path = self._folder / f"{uuid.uuid1().time:020d}.jsonl"
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._segment = os.open(self._segment_path, flags, 0o600)
            start = os.fstat(self._segment).st_size
            written = os.write(self._segment, lines)
            if written != len(lines):  # a full disk can take a part: take it back, so that no torn line stays
                os.ftruncate(self._segment, start)
                raise OSError(28, "no space left on device", str(self._segment_path))
            self._count(len(scored))

    def stop(self, patience_s: float = 3.0) -> None:
        """Drain what can be drained, then end; what cannot stays on disk for the next worker."""
        self._stopping.set()
        self._thread.join(patience_s)
        if not self._thread.is_alive():
            self._lock_file.close()
            if not any(self._folder.glob("*.jsonl")):
                shutil.rmtree(self._folder, ignore_errors=True)

    def _drain_forever(self) -> None:
        store: Store | None = None
        while True:
            last = self._stopping.is_set()
            try:
                store = store or Store.open(self._settings, timeout_s=5)
                for segment in self._closed_segments():
                    self._drain(store, segment)
                if self._down:
                    log.warning("the store answers again; waiting rows are written")
                self._down = False
            except (StoreError, OSError) as error:
                if not self._down:
                    log.warning("scored messages wait on disk: %s", error)
                self._down = True
            if last:
                break
            self._stopping.wait(RETRY_S if self._down else PAUSE_S)
        if store is not None:
            store.engine.dispose()

    def _closed_segments(self) -> Iterator[Path]:
        with self._guard:
            if self._segment is not None:
                os.close(self._segment)
                self._segment = None
        for folder in sorted(self._root.iterdir()):
            if folder == self._folder:
                yield from sorted(folder.glob("*.jsonl"))
            elif folder.is_dir():
                yield from self._orphans(folder)

    def _orphans(self, folder: Path) -> Iterator[Path]:
        """Segments of a worker that is gone, held by its lock while they are drained."""
        with suppress(OSError), (folder / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while its worker lives
            segments = sorted(folder.glob("*.jsonl"))
            if segments:
                log.info("draining %d segments that a stopped worker left", len(segments))
            yield from segments
            if not any(folder.glob("*.jsonl")):
                shutil.rmtree(folder, ignore_errors=True)

    def _drain(self, store: Store, segment: Path) -> None:
        rows = list(_decode(segment))
        for start in range(0, len(rows), ROWS):
            store.record(rows[start : start + ROWS])
        segment.unlink()
        if segment.parent == self._folder:
            with self._guard:
                self._count(-len(rows))

    def _count(self, change: int) -> None:
        self._backlog += change
        self._metrics.backlog.set(self._backlog)


def _encode(item: ScoredMessage) -> bytes:
    values = asdict(item)
    for answer in values["predictions"]:
        if answer["embedding"] is not None:
            answer["embedding"] = base64.b64encode(answer["embedding"]).decode()
    return json.dumps(values, default=_plain, separators=(",", ":")).encode() + b"\n"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot write {type(value).__name__}")


def _decode(segment: Path) -> Iterator[ScoredMessage]:
    """The rows of a segment; a last line that a killed worker left torn was never acknowledged and is left out."""
    for line in segment.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            log.warning("a torn last line in %s is left out: its request was never answered", segment)
            continue
        values = json.loads(line)
        message = values["message"]
        for name in ("sent_at", "received_at"):
            message[name] = datetime.fromisoformat(message[name]) if message[name] else None
        predictions = tuple(
            Prediction(
                **answer
                | {
                    "probabilities": tuple(answer["probabilities"]),
                    "scored_at": datetime.fromisoformat(answer["scored_at"]),
                    "embedding": base64.b64decode(answer["embedding"]) if answer["embedding"] is not None else None,
                }
            )
            for answer in values["predictions"]
        )
        yield ScoredMessage(Message(**message), predictions, values["final_sentiment"], values["final_reason"])
