"""One batch's answers: every task's champion, and beside it a challenger where one is on trial."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving.challenger import Challenger, finite
from serving.metrics import Metrics
from serving.model_slot import ModelSlot, Served
from serving.shadow import Copy, Shadow
from undertone.engine import Engine, States, Tokens
from undertone.records import Message
from undertone.shares import in_share

log = logging.getLogger("undertone.serving")


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer for one message. ``model`` is the champion, or a canary."""

    model: Served | Challenger
    probabilities: tuple[float, ...]
    embedding: bytes | None
    truncated: bool


class Scorer:
    """Scores batches, in the lanes' threads.

    Args:
        slots: what serves for each task.
        shadow: where copies of a trial's messages go.
        metrics: errors of challengers go there.
        embedding_share: share of the messages whose embedding is kept.
    """

    def __init__(
        self, slots: Mapping[str, ModelSlot], shadow: Shadow, metrics: Metrics, embedding_share: float
    ) -> None:
        self._slots = slots
        self._shadow = shadow
        self._metrics = metrics
        self._embedding_share = embedding_share

    def score(self, messages: Sequence[Message], alone: bool) -> list[dict[str, Answer]]:
        """All tasks' answers for each message of a batch.

        A slot is read once, so a swap in between changes nothing. Models that read texts alike share one tokenisation.
        """
        # threads of several models' sessions would spin beside each other: they share a core better one after another
        alone = alone and sum(slot.served is not None for slot in self._slots.values()) == 1
        batch = _Batch(messages, [in_share(message.id, self._embedding_share) for message in messages], alone)
        rows: list[dict[str, Answer]] = [{} for _ in messages]
        for name, slot in self._slots.items():
            served, trial = slot.served, slot.trial
            if served is None:
                continue
            if isinstance(trial, Challenger) and trial.runs_beside(served):
                given = self._on_trial(served, trial, batch)
            else:
                given = batch.answers(served, range(len(messages)))
            for index, answer in given.items():
                rows[index][name] = answer
        return rows

    def _on_trial(self, served: Served, challenger: Challenger, batch: _Batch) -> dict[int, Answer]:
        """A canary's answers for its share, the champion's for all others.

        Copies of the messages in the share go to the shadow, for the model that has not answered them.
        """
        taken = [index for index, message in enumerate(batch.messages) if challenger.takes(message)]
        given: dict[int, Answer] = {}
        if challenger.canary and taken:
            try:
                given = batch.answers(challenger, taken)
            except Exception as error:  # noqa: BLE001  whatever a challenger raises, the champion answers
                challenger.fail(len(taken), error, self._metrics)
                taken = []
        rest = [index for index in range(len(batch.messages)) if index not in given]
        if rest:
            given |= batch.answers(served, rest)
        for index in taken:
            self._shadow.put(Copy(challenger, served, batch.messages[index], given[index].probabilities))
        return given


@dataclass(slots=True)
class _Batch:
    messages: Sequence[Message]
    kept: Sequence[bool]
    alone: bool
    read: dict[str, Tokens] = field(default_factory=dict)
    encoded: dict[tuple[object, ...], States] = field(default_factory=dict)

    def answers(self, model: Served | Challenger, wanted: Sequence[int]) -> dict[int, Answer]:
        """The model's answers for the messages at the places `wanted`."""
        engine = model.engine
        tokens = self.read.get(engine.tokenizer_key)
        if tokens is None:
            tokens = self.read[engine.tokenizer_key] = engine.tokenize([message.text for message in self.messages])
        logits, embeddings = self._run(engine, tokens, wanted)
        probabilities = finite(engine.probabilities(logits)).tolist()
        halves = embeddings.astype("<f2")
        return {
            index: Answer(
                model,
                tuple(probabilities[place]),
                halves[place].tobytes() if self.kept[index] else None,
                tokens.truncated[index],
            )
            for place, index in enumerate(wanted)
        }

    def _run(self, engine: Engine, tokens: Tokens, wanted: Sequence[int]) -> tuple[Any, Any]:
        """Logits and embeddings; engines on one trunk share one run of it."""
        ids = [tokens.ids[index] for index in wanted]
        if engine.trunk_key is None:
            return engine.run(ids, alone=self.alone)
        key = (engine.tokenizer_key, engine.trunk_key, *wanted)
        if key not in self.encoded:
            self.encoded[key] = engine.encode(ids, alone=self.alone)
        states = self.encoded[key]
        return engine.decide(states, alone=self.alone), states.embeddings
