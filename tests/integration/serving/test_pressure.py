"""Clients that announce too much, trickle, hang up, or come all at once."""

import contextlib
import json
import select
import socket
import threading
import time

import httpx
import pytest

from serving import http, patience
from serving.batcher import BATCH, MAX_QUEUE


def assert_three_parts(error):
    assert set(error) == {"expected", "found", "next_step"}
    assert all(error.values())


def request(body, sent=None):
    """A request as bytes, its body perhaps only in part."""
    head = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    return head + body[:sent]


@pytest.fixture
def held(served, monkeypatch):
    """The model scores nothing until this is set."""
    engine, gate = served.worker.slots["sentiment"].served.engine, threading.Event()
    run = engine.run
    monkeypatch.setattr(engine, "run", lambda ids, **how: run(ids, **how) if gate.wait(60) else None)
    yield gate
    gate.set()


def busy(served):
    """The model is scoring: whatever comes now waits."""
    return not served.worker.batcher.idle and not served.worker.batcher.waiting


def test_a_body_announced_as_too_large_is_refused_unread(desk):
    with desk.served.dial() as client:
        length = desk.settings.max_body_bytes + 1
        client.sendall(f"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        answer = client.recv(10_000)  # not one byte of the body was sent
    assert answer.startswith(b"HTTP/1.1 413")
    assert_three_parts(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"])


def test_chunks_beyond_the_limit_are_refused_before_the_last_one(desk):
    with desk.served.dial() as client:
        client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        part = b"%x\r\n" % 1_000_000 + b" " * 1_000_000 + b"\r\n"
        for _ in range(desk.settings.max_body_bytes // 1_000_000 + 1):
            client.sendall(part)
        answer = client.recv(10_000)  # the body has not ended
    assert answer.startswith(b"HTTP/1.1 413")


def trickle(client, data, seconds):
    """Send a byte of `data` every now and then until the other side says something; gives that."""
    deadline = time.monotonic() + seconds
    for byte in data:
        readable, _, _ = select.select([client], [], [], 0.02)  # what to wait for is an answer, not the time
        if readable:
            break
        client.send(bytes([byte]))
        assert time.monotonic() < deadline, "nobody cut the client off"
    with contextlib.suppress(ConnectionResetError):
        return client.recv(10_000)
    return b""


def test_a_client_that_trickles_its_headers_is_cut_off_and_others_are_served(desk, monkeypatch):
    monkeypatch.setattr(patience, "HEAD_S", 0.5)
    clients = [desk.served.dial() for _ in range(20)]
    ends = []

    def slow(client):
        with client:
            ends.append(trickle(client, b"POST /v1/score HTTP/1.1\r\nX-Slow: " + b"s" * 10_000, 30))

    threads = [threading.Thread(target=slow, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    answered = 0
    while any(thread.is_alive() for thread in threads):
        assert desk.served.score("good")["messages"]
        answered += 1
    assert ends == [b""] * 20
    assert answered > 1


def test_a_second_request_on_a_connection_has_its_own_time(desk, monkeypatch):
    monkeypatch.setattr(patience, "HEAD_S", 0.5)
    with desk.served.dial() as client:
        client.sendall(request(b'{"text": "good"}'))
        assert client.recv(10_000).startswith(b"HTTP/1.1 200")
        readable, _, _ = select.select([client], [], [], 0.8)
        assert not readable, "a connection may wait for its next request"
        client.sendall(request(b'{"text": "good"}'))
        assert client.recv(10_000).startswith(b"HTTP/1.1 200")
        assert trickle(client, b"POST /v1/score HTTP/1.1\r\nX-Slow: " + b"s" * 10_000, 30) == b""


def test_a_client_that_trickles_its_body_is_told_408(desk, monkeypatch):
    monkeypatch.setattr(http, "BODY_S", 0.5)
    body = b'{"text": "good"}' + b" " * 10_000
    with desk.served.dial() as client:
        client.sendall(request(body, 5))
        answer = trickle(client, body[5:], 30)
    assert answer.startswith(b"HTTP/1.1 408")
    assert_three_parts(json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"])
    with desk.served.dial() as client:  # and one that sends nothing of it
        client.sendall(request(body, 0))
        assert client.recv(10_000).startswith(b"HTTP/1.1 408")
    assert desk.served.score("good")["messages"]


def test_a_client_that_hangs_up_halfway_leaves_nothing_behind(served, stored_ids, settings, until):
    with served.dial() as client:
        client.sendall(request(b'{"id": "gone", "text": "good"}', -5))
    until(lambda: served.metric("requests_total", path="/v1/score", status="499") == 1, "the worker saw it")
    served.score({"id": "here", "text": "good"})
    served.wait_stored()
    assert stored_ids(served.settings) == ["here"]
    assert served.metric("requests_total", path="/v1/score", status="500") == 0


def test_messages_of_a_client_that_hangs_up_leave_the_queue(served, held, stored_ids, until):
    answers = []
    asking = threading.Thread(target=lambda: answers.append(served.score({"id": "first", "text": "good"})))
    asking.start()
    until(lambda: busy(served), "the model is scoring")
    body = json.dumps({"messages": [{"id": f"gone-{number}", "text": "good"} for number in range(500)]}).encode()
    with served.dial() as client:
        client.sendall(request(body))
        until(lambda: served.worker.batcher.waiting == 500, "they wait")
    until(lambda: served.worker.batcher.waiting == 0, "they are gone")
    until(lambda: served.metric("requests_total", path="/v1/score", status="499") == 1, "the worker saw it")
    held.set()
    asking.join()
    served.score({"id": "later", "text": "good"})
    served.wait_stored()
    assert stored_ids(served.settings) == ["first", "later"]


def test_more_than_the_queue_holds_is_a_503_and_the_rest_is_answered(served, held, stored_ids, until):
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
        held.set()
        for thread in threads:
            thread.join()
    (refused, *others) = answers
    assert refused[1].status_code == 503
    assert refused[1].headers["retry-after"] == "1"
    assert_three_parts(refused[1].json()["error"])
    assert [answer.status_code for _, answer in others] == [200] * (MAX_QUEUE // 1_000)
    served.wait_stored()
    found = {name.split("-")[0] for name in stored_ids(served.settings)}
    assert found == {str(number) for number, _ in others}
    assert served.metric("queue_messages") == 0


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


def test_a_client_that_reads_nothing_holds_nobody_up(desk):
    body = json.dumps({"messages": [{"text": "good"}] * 1_000}).encode()
    with contextlib.ExitStack() as stack:
        for _ in range(4):
            deaf = stack.enter_context(desk.served.dial())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_000)
            deaf.sendall(request(body))
        assert desk.served.score("good")["messages"]
    assert desk.served.score("good")["messages"]
