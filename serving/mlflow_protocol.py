"""MLflow's scoring protocol: whoever called `mlflow models serve` calls this worker, and changes the address only.

Answers and errors have the shape of `mlflow.pyfunc.scoring_server` (MLflow 3.17). What is scored here is recorded like
any other message.
"""

from __future__ import annotations

import csv
import io
from functools import lru_cache
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qs

from pydantic import BaseModel

from serving.errors import NotFound, NotTaken, status_of
from serving.http import JSON, Answer, Call, Endpoint, ErrorForm, Route, json_answer
from serving.inline import BYTES, inline
from serving.score import answer_of, no_model, score_for
from serving.wire import ErrorParts, messages_of, read_json
from serving.worker import Worker
from undertone.errors import DataError, UndertoneError
from undertone.masking import Masker
from undertone.records import Message, Prediction
from undertone.settings import Settings
from undertone.text import repair

CSV = "text/csv"

#: MLflow's server calls these answers JSON, which they are not.
PLAIN = "text/plain; charset=utf-8"

#: Columns that are understood. Others are left aside, as MLflow does.
COLUMNS = ("id", "text", "channel", "segment", "customer_id", "sent_at")

FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")

#: MLflow's name for each status (databricks.proto).
CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    404: "RESOURCE_DOES_NOT_EXIST",
    408: "BAD_REQUEST",
    413: "BAD_REQUEST",
    415: "BAD_REQUEST",
    422: "BAD_REQUEST",
    429: "REQUEST_LIMIT_EXCEEDED",
    503: "TEMPORARILY_UNAVAILABLE",
}


class Frame(BaseModel):
    """A table as `DataFrame.to_dict(orient="split")` writes it."""

    columns: list[str] | None = None
    data: list[list[Any]]
    index: list[Any] | None = None


class Invocation(BaseModel):
    """Exactly one of the four forms. A text stands alone, or in a column `text` beside the other columns."""

    inputs: str | list[str] | list[dict[str, Any]] | dict[str, list[Any]] | None = None
    instances: list[str] | list[dict[str, Any]] | dict[str, list[Any]] | None = None
    dataframe_split: Frame | None = None
    dataframe_records: list[dict[str, Any]] | None = None
    params: dict[str, Any] | None = None


class Scored(BaseModel):
    """One answer: the label word, and its probability."""

    label: str
    score: float


class Predictions(BaseModel):
    """What `mlflow models serve` gives for a text classifier."""

    predictions: list[Scored]


class MlflowError(BaseModel):
    """MLflow's own two fields; this worker's three parts stand beside them."""

    error_code: str
    message: str
    error: ErrorParts


def routes(worker: Worker, settings: Settings) -> tuple[Route, ...]:
    """`/invocations`, `/ping`, `/health` and `/version`."""
    csv.field_size_limit(settings.max_body_bytes)  # Python's own limit is 131,072 characters
    alive = ping(worker, settings)
    return (
        Route(
            "POST",
            "/invocations",
            invocations(worker, settings),
            "MLflow's scoring protocol: answers of one task",
            description="JSON in one of MLflow's four forms, or CSV with a header. Errors are MLflow's too.",
            request=(Invocation,),
            response=Predictions,
            errors=(400, 404, 408, 413, 415, 500, 503),
            example={"inputs": ["Great, the third parcel lost this month."]},
            parameters=(
                {
                    "name": "task",
                    "in": "query",
                    "required": False,
                    "description": "whose answers; also as the header `X-Undertone-Task`",
                    "schema": {"type": "string", "default": settings.invocations_task},
                },
            ),
            takes=(JSON, CSV),
            form=FORM,
        ),
        *(
            Route("GET", path, alive, "MLflow's probe: does the task of /invocations serve?", errors=(404, 503),
                  form=PROBE_FORM, open=True, media_type=PLAIN)
            for path in ("/ping", "/health")
        ),
        Route("GET", "/version", mlflow_version, "Whose protocol: MLflow's version", open=True, media_type=PLAIN),
    )  # fmt: skip


def error_body(error: UndertoneError) -> Any:
    """An error as MLflow's server writes it; the three parts stand beside it."""
    return {
        "error_code": CODES.get(status_of(error), "INTERNAL_ERROR"),
        "message": str(error),
        "error": error.as_dict(),
    }


#: MLflow answers 400 where this worker's own pages say 422.
FORM = ErrorForm(error_body, {422: 400}, MlflowError)
#: And its probe 404 where nothing serves.
PROBE_FORM = ErrorForm(error_body, {503: 404}, MlflowError)


def invocations(worker: Worker, settings: Settings) -> Endpoint:
    """The endpoint of `/invocations`."""
    mask = Masker.of(settings)

    async def answer(call: Call) -> Answer:
        task = _task(call, worker, settings)
        if worker.ready and worker.slots[task].served is None:
            raise no_model(task)
        messages = await inline(len(call.body) <= BYTES, _read, call, settings, mask)
        scored = await score_for(call, worker, messages)
        return json_answer({"predictions": [_scored(answer_of(item.predictions, task)) for item in scored]})

    return answer


def ping(worker: Worker, settings: Settings) -> Endpoint:
    """The endpoint of `/ping` and `/health`: a line feed, as MLflow's server answers."""

    async def answer(call: Call) -> Answer:
        task = _task(call, worker, settings)
        if worker.slots[task].served is None:
            raise no_model(task)
        return Answer(body=b"\n", media_type=PLAIN)

    return answer


