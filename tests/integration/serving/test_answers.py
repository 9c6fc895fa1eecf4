"""What `/v1/score` answers: words and numbers of the models, limits, and what is wrong with a request."""

import json

import httpx
import numpy as np
import pytest

from serving.wire import ScoreResponse
from undertone.engine import Engine
from undertone.model_folder import JOIN
from undertone.tasks import TASKS


def post(desk, body):
    return desk.served.client.post("/v1/score", content=body, headers={"Content-Type": "application/json"})


def assert_three_parts(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"expected", "found", "next_step"}
    assert all(error.values())
    return error


def test_answers_are_the_engines_in_words(desk):
    texts = ["good parcel", "bad parcel", "parcel", "great good", "bad bad good"]
    answers = desk.served.score(*texts)["messages"]
    for task, spec in TASKS.items():
        expected = Engine(desk.shelf.folder(1, task)).score(texts).probabilities
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
    assert ScoreResponse.model_validate_json(answer.content).messages[0].tasks["sentiment"].version == 1


def test_sarcasm_turns_praise(desk, served):
    # the toy hears sarcasm in "good", the last of sarcasm's labels
    praise, blame = desk.served.score("good", "bad")["messages"]
    assert praise["tasks"]["sentiment"]["label"] == "positive"
    assert praise["tasks"]["sarcasm"]["label"] == "sarcastic"
    assert praise["sentiment"] == "negative"
    assert "but heard as sarcastic" in praise["sentiment_reason"]
    assert "fitted with sarcasm 7" in praise["sentiment_reason"]  # another one serves
    assert blame["sentiment"] == "negative"
    assert "not heard as sarcastic" in blame["sentiment_reason"]
    (alone,) = served.score("good")["messages"]
    assert alone["sentiment"] == "positive"
    assert "no sarcasm model" in alone["sentiment_reason"]
    assert list(alone["tasks"]) == ["sentiment"]
    assert alone["sentiment_probability"] == alone["tasks"]["sentiment"]["confidence"]
    assert (alone["needs_review"], alone["tasks"]["sentiment"]["needs_review"]) == (None, None)


def test_what_is_unsure_needs_a_person_and_the_store_keeps_it(desk, rows):
    sure, unsure = desk.served.score({"id": "sure", "text": "good"}, {"id": "unsure", "text": "parcel"})["messages"]
    folder = desk.shelf.folder(1)
    join, own = Engine(folder).join, Engine(folder).score(["good", "parcel"]).probabilities.tolist()
    heard = Engine(desk.shelf.folder(1, "sarcasm")).score(["good", "parcel"]).probabilities.tolist()
    for answer, one, other, needs in zip((sure, unsure), own, heard, (False, True), strict=True):
        final = join.probabilities(one, {"sarcasm": other})
        assert answer["sentiment"] == join.labels[final.index(max(final))]
        assert answer["sentiment_probability"] == pytest.approx(max(final), abs=1e-5)
        assert (answer["needs_review"], answer["tasks"]["sentiment"]["needs_review"]) == (needs, needs)
        assert answer["tasks"]["emotion"]["needs_review"] is None
    desk.served.wait_stored()
    messages, answers = rows(desk.settings)
    kept = {
        row["id"]: (row["needs_review"], row["final_reason"]) for row in messages if row["id"] in ("sure", "unsure")
    }
    assert kept == {"sure": (False, sure["sentiment_reason"]), "unsure": (True, unsure["sentiment_reason"])}
    own_limit = {row["message_id"]: row["needs_review"] for row in answers if row["task"] == "sentiment"}
    assert (own_limit["sure"], own_limit["unsure"]) == (False, True)


def test_a_model_with_a_join_that_is_not_whole_is_refused(followed, shelf, hearing):
    def spoil(folder):
        hearing(folder)
        path = folder / JOIN
        path.write_text(path.read_text().replace("log P(neutral)", "log P(fine)"))

    refused = followed.wait_refused(shelf.publish(edit=spoil))
    assert JOIN in refused["expected"]
    assert all(refused[part] for part in ("expected", "found", "next_step"))
    assert followed.version() == 1


