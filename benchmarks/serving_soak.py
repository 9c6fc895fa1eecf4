"""Does the worker stay as it is? Full load for minutes: memory, errors, throughput, from the first part to the last.

    python -m benchmarks.serving_soak --minutes 60

Memory that a process takes once (the engine's arena, the allocator's), and that of the process which fetched the model,
is left out: the slope is the median of all slopes between two later parts. Where others use the cores too, the worker's
CPU time for a thousand messages says more than its throughput.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import mean, median
from typing import Any

from benchmarks import serving_client
from benchmarks.serving_processes import wait_for_quiet
from benchmarks.serving_scratch import Scratch, add_arguments, scratch

#: Length of a part; memory is read at its end.
PART_S = 15.0
#: Share of the time that belongs to warming up.
WARMING = 1 / 4


@dataclass(frozen=True)
class Part:
    """One part of the load. Memory in MB (PSS of all the worker's processes), time in seconds from the start."""

    at_s: float
    memory_mb: float
    open_files: int
    backlog: int
    messages_s: float
    p99_ms: float
    cpu_per_1000: float
    errors: int
    others_cpu: float


def main() -> int:
    """Run, print a table, keep the parts."""
    asked = _arguments()
    with scratch(asked.sentiment, asked.cache.absolute(), versions=1, follow_seconds=3.0) as made:
        if asked.wait:
            wait_for_quiet(len(os.sched_getaffinity(0)), 60 * asked.wait)
        parts = list(_parts(made, asked.minutes * 60, asked.clients))
    found = summary(parts, asked.clients)
    if asked.json:
        asked.json.write_text(json.dumps({**found, "parts": [asdict(part) for part in parts]}, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0 if not found["errors"] else 1


def _parts(made: Scratch, seconds: float, clients: int) -> Any:
    began, first = time.monotonic(), 0
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # the client's interpreter is not the reader's
        while (spent := time.monotonic() - began) < seconds:
            plan = made.plan(clients, PART_S, warm_s=0.5 if spent else 3.0, first=first)
            phase = pool.apply(serving_client.run, (plan,))
            first += phase.answers
            part = Part(
                time.monotonic() - began,
                made.tree.memory_mb(),
                len(os.listdir(f"/proc/{made.tree.root}/fd")),
                made.ready()["store_backlog"],
                phase.messages_s,
                phase.p99,
                phase.server_cpu_per_1000 or 0.0,
                phase.errors,
                (phase.others_cpu_s or 0) / phase.seconds if phase.seconds else 0.0,
            )
            print(_line(part), file=sys.stderr, flush=True)
            yield part


def _grown(figures: list[float], share: int) -> float:
    """The mean of the last `share` figures, over that of the first."""
    return round(mean(figures[-share:]) / mean(figures[:share]), 3)


def _line(part: Part) -> str:
    return (
        f"{part.at_s:6.0f} s  {part.memory_mb:7.1f} MB  {part.messages_s:7.1f} messages/s  p99 {part.p99_ms:.0f} ms  "
        f"{part.errors} errors  {part.open_files} files  others use {part.others_cpu:.2f} cores"
    )


def summary(parts: list[Part], clients: int) -> dict[str, Any]:
    """What the parts show together; the slope leaves the first quarter out."""
    later = [part for part in parts if part.at_s >= WARMING * parts[-1].at_s] if len(parts) > 3 else parts
    slopes = [(b.memory_mb - a.memory_mb) / (b.at_s - a.at_s) for a, b in combinations(later, 2)]
    share = max(1, len(later) // 4)
    return {
        "minutes": round(parts[-1].at_s / 60, 1),
        "clients": clients,
        "messages": round(sum(part.messages_s * PART_S for part in parts)),
        "errors": sum(part.errors for part in parts),
        "memory_first_mb": round(parts[0].memory_mb, 1),
        "memory_last_mb": round(parts[-1].memory_mb, 1),
        "memory_slope_mb_per_hour": round(3_600 * median(slopes), 1) if slopes else None,
        "open_files": [parts[0].open_files, parts[-1].open_files],
        "throughput_last_to_first": _grown([part.messages_s for part in later], share),
        "cpu_last_to_first": _grown([part.cpu_per_1000 for part in later], share),
        "messages_s": round(mean(part.messages_s for part in later), 1),
        "others_used_cores": round(mean(part.others_cpu for part in later), 2),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60)
    add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
