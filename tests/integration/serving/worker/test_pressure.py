"""Clients that announce too much, hang up, or come all at once."""

import json
import socket
import threading

import httpx
import pytest

from serving.batcher import BATCH, MAX_QUEUE


def dial(served):
    return socket.create_connection((served.client.base_url.host, served.client.base_url.port), timeout=20)


def count_requests(served, status):
    return (
        served.worker.metrics.registry.get_sample_value(
            "undertone_requests_total", {"path": "/v1/score", "status": str(status)}
        )
        or 0
    )


def assert_three_parts(answer):
    error = answer["error"]
    assert set(error) == {"expected", "found", "next_step"}
    assert all(error.values())


@pytest.fixture
def served(settings, shelf, serve):
    shelf.publish()
    with serve(settings) as made:
        made.wait_version(1)
        yield made


def test_a_body_announced_as_too_large_is_refused_unread(served, settings):
    with dial(served) as client:
        length = settings.max_body_bytes + 1
        client.sendall(f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        answer = client.recv(10_000)  # not one byte of the body was sent
    assert answer.startswith(b"HTTP/1.1 413")
    assert_three_parts(json.loads(answer.split(b"\r\n\r\n", 1)[1]))


def test_chunks_beyond_the_limit_are_refused_before_the_last_one(served, settings):
    with dial(served) as client:
        client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"%x\r\n" % 1_000_000 + b" " * 1_000_000 + b"\r\n"
        for _ in range(settings.max_body_bytes // 1_000_000 + 1):
            client.sendall(part)
        answer = client.recv(10_000)  # the body has not ended
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_of_exactly_the_limit_is_read(served, settings):
    start, end = b'{"text": "good"', b"}"
    body = start + b" " * (settings.max_body_bytes - len(start + end)) + end
    answer = served.client.post("/v1/score", content=body)
    assert answer.status_code == 200
    assert [message["sentiment"] for message in answer.json()["messages"]] == ["positive"]
    assert served.client.post("/v1/score", content=body + b" ").status_code == 413


def test_a_client_that_hangs_up_halfway_leaves_nothing_behind(served, rows, settings, until):
    with dial(served) as client:
        body = b'{"id": "gone", "text": "good"}'
        client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:-5])
    until(lambda: count_requests(served, 499) == 1, "the worker saw it")
    served.score({"id": "here", "text": "good"})
    served.wait_stored()
    assert [row["id"] for row in rows(settings)[0]] == ["here"]
    assert count_requests(served, 500) == 0


def test_more_than_the_queue_holds_is_a_503_and_the_rest_is_answered(served, rows, settings, monkeypatch, until):
    engine = served.worker.slots["sentiment"].served.engine
    run, gate = engine.run, threading.Event()
    monkeypatch.setattr(engine, "run", lambda ids, **how: run(ids, **how) if gate.wait(60) else None)
    answers = []

    def post(number):
        items = [{"id": f"{number}-{place}", "text": "good"} for place in range(1_000)]
        url = str(served.client.base_url.join("/v1/score"))
        answers.append((number, httpx.post(url, json={"messages": items}, timeout=60)))

    threads = [threading.Thread(target=post, args=(number,)) for number in range(MAX_QUEUE // 1_000 + 1)]
    try:
        for thread in threads:
            thread.start()
        until(lambda: answers, "one is refused at once")
    finally:
        gate.set()
        for thread in threads:
            thread.join()
    (refused, *others) = answers
    assert refused[1].status_code == 503
    assert refused[1].headers["retry-after"] == "1"
    assert_three_parts(refused[1].json())
    assert [answer.status_code for _, answer in others] == [200] * (MAX_QUEUE // 1_000)
    served.wait_stored()
    found = {row["id"].split("-")[0] for row in rows(settings)[0]}
    assert found == {str(number) for number, _ in others}
    assert "undertone_queue_messages 0.0" in served.client.get("/metrics").text


def test_a_small_request_does_not_wait_for_a_big_one(served, monkeypatch, until):
    """The big request is held after its third batch; by then the small one is answered."""
    engine = served.worker.slots["sentiment"].served.engine
    run, first, rest = engine.run, threading.Event(), threading.Event()
    batches = []

    def slow(ids, **how):
        batches.append(len(ids))
        if len(batches) == 1:
            assert first.wait(30)
        elif len(batches) > 3:
            assert rest.wait(30)
        return run(ids, **how)

    monkeypatch.setattr(engine, "run", slow)
    done = []

    def ask(name, count):
        answer = served.client.post("/v1/score", json={"messages": [{"text": "good"}] * count})
        done.append((name, answer.status_code))

    big = threading.Thread(target=ask, args=("big", 1_000))
    small = threading.Thread(target=ask, args=("small", 1))
    try:
        big.start()
        until(lambda: batches, "the big request is being scored")
        small.start()
        until(lambda: served.worker.batcher.waiting == 1_001 - BATCH, "the small one waits")
        first.set()
        until(lambda: done, "the small one is answered")
        assert done == [("small", 200)]
    finally:
        first.set()
        rest.set()
        big.join()
        if small.ident:
            small.join()
    assert done == [("small", 200), ("big", 200)]
