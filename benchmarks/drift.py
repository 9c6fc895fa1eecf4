"""How often does the drift watch cry wolf, and what does it see? `python -m benchmarks.drift --data ../shared/data`

Trains two sentiment models, scores real and changed messages with them once, draws windows of many kinds, and has the
product judge them: `monitoring.quality.check`, `monitoring.drift.judge` with the floors of `monitoring.calibrate`.
Beside it the default presets of Evidently and NannyML. Everything that took time is kept in `--cache`; the same command
goes on where it was interrupted. docs/drift.md holds the tables and how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import drift_findings, drift_models, drift_peers, drift_replay, drift_tables, drift_texts
from benchmarks.drift_run import STEPS, Cell, Judge, read, run
from benchmarks.drift_scenarios import REFERENCE_ROWS, SCENARIOS, Pool
from benchmarks.drift_texts import Scored
from undertone.tasks import get_task

Rows = list[dict[str, Any]]
#: Watches of a year in one of the chains that daily watches are.
A_CHAIN = -(-drift_replay.DAYS // drift_replay.CHAINS)
SEEDS = (1, 2, 3)
SIZES = (250, 500, 1_000, 2_000, 5_000)
#: Scenarios for which the issue sets a goal, and how many times as many trials they get.
GOALS, MORE = ("quiet", "mix 20 %", "mix 40 %"), 3
#: No more changed copies exist than this.
CAPPED = {"lower-cased": drift_texts.CHANGED, "truncated": drift_texts.CHANGED}


def cells(trials: int, elsewhere: int) -> list[Cell]:
    """What is judged for each model and seed: `trials` at 1,000 messages, `elsewhere` at other sizes."""
    made = []
    for size in sorted(SIZES, key=lambda size: size != 1_000):
        for scenario in SCENARIOS:
            if size > CAPPED.get(scenario, size) or (size == 250 and scenario not in GOALS):
                continue
            count = trials * (MORE if scenario in GOALS else 1) if size == 1_000 else elsewhere
            made.append(Cell(scenario, size, min(1, count) if size == 250 else count))
    return made


def judges(asked: argparse.Namespace) -> Iterator[Judge]:
    """Every model with every reference."""
    for scored in _scored(asked):
        if asked.model in (None, scored.name):
            for seed in SEEDS:
                yield Judge.make(Pool(scored, seed), asked.cache)


def _scored(asked: argparse.Namespace) -> Iterator[Scored]:
    files = asked.data / "sentiment/train.csv", asked.data / "stream/airline_messages.csv"
    return drift_texts.scored(*files, asked.cache, asked.threads)


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge, replay, ask the peers, and print the tables as Markdown."""
    from rich.console import Console
    from rich.progress import track

    asked = _asked(arguments)
    asked.cache.mkdir(parents=True, exist_ok=True)
    ready = list(judges(asked))
    screen = Console(stderr=True)
    name = asked.model or "all"
    wanted = cells(asked.trials, asked.elsewhere)
    total = len(ready) * STEPS * sum(cell.trials for cell in wanted)
    results = run(ready, wanted, asked.cache / f"windows-{name}.jsonl")
    for _ in track(results, "windows judged", total=total, console=screen):
        pass
    watches = drift_replay.replay(ready, asked.years, asked.chains, asked.cache / f"replay-{name}.jsonl")
    for _ in track(watches, "watches", total=len(ready) * asked.years * asked.chains * A_CHAIN, console=screen):
        pass
    if asked.peers:
        drift_peers.run(ready, asked.peers, asked.nannyml, asked.cache / f"peers-{name}.jsonl")
    if asked.model is None:
        report(asked)


def report(asked: argparse.Namespace) -> None:
    """Print what the cache holds."""
    windows, watches, peers = (_all(asked.cache, kind) for kind in ("windows", "replay", "peers"))
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(
        ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "scikit-learn", "evidently", "onnxruntime"))
    )
    print(
        f"seeds {', '.join(map(str, SEEDS))}; references of {REFERENCE_ROWS:,} messages; {len(windows):,} windows and "
    )
    print(f"{len(watches):,} replayed watches, {sum(row['seconds'] for row in windows + watches):,.0f} s of judging")
    print("\n".join(drift_models.facts(asked.cache)) + "\n")
    print(get_task("sentiment").drift)
    for title, table in _tables(asked, windows, drift_replay.verdicts(drift_replay.complete(watches)), peers):
        print(f"\n### {title}\n\n{table}")


def _tables(asked: argparse.Namespace, windows: Rows, watches: Rows, peers: Rows) -> Iterator[tuple[str, str]]:
    yield "Goals", "\n".join(f"- {line}" for line in drift_tables.summary(windows))
    yield "Replayed years", drift_tables.replay_table(watches, A_CHAIN)
    yield "Beside the presets of Evidently and NannyML, 1,000 messages", drift_tables.peer_table(windows, peers)
    yield "Every size", drift_tables.watch_table(windows)
    yield "By signal, 1,000 messages", drift_tables.signal_table(windows, 1_000)
    yield "Effects, 1,000 messages", drift_tables.effect_table(windows, 1_000)
    yield "What a change costs", drift_findings.domain_table(_scored(asked))
    yield "What is said of it without labels", drift_findings.harm_table(windows, peers)
    yield "Usual rules in quiet months", drift_findings.usual_table(watches)


def _all(cache: Path, kind: str) -> Rows:
    """Rows of every model; where floors changed between two runs, those of the policy that judged last."""
    rows = {
        json.dumps(row, sort_keys=True): row for path in sorted(cache.glob(f"{kind}-*.jsonl")) for row in read(path)
    }
    last = {(row["model"], row["seed"]): row.get("policy") for row in rows.values()}
    return [row for row in rows.values() if row.get("policy") == last[row["model"], row["seed"]]]


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with sentiment and stream")
    parser.add_argument(
        "--cache", type=Path, default=Path(".undertone/benchmark-drift"), help="models, scores, results"
    )
    parser.add_argument(
        "--model", choices=[recipe.name for recipe in drift_models.RECIPES], help="only this; no tables"
    )
    parser.add_argument("--trials", type=int, default=8, help="for a model and seed, of three windows of 1,000 each")
    parser.add_argument("--elsewhere", type=int, default=3, help="the same for windows of other sizes")
    parser.add_argument("--years", type=int, default=5, help="replayed for each model and seed")
    parser.add_argument("--chains", type=int, choices=range(5), default=4, help="of four that daily watches consist of")
    parser.add_argument("--peers", type=int, default=2, help="trials that Evidently and NannyML see; 0: neither")
    parser.add_argument("--nannyml", type=Path, help="Python of an environment with nannyml (and statsmodels)")
    parser.add_argument("--threads", type=int, default=1, help="for training and scoring")
    parser.add_argument("--report", action="store_true", help="only print what the cache holds")
    asked = parser.parse_args(arguments)
    if asked.report:
        report(asked)
        sys.exit()
    return asked


if __name__ == "__main__":
    main()
