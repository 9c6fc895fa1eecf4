"""HTTP: `/v1/score`, `/healthz`, `/readyz`, `/metrics`, and the OpenAPI page at `/docs`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from serving.batcher import Overloaded
from serving.wire import QUOTED, ErrorResponse, NotJson, ScoreRequest, ScoreResponse, TooMany, parse, render
from serving.worker import INLINE, NoModel, Worker
from undertone import __version__
from undertone.errors import DataError, UndertoneError
from undertone.settings import Settings
from undertone.text import repair

log = logging.getLogger("undertone.serving")

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body is not JSON."},
    413: {"model": ErrorResponse, "description": "Too many messages, or too many bytes."},
    422: {"model": ErrorResponse, "description": "A message is not as described; nothing was scored."},
    500: {"model": ErrorResponse, "description": "A model failed on this request; nothing of it was answered or kept."},
    503: {"model": ErrorResponse, "description": "No approved model, too many messages waiting, or a full disk."},
}

#: Bytes of a body that are read in the event loop; larger ones go to a thread, so that other requests are not held up.
INLINE_BYTES = 64_000

#: Status that a client which hung up never sees; it stands in the metrics only.
HUNG_UP = 499


class BodyTooLarge(UndertoneError):
    """The body holds more bytes than one request may."""


def create_app(settings: Settings) -> FastAPI:
    """The worker's application; its lifespan starts and stops the `Worker`, found as ``app.state.worker``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker = app.state.worker = Worker(settings)
        worker.start()
        yield
        await worker.stop()

    app = FastAPI(
        title="Undertone",
        version=__version__,
        description=(
            "Scores customer messages with the approved classifiers. "
            f"At most {settings.max_messages:,} messages and {settings.max_body_bytes:,} bytes in one request; texts "
            f"are read up to {settings.max_text_chars:,} characters. A request is scored whole or not at all: where "
            "one message is not as described, the answer is 422 and names it. Every error says what was expected, "
            "what was found and what to do next."
        ),
        lifespan=lifespan,
    )

    @app.post(
        "/v1/score",
        summary="Score one message or many",
        response_model=ScoreResponse,
        responses=_ERRORS,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {
                            "anyOf": [
                                {"$ref": "#/components/schemas/ScoreRequest"},
                                {"$ref": "#/components/schemas/MessageIn"},
                            ]
                        },
                        "example": ScoreRequest.model_config["json_schema_extra"]["example"],  # type: ignore[index,call-overload]
                    }
                },
            }
        },
    )
    async def score(request: Request) -> Response:
        started = time.perf_counter()
        worker: Worker = request.app.state.worker
        try:
            answer = await _score(worker, request, settings)
        except ClientDisconnect:
            answer = Response(status_code=HUNG_UP)
        except Exception as error:  # the process edge: a model's failure becomes an answer with three parts
            log.exception("a request failed")
            answer = _error(500, _internal(error))
        worker.metrics.requests.labels(str(answer.status_code)).inc()
        worker.metrics.latency.observe(time.perf_counter() - started)
        return answer

    @app.get("/healthz", summary="Is the process alive?")
    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"alive": True, **request.app.state.worker.state()})

    @app.get("/readyz", summary="Does at least one task serve?")
    async def readyz(request: Request) -> JSONResponse:
        worker: Worker = request.app.state.worker
        if worker.ready:
            return JSONResponse(worker.state())
        return JSONResponse({**worker.state(), "error": worker.no_model().as_dict()}, status_code=503)

    @app.get("/metrics", summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        return Response(request.app.state.worker.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.exception_handler(HTTPException)
    async def no_such_page(request: Request, error: HTTPException) -> JSONResponse:
        found = UndertoneError(
            "POST /v1/score, or GET /healthz, /readyz, /metrics, /docs",
            f"{request.method} {repair(request.url.path[:QUOTED])} ({error.detail})",
            "read /docs",
        )
        return _error(error.status_code, found, headers=dict(error.headers or {}))

    _describe(app)
    return app


async def _score(worker: Worker, request: Request, settings: Settings) -> Response:
    received_at = datetime.now(UTC)
    try:
        body = await _read(request, settings.max_body_bytes)
        read = partial(parse, body, received_at, max_messages=settings.max_messages, max_chars=settings.max_text_chars)
        messages = read() if len(body) <= INLINE_BYTES else await asyncio.to_thread(read)
        scored = await worker.score(messages)
    except NotJson as error:
        return _error(400, error)
    except (TooMany, BodyTooLarge) as error:
        return _error(413, error)
    except DataError as error:
        return _error(422, error)
    except (NoModel, Overloaded) as error:
        return _error(503, error, retry=True)
    except OSError as error:
        log.error("scored messages cannot be written to the spool: %s", error)
        full = UndertoneError("room on disk for scored messages", str(error), "free some, then send it again")
        return _error(503, full, retry=True)
    labels = {name: slot.spec.labels for name, slot in worker.slots.items()}
    write = partial(render, scored, labels)
    answer = write() if len(scored) <= INLINE else await asyncio.to_thread(write)
    return Response(answer, media_type="application/json")


async def _read(request: Request, limit: int) -> bytes:
    too_large = BodyTooLarge(f"at most {limit:,} bytes in one request", "more", "send the messages in parts")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def _internal(error: Exception) -> UndertoneError:
    return UndertoneError(
        "scores from every model that serves", type(error).__name__, "read the worker's log, then send it again"
    )


def _error(
    status: int, error: UndertoneError, *, retry: bool = False, headers: dict[str, str] | None = None
) -> JSONResponse:
    headers = (headers or {}) | ({"Retry-After": "1"} if retry else {})
    return JSONResponse({"error": error.as_dict()}, status_code=status, headers=headers)


def _describe(app: FastAPI) -> None:
    """Put the request's schemas, which the hot path validates itself, into the OpenAPI document."""
    schema = app.openapi()
    made = ScoreRequest.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=False)
    schemas = schema["components"]["schemas"]
    schemas |= made.pop("$defs")
    schemas["ScoreRequest"] = made
    app.openapi_schema = schema
