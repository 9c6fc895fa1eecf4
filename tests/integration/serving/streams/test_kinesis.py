"""Shards: shared out among readers, followed when they are split, refused rows, a stream that is none."""

import pytest

from serving.streams import kinesis as streams
from serving.streams.address import Address, open_sink, open_source
from serving.streams.base import Row, StreamError
from tests.integration.serving.streams.conftest import message
from undertone.errors import ConfigError


def take(source, until, count):
    found = []

    def enough():
        batch = source.poll(10, 0.05)
        found.extend(record.value for record in batch.records)
        batch.ack()
        return len(found) >= count

    until(enough, f"{count} records came")
    return found


def test_the_children_of_a_split_shard_come_after_it_and_nothing_is_lost(kinesis, store, until):
    name = kinesis.stream(shards=1)
    old, new = [message(number) for number in range(10)], [message(number) for number in range(10, 30)]
    kinesis.put(name, old)
    kinesis.client.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(2**127))
    kinesis.client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    kinesis.put(name, new)
    source = open_source(Address.parse(kinesis.url(name)), store, 1_000)
    found = take(source, until, 30)
    assert sorted(found[:10]) == old
    assert sorted(found[10:]) == new
    assert source.lag().seconds == 0
    source.close()
    # a reader that comes later finds the parent done
    later = open_source(Address.parse(kinesis.url(name)), store, 1_000)
    kinesis.put(name, [message(30)])
    assert take(later, until, 1) == [message(30)]
    later.close()


def test_two_readers_share_the_shards_and_one_takes_over(kinesis, store, until):
    name = kinesis.stream(shards=4)
    one, two = (open_source(Address.parse(kinesis.url(name)), store, 1_000) for _ in range(2))

    def fair():
        for source in (one, two):
            source.poll(10, 0).ack()
        return len(one._shards) == len(two._shards) == 2

    until(fair, "each has two shards")
    assert not one._shards.keys() & two._shards.keys()
    values = [message(number) for number in range(40)]
    kinesis.put(name, values)
    ours = take(one, until, 1)  # and then it leaves
    one.close()
    theirs = take(two, until, 40 - len(ours))
    assert sorted(ours + theirs) == values
    assert len(two._shards) == 4
    two.close()


def test_a_shard_that_went_to_another_reader_is_left_to_it(kinesis, store, until):
    name = kinesis.stream(shards=1)
    kinesis.put(name, [message(1)])
    source = open_source(Address.parse(kinesis.url(name)), store, 1_000)
    batch = until(lambda: (found := source.poll(10, 0.1)).records and found, "the record came")
    (shard,) = source._shards.values()
    lease = f"stream/g/{name}/{shard.id}"
    store.release(lease, shard.holder)
    with streams.lease.hold(store, lease):
        batch.ack()
        assert not source._shards
        assert source._positions.read() == {}
    source.close()


def test_a_sink_writes_more_than_one_call_takes(kinesis, store, until):
    name = kinesis.stream(shards=1)
    sink = open_sink(Address.parse(kinesis.url(name)))
    rows = [Row(str(number), message(number)) for number in range(600)]
    sink.write(rows)
    sink.close()
    source = open_source(Address.parse(kinesis.url(name)), store, 1_000)
    assert sorted(take(source, until, 600)) == [row.value for row in rows]
    source.close()


def test_no_stream_no_region_and_nobody_there_are_told(kinesis, store, monkeypatch):
    with pytest.raises(ConfigError, match="a stream none"):
        open_source(Address.parse(kinesis.url("none")), store, 1_000)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="a region for kinesis://messages"):
        open_sink(Address.parse("kinesis://messages"))
    with pytest.raises(StreamError, match="an answer from kinesis://messages"):
        open_sink(Address.parse("kinesis://messages?region=eu-central-1&endpoint=http://127.0.0.1:1/"))
