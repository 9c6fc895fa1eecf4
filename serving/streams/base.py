"""What a source and a sink are. `tests/integration/serving/streams` runs the same checks on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from undertone.errors import UndertoneError


class StreamError(UndertoneError):
    """A stream does not answer, or takes nothing. It may pass: what was not acknowledged comes again."""


@dataclass(frozen=True, slots=True)
class Record:
    """What a source gave.

    Attributes:
        value: JSON, if its sender keeps to the schema.
        place: where it stands, for people: ``messages/3/42``.
        id: for a message that has none; the same each time this record is read.
    """

    value: bytes
    place: str
    id: str


@dataclass(frozen=True, slots=True)
class Row:
    """What goes into a sink: a JSON object, and the message's id as its key."""

    id: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a reader is behind: messages, or seconds where the stream tells only these; None: not known."""

    messages: int | None = None
    seconds: float | None = None


class Batch(Protocol):
    """Records that were read together."""

    @property
    def records(self) -> Sequence[Record]:
        """In the order of their places; empty: nothing came in time."""

    def ack(self) -> None:
        """All is durable: these records are not given again to this group.

        Parts of the stream that went to another reader meanwhile are left to it.

        Raises:
            StreamError: the stream does not answer; ask again.
        """


class Source(Protocol):
    """Where messages come from. One thread; a batch is acknowledged, or given up, before the next is asked for."""

    def poll(self, limit: int, timeout_s: float) -> Batch | None:
        """At most `limit` records, waiting for the first at most `timeout_s`; None: this source has ended.

        The first call joins the group.

        Raises:
            StreamError: it does not answer.
        """

    def hold(self) -> None:
        """Called often while a batch cannot be finished: nothing more is fetched, membership is kept."""

    def lag(self) -> Lag:
        """Of this reader's parts."""

    def progress(self) -> tuple[int, int] | None:
        """Bytes read and bytes in all; None: no end is known."""

    def close(self) -> None:
        """Leave the group. What was not acknowledged comes again."""


class Sink(Protocol):
    """Where rows go."""

    def write(self, rows: Sequence[Row]) -> None:
        """Write all; when it returns they are durable. After an error some may be there: write all again.

        Raises:
            StreamError: some or all are not.
        """

    def close(self) -> None:
        """Nothing more comes."""
