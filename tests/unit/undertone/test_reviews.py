"""The review queue: one hand an item, labels without the model's answer, label and feedback in one transaction."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest
from sqlalchemy import delete, select

from undertone.errors import ConfigError, DataError
from undertone.records import Feedback, Message, Prediction, ScoredMessage
from undertone.reviews import GivenLabel, Pick, Reviews
from undertone.schema import feedback, messages
from undertone.schema import reviews as table
from undertone.store import Store

NOW = datetime(2026, 11, 3, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def reviews(store: Store) -> Reviews:
    return Reviews(store)


def fill(store: Store, numbers: Sequence[int]) -> None:
    scored = []
    for number in numbers:
        message = Message(f"m{number}", f"text {number}", "chat", "starter", "c1", NOW, NOW)
        answer = Prediction(f"m{number}", "sentiment", "positive", (0.1, 0.2, 0.7), 3, "ab" * 32, NOW)
        scored.append(ScoredMessage(message, (answer,)))
    store.record(scored)


def queue(
    reviews: Reviews,
    numbers: Sequence[int],
    batch: str = "a-1",
    kind: str = "audit",
    at: datetime = NOW,
    version: int = 3,
) -> int:
    fill(reviews.store, numbers)
    picks = [Pick(f"m{number}", "starter", 5.0, "positive") for number in numbers]
    return reviews.add("sentiment", batch, kind, picks, version=version, asked_at=at)  # type: ignore[arg-type]


def ids(rows: Sequence[dict]) -> list[str]:
    return [row["message_id"] for row in rows]


def feedback_rows(store: Store) -> list[tuple]:
    columns = [feedback.c[name] for name in ("message_id", "label", "labeller", "origin", "suggested")]
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(select(*columns).order_by(feedback.c.id))]


def erase(store: Store, message_id: str) -> None:
    with store.transaction() as connection:
        connection.execute(delete(messages).where(messages.c.id == message_id))


def test_a_batch_is_added_once_and_whole(reviews: Reviews) -> None:
    assert queue(reviews, [1, 2]) == 2
    assert queue(reviews, [1, 2, 3]) == 0
    assert queue(reviews, [2, 3], batch="a-2") == 2
    assert queue(reviews, [], batch="a-3") == 0
    counts = [(row["batch"], row["open"], row["version"]) for row in reviews.open("sentiment")]
    assert counts == [("a-1", 2, 3), ("a-2", 2, 3)]


def test_a_batch_that_many_add_at_once_is_there_once(reviews: Reviews) -> None:
    fill(reviews.store, range(40))
    draws = [[Pick(f"m{number}", None, 1.0, "positive") for number in range(turn, turn + 20)] for turn in range(8)]

    def add(picks: list[Pick]) -> int:
        return reviews.add("sentiment", "a-1", "audit", picks, version=3, asked_at=NOW)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(add, draws)) == [0] * 7 + [20]
    assert len(reviews.export("sentiment")) == 20


def test_what_a_reviewer_sees_has_the_text_and_no_answer(reviews: Reviews) -> None:
    queue(reviews, [1])
    item = reviews.next("sentiment", "bo", NOW)[0]
    assert item == {
        "id": item["id"], "batch": "a-1", "kind": "audit", "message_id": "m1", "text": "text 1", "channel": "chat",
        "segment": "starter", "sent_at": NOW, "held_until": NOW + 30 * MINUTE,
        "labels": ["negative", "neutral", "positive"],
    }  # fmt: skip
    assert "predicted" not in reviews.export("sentiment")[0]


def test_audits_come_before_reviews_and_old_ones_first(reviews: Reviews) -> None:
    queue(reviews, [1], "r-1", "review", NOW - 9 * MINUTE)
    queue(reviews, [2], "a-2", "audit", NOW)
    queue(reviews, [3], "a-1", "audit", NOW - 5 * MINUTE)
    assert ids(reviews.next("sentiment", "bo", NOW, count=9)) == ["m3", "m2", "m1"]
    assert ids(reviews.export("sentiment")) == ["m3", "m2", "m1"]
    assert reviews.next("emotion", "bo", NOW) == []


def test_what_is_in_hand_comes_to_nobody_else_until_its_time_is_over(reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    assert ids(reviews.next("sentiment", "bo", NOW, minutes=30)) == ["m1"]
    assert ids(reviews.next("sentiment", "ann", NOW)) == ["m2"]
    assert reviews.next("sentiment", "eve", NOW) == []
    assert ids(reviews.next("sentiment", "bo", NOW + 29 * MINUTE)) == ["m1"]  # one's own comes again, and is renewed
    assert ids(reviews.next("sentiment", "eve", NOW + 31 * MINUTE)) == ["m2"]
    assert [row["held"] for row in reviews.open("sentiment", NOW + 31 * MINUTE)] == [2]
    assert ids(reviews.next("sentiment", "eve", NOW + 60 * MINUTE, count=5)) == ["m2", "m1"]  # one's own first


def test_many_reviewers_at_once_never_share_an_item(reviews: Reviews) -> None:
    queue(reviews, range(40))

    def take(reviewer: str) -> list[str]:
        return ids(reviews.next("sentiment", reviewer, NOW, count=5))

    with ThreadPoolExecutor(8) as pool:
        taken = list(chain(*pool.map(take, map(str, range(8)))))
    assert sorted(taken) == sorted(f"m{number}" for number in range(40))


def test_a_label_closes_the_item_and_becomes_feedback(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    queue(reviews, [1], "r-1", "review")
    first, second, third = reviews.next("sentiment", "bo", NOW, count=3)
    reviews.label(first["id"], "negative", "bo", NOW + MINUTE)
    assert feedback_rows(store) == [("m1", "negative", "bo", "audit", False)]
    reviews.label(second["id"], "neutral", "bo", NOW + MINUTE)
    reviews.label(third["id"], "neutral", "bo", NOW + 2 * MINUTE)  # the same message, asked in another batch
    assert feedback_rows(store) == [("m2", "neutral", "bo", "audit", False), ("m1", "neutral", "bo", "review", False)]
    assert reviews.next("sentiment", "bo", NOW) == []
    counts = [(row["batch"], row["open"], row["labelled"], row["skipped"]) for row in reviews.open()]
    assert counts == [("a-1", 0, 2, 0), ("r-1", 0, 1, 0)]
    assert [row["label"] for row in store.labelled("sentiment")] == ["neutral", "neutral"]


def test_who_labelled_may_correct_and_nobody_else(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1])
    item = reviews.next("sentiment", "bo", NOW)[0]["id"]
    reviews.label(item, "negative", "bo", NOW)
    reviews.label(item, "negative", "bo", NOW + MINUTE)
    assert reviews.audited("sentiment", 3, NOW, NOW)[0].labelled_at == NOW
    with pytest.raises(DataError, match=r"by bo, who labelled item \d+; found another one by ann.*Next"):
        reviews.label(item, "positive", "ann", NOW)
    with pytest.raises(DataError, match="labelled by bo"):
        reviews.skip(item, "ann", NOW)
    reviews.label(item, "neutral", "bo", NOW + MINUTE)
    assert feedback_rows(store) == [("m1", "neutral", "bo", "audit", False)]


def test_what_cannot_be_labelled_says_so_and_nothing_is_lost(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    first, second = (item["id"] for item in reviews.next("sentiment", "bo", NOW, count=2))
    with pytest.raises(DataError, match=r"negative, neutral, positive; found 'great'"):
        reviews.label(first, "great", "bo", NOW)
    with pytest.raises(DataError, match="no item 999"):
        reviews.label(999, "negative", "bo", NOW)
    with pytest.raises(DataError, match="bo has it until 2026-11-03 10:30 UTC"):
        reviews.label(first, "negative", "ann", NOW)
    with pytest.raises(DataError, match="bo has it until"):
        reviews.skip(first, "ann", NOW)
    erase(store, "m2")
    with pytest.raises(DataError, match=f"it was erased.*reviews skip {second}"):
        reviews.label(second, "negative", "bo", NOW)
    with pytest.raises(ConfigError, match="a task"):
        reviews.next("urgency", "bo", NOW)
    assert feedback_rows(store) == []
    reviews.label(first, "negative", "ann", NOW + 31 * MINUTE)  # bo's time is over
    reviews.skip(second, "bo", NOW)


def test_one_label_of_one_item_wins_when_many_give_theirs(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1])
    item = reviews.export("sentiment")[0]["id"]

    def label(reviewer: str) -> bool:
        try:
            reviews.label(item, "negative", reviewer, NOW)
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(label, map(str, range(8)))) == 1
    assert len(feedback_rows(store)) == 1


def test_a_skipped_item_does_not_come_again_but_may_still_get_a_label(reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    item = reviews.next("sentiment", "bo", NOW)[0]["id"]
    reviews.skip(item, "bo", NOW)
    reviews.skip(item, "ann", NOW)
    assert ids(reviews.next("sentiment", "bo", NOW, count=9)) == ["m2"]
    assert reviews.drawn("sentiment", 3, NOW, NOW) == 1
    reviews.label(item, "negative", "ann", NOW)
    assert reviews.drawn("sentiment", 3, NOW, NOW) == 2


def test_an_erased_message_is_asked_of_nobody_and_counts_as_not_drawn(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    erase(store, "m1")
    assert ids(reviews.next("sentiment", "bo", NOW, count=9)) == ["m2"]
    assert reviews.drawn("sentiment", 3, NOW, NOW) == 1
    assert [(row["open"], row["erased"]) for row in reviews.open("sentiment")] == [(2, 1)]


def test_what_nothing_rests_on_any_more_is_withdrawn_unless_somebody_has_it(reviews: Reviews) -> None:
    queue(reviews, [1, 2], at=NOW - timedelta(days=1))
    queue(reviews, [3], "a-2")
    queue(reviews, [4], "b-1", version=4)
    queue(reviews, [5], "r-1", "review", NOW - timedelta(days=1))
    reviews.next("sentiment", "bo", NOW)
    assert reviews.withdraw("sentiment", 3, NOW, NOW) == 2
    assert ids(reviews.next("sentiment", "ann", NOW, count=9)) == ["m3", "m5"]
    assert reviews.withdraw("sentiment", 3, NOW, NOW + 60 * MINUTE) == 1


def test_an_audit_reads_its_own_labels_and_no_feedback(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    queue(reviews, [3], "r-1", "review")
    queue(reviews, [4], "a-0", at=NOW - timedelta(days=30))
    queue(reviews, [5], "b-1", version=4)
    store.add_feedback([Feedback("m1", "sentiment", "negative", "customer", NOW)])
    assert reviews.audited("sentiment", 3, NOW, NOW + MINUTE) == []
    for item in reviews.next("sentiment", "bo", NOW, count=9):
        reviews.label(item["id"], "neutral", "bo", NOW + MINUTE)
    store.add_feedback([Feedback("m1", "sentiment", "positive", "bo", NOW + 2 * MINUTE)])
    made = reviews.audited("sentiment", 3, NOW, NOW + MINUTE)
    assert [(one.message_id, one.label, one.predicted, one.weight, one.stratum) for one in made] == [
        ("m1", "neutral", "positive", 5.0, "starter"),
        ("m2", "neutral", "positive", 5.0, "starter"),
    ]
    assert made[0].labelled_at == NOW + MINUTE
    assert reviews.audited("sentiment", 3, NOW, NOW) == []


def test_an_import_is_all_or_nothing_and_may_be_repeated(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2, 3])
    one, two, three = (row["id"] for row in reviews.export("sentiment"))
    reviews.next("sentiment", "ann", NOW)
    for wrong in (GivenLabel(two, "great", "bo"), GivenLabel(999, "neutral", "bo")):
        with pytest.raises(DataError):
            reviews.import_labels("sentiment", [GivenLabel(one, "neutral", "bo"), wrong], NOW)
    with pytest.raises(DataError, match="items of emotion"):
        reviews.import_labels("emotion", [GivenLabel(one, "joy", "bo")], NOW)
    assert feedback_rows(store) == []
    given = [
        GivenLabel(two, "neutral", "bo", NOW - MINUTE),
        GivenLabel(one, "negative", "bo", NOW + timedelta(days=9)),  # a clock ahead of ours
    ]
    assert reviews.import_labels("sentiment", given, NOW) == {"labelled": 2, "second": 0, "unchanged": 0, "others": 0}
    assert reviews.import_labels("sentiment", given, NOW) == {"labelled": 0, "second": 0, "unchanged": 2, "others": 0}
    reviews.label(three, "neutral", "ann", NOW)
    given = [GivenLabel(three, "negative", "bo"), GivenLabel(one, "neutral", "bo")]
    assert reviews.import_labels("sentiment", given, NOW) == {"labelled": 1, "second": 0, "unchanged": 0, "others": 1}
    found = {
        answer.message_id: (answer.label, answer.labelled_at) for answer in reviews.audited("sentiment", 3, NOW, NOW)
    }
    assert found == {"m1": ("neutral", NOW), "m2": ("neutral", NOW - MINUTE), "m3": ("neutral", NOW)}


def test_a_long_import_passes_the_limit_of_one_statement(store: Store, reviews: Reviews) -> None:
    with store.transaction() as connection:
        connection.execute(
            messages.insert(),
            [{"id": f"m{n}", "text": "t", "received_at": NOW, "truncated": False} for n in range(520)],
        )
    picks = [Pick(f"m{n}", None, 1.0, "positive") for n in range(520)]
    reviews.add("sentiment", "a-1", "audit", picks, version=3, asked_at=NOW)
    given = [GivenLabel(row["id"], "neutral", "bo") for row in reviews.export("sentiment")]
    assert reviews.import_labels("sentiment", given, NOW)["labelled"] == 520


def test_items_keep_what_they_were_drawn_with(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1])
    with store.reading() as connection:
        row = connection.execute(select(table)).mappings().one()
    assert (row["model_version"], row["predicted"], row["weight"], row["asked_at"]) == (3, "positive", 5.0, NOW)
