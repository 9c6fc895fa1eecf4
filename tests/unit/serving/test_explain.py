"""What a request may ask for, and how words are counted. What captum says of a graph: see the integration tests."""

import asyncio
from datetime import UTC, datetime

import pytest

from serving import explain
from serving.errors import Overloaded, TooMany
from serving.explain import Explainer
from serving.explain_child import WORDS, _grouped
from serving.http import Call
from undertone.errors import DataError
from undertone.settings import Settings


def call(query):
    return Call("POST", "/v1/score", query, {}, datetime(2026, 11, 2, tzinfo=UTC), "r", 0.0)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [("", False), ("explain=true", True), ("a=b&explain=1", True), ("explain=false", False), ("explain=", False)],
)
def test_the_query_asks(query, wanted):
    assert explain.wanted(call(query)) is wanted


def test_another_word_is_refused():
    with pytest.raises(DataError, match="perhaps"):
        explain.wanted(call("explain=perhaps"))


def test_at_most_so_many_messages():
    explain.refuse_many(explain.MESSAGES)
    with pytest.raises(TooMany, match="21"):
        explain.refuse_many(explain.MESSAGES + 1)


def spans(count):
    return [(place, place + 1) for place in range(count)]


def test_tokens_of_a_word_stay_together_and_special_ones_are_left_out():
    assert _grouped([None, 0, 0, 1, 2, 2, 2, None], spans(8)) == [[1, 2], [3], [4, 5, 6]]
    assert _grouped([None, None], spans(2)) == []


def test_the_name_of_an_emoji_is_one_word_and_two_emoji_are_two():
    assert _grouped([None, 0, 1, 2, 3, 4, None], [(0, 0), (0, 3), (3, 4), (3, 4), (4, 5), (4, 5), (0, 0)]) == [
        [1],
        [2, 3],
        [4, 5],
    ]


@pytest.mark.parametrize("count", [WORDS, WORDS + 1, 127, 500])
def test_neighbours_of_a_long_text_count_as_one(count):
    groups = _grouped([None, *range(count), None], spans(count + 2))
    assert len(groups) == WORDS
    assert [place for group in groups for place in group] == list(range(1, count + 1))
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_without_time_nothing_is_started(tmp_path):
    async def ask():
        explainer = Explainer({}, Settings(home=tmp_path))
        with pytest.raises(Overloaded, match="time left"):
            await explainer.prepare(asyncio.get_running_loop().time() + 0.1)
        return explainer.processes

    assert asyncio.run(ask()) == []
