"""What the command line prints: data to standard output, talk to standard error."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from undertone.errors import ConfigError
from undertone.records import utc
from undertone.settings import Settings

if TYPE_CHECKING:
    from rich.progress import Progress


def say(text: str) -> None:
    """One line of talk, to standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def emit(data: Any, *, as_json: bool, text: str = "") -> None:
    """The answer itself, to standard output: `data` as JSON, or `text` for people."""
    print(json.dumps(data, indent=2, default=str) if as_json else text, flush=True)  # noqa: T201


def progress() -> Progress:
    """Bars with counts and the time that is left, on standard error; for a `with`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Rows as aligned columns under their names."""
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
             for line in [list(columns), ["-" * width for width in widths], *cells]]  # fmt: skip
    return "\n".join(lines)


def talk(level: int = logging.INFO) -> None:
    """Show what Undertone's own loggers say, one plain line each, on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("undertone")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(level)


def moment(value: str) -> datetime:
    """An ISO 8601 time; without a zone it is UTC.

    Raises:
        ConfigError: it is not one.
    """
    try:
        return utc(datetime.fromisoformat(value))
    except ValueError as error:
        raise ConfigError("a time such as 2026-10-05T03:00Z", repr(value), "write it as ISO 8601") from error


def ask_passphrase(settings: Settings) -> str | None:
    """The passphrase of the actor's private key: from the settings, else typed here; None where it needs none.

    Raises:
        ConfigError: it needs one, and nobody is there to type it.
    """
    from undertone.keys import is_encrypted, private_path

    path = private_path(settings, settings.actor)
    if settings.passphrase is not None or not is_encrypted(path):
        return None
    return _typed(f"Passphrase of {path.name}: ")


def prove_trainer() -> None:
    """Before hours of training: where duties are separated, the trainer's key is here and opens, or it is told now."""
    from undertone import identity, keys
    from undertone.settings import get_settings, remember_passphrase

    settings = get_settings()
    if keys.separate(settings):
        typed = ask_passphrase(settings)
        if typed is not None:
            remember_passphrase(typed)
        identity.trainer(get_settings(), settings.actor)


def ask_new_passphrase(settings: Settings) -> str | None:
    """A passphrase for a new key, typed twice; None in the single-person profile, where a key needs none.

    Raises:
        ConfigError: the two differ, or nobody is there to type them.
    """
    if settings.passphrase is not None:
        return settings.passphrase.get_secret_value()
    if settings.profile == "single":
        return None
    first = _typed("New passphrase: ")
    if first != _typed("Once more: "):
        raise ConfigError("the same passphrase twice", "two that differ", "try again")
    return first


def _typed(prompt: str) -> str:
    import getpass

    if not sys.stdin.isatty():
        raise ConfigError("a passphrase", "no terminal to type it at", "set UNDERTONE_PASSPHRASE")
    return getpass.getpass(prompt)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:.4f}"
    return str(value)
