"""Micro-batches without waiting: while one batch is scored, whatever arrives becomes the next.

Requests take turns by small pieces, so a request of a thousand messages does not keep a request of one waiting.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from serving.metrics import Metrics
from undertone.errors import UndertoneError

MAX_BATCH = 64
PIECE = 16
MAX_QUEUE = 5_000


class Overloaded(UndertoneError):
    """More messages wait than the worker may hold."""


@dataclass(eq=False)
class _Job:
    texts: Sequence[str]
    answer: asyncio.Future[list[Any]]
    taken: int = 0
    results: list[Any] = field(default_factory=list)


class Batcher:
    """Collects texts of concurrent requests into batches for one scoring thread.

    Args:
        score: takes at most `MAX_BATCH` texts, gives one result each, in order; runs in the scoring thread.
        metrics: batch sizes and queue length go there.
        max_queue: texts that may wait; more are refused.
    """

    def __init__(
        self, score: Callable[[Sequence[str]], Sequence[Any]], metrics: Metrics, max_queue: int = MAX_QUEUE
    ) -> None:
        self._score = score
        self._metrics = metrics
        self._max_queue = max_queue
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin scoring; needs a running event loop."""
        self._loop = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Score what waits, then end."""
        while self._waiting:
            await asyncio.sleep(0.01)
        if self._loop is not None:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        self._thread.shutdown()

    async def submit(self, texts: Sequence[str]) -> list[Any]:
        """One result for each text.

        Raises:
            Overloaded: too many texts wait already.
        """
        if self._waiting and self._waiting + len(texts) > self._max_queue:
            raise Overloaded(
                f"at most {self._max_queue:,} messages waiting",
                f"{self._waiting:,}",
                "try again in a second, or add workers",
            )
        job = _Job(texts, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._count(len(texts))
        self._wake.set()
        return await job.answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            batch = self._next_batch()
            if not batch:
                self._wake.clear()
                continue
            texts = [text for job, start, end in batch for text in job.texts[start:end]]
            self._metrics.batch.observe(len(texts))
            try:
                results = await loop.run_in_executor(self._thread, self._score, texts)
                if len(results) != len(texts):
                    raise RuntimeError(f"{len(results)} results for {len(texts)} texts")
            except Exception as error:  # noqa: BLE001  whatever the engine raised belongs to these requests, not to the loop
                for job, _, _ in batch:
                    self._fail(job, error)
                continue
            finally:
                self._count(-len(texts))
            position = 0
            for job, start, end in batch:
                job.results.extend(results[position : position + end - start])
                position += end - start
                if len(job.results) == len(job.texts) and not job.answer.done():
                    job.answer.set_result(job.results)

    def _next_batch(self) -> list[tuple[_Job, int, int]]:
        batch: list[tuple[_Job, int, int]] = []
        room = MAX_BATCH
        while self._jobs and room:
            job = self._jobs.popleft()
            if job.answer.done():  # its client has gone, or an earlier piece failed
                self._count(job.taken - len(job.texts))
                continue
            end = min(job.taken + min(PIECE, room), len(job.texts))
            batch.append((job, job.taken, end))
            room -= end - job.taken
            job.taken = end
            if end < len(job.texts):
                self._jobs.append(job)
        return batch

    def _fail(self, job: _Job, error: Exception) -> None:
        if not job.answer.done():
            job.answer.set_exception(error)

    def _count(self, change: int) -> None:
        self._waiting += change
        self._metrics.queue.set(self._waiting)
