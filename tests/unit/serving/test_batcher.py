"""Batches: every text answered once and in its order, small requests not starved, the queue bounded."""

import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batcher import MAX_BATCH, PIECE, Batcher, Overloaded
from serving.metrics import Metrics


class Gate:
    """A scoring function that waits to be let through, and remembers its batches."""

    def __init__(self):
        self.open = threading.Event()
        self.entered = threading.Event()
        self.batches = []

    def score(self, texts):
        self.batches.append(list(texts))
        self.entered.set()
        assert self.open.wait(10)
        return [text.upper() for text in texts]


async def entered(gate):
    assert await asyncio.to_thread(gate.entered.wait, 10)


async def settle():
    """Let submitted requests reach the queue."""
    for _ in range(5):
        await asyncio.sleep(0)


def run(story, score, **options):
    async def main():
        batcher = Batcher(score, Metrics(), **options)
        batcher.start()
        try:
            return await asyncio.wait_for(story(batcher), 20)
        finally:
            await batcher.stop()

    return asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 200), min_size=1, max_size=12))
def test_every_request_gets_its_own_answers_in_order(sizes):
    requests = [[f"{number}-{place}" for place in range(size)] for number, size in enumerate(sizes)]
    batches = []

    def score(texts):
        batches.append(list(texts))
        return [text.upper() for text in texts]

    async def story(batcher):
        return await asyncio.gather(*(batcher.submit(texts) for texts in requests))

    assert run(story, score) == [[text.upper() for text in texts] for texts in requests]
    assert all(0 < len(batch) <= MAX_BATCH for batch in batches)
    assert sorted(text for batch in batches for text in batch) == sorted(text for texts in requests for text in texts)


def test_an_idle_worker_scores_at_once_and_a_busy_one_collects():
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["first"]))
        await entered(gate)
        later = [asyncio.create_task(batcher.submit([f"later-{number}"])) for number in range(10)]
        await settle()
        gate.open.set()
        await asyncio.gather(first, *later)

    run(story, gate.score)
    assert gate.batches == [["first"], [f"later-{number}" for number in range(10)]]


def test_a_small_request_rides_in_the_next_batch_past_a_big_one():
    gate = Gate()

    async def story(batcher):
        big = asyncio.create_task(batcher.submit([f"big-{number}" for number in range(1_000)]))
        await entered(gate)
        small = asyncio.create_task(batcher.submit(["small"]))
        await settle()
        gate.open.set()
        await asyncio.gather(big, small)

    run(story, gate.score)
    assert "small" in gate.batches[1]


def test_big_requests_share_a_batch():
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["x"]))
        await entered(gate)
        both = [asyncio.create_task(batcher.submit([name] * 500)) for name in "ab"]
        await settle()
        gate.open.set()
        await asyncio.gather(first, *both)

    run(story, gate.score)
    assert gate.batches[1].count("a") == gate.batches[1].count("b") == MAX_BATCH // 2
    assert MAX_BATCH % PIECE == 0


def test_a_full_queue_refuses_and_recovers():
    gate = Gate()

    async def story(batcher):
        waiting = asyncio.create_task(batcher.submit(["a"] * 8))
        await entered(gate)
        with pytest.raises(Overloaded) as refused:
            await batcher.submit(["b"] * 3)
        fits = asyncio.create_task(batcher.submit(["b"] * 2))
        await settle()
        gate.open.set()
        await asyncio.gather(waiting, fits)
        assert await batcher.submit(["c"] * 10) == ["C"] * 10
        return refused.value

    assert "10 messages" in run(story, gate.score, max_queue=10).expected


def test_a_failing_batch_fails_its_requests_and_no_other():
    def score(texts):
        if "bad" in texts:
            raise RuntimeError("a model failed")
        return texts

    async def story(batcher):
        with pytest.raises(RuntimeError, match="a model failed"):
            await batcher.submit(["bad"] * 100)
        return await batcher.submit(["good"])

    assert run(story, score) == ["good"]


def test_a_missing_result_is_an_error_and_not_a_wait():
    async def story(batcher):
        with pytest.raises(RuntimeError, match="1 results for 2 texts"):
            await batcher.submit(["a", "b"])

    run(story, lambda texts: texts[1:])


def test_a_request_whose_client_left_is_not_scored_further():
    gate = Gate()

    async def story(batcher):
        gone = asyncio.create_task(batcher.submit(["gone"] * 1_000))
        await entered(gate)
        gone.cancel()
        await settle()
        gate.open.set()
        assert await batcher.submit(["here"]) == ["HERE"]

    run(story, gate.score)
    assert sum(batch.count("gone") for batch in gate.batches) == MAX_BATCH


def test_a_stop_finishes_what_waits():
    gate = Gate()

    async def story(batcher):
        answers = [asyncio.create_task(batcher.submit([f"{number}"] * 50)) for number in range(5)]
        await entered(gate)
        stopping = asyncio.create_task(batcher.stop())
        gate.open.set()
        await stopping
        return [len(answer) for answer in await asyncio.gather(*answers)]

    assert run(story, gate.score) == [50] * 5
