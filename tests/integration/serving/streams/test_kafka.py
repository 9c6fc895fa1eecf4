"""`undertone stream` on Kafka: several readers, poison, brokers, store and sink that are away, an orderly stop."""

import sqlite3
import time
from contextlib import suppress

import orjson
import pytest
from confluent_kafka import TopicPartition

from serving.streams.address import Address, open_sink, open_source
from serving.streams.base import Row, StreamError
from serving.streams.kafka import KafkaSource
from tests.integration.serving.streams.conftest import message
from undertone.errors import ConfigError


def test_scores_reach_store_and_sink_before_the_commit_and_poison_its_own_topic(ready, kafka, read_stream, until, rows):
    topic, scores, letters = kafka.topic(), kafka.topic(), kafka.topic()
    poison = {
        b"not JSON": "a JSON body",
        b'{"text": "good", "colour": "red"}': "a message",
        b'{"text": "   "}': "text in every message",
        b'"a string"': "a message",
        b'{"text": "good", "sent_at": "yesterday"}': "a message",
        message(0, text="good " * 300): "at most 1,000 bytes",
        b"\xff\xfe": "a JSON body",
        b'{"messages": [{"text": "good"}]}': "a message",
    }
    good = [message(number) for number in range(1, 21)]
    unnamed = [b'{"text": "bad", "channel": "email"}'] * 2
    settings = ready.model_copy(update={"max_body_bytes": 1_000})
    kafka.produce(topic, [*good[:10], *poison, *good[10:], *unnamed])
    with read_stream(
        settings, source=kafka.url(topic), sink=kafka.url(scores), dead_letters=kafka.url(letters), batch=7
    ) as run:
        until(lambda: run.stream.totals.messages + run.stream.totals.dead_letters == 30, "all is done")
    assert kafka.committed(topic) == 30
    stored, _ = rows(settings)
    ids = {row["id"] for row in stored}
    assert {f"m-{number:04}" for number in range(1, 21)} < ids
    places = ids - {f"m-{number:04}" for number in range(1, 21)}
    assert len(places) == 2
    assert all(id.startswith(f"{topic}/") for id in places)
    answers = kafka.read(scores, 22)
    assert {answer["id"] for answer in answers} == ids
    assert all(answer["tasks"]["sentiment"]["version"] == 1 for answer in answers)
    told = kafka.read(letters, len(poison))
    reasons = sorted(letter["reason"]["expected"] for letter in told)
    assert all(found.startswith(reason) for found, reason in zip(reasons, sorted(poison.values()), strict=True))
    assert all(letter["place"].startswith(f"{topic}/") and "good" not in str(letter) for letter in told)


def test_two_readers_share_a_topic_and_one_leaves_without_loss_or_doubles(ready, kafka, read_stream, until, rows):
    topic, scores = kafka.topic(), kafka.topic()
    plan = {
        "source": kafka.url(topic),
        "sink": kafka.url(scores),
        "dead_letters": kafka.url(kafka.topic()),
        "batch": 20,
    }
    kafka.produce(topic, [message(number) for number in range(200)])
    sent = 200

    def both_work():
        nonlocal sent
        kafka.produce(topic, [message(number) for number in range(sent, sent + 8)])
        sent += 8
        return two.stream.totals.messages

    with read_stream(ready, **plan) as two:
        with read_stream(ready, **plan) as one:
            until(lambda: one.stream.totals.messages + two.stream.totals.messages >= 20, "one has begun")
            until(lambda: both_work() and one.stream.totals.messages, "both have their share", 60)
            kafka.produce(topic, [message(number) for number in range(sent, sent + 40)])
            sent += 40
        # the first left in the middle of its work: its partitions go to the second
        until(lambda: one.stream.totals.new + two.stream.totals.new == sent, "all is stored", 60)
    assert [row["id"] for row in rows(ready)[0]] == [f"m-{number:04}" for number in range(sent)]
    assert {answer["id"] for answer in kafka.read(scores, sent)} == {f"m-{number:04}" for number in range(sent)}
    assert kafka.committed(topic) == sent


def test_partitions_that_were_revoked_meanwhile_are_left_out_of_a_commit(kafka):
    topic = kafka.topic()
    kafka.produce(topic, [message(number) for number in range(8)])
    source = KafkaSource(Address.parse(kafka.url(topic)))
    records, batches = [], []
    deadline = time.monotonic() + 30
    while len(records) < 8 and time.monotonic() < deadline:
        batches.append(source.poll(100, 0.5))
        records += batches[-1].records
    assert len(records) == 8
    source._revoked(source._consumer, [TopicPartition(topic, 0), TopicPartition(topic, 1)])  # as in a poll while held
    for batch in batches:
        batch.ack()
    source.close()
    assert kafka.committed(topic) == 4


