"""How far a group has read, in the store: for sources that keep no positions of their own."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import delete, insert, select

from undertone.schema import stream_positions as table
from undertone.store import Store


class Positions:
    """Positions of one group in one stream, by part (a shard; empty for a file).

    Args:
        reader: the group.
        stream: as it is called everywhere.
    """

    def __init__(self, store: Store, reader: str, stream: str) -> None:
        self._store = store
        self._key = {"reader": reader, "stream": stream}
        self._mine = table.c.reader == reader, table.c.stream == stream

    def read(self) -> dict[str, str]:
        """Every part's position; parts that were never read are missing.

        Raises:
            StoreError: the store does not answer.
        """
        with self._store.reading() as connection:
            rows = connection.execute(select(table.c.part, table.c.position).where(*self._mine))
            return {row.part: row.position for row in rows}

    def write(self, positions: dict[str, str]) -> None:
        """Remember these, in one transaction.

        Raises:
            StoreError: the store does not answer.
        """
        now = datetime.now(UTC)
        rows = [self._key | {"part": part, "position": value, "at": now} for part, value in sorted(positions.items())]
        if not rows:
            return
        with self._store.transaction() as connection:
            connection.execute(delete(table).where(*self._mine, table.c.part.in_(list(positions))))
            connection.execute(insert(table), rows)
