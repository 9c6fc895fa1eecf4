"""Whatever bytes come in, the outcome is messages or an error with three parts."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.wire import NotJson, TooMany, parse
from undertone.errors import DataError

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ANY_TEXT = st.text(st.characters(), max_size=30)  # lone surrogates included
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT | st.sampled_from(["text", "id"]), inner),
    max_leaves=12,
)


def read(body, limit=10, chars=50):
    return parse(
        body if isinstance(body, bytes) else json.dumps(body).encode(), NOW, max_messages=limit, max_chars=chars
    )


def survives(body):
    try:
        messages = read(body)
    except DataError as error:
        parts = error.as_dict()
        json.dumps(parts, ensure_ascii=False).encode()  # as it is sent
        assert all(parts.values())
    else:
        for message in messages:
            assert message.text.strip()
            assert message.id.strip()
            for word in (message.text, message.id, message.channel or "", message.customer_id or ""):
                assert "\x00" not in word
                word.encode()


@given(st.binary(max_size=200))
def test_any_bytes(body):
    survives(body)


@given(ANY_JSON)
def test_any_json(value):
    survives(value)


@given(
    st.lists(
        st.fixed_dictionaries(
            {"text": ANY_TEXT},
            optional={"id": ANY_TEXT, "channel": ANY_TEXT, "customer_id": ANY_TEXT, "sent_at": ANY_TEXT},
        ),
        max_size=4,
    )
)
def test_any_messages(items):
    survives({"messages": items})


@given(st.datetimes(timezones=st.timezones() | st.just(UTC)))
def test_any_moment_is_kept_in_utc_or_refused(moment):
    written = moment.isoformat()
    try:
        (message,) = read({"text": "good", "sent_at": written})
    except DataError:
        at_the_calendars_end = moment.year in (1, 9999)
        assert at_the_calendars_end
    else:
        assert message.sent_at == moment.astimezone(UTC)  # zones never compare equal in an ambiguous hour
        assert message.sent_at.utcoffset().total_seconds() == 0


@pytest.mark.parametrize("name", ["sent_at", "time"])
def test_a_time_without_zone_is_utc_under_both_names(name):
    (message,) = read({"text": "good", name: "2026-11-24T10:00:00"})
    assert message.sent_at == datetime(2026, 11, 24, 10, tzinfo=UTC)


def test_a_lone_surrogate_is_replaced_and_a_pair_is_an_emoji():
    (message,) = read(b'{"text": "\\ud800 good \\ud83d\\ude00"}')
    assert message.text == "\ufffd good \U0001f600"


def test_a_long_text_is_cut_and_flagged():
    short, long = read({"messages": [{"text": "x" * 50}, {"text": "x" * 51}]})
    assert (short.truncated, long.truncated) == (False, True)
    assert len(long.text) == 50


def test_the_limit_is_inclusive_and_checked_before_the_messages():
    assert len(read({"messages": [{"text": "good"}] * 10})) == 10
    with pytest.raises(TooMany, match="11"):
        read({"messages": [5] * 11})


def test_an_error_says_how_many_faults_there_are():
    with pytest.raises(DataError, match=r"messages\.0\.text.*and 2 more"):
        read({"messages": [{}, {}, {}]})


def test_other_encodings_are_refused():
    with pytest.raises(NotJson):
        read('{"text": "good"}'.encode("utf-16"))
    assert read(b"\xef\xbb\xbf" + b'{"text": "good"}')[0].text == "good"
