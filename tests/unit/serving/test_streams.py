"""Addresses, records into messages, files, and the loop when something is away."""

import os
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from prometheus_client import CollectorRegistry

from serving.errors import NoModel
from serving.streams.address import Address, open_sink, open_source
from serving.streams.base import Lag, Record, Row, StreamError
from serving.streams.metrics import StreamMetrics
from serving.streams.reading import Reader, schema
from serving.streams.stream import Stream
from undertone.errors import ConfigError, StoreError
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)
LABELS = {"sentiment": ("negative", "neutral", "positive")}


# addresses ------------------------------------------------------------------------------------


def test_addresses_of_every_kind():
    kafka = Address.parse("kafka://a:9092,b:9093/messages?group=g&session.timeout.ms=6000")
    assert (kafka.scheme, kafka.hosts, kafka.name, kafka.group) == ("kafka", "a:9092,b:9093", "messages", "g")
    assert str(kafka.dead_letters()) == "kafka://a:9092,b:9093/messages-dead-letters"
    kinesis = Address.parse("kinesis://messages?region=eu-central-1&endpoint=http://127.0.0.1:1/&start=latest")
    assert (kinesis.name, kinesis.options["endpoint"], kinesis.earliest) == ("messages", "http://127.0.0.1:1/", False)
    for url in ("file:///tmp/a b.csv", "/tmp/a b.csv"):
        assert Address.parse(url).name == "/tmp/a b.csv"
        assert Address.parse(url).dead_letters().name == "/tmp/a b.csv-dead-letters.jsonl"
    assert Address.parse("-").dead_letters().name == "-"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("kafka:///messages", "kafka://HOST:PORT/TOPIC"),
        ("kafka://broker:9092/", "name one topic"),
        ("kafka://broker:9092/a/b", "name one topic"),
        ("kafka://user:secret@broker:9092/messages", "an address without a password"),
        ("kafka://broker:9092/messages?grup=a", "one of group, start, config"),
        ("kafka://broker:9092/messages?start=now", "start=earliest or start=latest"),
        ("kafka://broker:9092/messages?group=", "a value for group"),
        ("kinesis://?region=x", "name one topic"),
        (f"kinesis://messages?group={'g' * 41}", "at most 40 characters"),
        ("rabbit://broker/queue", "kafka://HOST[:PORT]"),
        ("", "name one topic, stream or file"),
    ],
)
def test_addresses_that_are_none_are_told(url, told):
    with pytest.raises(ConfigError) as error:
        Address.parse(url)
    assert told in str(error.value)
    assert "secret" not in str(error.value)


# records --------------------------------------------------------------------------------------


def reader(**more):
    return Reader(Settings(max_body_bytes=1_000, max_text_chars=20), "kafka://a:1/messages", **more)


def record(value: bytes, number: int = 0) -> Record:
    return Record(value, f"messages/0/{number}", f"messages/0/{number}@1")


def test_one_bad_record_does_not_stop_its_neighbours():
    values = [b'{"text": "good", "id": "a"}', b"{", b'{"text": ""}', b'{"text": "bad"}', b'{"text": 7}', b"[]", b""]
    messages, letters = reader().read([record(value, number) for number, value in enumerate(values)], NOW)
    assert {index: message.id for index, message in messages.items()} == {0: "a", 3: "messages/0/3@1"}
    told = [orjson.loads(row.value) for row in letters]
    assert [letter["place"] for letter in told] == [f"messages/0/{number}" for number in (1, 2, 4, 5, 6)]
    assert all(set(letter["reason"]) == {"expected", "found", "next_step"} for letter in told)


def test_a_dead_letter_holds_no_words_unless_asked():
    sent = record(b'{"text": "my secret", "colour": 1}')
    (row,) = reader().read([sent], NOW)[1]
    assert b"secret" not in row.value
    (row,) = reader(with_values=True).read([sent], NOW)[1]
    assert orjson.loads(row.value)["value"] == sent.value.decode()
    (row,) = reader(with_values=True).read([record(b"\xff")], NOW)[1]
    assert orjson.loads(row.value)["value_base64"] == "/w=="


def test_what_is_too_large_is_refused_and_a_long_text_cut():
    messages, letters = reader().read([record(b'{"text": "%s"}' % (b"x" * size)) for size in (30, 1_000)], NOW)
    assert (messages[0].text, messages[0].truncated) == ("x" * 20, True)
    assert "at most 1,000 bytes" in letters[0].value.decode()


def test_masks_apply_as_on_http():
    masking = Reader(Settings(mask_personal_data=("email",)), "-")
    messages, _ = masking.read([record(b'{"text": "write to ann@example.org"}')], NOW)
    assert messages[0].text == "write to [email]"


def test_the_schema_names_every_field_and_forbids_others():
    told = schema()
    assert set(told["properties"]) == {"id", "text", "channel", "segment", "customer_id", "sent_at"}
    assert (told["required"], told["additionalProperties"]) == (["text"], False)


# files ----------------------------------------------------------------------------------------


