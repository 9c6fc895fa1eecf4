"""`POST /v1/surveys`: answers to surveys, from your own programs or from a survey tool's webhook, once per id.

Typeform's and Delighted's bodies are understood as they come
(https://www.typeform.com/developers/webhooks/example-payload/, https://app.delighted.com/docs/api/webhooks). Kept are
id, kind, score, time and customer; what was written is not.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.access import SIGNED
from serving.errors import Later, Stranger, TooMany
from serving.http import Answer, Call, Route, json_answer
from serving.signatures import Signatures
from serving.wire import Identifier, Moment, ShortText, first_fault, read_json
from undertone import surveys
from undertone.errors import DataError, StoreError
from undertone.settings import Settings
from undertone.surveys import Kind, Survey, Written

#: Hidden fields and properties that are taken for the customer, unless the address names another.
CUSTOMER = ("customer_id", "user_id")
#: Typeform's questions that hold a score, and the kind that they are taken for.
_QUESTIONS: dict[str, Kind | None] = {"nps": "nps", "opinion_scale": None, "rating": "csat"}
#: Seconds after which a sender may try again while the store is away.
AGAIN_S = 30.0


class SurveyIn(BaseModel):
    """One answer to a survey."""

    model_config = ConfigDict(extra="forbid")

    id: Identifier = Field(description="your id of the answer; it is stored once per id, the later one counts")
    kind: Kind
    score: float = Field(description="0 to 10 for nps, 1 to 5 for csat", allow_inf_nan=False)
    answered_at: Moment | None = Field(None, description="ISO 8601; without a zone it is UTC; default: now")
    customer_id: Identifier | None = None
    segment: ShortText | None = None
    channel: ShortText | None = None


class SurveysIn(BaseModel):
    """Several answers. A single one may also be sent as the body itself. All or nothing."""

    model_config = ConfigDict(extra="forbid")

    surveys: list[SurveyIn] = Field(min_length=1)


class TypeformField(BaseModel):
    """The question of an answer."""

    type: str
    id: str = ""
    ref: str = ""


class TypeformAnswer(BaseModel):
    """An answer; only numbers are looked at."""

    type: str
    field: TypeformField
    number: float | None = None


class TypeformResponse(BaseModel):
    """What one person answered."""

    token: Identifier
    submitted_at: Moment | None = None
    hidden: dict[str, Any] = {}
    answers: list[TypeformAnswer] = []


class TypeformEvent(BaseModel):
    """Typeform's webhook."""

    event_type: Literal["form_response"]
    form_response: TypeformResponse


class DelightedResponse(BaseModel):
    """What one person answered."""

    id: Identifier | int
    survey_type: str = "nps"
    score: float | None = Field(None, allow_inf_nan=False)
    created_at: int | None = Field(None, ge=0, le=253_402_300_799)
    person_properties: dict[str, Any] | None = None


class DelightedEvent(BaseModel):
    """Delighted's webhook."""

    event_type: Literal["survey_response.created", "survey_response.updated", "unsubscribe.created"]
    event_data: dict[str, Any]


class SurveysAnswer(BaseModel):
    """How many answers were stored, how many of them were new, and why others were left alone."""

    stored: int
    new: int
    ignored: str | None = None


class NoStore(Later):
    """The store does not answer; a webhook's sender comes again."""


