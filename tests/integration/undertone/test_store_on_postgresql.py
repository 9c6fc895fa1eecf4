"""All that the unit tests say of the store, on PostgreSQL; and what only a server can get wrong."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.unit.undertone.test_store import *  # noqa: F403
from tests.unit.undertone.test_store import NOW, scored
from undertone.errors import StoreError
from undertone.schema import messages
from undertone.store import Store


@pytest.fixture
def store(postgres_store: Store) -> Store:
    return postgres_store


def test_stores_that_open_at_once_migrate_once(postgres) -> None:
    url = postgres.database()

    def migrate(_: int) -> int:
        made = Store(url)
        made.migrate()
        new = made.record([scored(1)])
        made.engine.dispose()
        return new

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(migrate, range(4))) == 1


def test_a_lock_that_is_not_given_back_ends_in_words(postgres_database: Store) -> None:
    impatient = Store(str(postgres_database.url), timeout_s=0.3)
    with postgres_database.transaction() as connection:
        connection.execute(text("lock table feedback in exclusive mode"))
        began = time.monotonic()
        with pytest.raises(StoreError, match="lock timeout"):
            impatient.add_feedback([])
        assert time.monotonic() - began < 10
    impatient.engine.dispose()


def test_two_who_write_the_same_messages_do_not_block_each_other(postgres, store: Store) -> None:
    def row(identifier: str) -> dict:
        return {"id": identifier, "text": "t", "received_at": NOW, "truncated": False}

    with ThreadPoolExecutor(1) as pool, store.transaction() as connection:
        connection.execute(messages.insert(), [row("1")])
        other = pool.submit(store.record, [scored(2), scored(1)])
        while not postgres.rows("select 1 from pg_locks where not granted"):  # the other writer waits for message 1,
            assert not other.done()
        connection.execute(messages.insert(), [row("2")])  # and must not hold message 2 meanwhile
        connection.commit()
        assert other.result(30) == 0


@pytest.mark.parametrize(("number", "named"), [("9" * 201, "too long"), ("nul \x00 inside", "NUL")])
def test_a_value_that_does_not_fit_says_so(store: Store, number: str, named: str) -> None:
    with pytest.raises(StoreError, match=f"{named}.*shorten or repair"):
        store.record([scored(1), scored(number)])  # type: ignore[arg-type]
    assert store.known(["1"]) == set()


def test_a_store_out_of_reach_says_so() -> None:  # in place of the unit test of that name
    broken = Store("postgresql+psycopg://undertone:secret@127.0.0.1:9/undertone", timeout_s=1)
    with pytest.raises(StoreError, match="UNDERTONE_STORE_URL") as caught:
        broken.ping()
    assert "secret" not in str(caught.value)


def test_a_server_that_restarts_is_found_again(postgres, store: Store) -> None:
    store.ping()
    postgres.rows("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'undertone'")
    assert store.record([scored(1)]) == 1
