"""A stream's process: worker, source, sinks, signals, metrics."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from prometheus_client import start_http_server

from serving.errors import Later
from serving.recorder import Nowhere
from serving.streams import files
from serving.streams.address import STANDARD, Address, open_sink, open_source
from serving.streams.base import Source
from serving.streams.metrics import StreamMetrics
from serving.streams.reading import Reader
from serving.streams.stream import Stream, Totals
from serving.worker import Worker
from undertone.errors import ConfigError
from undertone.records import Message, ScoredMessage
from undertone.settings import Settings
from undertone.store import Store

log = logging.getLogger("undertone.serving")

BATCH = 200
#: More would let Kafka believe that a slow worker has died: a batch must be done within `max.poll.interval.ms`.
LARGEST_BATCH = 1_000
#: Seconds to wait for the store before it is waited for in the open.
STORE_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a stream is asked to do.

    Attributes:
        sink: empty: scores go into the store alone.
        dead_letters: empty: beside the source.
        metrics_port: of Prometheus' page, on the settings' host; None: none.
        with_values: dead letters hold what was sent.
    """

    source: str
    sink: str
    dead_letters: str = ""
    batch: int = BATCH
    metrics_port: int | None = None
    with_values: bool = False


class Scoring:
    """The worker's one scoring path, for a loop that is not asynchronous. Nothing is spooled: its caller stores."""

    def __init__(self, settings: Settings) -> None:
        self.worker = Worker(settings, Nowhere())
        self._loop = asyncio.Runner()

    def start(self) -> None:
        """Serve what is on disk, follow the registry."""
        self.worker.start()

    def ready(self) -> None:
        """Do nothing, if messages can be scored.

        Raises:
            Later: no task serves, or not yet every one that has a champion.
        """
        if not self.worker.follower.settled:
            raise Later("every task's champion", "the first look at the registry is under way", "wait a moment")
        if not self.worker.ready:
            raise self.worker.no_model()

    def __call__(self, messages: Sequence[Message]) -> list[ScoredMessage]:
        """Score `messages`.

        Raises:
            Later: no task serves any more.
        """
        return self._loop.run(self.worker.score(messages))

    def close(self) -> None:
        """End."""
        self._loop.run(self.worker.stop())
        self._loop.close()


@contextmanager
def opened(
    settings: Settings, plan: Plan, told: Callable[[Totals, Source], None] = lambda *_: None
) -> Iterator[Stream]:
    """A stream with all that it needs, for the block.

    Args:
        told: called after each batch.

    Raises:
        ConfigError: an address is none, or names what is not there.
        StreamError: source or sink does not answer at the beginning; later on they are waited for.
        StoreError: the same of the store.
    """
    if not 1 <= plan.batch <= LARGEST_BATCH:
        raise ConfigError(f"a batch of 1 to {LARGEST_BATCH:,} messages", f"{plan.batch:,}", "give another --batch")
    address = Address.parse(plan.source)
    letters = Address.parse(plan.dead_letters) if plan.dead_letters else address.dead_letters()
    with ExitStack() as things:
        store = Store.open(settings, timeout_s=STORE_S)
        things.callback(store.engine.dispose)
        source = open_source(address, store, settings.max_body_bytes)
        things.callback(source.close)
        sink = open_sink(Address.parse(plan.sink)) if plan.sink else None
        if sink is not None:
            things.callback(sink.close)
        to_standard_error = not plan.dead_letters and letters.name == STANDARD
        dead_letters = files.error_lines() if to_standard_error else open_sink(letters)
        things.callback(dead_letters.close)
        score = Scoring(settings)
        things.callback(score.close)
        if plan.metrics_port is not None:
            things.callback(_metrics_page(score.worker, settings.host, plan.metrics_port))
        score.start()
        log.info("scoring %s; dead letters go to %s", address, "standard error" if to_standard_error else letters)
        yield Stream(
            source,
            sink,
            dead_letters,
            reader=Reader(settings, str(address), with_values=plan.with_values),
            score=score,
            labels=score.worker.labels,
            store=store,
            metrics=StreamMetrics(score.worker.metrics.registry),
            batch=plan.batch,
            ready=score.ready,
            told=lambda totals: told(totals, source),
        )


def run(settings: Settings, plan: Plan, told: Callable[[Totals, Source], None] = lambda *_: None) -> Totals:
    """Score a stream until it ends, or until SIGTERM or Ctrl-C: then the batch in hand is finished first.

    A second signal ends at once: what was not acknowledged comes again. Arguments and errors are those of `opened`.
    """
    with opened(settings, plan, told) as stream, _stopped_by_signals(stream):
        return stream.run()


@contextmanager
def _stopped_by_signals(stream: Stream) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        restore()
        stream.stop()

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _metrics_page(worker: Worker, host: str, port: int) -> Callable[[], None]:
    """Serve the worker's figures; gives what ends that."""
    try:
        server, _ = start_http_server(port, host, worker.metrics.registry)
    except OSError as error:
        raise ConfigError(
            f"a free port {port} on {host} for metrics", str(error), "give another --metrics-port"
        ) from error

    def end() -> None:
        server.shutdown()
        server.server_close()

    return end
