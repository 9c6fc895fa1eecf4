"""Whatever bytes come in, the outcome is messages or an error with three parts."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.wire import NotJson, TooMany, parse
from undertone.errors import DataError
from undertone.masking import Masker

NOW = datetime(2026, 11, 24, tzinfo=UTC)
ANY_TEXT = st.text(st.characters(), max_size=30)  # lone surrogates included
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT | st.sampled_from(["text", "id"]), inner),
    max_leaves=12,
)


def read(body, limit=10, chars=50):
    return parse(
        body if isinstance(body, bytes) else json.dumps(body).encode(),
        NOW,
        max_messages=limit,
        max_chars=chars,
        mask=Masker(),
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


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"text": ""}, "messages.0"),
        ({"text": " \t\n\x00\x85"}, "messages.0"),
        ({"messages": [{"text": "good"}, {"text": "\x00"}]}, "messages.1"),
        ({"text": "  " * 30 + "good"}, "messages.0"),  # blank as far as it is read
        ({"text": 5}, "text"),
        ({"text": ["good"]}, "text"),
        ({"text": "good", "id": 5}, "id"),
        ({"text": "good", "channel": True}, "channel"),
        ({"text": "good", "language": "en"}, "language"),
        ({"messages": [{"text": "good"}], "model": 2}, "model"),
        ({"text": "good", "time": 1_700_000_000}, "time"),
        ({"messages": []}, "messages"),
        ([{"text": "good"}], "dictionary"),
    ],
)
def test_what_is_not_a_message_is_named(body, named):
    with pytest.raises(DataError) as refused:
        read(body)
    assert not isinstance(refused.value, NotJson | TooMany)
    assert named in refused.value.found


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b'{"text":' * 50_000, b"9" * 5_000, b'{"text": "\xff"}'])
def test_what_is_not_json_is_told_apart(body):
    with pytest.raises(NotJson):
        read(body)


def test_one_message_and_many_read_the_same():
    item = {"id": "a", "text": "good", "channel": "chat", "segment": "gold", "customer_id": "c"}
    (alone,) = read(item)
    among = read({"messages": [{"text": "x"}, item]})
    assert among[1] == alone
    assert (alone.id, alone.text, alone.channel, alone.segment, alone.customer_id) == ("a", "good", "chat", "gold", "c")
    assert alone.received_at == NOW
    assert len({message.id for message in read({"messages": [{"text": "x"}] * 5})}) == 5


def test_ten_thousand_messages_are_too_many():
    with pytest.raises(TooMany) as refused:
        read({"messages": [{"text": "good"}] * 10_000}, limit=1_000)
    assert "1,000" in refused.value.expected
    assert "10,000" in refused.value.found


def test_a_megabyte_of_text_is_cut_and_flagged():
    (message,) = read({"text": "good " * 200_000}, chars=20_000)
    assert (len(message.text), message.truncated) == (20_000, True)


def test_control_characters_become_spaces_and_a_spelt_out_backslash_stays():
    (message,) = read(b'{"id": "a\\u0000b", "text": "a\\u0007b\\u009fc \\\\ud800", "channel": "\\u0000"}')
    assert (message.id, message.text, message.channel) == ("a b", "a b c \\ud800", None)


@pytest.mark.parametrize("lone", [b"\\ud83d", b"\\uD83D", b"\\udfff", b"\\uDFFF"])
def test_a_lone_surrogate_is_replaced_in_every_field_and_repeated_safely(lone):
    fields = (b'"%s": "a%sb"' % (name, lone) for name in (b"id", b"text", b"channel", b"segment", b"customer_id"))
    (message,) = read(b"{" + b", ".join(fields) + b"}")
    found = {message.id, message.text, message.channel, message.segment, message.customer_id}
    assert found == {"a\ufffdb"}
    with pytest.raises(DataError, match="x\ufffd"):
        read(b'{"text": "good", "x%s": 1}' % lone)
