"""`undertone stream` for people: a progress bar where an end is known, and what was done."""

from __future__ import annotations

import json
import os
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from flows.terminal import say
from serving.streams import run as streams
from serving.streams.base import Source
from serving.streams.reading import schema
from serving.streams.stream import Totals
from serving.telemetry import configure_logging
from undertone.settings import QUIET, get_settings


def show_schema() -> None:
    """Print the JSON Schema of a message."""
    print(json.dumps(schema(), indent=2))  # noqa: T201


def run(source: str, sink: str, dead_letters: str, batch: int, metrics_port: int | None, with_values: bool) -> None:
    """Score a stream until it ends or is stopped. Arguments and errors are those of `serving.streams.run`."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    settings = get_settings()
    configure_logging(settings)
    plan = streams.Plan(source, sink, dead_letters, batch, metrics_port, with_values)
    began = time.perf_counter()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=Console(stderr=True))

    def show(totals: Totals, read: Source) -> None:
        if (where := read.progress()) is not None:  # an end is known
            if not progress.task_ids:
                progress.start()
                progress.add_task("", total=where[1])
            progress.update(progress.task_ids[0], completed=where[0], description=f"{totals.messages:,} messages")

    try:
        totals = streams.run(settings, plan, show)
    finally:
        progress.stop()
    seconds = time.perf_counter() - began
    say(
        f"{totals.messages:,} messages scored in {seconds:.1f} s, {totals.new:,} of them new to the store;"
        f" {totals.dead_letters:,} dead letters"
    )
