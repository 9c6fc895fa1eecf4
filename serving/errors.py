"""What a request can meet, each with its HTTP status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from undertone.errors import DataError, UndertoneError


class NotJson(DataError):
    """The body is not JSON."""

    status = 400


class TooMany(DataError):
    """More messages than one request may hold."""

    status = 413


class BodyTooLarge(UndertoneError):
    """The body holds more bytes than one request may."""

    status = 413


class TooSlow(UndertoneError):
    """The body did not arrive in time."""

    status = 408


class NotFound(UndertoneError):
    """No such page or model."""

    status = 404


class NotAllowed(UndertoneError):
    """The page is there, and does not take this method.

    Args:
        methods: that it takes.
    """

    status = 405

    def __init__(self, expected: str, found: str, next_step: str, methods: Sequence[str]) -> None:
        super().__init__(expected, found, next_step)
        self.headers = {"Allow": ", ".join(methods)}


class NotTaken(UndertoneError):
    """The body's media type is not one that the page takes."""

    status = 415


class Stranger(UndertoneError):
    """No API key, or none that is known."""

    status = 401
    headers: ClassVar = {"WWW-Authenticate": 'Bearer realm="undertone"'}


class Later(UndertoneError):
    """Not now, perhaps soon.

    Args:
        after_s: seconds after which it may be worth another try.
    """

    status = 503

    def __init__(self, expected: str, found: str, next_step: str, after_s: float = 1.0) -> None:
        super().__init__(expected, found, next_step)
        self.after_s = after_s


class Overloaded(Later):
    """More messages wait than the worker may hold, or longer than a request may wait."""


class NoModel(Later):
    """No task has a version that may serve."""


class NoKeys(Later):
    """The file of API keys cannot be read, so nobody can be let in."""


class NoExplanations(Later):
    """What explains is not installed."""


class NoRoom(Later):
    """Scored messages cannot be written to disk; none of the request was accepted."""


class TooOften(Later):
    """More requests than this caller may send."""

    status = 429


class Gone(Exception):
    """The client hung up: nobody waits for an answer."""


def status_of(error: UndertoneError) -> int:
    """The HTTP status of an error: its own, 422 for data that cannot be used, else 500."""
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else 422 if isinstance(error, DataError) else 500
