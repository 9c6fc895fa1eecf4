"""Micro-batches without waiting: while the cores score, whatever arrives becomes the next batches.

Each lane is a thread that scores one small batch at a time on one core. A free lane takes the longest-waiting request's
next messages and, beside them, messages of about the same length from other requests, so a request of a thousand
messages does not keep a request of one waiting, and short texts do not wait for long ones.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from serving.errors import Overloaded
from serving.inline import MESSAGES, inline
from serving.metrics import Metrics
from undertone.records import Message

#: Messages in one batch, and characters: a batch is scored in about 20 ms, so whoever comes next waits no longer.
BATCH = 8
BATCH_CHARS = 2_400
#: No model reads more of a text than this, roughly: a longer one costs no more.
READ_CHARS = 600
#: Messages of one request that are candidates for one batch, while many requests wait.
PIECE = 4
MAX_QUEUE = 5_000

#: Messages and results of each request, to what each is answered.
Settle = Callable[[Sequence[tuple[Sequence[Message], list[Any]]]], Sequence[Any]]


@dataclass(slots=True)
class Passage:
    """A request's way through the batcher, in event-loop time.

    Attributes:
        arrived: when its messages joined the queue.
        began: when the first batch with a message of it was taken up.
        ended: when its last answer was there.
        batches: sizes of the batches that it was part of.
    """

    arrived: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    batches: list[int] = field(default_factory=list)


@dataclass(eq=False)
class _Job:
    """A request's messages: those not yet taken, shortest first, and the answers so far."""

    messages: Sequence[Message]
    answer: asyncio.Future[list[Any]]
    deadline: float
    passage: Passage
    pending: deque[int] = field(default_factory=deque)
    results: list[Any] = field(default_factory=list)
    left: int = 0