async def mlflow_version(call: Call) -> Answer:
    """The endpoint of `/version`."""
    return Answer(body=_mlflow_version(), media_type=PLAIN)


def rows_of(body: Any) -> list[dict[str, Any]]:
    """The rows of a JSON body: each a text and what is known about it, by the names of `COLUMNS`.

    Raises:
        DataError: it is in none of MLflow's forms, or in several.
    """
    found = [form for form in FORMS if isinstance(body, dict) and form in body]
    if len(found) != 1:
        raise DataError(
            f"a JSON object with exactly one of {', '.join(FORMS)}",
            " and ".join(found) or f"{_kind(body)} without any of them",
            'send {"inputs": ["a text", …]}',
        )
    (form,) = found
    given = body[form]
    if form == "dataframe_split":
        return _split(given)
    if isinstance(given, str) and form == "inputs":
        given = [given]
    if isinstance(given, dict) and form != "dataframe_records":
        given = _by_column(given, form)
    if not isinstance(given, list):
        raise DataError(f"a list of texts or of rows in {form}", _kind(given), "send a list")
    return _named([_row(item, f"{form}.{index}") for index, item in enumerate(given)])


def rows_of_csv(body: bytes) -> list[dict[str, Any]]:
    """The rows of a CSV body with a header, as `DataFrame.to_csv` writes it.

    Raises:
        DataError: it is not CSV in UTF-8.
    """
    try:
        text = io.StringIO(body.decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, strict=True)
        rows = [{str(name): value for name, value in row.items()} for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            "CSV in UTF-8 with a header", str(error), "write it with `DataFrame.to_csv(index=False)`"
        ) from error
    return _named([{name: value or None for name, value in row.items()} for row in rows])


def _read(call: Call, settings: Settings, mask: Masker) -> list[Message]:
    kind, _, parameters = call.headers.get("content-type", JSON).partition(";")
    charset = parameters.strip().lower()
    if charset and charset.replace('"', "") not in {"charset=utf-8", "charset=utf8"}:
        raise NotTaken("a body in UTF-8", repair(charset[:100]), "send it in UTF-8")
    if kind.strip().lower() == CSV:
        rows = rows_of_csv(call.body)
    elif kind.strip().lower() in {JSON, ""}:
        rows = rows_of(read_json(call.body))
    else:
        raise NotTaken(f"a body of {JSON} or {CSV}", repair(kind[:100]), "set Content-Type, and send one of these")
    return messages_of(
        {"messages": rows},
        call.received_at,
        max_messages=settings.max_messages,
        max_chars=settings.max_text_chars,
        mask=mask,
    )


def _task(call: Call, worker: Worker, settings: Settings) -> str:
    named = parse_qs(call.query).get("task", [call.headers.get("x-undertone-task", "")])[-1]
    task = named or settings.invocations_task
    if task not in worker.slots:
        raise NotFound(f"a task: {', '.join(worker.slots)}", repair(task[:100]), "name one with ?task=")
    return task


def _scored(prediction: Prediction) -> dict[str, Any]:
    return {"label": prediction.label, "score": prediction.confidence}


def _split(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, dict) or not isinstance(given.get("data"), list) or given.keys() - {
        "columns", "data", "index",
    }:  # fmt: skip
        raise DataError(
            "data, columns and perhaps index in dataframe_split",
            ", ".join(sorted(given))[:300] if isinstance(given, dict) else _kind(given),
            "write it with `DataFrame.to_dict(orient='split')`",
        )
    columns = given.get("columns")
    if columns is not None and not isinstance(columns, list):
        raise DataError("a list of names in dataframe_split.columns", _kind(columns), "name the columns")
    rows = []
    for index, values in enumerate(given["data"]):
        if not isinstance(values, list) or len(values) != len(columns or [None]):
            raise DataError(
                f"{len(columns or [None])} values in every row of dataframe_split",
                f"{len(values) if isinstance(values, list) else _kind(values)} in row {index}",
                "give every row a value for every column",
            )
        rows.append({str(name): value for name, value in zip(columns or ["text"], values, strict=True)})
    return _named(rows)


def _by_column(given: dict[str, Any], form: str) -> list[dict[str, Any]]:
    columns = {name: values if isinstance(values, list) else [values] for name, values in given.items()}
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        raise DataError(
            f"columns of one length in {form}", f"lengths {sorted(lengths)}", "give every row a value, or null"
        )
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _row(item: Any, where: str) -> dict[str, Any]:
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, list) and len(item) == 1 and isinstance(item[0], str):  # a table of one column
        return {"text": item[0]}
    if isinstance(item, dict):
        return item
    raise DataError(f"a text, or a row with a text, in {where}", _kind(item), "send strings")


def _named(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the columns that are understood. Where none is called `text`, the only unknown one is the text's."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = "text"
    if rows and "text" not in names:
        others = [name for name in names if name not in COLUMNS]
        if len(others) != 1:
            raise DataError(
                "a column called text", f"columns {', '.join(names)[:300] or '(none)'}", "name the texts' column so"
            )
        (text,) = others
    return [
        {"text": row.get(text)} | {name: _cell(row.get(name)) for name in COLUMNS if name != "text" and name in row}
        for row in rows
    ]


def _cell(value: Any) -> Any:
    """A cell as text: tables hold numbers where ids are meant, and NaN where there is nothing."""
    if value is None or value == "" or value != value:
        return None
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


@lru_cache(maxsize=1)
def _mlflow_version() -> bytes:
    return version("mlflow-skinny").encode()  # what an image for serving has; MLflow is of the same version
