"""What goes in and what comes out: answers, limits, bad input."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import pytest

from serving.app import create_app
from serving.openapi import describe
from undertone.engine import Engine
from undertone.workspace import Workspace


def parts(answer: httpx.Response) -> set[str]:
    return set(answer.json()["error"])


def rows(workspace: Workspace) -> dict[str, dict]:
    found = workspace.store.window("sentiment", datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
    return {row["message_id"]: dict(row) for row in found}


def wait_for_rows(workspace: Workspace, count: int) -> dict[str, dict]:
    import time

    deadline = time.monotonic() + 20
    while len(found := rows(workspace)) < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_answers_are_the_engines(serving_one, workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.registry.download("sentiment", 1, tmp_path / "copy")
    texts = ["good parcel", "bad bad parcel", "parcel", "good bad"]
    expected = Engine(folder).score(texts).probabilities
    answers = serving_one.score(*texts).json()["messages"]
    for answer, row in zip(answers, expected, strict=True):
        found = answer["tasks"]["sentiment"]
        assert list(found["probabilities"]) == ["negative", "neutral", "positive"]
        np.testing.assert_allclose(list(found["probabilities"].values()), row, atol=1e-5)
        assert found["label"] == ["negative", "neutral", "positive"][row.argmax()]
        assert found["confidence"] == pytest.approx(row.max(), abs=1e-5)
        assert found["version"] == 1
    assert [answer["sentiment"] for answer in answers][:2] == ["positive", "negative"]


def test_one_message_is_a_batch_of_one(serving_one) -> None:
    alone = serving_one.client.post("/v1/score", json={"id": "a", "text": "good parcel"}).json()
    together = serving_one.client.post(
        "/v1/score", json={"messages": [{"id": "b", "text": "bad"}, {"id": "a", "text": "good parcel"}]}
    ).json()
    assert alone["messages"][0] == together["messages"][1]


def test_a_message_is_stored_once_with_its_facts(serving_one, workspace: Workspace) -> None:
    message = {
        "id": "m-1",
        "text": "good",
        "channel": "chat",
        "segment": "starter",
        "customer_id": "c",
        "time": "2026-10-06T09:00:00+02:00",
    }
    for _ in range(2):
        assert serving_one.client.post("/v1/score", json=message).status_code == 200
    serving_one.client.post("/v1/score", json={"id": "m-2", "text": "bad"})
    found = wait_for_rows(workspace, 2)
    assert set(found) == {"m-1", "m-2"}
    row = found["m-1"]
    assert (row["text"], row["channel"], row["segment"], row["label"]) == ("good", "chat", "starter", "positive")
    assert row["event_at"] == datetime(2026, 10, 6, 7, tzinfo=UTC)
    assert np.frombuffer(row["embedding"], "<f2").tolist() == [1, 0, 0, 0]


def test_sarcasm_is_heard(serving_one, approve: Callable[..., int]) -> None:
    answer = serving_one.score("good").json()["messages"][0]
    assert answer["sentiment"] == "positive"
    assert "no sarcasm model" in answer["sentiment_reason"]
    approve("sarcasm")  # in the toy model "good" pulls to the last label: sarcastic
    serving_one.wait_for(1, "sarcasm")
    answer = serving_one.score("good").json()["messages"][0]
    assert answer["tasks"]["sarcasm"]["label"] == "sarcastic"
    assert answer["tasks"]["sentiment"]["label"] == "positive"
    assert answer["sentiment"] == "negative"
    assert "sarcastic" in answer["sentiment_reason"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b"[" * 100_000, 400, "JSON"),
        (b"null", 422, "a message"),
        (b"[]", 422, "a message"),
        (b'"text"', 422, "a message"),
        (b"{}", 422, "messages.0.text"),
        (b'{"messages": []}', 422, "messages"),
        (b'{"messages": {"text": "x"}}', 422, "messages"),
        (b'{"text": 7}', 422, "text"),
        (b'{"text": null}', 422, "text"),
        (b'{"text": ""}', 422, "messages.0"),
        (b'{"text": " \\n\\t\\u0000 "}', 422, "messages.0"),
        (b'{"messages": [{"text": "fine"}, {"text": "  "}]}', 422, "messages.1"),
        (b'{"text": "x", "txet": "y"}', 422, "txet"),
        (b'{"text": "x", "id": ""}', 422, "id"),
        (b'{"text": "x", "sent_at": "yesterday"}', 422, "sent_at"),
    ],
)
def test_bad_input_is_named(serving_one, body: bytes, status: int, said: str) -> None:
    answer = serving_one.client.post("/v1/score", content=body)
    assert answer.status_code == status, answer.text
    assert parts(answer) == {"expected", "found", "next_step"}
    assert said in answer.text


def test_a_bad_message_spoils_the_whole_request(serving_one, workspace: Workspace) -> None:
    serving_one.client.post("/v1/score", json={"messages": [{"id": "a", "text": "good"}, {"id": "b", "text": ""}]})
    serving_one.client.post("/v1/score", json={"id": "c", "text": "good"})
    assert set(wait_for_rows(workspace, 1)) == {"c"}


def test_limits(serving_one) -> None:
    limit = serving_one.settings.max_messages
    assert serving_one.score(*["good"] * limit).status_code == 200
    for count in (limit + 1, 10_000):
        answer = serving_one.score(*["good"] * count)
        assert answer.status_code == 413
        assert parts(answer) == {"expected", "found", "next_step"}
        assert "1,000" in answer.text
    too_large = b'{"text": "' + b"x" * serving_one.settings.max_body_bytes + b'"}'
    assert serving_one.client.post("/v1/score", content=too_large).status_code == 413
    assert serving_one.client.post("/v1/score", content=iter([too_large[:5_000_000]] * 2)).status_code == 413
    assert serving_one.score("good").status_code == 200


def test_a_megabyte_of_text_is_cut_and_flagged(serving_one, workspace: Workspace) -> None:
    answer = serving_one.score("good " * 200_000, id="long").json()["messages"][0]
    assert answer["truncated"] is True
    assert answer["sentiment"] == "positive"
    assert serving_one.score("good").json()["messages"][0]["truncated"] is False
    assert len(wait_for_rows(workspace, 2)["long"]["text"]) == serving_one.settings.max_text_chars


@pytest.mark.parametrize(
    "text", ["\\ud83d good", "good\\u0000", "\\u0007\\u001b[31mgood", "👍🏽👨‍👩‍👧 good", "\\udfff\\ud800 good", "good‮"]
)
def test_odd_characters_are_scored_and_stored(serving_one, workspace: Workspace, text: str) -> None:
    answer = serving_one.client.post("/v1/score", content=f'{{"id": "odd", "text": "{text}"}}'.encode())
    assert answer.status_code == 200, answer.text
    stored = wait_for_rows(workspace, 1)["odd"]["text"]
    stored.encode("utf-8")
    assert "\x00" not in stored


def test_without_a_champion_there_is_no_score(worker) -> None:
    answer = worker.score("good")
    assert answer.status_code == 503
    assert parts(answer) == {"expected", "found", "next_step"}
    assert answer.headers["retry-after"] == "1"
    assert "undertone models approve" in answer.text
    assert worker.client.get("/readyz").status_code == 503
    assert worker.client.get("/healthz").status_code == 200


def test_metrics_count(serving_one) -> None:
    serving_one.score("good", "bad")
    serving_one.client.post("/v1/score", content=b"{")
    page = serving_one.client.get("/metrics").text
    assert 'undertone_requests_total{path="/v1/score",status="200"} 1.0' in page
    assert 'undertone_requests_total{path="/v1/score",status="400"} 1.0' in page
    assert "undertone_messages_total 2.0" in page
    assert 'undertone_labels_total{label="positive",task="sentiment"} 1.0' in page
    digest = serving_one.state()["digest"]
    assert f'undertone_model_version{{digest="{digest[:12]}",task="sentiment"}} 1.0' in page


def test_the_openapi_document_describes_the_requests(workspace: Workspace) -> None:
    routes = create_app(workspace.settings).routes.all
    document = json.loads(json.dumps(describe(routes, workspace.settings).openapi()))
    post = document["paths"]["/v1/score"]["post"]
    schemas = document["components"]["schemas"]
    assert {"400", "413", "422", "503", "200"} <= set(post["responses"])
    for reference in post["requestBody"]["content"]["application/json"]["schema"]["anyOf"]:
        assert reference["$ref"].removeprefix("#/components/schemas/") in schemas
    assert "sent_at" in schemas["MessageIn"]["properties"]
    assert "$defs" not in json.dumps(document)