class Batcher:
    """Collects messages of concurrent requests into batches.

    Args:
        score: takes at most `BATCH` messages and whether the batch is alone in the worker, gives one result for each
            message, in order; runs in a lane's thread.
        settle: takes the messages and results of requests that are complete, gives what each is answered; once for all
            requests that one batch completed, so that they share one write to disk. What it raises, they are answered.
        metrics: batch sizes and queue length go there.
        lanes: batches that are scored at the same time.
        max_queue: messages that may wait; more are refused.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Message], bool], Sequence[Any]],
        metrics: Metrics,
        *,
        settle: Settle | None = None,
        lanes: int = 1,
        max_queue: int = MAX_QUEUE,
    ) -> None:
        self._score = score
        self._settle = settle or (lambda requests: [results for _, results in requests])
        self._metrics = metrics
        self._lanes = lanes
        self._free = lanes
        self._max_queue = max_queue
        self._jobs: deque[_Job] = deque()
        self._pending = 0
        self._rate = 0.0
        self._threads = ThreadPoolExecutor(lanes, thread_name_prefix="score")
        self._running: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Messages that no lane has taken yet."""
        return self._pending

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is scored."""
        return self._free == self._lanes and not self._pending

    async def stop(self) -> None:
        """Score what waits, then end."""
        while self._running:
            await asyncio.wait(self._running)
        self._threads.shutdown()

    async def submit(
        self, messages: Sequence[Message], deadline: float = math.inf, passage: Passage | None = None
    ) -> list[Any]:
        """One result for each message.

        Args:
            messages: of one request.
            deadline: event-loop time after which nobody waits for the answer.
            passage: filled with the request's way, for whoever wants to tell of it.

        Raises:
            Overloaded: too many messages wait already, or the answer would come after the deadline.
        """
        loop = asyncio.get_running_loop()
        self._refuse_if_late(len(messages), deadline - loop.time())
        job = _Job(messages, loop.create_future(), deadline, passage or Passage(), left=len(messages))
        job.passage.arrived = loop.time()
        job.results = [None] * len(messages)
        if len(messages) == 1:
            job.pending.append(0)
        else:
            job.pending.extend(sorted(range(len(messages)), key=lambda index: len(messages[index].text)))
        self._jobs.append(job)
        self._count(len(messages))
        self._dispatch()
        try:
            return await job.answer
        finally:
            if job.pending:  # its client has gone, or a piece of it failed
                self._forget(job)

    def _refuse_if_late(self, size: int, patience_s: float) -> None:
        if self._pending and self._pending + size > self._max_queue:
            raise Overloaded(
                f"at most {self._max_queue:,} messages waiting",
                f"{self._pending:,}",
                "try again a little later, or add workers",
                self._wait_s(self._pending + size - self._max_queue),
            )
        if self._pending and patience_s < math.inf:
            # requests take turns: one waits for its own messages and as many of each other request
            ahead = size + sum(min(len(job.pending), size) for job in self._jobs)
            if self._wait_s(ahead) > patience_s:
                raise Overloaded(
                    f"an answer within {patience_s:.2f} s",
                    f"about {self._wait_s(ahead):.2f} s to wait",
                    "allow more time, try again later, or add workers",
                    self._wait_s(ahead),
                )

    def _wait_s(self, messages: int) -> float:
        """Seconds that scoring `messages` may take, by the rate of the last batches; 1 before the first."""
        return messages / self._rate if self._rate else 1.0

    def _dispatch(self) -> None:
        """Give every free lane a batch."""
        while self._free and self._pending:
            share = math.ceil(self._pending / self._free)
            batch = self._next_batch(min(BATCH, share))
            if not batch:
                return
            alone = self._free == self._lanes and not self._pending and len(batch) == 1
            self._free -= 1
            task = asyncio.get_running_loop().create_task(self._serve(batch, alone))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _serve(self, batch: list[tuple[_Job, int]], alone: bool) -> None:
        loop = asyncio.get_running_loop()
        messages = [job.messages[index] for job, index in batch]
        self._metrics.batch.observe(len(batch))
        started = loop.time()
        complete: list[_Job] = []
        for passage in {id(job): job.passage for job, _ in batch}.values():
            if not passage.batches:
                passage.began = started
                self._metrics.wait.observe(started - passage.arrived)
            passage.batches.append(len(batch))
        try:
            results = await loop.run_in_executor(self._threads, self._score, messages, alone)
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} messages")
        except Exception as error:  # noqa: BLE001  whatever the engine raised belongs to these requests, not to the loop
            for job, _ in batch:
                if not job.answer.done():
                    job.answer.set_exception(error)
        else:
            rate = self._lanes * len(batch) / max(loop.time() - started, 1e-6)
            self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate
            for (job, index), result in zip(batch, results, strict=True):
                job.results[index] = result
                job.left -= 1
                if not job.left and not job.answer.done():
                    job.passage.ended = loop.time()
                    complete.append(job)
        finally:
            self._free += 1
            self._dispatch()  # the lane goes on while these are written down
        if complete:
            await self._answer(complete)

    async def _answer(self, jobs: list[_Job]) -> None:
        requests = [(job.messages, job.results) for job in jobs]
        try:
            few = sum(len(job.messages) for job in jobs) <= MESSAGES
            answers = await inline(few, self._settle, requests)
        except Exception as error:  # noqa: BLE001  as above: it belongs to these requests
            for job in jobs:
                if not job.answer.done():
                    job.answer.set_exception(error)
        else:
            for job, answer in zip(jobs, answers, strict=True):
                if not job.answer.done():
                    job.answer.set_result(answer)

    def _next_batch(self, room: int) -> list[tuple[_Job, int]]:
        """At most `room` messages of about one length, the longest-waiting request's next among them."""
        pool, seen = self._candidates(4 * room)
        if not pool:
            return []
        anchor = pool[0]
        pool.sort(key=lambda item: item[0])
        first, last = _window([item[0] for item in pool], pool.index(anchor), room)
        for _, job, index in reversed([*pool[:first], *pool[last:]]):
            job.pending.appendleft(index)
        # whoever was served waits behind the others now
        self._jobs.extendleft(job for job in reversed(seen) if job.pending and job is not anchor[1])
        if anchor[1].pending:
            self._jobs.append(anchor[1])
        self._count(first - last)
        return [(job, index) for _, job, index in pool[first:last]]

    def _candidates(self, limit: int) -> tuple[list[tuple[int, _Job, int]], list[_Job]]:
        """Length, request and place of messages that may come next, taken out of their requests, and these requests.

        A request gives a few, and more where there are few requests.
        """
        now = asyncio.get_running_loop().time()
        piece = max(PIECE, math.ceil(limit / (len(self._jobs) or 1)))
        pool: list[tuple[int, _Job, int]] = []
        seen: list[_Job] = []
        while self._jobs and len(pool) < limit:
            job = self._jobs.popleft()
            if now > job.deadline and not job.answer.done():
                job.answer.set_exception(
                    Overloaded("an answer in time", "its time ran out in the queue", "allow more time, or add workers")
                )
            if job.answer.done():
                self._forget(job)
                continue
            seen.append(job)
            for _ in range(min(piece, len(job.pending))):
                index = job.pending.popleft()
                pool.append((min(len(job.messages[index].text), READ_CHARS), job, index))
        return pool, seen

    def _forget(self, job: _Job) -> None:
        """Nobody waits for the rest of a request. Its entry leaves the queue when its turn comes."""
        self._count(-len(job.pending))
        job.pending.clear()

    def _count(self, change: int) -> None:
        self._pending += change
        self._metrics.queue.set(self._pending)


def _window(lengths: Sequence[int], anchor: int, room: int) -> tuple[int, int]:
    """Where to cut `room` neighbours out of the sorted `lengths`, so that `anchor` is among them, their lengths differ
    little, and together they are not too long."""
    room = min(room, len(lengths))
    starts = range(max(0, anchor - room + 1), min(anchor, len(lengths) - room) + 1)
    first = min(starts, key=lambda start: lengths[start + room - 1] - lengths[start])
    last = first + room
    while last - first > 1 and sum(lengths[first:last]) > BATCH_CHARS:
        if last - 1 > anchor:
            last -= 1
        else:
            first += 1
    return first, last
