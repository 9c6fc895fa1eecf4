"""Open Inference Protocol, version 2: Triton's own client, and requests written by hand after the specification."""

import json

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from undertone.tasks import TASKS

TEXTS = ["good parcel", "bad parcel", "great good sure 👍"]


@pytest.fixture
def client(desk):
    with InferenceServerClient(f"127.0.0.1:{desk.served.client.base_url.port}") as made:
        yield made


def words(name, values, binary=True):
    array = np.array(values, dtype=object)
    tensor = InferInput(name, list(array.shape), "BYTES")
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def said(desk, task="sentiment", texts=TEXTS):
    return [message["tasks"][task] for message in desk.served.score(*texts)["messages"]]


def listed(array):
    return [value.decode() if isinstance(value, bytes) else value for value in array.tolist()]


@pytest.mark.parametrize("name", ["text", "args"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_triton_client_scores(desk, client, name, binary_in, binary_out):
    wanted = ["label", "score", "probabilities", "id"]
    outputs = [InferRequestedOutput(name, binary_data=binary_out) for name in wanted]
    result = client.infer("emotion", [words(name, TEXTS, binary_in)], outputs=outputs, request_id="r-1")
    expected = said(desk, "emotion")
    assert listed(result.as_numpy("label")) == [one["label"] for one in expected]
    assert result.as_numpy("score") == pytest.approx([one["confidence"] for one in expected], abs=2e-6)
    table = result.as_numpy("probabilities")
    assert table.shape == (3, len(TASKS["emotion"].labels))
    assert table == pytest.approx(np.array([list(one["probabilities"].values()) for one in expected]), abs=2e-6)
    assert len(set(listed(result.as_numpy("id")))) == 3
    response = result.get_response()
    assert (response["model_name"], response["model_version"], response["id"]) == ("emotion", "1", "r-1")
    assert response["parameters"]["digest"] == desk.served.task("emotion")["digest"]


def test_triton_clients_defaults_and_a_version(desk, client):
    result = client.infer("sentiment", [words("text", TEXTS)], model_version="1")
    assert listed(result.as_numpy("label")) == [one["label"] for one in said(desk)]


def test_triton_client_asks_about_server_and_models(desk, client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("sentiment")
    assert client.is_model_ready("sentiment", "1")
    assert client.is_model_ready("undertone")
    assert not client.is_model_ready("sentiment", "2")
    assert not client.is_model_ready("mood")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    about = client.get_model_metadata("sentiment", "1")
    assert about["versions"] == ["1"]
    assert about["parameters"] == {"version": 1, "digest": desk.served.task()["digest"]}
    outputs = {tensor["name"]: tensor for tensor in about["outputs"]}
    assert outputs["probabilities"]["shape"] == [-1, 3]
    assert outputs["probabilities"]["parameters"]["labels"] == list(TASKS["sentiment"].labels)
    index = {row["name"]: (row["version"], row["state"]) for row in client.get_model_repository_index()}
    assert index == dict.fromkeys(TASKS, ("1", "READY"))


def test_all_tasks_at_once(desk, client):
    result = client.infer("undertone", [words("text", TEXTS)])
    messages = desk.served.score(*TEXTS)["messages"]
    for task in TASKS:
        expected = [message["tasks"][task]["label"] for message in messages]
        assert listed(result.as_numpy(f"{task}_label")) == expected
    assert listed(result.as_numpy("final_sentiment")) == [message["sentiment"] for message in messages]
    named = [tensor["name"] for tensor in client.get_model_metadata("undertone")["outputs"]]
    assert named == [tensor["name"] for tensor in result.get_response()["outputs"]]


def test_what_is_scored_is_recorded_with_its_facts(desk, client, rows):
    client.infer(
        "sentiment",
        [
            words("text", ["good", "bad"]), words("id", ["oip-1", "oip-2"]), words("channel", ["chat", ""]),
            words("customer_id", ["c-9", ""], binary=False),
        ],
    )  # fmt: skip
    desk.served.wait_stored()
    messages, predictions = rows(desk.settings)
    found = [(row["id"], row["text"], row["channel"], row["customer_id"]) for row in messages if "oip-" in row["id"]]
    assert found == [("oip-1", "good", "chat", "c-9"), ("oip-2", "bad", None, None)]
    assert {row["task"] for row in predictions if row["message_id"] == "oip-1"} == set(TASKS)


def test_the_specifications_own_json(desk):
    body = {
        "id": "42",
        "inputs": [{"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["good"], ["bad"]]}],
        "outputs": [{"name": "label"}],
    }
    answer = desk.served.client.post("/v2/models/sentiment/infer", json=body).json()
    assert set(answer) == {"model_name", "model_version", "id", "parameters", "outputs"}
    labels = [one["label"] for one in said(desk, texts=["good", "bad"])]
    assert answer["outputs"] == [{"name": "label", "datatype": "BYTES", "shape": [2], "data": labels}]


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("sentiment/versions/9/infer", 404, "version 1 of sentiment"),
        ("undertone/versions/1/infer", 404, "no version of undertone"),
        ("mood/infer", 404, "a model: sentiment"),
    ],
)
def test_what_does_not_serve_is_404_in_one_string(desk, path, status, expected):
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"]}]}
    answer = desk.served.client.post(f"/v2/models/{path}", json=body)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert expected in answer.json()["error"]
    assert "Next:" in answer.json()["error"]


def test_triton_client_reads_the_error(client):
    with pytest.raises(InferenceServerException, match="version 1 of sentiment, which serves; found 9"):
        client.infer("sentiment", [words("text", TEXTS)], model_version="9")


def tensor(**changes):
    return {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["good"], **changes}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "inputs: Field required"),
        ({"inputs": []}, "one input text"),
        ({"inputs": [tensor(name="txt")]}, "txt"),
        ({"inputs": [tensor(), tensor(name="args")]}, "text, args"),
        ({"inputs": [tensor(), tensor()]}, "another of that name"),
        ({"inputs": [tensor(datatype="FP32", data=[1.0])]}, "FP32"),
        ({"inputs": [tensor(data=[7])]}, "words"),
        ({"inputs": [tensor(shape=[2])]}, "2 elements"),
        ({"inputs": [tensor(shape=[-1, -1], data=["good"] * 2)]}, "elements"),
        ({"inputs": [tensor(data=[" "])]}, "messages.0"),
        ({"inputs": [tensor(), tensor(name="id", shape=[2], data=["a", "b"])]}, "as many elements"),
        ({"inputs": [tensor(parameters={"binary_data_size": 9}, data=None)]}, "binary_data_size"),
        ({"inputs": [tensor()], "outputs": [{"name": "mood"}]}, "label, score"),
        ({"inputs": [tensor(data=None, shape=[0])]}, "messages"),
    ],
)  # fmt: skip
def test_bad_requests_are_400_in_one_string(desk, body, expected):
    answer = desk.served.client.post("/v2/models/sentiment/infer", json=body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["error"]
    assert expected in answer.json()["error"]


@pytest.mark.parametrize("data", [b"\x05\x00\x00\x00good", b"\x01\x00", b"\x02\x00\x00\x00\xff\xff"])
def test_broken_binary_data_is_named(desk, data):
    text = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [text]})
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = desk.served.client.post("/v2/models/sentiment/infer", content=head.encode() + data, headers=headers)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]


def test_without_a_champion(settings, serve):
    with serve(settings) as served:
        for path in ("/v2/health/ready", "/v2/models/sentiment/ready", "/v2/models/undertone"):
            answer = served.client.get(path)
            assert answer.status_code == 503
            assert "approve" in answer.json()["error"]
        assert served.client.get("/v2/health/live").json() == {"live": True}
        states = {row["state"] for row in served.client.post("/v2/repository/index").json()}
        assert states == {"UNAVAILABLE"}