def read_all(path, store, max_bytes=1_000):
    with source_of(path, store, max_bytes) as source:
        found = []
        while (batch := source.poll(3, 5)) is not None:
            found += batch.records
            batch.ack()
        assert source.progress() == (path.stat().st_size,) * 2
        return found


@contextmanager
def source_of(path, store, max_bytes=1_000):
    source = open_source(Address.parse(str(path)), store, max_bytes)
    try:
        yield source
    finally:
        source.close()


def test_a_csv_gives_known_columns_whatever_they_are_called(tmp_path: Path, store):
    table = tmp_path / "messages.csv"
    table.write_bytes(
        b'\xef\xbb\xbfmessage_id,created_at,tweet,label\n1,2026-01-01T00:00:00Z,"two\nlines",x\n2,,caf\xc3\xa9\n3,,\xff,y\n'
    )
    values = [orjson.loads(record.value) for record in read_all(table, store)]
    assert values == [
        {"id": "1", "sent_at": "2026-01-01T00:00:00Z", "text": "two\nlines"},
        {"id": "2", "text": "café"},
        {"id": "3", "text": "\ufffd"},
    ]
    table.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="a column `text`"):
        read_all(table, store)


def test_lines_too_long_are_cut_and_blank_ones_left_out(tmp_path: Path, store):
    lines = tmp_path / "messages.jsonl"
    lines.write_bytes(b'{"text": "a"}\n\n' + b"x" * 5_000 + b'\n{"text": "b"}')
    found = read_all(lines, store, max_bytes=100)
    assert [len(record.value) for record in found] == [13, 102, 13]
    assert [record.place.rpartition("#")[2] for record in found] == ["1", "3", "4"]


def test_a_file_that_grew_goes_on_and_another_in_its_place_begins_anew(tmp_path: Path, store):
    lines = tmp_path / "messages.jsonl"
    lines.write_bytes(b'{"text": "a"}\n{"text": "a"}\n')
    first = read_all(lines, store)
    assert len({record.id for record in first}) == 2
    assert read_all(lines, store) == []
    with lines.open("ab") as more:
        more.write(b'{"text": "a"}\n')
    third = read_all(lines, store)
    assert [record.place for record in third] == [f"{lines}#3"]
    assert third[0].id not in {record.id for record in first}
    lines.write_bytes(b'{"text": "b"}\n{"text": "a"}\n')
    assert len(read_all(lines, store)) == 2


def test_standard_input_gives_what_is_there_and_ends(store, monkeypatch):
    reading, writing = os.pipe()
    monkeypatch.setattr("serving.streams.files.os.dup", lambda _: reading)
    with source_of("-", store) as source:
        assert source.poll(10, 0.01).records == []
        os.write(writing, b'{"text": "a"}\n')
        assert [record.value for record in source.poll(10, 30).records] == [b'{"text": "a"}']
        os.close(writing)
        while (batch := source.poll(10, 1)) is not None:
            assert batch.records == []
        assert source.progress() is None


def test_a_sink_adds_lines_and_leaves_no_empty_file(tmp_path: Path):
    path = tmp_path / "scores.jsonl"
    sink = open_sink(Address.parse(str(path)))
    sink.close()
    assert not path.exists()
    path.write_bytes(b'{"id": "torn')
    sink = open_sink(Address.parse(str(path)))
    sink.write([Row("a", b'{"id":"a"}'), Row("b", b'{"id":"b"}')])
    sink.close()
    assert path.read_bytes() == b'{"id": "torn\n{"id":"a"}\n{"id":"b"}\n'
    with pytest.raises(ConfigError, match="a file that can be written"):
        open_sink(Address.parse(str(tmp_path / "none" / "scores.jsonl")))


# the loop -------------------------------------------------------------------------------------


@dataclass
class Listed:
    """A source and its batches: records in memory, given in order."""

    records: list[Record]
    acked: int = 0
    held: int = 0
    polled: int = 0
    log: list[str] = field(default_factory=list)

    def poll(self, limit, timeout_s):
        self.polled += 1
        found = self.records[self.acked : self.acked + limit]
        return ListedBatch(found, self) if found else None

    def hold(self):
        self.held += 1

    def lag(self):
        return Lag(messages=len(self.records) - self.acked)

    def progress(self):
        return None

    def close(self):
        pass


@dataclass
class ListedBatch:
    records: Sequence[Record]
    source: Listed

    def ack(self):
        self.source.log.append("ack")
        self.source.acked += len(self.records)


@dataclass
class Kept:
    """A sink in memory that fails as often as told."""

    name: str
    log: list[str]
    fails: int = 0
    rows: list[Row] = field(default_factory=list)

    def write(self, rows):
        if self.fails:
            self.fails -= 1
            raise StreamError("a sink", "none", "wait")
        self.log.append(self.name)
        self.rows += rows

    def close(self):
        pass


def scored(messages):
    return [
        ScoredMessage(
            message, (Prediction(message.id, "sentiment", "neutral", (0.1, 0.8, 0.1), 3, "ab" * 32, NOW),), "neutral"
        )
        for message in messages
    ]


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("serving.streams.stream.FIRST_S", 0.001)


