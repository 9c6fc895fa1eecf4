"""Limits to how long a connection may take to say what it wants, and an end that cuts nobody short."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: Seconds within which a new connection must have sent a whole request head. A client that trickles its headers
#: (slow loris) is cut off; uvicorn itself waits for ever.
HEAD_S = 10.0

#: Seconds for the rest of a body whose request is answered already (a 408 or a 413): nobody reads it.
LINGER_S = 5.0

#: Seconds that a connection without a request stays open when the worker stops. What its client sent a moment before
#: the stop, and the worker had not read yet, is answered; uvicorn itself would reset the connection.
GRACE_S = 1.0


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with a clock on whatever a client still has to send."""

    _clock: asyncio.TimerHandle | None = None
    _ending = False

    def connection_made(self, transport: Any) -> None:
        """The clock starts with the connection."""
        super().connection_made(transport)
        self._allow(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to wait for any more."""
        self._came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A later request on the same connection gets its own time."""
        if self._clock is None:
            self._allow(HEAD_S)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head came in time; the body has its own limit (`serving.http.BODY_S`)."""
        self._came()
        super().on_headers_complete()
        if self._ending and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """The body is whole."""
        self._came()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer that came before the end of its request: what follows is thrown away, and not for long."""
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._allow(LINGER_S)

    def shutdown(self) -> None:
        """The worker stops: the request under way is the last, or one that is on its way."""
        self._ending = True
        if self.cycle is None or self.cycle.response_complete:
            self._allow(GRACE_S)
        else:
            self.cycle.keep_alive = False

    def _allow(self, seconds: float) -> None:
        self._came()
        self._clock = self.loop.call_later(seconds, self.transport.close)

    def _came(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None


class PatientServer(uvicorn.Server):
    """uvicorn, which lets in whoever has knocked before it closes the door.

    A connection that the kernel has accepted and the event loop has not would otherwise be reset.
    """

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the door, answer whoever is inside, end."""
        doors = [socket.socket(fileno=os.dup(door.fileno())) for server in self.servers for door in server.sockets]
        for server in self.servers:
            server.close()  # the event loop's part of it; whoever knocks meanwhile waits at the kernel's
        guests = [guest for door in doors for guest in _let_in(door)]
        for guest in guests:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, guest)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = PatientProtocol(self.config, self.server_state, self.lifespan.state)
        return made


def _let_in(door: socket.socket) -> Sequence[socket.socket]:
    """Everybody who waits at `door`, which is closed behind them."""
    guests = []
    door.setblocking(False)
    with door, suppress(BlockingIOError):
        while True:
            guests.append(door.accept()[0])
    return guests
