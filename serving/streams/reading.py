"""Records into messages, one by one: a record that is none does not stop its neighbours. And the schema they keep."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from serving.errors import BodyTooLarge
from serving.streams.base import Record, Row
from serving.wire import MessageIn, messages_of, read_json
from undertone.errors import UndertoneError
from undertone.masking import Masker
from undertone.records import Message
from undertone.settings import Settings


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one message in a stream."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Message",
        **{name: value for name, value in MessageIn.model_json_schema().items() if name != "title"},
    }


class Reader:
    """Reads records by the rules of `POST /v1/score`.

    Args:
        source: name of the source, for dead letters.
        with_values: dead letters hold what was sent, customers' words among it.
    """

    def __init__(self, settings: Settings, source: str, *, with_values: bool = False) -> None:
        self._settings = settings
        self._mask = Masker.of(settings)
        self._source = source
        self._with_values = with_values

    def read(self, records: Sequence[Record], now: datetime) -> tuple[dict[int, Message], list[Row]]:
        """The messages by the place of their record, and dead letters for the others."""
        messages: dict[int, Message] = {}
        letters: list[Row] = []
        for index, record in enumerate(records):
            try:
                messages[index] = self._message(record, now)
            except UndertoneError as error:
                letters.append(self.letter(record, error, now))
        return messages, letters

    def _message(self, record: Record, now: datetime) -> Message:
        limit = self._settings.max_body_bytes
        if len(record.value) > limit:
            raise BodyTooLarge(f"at most {limit:,} bytes in one message", f"{len(record.value):,}", "send less of it")
        data = read_json(record.value)
        if isinstance(data, dict) and data.get("id") is None:
            data["id"] = record.id
        (message,) = messages_of(
            {"messages": [data]}, now, max_messages=1, max_chars=self._settings.max_text_chars, mask=self._mask
        )
        return message

    def letter(self, record: Record, error: UndertoneError, now: datetime) -> Row:
        """A record that cannot be scored: where it stands, and why. Without its text, unless that was asked for."""
        told: dict[str, Any] = {
            "source": self._source,
            "place": record.place,
            "reason": error.as_dict(),
            "at": now.isoformat(),
            "bytes": len(record.value),
            "sha256": hashlib.sha256(record.value).hexdigest(),
        }
        if self._with_values:
            try:
                told["value"] = record.value.decode()
            except UnicodeDecodeError:
                told["value_base64"] = base64.b64encode(record.value).decode()
        return Row(record.id, orjson.dumps(told))
