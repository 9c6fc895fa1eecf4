"""Who takes part in a trial, what is counted, and when the champion gets everybody back."""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.trial import OTHER, SLICES, Comparison, at_least, evidence, takes_part, verdict
from undertone.records import Message
from undertone.tasks import TrialPolicy
from undertone.trial_figures import Figures

LABELS = ("negative", "neutral", "positive")
GOOD, BAD = (0.1, 0.1, 0.8), (0.7, 0.2, 0.1)
POLICY = TrialPolicy()

names = st.text(min_size=1, max_size=20)
shares = st.floats(0.001, 1)


@given(task=names, customer=names, one=names, other=names, smaller=shares, larger=shares)
def test_a_customer_stays_in_as_the_share_grows(
    task: str, customer: str, one: str, other: str, smaller: float, larger: float
) -> None:
    smaller, larger = sorted((smaller, larger))
    first, second = (Message(id, "text", customer_id=customer) for id in (one, other))
    assert takes_part(task, first, smaller) == takes_part(task, second, smaller)
    assert takes_part(task, second, larger) or not takes_part(task, first, smaller)
    assert takes_part(task, first, 1.0)


def test_a_share_is_that_share_of_the_customers_and_another_one_for_another_task() -> None:
    customers = [Message("m", "text", customer_id=f"customer {number}") for number in range(20_000)]
    drawn = {task: {m.customer_id for m in customers if takes_part(task, m, 0.05)} for task in ("sentiment", "emotion")}
    assert len(drawn["sentiment"]) / 20_000 == pytest.approx(0.05, abs=0.005)
    assert len(drawn["sentiment"] & drawn["emotion"]) < 100  # 50 are expected by chance
    assert takes_part("sentiment", Message("m1", "text"), 0.3) == takes_part("sentiment", Message("m1", "other"), 0.3)


def replay(rate: float, messages: int, seed: int, policy: TrialPolicy = POLICY) -> int | None:
    """The message after which a challenger that disagrees at `rate` is returned, looking after each; None: never."""
    chance, disagreed = random.Random(seed), 0
    for compared in range(1, messages + 1):
        disagreed += chance.random() < rate
        if not verdict(Figures(compared=compared, disagreed=disagreed), policy).goes_on:
            return compared
    return None


@given(messages=st.integers(0, 10**7))
def test_identical_models_never_return(messages: int) -> None:
    assert verdict(Figures(compared=messages), POLICY).goes_on


def test_one_that_disagrees_in_two_of_five_is_returned_as_soon_as_it_may_be() -> None:
    assert [replay(0.4, 1_000, seed) for seed in range(20)] == [POLICY.min_messages] * 20
    assert all(replay(0.25, 1_000, seed) for seed in range(20))


def wilson(disagreed: int, compared: int, z: float = 1.645) -> float:
    """Lower end of a one-sided 95 % interval that is right when it is looked at once (Wilson, 1927)."""
    share, width = disagreed / compared, z * z / compared
    return (share + width / 2 - z * math.sqrt((share * (1 - share) + width / 4) / compared)) / (1 + width)


def test_looking_after_every_message_returns_no_more_than_the_level_allows() -> None:
    """At the limit itself, the worst case: 200 canaries, a look after each of 1,000 messages."""
    returned = [replay(0.15, 1_000, seed) for seed in range(200)]
    assert sum(found is not None for found in returned) <= 10  # one in twenty
    by_wilson = 0
    for seed in range(200):
        chance, disagreed = random.Random(seed), 0
        for compared in range(1, 1_001):
            disagreed += chance.random() < 0.15
            if compared >= POLICY.min_messages and wilson(disagreed, compared) > 0.15:
                by_wilson += 1
                break
    assert by_wilson >= 30  # an interval for one look ends at least three times as many as it promises


def test_a_small_excess_takes_longer() -> None:
    assert 400 <= statistics.median(replay(0.2, 3_000, seed) or 3_000 for seed in range(21)) <= 800


def test_a_difference_needs_enough_messages_and_a_shadow_may_differ_as_it_likes() -> None:
    assert verdict(Figures(compared=199, disagreed=199), POLICY).goes_on
    ended = verdict(Figures(compared=200, disagreed=80), POLICY)
    assert ended.reason == (
        "challenger and champion differ in 80 of 200 messages: at least 29.4% of all, more than 15%"
    )
    any_difference = POLICY.model_copy(update={"max_disagreement": 1.0})
    assert verdict(Figures(compared=10_000, disagreed=10_000), any_difference).goes_on


