"""Stored messages as traffic: read a file, send it through the serving worker, count what came back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from undertone.errors import DataError, UndertoneError
from undertone.settings import get_settings

CHUNK = 32
CLIENTS = 4
_COLUMNS = {
    "id": ("message_id", "id"),
    "text": ("text", "message", "body", "tweet"),
    "sent_at": ("sent_at", "created_at", "time", "timestamp"),
    "channel": ("channel",),
    "segment": ("segment",),
    "customer_id": ("customer_id",),
}


def replay_file(path: str, url: str, shift_to: datetime | None, limit: int | None) -> dict[str, Any]:
    """Read messages from `path` and send them.

    Raises:
        DataError: the file cannot be read or has no text.
    """
    return send(read(path, shift_to, limit), url or default_url(), title=f"replay {Path(path).name}")


def default_url() -> str:
    """Address of this machine's serving worker."""
    settings = get_settings()
    return f"http://{settings.host}:{settings.port}"


def read(path: str, shift_to: datetime | None = None, limit: int | None = None) -> list[dict[str, Any]]:
    """Messages in a CSV, JSONL or Parquet file, in order of time, in the shape that `/v1/score` takes."""
    try:
        match Path(path).suffix:
            case ".csv":
                frame = pd.read_csv(path)
            case ".parquet":
                frame = pd.read_parquet(path)
            case _:
                frame = pd.read_json(path, lines=True)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError("a CSV, JSONL or Parquet file", f"{type(error).__name__}: {error}", f"check {path}") from error
    return to_messages(frame, shift_to, limit, path)


def to_messages(
    frame: pd.DataFrame, shift_to: datetime | None = None, limit: int | None = None, name: str = "the table"
) -> list[dict[str, Any]]:
    """The rows of `frame` as messages, in order of time.

    Raises:
        DataError: there is no text column.
    """
    found = {key: next((c for c in names if c in frame), None) for key, names in _COLUMNS.items()}
    if found["text"] is None:
        raise DataError("a column `text`", f"{', '.join(map(str, frame.columns))}", f"rename the text column of {name}")
    frame = frame.rename(columns={column: key for key, column in found.items() if column})
    frame = frame[[key for key in _COLUMNS if key in frame]]
    if "sent_at" in frame:
        frame["sent_at"] = pd.to_datetime(frame["sent_at"], utc=True)
        frame = frame.sort_values("sent_at", kind="stable")
        if shift_to is not None:
            frame["sent_at"] += pd.Timestamp(shift_to) - frame["sent_at"].max()
        frame["sent_at"] = frame["sent_at"].map(lambda moment: moment.isoformat())
    frame = frame.head(limit) if limit else frame
    frame["text"] = frame["text"].astype(str)
    if "id" in frame:
        frame["id"] = frame["id"].astype(str)
    return [{str(key): value for key, value in row.items() if pd.notna(value)} for row in frame.to_dict("records")]


def send(messages: Sequence[dict[str, Any]], url: str, title: str = "score") -> dict[str, Any]:
    """Send `messages` in requests of 32 from four clients, with a progress bar.

    Returns:
        messages, failed requests, seconds, messages per second, the last failure, and counts of every task's labels.
    """
    labels: dict[str, Counter[str]] = {}
    failed, problem = 0, ""
    started = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        httpx.Client(base_url=url, timeout=60, headers=_key()) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task(title, total=len(messages))
        for chunk, answer in zip(
            _chunks(messages), pool.map(lambda c: _post(client, c), _chunks(messages)), strict=True
        ):
            progress.advance(bar, len(chunk))
            if isinstance(answer, str):
                failed, problem = failed + 1, answer
                continue
            for item in answer:
                labels.setdefault("final sentiment", Counter())[str(item["sentiment"])] += 1
                for task, prediction in item["tasks"].items():
                    labels.setdefault(task, Counter())[prediction["label"]] += 1
    seconds = time.perf_counter() - started
    return {
        "messages": len(messages),
        "failed_requests": failed,
        "problem": problem,
        "seconds": round(seconds, 2),
        "per_second": round(len(messages) / seconds, 1) if seconds else 0.0,
        "labels": {name: dict(counts) for name, counts in labels.items()},
    }


def text(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [
        f"{result['messages']} messages in {result['seconds']} s ({result['per_second']} a second), "
        f"{result['failed_requests']} failed requests"
    ]
    if result["problem"]:
        lines.append(f"  the last failure: {result['problem']}")
    for name, counts in result["labels"].items():
        total = sum(counts.values())
        shares = ", ".join(f"{label} {count / total:.1%}" for label, count in sorted(counts.items()))
        lines.append(f"  {name}: {shares}")
    return "\n".join(lines)


def _chunks(messages: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    return (messages[start : start + CHUNK] for start in range(0, len(messages), CHUNK))


def _key() -> dict[str, str]:
    """The settings' API key, as a header; none where there is none."""
    key = get_settings().worker_api_key
    return {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}


def _post(client: httpx.Client, chunk: Sequence[dict[str, Any]]) -> list[dict[str, Any]] | str:
    try:
        answer = client.post("/v1/score", json={"messages": chunk})
    except httpx.ConnectError as error:
        raise UndertoneError(
            f"a serving worker at {client.base_url}", str(error), "start one: `undertone serve`"
        ) from error
    if answer.status_code != 200:
        return f"{answer.status_code} {answer.text}"
    messages: list[dict[str, Any]] = answer.json()["messages"]
    return messages
