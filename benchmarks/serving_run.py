"""Start one server, play every phase against it, stop it: the same for all of `benchmarks.serving`."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks import serving_client
from benchmarks.serving_client import Plan
from benchmarks.serving_peers import Place, Server, read_labels
from benchmarks.serving_processes import Tree, spawned

#: Concurrent clients with one message a request.
CLIENTS = (1, 8, 32, 64)
#: Messages of the one large request.
LARGE = 64
#: Texts on which labels are compared, asked for by so many clients at once.
COMPARED, COMPARING = 100, 32
#: Clients after whose phase memory is read.
MEMORY_AT = 32
START_LIMIT_S = 180.0


class Failed(Exception):
    """A server does not start or does not answer; says why."""


@dataclass(frozen=True)
class Trial:
    """What is sent, and for how long."""

    texts: Sequence[str]
    labels: Sequence[str]
    seconds: float
    warm_s: float
    clients: Sequence[int] = CLIENTS
    large: bool = True


def measure(
    server: Server, place: Place, trial: Trial, cores: int, log: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Everything about one server; it has been started before, so its bytecode and files are warm."""
    made: dict[str, Any] = {"load_before": os.getloadavg()[0], "phases": []}
    with started(server, place, trial, cores, log) as (tree, cold_s):
        made["cold_start_s"] = cold_s
        made["labels_compared"], made["labels_same"] = _compare(server, place, trial)
        plans = [(clients, 1) for clients in trial.clients] + ([(1, LARGE)] if trial.large else [])
        for at, (clients, size) in enumerate(plans):
            groups = [trial.texts[first : first + size] for first in range(0, len(trial.texts) - size + 1, size)]
            plan = Plan(
                place.port,
                [serving_client.request(place.port, server.path, server.body(group)) for group in groups],
                clients,
                trial.seconds,
                trial.warm_s,
                size,
                first=at * len(groups) // len(plans),  # other texts in every phase, the same for every server
                root=tree.root,
            )
            found = _elsewhere(serving_client.run, plan)
            made["phases"].append(asdict(found))
            if clients == MEMORY_AT:
                made["memory_mb"], made["processes"] = tree.memory_mb(), len(tree.pids())
            say(
                f"{server.title}: {clients} client{'s' * (clients > 1)}, {size} a request: {found.messages_s:.0f} "
                f"messages/s, p50 {found.p50:.0f} ms, p99 {found.p99:.0f} ms, {found.errors} errors"
            )
    return made


@contextmanager
def started(server: Server, place: Place, trial: Trial, cores: int, log: Path) -> Iterator[tuple[Tree, float]]:
    """The server's processes, and the seconds from its start to its first answer; it has ended afterwards.

    Raises:
        Failed: it gave no answer in time, or ended.
    """
    began = time.perf_counter()
    with spawned(server.command(place), server.environment(place, cores), log, place.folder) as (child, tree):
        _wait(server, place, trial.texts[0], child, log)
        yield tree, time.perf_counter() - began


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _wait(server: Server, place: Place, text: str, child: subprocess.Popen[bytes], log: Path) -> None:
    wanted = serving_client.request(place.port, server.path, server.body([text])).partition(b"\r\n\r\n")[2]
    deadline, found = time.monotonic() + START_LIMIT_S, "no connection"
    while time.monotonic() < deadline:
        if child.poll() is not None:
            raise Failed(f"ended with {child.returncode}: {_last_line(log)}")
        connection = http.client.HTTPConnection("127.0.0.1", place.port, timeout=60)
        try:
            connection.request("POST", server.path, wanted, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            labels = read_labels(server, body) if answer.status == 200 else None
            if labels is not None and len(labels) == 1:
                return
            found = f"{answer.status} {body[:200].decode('utf-8', 'replace')}"
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.02)
    raise Failed(f"no answer within {START_LIMIT_S:.0f} s ({found}): {_last_line(log)}")


def _compare(server: Server, place: Place, trial: Trial) -> tuple[int, int]:
    """Texts asked about, many at once, and how many got the label of the float32 torch model."""
    texts = trial.texts[:COMPARED]
    requests = [serving_client.request(place.port, server.path, server.body([text])) for text in texts]
    bodies = _elsewhere(serving_client.ask, Plan(place.port, requests, COMPARING, seconds=0))
    same = [read_labels(server, body) == [wanted] for body, wanted in zip(bodies, trial.labels[:COMPARED], strict=True)]
    return len(same), sum(same)


def _elsewhere(act: Callable[[Plan], Any], plan: Plan) -> Any:
    """Run the client in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    client = context.Process(target=_play, args=(sending, act, plan))
    client.start()
    sending.close()
    try:
        return receiving.recv()
    finally:
        receiving.close()
        client.join(1)
        client.terminate()
        client.join()


def _play(sending: Connection, act: Callable[[Plan], Any], plan: Plan) -> None:
    sending.send(act(plan))


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else "it said nothing"
