"""Answers to surveys from the files that common survey tools export: id, score, time, customer; never what was written.

Formats, as looked up in November 2026: Qualtrics has three header lines, the third with import ids and the time zone
(https://www.qualtrics.com/support/survey-platform/data-and-analysis-module/data/download-data/understanding-your-dataset/);
SurveyMonkey two, the second with parts of questions; Typeform one, times in UTC. Delighted's columns could not be
looked up: they are guessed from its API (https://app.delighted.com/docs/api/webhooks), and options name others.
"""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TextIO
from zoneinfo import ZoneInfo

from undertone import surveys
from undertone.errors import ConfigError, DataError
from undertone.store import Store
from undertone.surveys import Survey

BATCH = 1_000

#: What a column can hold.
FIELDS = ("id", "score", "time", "customer", "segment", "channel", "kind")

_NUMBER = re.compile(r"(?<![\w.-])-?\d+(?:\.\d+)?(?![\w.]*\w)")
#: Qualtrics' responses that no customer gave: previews, tests, spam.
_NOT_CUSTOMERS = {
    "1", "2", "8", "9", "17", "survey preview", "survey test", "spam", "preview spam", "offline preview",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tool:
    """How a tool writes its answers.

    Attributes:
        columns: names that each of `FIELDS` may have, the likeliest first.
        zone: of times without one.
    """

    columns: Mapping[str, tuple[str, ...]]
    zone: str = "UTC"


_WHO = ("customer_id", "customerid", "customer id", "user_id", "userid")
TOOLS: Mapping[str, Tool] = {
    "generic": Tool(
        {
            "id": ("id", "survey_id", "response_id"),
            "score": ("score",),
            "time": ("answered_at", "time", "created_at"),
            "customer": _WHO,
            "segment": ("segment",),
            "channel": ("channel",),
            "kind": ("kind",),
        }
    ),
    "qualtrics": Tool(
        {
            "id": ("responseid",),
            "score": (),
            "time": ("recordeddate", "enddate"),
            "customer": ("externalreference", "externaldatareference", *_WHO),
            "segment": ("segment",),
            "channel": ("distributionchannel",),
        }
    ),
    "surveymonkey": Tool(
        {
            "id": ("respondent id",),
            "score": (),
            "time": ("end date", "date modified"),
            "customer": (*_WHO, "custom data 1", "custom data"),
            "segment": ("segment",),
        }
    ),
    "typeform": Tool(
        {
            "id": ("#", "response id", "token"),
            "score": (),
            "time": ("submit date (utc)", "submitted at"),
            "customer": _WHO,
            "segment": ("segment",),
            "channel": ("channel",),
        }
    ),
    "delighted": Tool(
        {
            "id": ("response id", "survey response id", "id"),
            "score": ("score",),
            "time": ("response created at", "created at", "created_at"),
            "customer": _WHO,
            "segment": ("segment",),
            "channel": ("channel", "source"),
            "kind": ("survey type", "survey_type"),
        }
    ),
}


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file's rows.

    Attributes:
        rows: of answers in the file.
        stored: answers that the store now has.
        new: of these, how many it did not have before.
        without_customer: of these, how many cannot be joined with messages.
        left_out: rows by the reason why they were not stored.
        columns: the file's column for each field that was found.
    """

    rows: int
    stored: int
    new: int
    without_customer: int
    left_out: Mapping[str, int]
    columns: Mapping[str, str]


def import_file(
    store: Store,
    path: str,
    tool: str = "generic",
    *,
    kind: str = "",
    columns: Mapping[str, str] | None = None,
    zone: str = "",
    time_format: str = "",
    progress: Callable[[int], None] = lambda rows: None,
) -> Imported:
    """Store the answers of a CSV file; importing it again changes nothing.

    Args:
        store: where to.
        path: of a CSV or TSV file.
        tool: a name of `TOOLS`.
        kind: nps or csat, where no column says so.
        columns: the file's names of `FIELDS`, where the tool's are others; a part of a name is enough if only one
            column has it.
        zone: of times without one, as Europe/Vienna; empty: the file's own, else UTC.
        time_format: as `datetime.strptime` reads it; empty: ISO 8601.
        progress: told the number of rows after each batch.

    Raises:
        ConfigError: no such tool, zone or field.
        DataError: the file cannot be read, or lacks a column that is needed.
    """
    if tool not in TOOLS:
        raise ConfigError(f"a survey tool: {', '.join(TOOLS)}", repr(tool), "choose one, or generic")
    if unknown := sorted(set(columns or {}) - set(FIELDS)):
        raise ConfigError(f"fields {', '.join(FIELDS)}", ", ".join(unknown), "name one of these")
    if kind and kind not in surveys.KINDS:
        raise ConfigError(f"a kind: {', '.join(surveys.KINDS)}", repr(kind), "choose one")
    named = _zone(zone) if zone else None
    try:
        with _open(path) as file:
            return _import(store, file, path, tool, kind, columns or {}, named, time_format, progress)
    except (csv.Error, UnicodeError) as error:
        raise DataError("a CSV file of answers", f"{type(error).__name__}: {error}", f"check {path}") from error


def _import(
    store: Store,
    file: TextIO,
    path: str,
    tool: str,
    kind: str,
    columns: Mapping[str, str],
    named: ZoneInfo | None,
    time_format: str,
    progress: Callable[[int], None],
) -> Imported:
    left_out: Counter[str] = Counter()
    rows = stored = new = strangers = 0
    header, body, own_zones = _rows(file, tool, path)
    places = _places(header, TOOLS[tool], columns, kind, path)
    clock = named or own_zones.get(places["time"]) or _zone(TOOLS[tool].zone)
    status = next((place for place, name in enumerate(header) if name.strip().lower() == "status"), None)
    batch: list[Survey] = []

    def flush() -> None:
        nonlocal stored, new, strangers
        written = surveys.write(store, batch)
        new, stored = new + written.new, stored + written.stored
        if written.erased:
            left_out["of a customer who was erased since"] += written.erased
        strangers += sum(answer.customer_id is None for answer in batch)
        batch.clear()
        progress(rows)

    for row in body:
        rows += 1
        if tool == "qualtrics" and status is not None and _cell(row, status).lower() in _NOT_CUSTOMERS:
            left_out["preview, test or spam"] += 1
            continue
        answer = _answer(row, places, tool, kind, clock, time_format)
        if isinstance(answer, str):
            left_out[answer] += 1
            continue
        batch.append(answer)
        if len(batch) >= BATCH:
            flush()
    flush()
    found = {field: header[place] for field, place in places.items()}
    return Imported(rows, stored, new, strangers, dict(left_out), found)


def score_of(cell: str) -> float | None:
    """The score in a cell such as ``9``, ``10 - Extremely likely`` or ``Very satisfied (5)``; None: there is none.

    A cell with several numbers has none: nobody knows which one is meant.
    """
    numbers = _NUMBER.findall(cell)
    return float(numbers[0]) if len(numbers) == 1 else None


def _answer(
    row: Sequence[str], places: Mapping[str, int], tool: str, kind: str, zone: ZoneInfo, time_format: str
) -> Survey | str:
    """The row's answer, or why there is none."""
    cells = {field: _cell(row, place) for field, place in places.items()}
    if not cells["score"]:
        return "no score"
    score = score_of(cells["score"])
    if score is None:
        return "a score that is no number"
    try:
        moment = _moment(cells["time"], zone, time_format)
    except (ValueError, OverflowError):
        return "a time that cannot be read"
    of = kind or cells.get("kind", "").lower()
    if of not in surveys.KINDS:
        return "neither nps nor csat"
    try:
        return surveys.survey(
            tool,
            cells["id"],
            of,
            score,
            moment,
            customer_id=cells.get("customer"),
            segment=cells.get("segment"),
            channel=cells.get("channel"),
        )
    except DataError as error:
        return f"{error.found} instead of {error.expected}"


def _moment(cell: str, zone: ZoneInfo, time_format: str) -> datetime:
    moment = datetime.strptime(cell, time_format) if time_format else datetime.fromisoformat(cell)
    return (moment.replace(tzinfo=zone) if moment.tzinfo is None else moment).astimezone(UTC)


def _cell(row: Sequence[str], place: int) -> str:
    return row[place].strip() if place < len(row) else ""


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # KeyError: no such zone
        raise ConfigError("a time zone such as Europe/Vienna", repr(name), "write its IANA name") from error


def _open(path: str) -> TextIO:
    """The file as text: UTF-8, or UTF-16 as Qualtrics writes TSV."""
    try:
        with open(path, "rb") as file:
            wide = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return open(path, encoding="utf-16" if wide else "utf-8-sig", newline="")
    except OSError as error:
        raise DataError("a CSV file of answers", f"{type(error).__name__}: {error}", f"check {path}") from error


def _rows(file: TextIO, tool: str, path: str) -> tuple[list[str], Iterator[list[str]], dict[int, ZoneInfo]]:
    """Names of the columns, the rows of answers, and time zones that the file names, by column."""
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else _separator(file)
    reader = csv.reader(file, delimiter=separator)
    header = next(reader, [])
    body: Iterator[list[str]] = (row for row in reader if any(cell.strip() for cell in row))
    first = next(body, None)
    if tool == "qualtrics":
        ids = next(body, [])
        if not any(cell.lstrip().startswith('{"ImportId"') for cell in ids):
            raise DataError("Qualtrics' third header line, with import ids", "another", "export it as CSV again")
        return header, body, _zones(ids)
    if tool == "surveymonkey" and first is not None and not _cell(first, 0):  # the parts of questions
        return [f"{name} {_cell(first, place)}".strip() for place, name in enumerate(_filled(header))], body, {}
    return header, chain([] if first is None else [first], body), {}


def _separator(file: TextIO) -> str:
    line = file.readline()
    file.seek(0)
    return max(",;\t", key=line.count)


def _filled(header: Sequence[str]) -> list[str]:
    """A question's name also over the columns of its parts."""
    names: list[str] = []
    for name in header:
        names.append(name.strip() or (names[-1] if names else ""))
    return names


def _zones(ids: Sequence[str]) -> dict[int, ZoneInfo]:
    zones = {}
    for place, cell in enumerate(ids):
        try:
            name = json.loads(cell).get("timeZone")
        except (ValueError, AttributeError):
            continue
        if name == "Z":
            name = "UTC"
        if name:
            zones[place] = _zone(name)
    return zones


def _places(header: Sequence[str], tool: Tool, given: Mapping[str, str], kind: str, path: str) -> dict[str, int]:
    """The column of each field."""
    names = [name.strip().lower() for name in header]
    places: dict[str, int] = {}
    for field in FIELDS:
        if field in given:
            places[field] = _find(names, given[field], header, path)
        else:
            wanted = tool.columns.get(field, ())
            place = next((names.index(name) for name in wanted if name in names), None)
            if place is None:  # of two header lines, the second one's word stands behind
                place = next((at for name in wanted for at, of in enumerate(names) if of.startswith(f"{name} ")), None)
            if place is not None:
                places[field] = place
    if "score" not in places and kind == "nps":  # Qualtrics writes the group of a net promoter score beside it
        group = next((place for place, name in enumerate(names) if name.endswith("_nps_group")), None)
        if group is not None and names[group].removesuffix("_nps_group") in names:
            places["score"] = names.index(names[group].removesuffix("_nps_group"))
    for field in ("id", "score", "time"):
        if field not in places:
            raise DataError(
                f"a column with the {field} of an answer",
                ", ".join(header)[:300] or "an empty file",
                f"name it: --{field} COLUMN",
            )
    if not kind and "kind" not in places:
        raise DataError("a kind of survey", "none, and no column that says it", "say --kind nps or --kind csat")
    return places


def _find(names: Sequence[str], wanted: str, header: Sequence[str], path: str) -> int:
    wanted = wanted.strip().lower()
    found = [place for place, name in enumerate(names) if name == wanted]
    found = found or [place for place, name in enumerate(names) if wanted in name]
    if len(found) != 1:
        raise DataError(
            f"one column {wanted!r} in {path}", ", ".join(header)[:300] if not found else f"{len(found)}", "name it"
        )
    return found[0]
