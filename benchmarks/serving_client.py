"""The client of `benchmarks.serving`: closed loops over keep-alive connections, in a process of its own.

Requests are bytes before the clock starts, and of an answer only what HTTP needs is read, so the client takes little
from the server that it shares the cores with; what it took is reported. Beside the benchmark it measures any worker:

    python -m benchmarks.serving_client --port 8400 --texts rows.csv --clients 32
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import cast

from benchmarks.serving_processes import Tree, busy_s

#: Seconds after a refusal or a broken connection before that client asks again.
PAUSE_S = 0.05
#: Seconds that a phase may take beyond its plan before what is outstanding counts as errors.
PATIENCE_S = 90.0


@dataclass(frozen=True)
class Plan:
    """One phase: so many clients, each with one request under way, for so long.

    Attributes:
        requests: whole HTTP requests, sent in turn from `first` on.
        messages: messages in each of them.
        root: process whose tree's CPU time is read at both ends of the measured time; None: not.
    """

    port: int
    requests: Sequence[bytes] = field(repr=False)
    clients: int
    seconds: float
    warm_s: float = 3.0
    messages: int = 1
    first: int = 0
    root: int | None = None
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Measured:
    """What a phase showed. Times in milliseconds, of answers with status 200 only; CPU in seconds.

    ``others_cpu_s`` is what everything else on the machine used meanwhile, other guests of its host included.
    """

    clients: int
    messages_a_request: int
    seconds: float
    answers: int
    errors: int
    first_error: str
    messages_s: float
    p50: float
    p95: float
    p99: float
    server_cpu_s: float | None
    server_cpu_per_1000: float | None
    client_cpu_s: float
    client_cpu_ms_per_request: float
    others_cpu_s: float | None


class _Load:
    """Requests that wait to be sent, and what came back."""

    def __init__(self, plan: Plan, *, once: bool = False) -> None:
        self.plan = plan
        self.once = once
        self.number = plan.first
        self.warm_until = time.perf_counter() + plan.warm_s
        self.began: float | None = None
        self.ended: float | None = None
        self.latencies: list[float] = []
        self.moments: list[float] = []
        self.bodies: dict[int, bytes] = {}
        self.errors = 0
        self.first_error = ""
        self.open = 0
        self.cpu: list[tuple[float, float, float]] = []
        self.tree = Tree(plan.root) if plan.root else None
        self.finished = asyncio.get_running_loop().create_future()

    def take(self) -> tuple[int, bytes] | None:
        """The next request with its number; None when no more is to be sent."""
        if self.ended is not None or (self.once and self.number >= len(self.plan.requests)):
            return None
        number = self.number
        self.number += 1
        return number, self.plan.requests[number % len(self.plan.requests)]

    def answered(self, number: int, sent: float, status: bytes, body: bytes) -> bool:
        """Count one answer; gives whether it was a good one.

        Measured time begins with the first answer after the warm-up and ends with the first one after the planned
        seconds, so answers that come in batches are neither cut nor counted twice.
        """
        now = time.perf_counter()
        good = status == b"200"
        if self.once:
            self.bodies[number] = body if good else b""
        if not good:
            self.failed(f"{status.decode('latin-1')}: {body[:200].decode('utf-8', 'replace')}")
        elif self.began is not None and self.ended is None:
            self.latencies.append(now - sent)
            self.moments.append(now)
        if self.began is None:
            if good and now >= self.warm_until and not self.once:
                self._sample()
                self.began = time.perf_counter()
        elif self.ended is None and now >= self.began + self.plan.seconds:
            self.ended = now
            self._sample()
        return good

    def failed(self, why: str) -> None:
        """Count an error, if it falls into the measured time."""
        self.first_error = self.first_error or why
        if self.once or (self.began is not None and self.ended is None):
            self.errors += 1

    def closed(self) -> None:
        """One client has ended."""
        self.open -= 1
        if self.open == 0 and not self.finished.done():
            self.finished.set_result(None)

    def _sample(self) -> None:
        """CPU seconds of this process, of the server, of the machine; reading these is left out of ours."""
        if self.cpu:
            own = time.process_time()
            self.cpu.append((own, self.tree.cpu_s() if self.tree else 0.0, busy_s()))
        else:
            server, machine = self.tree.cpu_s() if self.tree else 0.0, busy_s()
            self.cpu.append((time.process_time(), server, machine))

    def measured(self) -> Measured:
        """The phase, summed up."""
        plan, ended = self.plan, self.ended or time.perf_counter()
        if len(self.cpu) == 1:  # cut short by PATIENCE_S
            self._sample()
        elapsed = ended - self.began if self.began is not None else 0.0
        answers = len(self.latencies)
        own, server, machine = (self.cpu[1][at] - self.cpu[0][at] if self.cpu else 0.0 for at in range(3))
        ordered = sorted(self.latencies)
        return Measured(
            clients=plan.clients,
            messages_a_request=plan.messages,
            seconds=elapsed,
            answers=answers,
            errors=self.errors + self.open,
            first_error=self.first_error,
            messages_s=answers * plan.messages / elapsed if elapsed else 0.0,
            p50=percentile(ordered, 0.50),
            p95=percentile(ordered, 0.95),
            p99=percentile(ordered, 0.99),
            server_cpu_s=server if self.tree else None,
            server_cpu_per_1000=1_000 * server / (answers * plan.messages) if self.tree and answers else None,
            client_cpu_s=own,
            client_cpu_ms_per_request=1_000 * own / answers if answers else 0.0,
            others_cpu_s=max(0.0, machine - own - server) if self.tree else None,
        )


class _Client(asyncio.Protocol):
    """One client: sends a request, waits for the answer, sends the next."""

    def __init__(self, load: _Load) -> None:
        self._load = load
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._size: int | None = None  # of the whole answer, once its head is read; -1: chunked
        self._head = 0
        self._under_way: tuple[int, float] | None = None
        self._ended = False

    async def connect(self) -> None:
        """Connect and send the first request; a refused connection is an error, and tried again."""
        loop = asyncio.get_running_loop()
        while self._load.ended is None:
            try:
                await loop.create_connection(lambda: self, self._load.plan.host, self._load.plan.port)
            except OSError as error:
                self._load.failed(f"no connection: {error}")
                await asyncio.sleep(PAUSE_S)
            else:
                return
        self._end()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Connect anew, unless nothing more is to be sent."""
        self._transport = None
        if self._ended:
            return
        if self._under_way is not None:
            self._load.failed(f"connection lost: {exc or 'closed by the server'}")
            self._under_way = None
        self._buffer, self._size = b"", None
        loop = asyncio.get_running_loop()
        loop.call_later(PAUSE_S, lambda: loop.create_task(self.connect()))

    def data_received(self, data: bytes) -> None:
        """Read an answer up to its end."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._size is None:
            self._head = self._buffer.find(b"\r\n\r\n") + 4
            if self._head < 4:
                return
            self._size = _size(self._buffer, self._head)
        if self._size >= 0:
            if len(self._buffer) < self._size:
                return
        elif not self._buffer.endswith(b"\r\n0\r\n\r\n"):
            return
        answer, chunked = self._buffer, self._size < 0
        self._buffer, self._size = b"", None
        assert self._under_way is not None
        (number, sent), self._under_way = self._under_way, None
        body = answer[self._head :]
        status = answer[9:12]
        if self._load.once and chunked:
            body = _unchunked(body)
        if self._load.answered(number, sent, status, body):
            self._send()
        else:
            asyncio.get_running_loop().call_later(PAUSE_S, self._send)

    def _send(self) -> None:
        if self._transport is None or self._under_way is not None:
            return
        taken = self._load.take()
        if taken is None:
            self._end()
            return
        self._under_way = (taken[0], time.perf_counter())
        self._transport.write(taken[1])

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._transport is not None:
            self._transport.close()
        self._load.closed()


def run(plan: Plan) -> Measured:
    """Play one phase."""
    return _loop(_play(plan, once=False)).measured()


def trace(plan: Plan) -> tuple[Measured, list[tuple[float, float]]]:
    """Play one phase; beside its figures each good answer's moment (`time.perf_counter`, on Linux the same clock in
    every process) and its seconds."""
    load = _loop(_play(plan, once=False))
    return load.measured(), list(zip(load.moments, load.latencies, strict=True))


def ask(plan: Plan) -> list[bytes]:
    """The body of the answer to each request of `plan`, sent once; empty where its status was not 200."""
    load = _loop(_play(plan, once=True))
    return [load.bodies.get(number, b"") for number in range(len(plan.requests))]


def request(port: int, path: str, body: object) -> bytes:
    """A whole HTTP request with `body` as JSON."""
    payload = json.dumps(body, ensure_ascii=False).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Accept: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode() + payload


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value in milliseconds that `share` of the sorted seconds do not exceed; 0 where there is none."""
    return 1_000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


