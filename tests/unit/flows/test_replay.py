"""Stored messages into a stream: at the pace they were sent in, with times of now."""

from datetime import UTC, datetime

import orjson
import pytest

from flows.replay import TICK_S, _paced, replay_into, stream_text
from undertone.errors import ConfigError

TABLE = """id,time,text,channel,label
b,2026-01-01T00:00:20Z,second,chat,x
a,2026-01-01T00:00:00Z,first,chat,x
c,2026-01-01T00:00:21Z,third,,x
d,2026-01-01T00:01:00Z,fourth,email,x
"""


def replayed(tmp_path, speed, table=TABLE):
    (tmp_path / "messages.csv").write_text(table)
    before = datetime.now(UTC)
    result = replay_into(str(tmp_path / "messages.csv"), str(tmp_path / "out.jsonl"), speed)
    lines = [orjson.loads(line) for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
    return result, lines, [(datetime.fromisoformat(line.pop("sent_at")) - before).total_seconds() for line in lines]


def test_messages_go_in_order_of_time_at_a_multiple_of_their_pace(tmp_path):
    result, lines, sent = replayed(tmp_path, 200)
    assert lines == [
        {"id": "a", "text": "first", "channel": "chat"},
        {"id": "b", "text": "second", "channel": "chat"},
        {"id": "c", "text": "third"},
        {"id": "d", "text": "fourth", "channel": "email"},
    ]
    # 0, 20, 21 and 60 seconds, two hundred times as fast; the second and third go together
    assert [moment - sent[0] for moment in sent] == pytest.approx([0, 0.105, 0.105, 0.3])
    assert result["messages"] == 4
    assert result["seconds"] >= 0.3
    assert "4 messages" in stream_text(result)


def test_without_a_pace_times_are_those_of_now(tmp_path):
    result, lines, sent = replayed(tmp_path, 0)
    assert len(lines) == 4
    assert max(sent) <= result["seconds"] + 30
    assert min(sent) >= 0


def test_a_pace_needs_times(tmp_path):
    with pytest.raises(ConfigError, match="messages with times"):
        replayed(tmp_path, 10, "id,text\na,first\n")


def test_what_is_due_within_a_tick_goes_together_and_nothing_goes_early():
    messages = [{"sent_at": f"2026-01-01T00:00:{second:02}Z"} for second in range(60)]
    groups = list(_paced(messages, 100.0))
    assert [message for _, group in groups for message in group] == messages
    for due, group in groups:
        seconds = [int(message["sent_at"][17:19]) / 100 for message in group]
        assert due == max(seconds)
        assert max(seconds) - min(seconds) <= TICK_S
