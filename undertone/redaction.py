"""Texts of some customer's messages in files, found and taken out; everything else in a file stays as it was."""

from __future__ import annotations

import csv
import html
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Stands where a text stood.
ERASED = "[erased]"

#: A shorter text is looked for as a whole value only: "ok" is part of many words.
LONG = 20
#: So is a shorter customer id.
LONG_ID = 6

#: Longest text that a training keeps (`training.repairs.MAX_CHARACTERS`).
_KEPT = 20_000
#: Beside a text that is erased these hold the same words: a behavioural check's changed text.
_SAME_WORDS = ("text", "changed", "message")

#: Files that hold words and can be written anew without them.
READABLE = frozenset({".json", ".jsonl", ".csv", ".tsv", ".html", ".md", ".txt", ".log"})


@dataclass(frozen=True)
class Sought:
    """What an erasure looks for.

    Attributes:
        customer: their id; None: nobody in particular (retention).
        message_ids: of their messages.
        texts: of their messages, as they are stored.
    """

    customer: str | None = None
    message_ids: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    _kept: frozenset[str] = field(init=False, repr=False)
    _long: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        texts = {text for text in self.texts if text.strip()}
        object.__setattr__(self, "_kept", frozenset(texts | {text[:_KEPT] for text in texts}))
        object.__setattr__(self, "_long", tuple(sorted((t for t in texts if len(t) >= LONG), key=len, reverse=True)))

    def __bool__(self) -> bool:
        return self.customer is not None or bool(self.message_ids or self.texts)

    def is_text(self, value: Any) -> bool:
        """Whether `value` is one of the texts; a spreadsheet's guarding apostrophe does not hide it."""
        return isinstance(value, str) and (value in self._kept or (value[:1] == "'" and value[1:] in self._kept))

    def is_id(self, value: Any) -> bool:
        """Whether `value` is the customer's id or that of a message."""
        return isinstance(value, str) and (value == self.customer or value in self.message_ids)

    def needles(self, most: int) -> list[bytes]:
        """At most `most` pieces of bytes by which these are seen in any file: the id, the longest texts."""
        ids = [self.customer] if self.customer is not None and len(self.customer) >= LONG_ID else []
        return [value.encode("utf-8", "surrogatepass") for value in [*ids, *self._long[:most]]]

    def replace(self, text: str) -> tuple[str, int]:
        """`text` without the long texts and the id that it holds, however they are escaped; how many there were."""
        count = 0
        ids = [self.customer] if self.customer is not None and len(self.customer) >= LONG_ID else []
        for value in [*self._long, *ids]:
            for form in _forms(value):
                if form in text:
                    count += text.count(form)
                    text = text.replace(form, ERASED)
        return text, count


def redact(data: bytes, suffix: str, sought: Sought) -> tuple[bytes, int]:
    """A file's content without what is sought, and how often it stood there; 0: the very same bytes.

    Args:
        data: the content.
        suffix: of the file, as `READABLE` has it.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return data, 0
    if suffix == ".json":
        made, count = _json(text, sought, indent=1)
    elif suffix == ".jsonl":
        made, count = _lines(text, sought)
    elif suffix in {".csv", ".tsv"}:
        made, count = _table(text, sought, "\t" if suffix == ".tsv" else ",")
    else:
        made, count = sought.replace(text)
    return (made.encode("utf-8"), count) if count else (data, 0)


def redact_value(value: Any, sought: Sought) -> tuple[Any, int]:
    """The same for a JSON-ready value. Ids leave lists; elsewhere they and texts become `ERASED`."""
    if isinstance(value, str):
        return (ERASED, 1) if sought.is_text(value) or sought.is_id(value) else sought.replace(value)
    if isinstance(value, list):
        kept = [item for item in value if not sought.is_id(item)]
        pairs = [redact_value(item, sought) for item in kept]
        return [item for item, _ in pairs], len(value) - len(kept) + sum(count for _, count in pairs)
    if isinstance(value, dict):
        named = {name: redact_value(item, sought) for name, item in value.items()}
        made, count = {name: item for name, (item, _) in named.items()}, sum(number for _, number in named.values())
        if sought.is_text(value.get("text")) or sought.is_id(value.get("message_id")):
            made |= {name: ERASED for name in _SAME_WORDS if isinstance(made.get(name), str)}
            count = max(count, 1)
        return made, count
    return value, 0


def readable_files(*roots: Path) -> Iterator[Path]:
    """Files of `READABLE` kinds under these folders."""
    for root in roots:
        yield from (path for path in sorted(root.rglob("*")) if path.suffix in READABLE and path.is_file())


def _json(text: str, sought: Sought, indent: int | None) -> tuple[str, int]:
    try:
        made, count = redact_value(json.loads(text), sought)
    except ValueError:
        return sought.replace(text)
    return json.dumps(made, ensure_ascii=False, indent=indent) + "\n" * text.endswith("\n"), count


def _lines(text: str, sought: Sought) -> tuple[str, int]:
    pairs = [_json(line, sought, None) if line.strip() else (line, 0) for line in text.splitlines(keepends=True)]
    return "".join(line for line, _ in pairs), sum(count for _, count in pairs)


def _table(text: str, sought: Sought, mark: str) -> tuple[str, int]:
    count, made = 0, io.StringIO(newline="")
    writer = csv.writer(made, delimiter=mark, lineterminator="\r\n" if "\r\n" in text else "\n")
    limit = csv.field_size_limit(max(len(text), 1))
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark):
            cells = [redact_value(cell, sought) for cell in row]
            count += sum(number for _, number in cells)
            writer.writerow([cell for cell, _ in cells])
    except csv.Error:
        return sought.replace(text)
    finally:
        csv.field_size_limit(limit)
    return made.getvalue(), count


def _forms(value: str) -> list[str]:
    """How `value` stands in HTML, JSON and CSV."""
    return list(
        dict.fromkeys(
            [
                value,
                html.escape(value),
                html.escape(value, quote=False),
                html.escape(value).replace("&#x27;", "&#39;"),  # as Jinja writes it
                html.escape(value).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
                json.dumps(value)[1:-1],
                json.dumps(value, ensure_ascii=False)[1:-1],
                repr(value)[1:-1],
                value.replace('"', '""'),
            ]
        )
    )
