"""What is picked for review: unsure answers that differ, some at random, and what sentiment and sarcasm disagree on."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.review_picks import DISAGREEMENT_SHARE, RANDOM_SHARE, Candidate, Pick, find_candidates, pick, spread
from undertone.reviews import Reviews
from undertone.schema import messages
from undertone.store import Store

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def candidate(number: int, margin: float = 0.0, vector: np.ndarray | None = None, **more: object) -> Candidate:
    chances = (0.0, (1 - margin) / 2, (1 + margin) / 2)
    embedding = None if vector is None else vector.astype("<f2").tobytes()
    return Candidate(f"m{number:04}", "positive", chances, embedding=embedding, **more)  # type: ignore[arg-type]


def reasons(picks: list[Pick]) -> Counter:
    return Counter(one.reason for one in picks)


# a crowd of like messages, and many small groups -------------------------------------------------


def crowded(seed: int) -> tuple[list[Candidate], dict[str, int]]:
    """1,000 messages in 41 topics: the largest, of 600, is the one on which the model is the least sure."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(41, 16))
    made, topics = [], {}
    for number in range(1_000):
        topic = 0 if number < 600 else 1 + number % 40
        margin = float(random.uniform(0, 0.3) if topic == 0 else random.uniform(0.1, 0.9))
        one = candidate(number, margin, centres[topic] + random.normal(scale=0.15, size=16))
        made.append(one)
        topics[one.message_id] = topic
    return made, topics


@pytest.mark.parametrize("seed", range(5))
def test_what_is_picked_covers_more_topics_than_the_smallest_margins(seed: int) -> None:
    made, topics = crowded(seed)
    chosen = spread(made, 30, seed=seed)
    by_margin = sorted(made, key=lambda row: row.margin)[:30]
    covered, plain = ({topics[row.message_id] for row in rows} for rows in ([row for row, _ in chosen], by_margin))
    assert len(covered) >= 10 * len(plain)
    assert all(by_cluster for _, by_cluster in chosen)
    limit = np.quantile([row.margin for row in made], 1 / 3)
    assert all(row.margin <= limit for row, _ in chosen)  # different, and every one unsure


def test_the_random_share_stands_for_all_messages() -> None:
    made = [candidate(n, n / 1_000) for n in range(1_000)]
    margin = {row.message_id: row.margin for row in made}
    margins = [
        margin[one.message_id] for seed in range(60) for one in pick(made, 100, seed=seed) if one.reason == "random"
    ]
    assert len(margins) == 60 * round(100 * RANDOM_SHARE)
    assert np.mean(margins) == pytest.approx(0.5, abs=0.04)  # those that are left after the unsure ones have 0.54
    assert min(margins) < 0.01
    assert max(margins) > 0.99


def test_every_beginning_of_the_list_holds_each_kind_in_its_share() -> None:
    made = [candidate(n, n / 1_000, disagrees=n % 4 == 0, abstained=n < 300) for n in range(1_000)]
    picks = pick(made, 200, seed=1)
    by_chance = round(200 * RANDOM_SHARE)
    torn = round((200 - by_chance) * DISAGREEMENT_SHARE)
    assert reasons(picks) == {"random": by_chance, "disagreement": torn, "unsure": 200 - by_chance - torn}
    assert [one.priority for one in picks] == list(range(200))
    half = reasons(picks[:100])
    assert {name: abs(2 * count - reasons(picks)[name]) <= 2 for name, count in half.items()} == dict.fromkeys(
        half, True
    )
    assert 0.10 <= by_chance / 200 <= 0.20


def test_picks_do_not_depend_on_the_order_of_rows_and_no_message_comes_twice() -> None:
    random = np.random.default_rng(3)
    made = [candidate(n, random.uniform(), random.normal(size=8), disagrees=n % 9 == 0) for n in range(300)]
    picks = pick(made, 40, seed=1)
    assert picks == pick(made[::-1], 40, seed=1)
    assert picks != pick(made, 40, seed=2)
    assert len({one.message_id for one in picks}) == 40
    assert {one.weight for one in picks} == {1.0}
    assert reasons(picks)["diverse"] > 20
    assert len(pick(made, 1_000, seed=1)) == 300
    assert pick([], 10, seed=1) == []
    assert pick(made, 0, seed=1) == []


def test_embeddings_of_a_real_length_are_spread_as_well() -> None:
    random = np.random.default_rng(2)
    centres = random.normal(size=(20, 384))
    vectors = centres[np.arange(400) % 20] + random.normal(scale=0.3, size=(400, 384))
    made = [candidate(n, 0.001 * n, vectors[n]) for n in range(400)]
    chosen = [row for row, _ in spread(made, 20, seed=1)]
    assert len({int(row.message_id[1:]) % 20 for row in chosen}) >= 18
    assert chosen == [row for row, _ in spread(made[::-1], 20, seed=1)]


def test_messages_of_one_text_stand_for_one_cluster() -> None:
    same, other = np.ones(8), np.arange(8.0)
    made = [candidate(n, 0.01, same) for n in range(50)] + [candidate(n, 0.2, other + n) for n in range(50, 60)]
    chosen = [row.message_id for row, by_cluster in spread(made, 6, seed=1) if by_cluster]
    assert sum(name < "m0050" for name in chosen) == 1


