"""Stored messages as traffic: read a file, send it through the serving worker, count what came back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pandas as pd

from flows import terminal
from serving.streams.address import Address, open_sink
from serving.streams.base import Row
from serving.streams.files import COLUMNS
from undertone.errors import ConfigError, DataError, UndertoneError
from undertone.settings import get_settings

CHUNK = 32
CLIENTS = 4
#: Seconds of messages that go into a stream together, at most: what is due sooner waits as long.
TICK_S = 0.05
#: Messages that go into a stream together, at most.
TOGETHER = 500


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
    found = {key: next((c for c in names if c in frame), None) for key, names in COLUMNS.items()}
    if found["text"] is None:
        raise DataError("a column `text`", f"{', '.join(map(str, frame.columns))}", f"rename the text column of {name}")
    frame = frame.rename(columns={column: key for key, column in found.items() if column})
    frame = frame[[key for key in COLUMNS if key in frame]]
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
    with (
        httpx.Client(base_url=url, timeout=60, headers=_key()) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
        terminal.progress() as progress,
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


def replay_into(path: str, url: str, speed: float, limit: int | None = None) -> dict[str, Any]:
    """Read messages from `path` and write them into the stream at `url`, in the order and at the pace of their times.

    Each message's ``sent_at`` becomes the moment at which it is due, so that what comes of it can be timed.

    Args:
        speed: how many times as fast as they were sent; 0: without a pause.

    Returns:
        messages, seconds, messages per second, and by how many seconds the last one and the latest one were late.

    Raises:
        ConfigError: a pace is asked for, and the messages have no times.
        DataError: the file cannot be read or has no text.
        StreamError: the stream does not take them.
    """
    messages = read(path, limit=limit)
    if speed < 0 or (speed and not all("sent_at" in message for message in messages)):
        raise ConfigError("messages with times, for a speed above 0", f"speed {speed:g}", "use --speed 0")
    address = Address.parse(url)
    sink = open_sink(address)
    with terminal.progress() as progress:
        bar = progress.add_task(f"replay {Path(path).name} into {address}", total=len(messages))
        started, began = time.perf_counter(), datetime.now(UTC)
        late = latest = 0.0
        for due, group in _paced(messages, speed):
            time.sleep(max(0.0, due - (time.perf_counter() - started)))
            if not speed:
                due = time.perf_counter() - started
            sent_at = (began + timedelta(seconds=due)).isoformat()
            sink.write([Row(str(item.get("id", "")), orjson.dumps(item | {"sent_at": sent_at})) for item in group])
            late = time.perf_counter() - started - due
            latest = max(latest, late)
            progress.advance(bar, len(group))
    seconds = time.perf_counter() - started
    sink.close()
    return {
        "messages": len(messages),
        "seconds": round(seconds, 2),
        "per_second": round(len(messages) / seconds, 1) if seconds else 0.0,
        "late_at_the_end_s": round(late, 3),
        "late_at_most_s": round(latest, 3),
    }


def _paced(messages: Sequence[dict[str, Any]], speed: float) -> Iterator[tuple[float, list[dict[str, Any]]]]:
    """Messages that go together, and the second in which they are due: when the last of them was sent."""
    if not speed:
        for start in range(0, len(messages), TOGETHER):
            yield 0.0, list(messages[start : start + TOGETHER])
        return
    times = [datetime.fromisoformat(message["sent_at"]) for message in messages]
    dues = [(moment - times[0]).total_seconds() / speed for moment in times]
    start = 0
    for index in range(1, len(messages) + 1):
        if index == len(messages) or index - start == TOGETHER or dues[index] - dues[start] > TICK_S:
            yield dues[index - 1], list(messages[start:index])
            start = index


def stream_text(result: dict[str, Any]) -> str:
    """The result of a replay into a stream, for people."""
    return (
        f"{result['messages']} messages in {result['seconds']} s ({result['per_second']} a second);"
        f" the latest went {result['late_at_most_s']} s after it was due"
    )


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
