"""What `/v1/score` answers, and what reaches the store."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from undertone.engine import Engine
from undertone.tasks import TASKS


def post(desk, body, **headers):
    return desk.served.client.post("/v1/score", content=body, headers={"Content-Type": "application/json", **headers})


def assert_three_parts(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"expected", "found", "next_step"}
    assert all(error.values())
    return error


def test_answers_are_the_engines_in_words(desk):
    texts = ["good parcel", "bad parcel", "parcel", "great good sure", "bad bad good"]
    answers = desk.served.score(*texts)["messages"]
    for task, spec in TASKS.items():
        engine = Engine(desk.shelf.folders[task, 1])
        expected = engine.score(texts).probabilities
        for row, answer in zip(expected, answers, strict=True):
            said = answer["tasks"][task]
            assert list(said["probabilities"]) == list(spec.labels)
            assert list(said["probabilities"].values()) == pytest.approx(row.tolist(), abs=2e-6)
            assert said["label"] == spec.labels[int(np.argmax(row))]
            assert said["confidence"] == pytest.approx(float(row.max()), abs=2e-6)
            assert said["version"] == 1
            assert said["digest"] == desk.served.task(task)["digest"]


def test_a_text_scores_the_same_alone_and_among_others(desk):
    texts = [f"good {'parcel ' * (number % 9)} {'bad' if number % 2 else 'great'}" for number in range(200)]
    together = desk.served.score(*texts)["messages"]
    for text, among in list(zip(texts, together, strict=True))[::23]:
        (alone,) = desk.served.score(text)["messages"]
        for task in TASKS:
            said, same = alone["tasks"][task], among["tasks"][task]
            assert said["label"] == same["label"]
            assert list(said["probabilities"].values()) == pytest.approx(list(same["probabilities"].values()), abs=1e-5)


def test_one_message_is_answered_as_a_list_and_gets_an_id(desk):
    answer = desk.served.client.post("/v1/score", json={"text": "good parcel", "channel": "chat"})
    assert answer.status_code == 200
    (message,) = answer.json()["messages"]
    assert len(message["id"]) == 36
    assert message["truncated"] is False


def test_sarcasm_turns_praise(desk):
    sure, plain = desk.served.score("great great sure sure", "bad parcel")["messages"]
    assert sure["tasks"]["sentiment"]["label"] == "positive"
    assert sure["tasks"]["sarcasm"]["label"] == "sarcastic"
    assert sure["sentiment"] == "negative"
    assert "sarcastic" in sure["sentiment_reason"]
    assert plain["sentiment"] == "negative"


def test_long_texts_are_cut_and_flagged(desk):
    limit = desk.settings.max_text_chars
    tokens, chars, short = desk.served.score("good " * 17, "x" * (limit + 1), "good")["messages"]
    assert (tokens["truncated"], chars["truncated"], short["truncated"]) == (True, True, False)
    (megabyte,) = desk.served.score("good " * 200_000)["messages"]
    assert megabyte["truncated"]


def test_every_message_is_stored_once_per_id(desk, rows):
    item = {
        "id": "order-1", "text": "good parcel", "channel": "chat", "segment": "gold", "customer_id": "c-1",
        "time": "2026-11-24T10:30:00+01:00",
    }  # fmt: skip
    for _ in range(3):
        answer = desk.served.score(item, {"id": "order-2", "text": "bad"}, {"id": "order-2", "text": "bad"})
    desk.served.wait_stored()
    messages, predictions = rows(desk.settings)
    mine = [row for row in messages if row["id"].startswith("order-")]
    assert [row["id"] for row in mine] == ["order-1", "order-2"]
    first = mine[0]
    assert (first["channel"], first["segment"], first["customer_id"]) == ("chat", "gold", "c-1")
    assert first["sent_at"] == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    assert first["final_sentiment"] == answer["messages"][0]["sentiment"]
    mine = {row["task"]: row for row in predictions if row["message_id"] == "order-1"}
    assert set(mine) == set(TASKS)
    for task, row in mine.items():
        said = answer["messages"][0]["tasks"][task]
        assert row["label"] == said["label"]
        assert row["probabilities"] == list(said["probabilities"].values())
        assert (row["model_version"], row["model_digest"]) == (1, said["digest"])
        expected = Engine(desk.shelf.folders[task, 1]).score(["good parcel"]).embeddings[0].astype("<f2")
        assert np.frombuffer(row["embedding"], dtype="<f2").tolist() == expected.tolist()


@pytest.mark.parametrize(
    "text",
    ["\ud800", "a\udfffb", "\x00\x01\x1f", "a\x00b\u2028c", "\u200b", "👩‍👩‍👧 " * 50, "\ufeff", "𝕬" * 100],
    ids=["surrogate", "surrogate-inside", "controls", "nul-and-separator", "zero-width", "families", "bom", "astral"],
)
def test_odd_characters_never_break_the_worker(desk, rows, text):
    answer = post(desk, json.dumps({"id": f"odd {ascii(text)[:50]}", "text": text, "channel": text[:20]}))
    assert answer.status_code in {200, 422}
    if answer.status_code == 422:
        assert_three_parts(answer, 422)
    else:
        desk.served.wait_stored()
        messages, _ = rows(desk.settings)
        assert f"odd {ascii(text)[:50]}" in {row["id"] for row in messages}


@pytest.mark.parametrize(
    "body", ["", "{", "nonsense", b"\xff\xfe", "[" * 100_000, b'{"text":"\xed\xa0\x80"}', "1" * 5_000]
)
def test_what_is_not_json_is_400(desk, body):
    assert_three_parts(post(desk, body), 400)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "text"),
        ([], "dictionary"),
        (None, "dictionary"),
        ({"messages": []}, "messages"),
        ({"messages": "good"}, "messages"),
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"text": ""}, "messages.0"),
        ({"text": " \t\n\x00"}, "messages.0"),
        ({"messages": [{"text": "good"}, {"text": "  "}]}, "messages.1"),
        ({"messages": [{"text": "good"}, {"id": "x"}]}, "messages.1.text"),
        ({"messages": [{"text": "good"}, "good"]}, "messages.1"),
        ({"text": "good", "id": 7}, "id"),
        ({"text": "good", "id": "x" * 201}, "id"),
        ({"text": "good", "id": "  "}, "id"),
        ({"text": "good", "channel": "x" * 101}, "channel"),
        ({"text": "good", "chanel": "chat"}, "chanel"),
        ({"text": "good", "\ud800": 1}, "messages.0"),
        ({"text": "good", "sent_at": "yesterday"}, "sent_at"),
        ({"text": "good", "sent_at": 1_700_000_000}, "sent_at"),
        ({"text": "good", "sent_at": "0001-01-01T00:00:00+14:00"}, "sent_at"),
        ({"text": "good", "sent_at": "9999-12-31T23:59:59-14:00"}, "sent_at"),
    ],
)
def test_what_is_not_a_message_is_422_and_named(desk, body, named):
    error = assert_three_parts(post(desk, json.dumps(body)), 422)
    assert named in error["found"]
    assert len(error["found"]) < 500


def test_a_request_is_scored_whole_or_not_at_all(desk, rows):
    desk.served.score({"id": "whole-1", "text": "good"}, {"id": "whole-2", "text": ""}, status=422)
    desk.served.score({"id": "whole-3", "text": "good"})
    desk.served.wait_stored()
    messages, _ = rows(desk.settings)
    assert [row["id"] for row in messages if row["id"].startswith("whole-")] == ["whole-3"]


def test_too_many_messages_are_413_with_the_limit(desk):
    error = assert_three_parts(post(desk, json.dumps({"messages": [{"text": "good"}] * 10_000})), 413)
    assert "1,000" in error["expected"]
    assert "10,000" in error["found"]
    assert len(desk.served.score(*["good"] * 1_000)["messages"]) == 1_000


def test_too_many_bytes_are_413_declared_or_streamed(desk):
    limit = desk.settings.max_body_bytes
    assert_three_parts(post(desk, b" " * (limit + 1)), 413)

    def chunks():
        for _ in range(limit // 100_000 + 1):
            yield b" " * 100_000

    assert_three_parts(desk.served.client.post("/v1/score", content=chunks()), 413)


def test_pages_that_are_not_there_say_what_is(desk):
    assert_three_parts(desk.served.client.get("/v1/scores"), 404)
    assert_three_parts(desk.served.client.get("/v1/score"), 405)
    assert "/v1/score" in desk.served.client.get("/nothing").json()["error"]["expected"]


def test_openapi_names_requests_answers_and_errors(desk):
    document = desk.served.client.get("/openapi.json").json()
    post_score = document["paths"]["/v1/score"]["post"]
    body = post_score["requestBody"]["content"]["application/json"]
    assert body["example"]["messages"][0]["text"]
    assert {"200", "400", "413", "422", "500", "503"} <= set(post_score["responses"])
    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"], reference
    assert desk.served.client.get("/docs").status_code == 200


def test_the_answer_fits_its_documented_model(desk):
    from serving.wire import ScoreResponse

    answer = desk.served.client.post("/v1/score", json={"text": "good"})
    assert ScoreResponse.model_validate_json(answer.content).messages[0].tasks["sentiment"].version == 1


def test_metrics_count_what_happened(desk):
    desk.served.score("good")
    page = desk.served.client.get("/metrics").text
    digest = desk.served.task()["digest"][:12]
    assert f'undertone_model_version{{digest="{digest}",task="sentiment"}} 1.0' in page
    assert 'undertone_requests_total{path="/v1/score",status="200"}' in page
    assert 'undertone_labels_total{label="positive",task="sentiment"}' in page
    for name in ("request_seconds_bucket", "batch_messages_bucket", "queue_messages", "store_backlog_messages"):
        assert f"undertone_{name}" in page


def test_a_failing_model_is_a_500_with_three_parts_and_stores_nothing(desk, rows, monkeypatch):
    def fail(ids, *, alone=False):
        raise RuntimeError("out of luck")

    served = desk.served.worker.slots["emotion"].served
    monkeypatch.setattr(served.engine, "run", fail)
    answer = desk.served.client.post("/v1/score", json={"id": "unlucky", "text": "good"})
    error = assert_three_parts(answer, 500)
    assert "luck" not in error["found"], "an internal message does not go out"
    monkeypatch.undo()
    desk.served.score({"id": "lucky", "text": "good"})
    desk.served.wait_stored()
    ids = {row["id"] for row in rows(desk.settings)[0]}
    assert "lucky" in ids
    assert "unlucky" not in ids
