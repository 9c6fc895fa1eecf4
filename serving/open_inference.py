"""The Open Inference Protocol, version 2: the clients of KServe, MLServer and Triton call this worker.

A model is a task; the model `undertone` answers for every task that serves. What is scored here is recorded like any
other message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from serving.errors import Later, NotFound
from serving.http import Answer, Call, Endpoint, ErrorForm, Route, json_answer
from serving.inline import BYTES, MESSAGES, inline
from serving.model_slot import Served
from serving.score import answer_of, no_model, score_for
from serving.tensors import TAKES, InferRequest, InferResponse, Output, read_request, write_response
from serving.wire import messages_of
from serving.worker import Worker
from undertone import __version__
from undertone.errors import DataError
from undertone.masking import Masker
from undertone.records import Message, Prediction, ScoredMessage
from undertone.settings import Settings
from undertone.text import repair

#: The model that answers for every task at once.
ALL = "undertone"

#: Names of the input with the texts: ours, and the one that MLServer's runtimes and clients use.
TEXTS = ("text", "args")

#: Inputs beside the texts; all optional.
FACTS = ("id", "channel", "segment", "customer_id", "sent_at")


class OneString(BaseModel):
    """This protocol's errors are one string: expected, found and next step stand in it."""

    error: str


class TensorMetadata(BaseModel):
    """An input or an output; -1 stands for any length."""

    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Any] | None = None


class ModelMetadata(BaseModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: dict[str, Any]


class ServerMetadata(BaseModel):
    """This server."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """The process answers."""

    live: bool


class ModelReady(BaseModel):
    """The model serves."""

    model_config = ConfigDict(protected_namespaces=())

    name: str
    ready: bool


class IndexEntry(BaseModel):
    """A model that this worker knows; Triton's repository extension."""

    name: str
    version: str | None = None
    state: str
    reason: str


#: The protocol's errors are one string, and a request that is not as described is 400.
FORM = ErrorForm(lambda error: {"error": str(error)}, {422: 400}, OneString)


def routes(worker: Worker, settings: Settings) -> tuple[Route, ...]:
    """Every page under `/v2`."""
    models = Models(worker, settings)
    example = {
        "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Great, the third parcel lost."]}]
    }

    def named(path: str) -> Sequence[Mapping[str, Any]]:
        tasks = {"type": "string", "enum": [*worker.slots, ALL]}
        return [{"name": "name", "in": "path", "required": True, "schema": tasks}] if "{name}" in path else []

    def get(path: str, endpoint: Endpoint, summary: str, response: Any, *errors: int, open: bool = False) -> Route:
        return Route(
            "GET", path, endpoint, summary, response=response, errors=errors, form=FORM, open=open,
            parameters=named(path),
        )  # fmt: skip

    def infer(path: str) -> Route:
        return Route(
            "POST", path, models.infer, "Open Inference Protocol: score texts",
            description=(
                "Input `text` (or `args`) of BYTES; beside it, optional and of the same length, "
                f"{', '.join(f'`{name}`' for name in FACTS)}; an empty word stands for none. "
                "Outputs: label, score, probabilities, id."
            ),
            request=(InferRequest,), response=InferResponse, errors=(400, 404, 408, 413, 500, 503),
            example=example, takes=TAKES, form=FORM, parameters=named(path),
        )  # fmt: skip

    one, pinned = "/v2/models/{name}", "/v2/models/{name}/versions/{version}"
    return (
        get("/v2", server, "Open Inference Protocol: this server", ServerMetadata),
        get("/v2/health/live", live, "Open Inference Protocol: is the process alive?", Live, open=True),
        get(
            "/v2/health/ready", models.server_ready, "Open Inference Protocol: does a task serve?", Live, 503, open=True
        ),
        get(one, models.metadata, "Open Inference Protocol: what a model takes and gives", ModelMetadata, 404, 503),
        get(pinned, models.metadata, "The same, of the version that serves", ModelMetadata, 404, 503),
        get(f"{one}/ready", models.ready, "Open Inference Protocol: does it serve?", ModelReady, 404, 503, open=True),
        get(f"{pinned}/ready", models.ready, "Does this version serve?", ModelReady, 404, 503, open=True),
        infer(f"{one}/infer"),
        infer(f"{pinned}/infer"),
        Route("POST", "/v2/repository/index", models.index, "The tasks, and whether they serve", form=FORM),
    )


