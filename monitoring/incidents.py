"""Incidents: what people are told of, read from the ledger alone. One alert opens one, one message says it is over.

A drift incident opens at a verdict act or severe, and is over when a window is stable or another version serves. A
quality incident opens at any finding of gate 0, and is over at a window without one. A warn tells nobody, and neither
a warn nor too few messages ends anything. A request for labels is told once per model version, and is never over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from undertone.records import LedgerEntry

Kind = Literal["drift", "quality", "labels"]
Step = Literal["opened", "worse", "over"]

#: The ledger's kinds that this module reads and `flows.alerts` writes.
KINDS = ("drift", "alert", "resolved")

#: Name of the event by what happened; people listen for these, so they do not change.
EVENTS: dict[tuple[Kind, Step], str] = {
    ("drift", "opened"): "undertone.drift.act",
    ("drift", "worse"): "undertone.drift.severe",
    ("drift", "over"): "undertone.drift.resolved",
    ("quality", "opened"): "undertone.quality.failed",
    ("quality", "over"): "undertone.quality.resolved",
    ("labels", "opened"): "undertone.labels.wanted",
}

_ACTS = ("act", "severe")


@dataclass(frozen=True, slots=True)
class News:
    """One thing to tell people.

    Attributes:
        incident: its id, the same whoever works it out: from the ledger's row of the look that opened it.
        version: model version of the incident, which need not be the one that serves now.
        look: the watch's row that says it.
    """

    incident: str
    kind: Kind
    step: Step
    version: int | None
    reason: str
    look: LedgerEntry

    @property
    def event(self) -> str:
        """One of `EVENTS`."""
        return EVENTS[self.kind, self.step]

    @property
    def ledger_kind(self) -> str:
        """The kind of ledger row that keeps it."""
        return "resolved" if self.step == "over" else "alert"


def news(rows: Sequence[LedgerEntry], *, ask_labels: bool = False) -> tuple[News, ...]:
    """What the newest look of a task has people told, given what they were told before; endings first.

    A look whose clock stands before that of the look before it is one at the past, and tells nothing.

    Args:
        rows: the task's rows of `KINDS`, in the ledger's order.
        ask_labels: the newest look's decision asks people for labels.
    """
    looks = [row for row in rows if row.kind == "drift"]
    if not looks or _past(looks, len(looks) - 1):
        return ()
    found = (*_of_kind("drift", rows), *_of_kind("quality", rows))
    wanted = _labels(rows, looks) if ask_labels else ()
    return (*sorted(found, key=lambda item: item.step != "over"), *wanted)


def undelivered(rows: Sequence[LedgerEntry]) -> list[tuple[LedgerEntry, tuple[str, ...]]]:
    """Messages that some channels have not got yet, oldest first, each with those channels.

    A row of kind alert or resolved says in ``channels`` what got through; a later row that names it in ``of`` says what
    got through since.
    """
    first: dict[int, LedgerEntry] = {}
    missing: dict[int, dict[str, None]] = {}
    for row in rows:
        if row.kind == "drift":
            continue
        seq = row.payload.get("of", row.seq)
        first.setdefault(seq, row)
        waiting = missing.setdefault(seq, {})
        for channel, delivered in row.payload.get("channels", {}).items():
            if delivered:
                waiting.pop(channel, None)
            else:
                waiting[channel] = None
    return [(first[seq], tuple(waiting)) for seq, waiting in missing.items() if waiting]


@dataclass(slots=True)
class _Open:
    """An incident that people were told of."""

    incident: str
    version: int | None
    severe: bool


def _of_kind(kind: Kind, rows: Sequence[LedgerEntry]) -> Iterator[News]:
    """Fold the rows: from which look to which it is bad, and what people believe; the difference is the news."""
    looks = [row for row in rows if row.kind == "drift"]
    numbers = {row.seq: number for number, row in enumerate(looks)}
    newest, latest = looks[-1], looks[-1]
    since: LedgerEntry | None = None
    told: _Open | None = None
    for row in rows:
        if row.kind != "drift":
            if row.payload.get("kind") == kind and "of" not in row.payload:
                told = _told(row, told)
        elif not _past(looks, numbers[row.seq]):
            if since is not None and _ending(kind, row, since.version):
                since = None
            if _bad(kind, row):
                since, latest = since or row, row
    if told is not None and (why := _ending(kind, newest, told.version)):
        yield News(told.incident, kind, "over", told.version, why, newest)
        told = None
    if told is None and since is not None:
        yield News(_name(kind, since), kind, "opened", since.version, _reason(kind, latest), latest)
    elif told is not None and not told.severe and kind == "drift" and newest.payload.get("verdict") == "severe":
        yield News(told.incident, kind, "worse", told.version, newest.reason, newest)


def _told(row: LedgerEntry, told: _Open | None) -> _Open | None:
    if row.kind == "resolved":
        return None
    severe = row.payload.get("verdict") == "severe" or (told is not None and told.severe)
    return _Open(row.payload["incident"], row.version, severe)


def _labels(rows: Sequence[LedgerEntry], looks: Sequence[LedgerEntry]) -> Iterator[News]:
    newest = looks[-1]
    asked = any(row.payload.get("kind") == "labels" for row in rows if row.version == newest.version)
    if not asked:
        first = next(row for row in looks if row.version == newest.version)
        yield News(
            _name("labels", first), "labels", "opened", newest.version, "a retrain needs labels by people", newest
        )


def _past(looks: Sequence[LedgerEntry], number: int) -> bool:
    return number > 0 and looks[number].at < looks[number - 1].at


def _bad(kind: Kind, look: LedgerEntry) -> bool:
    return bool(look.payload.get("quality")) if kind == "quality" else look.payload.get("verdict") in _ACTS


def _ending(kind: Kind, look: LedgerEntry, version: int | None) -> str:
    """Why an incident of `version` is over at this look; empty where it is not."""
    verdict = look.payload.get("verdict")
    if kind == "quality":
        return "" if look.payload.get("quality") or verdict == "too_few" else "the messages are as they should be again"
    if look.version != version:
        return f"version {look.version} serves now"
    return look.reason if verdict == "stable" else ""


def _reason(kind: Kind, look: LedgerEntry) -> str:
    if kind == "quality":
        return "; ".join(f"{item['upstream']}: {item['found']}" for item in look.payload["quality"])
    return look.reason


def _name(kind: Kind, first: LedgerEntry) -> str:
    # the row's hash covers the whole history before it, so no other store has an incident of this name
    return f"{first.task}-{first.version}-{kind}-{first.hash[:12]}"


_TITLES = {
    "undertone.drift.act": "the messages have drifted",
    "undertone.drift.severe": "the drift has become severe",
    "undertone.drift.resolved": "the drift is over",
    "undertone.quality.failed": "an upstream sends broken messages",
    "undertone.quality.resolved": "the messages are as they should be again",
    "undertone.labels.wanted": "labels by people are wanted",
}

_NEXT = {
    "undertone.drift.act": (
        "Read the report: which signals and segments moved.",
        "Label the audit's messages: `undertone reviews next {task}`. The audit decides, not the drift.",
        "What happened and why: `undertone ledger show --task {task}`.",
    ),
    "undertone.quality.failed": (
        "Mend the upstream that is named. No retrain that drift asks for starts meanwhile.",
        "The next watch says when it is over: `undertone watch {task}` looks now.",
    ),
    "undertone.labels.wanted": ("Label messages: `undertone reviews next {task}`.",),
}
_NEXT["undertone.drift.severe"] = _NEXT["undertone.drift.act"]


def subject(message: Mapping[str, Any]) -> str:
    """One line for a sent message."""
    title = _TITLES.get(message["event"], message["event"])
    return f"{message['task']}, version {message['version']}: {title}"


def as_text(message: Mapping[str, Any]) -> str:
    """A sent message in words: what happened, what was decided, what to do next."""
    return "\n".join([*_facts(message), *_steps(message)])


def as_markdown(message: Mapping[str, Any]) -> str:
    """A sent message as a page."""
    facts, steps = (["", *(f"- {line}" for line in lines)] for lines in (_facts(message), _steps(message)))
    return "\n".join([f"# {subject(message)}", *facts, *(["", "## Next", *steps] if len(steps) > 1 else []), ""])


def _facts(message: Mapping[str, Any]) -> Iterator[str]:
    window, decision = message.get("window"), message.get("decision")
    yield str(message["reason"])
    if window:
        yield f"Window: {window[0]} to {window[1]}"
    if decision:
        yield f"{'Retrain' if decision['retrain'] else 'No retrain'} ({decision['rule']}): {decision['reason']}"
    if message.get("report"):
        yield f"Report: {message['report']}"
    if message.get("run"):
        yield f"Run: {message['run']}"
    yield f"Incident: {message['incident']}, {message['at']}"


def _steps(message: Mapping[str, Any]) -> Iterator[str]:
    for step in _NEXT.get(message["event"], ()):
        yield step.format(task=message["task"])
