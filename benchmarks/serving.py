"""The serving worker beside every peer, in one run: `python -m benchmarks.serving --sentiment FILE`

Each server is started in turn, in its own virtual environment, with the same fine-tuned weights; the same client sends
it the same real texts, which no model trained on; then it is stopped. The worker of this repository is measured first
and last, so that a drift of the machine shows. `--peers none` measures it alone, `--report FILE` prints the tables of
an earlier run's `--json FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

from benchmarks.serving_peers import (
    SERVERS,
    NotInstalled,
    Place,
    Server,
    interpreter,
    undertone,
    version,
    working_folder,
)
from benchmarks.serving_processes import wait_for_quiet
from benchmarks.serving_run import CLIENTS, Failed, Trial, free_ports, measure, started
from benchmarks.serving_tables import into_page, report

#: What the worker's figures depend on.
OURS = ("onnxruntime", "tokenizers", "uvicorn", "fastapi", "numpy", "mlflow")
FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
#: Clients at which three tasks are compared with one.
TASKS_AT = (1, 32)


@dataclass
class Run:
    """One run, and the file that its results are kept in after every server."""

    cache: Path
    cores: int
    trial: Trial
    results: dict[str, Any]
    target: Path | None
    patience_s: float
    say: Callable[[str], None]

    def keep(self) -> None:
        """Write what is known so far."""
        if self.target:
            self.target.write_text(json.dumps(self.results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def speed(self) -> float:
        """GFLOP/s that a short matrix product gets just now: how much of the machine is free."""
        command = ["benchmarks.serving_engine", "speed", "--cores", str(self.cores), "--seconds", "1"]
        return float(json.loads(_python(command, self.cores)))

    def server(self, server: Server, make: Callable[[], Place], trial: Trial) -> dict[str, Any]:
        """A row about `server`: its figures, or why there are none."""
        row: dict[str, Any] = {"key": server.key, "title": server.title, "batching": server.batching}
        log = self.cache / "logs" / f"{server.key}.log"
        try:
            if self.patience_s:
                self.say(f"others use {wait_for_quiet(self.cores, self.patience_s):.0%} of the cores")
            row["gflop_s_before"] = self.speed()
            self.say(f"{server.title}: starting, {row['gflop_s_before']:.0f} GFLOP/s to be had")
            place = make()
            row["version"] = version(place.python, server.package)
            with started(server, place, trial, self.cores, log) as (_, first_s):
                row["first_start_s"] = first_s
            row |= measure(server, place, trial, self.cores, log, self.say)
        except (Failed, NotInstalled) as error:
            row["failed"] = str(error)
            self.say(f"{server.title}: {error}")
        self.results["servers"].append(row)
        self.keep()
        return row


def main() -> int:
    """Measure, and print the tables as Markdown."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # whatever was started is stopped on the way out
    if asked.report:
        _show(json.loads(asked.report.read_text(encoding="utf-8")), asked)
        return 0
    from rich.console import Console

    screen = Console(stderr=True, highlight=False)

    def say(line: str) -> None:
        screen.print(f"[dim]{datetime.now(UTC):%H:%M:%S}[/dim] {line}", soft_wrap=True)

    cache, cores = asked.cache.absolute(), len(os.sched_getaffinity(0))
    say(f"homes and models in {cache}")
    kept = _prepare(asked.sentiment, cache, anew=asked.anew)
    texts = kept["texts"]
    (cache / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    labels = json.loads(_python(["benchmarks.serving_labels", kept["checkpoint"], cache / "texts.json"], cores))
    run = Run(
        cache,
        cores,
        Trial(texts, labels, asked.seconds, asked.warm, asked.clients),
        {"at": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z", "machine": machine(cores), "seconds": asked.seconds,
         "warm_s": asked.warm, "texts": len(texts), "text_chars": sum(map(len, texts)) / len(texts), "servers": []},
        asked.json,
        60 * asked.wait,
        say,
    )  # fmt: skip
    _ours(run, kept, "first")
    for key in asked.peers:
        ports = free_ports(3)
        run.server(
            SERVERS[key],
            lambda key=key, ports=ports: Place(
                interpreter(key, cache), working_folder(key, cache), ports[0], (ports[1], ports[2]),
                Path(kept["model"]), Path(kept["checkpoint"]),
            ),
            run.trial,
        )  # fmt: skip
    if asked.peers:
        _ours(run, kept, "last")
    if asked.engine:
        say("the raw engine and matrix products")
        run.results["limits"] = json.loads(_engine("limits", run, kept))
        run.results["ceiling"] = json.loads(_engine("ceiling", run, kept))
    if asked.tasks:
        _ours(run, kept, "three")
    run.results["machine"]["load_after"] = os.getloadavg()
    run.keep()
    _show(run.results, asked)
    return 0


def _show(results: dict[str, Any], asked: argparse.Namespace) -> None:
    text = report(results)
    if asked.markdown:
        asked.markdown.write_text(text + "\n", encoding="utf-8")
    if asked.page:
        asked.page.write_text(into_page(asked.page.read_text(encoding="utf-8"), text), encoding="utf-8")
    print(text)


def machine(cores: int) -> dict[str, Any]:
    """The machine and what runs on it, in words and numbers."""
    lines = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout.splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = set(facts.get("Flags", "").split())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "processor": facts.get("Model name", platform.machine()),
        "family": f"family {facts.get('CPU family', '?')}, model {facts.get('Model', '?')}",
        "cores": cores,
        "flags": [flag for flag in FLAGS if flag in flags],
        "flags_missing": [flag for flag in FLAGS if flag not in flags],
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "versions": {name: installed(name) for name in OURS},
        "load_before": os.getloadavg(),
    }