async def server(call: Call) -> Answer:
    """`GET /v2`."""
    extensions = ["binary_tensor_data", "model_repository"]
    return json_answer({"name": "undertone", "version": __version__, "extensions": extensions})


async def live(call: Call) -> Answer:
    """`GET /v2/health/live`."""
    return json_answer({"live": True})


class Models:
    """The tasks of a worker as the protocol's models."""

    def __init__(self, worker: Worker, settings: Settings) -> None:
        self._worker = worker
        self._settings = settings
        self._mask = Masker.of(settings)

    async def server_ready(self, call: Call) -> Answer:
        """`GET /v2/health/ready`."""
        if not self._worker.ready:
            raise self._worker.no_model()
        return json_answer({"live": True})

    async def ready(self, call: Call) -> Answer:
        """`GET /v2/models/{name}/ready`."""
        self._serving(call)
        return json_answer({"name": call.parts["name"], "ready": True})

    async def metadata(self, call: Call) -> Answer:
        """`GET /v2/models/{name}`."""
        served = self._serving(call)
        words = [TensorMetadata(name=name, datatype="BYTES", shape=[-1]) for name in (TEXTS[0], *FACTS)]
        about = {task: {"version": one.version, "digest": one.digest} for task, one in served.items()}
        made = ModelMetadata(
            name=call.parts["name"],
            versions=[] if call.parts["name"] == ALL else [str(one.version) for one in served.values()],
            platform="undertone_onnxruntime",
            inputs=words,
            outputs=_outputs_of(call.parts["name"], served),
            parameters=about if call.parts["name"] == ALL else about[call.parts["name"]],
        )
        return json_answer(made.model_dump(exclude_none=True))

    async def index(self, call: Call) -> Answer:
        """`POST /v2/repository/index`."""
        rows = []
        for task, slot in self._worker.slots.items():
            served, refusal = slot.served, slot.refusal
            reason = f"version {refusal.version} is refused: {refusal.error['found']}" if refusal else "no champion"
            rows.append(
                {"name": task, "version": str(served.version), "state": "READY", "reason": ""}
                if served
                else {"name": task, "state": "UNAVAILABLE", "reason": reason}
            )
        return json_answer(rows)

    async def infer(self, call: Call) -> Answer:
        """`POST /v2/models/{name}/infer`."""
        served = self._serving(call)
        request, messages = await inline(len(call.body) <= BYTES, self._read, call)
        _check_outputs(request, [tensor.name for tensor in _outputs_of(call.parts["name"], served)])
        scored = await score_for(call, self._worker, messages)
        return await inline(len(scored) <= MESSAGES, self._write, call, request, scored)

    def _serving(self, call: Call) -> dict[str, Served]:
        """What serves as the model that the call names, by task.

        Raises:
            NotFound: no such model, or another version serves.
            NoModel: nothing serves as that model.
        """
        name, wanted = call.parts["name"], call.parts.get("version")
        slots = self._worker.slots
        if name != ALL and name not in slots:
            raise NotFound(
                f"a model: {', '.join([*slots, ALL])}", repair(name[:100]), "POST /v2/repository/index lists them"
            )
        served = {task: slot.served for task, slot in slots.items() if slot.served and name in (task, ALL)}
        if not served:
            raise self._worker.no_model() if name == ALL else no_model(name)
        if wanted is not None:
            versions = [] if name == ALL else [str(one.version) for one in served.values()]
            if wanted not in versions:
                raise NotFound(
                    f"version {', '.join(versions)} of {name}, which serves" if versions else f"no version of {name}",
                    repair(wanted[:100]),
                    f"ask for /v2/models/{name} without a version, or approve that version",
                )
        return served

    def _read(self, call: Call) -> tuple[InferRequest, list[Message]]:
        request, words = read_request(call.body, call.headers)
        named = [name for name in TEXTS if name in words]
        if len(named) != 1:
            raise DataError(
                f"one input {TEXTS[0]} of BYTES (or {TEXTS[1]})",
                ", ".join(words)[:300] or "no input",
                "GET /v2/models/NAME describes the inputs",
            )
        known = {name: words[name] for name in FACTS if name in words}
        texts = words[named[0]]
        for name, values in known.items():
            if len(values) != len(texts):
                raise DataError(f"as many elements in {name} as texts ({len(texts):,})", f"{len(values):,}", "mend it")
        rows = [
            {"text": text} | {name: values[index] for name, values in known.items() if values[index]}
            for index, text in enumerate(texts)
        ]
        messages = messages_of(
            {"messages": rows},
            call.received_at,
            max_messages=self._settings.max_messages,
            max_chars=self._settings.max_text_chars,
            mask=self._mask,
        )
        return request, messages

    def _write(self, call: Call, request: InferRequest, scored: Sequence[ScoredMessage]) -> Answer:
        name, wanted = call.parts["name"], call.parts.get("version")
        n = len(scored)
        outputs, about = [], []
        for task in self._tasks(name, scored):
            answers = [answer_of(item.predictions, task) for item in scored]
            outputs += _outputs(f"{task}_" if name == ALL else "", answers)
            about.append((task, sorted({answer.model_version for answer in answers}), answers[-1].model_digest))
        if name == ALL:
            outputs.append(Output("final_sentiment", "BYTES", (n,), [item.final_sentiment or "" for item in scored]))
        outputs.append(Output("id", "BYTES", (n,), [item.message.id for item in scored]))
        # a champion may change while a request is scored: each message has one version, and all are named
        versions = [",".join(map(str, numbers)) for _, numbers, _ in about]
        if wanted is not None and versions != [wanted]:
            raise Later(f"version {wanted} of {name} throughout", f"{versions[0]}: it was replaced", "send it again")
        head = {
            "model_name": name,
            "model_version": __version__ if name == ALL else versions[0],
            **({} if request.id is None else {"id": repair(request.id)}),
            "parameters": {f"{task}_version": version for (task, _, _), version in zip(about, versions, strict=True)}
            if name == ALL
            else {"digest": about[0][2]},
        }
        return write_response(head, outputs, request)

    def _tasks(self, name: str, scored: Sequence[ScoredMessage]) -> list[str]:
        if name != ALL:
            return [name]
        return [
            task for task in self._worker.slots if all(task in {p.task for p in item.predictions} for item in scored)
        ]


