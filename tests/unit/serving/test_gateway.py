"""The worker's door as an ASGI application: what it answers, what it tells, what it keeps to itself."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import Overloaded
from serving.gateway import Gateway
from serving.http import Answer, Route, Routes, json_answer
from serving.metrics import Metrics
from undertone.errors import DataError


class Life:
    """What starts and stops with the application."""

    def __init__(self):
        self.told = []

    def start(self):
        self.told.append("start")

    async def stop(self):
        self.told.append("stop")


async def echo(call):
    return json_answer({"body": call.body.decode(), "parts": call.parts, "query": call.query, "id": call.request_id})


async def broken(call):
    raise RuntimeError("a secret of the house")


async def refuse(call):
    raise DataError("this", "that", "mend it")


async def budget(call):
    return json_answer(call.deadline - asyncio.get_running_loop().time())


ROUTES = Routes(
    [
        Route("GET", "/healthz", echo, "", open=True),
        Route("GET", "/budget", budget, ""),
        Route("POST", "/echo/{name}", echo, "", request=(dict,)),
        Route("POST", "/broken", broken, "", request=(dict,)),
        Route("GET", "/refuse", refuse, ""),
    ]
)


def gateway(**how):
    return Gateway(Life(), ROUTES, Metrics(), max_body_bytes=100, budget_s=30, **how)


def ask(door, method, path, body=b"", headers=(), query=b"", gone=False):
    """Status, headers and body of the answer; None where there was none."""
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    if gone:
        incoming = [{"type": "http.disconnect"}]
    sent = []

    async def receive():
        if not incoming:
            await asyncio.sleep(60)
        return incoming.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query,
             "headers": [(name.encode(), value) for name, value in headers], "client": ("10.0.0.1", 4)}  # fmt: skip
    asyncio.run(door(scope, receive, send))
    if not sent:
        return None
    start, end = sent
    found = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
    return SimpleNamespace(status=start["status"], headers=found, body=end["body"])


def test_a_page_gets_body_query_and_the_parts_of_its_path():
    answer = ask(gateway(), "POST", "/echo/ann", b"hello", [("X-Request-ID", b"r-1")], b"a=1")
    assert json.loads(answer.body) == {"body": "hello", "parts": {"name": "ann"}, "query": "a=1", "id": "r-1"}
    assert answer.status == 200
    assert answer.headers["x-request-id"] == "r-1"
    assert int(answer.headers["content-length"]) == len(answer.body)


def test_head_is_get_without_the_body():
    get, head = (ask(gateway(), method, "/healthz", headers=[("X-Request-ID", b"r")]) for method in ("GET", "HEAD"))
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert ask(gateway(), "HEAD", "/echo/ann").status == 405


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/healthz", 405)])
def test_what_is_not_there_is_told_with_what_is(method, path, status):
    answer = ask(gateway(), method, path)
    error = json.loads(answer.body)["error"]
    assert answer.status == status
    assert "/healthz" in error["expected"]
    assert f"{method} {path}" in error["found"]
    assert answer.headers.get("allow") == ("GET" if status == 405 else None)


def test_a_failure_keeps_its_message_at_home_and_in_the_log(caplog):
    answer = ask(gateway(), "POST", "/broken", b"{}")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert b"RuntimeError" in answer.body
    assert "a secret of the house" in caplog.text


def test_an_error_that_is_meant_to_be_read_goes_out():
    answer = ask(gateway(), "GET", "/refuse")
    assert (answer.status, json.loads(answer.body)["error"]["found"]) == (422, "that")


def test_a_client_that_hung_up_gets_nothing_and_is_counted():
    door = gateway()
    assert ask(door, "POST", "/echo/ann", gone=True) is None
    labels = {"path": "/echo/{name}", "status": "499"}
    assert door._metrics.registry.get_sample_value("undertone_requests_total", labels) == 1


@pytest.mark.parametrize(
    ("asked", "given"),
    [(b"250", 0.25), (b"999999", 30), (b"-1", 30), (b"", 30), (b"soon", 30), (b"9" * 400, 30)],
)
def test_a_request_may_ask_for_less_time_and_never_for_more(asked, given):
    answer = ask(gateway(), "GET", "/budget", headers=[("X-Latency-Budget-Ms", asked)])
    assert json.loads(answer.body) == pytest.approx(given, abs=0.1)


@given(st.binary(max_size=300))
def test_any_request_id_and_any_budget_is_answered(value):
    headers = [("X-Request-ID", value), ("X-Latency-Budget-Ms", value), ("Content-Length", value)]
    answer = ask(gateway(), "GET", "/healthz", headers=headers)
    assert answer.status == 200
    assert answer.headers["x-request-id"]
    assert len(answer.headers["x-request-id"]) <= 128
    assert answer.headers["x-request-id"].isprintable()


@given(st.text(max_size=2_000), st.sampled_from(["GET", "POST", "BREW"]))
def test_any_path_is_answered_in_a_few_words(path, method):
    answer = ask(gateway(), method, path)
    assert answer.status in {200, 404, 405, 422, 500}
    assert len(answer.body) < 4_000
    json.loads(answer.body)


def test_a_stranger_is_refused_before_the_body_is_read_and_probes_stay_open():
    class Closed:
        def admit(self, call):
            raise Overloaded("fewer", "more", "wait", 9)

    door = gateway(admission=Closed())
    assert ask(door, "POST", "/echo/ann", gone=True).status == 503  # the body was not waited for
    assert ask(door, "GET", "/healthz").status == 200


def test_observers_see_every_answer_with_its_route():
    seen = []

    class Watch:
        def seen(self, call, route, answer, seconds):
            seen.append((call.method, route.path if route else None, answer.status, call.peer))

    door = gateway(observers=(Watch(),))
    for method, path in (("GET", "/healthz"), ("GET", "/nothing"), ("POST", "/broken")):
        ask(door, method, path)
    assert seen == [
        ("GET", "/healthz", 200, "10.0.0.1"), ("GET", None, 404, "10.0.0.1"), ("POST", "/broken", 500, "10.0.0.1"),
    ]  # fmt: skip


def live(door):
    incoming, sent = ["lifespan.startup", "lifespan.shutdown"], []

    async def receive():
        return {"type": incoming.pop(0)}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(door({"type": "lifespan"}, receive, send))
    return sent


def test_the_worker_starts_and_stops_with_the_application():
    door = gateway()
    assert live(door) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert door.state.worker.told == ["start", "stop"]


def test_a_worker_that_does_not_start_says_so():
    door = gateway()
    door.state.worker.start = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        live(door)


def test_an_answer_is_more_than_its_defaults():
    assert Answer(204).body == b""
