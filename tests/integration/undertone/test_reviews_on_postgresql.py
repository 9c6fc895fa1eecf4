"""All that the unit tests say of the review queue, on PostgreSQL, and what only a server can get wrong."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.unit.undertone.test_reviews import *  # noqa: F403
from tests.unit.undertone.test_reviews import NOW, feedback_rows, ids, queue
from tests.unit.undertone.test_reviews_twice import *  # noqa: F403
from undertone.records import Feedback
from undertone.reviews import GivenLabel, Reviews
from undertone.schema import reviews as table
from undertone.store import Store


@pytest.fixture
def store(postgres_store: Store) -> Store:
    return postgres_store


def test_a_reviewer_does_not_wait_for_another_ones_transaction(store: Store, reviews: Reviews) -> None:
    queue(reviews, [1, 2])
    first = reviews.export("sentiment")[0]["id"]
    with ThreadPoolExecutor(1) as pool, store.transaction() as connection:
        connection.execute(table.update().where(table.c.id == first).values(reviewer="bo"))
        assert ids(pool.submit(reviews.next, "sentiment", "ann", NOW).result(30)) == ["m2"]


def test_imports_and_feedback_written_at_once_do_not_block_each_other(store: Store, reviews: Reviews) -> None:
    queue(reviews, range(20))
    items = [row["id"] for row in reviews.export("sentiment")]

    def write(turn: int) -> None:
        order = items if turn % 2 else items[::-1]
        reviews.import_labels("sentiment", [GivenLabel(item, "neutral", "bo") for item in order], NOW)
        store.add_feedback([Feedback(f"m{n}", "sentiment", "negative", "bo", NOW) for n in range(20)])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(feedback_rows(store)) == 20