def _ours(run: Run, kept: dict[str, Any], which: str) -> None:
    """The worker on a copy of the home's store, with the last good copies that its first start left."""
    from benchmarks.serving_home import environment, fresh_state

    home = Path(kept["three" if which == "three" else "one"])
    state = run.cache / "run" / f"state-{which}"
    server = replace(
        undertone(environment(home, state), f"undertone-{which}"),
        title=f"Undertone ({'three tasks' if which == 'three' else which})",
    )
    folder, ports = working_folder(server.key, run.cache), free_ports(3)
    place = Place(Path(sys.executable), folder, ports[0], (ports[1], ports[2]), Path(), Path())

    def make() -> Place:
        """Serve from the registry once: that leaves the copies from which a restarted worker serves."""
        served = run.cache / "run" / f"served-{home.name}"
        fresh_state(home, state)
        with started(server, place, run.trial, run.cores, run.cache / "logs" / f"{server.key}-fetching.log") as (_, s):
            run.results.setdefault("fetching_start_s", {})[which] = s
            _until_all_serve(place.port, 3 if which == "three" else 1)
        shutil.rmtree(served, ignore_errors=True)
        shutil.copytree(state / "served", served)
        fresh_state(home, state, served)
        return place

    three = replace(run.trial, clients=[c for c in run.trial.clients if c in TASKS_AT], large=False)
    row = run.server(server, make, three if which == "three" else run.trial)
    row["which"] = which
    run.keep()


def _until_all_serve(port: int, tasks: int) -> None:
    import time

    import httpx

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        states = httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=30).json()["tasks"].values()
        if sum(state["version"] is not None for state in states) >= tasks:
            return
        time.sleep(0.2)
    raise Failed(f"{tasks} tasks do not serve within 120 s")


def _prepare(source: Path, cache: Path, *, anew: bool) -> dict[str, Any]:
    """Homes, model and texts, made by a process of its own: this one stays small."""
    command = ["benchmarks.serving_home", source, cache, *(["--anew"] if anew else [])]
    made: dict[str, Any] = json.loads(_python(command, len(os.sched_getaffinity(0))))
    return made


def _engine(what: str, run: Run, kept: dict[str, Any]) -> str:
    command = ["benchmarks.serving_engine", what, "--cores", str(run.cores), "--model", kept["model"]]
    return _python([*command, "--texts", run.cache / "texts.json"], run.cores)


def _python(command: Sequence[str | Path], threads: int) -> str:
    """What a module of this repository prints."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sentiment", type=Path, default=Path("../shared/data/sentiment/train.csv"))
    parser.add_argument("--cache", type=Path, default=Path("/tmp/bench-serving"), help="homes and environments")
    parser.add_argument("--peers", default="all", help=f"all, none, or some of {','.join(SERVERS)}")
    parser.add_argument("--seconds", type=float, default=20, help="measured seconds of each phase (default: 20)")
    parser.add_argument("--warm", type=float, default=3, help="seconds before them (default: 3)")
    parser.add_argument("--clients", type=lambda text: [int(part) for part in text.split(",")], default=list(CLIENTS))
    parser.add_argument("--wait", type=float, default=0, help="minutes to wait for idle cores before each server")
    parser.add_argument("--anew", action="store_true", help="export, judge and approve again (the code has changed)")
    parser.add_argument("--no-tasks", dest="tasks", action="store_false", help="leave out three tasks beside one")
    parser.add_argument("--no-engine", dest="engine", action="store_false", help="leave out the raw engine and limits")
    parser.add_argument("--json", type=Path, help="keep the results here")
    parser.add_argument("--markdown", type=Path, help="keep the tables here")
    parser.add_argument("--page", type=Path, help="put the tables between the marks of docs/performance.md")
    parser.add_argument("--report", type=Path, help="only print the tables of this file of results")
    asked = parser.parse_args()
    names = {"all": list(SERVERS), "none": []}.get(asked.peers)
    asked.peers = asked.peers.split(",") if names is None else names
    if unknown := set(asked.peers) - set(SERVERS):
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; known are {', '.join(SERVERS)}")
    return asked


if __name__ == "__main__":
    sys.exit(main())
