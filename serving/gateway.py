"""The worker's door: every HTTP request comes in here, and every answer goes out.

Plain ASGI: what a framework's request and response objects would cost stands in docs/decisions/0017.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Protocol

from serving.errors import Gone, NotAllowed, NotFound
from serving.http import (
    Answer,
    Call,
    ErrorForm,
    Receive,
    Route,
    Routes,
    Scope,
    Send,
    error_answer,
    headers_of,
    now,
    read_body,
    unless_gone,
)
from serving.ids import new_id
from serving.metrics import Metrics
from undertone.errors import UndertoneError
from undertone.text import repair

log = logging.getLogger("undertone.serving")

#: Form of an error where no route was found.
OWN_FORM = ErrorForm()

#: Status that a client which hung up never sees; it stands in the metrics only.
HUNG_UP = 499

#: Characters of a client's own words (a path, an unknown field's name) that an error repeats.
QUOTED = 300

#: Characters of a client's request id that are kept.
REQUEST_ID_CHARS = 128


class Lifecycle(Protocol):
    """What starts and stops with the application."""

    def start(self) -> None:
        """Begin; in the event loop."""

    async def stop(self) -> None:
        """Finish what was accepted, then end."""


class Ending(Protocol):
    """What starts by itself and stops with the application."""

    async def stop(self) -> None:
        """End."""


class Admission(Protocol):
    """Who may come in, and how often."""

    def admit(self, call: Call) -> str | None:
        """The caller's name; None where no key is asked for. Raises what the caller is answered."""


class Observer(Protocol):
    """Sees every request with its answer: logs, traces."""

    def seen(self, call: Call, route: Route | None, answer: Answer, seconds: float) -> None:
        """Called once after each answer."""


class Gateway:
    """The ASGI application: finds the route, reads the body, answers, and says what happened.

    Args:
        lifecycle: the worker.
        routes: every page.
        metrics: requests and their times go there.
        max_body_bytes: of one request.
        budget_s: seconds after which nobody is taken to wait for an answer; a request may ask for less.
        admission: asked before a body is read.
        observers: told afterwards.
        beside: what else stops with the application.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        routes: Routes,
        metrics: Metrics,
        *,
        max_body_bytes: int,
        budget_s: float,
        admission: Admission | None = None,
        observers: tuple[Observer, ...] = (),
        beside: tuple[Ending, ...] = (),
    ) -> None:
        self.routes = routes
        self.state = SimpleNamespace(worker=lifecycle)
        self._lifecycle = lifecycle
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._budget_s = budget_s
        self._admission = admission
        self._observers = observers
        self._beside = beside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            self._lifecycle.start()
        except Exception as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for helper in self._beside:
            await helper.stop()
        await self._lifecycle.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        call = self._call(scope)
        found, call.parts = self.routes.find(call.path)
        route = found.get("GET" if call.method == "HEAD" else call.method)
        answer = await self._answer(call, route, found, scope, receive)
        if answer.status != HUNG_UP:
            await _send(send, answer, call)
        seconds = time.perf_counter() - started
        self._metrics.seen(route.path if route else "none", answer.status, seconds)
        for observer in self._observers:
            observer.seen(call, route, answer, seconds)

    def _call(self, scope: Scope) -> Call:
        headers = headers_of(scope)
        given = headers.get("x-request-id", "")[:REQUEST_ID_CHARS]
        budget = self._budget_s
        asked = headers.get("x-latency-budget-ms", "")
        if asked.isdecimal() and len(asked) < 10:  # a longer number asks for more than a week
            budget = min(budget, int(asked) / 1_000)
        return Call(
            method=scope["method"],
            path=scope["path"],
            query=scope.get("query_string", b"").decode("latin-1"),
            headers=headers,
            received_at=now(),
            request_id=given if given.isprintable() and given else new_id(),
            deadline=asyncio.get_running_loop().time() + budget,
            peer=(scope.get("client") or ("",))[0],
        )

    async def _answer(
        self, call: Call, route: Route | None, found: Mapping[str, Route], scope: Scope, receive: Receive
    ) -> Answer:
        try:
            if route is None:
                raise self._no_such_page(call, found)
            if self._admission is not None and not route.open:
                call.caller = self._admission.admit(call)
            if not route.request:
                return await route.endpoint(call)
            call.body = await read_body(scope, call.headers, receive, self._max_body_bytes)
            return await unless_gone(route.endpoint(call), receive)
        except Gone:
            return Answer(HUNG_UP)
        except UndertoneError as error:
            return error_answer(error, route.form if route else OWN_FORM)
        except Exception as error:  # the process edge: a model's failure becomes an answer with three parts
            log.exception("a request failed", extra={"request_id": call.request_id})
            return error_answer(
                UndertoneError(
                    "scores from every model that serves",
                    type(error).__name__,
                    "read the worker's log, then send it again",
                ),
                route.form if route else OWN_FORM,
            )

    def _no_such_page(self, call: Call, found: Mapping[str, Route]) -> UndertoneError:
        pages = ", ".join(f"{route.method} {route.path}" for route in self.routes.all)
        what = f"{call.method} {repair(call.path[:QUOTED])}"
        if found:
            return NotAllowed(f"{' or '.join(sorted(found))} {call.path[:QUOTED]}", what, "read /docs", sorted(found))
        return NotFound(pages, f"{what} (Not Found)", "read /docs")


async def _send(send: Send, answer: Answer, call: Call) -> None:
    headers = [
        (b"content-type", answer.media_type.encode()),
        (b"content-length", str(len(answer.body)).encode()),
        (b"x-request-id", call.request_id.encode("latin-1", "replace")),
        *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in answer.headers.items()),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if call.method == "HEAD" else answer.body})