def test_a_store_that_is_away_is_waited_for_and_membership_kept(
    ready, kafka, read_stream, until, stored_ids, monkeypatch
):
    monkeypatch.setattr("serving.streams.run.STORE_S", 0.1)
    monkeypatch.setattr("serving.streams.stream.LAG_S", 0.1)
    topic = kafka.topic()
    with read_stream(ready, source=kafka.url(topic), sink="", dead_letters=kafka.url(topic)) as run:
        kafka.produce(topic, [message(0)])
        until(lambda: run.stream.totals.messages == 1, "the first is stored")
        lock = sqlite3.connect(ready.state_dir / "undertone.db", isolation_level=None)
        lock.execute("begin exclusive")
        kafka.produce(topic, [message(number) for number in range(1, 41)])
        waiting = until(lambda: run.stream.waiting, "the stream says that it waits")
        assert "the store at" in str(waiting)
        owned = dict(run.stream._source._owned)
        kafka.produce(topic, [message(number) for number in range(41, 61)])
        until(lambda: run.stream._metrics.lag_messages._value.get() >= 20, "the lag grows meanwhile")
        assert run.stream.totals.messages == 1
        lock.execute("rollback")
        lock.close()
        until(lambda: run.stream.totals.messages == 61, "all is stored")
        assert run.stream.waiting is None
        assert run.stream._source._owned == owned  # no rebalance meanwhile
    assert stored_ids(ready) == [f"m-{number:04}" for number in range(61)]


def test_a_broker_that_goes_away_and_comes_back(ready, mock_kafka, read_stream, until, stored_ids, caplog):
    kafka = mock_kafka
    topic, scores = kafka.topic(), kafka.topic()
    with read_stream(ready, source=kafka.url(topic), sink=kafka.url(scores), dead_letters=kafka.url(topic)) as run:
        kafka.produce(topic, [message(number) for number in range(8)])
        until(lambda: run.stream.totals.messages == 8, "the first are done")
        kafka.down()
        try:
            until(lambda: "does not answer" in caplog.text, "the stream says so")
        finally:
            kafka.up()
        kafka.produce(topic, [message(number) for number in range(8, 16)])
        until(lambda: run.stream.totals.new == 16, "all is done", 60)
    assert stored_ids(ready) == [f"m-{number:04}" for number in range(16)]
    assert len({answer["id"] for answer in kafka.read(scores, 16)}) == 16


def test_a_sink_that_refuses_raises_and_takes_the_same_rows_later(mock_kafka, until, monkeypatch):
    monkeypatch.setattr("serving.streams.kafka.DELIVERY_S", 1.0)
    topic = mock_kafka.topic()
    sink = open_sink(Address.parse(mock_kafka.url(topic)))
    rows = [Row(str(number), orjson.dumps({"id": str(number)})) for number in range(3)]
    mock_kafka.down()
    try:
        with pytest.raises(StreamError, match="rows taken by kafka://"):
            sink.write(rows)
    finally:
        mock_kafka.up()

    def taken():
        with suppress(StreamError):
            sink.write(rows)
            return True
        return False

    until(taken, "the rows are taken")
    sink.close()
    assert {row["id"] for row in mock_kafka.read(topic, 3)} == {"0", "1", "2"}


def test_no_broker_no_topic_and_options_that_nobody_knows_are_told(kafka, store, monkeypatch, tmp_path):
    monkeypatch.setattr("serving.streams.kafka.FIND_S", 0.3)
    with pytest.raises(StreamError, match=r"a Kafka broker at 127\.0\.0\.1:1 within"):
        open_source(Address.parse("kafka://127.0.0.1:1/messages"), store, 1_000)
    with pytest.raises(ConfigError, match=r"options that librdkafka knows.*no\.such\.option"):
        open_sink(Address.parse(f"kafka://{kafka.hosts}/messages?no.such.option=1"))
    options = tmp_path / "kafka.properties"
    options.write_text("# secrets of this client\nsecurity.protocol = nonsense\n")
    with pytest.raises(ConfigError, match="nonsense"):
        open_source(Address.parse(f"kafka://{kafka.hosts}/messages?config={options}"), store, 1_000)
    with pytest.raises(ConfigError, match="a file of librdkafka's options"):
        open_sink(Address.parse(f"kafka://{kafka.hosts}/messages?config={tmp_path}/none"))