@pytest.mark.parametrize(
    ("compared", "errors", "goes_on"),
    [(10_000, 2, True), (10_000, 3, False), (99, 1, True), (98, 1, False), (0, 1, False)],
)
def test_errors_return_at_three_or_above_one_in_a_hundred(compared: int, errors: int, goes_on: bool) -> None:
    assert verdict(Figures(compared=compared, errors=errors), POLICY).goes_on is goes_on


@given(compared=st.integers(1, 5_000), data=st.data(), limit=st.floats(0.01, 0.9))
def test_more_disagreement_is_more_evidence_and_a_higher_limit_less(
    compared: int, data: st.DataObject, limit: float
) -> None:
    disagreed = data.draw(st.integers(0, compared - 1))
    assert evidence(disagreed, compared, limit) <= evidence(disagreed + 1, compared, limit)
    assert evidence(disagreed, compared, limit) >= evidence(disagreed, compared, min(limit + 0.05, 1.0)) - 1e-9


@given(compared=st.integers(1, 5_000), data=st.data())
def test_the_lower_end_is_below_what_was_seen_and_agrees_with_the_verdict(compared: int, data: st.DataObject) -> None:
    disagreed = data.draw(st.integers(0, compared))
    low = at_least(disagreed, compared)
    assert 0 <= low <= disagreed / compared
    policy = POLICY.model_copy(update={"min_messages": 1})
    if abs(low - policy.max_disagreement) > 1e-6:
        assert verdict(Figures(compared=compared, disagreed=disagreed), policy).goes_on is (
            low < policy.max_disagreement
        )


def count(answers: list[tuple[str | None, tuple[float, ...], tuple[float, ...]]]) -> Figures:
    seen = Comparison()
    for channel, champion, challenger in answers:
        seen.compare(Message("m", "text", channel=channel, segment="retail"), LABELS, champion, challenger)
    return seen.figures()


def test_what_is_counted() -> None:
    seen = Comparison()
    for number in range(4):
        message = Message(f"m{number}", "text", channel="email" if number else "chat", segment="retail")
        agree = seen.compare(message, LABELS, GOOD, BAD if number == 3 else GOOD)
        assert agree is (number != 3)
    seen.fail(2)
    seen.drop()
    seen.time(0.002, 0.003)
    told = seen.figures().summary()
    assert (told["compared"], told["agreement"], told["errors"], told["dropped"]) == (4, 0.75, 2, 1)
    assert told["mean_probability_difference"] == pytest.approx(0.7 / 4)
    assert told["labels"]["positive"] == {"champion": 1.0, "challenger": 0.75}
    assert told["label_shift"] == 0.25
    assert (told["champion_ms"], told["challenger_ms"]) == (2.0, 3.0)
    assert told["slices"]["channel=email"] == {"compared": 3, "agreement": 0.6667}
    assert told["slices"]["channel=chat"]["agreement"] == 1.0
    assert told["slices"]["segment=retail"]["compared"] == 4


def test_slices_are_bounded() -> None:
    figures = count([(f"channel {number}", GOOD, GOOD) for number in range(500)])
    assert len(figures.slices) <= SLICES + 2
    assert figures.slices[f"channel={OTHER}"][0] > 400
    assert sum(compared for name, (compared, _) in figures.slices.items() if name.startswith("channel=")) == 500


answers = st.lists(
    st.tuples(st.sampled_from([None, "email", "chat"]), st.sampled_from([GOOD, BAD]), st.sampled_from([GOOD, BAD])),
    max_size=30,
)


@settings(max_examples=50)
@given(ours=answers, theirs=answers)
def test_figures_of_two_workers_add_up_to_those_of_one(ours: list, theirs: list) -> None:
    total, together = count(ours) + count(theirs), count(ours + theirs)
    assert total.model_copy(update={"difference": 0.0}) == together.model_copy(update={"difference": 0.0})
    assert total.difference == pytest.approx(together.difference)
    assert Figures.model_validate_json(total.model_dump_json()) == total
