"""The serving worker without HTTP: slots, follower, batcher, recorder, and the one path that scores messages."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from serving.batcher import Batcher, Passage
from serving.errors import NoModel, NoRoom
from serving.final_sentiment import Voice, below, decide
from serving.follower import Follower
from serving.metrics import Metrics
from serving.model_slot import ModelSlot
from serving.recorder import Recorder, Recording
from serving.scoring import Answer, Scorer
from serving.shadow import Shadow
from undertone.join import SENTIMENT
from undertone.keys import Trust
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings
from undertone.tasks import TASKS

log = logging.getLogger("undertone.serving")


class Worker:
    """Everything one process needs to serve. `start` and `stop` run in its event loop.

    Args:
        recorder: what becomes of scored messages; None: a spool on disk, then the store.
    """

    def __init__(self, settings: Settings, recorder: Recording | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.slots = {
            name: ModelSlot(spec, settings.served_dir / name, Trust.of(settings), settings.threads)
            for name, spec in TASKS.items()
        }
        self.recorder: Recording = recorder or Recorder(settings, self.metrics)
        self.shadow = Shadow(lambda: self.batcher.idle, self.metrics)
        scorer = Scorer(self.slots, self.shadow, self.metrics, settings.embedding_share)
        self.batcher = Batcher(scorer.score, self.metrics, settle=self._settle, lanes=settings.threads)
        self.follower = Follower(settings, self.slots, self.metrics, self.shadow.start)
        #: Label words of each task, in the order of its probabilities.
        self.labels = {name: slot.spec.labels for name, slot in self.slots.items()}
        self._no_room = False

    def start(self) -> None:
        """Serve the last good copies at once, then follow the registry."""
        self.follower.restore()
        self.recorder.start()
        self.follower.start()

    async def stop(self) -> None:
        """Finish what was accepted, write it down, end."""
        self.follower.stop()
        await self.batcher.stop()
        self.shadow.stop()
        self.recorder.stop()

    @property
    def ready(self) -> bool:
        """Whether at least one task serves."""
        return any(slot.served for slot in self.slots.values())

    def state(self) -> dict[str, Any]:
        """What serves, what was refused, whether registry and store answer. Everything serves on without either."""
        return {
            "ready": self.ready,
            "registry_problem": self.follower.problem,
            "store_problem": self.recorder.problem,
            "store_backlog": self.recorder.backlog,
            "tasks": {name: slot.state() for name, slot in self.slots.items()},
        }

    async def score(
        self, messages: Sequence[Message], deadline: float = math.inf, passage: Passage | None = None
    ) -> list[ScoredMessage]:
        """Score `messages` for every task that serves, and hand them to the recorder, which writes them to disk.

        Args:
            messages: of one request.
            deadline: event-loop time after which nobody waits for the answer.
            passage: filled with the request's way through the batcher.

        Raises:
            NoModel: no task serves.
            Overloaded: too many messages wait, or the answer would come too late.
            NoRoom: the spool cannot be written; nothing was accepted.
        """
        if not self.ready:
            raise self.no_model()
        scored: list[ScoredMessage] = await self.batcher.submit(messages, deadline, passage)
        return scored

    def no_model(self) -> NoModel:
        """Why nothing can be scored."""
        refused = [f"{name} {slot.refusal.version}" for name, slot in self.slots.items() if slot.refusal]
        return NoModel(
            "an approved champion for at least one task",
            f"none; refused: {', '.join(refused)} (see /readyz)" if refused else "none",
            "train and approve one: `undertone train TASK`, `undertone models approve TASK VERSION`",
        )

    def _settle(
        self, requests: Sequence[tuple[Sequence[Message], list[dict[str, Answer]]]]
    ) -> list[list[ScoredMessage]]:
        """Join, write to disk and count what is complete, in one write; each request's part of it."""
        scored_at = datetime.now(UTC)
        scored = [
            [self._join(message, answer, scored_at) for message, answer in zip(messages, answers, strict=True)]
            for messages, answers in requests
        ]
        every = [item for items in scored for item in items]
        try:
            self.recorder.append(every)
        except OSError as error:
            if not self._no_room:  # a line for every request would fill the disk further
                log.error("scored messages cannot be written to the spool, requests are refused: %s", error)
            self._no_room = True
            raise NoRoom("room on disk for scored messages", str(error), "free some, then send it again") from error
        if self._no_room:
            log.warning("scored messages can be written to the spool again")
        self._no_room = False
        self.metrics.scored(every)
        return scored

    def _join(self, message: Message, answers: dict[str, Answer], scored_at: datetime) -> ScoredMessage:
        predictions = tuple(
            Prediction(
                message_id=message.id,
                task=name,
                label=answer.model.engine.labels[answer.probabilities.index(max(answer.probabilities))],
                probabilities=answer.probabilities,
                model_version=answer.model.version,
                model_digest=answer.model.digest,
                scored_at=scored_at,
                embedding=answer.embedding,
                needs_review=below(max(answer.probabilities), answer.model.engine.card.review_below),
            )
            for name, answer in answers.items()
        )
        if any(answer.truncated for answer in answers.values()) and not message.truncated:
            message = replace(message, truncated=True)
        voices = {name: _voice(answer) for name, answer in answers.items()}
        sentiment = voices.pop(SENTIMENT, None)
        if sentiment is None:
            return ScoredMessage(message, predictions)
        engine = answers[SENTIMENT].model.engine
        final = decide(sentiment, voices, engine.join, engine.card.review_below)
        return ScoredMessage(message, predictions, final.label, final.reason, final.probability, final.needs_review)


def _voice(answer: Answer) -> Voice:
    model = answer.model
    return Voice(model.engine.labels, answer.probabilities, model.version, model.digest)
