"""The same for a file, Kafka and Kinesis: what is not acknowledged comes again, what is does not."""

import time

import orjson

VALUES = [orjson.dumps({"id": f"m-{number}", "text": "good"}) for number in range(30)]


def take(source, count, limit=30):
    """Batches until `count` records came."""
    batches, found = [], 0
    deadline = time.monotonic() + 60
    while found < count:
        assert time.monotonic() < deadline, f"{found} of {count} records"
        batch = source.poll(min(limit, count - found), 0.5)
        assert batch is not None, f"the source ended after {found} of {count} records"
        assert len(batch.records) <= limit
        found += len(batch.records)
        if batch.records:
            batches.append(batch)
    return batches


def records(batches):
    return {record.id: record for batch in batches for record in batch.records}


def nothing_more(source):
    batch = source.poll(10, 0.3)
    return batch is None or not batch.records


def test_what_is_acknowledged_does_not_come_again_and_the_rest_does(place):
    place.write(VALUES)
    with place.source() as source:
        done = take(source, 10, limit=7)
        for batch in done:
            batch.ack()
        source.hold()
        lost = take(source, 12)  # never acknowledged: its reader ends
    with place.source() as source:
        left = take(source, 20)
        assert nothing_more(source)
    first, again, never = records(done), records(left), records(lost)
    assert len(first) == 10
    assert len(again) == 20
    assert not first.keys() & again.keys()
    assert never.keys() <= again.keys()  # the same ids and places as the first time
    assert {again[id].place for id in never} == {record.place for record in never.values()}
    assert sorted(record.value for record in (*first.values(), *again.values())) == sorted(VALUES)


def test_a_group_of_its_own_has_all_messages(place):
    place.write(VALUES)
    for group in ("one", "two"):
        with place.source(group) as source:
            found = take(source, len(VALUES))
            for batch in found:
                batch.ack()
            assert sorted(record.value for record in records(found).values()) == sorted(VALUES)
            assert all(len(record.id) <= 200 for record in records(found).values())