class Scene:
    """A stream over records in memory, with a real store."""

    def __init__(self, store, values, score=scored, sink_fails=0):
        self.store = store
        self.source = Listed([record(value, number) for number, value in enumerate(values)])
        self.sink = Kept("sink", self.source.log, sink_fails)
        self.letters = Kept("letters", self.source.log)
        self.registry = CollectorRegistry()
        self.stream = Stream(
            self.source,
            self.sink,
            self.letters,
            reader=Reader(Settings(), "list"),
            score=score,
            labels=LABELS,
            store=store,
            metrics=StreamMetrics(self.registry),
            batch=4,
        )

    def stored(self):
        return self.store.count("sentiment", datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def values(count):
    return [orjson.dumps({"id": str(number), "text": "good", "sent_at": NOW.isoformat()}) for number in range(count)]


def test_the_acknowledgement_comes_last(store, quick):
    scene = Scene(store, [*values(2), b"{"])
    totals = scene.stream.run()
    assert scene.source.log == ["sink", "letters", "ack"]
    assert (totals.messages, totals.new, totals.dead_letters) == (2, 2, 1)
    assert orjson.loads(scene.sink.rows[0].value)["tasks"]["sentiment"]["label"] == "neutral"
    found = scene.registry.get_sample_value
    assert found("undertone_stream_messages_total") == 2
    assert found("undertone_stream_dead_letters_total") == 1
    assert found("undertone_stream_insight_seconds_count") == 2
    assert found("undertone_stream_lag_messages") == 0


def test_a_sink_that_is_away_is_waited_for_and_nothing_is_scored_twice(store, quick):
    calls = []

    def score(messages):
        calls.append(len(messages))
        return scored(messages)

    scene = Scene(store, values(6), score, sink_fails=3)
    assert scene.stream.run().messages == 6
    assert calls == [4, 2]
    assert scene.source.held >= 3
    assert [row.id for row in scene.sink.rows] == [str(number) for number in range(6)]
    assert scene.stream.waiting is None


def test_a_store_and_a_champion_that_are_away_are_waited_for(store, quick, monkeypatch):
    problems = [StoreError("a store", "none", "wait"), NoModel("a champion", "none", "approve one")]
    record_it = type(store).record

    def flaky(self, items):
        if len(problems) == 2:
            raise problems.pop(0)
        return record_it(self, items)

    def score(messages):
        if len(problems) == 1:
            raise problems.pop()
        return scored(messages)

    monkeypatch.setattr(type(store), "record", flaky)
    scene = Scene(store, values(8), score)
    assert scene.stream.run().new == 8
    assert scene.stored() == 8
    assert not problems


def test_nothing_is_asked_for_before_messages_can_be_scored(store, quick):
    scene, looks = Scene(store, values(2)), []

    def ready():
        looks.append(scene.source.polled)
        if len(looks) < 3:
            raise NoModel("a champion", "none", "approve one")

    scene.stream._ready = ready
    assert scene.stream.run().messages == 2
    assert looks == [0, 0, 0]


def test_a_stop_while_waiting_acknowledges_nothing(store, quick):
    scene = Scene(store, values(3), sink_fails=10**9)
    scene.source.hold = scene.stream.stop
    assert scene.stream.run().messages == 0
    assert scene.source.acked == 0
    assert "a sink" in str(scene.stream.waiting)
    again = Scene(store, values(3))
    totals = again.stream.run()
    assert (totals.messages, totals.new) == (3, 0)  # stored before: at least once, with effects once
    assert again.stored() == 3


def test_a_message_that_no_model_can_read_stands_alone(store, quick):
    def score(messages):
        if any(message.id == "1" for message in messages):
            raise ValueError("probabilities that are no numbers")
        return scored(messages)

    scene = Scene(store, values(4), score)
    totals = scene.stream.run()
    assert (totals.messages, totals.dead_letters) == (3, 1)
    assert orjson.loads(scene.letters.rows[0].value)["place"] == "messages/0/1"


def test_a_model_that_reads_nothing_is_waited_for(store, quick):
    broken = [ValueError("a broken model")] * 6  # the batch, each of it, and what is tried last

    def score(messages):
        if broken:
            raise broken.pop()
        return scored(messages)

    scene = Scene(store, values(4), score)
    assert scene.stream.run().messages == 4
    assert scene.letters.rows == []


def test_a_message_that_comes_twice_is_stored_once_and_answered_each_time(store, quick):
    scene = Scene(store, [*values(3), *values(3)])
    totals = scene.stream.run()
    assert (totals.messages, totals.new, scene.stored()) == (6, 3, 3)
    assert len(scene.sink.rows) == 6


def test_times_before_they_were_sent_count_as_none(store):
    metrics = StreamMetrics(registry := CollectorRegistry())
    metrics.stored([Message("a", "x", sent_at=NOW), Message("b", "x")], NOW.replace(year=2025))
    assert registry.get_sample_value("undertone_stream_insight_seconds_count") == 1
    assert registry.get_sample_value("undertone_stream_insight_seconds_sum") == 0
