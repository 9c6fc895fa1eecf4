"""Scored messages whose true labels are known: what insights should find can be asked of what they find.

filled = fill(store, start, days=28, rows=5_000, shares={"sentiment": (0.3, 0.5, 0.2)})
filled.share("sentiment", "negative")  # of the messages themselves, where `shares` is what they were drawn from
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Table, insert

from undertone.schema import confusions, messages, predictions, reviews
from undertone.shares import sample_key
from undertone.store import Store
from undertone.tasks import get_task

#: True shares of each task's labels, in the task's order.
SHARES: dict[str, tuple[float, ...]] = {
    "sentiment": (0.25, 0.50, 0.25),
    "sarcasm": (0.90, 0.10),
    "emotion": (0.30, 0.30, 0.15, 0.25),
}
#: What a model says, given the true label: true label by row.
ERRORS: dict[str, tuple[tuple[float, ...], ...]] = {
    "sentiment": ((0.80, 0.15, 0.05), (0.10, 0.80, 0.10), (0.04, 0.16, 0.80)),
    "sarcasm": ((0.92, 0.08), (0.35, 0.65)),
    "emotion": ((0.82, 0.05, 0.03, 0.10), (0.05, 0.85, 0.07, 0.03), (0.10, 0.20, 0.60, 0.10), (0.12, 0.04, 0.04, 0.80)),
}
CHANNELS = {"chat": 0.4, "email": 0.3, "social": 0.2, "ticket": 0.1}
SEGMENTS = {"pay_per_use": 0.4, "starter": 0.3, "growth": 0.2, "enterprise": 0.1}


@dataclass(frozen=True)
class Filled:
    """The rows that were written, one entry of each array a message; labels as class indices."""

    ids: list[str]
    event_at: list[datetime]
    channel: NDArray[np.str_]
    segment: NDArray[np.str_]
    customer: NDArray[np.str_]
    true: dict[str, NDArray[np.int64]]
    predicted: dict[str, NDArray[np.int64]]

    def share(self, task: str, label: str, where: NDArray[np.bool_] | None = None) -> float:
        """True share of a label among these messages."""
        truth = self.true[task] if where is None else self.true[task][where]
        return float(np.mean(truth == get_task(task).labels.index(label)))


def fill(
    store: Store,
    start: datetime,
    *,
    days: float = 28,
    rows: int = 2_000,
    shares: Mapping[str, Sequence[float]] = SHARES,
    by_channel: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    by_segment: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    day_sd: float = 0.0,
    errors: Mapping[str, Sequence[Sequence[float]]] = ERRORS,
    version: int = 1,
    channels: Mapping[str, float] = CHANNELS,
    segments: Mapping[str, float] = SEGMENTS,
    customers: int = 400,
    first_customer: int = 0,
    unsure: float = 0.1,
    received_s: float = 2.0,
    stored_s: float = 3.0,
    prefix: str = "m",
    seed: int = 0,
) -> Filled:
    """Write `rows` messages sent evenly over `days` from `start`, with an answer for each task of `shares`.

    Args:
        shares: true shares by task, in the order of its labels.
        by_channel: those of one channel, by channel and task; `by_segment` likewise, and it comes last.
        day_sd: standard deviation of each day's true shares around these, on the logit scale.
        errors: what the model says, by task: true label by row.
        customers: each has one segment; they are called ``c`` and a number, from `first_customer` on.
        received_s: mean seconds from sent to received; `stored_s` from received to stored.
        prefix: of message ids.
    """
    rng = np.random.default_rng(seed)
    offsets = np.sort(rng.uniform(0, days * 86_400, rows))
    event_at = [start + timedelta(seconds=float(second)) for second in offsets]
    channel = _draw(rng, channels, rows)
    owner = rng.integers(customers, size=rows)
    segment = _draw(rng, segments, customers)[owner]
    day = (offsets // 86_400).astype(int)
    true, predicted = {}, {}
    for task, of_all in shares.items():
        p = np.tile(np.asarray(of_all, dtype=float), (rows, 1))
        for column, other in ((channel, by_channel or {}), (segment, by_segment or {})):
            for value, of_value in other.items():
                if task in of_value:
                    p[column == value] = of_value[task]
        p *= np.exp(rng.normal(0, day_sd, (int(np.ceil(days)), p.shape[1])))[day]
        p /= p.sum(axis=1, keepdims=True)
        true[task] = _pick(rng, p)
        predicted[task] = _pick(rng, np.asarray(errors[task])[true[task]])
    filled = Filled(
        [f"{prefix}{number}" for number in range(rows)],
        event_at,
        channel,
        segment,
        np.char.add("c", (owner + first_customer).astype(str)),
        true,
        predicted,
    )
    received = rng.exponential(received_s, rows)
    _write(
        store, filled, received, received + rng.exponential(stored_s, rows), rng.uniform(size=rows) < unsure, version
    )
    return filled


def add_holdout(
    store: Store,
    task: str,
    rows: int = 2_000,
    *,
    version: int = 1,
    seed: int = 0,
    shares: Any = SHARES,
    errors: Any = ERRORS,
) -> None:
    """Write the error counts that a holdout of so many rows gives."""
    labels, counts = get_task(task).labels, _confusion(task, rows, seed, shares, errors)
    with store.transaction() as connection:
        _insert(
            connection,
            confusions,
            [
                {
                    "task": task,
                    "model_version": version,
                    "label": true,
                    "predicted": predicted,
                    "rows": int(counts[i, j]),
                }
                for i, true in enumerate(labels)
                for j, predicted in enumerate(labels)
            ],
        )


def add_audit(store: Store, task: str, filled: Filled, rows: int, *, version: int = 1, seed: int = 0) -> None:
    """Label that many of these messages truly, as an audit of their answers drawn at random."""
    labels = get_task(task).labels
    picked = np.random.default_rng(seed).choice(len(filled.ids), size=rows, replace=False)
    at = filled.event_at[-1]
    with store.transaction() as connection:
        _insert(
            connection,
            reviews,
            [
                {
                    "task": task,
                    "message_id": filled.ids[i],
                    "batch": f"audit-{version}-{seed}",
                    "kind": "audit",
                    "weight": len(filled.ids) / rows,
                    "model_version": version,
                    "predicted": labels[filled.predicted[task][i]],
                    "asked_at": at,
                    "state": "labelled",
                    "reviewer": "ann",
                    "label": labels[filled.true[task][i]],
                    "labelled_at": at,
                }
                for i in picked
            ],
        )


def _confusion(task: str, rows: int, seed: int, shares: Any, errors: Any) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    true = rng.multinomial(rows, shares[task])
    return np.stack([rng.multinomial(n, p) for n, p in zip(true, errors[task], strict=True)])


def _write(
    store: Store,
    filled: Filled,
    received: NDArray[np.float64],
    stored: NDArray[np.float64],
    unsure: NDArray[np.bool_],
    version: int,
) -> None:
    sentiments = get_task("sentiment").labels
    said = filled.predicted.get("sentiment")
    texts = [
        {
            "id": name,
            "text": f"message {name} about {channel}",
            "channel": str(channel),
            "segment": str(segment),
            "customer_id": str(customer),
            "sent_at": at,
            "received_at": at + timedelta(seconds=float(received[i])),
            "stored_at": at + timedelta(seconds=float(stored[i])),
            "truncated": False,
            "final_sentiment": None if said is None else sentiments[said[i]],
            "final_probability": 0.8,
            "needs_review": bool(unsure[i]),
        }
        for i, (name, at, channel, segment, customer) in enumerate(
            zip(filled.ids, filled.event_at, filled.channel, filled.segment, filled.customer, strict=True)
        )
    ]
    keys = [sample_key(name) for name in filled.ids]
    with store.transaction() as connection:
        _insert(connection, messages, texts)
        for task, answers in filled.predicted.items():
            labels = get_task(task).labels
            _insert(
                connection,
                predictions,
                [
                    {
                        "message_id": row["id"],
                        "task": task,
                        "event_at": row["sent_at"],
                        "label": labels[answer],
                        "probabilities": [],
                        "confidence": 0.8,
                        "model_version": version,
                        "model_digest": f"{version:064x}",
                        "scored_at": row["received_at"],
                        "sample_key": key,
                        "needs_review": row["needs_review"],
                    }
                    for row, answer, key in zip(texts, answers, keys, strict=True)
                ],
            )


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _draw(rng: np.random.Generator, shares: Mapping[str, float], size: int) -> NDArray[np.str_]:
    return rng.choice(np.array(list(shares)), size=size, p=list(shares.values()))


def _pick(rng: np.random.Generator, p: NDArray[np.float64]) -> NDArray[np.int64]:
    """One class index for each row of shares."""
    return np.asarray((rng.uniform(size=(len(p), 1)) > np.cumsum(p, axis=1)[:, :-1]).sum(axis=1), dtype=np.int64)
