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


def waiting(batcher):
    """What the queue's gauge says, as Prometheus reads it."""
    return batcher._metrics.registry.get_sample_value("undertone_queue_messages")


def test_a_small_request_is_answered_before_a_big_one_that_came_first():
    gate = Gate()
    finished = []

    async def story(batcher):
        async def request(name, texts):
            await batcher.submit(texts)
            finished.append(name)

        big = asyncio.create_task(request("big", ["big"] * 1_000))
        await entered(gate)
        small = asyncio.create_task(request("small", ["small"]))
        await settle()
        gate.open.set()
        await asyncio.gather(big, small)

    run(story, gate.score)
    assert finished == ["small", "big"]


def test_a_scoring_error_leaves_the_requests_that_wait_behind_it_alone():
    gate = Gate()

    def score(texts):
        found = gate.score(texts)
        if "bad" in texts:
            raise RuntimeError("a model failed")
        return found

    async def story(batcher):
        bad = asyncio.create_task(batcher.submit(["bad"] * (MAX_BATCH + PIECE)))  # it fails with a piece still queued
        await entered(gate)
        good = [asyncio.create_task(batcher.submit([f"good-{number}"])) for number in range(3)]
        await settle()
        # the failed request's other pieces come before these in the queue
        gate.open.set()
        outcomes = await asyncio.gather(bad, *good, return_exceptions=True)
        assert await batcher.submit(["later"]) == ["LATER"]
        return outcomes, waiting(batcher)

    (bad, *good), count = run(story, score)
    assert isinstance(bad, RuntimeError)
    assert good == [[f"GOOD-{number}"] for number in range(3)]
    assert count == 0


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 150), st.sampled_from(["stay", "leave", "fail"])), min_size=1, max_size=10))
def test_whoever_leaves_or_fails_the_queue_returns_to_zero_and_the_others_are_answered(plans):
    gate = Gate()

    def score(texts):
        found = gate.score(texts)
        if any(text.startswith("fail") for text in texts):
            raise RuntimeError("a model failed")
        return found

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["first"]))
        await entered(gate)
        tasks = [
            asyncio.create_task(batcher.submit([f"{plan}-{number}-{place}" for place in range(size)]))
            for number, (size, plan) in enumerate(plans)
        ]
        await settle()
        assert waiting(batcher) == 1 + sum(size for size, _ in plans)
        for task, (_, plan) in zip(tasks, plans, strict=True):
            if plan == "leave":
                task.cancel()
        gate.open.set()
        outcomes = await asyncio.gather(first, *tasks, return_exceptions=True)
        assert await batcher.submit(["later"]) == ["LATER"]
        return outcomes[1:], waiting(batcher)

    outcomes, count = run(story, score)
    assert count == 0
    for (size, plan), outcome, number in zip(plans, outcomes, range(len(plans)), strict=True):
        if plan == "leave":
            assert isinstance(outcome, asyncio.CancelledError)
        elif plan == "fail":
            assert isinstance(outcome, RuntimeError)
        elif not isinstance(outcome, RuntimeError):  # a request shares the fate of those in its batch
            assert outcome == [f"STAY-{number}-{place}" for place in range(size)]
    if all(plan != "fail" for _, plan in plans):
        assert not any(isinstance(outcome, RuntimeError) for outcome in outcomes)
    assert not any(text.startswith("leave") for batch in gate.batches for text in batch)


def test_a_refused_request_does_not_count_as_waiting():
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["a"] * 10))
        await entered(gate)
        for _ in range(3):
            with pytest.raises(Overloaded):
                await batcher.submit(["b"])
        counted = waiting(batcher)
        gate.open.set()
        await first
        return counted, waiting(batcher)

    assert run(story, gate.score, max_queue=10) == (10, 0)


def test_a_client_that_leaves_during_its_last_batch_does_not_end_the_loop():
    gate = Gate()

    async def story(batcher):
        gone = asyncio.create_task(batcher.submit(["gone"]))
        await entered(gate)
        gone.cancel()
        await settle()
        gate.open.set()
        found = await asyncio.wait_for(batcher.submit(["here"]), 10)
        return found, gone.cancelled(), waiting(batcher)

    assert run(story, gate.score) == (["HERE"], True, 0)
