"""Streams that answer here: librdkafka's mock cluster or a real Kafka, a Kinesis of moto, files; and readers of them.

``UNDERTONE_TEST_KAFKA=host:port`` points the tests of Kafka at a real broker that may make topics.
"""

import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import confluent_kafka
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from serving.streams import run as running_streams
from serving.streams.address import Address, open_sink, open_source
from serving.streams.base import Row, Source
from serving.streams.run import Plan
from serving.streams.stream import Stream
from tests.conftest import free_port, running
from undertone.settings import Settings
from undertone.store import Store

#: A broker notices a reader that is gone after this, at the least.
QUICK = "session.timeout.ms=6000&heartbeat.interval.ms=200"
PARTITIONS = 4


def message(number: int, **more: Any) -> bytes:
    return orjson.dumps({"id": f"m-{number:04}", "text": "good parcel", "channel": "chat"} | more)


class Kafka:
    """A cluster. The mock one can take its broker down; its topics have four partitions, its groups begin at once."""

    def __init__(self) -> None:
        self.real = os.environ.get("UNDERTONE_TEST_KAFKA", "")
        self._names = itertools.count()
        self.hosts = self.real or self._mock()
        self.producer = Producer({"bootstrap.servers": self.hosts, "log_level": 0})

    def _mock(self) -> str:
        self._cluster = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 0})
        # what the Python client does not show of the mock cluster: the same library, by its C names (rdkafka_mock.h)
        (library,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*")
        self._library = ctypes.CDLL(str(library))
        handle = ctypes.c_void_p.from_address(id(self._cluster) + 16)  # the first field of the client's object
        self._library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
        self._mock_cluster = ctypes.c_void_p(self._library.rd_kafka_handle_mock_cluster(handle))
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._mock_cluster, ctypes.c_int32(20))
        (broker,) = self._cluster.list_topics(timeout=10).brokers.values()
        return f"{broker.host}:{broker.port}"

    def down(self) -> None:
        self._library.rd_kafka_mock_broker_set_down(self._mock_cluster, ctypes.c_int32(1))

    def up(self) -> None:
        self._library.rd_kafka_mock_broker_set_up(self._mock_cluster, ctypes.c_int32(1))

    def topic(self) -> str:
        """A fresh one."""
        name = f"test-{uuid.uuid4().hex[:8]}-{next(self._names)}"
        if self.real:
            made = AdminClient({"bootstrap.servers": self.hosts}).create_topics([NewTopic(name, PARTITIONS, 1)])
            made[name].result(30)
        else:
            self._library.rd_kafka_mock_topic_create(self._mock_cluster, name.encode(), PARTITIONS, 1)
        return name

    def url(self, topic: str, group: str = "g") -> str:
        return f"kafka://{self.hosts}/{topic}?group={group}-{topic}&{QUICK}"

    def produce(self, topic: str, values: Sequence[bytes]) -> None:
        for number, value in enumerate(values):
            self.producer.produce(topic, value, partition=number % PARTITIONS)
        assert self.producer.flush(30) == 0

    def committed(self, topic: str, group: str = "g") -> int:
        """Messages that a group of `url` is done with."""
        consumer = Consumer({"bootstrap.servers": self.hosts, "group.id": f"{group}-{topic}", "log_level": 0})
        try:
            places = consumer.committed([TopicPartition(topic, part) for part in range(PARTITIONS)], timeout=20)
            return sum(max(place.offset, 0) for place in places)
        finally:
            consumer.close()

    def read(self, topic: str, count: int) -> list[Any]:
        """`count` values of a topic, as JSON, and whatever else is there by then."""
        options = {"bootstrap.servers": self.hosts, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"}
        consumer, found = Consumer(options | {"log_level": 0}), []
        consumer.subscribe([topic])
        try:
            while len(found) < count:
                item = consumer.poll(20)
                assert item is not None, f"{len(found)} of {count} messages in {topic}"
                found.append(orjson.loads(item.value()))
            found += [orjson.loads(item.value()) for item in consumer.consume(10_000, timeout=0.2)]
        finally:
            consumer.close()
        return found


@pytest.fixture(scope="session")
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def mock_kafka(kafka: Kafka) -> Kafka:
    """One whose broker can be taken down."""
    if kafka.real:
        pytest.skip("a real broker is not taken down")
    return kafka


@pytest.fixture(scope="session")
def kinesis_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kinesis on 127.0.0.1, in a process of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.urlopen(url, timeout=5).status)
        return False

    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("moto") / "log"
    with running(command, log, ready, 60, signal.SIGTERM):
        yield url


