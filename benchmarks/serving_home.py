"""Homes for `benchmarks.serving`: champions trained, judged and approved by the product's own steps, once in a cache.

One home serves sentiment alone, beside the peers; the other serves all three tasks. The peers get the same fine-tuned
weights, as the Hugging Face checkpoint that lies in the model folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.drift_models import RECIPES, ROWS, shuffled, unused
from training import steps
from training.effort import EFFORTS
from training.work import Request
from undertone.governance import Act, approve
from undertone.settings import Settings
from undertone.workspace import Workspace

ACTOR = "benchmark"
#: Real texts that are sent; no model trained on them.
TEXTS = 20_000
#: Tasks of the second home, each with an encoder of its own.
TASKS = ("sentiment", "sarcasm", "emotion")

log = logging.getLogger("undertone")


@dataclass(frozen=True)
class Prepared:
    """What is served, and the texts that are sent.

    Attributes:
        one: home with a sentiment champion.
        three: home with champions of all tasks.
        model: the sentiment champion's model folder.
        checkpoint: the same weights with their tokenizer, as transformers reads them.
    """

    one: Path
    three: Path
    model: Path
    checkpoint: Path
    texts: list[str]


def prepare(source: Path, cache: Path, *, anew: bool = False) -> Prepared:
    """What `cache` holds, made where it does not.

    Args:
        anew: export, judge and approve again, from the fine-tuned weights in the cache.
    """
    for folder in (cache / "one", cache / "three", cache / "checkpoint", cache / "model") if anew else ():
        shutil.rmtree(folder, ignore_errors=True)
    sources = {"sentiment": _rows(source, cache), **{task: _source(source, task) for task in TASKS[1:]}}
    for name, tasks in (("one", TASKS[:1]), ("three", TASKS)):
        _home(cache / name, cache, {task: sources[task] for task in tasks})
    if not (cache / "checkpoint").is_dir():
        _lay_out(cache)
    texts = unused(source)["text"].head(TEXTS).tolist()
    return Prepared(cache / "one", cache / "three", cache / "model", cache / "checkpoint", texts)


def environment(home: Path, state: Path) -> dict[str, str]:
    """Settings for a worker on `home` that keeps its store and last good copies in `state`."""
    settings = Settings(home=home, state_dir=state, actor=ACTOR)
    return {"UNDERTONE_HOME": str(settings.home), "UNDERTONE_STATE_DIR": str(settings.state_dir)}


def fresh_state(home: Path, state: Path, served: Path | None = None) -> Path:
    """A copy of the home's store and keys, so that every worker starts from the same one.

    Args:
        served: last good copies that an earlier worker left; None: the worker fetches from the registry.
    """
    shutil.rmtree(state, ignore_errors=True)
    shutil.copytree(home / ".undertone", state, ignore=shutil.ignore_patterns("work", "served"))
    if served is not None:
        shutil.copytree(served, state / "served")
    return state


def _rows(source: Path, cache: Path) -> str:
    rows = cache / "rows-sentiment.csv"
    if not rows.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        shuffled(source).iloc[:ROWS].to_csv(rows, index=False)
    return str(rows)


def _source(sentiment: Path, task: str) -> str:
    """The CSV of `task` that lies beside that of sentiment, or else the built-in sample."""
    beside = sentiment.resolve().parents[1] / task / "train.csv"
    return str(beside) if beside.is_file() else "sample"


def _home(home: Path, cache: Path, sources: dict[str, str]) -> None:
    finished = home / "finished"
    if finished.is_file():
        return
    shutil.rmtree(home, ignore_errors=True)
    workspace = Workspace(Settings(home=home, actor=ACTOR))
    work = cache / "work"  # both homes register from the same fine-tuned weights
    work.mkdir(parents=True, exist_ok=True)
    workspace.settings.state_dir.mkdir(parents=True)
    (workspace.settings.state_dir / "work").symlink_to(work.resolve())
    for task, source in sources.items():
        _train(workspace, task, source)
    finished.touch()


def _train(workspace: Workspace, task: str, source: str) -> None:
    effort = RECIPES[0].effort if task == "sentiment" else EFFORTS["smoke"]
    EFFORTS[effort.name] = effort
    work = steps.prepare(workspace, Request(task, source, effort.name, RECIPES[0].seed, datetime.now(UTC), ACTOR))
    work.run_file.unlink(missing_ok=True)  # it may name a run of the other home
    run_id = steps.begin(workspace, work)
    steps.export(work, steps.finetune(workspace, work, run_id))
    scores = steps.score(workspace, work)
    steps.calibrate(work, scores)
    evaluation = steps.evaluate(workspace, work, scores, run_id)
    version = steps.register(workspace, work, run_id, evaluation)
    verdict = steps.judge(workspace, work, scores, version, evaluation)
    refused = [line.name for line in verdict.lines if not line.passed]
    log.info("%s: macro-F1 %.3f; the gate refused %s", task, evaluation.macro_f1, ", ".join(refused) or "nothing")
    act = Act(ACTOR, "benchmark of the serving worker: a short training is enough", datetime.now(UTC))
    approve(workspace, task, version.version, act, override=not verdict.passed)


def _lay_out(cache: Path) -> None:
    """The champion's bytes as a folder, and its weights and tokenizer as a plain checkpoint."""
    workspace = Workspace(Settings(home=cache / "one", actor=ACTOR))
    shutil.rmtree(cache / "model", ignore_errors=True)
    workspace.registry.download("sentiment", 1, cache / "model")
    parts: Sequence[Path] = (cache / "model" / "model", cache / "model" / "components" / "tokenizer")
    making = cache / "checkpoint.making"
    shutil.rmtree(making, ignore_errors=True)
    for part in parts:
        shutil.copytree(part, making, dirs_exist_ok=True)
    config = json.loads((making / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"  # transformers 4, which infinity-emb wants, knows no other
    (making / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    making.rename(cache / "checkpoint")


def main() -> None:
    """Prepare, and print what there is as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sentiment", type=Path)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--anew", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
    print(json.dumps(asdict(prepare(asked.sentiment, asked.cache, anew=asked.anew)), default=str))


if __name__ == "__main__":
    main()
