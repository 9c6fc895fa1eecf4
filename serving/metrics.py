"""What Prometheus reads at `/metrics`. One registry per worker, so tests can run several."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from undertone.records import ScoredMessage

_LATENCY = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_BATCH = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters, gauges and histograms of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counted: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.requests = Counter(
            "undertone_requests", "requests by path and HTTP status", ["path", "status"], registry=self.registry
        )
        self.messages = Counter("undertone_messages", "messages scored", registry=self.registry)
        self.latency = Histogram(
            "undertone_request_seconds", "time from a request's arrival to its answer", ["path"], buckets=_LATENCY,
            registry=self.registry,
        )  # fmt: skip
        self.batch = Histogram(
            "undertone_batch_messages", "messages scored in one batch", buckets=_BATCH, registry=self.registry
        )
        self.wait = Histogram(
            "undertone_queue_seconds", "time from a request's arrival in the queue to its first batch",
            buckets=_LATENCY, registry=self.registry,
        )  # fmt: skip
        self.callers = Counter("undertone_caller_requests", "requests by API key", ["caller"], registry=self.registry)
        self.queue = Gauge("undertone_queue_messages", "messages waiting to be scored", registry=self.registry)
        self.labels = Counter(
            "undertone_labels", "answers by task and label", ["task", "label"], registry=self.registry
        )
        self.model = Gauge(
            "undertone_model_version", "version that serves, 0: none", ["task", "digest"], registry=self.registry
        )
        self.swaps = Counter("undertone_model_swaps", "versions put into service", ["task"], registry=self.registry)
        self.refusals = Counter(
            "undertone_model_refusals", "versions that were not put into service", ["task"], registry=self.registry
        )
        self.trial = Gauge(
            "undertone_trial_version", "version on trial, 0: none", ["task", "kind"], registry=self.registry
        )
        self.trial_messages = Counter(
            "undertone_trial_messages", "messages of trials: agreed, disagreed, error, dropped",
            ["task", "kind", "outcome"], registry=self.registry,
        )  # fmt: skip
        self.backlog = Gauge(
            "undertone_store_backlog_messages", "scored messages not yet in the store", registry=self.registry
        )

    def seen(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        counted = self._counted.get((path, status))
        if counted is None:
            counted = self._counted[path, status] = (
                self.requests.labels(path, str(status)),
                self.latency.labels(path),
            )
        counted[0].inc()
        counted[1].observe(seconds)

    def scored(self, items: Sequence[ScoredMessage]) -> None:
        """Count messages and their labels."""
        self.messages.inc(len(items))
        for (task, label), count in Counts((a.task, a.label) for item in items for a in item.predictions).items():
            self.labels.labels(task, label).inc(count)

    def page(self) -> bytes:
        """The text format of Prometheus."""
        return generate_latest(self.registry)
