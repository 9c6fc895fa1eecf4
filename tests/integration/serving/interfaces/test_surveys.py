"""Answers to surveys over HTTP: a program's with its key, a tool's with its signature, each once."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from serving import api_keys
from undertone.schema import surveys
from undertone.store import Store

TYPEFORM = {
    "event_id": "LtWXD3crgy",
    "event_type": "form_response",
    "form_response": {
        "form_id": "lT4Z3j",
        "token": "a3a12ec67a1365927098a606107fac15",
        "submitted_at": "2026-11-18T18:17:02Z",
        "landed_at": "2026-11-18T18:07:02Z",
        "hidden": {"user_id": "c1"},
        "definition": {"id": "lT4Z3j", "title": "Webhooks example", "fields": []},
        "answers": [
            {"type": "text", "text": "secret words", "field": {"id": "DlXF", "type": "long_text", "ref": "why"}},
            {"type": "number", "number": 5, "field": {"id": "NRsx", "type": "number", "ref": "visits"}},
            {"type": "number", "number": 9, "field": {"id": "WOTd", "type": "opinion_scale", "ref": "recommend"}},
        ],
    },
}
DELIGHTED = {
    "event_type": "survey_response.updated",
    "event_id": "b8d057c5",
    "event_data": {
        "id": "5435",
        "person": {"id": "5975", "email": "charlie_gravis@example.com", "name": "Charlie", "created_at": 1732186784},
        "survey_type": "csat",
        "score": 4,
        "comment": "secret words",
        "created_at": 1795458844,
        "updated_at": 1795459444,
        "person_properties": {"Customer ID": "c2"},
        "notes": [],
        "tags": [],
        "additional_answers": [],
    },
}


def rows(settings) -> list[dict]:
    store = Store(settings.database_url)
    try:
        with store.reading() as connection:
            return [dict(row) for row in connection.execute(select(surveys).order_by(surveys.c.id)).mappings()]
    finally:
        store.engine.dispose()


def signed(tool: str, secret: str, body: bytes) -> dict[str, str]:
    """As Typeform's and Delighted's documentation say."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256)
    if tool == "typeform":
        return {"Typeform-Signature": "sha256=" + base64.b64encode(digest.digest()).decode()}
    return {"X-Delighted-Webhook-Signature": "sha256=" + digest.hexdigest()}


def test_answers_are_stored_once_and_the_later_one_counts(settings, serve):
    with serve(settings) as served:
        one = {"id": "a1", "kind": "nps", "score": 9, "customer_id": "c1", "answered_at": "2026-11-24T09:30:00+01:00"}
        other = {"id": "a2", "kind": "csat", "score": 2}
        first = served.client.post("/v1/surveys", json={"surveys": [one, other]})
        assert (first.status_code, first.json()) == (200, {"stored": 2, "new": 2, "ignored": None})
        again = served.client.post("/v1/surveys", json=one | {"score": 3})
        assert again.json() == {"stored": 1, "new": 0, "ignored": None}
        for wrong in (one | {"score": 11}, one | {"comment": "x"}, {"surveys": []}, [], one | {"kind": "ces"}):
            refused = served.client.post("/v1/surveys", json=wrong)
            assert refused.status_code == 422, wrong
            assert set(refused.json()["error"]) == {"expected", "found", "next_step"}
        found = rows(settings)
    assert [(row["id"], row["score"], row["customer_id"]) for row in found] == [
        ("generic:a1", 3.0, "c1"),
        ("generic:a2", 2.0, None),
    ]
    assert found[0]["answered_at"] == datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


def test_webhooks_are_understood_as_they_come(settings, serve):
    with serve(settings) as served:
        asked = served.client.post("/v1/surveys", json=TYPEFORM)
        assert (asked.status_code, "kind=nps or kind=csat" in asked.text) == (422, True)
        assert served.client.post("/v1/surveys?kind=nps", json=TYPEFORM).json()["new"] == 1
        assert served.client.post("/v1/surveys?kind=csat&field=visits", json=TYPEFORM).json()["new"] == 0
        assert served.client.post("/v1/surveys", json=DELIGHTED).json()["new"] == 1
        created = DELIGHTED | {"event_type": "survey_response.created"}
        created["event_data"] = DELIGHTED["event_data"] | {"score": 1}
        assert served.client.post("/v1/surveys", json=created).json()["new"] == 0
        gone = served.client.post("/v1/surveys", json={"event_type": "unsubscribe.created", "event_data": {}})
        assert gone.json() == {"stored": 0, "new": 0, "ignored": "no answer to a survey"}
    delighted, typeform = rows(settings)
    assert (delighted["id"], delighted["score"], delighted["customer_id"]) == ("delighted:5435", 4.0, "c2")
    assert delighted["answered_at"] == datetime.fromtimestamp(1795458844, UTC)
    assert (typeform["kind"], typeform["score"], typeform["customer_id"]) == ("csat", 5.0, "c1")
    assert "words" not in json.dumps([delighted, typeform], default=str)


@pytest.mark.parametrize("tool", ["typeform", "delighted"])
def test_a_signature_stands_for_a_key_on_this_page_only(settings, serve, tool):
    key = api_keys.create(api_keys.path_of(settings), "shop")
    settings = settings.model_copy(update={f"{tool}_secret": SecretStr("between us")})
    event = TYPEFORM if tool == "typeform" else DELIGHTED
    body, page = json.dumps(event).encode(), "/v1/surveys?kind=nps"
    with serve(settings) as served:
        good = signed(tool, "between us", body)
        assert served.client.post(page, content=body, headers=good).status_code == 200
        forged = {
            "nothing": served.client.post(page, content=body),
            "another secret": served.client.post(page, content=body, headers=signed(tool, "guessed", body)),
            "another body": served.client.post(page, content=body + b" ", headers=good),
            "another page": served.client.post("/v1/score", json={"text": "good"}, headers=good),
            "another form": served.client.post(
                page, content=b'{"id": "a", "kind": "nps", "score": 1}',
                headers=signed(tool, "between us", b'{"id": "a", "kind": "nps", "score": 1}'),
            ),
        }  # fmt: skip
        assert {what: answer.status_code for what, answer in forged.items()} == dict.fromkeys(forged, 401)
        assert served.client.post(page, content=body, headers={"X-API-Key": key}).status_code == 200
    assert len(rows(settings)) == 1


def test_a_store_that_is_away_asks_to_come_again(settings, serve, tmp_path):
    (tmp_path / "a file").write_text("no folder")
    with serve(settings.model_copy(update={"store_url": f"sqlite:///{tmp_path}/a file/x.db"})) as served:
        answer = served.client.post("/v1/surveys", json={"id": "a", "kind": "nps", "score": 1})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "30")
