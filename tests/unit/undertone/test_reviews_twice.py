"""Second labels by other people, undo, order by value, guideline versions, and eight people at work at once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlalchemy import select, update

from tests.unit.undertone.test_reviews import MINUTE, NOW, erase, feedback_rows, fill, ids, queue
from undertone.errors import DataError
from undertone.records import Feedback
from undertone.reviews import GivenLabel, Pick, Reviews
from undertone.schema import feedback, messages
from undertone.schema import reviews as table
from undertone.store import Store


@pytest.fixture
def reviews(store: Store) -> Reviews:
    return Reviews(store)


@pytest.fixture
def doubled(store: Store) -> Reviews:
    """A queue of which every labelled item is asked of a second person."""
    return Reviews(store, guideline="2", second_share=1.0)


def rows(store: Store) -> list[dict]:
    with store.reading() as connection:
        return [dict(row) for row in connection.execute(select(table).order_by(table.c.id)).mappings()]


# a second label ---------------------------------------------------------------------------------


def test_a_second_label_is_asked_of_somebody_else(store: Store, doubled: Reviews) -> None:
    queue(doubled, [1])
    first = doubled.next("sentiment", "bo", NOW)[0]["id"]
    doubled.label(first, "negative", "bo", NOW)
    assert doubled.next("sentiment", "bo", NOW, count=9) == []
    assert (doubled.waiting("sentiment", "bo", NOW), doubled.waiting("sentiment", "ann", NOW)) == (0, 1)
    assert (doubled.export("sentiment", "bo"), len(doubled.export("sentiment", "ann"))) == ([], 1)
    (item,) = doubled.next("sentiment", "ann", NOW)
    assert (item["message_id"], item["kind"], item["batch"]) == ("m1", "second", "a-1/second")
    assert set(item) == {
        *("id", "batch", "kind", "message_id", "text", "channel", "segment", "sent_at", "held_until", "labels"),
    }  # neither a model's answer nor the first label
    with pytest.raises(DataError, match=r"by another person.*found one by bo"):
        doubled.label(item["id"], "negative", "bo", NOW + 40 * MINUTE)
    doubled.label(item["id"], "neutral", "ann", NOW + MINUTE)
    assert feedback_rows(store) == [
        ("m1", "negative", "bo", "audit", False),
        ("m1", "neutral", "ann", "second", False),
    ]
    (pair,) = doubled.twice("sentiment")
    assert (pair.item, pair.second, pair.first_label, pair.second_label) == (first, item["id"], "negative", "neutral")
    assert (pair.first_reviewer, pair.second_reviewer, pair.same_guideline) == ("bo", "ann", True)


def test_what_is_learned_and_audited_is_the_first_label(store: Store, doubled: Reviews) -> None:
    queue(doubled, [1])
    doubled.label(doubled.next("sentiment", "bo", NOW)[0]["id"], "negative", "bo", NOW)
    doubled.label(doubled.next("sentiment", "ann", NOW)[0]["id"], "neutral", "ann", NOW + MINUTE)
    (learned,) = store.labelled("sentiment")
    assert (learned["label"], learned["labeller"], learned["origin"]) == ("negative", "bo", "audit")
    (late,) = store.truths("sentiment", NOW - MINUTE, NOW + MINUTE, version=3)
    assert (late["label"], late["origin"]) == ("negative", "audit")
    assert [one.label for one in doubled.audited("sentiment", 3, NOW, NOW + 2 * MINUTE)] == ["negative"]
    assert doubled.drawn("sentiment", 3, NOW, NOW) == 1


def test_a_correction_after_the_second_label_changes_no_agreement(store: Store, doubled: Reviews) -> None:
    queue(doubled, [1])
    first = doubled.next("sentiment", "bo", NOW)[0]["id"]
    doubled.label(first, "negative", "bo", NOW)
    second = doubled.next("sentiment", "ann", NOW)[0]["id"]
    doubled.label(second, "neutral", "ann", NOW)
    doubled.label(first, "neutral", "bo", NOW + MINUTE)
    with pytest.raises(DataError, match="one second label"):
        doubled.label(second, "negative", "ann", NOW + MINUTE)
    doubled.label(second, "neutral", "ann", NOW + MINUTE)  # that very label changes nothing
    assert [(pair.first_label, pair.second_label) for pair in doubled.twice("sentiment")] == [("negative", "neutral")]
    assert [row["label"] for row in store.labelled("sentiment")] == ["neutral"]


def test_a_share_of_the_labelled_items_is_asked_twice_and_no_skipped_or_second_one(store: Store) -> None:
    reviews = Reviews(store, second_share=0.2)
    queue(reviews, range(152))
    items = reviews.export("sentiment")
    for item in items[150:]:
        reviews.skip(item["id"], "bo", NOW)
    given = [GivenLabel(item["id"], "neutral", "bo") for item in items[:150]]
    reviews.import_labels("sentiment", given, NOW)
    twins = [row for row in rows(store) if row["kind"] == "second"]
    assert 15 <= len(twins) <= 45  # 30 expected, with a standard deviation of 5
    assert {row["second_of"] for row in twins} <= {item["id"] for item in items[:150]}
    given = [GivenLabel(row["id"], "neutral", "ann") for row in twins]
    assert reviews.import_labels("sentiment", given, NOW)["second"] == len(twins)
    assert sum(row["kind"] == "second" for row in rows(store)) == len(twins)


def test_whether_a_second_label_is_asked_does_not_depend_on_who_labels_what_or_when(tmp_path: object) -> None:
    def asked(label: str, reviewer: str) -> set[str]:
        store = Store("sqlite://")
        store.migrate()
        reviews = Reviews(store, second_share=0.5)
        queue(reviews, range(20))
        for item in reviews.next("sentiment", reviewer, NOW, count=20):
            reviews.label(item["id"], label, reviewer, NOW)
        return {row["message_id"] for row in rows(store) if row["kind"] == "second"}

    found = asked("negative", "bo")
    assert 0 < len(found) < 20
    assert found == asked("positive", "ann")


def test_labels_from_a_file_may_hold_a_second_one(store: Store, doubled: Reviews) -> None:
    plain = Reviews(store)
    queue(plain, [1, 2, 3])
    one, two, three = (item["id"] for item in plain.export("sentiment"))
    given = [
        GivenLabel(one, "neutral", "bo"),
        GivenLabel(one, "negative", "ann", guideline="1", second=True),
        GivenLabel(two, "neutral", "bo"),
        GivenLabel(two, "negative", "bo", second=True),  # the same person
        GivenLabel(three, "negative", "ann", second=True),  # no first label
    ]
    assert plain.import_labels("sentiment", given, NOW) == {"labelled": 3, "second": 1, "unchanged": 0, "others": 2}
    again = {"labelled": 0, "second": 0, "unchanged": 3, "others": 2}
    assert plain.import_labels("sentiment", given, NOW) == again
    (pair,) = plain.twice("sentiment")
    assert (pair.first_label, pair.second_label, pair.same_guideline) == ("neutral", "negative", False)
    changed = [GivenLabel(pair.second, "positive", "ann")]
    assert plain.import_labels("sentiment", changed, NOW)["others"] == 1
    doubled.import_labels("sentiment", [GivenLabel(three, "neutral", "bo")], NOW)
    twin = next(row["id"] for row in rows(store) if row["second_of"] == three)
    assert doubled.import_labels("sentiment", [GivenLabel(twin, "neutral", "bo")], NOW)["others"] == 1


# undo -------------------------------------------------------------------------------------------


def test_undo_takes_back_a_label_and_its_feedback_then_what_was_done_before(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    first, second = (item["id"] for item in reviews.next("sentiment", "bo", NOW, count=2))
    reviews.skip(first, "bo", NOW)
    reviews.label(second, "negative", "bo", NOW + MINUTE)
    last = reviews.last_act("bo", "sentiment")
    assert last == {"id": second, "task": "sentiment", "label": "negative", "closed_at": NOW + MINUTE}
    with pytest.raises(DataError, match=f"item {first} as the last act of bo; found item {second}"):
        reviews.undo("bo", NOW, item=first)
    assert reviews.undo("bo", NOW + 2 * MINUTE) == {"id": second, "task": "sentiment", "label": "negative"}
    assert feedback_rows(store) == []
    assert ids(reviews.next("sentiment", "ann", NOW + 2 * MINUTE, count=9)) == []  # it is in bo's hand again
    assert ids(reviews.next("sentiment", "bo", NOW + 2 * MINUTE)) == ["m2"]
    assert reviews.undo("bo", NOW + 3 * MINUTE, "sentiment", first)["label"] is None
    assert [row["open"] for row in reviews.open("sentiment")] == [2]
    with pytest.raises(DataError, match="to take back; found none"):
        reviews.undo("bo", NOW)
    assert reviews.last_act("bo") is None


def test_undo_is_of_ones_own_acts_by_hand(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2, 3])
    one, two, three = (item["id"] for item in reviews.export("sentiment"))
    reviews.label(one, "negative", "ann", NOW)
    reviews.import_labels("sentiment", [GivenLabel(two, "neutral", "bo")], NOW)
    with pytest.raises(DataError, match="by bo to take back"):
        reviews.undo("bo", NOW)
    reviews.skip(three, "bo", NOW)
    with pytest.raises(DataError, match="by bo to take back"):
        reviews.undo("bo", NOW, "emotion")
    reviews.label(three, "positive", "ann", NOW + MINUTE)  # a label may still come: then it is ann's act
    with pytest.raises(DataError, match="by bo to take back"):
        reviews.undo("bo", NOW)
    assert reviews.undo("ann", NOW)["id"] == three
    assert Counter(row[2] for row in feedback_rows(store)) == {"ann": 1, "bo": 1}


def test_undo_brings_back_the_feedback_that_the_label_replaced(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1])
    queue(reviews, [1], "r-1", "review")
    for item, label in zip(reviews.next("sentiment", "bo", NOW, count=2), ("negative", "neutral"), strict=True):
        reviews.label(item["id"], label, "bo", NOW)
    assert feedback_rows(store) == [("m1", "neutral", "bo", "review", False)]
    reviews.undo("bo", NOW)
    assert feedback_rows(store) == [("m1", "negative", "bo", "audit", False)]
    store.add_feedback([Feedback("m1", "sentiment", "positive", "bo", NOW)])  # said elsewhere since
    reviews.undo("bo", NOW)
    assert feedback_rows(store) == [("m1", "positive", "bo", "person", False)]


def test_a_second_item_waits_while_the_first_label_is_taken_back(store: Store, doubled: Reviews) -> None:
    queue(doubled, [1])
    first = doubled.next("sentiment", "bo", NOW)[0]["id"]
    doubled.label(first, "negative", "bo", NOW)
    (held,) = doubled.next("sentiment", "ann", NOW)
    doubled.undo("bo", NOW)
    assert doubled.waiting("sentiment", "ann", NOW) == 0
    with pytest.raises(DataError, match="it was taken back"):
        doubled.label(held["id"], "negative", "ann", NOW)
    assert ids(doubled.next("sentiment", "ann", NOW + 40 * MINUTE)) == []  # she had the second one: it may come back
    doubled.label(first, "neutral", "bo", NOW + 41 * MINUTE)
    doubled.label(held["id"], "neutral", "ann", NOW + 42 * MINUTE)
    doubled.undo("ann", NOW + 43 * MINUTE)
    assert doubled.twice("sentiment") == []
    doubled.label(held["id"], "neutral", "ann", NOW + 44 * MINUTE)
    assert [pair.first_label for pair in doubled.twice("sentiment")] == ["neutral"]


# order and what goes with a label -----------------------------------------------------------------


def test_audits_come_first_then_second_labels_then_the_most_valuable(store: Store, doubled: Reviews) -> None:
    queue(doubled, [1])
    doubled.label(doubled.next("sentiment", "ann", NOW)[0]["id"], "neutral", "ann", NOW)
    fill(store, range(2, 7))
    picks = [Pick(f"m{number}", None, 1.0, "positive", "unsure", float(6 - number)) for number in (2, 3)]
    doubled.add("sentiment", "r-1", "review", picks, version=3, asked_at=NOW)
    late = [Pick("m4", None, 1.0, "positive", "random", 3.5)]
    doubled.add("sentiment", "r-2", "review", late, version=3, asked_at=NOW + MINUTE)
    queue(doubled, [5], "a-2", at=NOW + 2 * MINUTE)
    assert ids(doubled.next("sentiment", "bo", NOW, count=9)) == ["m5", "m1", "m3", "m4", "m2"]
    found = [(row["kind"], row["reason"], row["open"], row["held"], row["labelled"])
             for row in doubled.tally("sentiment", NOW)]  # fmt: skip
    assert found == [
        ("audit", "random", 1, 1, 1), ("second", None, 1, 1, 0), ("review", "random", 1, 1, 0),
        ("review", "unsure", 2, 2, 0),
    ]  # fmt: skip
    assert doubled.batch("sentiment", "r-1") == picks
    assert doubled.picked_at("sentiment") == NOW + MINUTE
    assert doubled.picked_at("emotion") is None


def test_only_random_answers_judge_the_model(doubled: Reviews) -> None:
    fill(doubled.store, range(3))
    picks = [Pick(f"m{n}", None, 1.0, "positive", why) for n, why in enumerate(("random", "unsure", "diverse"))]  # type: ignore[arg-type]
    doubled.add("sentiment", "r-1", "review", picks, version=3, asked_at=NOW)
    for item in doubled.next("sentiment", "bo", NOW, count=3):
        doubled.label(item["id"], "neutral", "bo", NOW)
    assert [one.message_id for one in doubled.at_random("sentiment", 3, NOW, NOW)] == ["m0"]
    assert doubled.at_random("sentiment", 4, NOW, NOW) == doubled.audited("sentiment", 3, NOW, NOW) == []


def test_the_guideline_goes_with_every_label(store: Store, doubled: Reviews) -> None:
    queue(doubled, [1, 2, 3])
    one, two, three = (item["id"] for item in doubled.export("sentiment"))
    doubled.label(one, "neutral", "bo", NOW)
    given = [GivenLabel(two, "neutral", "bo"), GivenLabel(three, "neutral", "bo", guideline="1")]
    doubled.import_labels("sentiment", given, NOW)
    assert [row["guideline"] for row in rows(store) if row["kind"] == "audit"] == ["2", "2", "1"]
    with store.reading() as connection:
        told = connection.execute(select(feedback.c.guideline).order_by(feedback.c.message_id)).scalars().all()
    assert told == ["2", "2", "1"]
    Reviews(store, guideline="3").label(one, "positive", "bo", NOW)
    assert rows(store)[0]["guideline"] == "3"


def test_a_text_that_was_removed_is_asked_of_nobody(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    item = reviews.next("sentiment", "bo", NOW)[0]["id"]
    with store.transaction() as connection:
        connection.execute(update(messages).where(messages.c.id == "m1").values(text="", text_removed_at=NOW))
    assert ids(reviews.next("sentiment", "bo", NOW, count=9)) == ["m2"]
    assert [(row["open"], row["erased"]) for row in reviews.open("sentiment")] == [(2, 1)]
    assert sum(row["open"] for row in reviews.tally("sentiment", NOW)) == 1
    with pytest.raises(DataError, match="erased"):
        reviews.label(item, "neutral", "bo", NOW)
    erase(store, "m2")
    assert reviews.texts(["m1", "m2"]) == {}


# many at once -----------------------------------------------------------------------------------


def test_eight_reviewers_at_once_hold_and_label_every_item_once_and_what_is_left_lying_comes_back(
    store: Store,
) -> None:
    reviews, people = Reviews(store, second_share=0.3), [f"reviewer-{n}" for n in range(8)]
    queue(reviews, range(60))
    start = Barrier(8)

    def work(name: str, at: float, leaves: bool) -> list[tuple[int, str]]:
        """Take, and label or skip, until nothing comes; who leaves does so with two items in hand."""
        done, now = [], NOW + timedelta(minutes=at)
        taken = reviews.next("sentiment", name, now, count=2) if leaves else []
        start.wait(60)
        if leaves:
            return [(item["id"], "left") for item in taken]
        while items := reviews.next("sentiment", name, now):
            act = "skip" if items[0]["id"] % 7 == 0 else "label"
            if act == "skip":
                reviews.skip(items[0]["id"], name, now)
            else:
                reviews.label(items[0]["id"], "neutral", name, now)
            done.append((items[0]["id"], act))
        return done

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(work, people, [0.0] * 8, [n < 2 for n in range(8)]))
    held = [item for done in taken for item in done]
    assert len({item for item, _ in held}) == len(held)  # nobody ever had what another one has or had
    left = {item for item, act in held if act == "left"}
    assert len(left) == 4
    assert {row["id"] for row in rows(store) if row["state"] == "open" and row["kind"] == "audit"} == left
    with ThreadPoolExecutor(8) as pool:
        again = list(pool.map(work, people, [31.0] * 8, [False] * 8))
    assert left <= {item for done in again for item, _ in done}
    start = Barrier(1)  # a second label may have been asked for when all but its first reviewer had gone
    for name in people:
        work(name, 31.0, False)
    found = rows(store)
    assert {row["state"] for row in found} == {"labelled", "skipped"}
    by_id = {row["id"]: row for row in found}
    seconds = [row for row in found if row["kind"] == "second"]
    assert seconds
    assert all(by_id[row["second_of"]]["reviewer"] != row["reviewer"] for row in seconds)
    labelled = [row for row in found if row["state"] == "labelled"]
    assert len(feedback_rows(store)) == len(labelled)


def test_eight_undos_at_once_take_back_eight_labels(store: Store) -> None:
    reviews = Reviews(store)
    queue(reviews, range(8))
    for n, item in enumerate(reviews.next("sentiment", "bo", NOW, count=8)):
        reviews.label(item["id"], "neutral", "bo", NOW + n * MINUTE)
    with ThreadPoolExecutor(8) as pool:
        undone = list(pool.map(lambda _: _undo(reviews), range(12)))
    assert len({item for item in undone if item is not None}) == sum(item is not None for item in undone)
    while _undo(reviews) is not None:
        pass
    assert feedback_rows(store) == []
    assert [row["open"] for row in reviews.open("sentiment")] == [8]


def _undo(reviews: Reviews) -> int | None:
    try:
        return int(reviews.undo("bo", NOW)["id"])
    except DataError:
        return None
