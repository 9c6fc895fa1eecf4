"""What the worker tells about its requests: logs as text or JSON, OpenTelemetry traces. What is off costs nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from serving.gateway import Observer
from serving.http import Answer, Call, Route
from undertone import __version__
from undertone.errors import ConfigError
from undertone.settings import Settings
from undertone.text import repair

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

log = logging.getLogger("undertone.serving")
requests = logging.getLogger("undertone.requests")

#: Characters of a path that logs and traces repeat.
PATH_CHARS = 200

TEXT = "%(asctime)s %(levelname)s %(name)s %(message)s"

#: Environment variables by which OpenTelemetry is asked for traces.
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

EXPORTER = "opentelemetry-exporter-otlp-proto-http"


def configure_logging(settings: Settings) -> None:
    """Everything that this process logs goes to stderr: text for people, or one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(TEXT) if settings.log_format == "text" else json_formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for noisy in ("mlflow", "alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def json_formatter() -> logging.Formatter:
    """One JSON object a line: time, level, logger, message, and whatever a record carries beside."""
    from pythonjsonlogger.orjson import OrjsonFormatter

    return OrjsonFormatter(
        "%(levelname)s %(name)s %(message)s",
        rename_fields={"levelname": "level", "name": "logger", "timestamp": "time"},
        timestamp=True,
    )


def observers(settings: Settings) -> tuple[Observer, ...]:
    """Those that the settings ask for.

    Raises:
        ConfigError: traces are asked for, and a package that sends them is missing.
    """
    found: list[Observer] = []
    if settings.log_format == "json":
        found.append(RequestLog())
    if (provider := tracer_provider(settings)) is not None:
        found.append(Tracer(provider))
    return tuple(found)


class RequestLog:
    """A line for every request; probes that were answered well are left out."""

    def seen(self, call: Call, route: Route | None, answer: Answer, seconds: float) -> None:
        """Write it."""
        if _dull(route, answer):
            return
        told = {
            "request_id": call.request_id,
            "caller": call.caller,
            "peer": call.peer,
            "method": call.method,
            "path": repair(call.path[:PATH_CHARS]),
            "status": answer.status,
            "ms": round(seconds * 1_000, 2),
            "messages": len(call.scored),
        }
        if parent := call.headers.get("traceparent", ""):
            told["trace_id"] = parent[3:35]
        requests.info("request", extra=told)


class Tracer:
    """A span for every request, and under it one for its time in the queue and one for its time in batches.

    Spans are made when the answer is out, with the times that were: a request itself does nothing for them.
    """

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = provider.get_tracer("undertone.serving", __version__)
        self._extract = TraceContextTextMapPropagator().extract
        self._under = set_span_in_context
        self._server = SpanKind.SERVER
        self._failed = Status(StatusCode.ERROR)

    def seen(self, call: Call, route: Route | None, answer: Answer, seconds: float) -> None:
        """Make the spans of a request; in the event loop."""
        if _dull(route, answer):
            return
        ended = time.time_ns()
        loop_now = asyncio.get_running_loop().time()
        attributes: dict[str, Any] = {
            "http.request.method": call.method,
            "http.response.status_code": answer.status,
            "url.path": repair(call.path[:PATH_CHARS]),
            "undertone.request_id": call.request_id,
            "undertone.messages": len(call.scored),
        }
        if route is not None:
            attributes["http.route"] = route.path
        if call.caller is not None:
            attributes["enduser.id"] = call.caller
        span = self._tracer.start_span(
            f"{call.method} {route.path}" if route else call.method,
            context=self._extract(call.headers),
            kind=self._server,
            attributes=attributes,
            start_time=ended - round(seconds * 1e9),
        )
        if answer.status >= 500:
            span.set_status(self._failed)
        passage = call.passage
        if passage.began and span.is_recording():
            under = self._under(span)

            def at(moment: float) -> int:
                return ended - round((loop_now - moment) * 1e9)

            queue = self._tracer.start_span("queue", context=under, start_time=at(passage.arrived))
            queue.end(at(passage.began))
            score = self._tracer.start_span("score", context=under, start_time=at(passage.began))
            score.set_attribute("undertone.batches", len(passage.batches))
            score.set_attribute("undertone.batch_messages", max(passage.batches))
            for prediction in call.scored[0].predictions if call.scored else ():
                score.set_attribute(f"undertone.version.{prediction.task}", prediction.model_version)
            score.end(at(passage.ended) if passage.ended else ended)
        span.end(ended)


def tracer_provider(settings: Settings) -> TracerProvider | None:
    """Where traces go; None: nowhere.

    Raises:
        ConfigError: the settings ask for OTLP, and its exporter is not installed.
    """
    wanted = settings.traces
    if wanted == "auto":
        wanted = "otlp" if any(os.environ.get(name) for name in ENDPOINTS) else "off"
    if wanted == "off":
        return None
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SimpleSpanProcessor,
    )

    sender: SpanProcessor
    if wanted == "console":
        sender = SimpleSpanProcessor(
            ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: f"{span.to_json(indent=None)}\n")
        )
    else:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            missing = ConfigError(
                f"the package {EXPORTER}, which sends traces",
                str(error),
                f"`pip install {EXPORTER}`, or UNDERTONE_TRACES=off",
            )
            if settings.traces == "otlp":
                raise missing from error
            log.warning("no traces: %s", missing)  # the environment asks every program of this machine for them
            return None
        sender = BatchSpanProcessor(OTLPSpanExporter())
    name = os.environ.get("OTEL_SERVICE_NAME", "undertone")
    provider = TracerProvider(resource=Resource.create({"service.name": name, "service.version": __version__}))
    provider.add_span_processor(sender)
    return provider


def _dull(route: Route | None, answer: Answer) -> bool:
    return route is not None and route.open and answer.status < 400
