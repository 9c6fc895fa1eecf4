"""The channels through which people are told: a webhook and Prefect notification blocks. None of them raises."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import httpx

from undertone.settings import Settings

log = logging.getLogger("undertone.alerts")

#: Seconds a receiver has for each step of an answer, and those between the tries.
TIMEOUT = 5.0
PAUSES = (0.5, 1.5)

_WEBHOOK = "webhook"

Written = Callable[[Mapping[str, Any]], str]


class Channels:
    """The webhook and the notification blocks of the settings. One that fails gets nothing more from this object.

    Args:
        subject: one line for a message, for notification blocks.
        text: a message in words, likewise.
    """

    def __init__(self, settings: Settings, subject: Written, text: Written) -> None:
        self.url = settings.webhook_url
        self.names = [*([_WEBHOOK] if self.url else []), *settings.notification_blocks]
        self.down: set[str] = set()
        self._subject, self._text = subject, text

    def send(self, message: Mapping[str, Any], names: Sequence[str]) -> dict[str, bool]:
        """Send to the named channels; gives which of them took it.

        Args:
            message: JSON-ready, with ``event`` and ``task``.
        """
        return {name: self._sent(name, message) for name in names}

    def _sent(self, name: str, message: Mapping[str, Any]) -> bool:
        if name in self.down:  # what it missed comes first at the next watch: people read in order
            return False
        problem = _post(self.url, message) if name == _WEBHOOK else self._through_block(name, message)
        if problem:
            self.down.add(name)
            where = f"webhook at {_host(self.url)}" if name == _WEBHOOK else name
            log.warning("%s: %s did not take %s: %s", message["task"], where, message["event"], problem)
        return not problem

    def _through_block(self, name: str, message: Mapping[str, Any]) -> str:
        """Send through a Prefect notification block, ``type/name``; gives the problem, or nothing."""
        from prefect.blocks.abstract import NotificationBlock
        from prefect.blocks.core import Block

        try:
            block = Block.load(name)
            if not isinstance(block, NotificationBlock):
                return "it is no notification block"
            with _quiet_httpx(), block.raise_on_failure():
                sent: object = block.notify(self._text(message), self._subject(message))
                if inspect.iscoroutine(sent):  # a block of somebody's own may know async only
                    asyncio.run(sent)
        except Exception as error:  # noqa: BLE001 - blocks are other people's code, and an alert must not end the watch
            return type(error).__name__
        return ""


def _post(url: str, message: Mapping[str, Any]) -> str:
    """Post as JSON, three tries; gives the problem, or nothing. The address is secret: problems do not name it."""
    body = {key: value for key, value in message.items() if key != "channels"}
    problem = ""
    for pause in (*PAUSES, None):
        try:
            with _quiet_httpx():
                status = httpx.post(url, json=body, timeout=TIMEOUT).status_code
            if status < 300:
                return ""
            problem = f"HTTP status {status}"
            if status < 500 and status != 429:  # the same again would not help
                return problem
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = type(error).__name__
        if pause is not None:
            time.sleep(pause)
    return problem


@contextmanager
def _quiet_httpx() -> Iterator[None]:
    """Keep httpx from logging the whole address of a request: a webhook's address is its secret."""

    def drop(record: logging.LogRecord) -> bool:
        return False

    logger = logging.getLogger("httpx")
    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host or "no host"
    except httpx.InvalidURL:
        return "no readable address"
