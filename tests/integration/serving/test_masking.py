"""Masked where a message enters, by whichever protocol: the model reads what is stored, and it is nowhere else."""

from typing import Any

import pytest
from sqlalchemy import select

from undertone.schema import messages, predictions
from undertone.settings import Settings
from undertone.store import Store

ADDRESS, CARD, PHONE = "good@great.com", "4111 1111 1111 1111", "+1 650 253 0000"
SENT = f"parcel {ADDRESS} pays {CARD}, call {PHONE}"
STORED = "parcel [email] pays [card], call [phone]"


@pytest.fixture
def masking(ready: Settings) -> Settings:
    return ready.model_copy(update={"mask_personal_data": ("email", "phone", "card")})


def test_the_model_reads_what_is_stored(serve: Any, masking: Settings) -> None:
    with serve(masking) as served:
        answers = served.score({"id": "raw", "text": SENT}, {"id": "masked", "text": STORED})["messages"]
        tensors = [
            {"name": "text", "shape": [1], "datatype": "BYTES", "data": [SENT]},
            {"name": "id", "shape": [1], "datatype": "BYTES", "data": ["v2"]},
        ]
        assert served.client.post("/v2/models/sentiment/infer", json={"inputs": tensors}).status_code == 200
        rows = {"dataframe_records": [{"text": SENT, "id": "mlflow"}]}
        assert served.client.post("/invocations", json=rows).status_code == 200
        bad = served.client.post("/v1/score", json={"text": SENT, "unknown": 1})
        assert bad.status_code == 422
        served.wait_stored()
        store = Store(served.settings.database_url)
        with store.reading() as connection:
            texts = dict(connection.execute(select(messages.c.id, messages.c.text)).tuples().all())
            read = {
                row.message_id: (row.probabilities, row.embedding)
                for row in connection.execute(select(predictions).where(predictions.c.task == "sentiment"))
            }
        store.engine.dispose()
    assert texts == dict.fromkeys(["raw", "masked", "v2", "mlflow"], STORED)
    assert len({str(row) for row in read.values()}) == 1
    first, second = (answer["tasks"]["sentiment"]["probabilities"] for answer in answers)
    assert first == second
    files = [path.read_bytes() for path in masking.state_dir.rglob("*") if path.is_file()]
    for word in (ADDRESS, CARD, PHONE):
        assert not any(word.encode() in data for data in files)


def test_the_words_of_an_address_would_have_changed_the_answer(serve: Any, ready: Settings) -> None:
    with serve(ready) as served:
        raw, masked = served.score(SENT, STORED)["messages"]
    assert raw["tasks"]["sentiment"]["probabilities"] != masked["tasks"]["sentiment"]["probabilities"]
