"""What does a swap cost whoever asks? Full load while a person approves and rolls back, again and again.

    python -m benchmarks.serving_swaps --swaps 100

Reported: failed requests, seconds from an order to its version in service, and the latencies of answers that came
between an order and a second after its version served, beside those of the quiet seconds before the first order.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from benchmarks import serving_client
from benchmarks.serving_client import percentile
from benchmarks.serving_processes import wait_for_quiet
from benchmarks.serving_scratch import Scratch, add_arguments, scratch, wait_for

#: Seconds of load before the first order, and after the last.
QUIET_S = 30.0
#: Seconds after a version came into service that still count as around the swap.
AFTER_S = 1.0
#: Longest time that an order may take; the load goes on for as long.
ORDER_S = 30.0


@dataclass(frozen=True)
class Swap:
    """Moments (`time.perf_counter`) of an order, and of its version in service as `/readyz` first showed it."""

    version: int
    ordered: float
    served: float


def main() -> int:
    """Run, print the figures."""
    asked = _arguments()
    with scratch(asked.sentiment, asked.cache.absolute(), versions=2, follow_seconds=asked.follow) as made:
        os.nice(10)  # the orders come from somebody's desk: they give way here
        for version in (2, 1):  # copies and caches are warm then
            swap(made, version)
        if asked.wait:
            wait_for_quiet(len(os.sched_getaffinity(0)), 60 * asked.wait)
        found = _run(made, asked)
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "each"}, indent=1))
    return 0 if not found["errors"] else 1


def _run(made: Scratch, asked: argparse.Namespace) -> dict[str, Any]:
    swaps: list[Swap] = []
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds = QUIET_S + asked.swaps * asked.every + QUIET_S
        load = pool.apply_async(serving_client.trace, (made.plan(asked.clients, seconds, warm_s=5.0),))
        began = time.perf_counter() + 5.0
        _sleep_until(began + QUIET_S)
        for number in range(asked.swaps):
            swaps.append(swap(made, 2 - number % 2))
            _sleep_until(began + QUIET_S + (number + 1) * asked.every)
        measured, answers = load.get()
    return summary(swaps, answers, measured)


def swap(made: Scratch, version: int) -> Swap:
    """Order `version`, wait until it serves."""
    ordered = time.perf_counter()
    made.order(version)
    wait_for(lambda: made.version() == version, f"version {version} serves", seconds=ORDER_S)
    return Swap(version, ordered, time.perf_counter())


def summary(swaps: list[Swap], answers: list[tuple[float, float]], measured: serving_client.Measured) -> dict[str, Any]:
    """The figures; times in milliseconds."""
    first = min(swap.ordered for swap in swaps)
    before = sorted(seconds for moment, seconds in answers if moment < first)
    around, quiet = [], []
    for moment, seconds in answers:
        near = any(swap.ordered <= moment <= swap.served + AFTER_S for swap in swaps)
        (around if near else quiet).append(seconds)
    around.sort()
    quiet.sort()
    took = sorted(swap.served - swap.ordered for swap in swaps)
    return {
        "swaps": len(swaps),
        "clients": measured.clients,
        "answers": len(answers),
        "errors": measured.errors,
        "first_error": measured.first_error,
        "messages_s": round(measured.messages_s, 1),
        "order_to_service_s": {"median": round(took[len(took) // 2], 2), "longest": round(took[-1], 2)},
        "before": _latencies(before),
        "away_from_swaps": _latencies(quiet),
        "around_swaps": _latencies(around),
        "p99_ratio": round(percentile(around, 0.99) / percentile(before, 0.99), 2) if before else None,
        "p99_ratio_away": round(percentile(around, 0.99) / percentile(quiet, 0.99), 2) if quiet else None,
        "others_used_cores": round((measured.others_cpu_s or 0) / measured.seconds, 2),
        "each": [{"version": swap.version, "seconds": round(swap.served - swap.ordered, 3)} for swap in swaps],
    }


def _latencies(ordered: list[float]) -> dict[str, float]:
    return {
        "answers": len(ordered),
        **{name: round(percentile(ordered, share), 1) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))},
        "max": round(1_000 * ordered[-1], 1) if ordered else 0.0,
    }


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.perf_counter()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--every", type=float, default=10, help="seconds from one order to the next (default: 10)")
    parser.add_argument("--follow", type=float, default=1.0, help="seconds between the worker's looks (default: 1)")
    add_arguments(parser)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
