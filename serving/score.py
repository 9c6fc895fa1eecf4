"""`POST /v1/score`: messages in, every task's answer out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from serving import explain
from serving.batcher import INLINE
from serving.explain import Explainer
from serving.http import Answer, Call, Endpoint
from serving.wire import parse, render
from serving.worker import Worker
from undertone.records import Message, ScoredMessage
from undertone.settings import Settings

#: Bytes of a body that are read in the event loop; larger ones go to a thread, so that other requests are not held up.
INLINE_BYTES = 64_000


async def score_for(call: Call, worker: Worker, messages: Sequence[Message]) -> Sequence[ScoredMessage]:
    """`Worker.score` for a call: what was scored, and when, stays with it for logs and traces."""
    call.scored = await worker.score(messages, call.deadline, call.passage)
    return call.scored


def score(worker: Worker, settings: Settings, explainer: Explainer) -> Endpoint:
    """The endpoint."""

    async def answer(call: Call) -> Answer:
        read = partial(
            parse,
            call.body,
            call.received_at,
            max_messages=settings.max_messages,
            max_chars=settings.max_text_chars,
        )
        messages = read() if len(call.body) <= INLINE_BYTES else await asyncio.to_thread(read)
        asked = explain.wanted(call)
        if asked:
            explain.refuse_many(len(messages))
            await explainer.prepare(call.deadline)
        scored = await score_for(call, worker, messages)
        reasons = await explainer.explain(scored, call.deadline) if asked else None
        write = partial(render, scored, worker.labels, reasons)
        return Answer(body=write() if len(scored) <= INLINE else await asyncio.to_thread(write))

    return answer
