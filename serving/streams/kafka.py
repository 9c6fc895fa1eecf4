"""Kafka by librdkafka: a consumer that commits what is durable and nothing else, and a producer that waits for acks.

The consumer's own commits and its store of offsets are off. Partitions that went to another reader while a batch was
under way are left out of that batch's commit: their new reader has the messages again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from serving.streams.address import Address
from serving.streams.base import Lag, Record, Row, StreamError
from undertone.errors import ConfigError, UndertoneError

log = logging.getLogger("undertone.serving")

#: Seconds to find the topic at the beginning.
FIND_S = 10.0
#: Seconds within which a row must be acknowledged by its brokers.
DELIVERY_S = 30.0
#: Kilobytes that are read ahead of the batch under way.
AHEAD_KB = 16_384

#: Answers to a commit that say that this reader's partitions are another's by now.
_MOVED_ON = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError._NO_OFFSET,
)


@dataclass
class KafkaBatch:
    """Records with the offset behind the last one of each partition, and when each partition was got."""

    records: Sequence[Record]
    source: KafkaSource = field(repr=False)
    offsets: dict[int, int] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)

    def ack(self) -> None:
        """See `Batch.ack`."""
        self.source.commit(
            {part: offset for part, offset in self.offsets.items() if self.source.kept(part, self.since[part])}
        )


class KafkaSource:
    """A member of a consumer group, from the first poll on.

    Raises:
        ConfigError: there is no such topic, or librdkafka does not know an option.
        StreamError: no broker answers.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._owned: dict[int, int] = {}
        self._turn = 0
        self._joined = False
        self._held = False
        self._early: list[Message] = []
        self._problem: str | None = None
        self._fatal: UndertoneError | None = None
        self._consumer: Consumer = _made(
            Consumer,
            address,
            {
                "group.id": address.group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest" if address.earliest else "latest",
                "queued.max.messages.kbytes": AHEAD_KB,
                "error_cb": self._told,
            },
        )
        try:
            _find_topic(self._consumer, address)
        except UndertoneError:
            self._consumer.close()
            raise

    def poll(self, limit: int, timeout_s: float) -> KafkaBatch:
        """See `Source.poll`. A topic has no end."""
        if self._held:
            self._held = False
            with suppress(KafkaException):
                self._consumer.resume(self._partitions())
        if not self._joined:
            self._joined = True
            self._consumer.subscribe(
                [self._address.name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
        taken, self._early = self._early, []
        try:
            if not taken and (first := self._consumer.poll(timeout_s)) is not None:
                taken = [first]
            if taken and len(taken) < limit:
                taken += self._consumer.consume(limit - len(taken), timeout=0)
        except KafkaException as error:
            raise self._error(error.args[0]) from error
        if self._fatal is not None:
            raise self._fatal
        errors = [told for message in taken if (told := message.error()) is not None]
        good = [message for message in taken if message.error() is None]
        if errors and not good:
            raise self._error(errors[0])
        if good and self._problem:
            log.warning("%s answers again", self._address)
            self._problem = None
        return self._batch(good)

    def _batch(self, messages: Sequence[Message]) -> KafkaBatch:
        """Of partitions that are still this reader's. Where one was rewound meanwhile, what came before is left out:
        it comes again."""
        parts: dict[int, list[Message]] = {}
        for message in messages:
            part, offset = _place(message)
            if part not in self._owned:
                continue
            before = parts.setdefault(part, [])
            if before and offset <= _place(before[-1])[1]:
                before.clear()
            before.append(message)
        return KafkaBatch(
            [_record(message) for found in parts.values() for message in found],
            self,
            {part: _place(found[-1])[1] + 1 for part, found in parts.items()},
            {part: self._owned[part] for part in parts},
        )

    def commit(self, offsets: dict[int, int]) -> None:
        """Commit, and wait for the answer.

        Raises:
            StreamError: the brokers do not answer.
        """
        if not offsets:
            return
        try:
            self._consumer.commit(
                offsets=[TopicPartition(self._address.name, part, offset) for part, offset in offsets.items()],
                asynchronous=False,
            )
        except KafkaException as error:
            if error.args[0].code() not in _MOVED_ON:
                raise self._error(error.args[0]) from error
            log.warning("%s: partitions moved on before a commit; their messages come again", self._address)

    def kept(self, part: int, since: int) -> bool:
        """Whether a partition has been this reader's ever since it was got for the `since`-th time."""
        return self._owned.get(part) == since

    def hold(self) -> None:
        """See `Source.hold`."""
        if not self._joined:
            return
        with suppress(KafkaException):
            if not self._held:
                self._consumer.pause(self._partitions())
                self._held = True
            if (message := self._consumer.poll(0)) is not None:
                self._early.append(message)

    def lag(self) -> Lag:
        """See `Source.lag`: messages behind the newest, as of the last fetch; while held, as of now."""
        behind = 0
        with suppress(KafkaException):
            for place in self._consumer.position(self._partitions()):
                low, high = self._consumer.get_watermark_offsets(place, timeout=1, cached=not self._held)
                if high >= 0:
                    behind += high - (place.offset if place.offset >= 0 else max(low, 0))
        return Lag(messages=behind)

    def progress(self) -> None:
        """See `Source.progress`."""

    def close(self) -> None:
        """See `Source.close`."""
        self._consumer.close()

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(self._address.name, part) for part in self._owned]

    # called by librdkafka, within poll, consume and close -------------------------------------

    def _assigned(self, _consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._turn += 1
        self._owned |= {place.partition: self._turn for place in partitions}
        log.info("%s: this reader has %d partitions now", self._address, len(self._owned))
        self._held = False  # a pause ends with an assignment; `hold` pauses again

    def _revoked(self, _consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
        for place in partitions:
            self._owned.pop(place.partition, None)
        self._early = [message for message in self._early if message.partition() in self._owned]

    def _told(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = UndertoneError("a Kafka consumer that works", error.str(), "start it again")
        if self._problem is None:
            log.warning("%s does not answer, librdkafka goes on trying: %s", self._address, error.str())
            self._problem = error.str()

    def _error(self, error: KafkaError) -> StreamError:
        return StreamError(f"an answer from {self._address}", f"{error.name()}: {error.str()}", _NEXT)


class KafkaSink:
    """A producer that returns when all in-sync replicas have a batch. The message's id is the key.

    Raises:
        ConfigError: there is no such topic, or librdkafka does not know an option.
        StreamError: no broker answers.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._options = {
            "acks": "all",
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 5,
            "delivery.timeout.ms": int(DELIVERY_S * 1000),
            "error_cb": lambda _error: None,  # what matters is whether a row arrived
        }
        self._producer: Producer | None = _made(Producer, address, self._options)
        _find_topic(self._producer, address)

    def write(self, rows: Sequence[Row]) -> None:
        """See `Sink.write`."""
        self._producer = producer = self._producer or _made(Producer, self._address, self._options)
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        try:
            for row in rows:
                producer.produce(self._address.name, row.value, row.id, on_delivery=delivered)
                producer.poll(0)
            left = producer.flush(DELIVERY_S + 5)
        except (KafkaException, BufferError) as error:
            self._drop()
            raise StreamError(f"rows taken by {self._address}", str(error), _NEXT) from error
        if failures or left:
            self._drop()
            found = f"{failures[0].name()}: {failures[0].str()}" if failures else f"{left} rows not acknowledged"
            raise StreamError(f"rows taken by {self._address}", found, _NEXT)

    def _drop(self) -> None:
        """Forget what was not acknowledged: the whole batch is written again, by a new producer."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1)
        self._producer = None

    def close(self) -> None:
        """See `Sink.close`."""
        self._drop()


_NEXT = "check that the brokers are up, and what this client may do there"


def _place(message: Message) -> tuple[int, int]:
    """Partition and offset; messages that were fetched have both."""
    return int(message.partition() or 0), int(message.offset() or 0)


def _record(message: Message) -> Record:
    """Its id names the moment too: a topic that is made anew begins at offset 0 again."""
    part, offset = _place(message)
    place = f"{message.topic()}/{part}/{offset}"
    kind, moment = message.timestamp()
    return Record(message.value() or b"", place, f"{place}@{moment}"[-200:] if kind else place[-200:])


def _made(kind: type[Any], address: Address, options: dict[str, Any]) -> Any:
    """A client with these options, those of the address's file, and those of the address; the last one counts."""
    options = {"bootstrap.servers": address.hosts, "log_level": 2} | options
    if path := address.options.get("config"):
        options |= _properties(Path(path))
    options |= {name: value for name, value in address.options.items() if "." in name}
    try:
        return kind(options)
    except KafkaException as error:
        raise ConfigError("options that librdkafka knows", error.args[0].str(), f"check {address}") from error


def _properties(path: Path) -> dict[str, str]:
    """Options in a file: ``name=value`` lines, ``#`` for comments."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(
            "a file of librdkafka's options", f"{type(error).__name__}: {error}", f"check {path}"
        ) from error
    pairs = (line.partition("=") for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _find_topic(client: Consumer | Producer, address: Address) -> None:
    try:
        topic = client.list_topics(address.name, timeout=FIND_S).topics[address.name]
    except KafkaException as error:
        raise StreamError(
            f"a Kafka broker at {address.hosts} within {FIND_S:.0f} s", error.args[0].str(), "check address and network"
        ) from error
    if topic.error is not None and topic.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise ConfigError(
            f"a topic {address.name} at {address.hosts}",
            "none",
            f"make it: `kafka-topics.sh --create --topic {address.name} --partitions N --bootstrap-server …`",
        )
