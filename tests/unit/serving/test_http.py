"""Routes, bodies, errors and clients that hang up, without a server."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import http
from serving.errors import BodyTooLarge, Gone, NoModel, NotAllowed, NotJson, Overloaded, TooSlow
from serving.http import Answer, ErrorForm, Route, Routes, error_answer, read_body, unless_gone
from undertone.errors import DataError, StoreError

PARTS = ("this", "that", "mend it")


async def nobody(call):
    """An endpoint."""
    return Answer()


def route(method, path):
    return Route(method, path, nobody, "")


def test_literal_paths_come_before_patterns_and_methods_stay_apart():
    routes = Routes(
        [
            route("GET", "/v2/models/{name}"),
            route("GET", "/v2/models/all"),
            route("POST", "/v2/models/{name}/versions/{version}/infer"),
            route("POST", "/v2/models/all"),
        ]
    )
    found, parts = routes.find("/v2/models/all")
    assert (set(found), parts) == ({"GET", "POST"}, {})
    found, parts = routes.find("/v2/models/sentiment")
    assert (set(found), parts) == ({"GET"}, {"name": "sentiment"})
    found, parts = routes.find("/v2/models/a.b/versions/1/infer")
    assert (set(found), parts) == ({"POST"}, {"name": "a.b", "version": "1"})
    for path in ("/v2/models/", "/v2/models/a/b", "/v2/models", "", "/"):
        assert routes.find(path) == ({}, {})


@given(st.text())
def test_no_path_breaks_the_search(path):
    found, _ = Routes([route("GET", "/models/{name}"), route("GET", "/")]).find(path)
    assert set(found) <= {"GET"}


def read(messages, headers=None, limit=10):
    waiting = list(messages)

    async def receive():
        if not waiting:
            await asyncio.sleep(60)
        return waiting.pop(0)

    async def main():
        return await read_body({}, headers or {}, receive, limit)

    return asyncio.run(main())


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


@given(st.lists(st.binary(max_size=6), min_size=1, max_size=5))
def test_a_body_in_parts_is_whole_or_too_large(parts):
    messages = [part(body, more=True) for body in parts[:-1]] + [part(parts[-1])]
    whole = b"".join(parts)
    if len(whole) <= 10:
        assert read(messages) == whole
    else:
        with pytest.raises(BodyTooLarge, match="10 bytes"):
            read(messages)


def test_a_body_announced_as_too_large_is_not_read():
    with pytest.raises(BodyTooLarge):
        read([], {"content-length": "11"})
    for nonsense in ("-1", "ten", "1e9", "²"):
        assert read([part(b"x")], {"content-length": nonsense}) == b"x"


def test_a_client_that_hangs_up_halfway_is_gone():
    for messages in ([{"type": "http.disconnect"}], [part(b"x", more=True), {"type": "http.disconnect"}]):
        with pytest.raises(Gone):
            read(messages)


@pytest.mark.parametrize("messages", [[], [part(b"x", more=True)], [part(b"x", more=True), part(b"y", more=True)]])
def test_a_body_has_a_time(monkeypatch, messages):
    monkeypatch.setattr(http, "BODY_S", 0.05)
    with pytest.raises(TooSlow):
        read(messages)


def test_an_answer_comes_while_the_client_stays():
    async def main():
        async def work():
            await asyncio.sleep(0)
            return Answer(body=b"here")

        return await unless_gone(work(), asyncio.Event().wait)

    assert asyncio.run(main()).body == b"here"


def test_work_ends_as_soon_as_the_client_hangs_up():
    ended = []

    async def main():
        hung_up = asyncio.Event()

        async def work():
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(True)

        asyncio.get_running_loop().call_soon(hung_up.set)
        with pytest.raises(Gone):
            await unless_gone(work(), hung_up.wait)
        await asyncio.sleep(0)  # the task may go on: it was not cancelled by anybody else

    asyncio.run(main())
    assert ended == [True]


def test_a_stop_is_not_taken_for_a_client_that_hung_up():
    async def main():
        task = asyncio.create_task(unless_gone(asyncio.sleep(60), asyncio.Event().wait))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_what_work_raises_comes_out():
    async def fail():
        raise StoreError(*PARTS)

    async def main():
        await unless_gone(fail(), asyncio.Event().wait)

    with pytest.raises(StoreError):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (DataError(*PARTS), 422, {}),
        (NotJson(*PARTS), 400, {}),
        (StoreError(*PARTS), 500, {}),
        (NoModel(*PARTS), 503, {"Retry-After": "1"}),
        (Overloaded(*PARTS, 0.01), 503, {"Retry-After": "1"}),
        (Overloaded(*PARTS, 7.4), 503, {"Retry-After": "7"}),
        (NotAllowed(*PARTS, ["GET", "PUT"]), 405, {"Allow": "GET, PUT"}),
    ],
)
def test_an_error_has_its_status_three_parts_and_what_helps(error, status, headers):
    answer = error_answer(error, ErrorForm())
    assert (answer.status, dict(answer.headers)) == (status, headers)
    assert json.loads(answer.body) == {"error": {"expected": "this", "found": "that", "next_step": "mend it"}}


def test_a_protocol_has_errors_of_its_own():
    answer = error_answer(DataError(*PARTS), ErrorForm(lambda error: {"message": error.found}, {422: 400}))
    assert answer.status == 400
    assert json.loads(answer.body) == {"message": "that"}
