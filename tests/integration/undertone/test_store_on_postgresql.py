"""All that the unit tests say of the store, on PostgreSQL; and what only a server can get wrong."""

import pytest

from tests.unit.undertone.test_store import *  # noqa: F403
from undertone.store import Store


@pytest.fixture
def store(postgres_store: Store) -> Store:
    return postgres_store
