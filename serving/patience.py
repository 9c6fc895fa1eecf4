"""A limit to how long a connection may take to say what it wants."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds within which a new connection must have sent a whole request head. A client that trickles its headers
#: (slow loris) is cut off; uvicorn itself waits for ever.
HEAD_S = 10.0


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with `HEAD_S` for each request's head."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """The clock starts with the connection."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._head_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A later request on the same connection gets its own time."""
        if self._head is None:
            self._wait_for_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head came in time."""
        self._head_came()
        super().on_headers_complete()

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(HEAD_S, self.transport.close)

    def _head_came(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
