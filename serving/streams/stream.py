"""The loop: a batch is read, scored, stored, sent on, and only then acknowledged.

What fails for a time (store, sink, source, no champion) is waited for, and nothing is lost: the batch stays in hand, or
comes again. So a message is scored at least once, and has its effect in the store once, by its id.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import orjson

from serving.errors import Later
from serving.streams.base import Batch, Row, Sink, Source, StreamError
from serving.streams.metrics import StreamMetrics
from serving.streams.reading import Reader
from serving.wire import answers_of
from undertone.errors import StoreError, UndertoneError
from undertone.records import Message, ScoredMessage
from undertone.store import Store

log = logging.getLogger("undertone.serving")

T = TypeVar("T")

#: Seconds that one poll waits for a message; a stop is noticed as soon.
POLL_S = 0.5
#: Seconds before the first try again, and at most.
FIRST_S, LONGEST_S = 0.25, 10.0
#: The longest pause while this process itself is not ready: asking costs nothing.
LONGEST_LATER_S = 1.0
#: Seconds between two signs of life to the source while waiting.
SIGN_S = 0.1
#: Seconds between two looks at the lag while waiting.
LAG_S = 5.0

Score = Callable[[Sequence[Message]], Sequence[ScoredMessage]]


class Stopped(Exception):
    """A stop was asked for while something was waited for: the batch in hand comes again."""


@dataclass
class Totals:
    """What a run did: messages that were scored, those among them that were new to the store, dead letters."""

    messages: int = 0
    new: int = 0
    dead_letters: int = 0


class Stream:
    """One reader.

    Args:
        score: the worker's scoring path, all or nothing.
        labels: label words of each task.
        sink: None: scores go into the store alone.
        batch: records at most that are scored, stored and acknowledged together.
        ready: raises `Later` until messages can be scored: before that no group is joined, whose other members would
            have to leave their work to this one.
        told: called after each batch.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink | None,
        dead_letters: Sink,
        *,
        reader: Reader,
        score: Score,
        labels: Mapping[str, tuple[str, ...]],
        store: Store,
        metrics: StreamMetrics,
        batch: int,
        ready: Callable[[], None] = lambda: None,
        told: Callable[[Totals], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._dead_letters = dead_letters
        self._reader = reader
        self._score = score
        self._labels = dict(labels)
        self._store = store
        self._metrics = metrics
        self._limit = batch
        self._ready = ready
        self._told = told
        self._waiting: UndertoneError | None = None
        self._stopping = False
        self.totals = Totals()

    @property
    def waiting(self) -> UndertoneError | None:
        """What is waited for; None: nothing."""
        return self._waiting

    def stop(self) -> None:
        """Finish the batch in hand, then end. From any thread, and from a signal's handler."""
        self._stopping = True

    def run(self) -> Totals:
        """Until the source ends or a stop is asked for; leaves source and sinks open."""
        try:
            self._insist(self._ready)
            while not self._stopping:
                batch = self._insist(lambda: self._source.poll(self._limit, POLL_S))
                if batch is None:
                    break
                if batch.records:
                    self._settle(batch)
                self._metrics.behind(self._source.lag())
        except Stopped:
            log.warning("stopped while waiting: the batch in hand was not acknowledged and comes again")
        return self.totals

    def _settle(self, batch: Batch) -> None:
        """Everything that a batch's messages cause, then the acknowledgement."""
        now, step = datetime.now(UTC), self._metrics.step
        with step("read"):
            messages, letters = self._reader.read(batch.records, now)
        with step("score"):
            scored, failed = self._insist(lambda: self._scored(messages))
        letters += [self._reader.letter(batch.records[index], error, now) for index, error in failed.items()]
        with step("store"):
            new = self._insist(lambda: self._store.record(scored))
        self._metrics.stored([item.message for item in scored], datetime.now(UTC))
        with step("send"):
            self._send(scored, letters)
        with step("commit"):
            self._insist(batch.ack)
        self.totals.messages += len(scored)
        self.totals.new += new
        self.totals.dead_letters += len(letters)
        self._metrics.messages.inc(len(scored))
        self._metrics.letters.inc(len(letters))
        self._told(self.totals)

    def _send(self, scored: Sequence[ScoredMessage], letters: Sequence[Row]) -> None:
        sink = self._sink
        if sink is not None and scored:
            rows = [Row(str(answer["id"]), orjson.dumps(answer)) for answer in answers_of(scored, self._labels)]
            self._insist(lambda: sink.write(rows))
        if letters:
            self._insist(lambda: self._dead_letters.write(letters))
            log.warning("dead letters: %d messages could not be scored", len(letters))

    def _scored(self, messages: Mapping[int, Message]) -> tuple[list[ScoredMessage], dict[int, UndertoneError]]:
        """All scored; where that fails, one by one, so that a message which no model can read stands alone."""
        if not messages:
            return [], {}
        try:
            return list(self._score(list(messages.values()))), {}
        except Later:
            raise
        except Exception as error:  # noqa: BLE001  whatever the engine raised: a message, or the model?
            log.warning("a batch cannot be scored, its messages are tried one by one: %s", error)
        scored: list[ScoredMessage] = []
        failed: dict[int, UndertoneError] = {}
        for index, message in messages.items():
            try:
                scored += self._score([message])
            except Later:
                raise
            except Exception as error:  # noqa: BLE001  as above
                failed[index] = UndertoneError("a text that the models can read", _what(error), "look at it")
        if not scored:
            self._probe()
        return scored, failed

    def _probe(self) -> None:
        """Raise unless the models can read anything at all: otherwise they are broken, not the messages."""
        try:
            self._score([Message("probe", "ok", received_at=datetime.now(UTC))])
        except Exception as error:
            raise StreamError(
                "a model that works", _what(error), "roll it back: `undertone models rollback`"
            ) from error

    def _insist(self, act: Callable[[], T]) -> T:
        """What `act` gives, tried again with longer and longer pauses while store, stream or model are away.

        Raises:
            Stopped: a stop was asked for meanwhile.
        """
        pause = FIRST_S
        while True:
            try:
                given = act()
            except (StreamError, StoreError, Later) as error:
                self._wait(error, pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_LATER_S if isinstance(error, Later) else LONGEST_S)
            else:
                if self._waiting is not None:
                    log.warning("the stream goes on")
                    self._waiting = None
                    self._metrics.waiting.set(0)
                return given

    def _wait(self, error: UndertoneError, seconds: float) -> None:
        if self._waiting is None or str(self._waiting) != str(error):
            log.warning("the stream waits: %s", error)
            self._waiting = error
            self._metrics.waiting.set(1)
        until = time.monotonic() + seconds
        next_lag = time.monotonic()
        while True:
            if self._stopping:
                raise Stopped from error
            self._source.hold()
            if time.monotonic() >= next_lag:
                self._metrics.behind(self._source.lag())
                next_lag = time.monotonic() + LAG_S
            if (left := until - time.monotonic()) <= 0:
                return
            time.sleep(min(SIGN_S, left))


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
