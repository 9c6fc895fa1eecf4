"""What a stream's worker adds to the figures of `serving.metrics`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from serving.streams.base import Lag
from undertone.records import Message

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600, 14_400)


class StreamMetrics:
    """Counters, gauges and a histogram of one reader.

    Args:
        registry: of the worker that scores.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.messages = Counter(
            "undertone_stream_messages", "messages scored, stored and acknowledged", registry=registry
        )
        self.letters = Counter("undertone_stream_dead_letters", "messages that could not be scored", registry=registry)
        self.lag_messages = Gauge(
            "undertone_stream_lag_messages", "messages of this reader's partitions not yet read", registry=registry
        )
        self.lag_seconds = Gauge(
            "undertone_stream_lag_seconds", "seconds behind the newest message of this reader's shards",
            registry=registry,
        )  # fmt: skip
        self.insight = Histogram(
            "undertone_stream_insight_seconds", "time from a message's sent_at to its row in the store",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.steps = Counter(
            "undertone_stream_step_seconds", "time of finished steps, waits included: read, score, store, send, commit",
            ["step"], registry=registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "undertone_stream_waiting", "1 while store, sink, source or champion is waited for", registry=registry
        )

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Count the time that the block takes."""
        began = time.perf_counter()
        yield
        self.steps.labels(name).inc(time.perf_counter() - began)

    def stored(self, messages: Sequence[Message], now: datetime) -> None:
        """Count messages that reached the store; those without a time are left out."""
        for message in messages:
            if message.sent_at is not None:
                self.insight.observe(max(0.0, (now - message.sent_at).total_seconds()))

    def behind(self, lag: Lag) -> None:
        """Show the lag."""
        if lag.messages is not None:
            self.lag_messages.set(lag.messages)
        if lag.seconds is not None:
            self.lag_seconds.set(lag.seconds)