class Surveys:
    """Takes answers and writes them to the store, which is opened when the first one comes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._signatures = Signatures(settings)
        self._store: Any = None
        self._guard = threading.Lock()

    async def answer(self, call: Call) -> Answer:
        """The endpoint."""
        claimed = self._signatures.claimed(call.headers)
        if claimed is not None:
            self._signatures.check(claimed, call.headers, call.body)
        data = read_json(call.body)
        tool = tool_of(data)
        if claimed is not None:
            if claimed != tool:
                raise Stranger(f"what {claimed} sends", f"{tool} with {claimed}'s signature", "send it with an API key")
        elif tool != "generic" and self._signatures.asked_of(tool) and call.caller is None:
            self._signatures.check(tool, call.headers, call.body)
        found, ignored = parse(data, tool, call, self._settings.max_messages)
        written = await asyncio.to_thread(self._write, found, replace=not _first(data))
        if written.erased:
            ignored = "of a customer who was erased since"
        return json_answer({"stored": written.stored, "new": written.new, "ignored": ignored})

    async def stop(self) -> None:
        """Close the store."""
        if self._store is not None:
            await asyncio.to_thread(self._store.engine.dispose)

    def _write(self, found: list[Survey], *, replace: bool) -> Written:
        if not found:
            return Written()
        from undertone.store import Store  # SQLAlchemy: who sends no answers does not wait for it

        try:
            with self._guard:
                self._store = self._store or Store.open(self._settings, timeout_s=5)
            return surveys.write(self._store, found, replace=replace)
        except StoreError as error:
            raise NoStore(error.expected, error.found, "send it again later", AGAIN_S) from error


def route(taker: Surveys) -> Route:
    """The page."""
    word = {"in": "query", "required": False}
    return Route(
        "POST",
        SIGNED,
        taker.answer,
        "Store answers to surveys (NPS, CSAT)",
        "Answers of your own, or the body of a Typeform or Delighted webhook. A signed webhook needs no API key.",
        request=(SurveyIn, SurveysIn, TypeformEvent, DelightedEvent),
        response=SurveysAnswer,
        errors=(400, 408, 413, 422, 503),
        parameters=(
            {**word, "name": "kind", "description": "of a webhook's score", "schema": {"enum": list(surveys.KINDS)}},
            {
                **word,
                "name": "field",
                "description": "Typeform: id or ref of the question with the score; default: the only one",
                "schema": {"type": "string"},
            },
            {
                **word,
                "name": "customer",
                "description": f"hidden field or property with your customer id; default: {' or '.join(CUSTOMER)}",
                "schema": {"type": "string"},
            },
        ),
        example={"id": "a-1", "kind": "nps", "score": 9, "customer_id": "c-17", "answered_at": "2026-11-24T09:30:00Z"},
    )


def tool_of(data: Any) -> str:
    """Whose form a body has."""
    if isinstance(data, dict) and "event_type" in data:
        return "typeform" if "form_response" in data else "delighted"
    return "generic"


def parse(data: Any, tool: str, call: Call, most: int) -> tuple[list[Survey], str | None]:
    """The answers in a body, or why a webhook's is none that is kept.

    Raises:
        TooMany: more than `most`.
        DataError: the body is not as described.
    """
    asked = {name: values[-1] for name, values in parse_qs(call.query).items()}
    kind = asked.get("kind", "")
    if kind and kind not in surveys.KINDS:
        raise DataError(f"kind={' or '.join(surveys.KINDS)}", repr(kind[:50]), "mend the address")
    try:
        match tool:
            case "typeform":
                event = TypeformEvent.model_validate(data)
                return [_typeform(event.form_response, asked, kind, call.received_at)], None
            case "delighted":
                return _delighted(DelightedEvent.model_validate(data), asked, call.received_at)
        if isinstance(data, dict) and "surveys" not in data:
            data = {"surveys": [data]}
        if isinstance(data, dict) and isinstance(data.get("surveys"), list) and len(data["surveys"]) > most:
            raise TooMany(f"at most {most:,} answers in one request", f"{len(data['surveys']):,}", "send them in parts")
        given = SurveysIn.model_validate(data).surveys
    except ValidationError as error:
        raise DataError(
            "an answer, {surveys: [answer, …]}, or a webhook of Typeform or Delighted, as /docs describes",
            first_fault(error),
            "mend it; nothing of this request was stored",
        ) from error
    return [
        surveys.survey(
            "generic",
            item.id,
            item.kind,
            item.score,
            item.answered_at or call.received_at,
            customer_id=item.customer_id,
            segment=item.segment,
            channel=item.channel,
        )
        for item in given
    ], None


def _typeform(response: TypeformResponse, asked: dict[str, str], kind: str, received_at: datetime) -> Survey:
    field = asked.get("field", "")
    scores = [
        answer
        for answer in response.answers
        if answer.number is not None
        and (field in (answer.field.id, answer.field.ref) if field else answer.field.type in _QUESTIONS)
    ]
    if len(scores) != 1:
        raise DataError(
            "one question with a score",
            f"{len(scores)} in this form",
            "name it in the webhook's address: /v1/surveys?field=REF",
        )
    of = kind or _QUESTIONS.get(scores[0].field.type)
    if not of:
        raise DataError(
            "a kind of survey", f"a {scores[0].field.type[:50]}, which may be either", "add kind=nps or kind=csat"
        )
    return surveys.survey(
        "typeform",
        response.token,
        of,
        float(scores[0].number or 0.0),
        response.submitted_at or received_at,
        customer_id=_customer(response.hidden, asked),
    )


def _delighted(event: DelightedEvent, asked: dict[str, str], received_at: datetime) -> tuple[list[Survey], str | None]:
    if event.event_type == "unsubscribe.created":
        return [], "no answer to a survey"
    response = DelightedResponse.model_validate(event.event_data)
    if response.survey_type not in surveys.KINDS:
        return [], "neither nps nor csat"
    if response.score is None:
        return [], "no score"
    made = None if response.created_at is None else datetime.fromtimestamp(response.created_at, UTC)
    answer = surveys.survey(
        "delighted",
        str(response.id),
        response.survey_type,
        response.score,
        made or received_at,
        customer_id=_customer(response.person_properties or {}, asked),
    )
    return [answer], None


def _customer(fields: dict[str, Any], asked: dict[str, str]) -> str | None:
    """The customer among a tool's own fields, whose names people typed: Customer ID is customer_id."""
    plain = {name.strip().lower().replace(" ", "_"): value for name, value in fields.items()}
    names = [asked["customer"].strip().lower().replace(" ", "_")] if "customer" in asked else CUSTOMER
    found = next((plain[name] for name in names if plain.get(name) not in (None, "")), None)
    return None if found is None or isinstance(found, dict | list) else str(found)


def _first(data: Any) -> bool:
    """Whether it tells of an answer's beginning: that may come after the news of its change."""
    return isinstance(data, dict) and data.get("event_type") == "survey_response.created"
