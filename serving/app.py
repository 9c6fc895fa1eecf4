"""HTTP: `/v1/score`, `/healthz`, `/readyz`, `/metrics`, and the OpenAPI page at `/docs`."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from serving.batcher import Overloaded
from serving.wire import ErrorResponse, NotJson, ScoreRequest, ScoreResponse, TooMany, parse, render
from serving.worker import NoModel, Worker
from undertone import __version__
from undertone.errors import DataError, UndertoneError
from undertone.settings import Settings

log = logging.getLogger("undertone.serving")

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body is not JSON."},
    413: {"model": ErrorResponse, "description": "Too many messages, or too many bytes."},
    422: {"model": ErrorResponse, "description": "A message is not as described; nothing was scored."},
    503: {"model": ErrorResponse, "description": "No approved model, too many messages waiting, or a full disk."},
}


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
            f"are read up to {settings.max_text_chars:,} characters. A request is scored whole or not at all."
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
        answer = await _score(worker, request, settings)
        worker.metrics.requests.labels(str(answer.status_code)).inc()
        worker.metrics.latency.observe(time.perf_counter() - started)
        return answer

    @app.get("/healthz", summary="Is the process alive?")
    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"alive": True, **request.app.state.worker.state()})

    @app.get("/readyz", summary="Does at least one task serve?")
    async def readyz(request: Request) -> JSONResponse:
        state = request.app.state.worker.state()
        return JSONResponse(state, status_code=200 if state["ready"] else 503)

    @app.get("/metrics", summary="Prometheus metrics")
    async def metrics(request: Request) -> Response:
        return Response(request.app.state.worker.metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")

    _describe(app)
    return app


async def _score(worker: Worker, request: Request, settings: Settings) -> Response:
    received_at = datetime.now(UTC)
    try:
        body = await _read(request, settings.max_body_bytes)
        messages = parse(body, received_at, max_messages=settings.max_messages, max_chars=settings.max_text_chars)
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
    return Response(render(scored, labels), media_type="application/json")


async def _read(request: Request, limit: int) -> bytes:
    too_large = BodyTooLarge(f"at most {limit:,} bytes in one request", "more", "send the messages in parts")
    if int(request.headers.get("content-length") or 0) > limit:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise too_large
        parts.append(part)
    return b"".join(parts)


def _error(status: int, error: UndertoneError, *, retry: bool = False) -> JSONResponse:
    return JSONResponse({"error": error.as_dict()}, status_code=status, headers={"Retry-After": "1"} if retry else None)


def _describe(app: FastAPI) -> None:
    """Put the request's schemas, which the hot path validates itself, into the OpenAPI document."""
    schema = app.openapi()
    made = ScoreRequest.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=False)
    schemas = schema["components"]["schemas"]
    schemas |= made.pop("$defs")
    schemas["ScoreRequest"] = made
    app.openapi_schema = schema