def _outputs_of(name: str, served: Mapping[str, Served]) -> list[TensorMetadata]:
    """The outputs of the model `name`, in their order."""
    outputs = []
    for task, one in served.items():
        before = f"{task}_" if name == ALL else ""
        labels = list(one.engine.labels)
        outputs += [
            TensorMetadata(name=f"{before}label", datatype="BYTES", shape=[-1]),
            TensorMetadata(name=f"{before}score", datatype="FP64", shape=[-1]),
            TensorMetadata(
                name=f"{before}probabilities",
                datatype="FP64",
                shape=[-1, len(labels)],
                parameters={"labels": labels},
            ),
        ]
    if name == ALL:
        outputs.append(TensorMetadata(name="final_sentiment", datatype="BYTES", shape=[-1]))
    return [*outputs, TensorMetadata(name="id", datatype="BYTES", shape=[-1])]


def _check_outputs(request: InferRequest, names: Sequence[str]) -> None:
    for wish in request.outputs or ():
        if wish.name not in names:
            raise DataError(f"outputs among {', '.join(names)}", repr(wish.name[:100]), "ask for one of these")


def _outputs(before: str, answers: Sequence[Prediction]) -> list[Output]:
    n, width = len(answers), len(answers[0].probabilities)
    return [
        Output(f"{before}label", "BYTES", (n,), [answer.label for answer in answers]),
        Output(f"{before}score", "FP64", (n,), [answer.confidence for answer in answers]),
        Output(
            f"{before}probabilities", "FP64", (n, width), [p for answer in answers for p in answer.probabilities]
        ),
    ]  # fmt: skip
