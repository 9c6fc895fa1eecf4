"""MLflow's scoring protocol: the same requests as to `mlflow models serve`, the same shape of answers and errors."""

import json
import warnings
from datetime import UTC, datetime

import pandas as pd
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow's own type hints, on import
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

TEXTS = ["good parcel", "bad parcel", "great good"]


def invoke(desk, body=None, status=200, query="", headers=None, **json_body):
    headers = {"Content-Type": "application/json", **(headers or {})}
    content = json.dumps(json_body) if body is None else body
    answer = desk.served.client.post(f"/invocations{query}", content=content, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def expected(desk, task="sentiment", texts=TEXTS):
    answers = [message["tasks"][task] for message in desk.served.score(*texts)["messages"]]
    return [{"label": said["label"], "score": pytest.approx(said["confidence"], abs=2e-6)} for said in answers]


def test_mlflows_own_client_gets_what_it_expects(desk):
    client = ScoringServerClient("127.0.0.1", desk.served.client.base_url.port)
    client.wait_server_ready(timeout=5, scoring_server_proc=type("Alive", (), {"poll": lambda self: None})())
    frame = pd.DataFrame({"text": TEXTS})
    answer = client.invoke(frame).get_predictions()
    assert isinstance(answer, pd.DataFrame)
    assert answer.to_dict(orient="records") == expected(desk)


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": TEXTS},
        {"inputs": {"text": TEXTS}},
        {"inputs": [{"text": text} for text in TEXTS]},
        {"instances": TEXTS},
        {"instances": [{"text": text} for text in TEXTS]},
        {"instances": [[text] for text in TEXTS]},
        {"dataframe_split": {"columns": ["text"], "data": [[text] for text in TEXTS]}},
        {"dataframe_split": {"data": [[text] for text in TEXTS], "index": [7, 8, 9]}},
        {"dataframe_split": {"columns": ["review", "id"], "data": [[text, n] for n, text in enumerate(TEXTS)]}},
        {"dataframe_split": {"columns": [0], "data": [[text] for text in TEXTS]}},
        {"dataframe_records": [{"text": text, "stars": 5, "mood": "x"} for text in TEXTS]},
        {"inputs": TEXTS, "params": {"top_k": 1}},
    ],
)
def test_every_form_is_understood(desk, body):
    assert invoke(desk, **body) == {"predictions": expected(desk)}


def test_one_text_is_a_list_of_one(desk):
    assert invoke(desk, inputs="good parcel") == {"predictions": expected(desk, texts=["good parcel"])}


def test_csv_is_read_with_commas_quotes_and_line_breaks_in_texts(desk):
    texts = ['good, "good"\nparcel', "bad\r\nparcel", "x" * 200_000]
    body = pd.DataFrame({"text": texts, "channel": ["chat", None, "mail"]}).to_csv(index=False).encode()
    for kind in ("text/csv", "text/csv; charset=UTF-8"):
        answer = invoke(desk, body, headers={"Content-Type": kind})
        assert answer == {"predictions": expected(desk, texts=texts)}


def test_a_task_may_be_named(desk):
    for how in ({"query": "?task=emotion"}, {"headers": {"X-Undertone-Task": "emotion"}}):
        assert invoke(desk, inputs=TEXTS, **how) == {"predictions": expected(desk, "emotion")}
    error = invoke(desk, inputs=TEXTS, query="?task=mood", status=404)
    assert error["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert "sentiment" in error["error"]["expected"]


def test_what_is_scored_is_recorded_with_its_columns(desk, rows):
    columns = ["id", "text", "channel", "segment", "customer_id", "sent_at", "stars"]
    data = [
        ["mlflow-1", "good parcel", "chat", "gold", 4711, "2026-11-24T09:30:00Z", 5],
        ["mlflow-2", "bad parcel", None, float("nan"), None, None, None],
    ]
    invoke(desk, dataframe_split={"columns": columns, "data": data})
    desk.served.wait_stored()
    messages, predictions = rows(desk.settings)
    first, second = [row for row in messages if row["id"].startswith("mlflow-")]
    assert (first["text"], first["channel"], first["segment"], first["customer_id"]) == (
        "good parcel", "chat", "gold", "4711",
    )  # fmt: skip
    assert first["sent_at"] == datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    assert (second["channel"], second["segment"], second["customer_id"]) == (None, None, None)
    assert {row["task"] for row in predictions if row["message_id"] == "mlflow-2"} == {
        "sentiment", "sarcasm", "emotion",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{", "JSON"),
        ("[]", "exactly one of inputs"),
        ('["a"]', "a list without any"),
        ("{}", "exactly one of inputs"),
        ('{"inputs": ["a"], "instances": ["a"]}', "inputs and instances"),
        ('{"inputs": 7}', "a number"),
        ('{"inputs": [7]}', "inputs.0"),
        ('{"inputs": []}', "messages"),
        ('{"inputs": [" "]}', "messages.0"),
        ('{"inputs": {"text": ["a"], "id": []}}', "one length"),
        ('{"inputs": {"a": ["a"], "b": ["b"]}}', "called text"),
        ('{"dataframe_records": {"text": ["a"]}}', "a list of texts"),
        ('{"dataframe_split": {"columns": ["text"]}}', "data, columns"),
        ('{"dataframe_split": {"columns": ["text", "id"], "data": [["a"]]}}', "2 values"),
        ('{"dataframe_split": {"columns": 3, "data": [["a"]]}}', "list of names"),
        ('{"dataframe_split": {"columns": ["text"], "data": [[3]]}}', "messages.0.text"),
        ('{"dataframe_records": [{"text": null}]}', "messages.0.text"),
        ('{"dataframe_records": [{}]}', "called text"),
        ('{"dataframe_records": [{"text": "a", "sent_at": "noon"}]}', "sent_at"),
    ],
)
def test_errors_are_mlflows_and_ours(desk, body, said):
    error = invoke(desk, body, status=400)
    assert error["error_code"] == "BAD_REQUEST"
    assert said in error["message"]
    assert set(error["error"]) == {"expected", "found", "next_step"}


def test_other_media_types_and_charsets_are_refused(desk):
    for kind in ("application/vnd.apache.parquet", "application/json; charset=latin-1"):
        error = invoke(desk, b"x", status=415, headers={"Content-Type": kind})
        assert set(error["error"]) == {"expected", "found", "next_step"}
    assert "UTF-8" in invoke(desk, b"text\n\xff\n", status=400, headers={"Content-Type": "text/csv"})["message"]


def test_too_many_rows(desk):
    error = invoke(desk, inputs=["good"] * (desk.settings.max_messages + 1), status=413)
    assert "1,001" in error["message"]


def test_probes_and_version(desk):
    import mlflow

    for path in ("/ping", "/health"):
        answer = desk.served.client.get(path)
        assert (answer.status_code, answer.text) == (200, "\n")
    assert desk.served.client.get("/version").text == mlflow.__version__


def test_without_a_champion_of_the_task(settings, shelf, serve):
    shelf.publish("sarcasm")
    with serve(settings) as served:
        served.wait_version(1, "sarcasm")
        assert served.client.get("/ping").status_code == 404
        answer = served.client.post("/invocations", json={"inputs": ["good"]})
        assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "approve" in answer.json()["error"]["next_step"]
        assert served.client.post("/invocations?task=sarcasm", json={"inputs": ["good"]}).status_code == 200
