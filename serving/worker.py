"""The serving worker without HTTP: slots, follower, batcher, recorder, and the one path that scores messages."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from serving.batcher import Batcher, Passage
from serving.errors import NoModel, NoRoom
from serving.final_sentiment import decide
from serving.follower import Follower
from serving.metrics import Metrics
from serving.model_slot import ModelSlot, Served
from serving.recorder import Recorder
from undertone.engine import Tokens
from undertone.keys import Trust
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings
from undertone.shares import in_share
from undertone.tasks import TASKS

log = logging.getLogger("undertone.serving")

#: Messages of a request that are joined and written in the event loop; more go to a thread, so others are not held up.
INLINE = 32


@dataclass(frozen=True, slots=True)
class _Answer:
    served: Served
    probabilities: tuple[float, ...]
    embedding: bytes | None
    truncated: bool


class Worker:
    """Everything one process needs to serve. `start` and `stop` run in its event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.slots = {
            name: ModelSlot(spec, settings.served_dir / name, Trust.of(settings), settings.threads)
            for name, spec in TASKS.items()
        }
        self.recorder = Recorder(settings, self.metrics)
        self.follower = Follower(settings, self.slots, self.metrics)
        self.batcher = Batcher(self._score, self.metrics, lanes=settings.threads)
        #: Label words of each task, in the order of its probabilities.
        self.labels = {name: slot.spec.labels for name, slot in self.slots.items()}

    def start(self) -> None:
        """Serve the last good copies at once, then follow the registry."""
        self.follower.restore()
        self.recorder.start()
        self.follower.start()

    async def stop(self) -> None:
        """Finish what was accepted, write it down, end."""
        self.follower.stop()
        await self.batcher.stop()
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
        """Score `messages` for every task that serves, and write them to disk.

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
        answers = await self.batcher.submit(messages, deadline, passage)
        if len(messages) <= INLINE:
            return self._finish(messages, answers)
        return await asyncio.to_thread(self._finish, messages, answers)

    def no_model(self) -> NoModel:
        """Why nothing can be scored."""
        refused = [f"{name} {slot.refusal.version}" for name, slot in self.slots.items() if slot.refusal]
        return NoModel(
            "an approved champion for at least one task",
            f"none; refused: {', '.join(refused)} (see /readyz)" if refused else "none",
            "train and approve one: `undertone train TASK`, `undertone models approve TASK VERSION`",
        )

    def _finish(self, messages: Sequence[Message], answers: Sequence[dict[str, _Answer]]) -> list[ScoredMessage]:
        scored_at = datetime.now(UTC)
        scored = [self._join(message, answer, scored_at) for message, answer in zip(messages, answers, strict=True)]
        try:
            self.recorder.append(scored)
        except OSError as error:
            log.error("scored messages cannot be written to the spool: %s", error)
            raise NoRoom("room on disk for scored messages", str(error), "free some, then send it again") from error
        self.metrics.scored(scored)
        return scored

    def _score(self, messages: Sequence[Message], alone: bool) -> list[dict[str, _Answer]]:
        """All tasks' answers for each message of a batch; in a lane's thread.

        A slot is read once, so a swap in between changes nothing. Models that read texts alike share one tokenisation.
        """
        texts = [message.text for message in messages]
        kept = [in_share(message.id, self.settings.embedding_share) for message in messages]
        rows: list[dict[str, _Answer]] = [{} for _ in messages]
        read: dict[str, Tokens] = {}
        for name, slot in self.slots.items():
            served = slot.served
            if served is None:
                continue
            engine = served.engine
            tokens = read.get(engine.tokenizer_key)
            if tokens is None:
                tokens = read[engine.tokenizer_key] = engine.tokenize(texts)
            logits, embeddings = engine.run(tokens.ids, alone=alone)
            probabilities = engine.probabilities(logits).tolist()
            halves = embeddings.astype("<f2")
            for index, row in enumerate(rows):
                row[name] = _Answer(
                    served,
                    tuple(probabilities[index]),
                    halves[index].tobytes() if kept[index] else None,
                    tokens.truncated[index],
                )
        return rows

    def _join(self, message: Message, answers: dict[str, _Answer], scored_at: datetime) -> ScoredMessage:
        predictions = tuple(
            Prediction(
                message_id=message.id,
                task=name,
                label=answer.served.engine.labels[answer.probabilities.index(max(answer.probabilities))],
                probabilities=answer.probabilities,
                model_version=answer.served.version,
                model_digest=answer.served.digest,
                scored_at=scored_at,
                embedding=answer.embedding,
            )
            for name, answer in answers.items()
        )
        by_task = {prediction.task: prediction for prediction in predictions}
        sarcasm = by_task.get("sarcasm")
        final = decide(
            by_task["sentiment"].label if "sentiment" in by_task else None,
            dict(zip(self.labels["sarcasm"], sarcasm.probabilities, strict=True)) if sarcasm else None,
        )
        if any(answer.truncated for answer in answers.values()) and not message.truncated:
            message = replace(message, truncated=True)
        return ScoredMessage(message, predictions, final.label if final else None, final.reason if final else None)
