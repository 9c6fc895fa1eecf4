"""Tensors of the Open Inference Protocol: in requests and answers, as JSON and as binary data behind it.

Sources: kserve/open-inference-protocol, `inference_rest.md`; Triton's binary tensor data extension.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from serving.http import JSON, Answer
from serving.wire import first_fault, read_json
from undertone.errors import DataError

#: Length of the JSON in front of binary data.
HEADER = "inference-header-content-length"

#: A tensor's elements may be nested as deep as its shape is long, and no protocol's client sends more dimensions.
_DEEP = 8


class RequestInput(BaseModel):
    """One input tensor. `data` is missing where it follows the JSON as binary data."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class RequestOutput(BaseModel):
    """An output that is asked for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(BaseModel):
    """Texts, and perhaps what is known about each, as tensors of one length."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[RequestInput]
    outputs: list[RequestOutput] | None = None


class ResponseOutput(BaseModel):
    """One output tensor, flat and row by row."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class InferResponse(BaseModel):
    """Answers as tensors of one length."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[ResponseOutput]


@dataclass(frozen=True, slots=True)
class Output:
    """An output tensor: BYTES holds words, FP64 numbers; flat, row by row."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]

    def packed(self) -> bytes:
        """As binary data: little-endian, a word behind its length."""
        if self.datatype == "FP64":
            return struct.pack(f"<{len(self.data)}d", *self.data)
        words = [word.encode() for word in self.data]
        return b"".join(struct.pack("<I", len(word)) + word for word in words)


def read_request(body: bytes, headers: Mapping[str, str]) -> tuple[InferRequest, dict[str, list[str]]]:
    """A request, and the words of its input tensors by name.

    Raises:
        DataError: it is not as the protocol says, or an input is not of BYTES, or has another length than its shape.
    """
    declared = headers.get(HEADER, "")
    length = int(declared) if declared.isdecimal() else len(body)
    if length > len(body):
        raise DataError(f"{length:,} bytes of JSON, as {HEADER} says", f"{len(body):,}", "send the whole body")
    try:
        request = InferRequest.model_validate(read_json(body[:length]))
    except ValidationError as error:
        raise DataError(
            "an inference request of the Open Inference Protocol", first_fault(error), "mend it; nothing was scored"
        ) from error
    binary = memoryview(body)[length:]
    words: dict[str, list[str]] = {}
    for tensor in request.inputs:
        size = (tensor.parameters or {}).get("binary_data_size")
        if tensor.datatype != "BYTES":
            raise DataError(f"BYTES in the input {tensor.name[:100]}", tensor.datatype[:100], "send words")
        if size is None:
            found = _flat(tensor.name, tensor.data or [], 0)
        else:
            if not isinstance(size, int) or not 0 <= size <= len(binary):
                raise DataError(
                    f"binary_data_size of {tensor.name[:100]} within the body's {len(binary):,} bytes behind the JSON",
                    repr(size)[:100],
                    "send the whole body",
                )
            found, binary = _unpack(tensor.name, binary[:size]), binary[size:]
        if tensor.name in words or len(found) != _volume(tensor):
            raise DataError(
                f"one input {tensor.name[:100]} with {_volume(tensor):,} elements, as its shape says",
                "another of that name" if tensor.name in words else f"{len(found):,}",
                "mend it; nothing was scored",
            )
        words[tensor.name] = found
    return request, words


def write_response(head: dict[str, Any], outputs: Sequence[Output], request: InferRequest) -> Answer:
    """The answer: the outputs that were asked for, in that order; as binary data where that was asked for."""
    everywhere = bool((request.parameters or {}).get("binary_data_output"))
    asked = request.outputs or [RequestOutput(name=output.name) for output in outputs]
    by_name = {output.name: output for output in outputs}
    written, binary = [], []
    for wish in asked:
        output = by_name[wish.name]
        described: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
        if (wish.parameters or {}).get("binary_data", everywhere):
            binary.append(output.packed())
            described["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            described["data"] = output.data
        written.append(described)
    body = orjson.dumps({**head, "outputs": written})
    if not binary:
        return Answer(body=body)
    return Answer(body=body + b"".join(binary), media_type="application/octet-stream", headers={HEADER: str(len(body))})


def _volume(tensor: RequestInput) -> int:
    """Elements that the shape has room for."""
    volume = 1
    for size in tensor.shape:
        volume *= size
    return volume


def _flat(name: str, data: list[Any], depth: int) -> list[str]:
    found = []
    for item in data:
        if isinstance(item, list) and depth < _DEEP:
            found.extend(_flat(name, item, depth + 1))
        elif isinstance(item, str):
            found.append(item)
        else:
            raise DataError(f"words in the input {name[:100]}", repr(item)[:100], "send strings")
    return found


def _unpack(name: str, data: memoryview) -> list[str]:
    found, place = [], 0
    while place < len(data):
        start = place + 4
        end = start + int.from_bytes(data[place:start], "little")
        if start > len(data) or end > len(data):
            raise DataError(f"words, each behind its length, in {name[:100]}", "an end too soon", "send the whole body")
        found.append(_decoded(name, bytes(data[start:end])))
        place = end
    return found


def _decoded(name: str, word: bytes) -> str:
    try:
        return word.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"UTF-8 in the input {name[:100]}", str(error)[:100], "encode the words so") from error


#: Media types of a request's body.
TAKES = (JSON, "application/octet-stream")
