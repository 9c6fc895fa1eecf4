"""The pages on which people label: what waits, one message at a time, and how far people agree.

A message is shown without any answer: neither a model's nor another person's, nor why it was picked. Whoever opens a
task's page has its message in hand for half an hour; a label, a skip or an undo leads to the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console import people
from console.acts import Form
from console.forms import Missing
from console.pages import known_task
from console.render import Console, page
from console.statuses import status_of
from undertone.agreement import Agreement, agree, agree_by_label, by_people
from undertone.audit_figures import Quality, measure
from undertone.errors import UndertoneError
from undertone.reviews import Reviews, age
from undertone.tasks import TASKS, TaskSpec
from undertone.text import repair

router = APIRouter(prefix="/reviews")

#: Keeps the name that somebody labels under, where nobody logs in and several people work.
NAME = "undertone_reviewer"

#: Longest such name.
NAME_CHARS = 80

#: Messages with two labels that differ, on one page.
DIFFERENT = 50

#: Why items are in the queue, in words.
REASONS = {
    ("audit", "random"): "audit: drawn at random",
    ("second", None): "labelled before, by another person",
    ("review", "random"): "picked at random",
    ("review", "unsure"): "the model is unsure",
    ("review", "diverse"): "unsure, and unlike the others",
    ("review", "disagreement"): "sentiment and sarcasm disagree",
    ("review", "drift"): "the drift watch asked",
}


@dataclass(frozen=True, slots=True)
class Queue:
    """What waits for one task, and what its labels say.

    Attributes:
        yours: items that could come to who looks; None: nobody said who that is.
        rows: counts by kind and reason, as `undertone.reviews.Reviews.tally`, with the reason in words.
        audited, random: quality of the champion, `version`, on audited answers and on the random share of the picks.
    """

    spec: TaskSpec
    yours: int | None
    rows: list[dict[str, Any]]
    version: int | None
    audited: Quality | None
    random: Quality | None
    agreement: Agreement | None

    @property
    def open(self) -> int:
        """Items that wait for anybody."""
        return sum(row["open"] for row in self.rows)


@router.get("")
def queues(request: Request) -> Response:
    """What waits for people, by task."""
    return _queues(request)


@router.post("")
def name(request: Request, form: Form) -> Response:
    """Say under which name to label, where nobody logs in and several people work."""
    console: Console = request.app.state.console
    if _known(console, request) is not None:
        return RedirectResponse("/reviews", status_code=303)
    typed = repair(form.get("name", "")).strip()
    if not typed or len(typed) > NAME_CHARS:
        found = f"{len(typed)} characters" if typed else "none"
        error = Missing(
            f"a name of at most {NAME_CHARS} characters", found, "type the name that your labels shall bear"
        )
        return _queues(request, error, status_of(error))
    answer = RedirectResponse("/reviews", status_code=303)
    answer.set_cookie(NAME, quote(typed, safe=""), httponly=True, samesite="strict", path="/reviews")
    return answer


@router.get("/{task}")
def message(request: Request, task: str) -> Response:
    """The next message of a task, in hand of who asks."""
    return _message(request, known_task(task))


@router.post("/{task}")
def act(request: Request, task: str, form: Form) -> Response:
    """Label or skip the message that the form showed; then comes the next one."""
    console: Console = request.app.state.console
    spec, now = known_task(task), datetime.now(UTC)
    queue, item, who = console.workspace.reviews, _item(form), _who(console, request)

    def done() -> None:
        if form.get("skip"):
            queue.skip(item, who, now)
        elif form.get("label"):
            queue.label(item, form["label"], who, now)
        else:
            raise Missing(f"one of the labels {', '.join(spec.labels)}", "none", "choose one, or skip the message")

    return _next(request, spec, done)


@router.post("/{task}/undo")
def undo(request: Request, task: str, form: Form) -> Response:
    """Take back what the form showed as the last act of who asks; that message comes again."""
    console: Console = request.app.state.console
    spec, item, who = known_task(task), _item(form), _who(console, request)
    return _next(request, spec, lambda: console.workspace.reviews.undo(who, datetime.now(UTC), spec.name, item))


@router.get("/{task}/agreement")
def agreement(request: Request, task: str) -> Response:
    """How far two people give a message the same label, and where they differ."""
    console: Console = request.app.state.console
    spec, queue = known_task(task), console.workspace.reviews
    twice = queue.twice(spec.name)
    kept = [one for one in twice if one.same_guideline]
    pairs = [(one.first_label, one.second_label) for one in kept]
    differ = [one for one in kept if one.first_label != one.second_label]
    texts = queue.texts([one.message_id for one in differ[:DIFFERENT]])
    return page(
        request,
        "review_agreement.html",
        spec=spec,
        agreement=agree(spec.labels, pairs),
        people=[(names, agree(spec.labels, both)) for names, both in by_people(kept).items()],
        labels=agree_by_label(spec.labels, pairs),
        differ=[(one, texts.get(one.message_id)) for one in differ[:DIFFERENT]],
        more=max(len(differ) - DIFFERENT, 0),
        other_guidelines=len(twice) - len(kept),
    )


def _queues(request: Request, refused: UndertoneError | None = None, status: int = 200) -> Response:
    console: Console = request.app.state.console
    now, who = datetime.now(UTC), _typed(console, request)
    return page(
        request,
        "reviews.html",
        status,
        queues=[_queue(console, spec, who, now) for spec in TASKS.values()],
        who=who,
        asks=_known(console, request) is None,
        refused=refused,
        longest=NAME_CHARS,
    )


def _queue(console: Console, spec: TaskSpec, who: str | None, now: datetime) -> Queue:
    queue: Reviews = console.workspace.reviews
    since = now - timedelta(days=spec.audit.max_age_days)
    champion = console.workspace.ledger.champion(spec.name, now)
    version = champion.version if champion else None
    pairs = [(one.first_label, one.second_label) for one in queue.twice(spec.name) if one.same_guideline]
    audited = queue.audited(spec.name, version, since, now) if version is not None else []
    drawn = queue.at_random(spec.name, version, since, now) if version is not None else []
    return Queue(
        spec=spec,
        yours=None if who is None else queue.waiting(spec.name, who, now),
        rows=[
            row | {"why": REASONS.get((row["kind"], row["reason"]), f"{row['kind']} {row['reason'] or ''}".strip())}
            for row in queue.tally(spec.name, now)
        ],
        version=version,
        audited=measure(spec.labels, audited),
        random=measure(spec.labels, drawn),
        agreement=agree(spec.labels, pairs),
    )


def _message(request: Request, spec: TaskSpec, refused: UndertoneError | None = None, status: int = 200) -> Response:
    console: Console = request.app.state.console
    queue, now, who = console.workspace.reviews, datetime.now(UTC), _who(console, request)
    item = next(iter(queue.next(spec.name, who, now)), None)
    return page(
        request,
        "review.html",
        status,
        spec=spec,
        item=item,
        age=age(item["sent_at"], now) if item else "",
        waiting=queue.waiting(spec.name, who, now),
        open=sum(row["open"] for row in queue.tally(spec.name, now)) if item is None else 0,
        last=queue.last_act(who, spec.name),
        who=who,
        refused=refused,
    )


def _next(request: Request, spec: TaskSpec, act: Callable[[], Any]) -> Response:
    """Do it, and show the next message; or say why it was not done."""
    try:
        act()
    except UndertoneError as error:
        status = status_of(error)
        if status >= 500:  # the page itself could not be shown either
            raise
        return _message(request, spec, error, status)
    return RedirectResponse(f"/reviews/{spec.name}", status_code=303)


def _who(console: Console, request: Request) -> str:
    """Who labels.

    Raises:
        Missing: several people work here, and this one gave no name.
    """
    who = _typed(console, request)
    if who is None:
        raise Missing("a name to label under", "none", "type yours on the page of the review queue: /reviews")
    return who


def _typed(console: Console, request: Request) -> str | None:
    """Who looks: as `_known`, or as they said themselves."""
    known = _known(console, request)
    return known or repair(unquote(request.cookies.get(NAME, ""))).strip()[:NAME_CHARS] or None


def _known(console: Console, request: Request) -> str | None:
    """The user who logged in, or the only one there is; None: people must say who they are."""
    return people.asking(console.settings, request.state.user).actor


def _item(form: dict[str, str]) -> int:
    number = form.get("item", "")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        raise Missing("the number of a message", repr(number[:20]), "load the page again")
    return int(number)
