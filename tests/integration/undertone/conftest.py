"""A store on PostgreSQL, empty at every test."""

from collections.abc import Iterator

import pytest

from undertone.schema import metadata
from undertone.store import Store


@pytest.fixture(scope="module")
def postgres_database(postgres) -> Iterator[Store]:
    made = Store(postgres.store(), timeout_s=10)
    yield made
    made.engine.dispose()


@pytest.fixture
def postgres_store(postgres_database: Store) -> Iterator[Store]:
    """A store on PostgreSQL. Its tables are emptied afterwards: quicker than a fresh database for each test."""
    yield postgres_database
    with postgres_database.transaction() as connection:
        connection.exec_driver_sql("alter table ledger disable trigger all")
        connection.exec_driver_sql(f"truncate {', '.join(metadata.tables)}")
        connection.exec_driver_sql("alter table ledger enable always trigger ledger_keeps_rows")
