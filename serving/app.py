"""The worker's application: its pages, each with who answers it."""

from __future__ import annotations

from serving import mlflow_protocol, open_inference, openapi, pages, surveys, telemetry
from serving.access import Access
from serving.explain import MESSAGES, Explainer
from serving.gateway import Gateway
from serving.http import Route, Routes
from serving.score import score
from serving.wire import MessageIn, ScoreRequest, ScoreResponse
from serving.worker import Worker
from undertone.settings import Settings


def create_app(settings: Settings) -> Gateway:
    """The ASGI application; its lifespan starts and stops the `Worker`, found as ``app.state.worker``."""
    worker = Worker(settings)
    explainer = Explainer(worker.slots, settings)
    answers = surveys.Surveys(settings)
    document, docs = openapi.pages(lambda: routes, settings)
    routes = (
        *_scoring(worker, settings, explainer),
        surveys.route(answers),
        *mlflow_protocol.routes(worker, settings),
        *open_inference.routes(worker, settings),
        *_about(worker),
        Route("GET", "/openapi.json", document, "This document"),
        Route("GET", "/docs", docs, "This document, for people", media_type="text/html"),
    )
    return Gateway(
        worker,
        Routes(routes),
        worker.metrics,
        max_body_bytes=settings.max_body_bytes,
        budget_s=settings.latency_budget_seconds,
        admission=Access(settings, worker.metrics),
        observers=telemetry.observers(settings),
        beside=(explainer, answers),
    )


def _scoring(worker: Worker, settings: Settings, explainer: Explainer) -> tuple[Route, ...]:
    return (
        Route(
            "POST",
            "/v1/score",
            score(worker, settings, explainer),
            "Score one message or many",
            request=(ScoreRequest, MessageIn),
            response=ScoreResponse,
            errors=(400, 408, 413, 422, 500, 503),
            parameters=(
                {
                    "name": "explain",
                    "in": "query",
                    "required": False,
                    "description": f"what each word adds to the given label; at most {MESSAGES} messages, and seconds",
                    "schema": {"type": "boolean", "default": False},
                },
            ),
            example=ScoreRequest.model_config["json_schema_extra"]["example"],  # type: ignore[index,call-overload]
        ),
    )


def _about(worker: Worker) -> tuple[Route, ...]:
    return (
        Route("GET", "/healthz", pages.health(worker), "Is the process alive?", open=True),
        Route("GET", "/readyz", pages.ready(worker), "Does at least one task serve?", errors=(503,), open=True),
        Route("GET", "/metrics", pages.metrics(worker), "Prometheus metrics", media_type="text/plain"),
    )
