"""A scored message survives its line on disk, and a damaged file yields what it can."""

import io
import logging
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from serving.spool_line import decode, encode
from undertone.records import Message, Prediction, ScoredMessage

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
MOMENTS = st.datetimes(timezones=st.just(UTC))
PREDICTIONS = st.builds(
    Prediction,
    message_id=WORDS,
    task=WORDS,
    label=WORDS,
    probabilities=st.lists(st.floats(0, 1), min_size=1, max_size=4).map(tuple),
    model_version=st.integers(1, 2**31 - 1),
    model_digest=WORDS,
    scored_at=MOMENTS,
    embedding=st.none() | st.binary(max_size=20),
)
SCORED = st.builds(
    ScoredMessage,
    message=st.builds(
        Message,
        id=WORDS,
        text=WORDS,
        channel=st.none() | WORDS,
        segment=st.none() | WORDS,
        customer_id=st.none() | WORDS,
        sent_at=st.none() | MOMENTS,
        received_at=st.none() | MOMENTS,
        truncated=st.booleans(),
    ),
    predictions=st.lists(PREDICTIONS, max_size=3).map(tuple),
    final_sentiment=st.none() | WORDS,
    final_reason=st.none() | WORDS,
)


def stream(data):
    made = io.BytesIO(data)
    made.name = "segment"
    return made


@given(st.lists(SCORED, max_size=4))
def test_what_is_written_is_read(items):
    data = b"".join(encode(item) for item in items)
    assert data.count(b"\n") == len(items)
    assert list(decode(stream(data))) == items


@given(st.lists(SCORED, min_size=1, max_size=3), st.data())
def test_a_file_cut_anywhere_gives_its_whole_lines(items, data):
    lines = [encode(item) for item in items]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    complete = whole[:cut].count(b"\n")
    logging.disable()
    try:
        assert list(decode(stream(whole[:cut]))) == items[:complete]
    finally:
        logging.disable(logging.NOTSET)


def test_a_line_that_is_no_message_is_none():
    good = encode(ScoredMessage(Message("m-1", "good"), ()))
    assert [item is None for item in decode(stream(good + b"{}\n[1]\n\xff\n5\n" + good))] == [False, *[True] * 4, False]


def test_embeddings_keep_their_bytes():
    answer = Prediction("m", "t", "l", (1.0,), 1, "d", datetime(2026, 1, 1, tzinfo=UTC), bytes(range(256)))
    (found,) = decode(stream(encode(ScoredMessage(Message("m", "x"), (answer,)))))
    assert found is not None
    assert found.predictions[0].embedding == bytes(range(256))