@pytest.mark.parametrize(
    ("text", "truncated"),
    [
        ("good", False),
        ("good " * 17, True),  # one token more than the toy reads
        ("x" * 20_000, False),
        ("x" * 20_001, True),
        ("good " * 10_000, True),
        ("good " * 200_000, True),
    ],
    ids=["short", "tokens", "limit", "beyond", "50,000", "megabyte"],
)
def test_what_is_longer_than_read_is_cut_flagged_and_stored_as_read(desk, rows, text, truncated):
    name = f"long-{len(text)}"
    (answer,) = desk.served.score({"id": name, "text": text})["messages"]
    assert answer["truncated"] is truncated
    desk.served.wait_stored()
    (row,) = [row for row in rows(desk.settings)[0] if row["id"] == name]
    assert row["text"] == text[: desk.settings.max_text_chars]
    assert bool(row["truncated"]) is truncated


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("\ud800", "\ufffd"),
        ("good \udfff\ud800", "good \ufffd\ufffd"),
        ("good \x00", None),
        ("\x07\x1b[31mgood", None),
        ("a\u2028b", "a\u2028b"),
        ("\u200b", None),
        ("\ufeffgood", None),
        ("good \u202e", None),
        ("👩‍👩‍👧 " * 50, None),
        ("👍🏽", "👍🏽"),
        ("𝕬" * 100, "𝕬" * 100),
    ],
    ids=["surrogate", "wrong-pair", "nul", "escapes", "separator", "zero-width", "bom", "override", "families", "emoji",
         "astral"],
)  # fmt: skip
def test_odd_characters_are_scored_and_stored(desk, rows, text, stored):
    name = f"odd {ascii(text)[:50]}"
    answer = post(desk, json.dumps({"id": name, "text": text, "channel": text[:20]}))
    assert answer.status_code == 200, answer.text
    desk.served.wait_stored()
    (row,) = [row for row in rows(desk.settings)[0] if row["id"] == name]
    assert "\x00" not in row["text"]
    assert row["text"].encode()
    assert stored is None or row["text"] == stored


@pytest.mark.parametrize(
    "body", ["", "{", "nonsense", b"\xff\xfe", "[" * 100_000, b'{"text":"\xed\xa0\x80"}', "1" * 5_000, '{"a":' * 50_000]
)
def test_what_is_not_json_is_400_in_a_few_words(desk, body):
    error = assert_three_parts(post(desk, body), 400)
    assert "JSON" in error["expected"]
    assert len(error["found"]) < 500


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "text"),
        ([], "dictionary"),
        (None, "dictionary"),
        ("text", "dictionary"),
        ({"messages": []}, "messages"),
        ({"messages": "good"}, "messages"),
        ({"messages": {"text": "good"}}, "messages"),
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"text": ["good"]}, "text"),
        ({"text": ""}, "messages.0"),
        ({"text": " \t\n\x00"}, "messages.0"),
        ({"messages": [{"text": "good"}, {"text": "  "}]}, "messages.1"),
        ({"messages": [{"text": "good"}, {"id": "x"}]}, "messages.1.text"),
        ({"messages": [{"text": "good"}, "good"]}, "messages.1"),
        ({"text": "good", "id": 7}, "id"),
        ({"text": "good", "id": ""}, "id"),
        ({"text": "good", "id": "x" * 201}, "id"),
        ({"text": "good", "id": "  "}, "id"),
        ({"text": "good", "channel": "x" * 101}, "channel"),
        ({"text": "good", "chanel": "chat"}, "chanel"),
        ({"text": "good", "x" * 1_000_000: "chat"}, "xxx"),
        ({"text": "good", "\ud800": 1}, "messages.0"),
        ({"text": "good", "sent_at": "yesterday"}, "sent_at"),
        ({"text": "good", "sent_at": 1_700_000_000}, "sent_at"),
        ({"text": "good", "sent_at": "0001-01-01T00:00:00+14:00"}, "sent_at"),
        ({"text": "good", "sent_at": "9999-12-31T23:59:59-14:00"}, "sent_at"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else None,
)
def test_what_is_not_a_message_is_422_and_named(desk, body, named):
    error = assert_three_parts(post(desk, json.dumps(body)), 422)
    assert named in error["found"]
    assert len(error["found"]) < 500


def test_a_request_is_scored_whole_or_not_at_all(desk, stored_ids):
    desk.served.score({"id": "whole-1", "text": "good"}, {"id": "whole-2", "text": ""}, status=422)
    desk.served.score({"id": "whole-3", "text": "good"})
    desk.served.wait_stored()
    assert [name for name in stored_ids(desk.settings) if name.startswith("whole-")] == ["whole-3"]


def test_too_many_messages_are_413_with_the_limit(desk):
    for count in (1_001, 10_000):
        error = assert_three_parts(post(desk, json.dumps({"messages": [{"text": "good"}] * count})), 413)
        assert "1,000" in error["expected"]
        assert f"{count:,}" in error["found"]
    assert len(desk.served.score(*["good"] * 1_000)["messages"]) == 1_000


def test_five_megabytes_are_read(desk):
    texts = ["good " * 4_000] * 250
    assert len(json.dumps({"messages": [{"text": text} for text in texts]})) > 5_000_000
    answers = desk.served.score(*texts)["messages"]
    assert {answer["tasks"]["sentiment"]["label"] for answer in answers} == {"positive"}


