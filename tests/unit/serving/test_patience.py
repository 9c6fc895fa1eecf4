"""Connections that are slow to say what they want, and a stop that cuts nobody short: real sockets, a small app."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import pytest
import uvicorn

from serving import patience
from serving.patience import PatientProtocol, PatientServer

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def app(scope, receive, send):
    """Answers before it has read a body."""
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Quiet(PatientServer):
    """A server whose stop is told by the test, not by a signal."""

    def install_signal_handlers(self):
        pass


@asynccontextmanager
async def running():
    config = uvicorn.Config(app, http=PatientProtocol, port=0, log_config=None, lifespan="on", timeout_keep_alive=60)
    config.load()
    server = Quiet(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    stopped = False

    async def stop():
        nonlocal stopped
        stopped = True
        await server.shutdown()

    server.stop = stop
    server.at = server.servers[0].sockets[0].getsockname()
    yield server
    if not stopped:
        await server.shutdown()


async def dial(server):
    return await asyncio.open_connection(*server.at)


async def rest(reader):
    """Everything until the other side closes."""
    return await asyncio.wait_for(reader.read(), 10)


def run(story):
    async def main():
        async with running() as server:
            return await story(server)

    return asyncio.run(main())


@pytest.mark.parametrize("sent", [b"", b"GET / HT", GET[:-1]])
def test_a_connection_without_a_whole_head_is_closed(monkeypatch, sent):
    monkeypatch.setattr(patience, "HEAD_S", 0.1)

    async def story(server):
        reader, writer = await dial(server)
        writer.write(sent)
        found = await rest(reader)
        writer.close()
        return found

    assert run(story) == b""


def test_the_clock_of_a_head_does_not_start_anew_with_each_byte(monkeypatch):
    monkeypatch.setattr(patience, "HEAD_S", 0.2)

    async def story(server):
        reader, writer = await dial(server)
        began = time.monotonic()
        for byte in GET[:-1]:
            writer.write(bytes([byte]))
            try:
                assert await asyncio.wait_for(reader.read(1), 0.02) == b""
                break
            except TimeoutError:
                continue
        writer.close()
        return time.monotonic() - began

    assert 0.15 < run(story) < 0.02 * len(GET)


def test_requests_one_after_another_each_have_their_time(monkeypatch):
    monkeypatch.setattr(patience, "HEAD_S", 0.2)

    async def story(server):
        reader, writer = await dial(server)
        for _ in range(3):
            writer.write(GET)
            assert b"200 OK" in await reader.readuntil(b"ok")
            with pytest.raises(TimeoutError):  # longer than a head may take: nothing was begun
                await asyncio.wait_for(reader.read(1), 0.3)
        writer.close()

    run(story)


def test_the_rest_of_an_answered_request_is_not_waited_for_long(monkeypatch):
    monkeypatch.setattr(patience, "LINGER_S", 0.1)

    async def story(server):
        reader, writer = await dial(server)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
        found = await rest(reader)
        writer.close()
        return found

    assert run(story).endswith(b"ok")


def test_the_rest_of_an_answered_request_may_still_come(monkeypatch):
    async def story(server):
        reader, writer = await dial(server)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf")
        await reader.readuntil(b"ok")
        writer.write(b"rest" + GET)
        found = await reader.readuntil(b"ok")
        writer.close()
        return found

    assert b"200 OK" in run(story)


def test_a_stop_answers_what_a_connection_sends_a_moment_later_and_closes_it():
    async def story(server):
        fresh, idle = await dial(server), await dial(server)
        idle[1].write(GET)
        await idle[0].readuntil(b"ok")
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        for _, writer in (fresh, idle):
            writer.write(GET)
        found = [await rest(reader) for reader, _ in (fresh, idle)]
        await stopping
        for _, writer in (fresh, idle):
            writer.close()
        return found

    for answer in run(story):
        assert b"200 OK" in answer
        assert b"connection: close" in answer
        assert answer.endswith(b"ok")


def test_a_stop_does_not_wait_for_whoever_stays_silent(monkeypatch):
    monkeypatch.setattr(patience, "GRACE_S", 0.1)

    async def story(server):
        reader, writer = await dial(server)
        await asyncio.wait_for(server.stop(), 5)
        found = await rest(reader)
        writer.close()
        return found

    assert run(story) == b""


def test_whoever_knocked_before_the_door_closed_is_let_in():
    """The event loop has not seen these connections when the stop begins; the kernel has."""

    async def story(server):
        clients = [socket.create_connection(server.at) for _ in range(20)]
        for client in clients:
            client.sendall(GET)
        await server.stop()
        answers = []
        for client in clients:
            with client, client.makefile("rb") as stream:
                answers.append(await asyncio.to_thread(stream.read))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.at)
        return answers

    assert [answer[-2:] for answer in run(story)] == [b"ok"] * 20
