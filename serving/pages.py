"""What a balancer, Prometheus and a person ask the worker about itself."""

from __future__ import annotations

from serving.errors import status_of
from serving.http import Answer, Call, Endpoint, json_answer
from serving.worker import Worker

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


def health(worker: Worker) -> Endpoint:
    """The process answers."""

    async def answer(call: Call) -> Answer:
        return json_answer({"alive": True, **worker.state()})

    return answer


def ready(worker: Worker) -> Endpoint:
    """At least one task serves."""

    async def answer(call: Call) -> Answer:
        if worker.ready:
            return json_answer(worker.state())
        error = worker.no_model()
        return json_answer({**worker.state(), "error": error.as_dict()}, status_of(error))

    return answer


def metrics(worker: Worker) -> Endpoint:
    """The text format of Prometheus."""

    async def answer(call: Call) -> Answer:
        return Answer(body=worker.metrics.page(), media_type=PROMETHEUS)

    return answer
