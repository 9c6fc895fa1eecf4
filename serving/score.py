"""`POST /v1/score`: messages in, every task's answer out. The other protocols score by the same few functions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from serving import explain
from serving.errors import NoModel
from serving.explain import Explainer
from serving.http import Answer, Call, Endpoint
from serving.inline import BYTES, MESSAGES, inline
from serving.wire import parse, render
from serving.worker import Worker
from undertone.masking import Masker
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings


async def score_for(call: Call, worker: Worker, messages: Sequence[Message]) -> Sequence[ScoredMessage]:
    """`Worker.score` for a call: what was scored, and when, stays with it for logs and traces."""
    call.scored = await worker.score(messages, call.deadline, call.passage)
    return call.scored


def answer_of(predictions: Sequence[Prediction], task: str) -> Prediction:
    """The answer of `task`.

    Raises:
        NoModel: its version was taken out while the message waited.
    """
    for prediction in predictions:
        if prediction.task == task:
            return prediction
    raise no_model(task)


def no_model(task: str) -> NoModel:
    """`task` has no version that may serve just now."""
    return NoModel(
        f"an approved champion of {task}",
        "none; /readyz says why",
        f"approve a version: `undertone models approve {task} VERSION`",
    )


def score(worker: Worker, settings: Settings, explainer: Explainer) -> Endpoint:
    """The endpoint."""
    mask = Masker.of(settings)

    async def answer(call: Call) -> Answer:
        read = partial(
            parse,
            call.body,
            call.received_at,
            max_messages=settings.max_messages,
            max_chars=settings.max_text_chars,
            mask=mask,
        )
        messages = await inline(len(call.body) <= BYTES, read)
        asked = explain.wanted(call)
        if asked:
            explain.refuse_many(len(messages))
            await explainer.prepare(call.deadline)
        scored = await score_for(call, worker, messages)
        reasons = await explainer.explain(scored, call.deadline) if asked else None
        return Answer(body=await inline(len(scored) <= MESSAGES, render, scored, worker.labels, reasons))

    return answer
