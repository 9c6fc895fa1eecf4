"""Batches: every text answered once and in its order, small requests not starved, the queue bounded."""

import asyncio
import threading
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.batcher import BATCH, BATCH_CHARS, READ_CHARS, Batcher, _window
from serving.errors import Overloaded
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


class Texts(Batcher):
    """A batcher of bare texts: only a message's text matters to it."""

    async def submit(self, texts, *rest):
        return await super().submit([SimpleNamespace(text=text) for text in texts], *rest)


def run(story, score, **options):
    async def main():
        batcher = Texts(lambda messages, alone: score([message.text for message in messages]), Metrics(), **options)
        try:
            return await asyncio.wait_for(story(batcher), 20)
        finally:
            await batcher.stop()

    return asyncio.run(main())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 120), min_size=1, max_size=12), st.integers(1, 3))
def test_every_request_gets_its_own_answers_in_order(sizes, lanes):
    requests = [[f"{number}-{place}" * (place % 7 + 1) for place in range(size)] for number, size in enumerate(sizes)]
    batches = []

    def score(texts):
        batches.append(list(texts))
        return [text.upper() for text in texts]

    async def story(batcher):
        return await asyncio.gather(*(batcher.submit(texts) for texts in requests))

    assert run(story, score, lanes=lanes) == [[text.upper() for text in texts] for texts in requests]
    assert all(0 < len(batch) <= BATCH for batch in batches)
    assert Counter(text for batch in batches for text in batch) == Counter(text for texts in requests for text in texts)


def test_an_idle_worker_scores_at_once_and_a_busy_one_collects():
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["first"]))
        await entered(gate)
        later = [asyncio.create_task(batcher.submit([f"later-{number}"])) for number in range(BATCH)]
        await settle()
        gate.open.set()
        await asyncio.gather(first, *later)

    run(story, gate.score)
    assert gate.batches[0] == ["first"]
    assert sorted(gate.batches[1]) == [f"later-{number}" for number in range(BATCH)]


def test_free_lanes_share_what_waits():
    both = threading.Barrier(2)
    batches = []

    def score(texts):
        batches.append(list(texts))
        both.wait(10)  # falls through only where two lanes score at the same time
        return texts

    async def story(batcher):
        await batcher.submit(["a", "b", "c", "d"])

    run(story, score, lanes=2)
    assert [len(batch) for batch in batches] == [2, 2]


def test_a_message_alone_in_the_worker_may_use_every_core():
    seen = []

    async def main():
        batcher = Batcher(lambda messages, alone: seen.append(alone) or messages, Metrics(), lanes=2)
        for size in (1, 2, 1):
            await batcher.submit([SimpleNamespace(text="x")] * size)
        await batcher.stop()

    asyncio.run(main())
    assert seen[0] is seen[-1] is True
    assert not any(seen[1:-1])


def test_a_batch_is_of_about_one_length():
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["first"]))
        await entered(gate)
        texts = [("long " * 40) if number % 2 else "short" for number in range(2 * BATCH)]
        later = [asyncio.create_task(batcher.submit([text])) for text in texts]
        await settle()
        gate.open.set()
        await asyncio.gather(first, *later)

    run(story, gate.score)
    assert [len({len(text) for text in batch}) for batch in gate.batches] == [1, 1, 1]


@given(st.lists(st.integers(0, READ_CHARS), min_size=1, max_size=40), st.data())
def test_a_window_holds_its_anchor_and_is_not_too_long(lengths, data):
    lengths.sort()
    anchor = data.draw(st.integers(0, len(lengths) - 1))
    room = data.draw(st.integers(1, BATCH))
    first, last = _window(lengths, anchor, room)
    assert 0 <= first <= anchor < last <= min(first + room, len(lengths))
    assert sum(lengths[first:last]) <= BATCH_CHARS or last - first == 1


def test_a_small_request_rides_in_the_next_batches_past_a_big_one():
    gate = Gate()

    async def story(batcher):
        big = asyncio.create_task(batcher.submit([f"big-{number:04}" for number in range(1_000)]))
        await entered(gate)
        small = asyncio.create_task(batcher.submit(["small"]))
        await settle()
        gate.open.set()
        await asyncio.gather(big, small)

    run(story, gate.score)
    assert any("small" in batch for batch in gate.batches[1:3])


def test_requests_take_turns_whatever_their_length():
    """A text as long as none other is never passed over for the many that fit each other better."""
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["first"]))
        await entered(gate)
        odd = asyncio.create_task(batcher.submit(["long " * 80]))
        crowd = [asyncio.create_task(batcher.submit(["short"] * 50)) for _ in range(4)]
        await settle()
        gate.open.set()
        await asyncio.gather(first, odd, *crowd)

    run(story, gate.score)
    assert any("long " * 80 in batch for batch in gate.batches[1:3])


def test_big_requests_take_turns():
    gate = Gate()

    async def story(batcher):
        first = asyncio.create_task(batcher.submit(["x"]))
        await entered(gate)
        both = [asyncio.create_task(batcher.submit([name] * 200)) for name in "ab"]
        await settle()
        gate.open.set()
        await asyncio.gather(first, *both)

    run(story, gate.score)
    half = [text for batch in gate.batches[1 : len(gate.batches) // 2] for text in batch]
    assert abs(half.count("a") - half.count("b")) <= 2 * BATCH


def test_a_request_that_would_come_too_late_is_refused_at_once_and_says_when_to_come_again():
    async def story(batcher):
        loop = asyncio.get_running_loop()
        await batcher.submit(["warm"] * 8)  # the rate is known now
        waiting = asyncio.create_task(batcher.submit(["slow"] * 100))
        await settle()
        with pytest.raises(Overloaded) as refused:
            await batcher.submit(["b"] * 40, loop.time() + 0.01)
        waiting.cancel()
        return refused.value

    def score(texts):
        time.sleep(0.02)
        return texts

    error = run(story, score)
    assert "0.01 s" in error.expected
    assert error.after_s > 0.05


def test_a_request_whose_time_ran_out_leaves_the_queue():
    gate = Gate()

    async def story(batcher):
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(batcher.submit(["first"]))
        await entered(gate)
        late = asyncio.create_task(batcher.submit(["late"], loop.time() + 0.02))
        await settle()
        while loop.time() < loop.time() + 0.02 and not late.done():
            await asyncio.sleep(0.03)
            gate.open.set()
        with pytest.raises(Overloaded):
            await late
        await first
        return waiting(batcher)

    assert run(story, gate.score) == 0
    assert not any("late" in batch for batch in gate.batches)


def test_a_full_queue_refuses_and_recovers():
    gate = Gate()

    async def story(batcher):
        waiting = asyncio.create_task(batcher.submit(["a"] * (BATCH + 8)))  # a batch is taken, eight wait
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
        with pytest.raises(RuntimeError, match="1 results for 2 messages"):
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
    assert sum(batch.count("gone") for batch in gate.batches) <= BATCH


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
        bad = asyncio.create_task(batcher.submit(["bad"] * (2 * BATCH)))  # it fails with a piece still queued
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
        assert waiting(batcher) == sum(size for size, _ in plans)
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
        first = asyncio.create_task(batcher.submit(["a"] * (BATCH + 10)))
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