async def _play(plan: Plan, *, once: bool) -> _Load:
    load = _Load(plan, once=once)
    clients = [_Client(load) for _ in range(plan.clients)]
    load.open = len(clients)
    await asyncio.gather(*(client.connect() for client in clients))
    limit = PATIENCE_S if once else plan.warm_s + plan.seconds + PATIENCE_S
    await asyncio.wait([load.finished], timeout=limit)
    return load


def _loop(playing: object) -> _Load:
    try:
        from uvloop import run as run_loop
    except ImportError:
        from asyncio import run as run_loop
    made: _Load = run_loop(playing)  # type: ignore[arg-type]
    return made


def _size(buffer: bytes, head: int) -> int:
    lines = buffer[:head].lower()
    at = lines.find(b"\r\ncontent-length:")
    if at < 0:
        return -1
    return head + int(lines[at + 17 : lines.index(b"\r\n", at + 17)])


def _unchunked(body: bytes) -> bytes:
    parts, at = [], 0
    while True:
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def main() -> None:
    """Measure a running worker's POST /v1/score; prints one JSON line a phase."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--texts", required=True, help="CSV with a column `text`")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 8, 32, 64])
    parser.add_argument("--messages", type=int, default=1, help="messages in a request (default: 1)")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rows", type=int, default=5_000, help="the file's last rows are sent (default: 5000)")
    parser.add_argument("--pid", type=int, help="the worker's process, to read its CPU time")
    asked = parser.parse_args()
    texts = pd.read_csv(asked.texts, dtype=str)["text"].dropna().tail(asked.rows).tolist()
    groups = [texts[at : at + asked.messages] for at in range(0, len(texts) - asked.messages + 1, asked.messages)]
    bodies = [{"messages": [{"text": text} for text in group]} for group in groups]
    requests = [request(asked.port, "/v1/score", body) for body in bodies]
    for clients in asked.clients:
        plan = Plan(asked.port, requests, clients, asked.seconds, messages=asked.messages, root=asked.pid)
        print(json.dumps({name: _round(value) for name, value in asdict(run(plan)).items()}), flush=True)


def _round(value: object) -> object:
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
