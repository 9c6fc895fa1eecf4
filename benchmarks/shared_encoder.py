"""One encoder with three heads, or three models? `python -m benchmarks.shared_encoder --data ../shared/data`

Trains sentiment, whose layers below the last become the trunk; then sarcasm and emotion, each by itself and as a head
on the trunk, from the same rows at the same effort. The product's own gate judges the head against the model by itself,
as challenger and champion. Then the engines' rates: one task, three models, one trunk with three heads.
docs/decisions/0019 holds what came out. What is trained is kept in `--cache`; the same command goes on from there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from training import spent, steps, track
from training.effort import EFFORTS, Effort
from training.spent import measure
from training.trunk import OWN, checkpoint
from training.work import Request
from undertone.engine import BATCH, Engine
from undertone.errors import VerificationError
from undertone.model_folder import EXACT, INT8, graphs_of
from undertone.settings import Settings
from undertone.workspace import Workspace

#: `smoke` with more rows: one pass, two frozen layers, no dropout; a head on a trunk has six frozen ones.
EFFORT = Effort(
    name="shared", epochs=1, learning_rate=3e-4, batch_size=16, frozen_layers=2, dropout=0.0, max_train_rows=4_000,
    max_eval_rows=2_000,
)  # fmt: skip
TRUNK, HEADS = "sentiment", ("sarcasm", "emotion")
#: Texts whose time is taken, and that are put in order of length before they are cut into calls.
TEXTS, SORTED = 256, 32


def trained(task: str, data: Path, cache: Path, seed: int, trunk: str | None) -> dict[str, Any]:
    """Train and judge a task where `cache` does not hold it yet; its gate's answer, its seconds and its folder.

    What is trained by itself becomes the champion, so that the gate holds the head against it.
    """
    kind = "alone" if trunk is None else "trunk"
    target = cache / f"{task}-{kind}-{seed}"
    if (target / "outcome.json").is_file():
        found: dict[str, Any] = json.loads((target / "outcome.json").read_text(encoding="utf-8"))
        return found
    EFFORTS[EFFORT.name] = EFFORT
    workspace = Workspace(Settings(home=cache / f"home-{seed}", engine_threads=1))
    base = None
    if trunk not in (None, OWN):
        base = checkpoint(str(trunk), workspace.registry, workspace.settings.state_dir / "trunks")
    source = str((data / task / "train.csv").resolve())
    request = Request(task, source, EFFORT.name, seed, datetime.now(UTC), "benchmark", base_model=base, trunk=trunk)
    work = steps.prepare(workspace, request)
    run_id = steps.begin(workspace, work)
    with track.run_status(workspace.registry, run_id):
        with measure(work.spent):
            finetuned = steps.finetune(workspace, work, run_id)
        steps.export(work, finetuned)
        scores = steps.score(workspace, work)
        steps.calibrate(work, scores)
        evaluation = steps.evaluate(workspace, work, scores, run_id)
        version = steps.register(workspace, work, run_id, evaluation)
        verdict = steps.judge(workspace, work, scores, version, evaluation)
    if kind == "alone":
        workspace.registry.set_champion(task, version.version)
    made = steps.outcome(version, evaluation, verdict) | {"cpu_s": spent.read(work.spent).cpu_s, "folder": str(target)}
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(work.model, target)
    (target / "outcome.json").write_text(json.dumps(made, indent=2), encoding="utf-8")
    work.remove()
    return made


def rates(ways: dict[str, Callable[[Sequence[list[int]]], object]], calls: Sequence[Any], rounds: int) -> Any:
    """Messages for each processor second of each way; the ways take turns, call by call, so that all meet alike."""
    spent_s = dict.fromkeys(ways, 0.0)
    names = list(ways)
    for ids in calls[:4]:
        for way in ways.values():
            way(ids)
    for turn in range(rounds):
        for number, ids in enumerate(calls):
            for place in range(len(names)):
                name = names[(place + number + turn) % len(names)]
                began = time.thread_time()
                ways[name](ids)
                spent_s[name] += time.thread_time() - began
    return {name: rounds * sum(map(len, calls)) / seconds for name, seconds in spent_s.items()}


def ways_of(alone: list[Path], shared: list[Path], engine: str) -> dict[str, Callable[[Sequence[list[int]]], object]]:
    """What is timed: `alone` are the three models by themselves, `shared` the three on one trunk.

    A model whose int8 graph did not keep its answers is timed by the graph of another one, of the same size.
    """
    models, heads = (
        [Engine(folder if _has(folder, engine) else folders[0], 1, engine=engine) for folder in folders]
        for folders in (alone, shared)
    )
    if len({head.trunk_key for head in heads}) != 1 or len({head.tokenizer_key for head in heads}) != 1:
        raise SystemExit("the three do not stand on one trunk")

    def on_trunk(ids: Sequence[list[int]]) -> object:
        states = heads[0].encode(ids)
        return [head.decide(states) for head in heads]

    return {
        "one task": models[-1].run,
        "one task on a trunk": heads[0].run,
        "three models": lambda ids: [model.run(ids) for model in models],
        "three heads on one trunk": on_trunk,
    }


def _has(folder: Path, engine: str) -> bool:
    return all(path.is_file() for path in graphs_of(folder, engine))


def quality_table(pairs: Sequence[tuple[int, str, dict[str, Any], dict[str, Any]]]) -> str:
    """Each head beside the model by itself."""
    lines = [
        "| task | seed | rows | macro-F1 alone | on the trunk | difference (95 %) | gate | fine-tuning alone, CPU s |"
        " head | engine alone | on the trunk |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for seed, task, alone, head in pairs:
        low, high = head["interval"]
        lines.append(
            f"| {task} | {seed} | {head['evaluation']['rows']} | "
            f"{alone['macro_f1']:.3f} | {head['macro_f1']:.3f} | {head['difference']:+.3f} "
            f"({low:+.3f} to {high:+.3f}) | {'passed' if head['passed'] else 'refused'}, "
            f"{head['verdict'].replace('_', ' ')} | {alone['cpu_s']:.0f} | {head['cpu_s']:.0f} | "
            f"{alone['fidelity']['engine']} | {head['fidelity']['engine']} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Train what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("build/shared_encoder"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3, help="times that every text is timed")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    pairs, folders = [], {}
    for seed in asked.seeds:
        trunk = trained(TRUNK, asked.data, asked.cache, seed, OWN)
        for task in HEADS:
            alone = trained(task, asked.data, asked.cache, seed, None)
            head = trained(task, asked.data, asked.cache, seed, trunk["folder"])
            pairs.append((seed, task, alone, head))
            folders[task] = Path(alone["folder"]), Path(head["folder"])
        folders[TRUNK] = Path(trunk["folder"]), Path(trunk["folder"])
    print(quality_table(pairs), end="\n\n")
    texts = pd.read_csv(asked.data / TRUNK / "val.csv", dtype=str)["text"].dropna()[:TEXTS].tolist()
    print("| engine | messages for a CPU second of | rate | of one task |\n| --- | --- | --- | --- |")
    for engine in (EXACT, INT8):
        alone_folders, heads = ([folders[task][place] for task in (TRUNK, *HEADS)] for place in (0, 1))
        try:
            ways = ways_of(alone_folders, heads, engine)
        except VerificationError as error:  # not even the trunk's own model kept its answers
            print(f"| {engine} | none: {error} | | |")
            continue
        ids = Engine(heads[0], 1).tokenize(texts).ids
        ordered = [row for at in range(0, len(ids), SORTED) for row in sorted(ids[at : at + SORTED], key=len)]
        found = rates(ways, [ordered[at : at + BATCH] for at in range(0, len(ordered), BATCH)], asked.rounds)
        for name, rate in found.items():
            print(f"| {engine} | {name} | {rate:.0f} | {rate / found['one task']:.2f} |")


if __name__ == "__main__":
    main()