def test_messages_without_an_embedding_come_by_margin() -> None:
    bare = [candidate(n, n / 100) for n in range(100)]
    assert [row.message_id for row, _ in spread(bare, 5, seed=1)] == [f"m{n:04}" for n in range(5)]
    random = np.random.default_rng(1)
    mixed = [candidate(n, n / 100, random.normal(size=4) if n % 2 else None) for n in range(100)]
    chosen = spread(mixed, 10, seed=1)
    assert Counter(by_cluster for _, by_cluster in chosen) == {True: 5, False: 5}
    broken = [candidate(n, 0.1, np.full(4, np.nan)) for n in range(4)] + [candidate(9, 0.1, np.ones(3))]
    assert len({row.message_id for row, _ in spread(broken, 3, seed=1)}) == 3


def test_few_candidates_of_a_kind_leave_their_places_to_the_others() -> None:
    few_torn = [candidate(n, 0.1, disagrees=n < 2) for n in range(100)]
    assert reasons(pick(few_torn, 20, seed=4))["disagreement"] in {1, 2}
    all_torn = [candidate(n, 0.1, disagrees=n > 1) for n in range(100)]
    assert sum(reasons(pick(all_torn, 20, seed=4)).values()) == 20
    stale = [candidate(n, 0.1, drawable=False) for n in range(100)]
    assert reasons(pick(stale, 20, seed=4)) == {"unsure": 20}  # "diverse" stands for a cluster
    labelled = [candidate(n, 0.1, labelled=True) for n in range(100)]
    assert reasons(pick(labelled, 20, seed=4)) == {"random": 3}
    assert reasons(pick(few_torn, 20, seed=4, reason="drift")) == {"drift": 17, "random": 3}


# from the store ----------------------------------------------------------------------------------


def put(store: Store, name: str, at: datetime, sentiment: str, sarcasm: str, final: str, **more: bool) -> None:
    message = Message(name, f"text of {name}", "chat", "pro", None, at, at)
    chances = {"negative": (0.8, 0.1, 0.1), "neutral": (0.1, 0.8, 0.1), "positive": (0.1, 0.1, 0.8)}[sentiment]
    answers = (
        Prediction(name, "sentiment", sentiment, chances, 3, "ab" * 32, at, needs_review=more.get("own")),
        Prediction(name, "sarcasm", sarcasm, (0.5, 0.5), 1, "ab" * 32, at),
    )
    store.record([ScoredMessage(message, answers, final, "", 0.8, needs_review=more.get("joined"))])


def test_candidates_say_why_a_person_may_be_wanted(store: Store) -> None:
    put(store, "plain", NOW, "positive", "not_sarcastic", "positive", own=False, joined=False)
    put(store, "turned", NOW, "positive", "not_sarcastic", "negative")
    put(store, "praise", NOW, "positive", "sarcastic", "positive")
    put(store, "blame", NOW, "negative", "sarcastic", "negative")
    put(store, "unsure", NOW, "neutral", "not_sarcastic", "neutral", own=True)
    put(store, "joined", NOW, "neutral", "not_sarcastic", "neutral", own=False, joined=True)
    put(store, "before", NOW - 9 * DAY, "positive", "sarcastic", "negative")
    put(store, "removed", NOW, "positive", "sarcastic", "negative")
    put(store, "told", NOW, "positive", "sarcastic", "negative")
    put(store, "asked", NOW, "positive", "sarcastic", "negative")
    with store.transaction() as connection:
        connection.execute(messages.update().where(messages.c.id == "removed").values(text="", text_removed_at=NOW))
    store.add_feedback([Feedback("told", "sentiment", "neutral", "bo", NOW)])
    Reviews(store).add("sentiment", "a", "audit", [Pick("asked", None, 1.0, "positive")], version=3, asked_at=NOW)
    found = {one.message_id: one for one in find_candidates(store, "sentiment", 3, NOW - DAY, NOW + DAY, limit=99)}
    assert set(found) == {"plain", "turned", "praise", "blame", "unsure", "joined", "told"}
    assert {name for name, one in found.items() if one.disagrees} == {"turned", "praise", "told"}
    assert {name for name, one in found.items() if one.abstained} == {"unsure", "joined"}
    assert {name for name, one in found.items() if one.labelled} == {"told"}
    sarcasm = {one.message_id: one for one in find_candidates(store, "sarcasm", 1, NOW - DAY, NOW + DAY, limit=99)}
    assert {name for name, one in sarcasm.items() if one.disagrees} == {"turned", "praise", "told", "asked"}
    assert not any(one.abstained or one.labelled for one in sarcasm.values())
    assert find_candidates(store, "sentiment", 4, NOW - DAY, NOW + DAY, limit=99) == []


def test_what_is_rare_is_found_beside_a_small_sample_and_only_new_messages_are_drawn(store: Store) -> None:
    for number in range(60):
        put(store, f"m{number}", NOW, "positive", "sarcastic" if number == 17 else "not_sarcastic", "positive")
    found = find_candidates(store, "sentiment", 3, NOW - DAY, NOW + DAY, limit=5)
    assert {one.message_id for one in found if one.disagrees} == {"m17"}
    assert (len(found), sum(one.drawable for one in found)) in {(5, 5), (6, 5)}
    seen = find_candidates(store, "sentiment", 3, NOW - DAY, NOW + DAY, limit=99, since=NOW)
    assert not any(one.drawable for one in seen)
    put(store, "new", NOW + DAY / 2, "positive", "not_sarcastic", "positive")
    seen = find_candidates(store, "sentiment", 3, NOW - DAY, NOW + DAY, limit=99, since=NOW)
    assert [one.message_id for one in seen if one.drawable] == ["new"]
