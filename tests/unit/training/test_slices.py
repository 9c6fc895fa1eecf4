from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.slices import membership


def slices_of(text: str, kinds: tuple[str, ...]) -> list[str]:
    return list(membership(pd.DataFrame({"text": [text]}), kinds))


@pytest.mark.parametrize(
    "text", ["It is NOT good", "never again", "I don't know", "they can’t", "it doesnt work", "without a word", "no."]
)
def test_negation_is_seen(text):
    assert slices_of(text, ("negation",)) == ["negation=yes"]


@pytest.mark.parametrize("text", ["a notable note", "know", "nothingness", "I want it now", "the pint"])
def test_words_that_only_look_like_negation_are_not(text):
    assert slices_of(text, ("negation",)) == []


@pytest.mark.parametrize(
    "text",
    [
        "Oh great, late again",
        "yeah right",
        "just what I needed",
        "Thanks for nothing",
        "fine 🙄",
        "nice /s",
        "#sarcasm",
    ],
)
def test_sarcasm_cues_are_seen(text):
    assert slices_of(text, ("sarcasm_cue",)) == ["sarcasm_cue=yes"]


@pytest.mark.parametrize("text", ["a great parcel", "thanks a million", "and/should", "#sarcastically", "right"])
def test_plain_words_are_no_cue(text):
    assert slices_of(text, ("sarcasm_cue",)) == []


@given(st.lists(st.sampled_from(["chat", "email", None]), min_size=1), st.integers(1, 60))
def test_columns_and_lengths_partition_the_rows_that_have_a_value(channels, words):
    frame = pd.DataFrame({"text": ["w " * words] * len(channels), "channel": channels})
    found = membership(frame, ("channel", "segment", "length"))
    by_channel = [rows for name, rows in found.items() if name.startswith("channel=")]
    assert np.sum(by_channel, axis=0, initial=0).sum() == sum(channel is not None for channel in channels)
    (length,) = [name for name in found if name.startswith("length=")]
    assert length == f"length={'short' if words <= 10 else 'medium' if words <= 25 else 'long'}"
    assert not [name for name in found if name.startswith("segment=")]


def test_frozen_and_recent_are_slices_only_where_there_are_both():
    frame = pd.DataFrame({"text": ["a", "b", "c"], "holdout": ["frozen", "frozen", "recent"]})
    found = membership(frame, ("holdout",))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "holdout=frozen": [True, True, False],
        "holdout=recent": [False, False, True],
    }
    assert membership(frame[:2], ("holdout",)) == {}
    assert membership(frame.drop(columns="holdout"), ("holdout",)) == {}