class Kinesis:
    """Streams of that server, as somebody who owns them sees them."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.client = boto3.client("kinesis", endpoint_url=endpoint, region_name="eu-central-1")

    def stream(self, shards: int = 2) -> str:
        """A fresh one."""
        name = f"test-{uuid.uuid4().hex[:8]}"
        self.client.create_stream(StreamName=name, ShardCount=shards)
        self.client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        return name

    def url(self, stream: str, group: str = "g") -> str:
        return f"kinesis://{stream}?region=eu-central-1&endpoint={self.endpoint}&group={group}"

    def put(self, stream: str, values: Sequence[bytes]) -> None:
        records = [{"Data": value, "PartitionKey": str(number)} for number, value in enumerate(values)]
        assert self.client.put_records(StreamName=stream, Records=records)["FailedRecordCount"] == 0


@pytest.fixture
def kinesis(kinesis_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kinesis]:
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("serving.streams.kinesis.SHARE_S", 0.2)
    monkeypatch.setattr("serving.streams.kinesis.READ_S", 0.02)
    made = Kinesis(kinesis_endpoint)
    yield made
    made.client.close()


# readers --------------------------------------------------------------------------------------


@dataclass
class Place:
    """A stream of one kind: who writes to it and who reads from it, by the addresses of `undertone stream`."""

    url: Callable[[str], str]
    sink: str
    store: Store
    opened: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def write(self, values: Sequence[bytes]) -> None:
        sink = open_sink(Address.parse(self.sink))
        sink.write([Row(f"key-{number}", value) for number, value in enumerate(values)])
        sink.close()

    @contextlib.contextmanager
    def source(self, group: str = "g") -> Iterator[Source]:
        made = open_source(Address.parse(self.url(group)), self.store, max_bytes=1_000_000)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(params=["file", "kafka", "kinesis"])
def place(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[Place]:
    """One of every kind."""
    if request.param == "file":
        path = tmp_path / "messages.jsonl"
        made = Place(lambda group: f"file://{path}?group={group}", str(path), store)
    elif request.param == "kafka":
        kafka = request.getfixturevalue("kafka")
        topic = kafka.topic()
        made = Place(lambda group: kafka.url(topic, group), kafka.url(topic), store)
    else:
        kinesis = request.getfixturevalue("kinesis")
        name = kinesis.stream()
        made = Place(lambda group: kinesis.url(name, group), kinesis.url(name), store)
    yield made
    store.engine.dispose()


@dataclass
class Running:
    """A stream at work in a thread of this process."""

    stream: Stream
    thread: threading.Thread

    def stop(self) -> None:
        self.stream.stop()
        self.thread.join(60)
        assert not self.thread.is_alive(), "the stream did not stop"


@contextlib.contextmanager
def reading(settings: Settings, **plan: Any) -> Iterator[Running]:
    with running_streams.opened(settings, Plan(**plan)) as stream:
        failures: list[BaseException] = []

        def work() -> None:
            try:
                stream.run()
            except BaseException as error:  # noqa: BLE001  told below
                failures.append(error)

        made = Running(stream, threading.Thread(target=work, daemon=True))
        made.thread.start()
        try:
            yield made
        finally:
            made.stop()
            if failures:
                raise failures[0]


@pytest.fixture(scope="session")
def read_stream() -> Callable[..., contextlib.AbstractContextManager[Running]]:
    """Runs `undertone stream` in a thread for a `with` block, with a plan's fields by name."""
    return reading
