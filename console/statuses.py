"""The HTTP status of every error."""

from __future__ import annotations

from console.asked import NotUnderstood
from console.forms import Missing, TooLarge, Unreadable
from console.guard import Forged
from console.pages import NoSuchPage
from console.people import Unknown
from undertone.errors import (
    ConfigError,
    DataError,
    DecisionError,
    RegistryError,
    StoreError,
    UndertoneError,
    VerificationError,
)

STATUSES: dict[type[UndertoneError], int] = {
    Unreadable: 400,
    Unknown: 401,
    Forged: 403,
    NoSuchPage: 404,
    ConfigError: 409,
    DataError: 409,
    DecisionError: 409,
    VerificationError: 409,
    TooLarge: 413,
    Missing: 422,
    NotUnderstood: 422,
    RegistryError: 503,
    StoreError: 503,
}


def status_of(error: UndertoneError) -> int:
    """The status with which `error` is told; 500 for one that nobody foresaw."""
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)
