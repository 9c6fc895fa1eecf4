"""Scores copies of messages for a trial, behind the answers: what it finds reaches figures, never a client.

One thread of its own, no lane. It works while the batcher is idle, and beside requests for a twentieth of one core at
most; copies that find no room in its queue are dropped and counted. Its priority is that of every other thread: one of
low priority that held the interpreter's lock on a busy machine would keep all requests waiting.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from serving.challenger import Challenger, finite
from serving.metrics import Metrics
from serving.model_slot import Served
from undertone.engine import Engine
from undertone.records import Message

log = logging.getLogger("undertone.serving")

#: Copies that may wait. A message may be 20,000 characters long.
QUEUE = 500
#: Share of a core's time that is used while requests wait.
DUTY = 0.05
#: Every so many-th copy is scored by both models, one after the other, to compare what they take.
TIMED = 10
#: Seconds between two looks whether the batcher is idle.
NAP_S = 0.005


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that one of both models answered; ``probabilities`` are that answer's."""

    challenger: Challenger
    champion: Served
    message: Message
    probabilities: tuple[float, ...]


class Shadow:
    """The thread and its queue.

    Args:
        idle: whether no request waits or is scored just now.
        metrics: counts of comparisons go there.
    """

    def __init__(self, idle: Callable[[], bool], metrics: Metrics) -> None:
        self._idle = idle
        self._metrics = metrics
        self._queue: queue.Queue[Copy | None] = queue.Queue(QUEUE)
        self._rests_until = 0.0
        self._seen = 0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, copy: Copy) -> None:
        """Have a copy compared some time. Never waits; any thread."""
        try:
            self._queue.put_nowait(copy)
        except queue.Full:
            copy.challenger.comparison.drop()
            self._count(copy, "dropped")

    def start(self) -> None:
        """Begin, if that has not happened yet: a worker without a trial has no such thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End; copies that wait are forgotten."""
        self._stopping.set()
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        if self._thread is not None:
            self._thread.join(timeout=2)

    def _work(self) -> None:
        while not self._stopping.is_set():
            copy = self._queue.get()
            if copy is None or not copy.challenger.runs_beside(copy.champion):
                continue
            self._wait_for_a_gap()
            started = time.thread_time()
            try:
                self._compare(copy)
            except Exception:  # the thread's edge: a comparison that fails is no reason to stop comparing
                copy.challenger.comparison.drop()
                self._count(copy, "dropped")
                log.exception("%s: a copy cannot be compared", copy.challenger.order.task)
            copy.challenger.judge()
            self._rests_until = time.monotonic() + (time.thread_time() - started) * (1 / DUTY - 1)

    def _wait_for_a_gap(self) -> None:
        while not self._idle() and time.monotonic() < self._rests_until and not self._stopping.is_set():
            self._stopping.wait(NAP_S)

    def _compare(self, copy: Copy) -> None:
        """Score a copy by the model that has not answered it, now and then by both, and count."""
        challenger, champion = copy.challenger, copy.champion.engine
        both = self._seen % TIMED == 0
        self._seen += 1
        ours = theirs = copy.probabilities
        ours_s = theirs_s = 0.0
        if challenger.canary or both:
            ours, ours_s = _score(champion, copy.message.text)
        if not challenger.canary or both:
            try:
                theirs, theirs_s = _score(challenger.engine, copy.message.text)
            except Exception as error:  # noqa: BLE001  whatever the challenger raises is what the trial is for
                challenger.fail(1, error, self._metrics)
                return
        if both:
            challenger.comparison.time(ours_s, theirs_s)
        agree = challenger.comparison.compare(copy.message, champion.labels, ours, theirs)
        self._count(copy, "agreed" if agree else "disagreed")

    def _count(self, copy: Copy, outcome: str) -> None:
        order = copy.challenger.order
        self._metrics.trial_messages.labels(order.task, order.kind, outcome).inc()


def _score(engine: Engine, text: str) -> tuple[tuple[float, ...], float]:
    """Probabilities of one text, and the processor seconds that they took."""
    started = time.thread_time()
    logits, _ = engine.run(engine.tokenize([text]).ids)
    row = finite(engine.probabilities(logits))[0]
    return tuple(row.tolist()), time.thread_time() - started
