"""What a request and an answer are to this worker, and what each error becomes on the wire."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from serving.batcher import Passage
from serving.errors import BodyTooLarge, Gone, Later, TooSlow, status_of
from undertone.errors import UndertoneError
from undertone.records import ScoredMessage

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

JSON = "application/json"

#: Seconds within which a body must have arrived: a client that trickles holds a connection no longer.
BODY_S = 30.0


@dataclass(slots=True)
class Call:
    """One request.

    Attributes:
        headers: by lower-case name; of a repeated header the last.
        parts: what a path's pattern named: ``/v2/models/{name}/infer`` gives ``name``.
        request_id: the client's `X-Request-ID`, or one made here; logs, traces and the answer carry it.
        caller: whose API key it was, or whom a proxy names; None where nobody is asked.
        peer: address of whoever holds the connection; empty where there is none (a Unix socket).
        scored: what was scored for it, for logs and traces.
        passage: when its messages waited and were scored.
        deadline: event-loop time after which nobody waits for the answer any more.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    received_at: datetime
    request_id: str
    deadline: float
    body: bytes = b""
    parts: dict[str, str] = field(default_factory=dict)
    caller: str | None = None
    peer: str = ""
    scored: Sequence[ScoredMessage] = ()
    passage: Passage = field(default_factory=Passage)


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and headers of a response."""

    status: int = 200
    body: bytes = b""
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


Endpoint = Callable[[Call], Awaitable[Answer]]


def three_parts(error: UndertoneError) -> Any:
    """An error's body, as this worker's own pages have it."""
    return {"error": error.as_dict()}


@dataclass(frozen=True)
class ErrorForm:
    """How a protocol writes errors. The default is this worker's own form.

    Attributes:
        body: of the answer.
        statuses: by the status of this worker's own pages, where the protocol has another: 400 in place of 422.
        model: pydantic model of the body; None: `serving.wire.ErrorResponse`.
    """

    body: Callable[[UndertoneError], Any] = three_parts
    statuses: Mapping[int, int] = field(default_factory=dict)
    model: type[Any] | None = None


@dataclass(frozen=True)
class Route:
    """One method of one path: who answers it, and what `/openapi.json` says of it.

    Attributes:
        path: literal, or with names in braces.
        request: pydantic model of the body, or several of which one is meant; none: no body.
        response: pydantic model of the answer; None: described in words only.
        errors: statuses that it may answer with beside 200 (`serving.openapi` has the words).
        example: a body that works.
        parameters: of the query or the headers, as OpenAPI writes them.
        open: answered without an API key: probes of a balancer or of Kubernetes.
        media_type: of the answer.
        takes: media types of the body.
        form: of its errors.
    """

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    description: str = ""
    request: Sequence[type[Any]] = ()
    response: type[Any] | None = None
    errors: Sequence[int] = ()
    example: Any = None
    parameters: Sequence[Mapping[str, Any]] = ()
    open: bool = False
    media_type: str = JSON
    takes: Sequence[str] = (JSON,)
    form: ErrorForm = field(default_factory=ErrorForm)


class Routes:
    """Finds a path's routes: literal ones first."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._literal: dict[str, dict[str, Route]] = {}
        self._patterns: list[tuple[re.Pattern[str], dict[str, Route]]] = []
        patterns: dict[str, dict[str, Route]] = {}
        for route in routes:
            (patterns if "{" in route.path else self._literal).setdefault(route.path, {})[route.method] = route
        for path, methods in patterns.items():
            self._patterns.append((re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), methods))

    def find(self, path: str) -> tuple[dict[str, Route], dict[str, str]]:
        """The path's routes by method, and what its pattern named; both empty where there is no such page."""
        if literal := self._literal.get(path):
            return literal, {}
        for pattern, methods in self._patterns:
            if match := pattern.fullmatch(path):
                return methods, match.groupdict()
        return {}, {}


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """`value` as a JSON answer."""
    return Answer(status, orjson.dumps(value), headers=headers or {})


def error_answer(error: UndertoneError, form: ErrorForm) -> Answer:
    """An error in its protocol's form; one that passes asks for patience in `Retry-After`."""
    status = status_of(error)
    headers = dict(getattr(error, "headers", {}))
    if isinstance(error, Later):
        headers["Retry-After"] = str(max(1, round(error.after_s)))
    return json_answer(form.body(error), form.statuses.get(status, status), headers)


async def read_body(scope: Scope, headers: Mapping[str, str], receive: Receive, limit: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: more than `limit` bytes.
        TooSlow: it took more than `BODY_S`.
        Gone: the client hung up.
    """
    too_large = BodyTooLarge(f"at most {limit:,} bytes in one request", "more", "send the messages in parts")
    declared = headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    first = await _within(receive, BODY_S)
    if not first.get("more_body") and first["type"] == "http.request":
        if len(first.get("body", b"")) > limit:
            raise too_large
        return bytes(first.get("body", b""))
    ends = asyncio.get_running_loop().time() + BODY_S
    parts, size, part = [], 0, first
    while True:
        if part["type"] == "http.disconnect":
            raise Gone
        parts.append(part.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_large
        if not part.get("more_body"):
            return b"".join(parts)
        part = await _within(receive, ends - asyncio.get_running_loop().time())


async def _within(receive: Receive, seconds: float) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await receive()
    except TimeoutError:
        raise TooSlow(
            f"a request's body within {BODY_S:.0f} seconds", "a part of it", "send it whole, or in smaller requests"
        ) from None


async def unless_gone(work: Awaitable[Answer], receive: Receive) -> Answer:
    """What `work` gives, or `Gone` as soon as the client hangs up: its messages then leave the queue."""
    waiting = asyncio.current_task()
    gone = False

    async def listen() -> None:
        nonlocal gone
        await receive()  # after the whole body, all that can come is the end of the connection
        gone = True
        if waiting is not None:
            waiting.cancel()

    listener = asyncio.ensure_future(listen())
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or waiting is None:
            raise
        waiting.uncancel()
        raise Gone from None
    finally:
        listener.cancel()


def headers_of(scope: Scope) -> dict[str, str]:
    """A scope's headers by lower-case name."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def now() -> datetime:
    """This moment, in UTC."""
    return datetime.now(UTC)
