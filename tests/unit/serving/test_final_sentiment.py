import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.final_sentiment import decide


def heard(probability):
    return {"not_sarcastic": 1 - probability, "sarcastic": probability}


@pytest.mark.parametrize(
    ("sentiment", "sarcastic", "final"),
    [
        ("positive", 0.0, "positive"),
        ("positive", 0.89, "positive"),
        ("positive", 0.9, "negative"),
        ("positive", 1.0, "negative"),
        ("neutral", 0.9, "neutral"),
        ("neutral", 0.94, "neutral"),
        ("neutral", 0.95, "negative"),
        ("negative", 0.0, "negative"),
        ("negative", 1.0, "negative"),
    ],
)
def test_the_rule(sentiment, sarcastic, final):
    found = decide(sentiment, heard(sarcastic))
    assert found is not None
    assert found.label == final
    assert ("sarcastic" in found.reason) == (final != sentiment)


def test_one_model_alone():
    assert decide(None, heard(0.9)) is None
    alone = decide("positive", None)
    assert alone is not None
    assert alone.label == "positive"
    assert "no sarcasm model" in alone.reason


@given(st.sampled_from(["negative", "neutral", "positive"]), st.floats(0, 1), st.floats(0, 1))
def test_more_sarcasm_never_makes_it_better(sentiment, one, other):
    order = ["negative", "neutral", "positive"]
    less, more = decide(sentiment, heard(min(one, other))), decide(sentiment, heard(max(one, other)))
    assert less is not None
    assert more is not None
    assert order.index(more.label) <= order.index(less.label) <= order.index(sentiment)


def test_labels_are_found_by_name_and_not_by_place():
    found = decide("positive", {"sarcastic": 0.9, "not_sarcastic": 0.1})
    assert found is not None
    assert found.label == "negative"