def test_a_body_of_exactly_the_limit_is_read_and_a_byte_more_is_413(desk):
    start, end = b'{"text": "good"', b"}"
    body = start + b" " * (desk.settings.max_body_bytes - len(start + end)) + end
    assert post(desk, body).status_code == 200
    assert "8,000,000" in assert_three_parts(post(desk, body + b" "), 413)["expected"]
    chunks = iter([b" " * 1_000_000] * (desk.settings.max_body_bytes // 1_000_000 + 1))
    assert_three_parts(desk.served.client.post("/v1/score", content=chunks), 413)


def test_without_a_champion_there_is_no_score(settings, serve):
    with serve(settings) as served:
        answer = served.client.post("/v1/score", json={"text": "good"})
        assert "undertone models approve" in assert_three_parts(answer, 503)["next_step"]
        assert answer.headers["retry-after"] == "1"
        assert_three_parts(served.client.get("/readyz"), 503)
        assert served.client.get("/healthz").status_code == 200


def test_pages_that_are_not_there_say_what_is(desk):
    assert_three_parts(desk.served.client.get("/v1/scores"), 404)
    wrong = desk.served.client.get("/v1/score")
    assert_three_parts(wrong, 405)
    assert wrong.headers["allow"] == "POST"
    assert "/v1/score" in desk.served.client.get("/nothing").json()["error"]["expected"]
    assert len(desk.served.client.get(f"/{'x' * 50_000}").content) < 3_000


def test_a_head_is_a_get_without_a_body(desk):
    answer = desk.served.client.head("/readyz")
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0


@pytest.mark.parametrize("given", ["order 66", "x" * 128])
def test_a_request_id_comes_back(desk, given):
    assert desk.served.client.get("/healthz", headers={"X-Request-ID": given}).headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "tab\tbed", b"caf\xe9\x85"])
def test_a_request_id_that_is_none_is_made(desk, given):
    answer = desk.served.client.get("/healthz", headers={"X-Request-ID": given})
    made = answer.headers["x-request-id"]
    assert len(made) >= 32
    assert set(made) <= set("0123456789abcdef-")


def test_openapi_describes_requests_answers_and_errors(desk):
    document = desk.served.client.get("/openapi.json").json()
    post_score = document["paths"]["/v1/score"]["post"]
    body = post_score["requestBody"]["content"]["application/json"]
    assert body["example"]["messages"][0]["text"]
    assert {"200", "400", "413", "422", "500", "503"} <= set(post_score["responses"])
    schemas = document["components"]["schemas"]
    for reference in body["schema"]["anyOf"]:
        assert reference["$ref"].removeprefix("#/components/schemas/") in schemas
    assert "sent_at" in schemas["MessageIn"]["properties"]
    text = json.dumps(document)
    assert "$defs" not in text
    for reference in {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]}:
        assert reference in schemas, reference
    assert desk.served.client.get("/docs").status_code == 200


def test_metrics_count_what_happened(desk):
    def counted():
        named = {"path": "/v1/score"}
        return [
            desk.served.metric("requests_total", status="200", **named),
            desk.served.metric("requests_total", status="400", **named),
            desk.served.metric("request_seconds_count", **named),
            desk.served.metric("messages_total"),
            desk.served.metric("labels_total", task="sentiment", label="positive"),
        ]

    before = counted()
    desk.served.score("good", "bad")
    post(desk, "{")
    desk.served.client.get("/nothing-of-the-kind")
    # a request is counted once its answer is on its way
    desk.served.client.get("/healthz")
    assert [after - was for after, was in zip(counted(), before, strict=True)] == [1, 1, 2, 2, 1]
    page = desk.served.client.get("/metrics").text
    digest = desk.served.task()["digest"][:12]
    assert f'undertone_model_version{{digest="{digest}",task="sentiment"}} 1.0' in page
    assert 'path="none",status="404"' in page
    assert "nothing-of-the-kind" not in page, "a path that a stranger thought up is no label"
    for name in ("request_seconds_bucket", "batch_messages_bucket", "queue_messages", "store_backlog_messages"):
        assert f"undertone_{name}" in page


def test_a_failing_model_is_a_500_with_three_parts_and_stores_nothing(desk, stored_ids, monkeypatch):
    def fail(ids, *, alone=False):
        raise RuntimeError("out of luck")

    model = desk.served.worker.slots["emotion"].served
    monkeypatch.setattr(model.engine, "run", fail)
    answer = desk.served.client.post("/v1/score", json={"id": "unlucky", "text": "good"})
    error = assert_three_parts(answer, 500)
    assert "luck" not in error["found"], "an internal message does not go out"
    monkeypatch.undo()
    desk.served.score({"id": "lucky", "text": "good"})
    desk.served.wait_stored()
    assert "lucky" in (found := stored_ids(desk.settings))
    assert "unlucky" not in found


def test_an_answer_that_would_come_too_late_is_a_503(desk):
    url = desk.served.client.base_url.join("/v1/score")
    headers = {"X-Latency-Budget-Ms": "0"}
    answer = httpx.post(str(url), json={"messages": [{"text": "good"}] * 1_000}, headers=headers, timeout=30)
    assert "in time" in assert_three_parts(answer, 503)["expected"]
    assert answer.headers["retry-after"] == "1"
