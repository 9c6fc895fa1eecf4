import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.final_sentiment import Voice, decide
from undertone.join import Feature, Join, Partner, names
from undertone.schema import REASON_CHARS

LABELS = ("negative", "neutral", "positive")
SARCASM = ("not_sarcastic", "sarcastic")
PARTNER = Partner(version=3, manifest_sha256="a" * 64, labels=SARCASM)


def voice(labels, probabilities, digest="a" * 64):
    return Voice(labels, tuple(probabilities), 3, digest)


def said(positive):
    return voice(LABELS, ((1 - positive) / 2, (1 - positive) / 2, positive))


def heard(sarcastic, labels=SARCASM, digest="a" * 64):
    ends = (1 - sarcastic, sarcastic) if labels == SARCASM else (sarcastic, 1 - sarcastic)
    return {"sarcasm": voice(labels, ends, digest)}


def join_of(turn=1.0, **changes):
    """Sentiment's own log-probabilities, and sarcasm times P(positive) taken from positive and given to negative."""
    told = names(LABELS, {"sarcasm": SARCASM})
    product = told.index("sarcasm heard x P(positive)")
    rows = []
    for row, sign in enumerate((1, 0, -1)):
        weights = [0.0] * len(told)
        weights[row], weights[product] = 1.0, sign * turn
        rows.append(tuple(weights))
    features = tuple(Feature(name=name, mean=0.0, scale=1.0) for name in told)
    values = {
        "labels": LABELS, "partners": {"sarcasm": PARTNER}, "adopted": True, "why": "it helps", "features": features,
        "weights": tuple(rows), "bias": (0.0, 0.0, 0.0), "review_below": 0.6,
    }  # fmt: skip
    return Join(**values | changes)


def test_praise_that_is_heard_as_sarcastic_is_negative_and_the_reason_says_so():
    found = decide(said(0.83), heard(0.91), join_of(), None)
    assert found.label == "negative"
    assert found.reason == "positive words (0.83), but heard as sarcastic (0.91): negative"
    assert 0.5 < found.probability < 1
    meant = decide(said(0.83), heard(0.04), join_of(), None)
    assert (meant.label, meant.needs_review) == ("positive", False)
    assert meant.reason == "positive words (0.83), not heard as sarcastic (0.04): positive"


@given(st.floats(0.34, 1), st.floats(0, 1), st.floats(0, 1))
def test_more_sarcasm_never_makes_praise_better(positive, one, other):
    less, more = (decide(said(positive), heard(value), join_of(), None) for value in sorted((one, other)))
    assert LABELS.index(more.label) <= LABELS.index(less.label)


@pytest.mark.parametrize(
    ("others", "join", "why"),
    [
        ({}, join_of(), "no sarcasm model serves"),
        (heard(0.99), None, "trained without a sarcasm model"),
        (heard(0.99), join_of(adopted=False, features=(), weights=(), bias=()), "not shown to help"),
        (heard(0.99, ("sarcastic", "sincere")), join_of(), "other labels"),
    ],
    ids=["no champion", "no join", "not adopted", "labels"],
)
def test_sentiment_alone_answers_where_the_join_cannot(others, join, why):
    found = decide(said(0.8), others, join, 0.85)
    assert (found.label, found.probability, found.needs_review) == ("positive", 0.8, True)
    assert found.reason.startswith("sentiment alone: ")
    assert why in found.reason


def test_another_sarcasm_version_is_heard_and_the_reason_names_the_one_it_was_fitted_with():
    found = decide(said(0.83), heard(0.91, digest="b" * 64), join_of(), None)
    assert found.label == "negative"
    assert found.reason.endswith("negative (fitted with sarcasm 3)")


@pytest.mark.parametrize(("limit", "needs"), [(None, None), (0.0, False), (0.99, True)])
def test_unsure_answers_need_a_person(limit, needs):
    assert decide(said(0.6), heard(0.5), join_of(review_below=limit), None).needs_review is needs


def test_emotion_is_told_where_it_is_read_and_a_reason_fits_the_store():
    emotions = ("anger", "joy", "optimism", "sadness")
    partners = {"sarcasm": PARTNER, "emotion": Partner(version=10**6, manifest_sha256="c" * 64, labels=emotions)}
    told = names(LABELS, {task: partner.labels for task, partner in partners.items()})
    features = tuple(Feature(name=name, mean=0.0, scale=1.0) for name in told)
    weights = tuple((1.0 if row == 0 else 0.0,) * len(told) for row in range(3))
    join = join_of(partners=partners, features=features, weights=weights)
    others = heard(0.2, digest="x") | {"emotion": voice(emotions, (0.7, 0.1, 0.1, 0.1))}
    found = decide(said(0.9), others, join, None)
    assert "anger (0.70)" in found.reason
    assert "fitted with sarcasm 3 and emotion 1000000" in found.reason
    assert len(found.reason) <= REASON_CHARS
    assert "no emotion model" in decide(said(0.9), heard(0.2), join, None).reason
