"""Train a registered version again from what it records, and say how near the two come."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flows import recorded_code
from flows.recorded_code import Code
from flows.recorded_inputs import (
    copy_labels,
    label_caveats,
    lock_caveats,
    machine_caveats,
    recorded_threads,
    require_inputs,
)
from flows.terminal import table
from training import lineage, sources
from training.file_likeness import compare_folders
from training.likeness import TOLERANCE, compare_metrics, compare_predictions, judge
from undertone.errors import RegistryError
from undertone.evidence import read_evidence
from undertone.model_folder import Lineage, ModelCardData, digest, manifest
from undertone.registry import ModelVersion, Registry
from undertone.settings import Settings
from undertone.store import Store
from undertone.tasks import get_task
from undertone.workspace import Workspace

log = logging.getLogger("undertone.reproduce")


@dataclass(frozen=True, slots=True)
class Trained:
    """One of the two trainings: its model folder, and what its run records."""

    folder: Path
    card: ModelCardData
    evaluation: dict[str, Any]


def reproduce(workspace: Workspace, task: str, version: int, *, now: datetime) -> dict[str, Any]:
    """Train `version` again, in a workspace of its own, from its commit, data, seed, effort and base model.

    Nothing is registered; the answer goes into the ledger.

    Returns:
        verdict (``identical``, ``same weights``, ``equivalent`` or ``different``) and reason; caveats, a sentence
        each; code, lock, data, metrics, predictions, files and manifest, each recorded against repeated.

    Raises:
        RegistryError: no such version, or MLflow is out of reach.
        DataError: a file of the source is gone.
        VerificationError: the base model is another one than was recorded.
        TrainingError: the training failed.
    """
    made = find_version(workspace, task, version)
    root = workspace.settings.state_dir / "reproduce"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{task}-{version}-", dir=root) as name:
        scratch = Path(name)
        recorded = _fetch(workspace.registry, made, scratch / "recorded")
        origin = recorded.card.lineage
        base = require_inputs(task, version, origin)
        code = recorded_code.check_out(origin.commit, scratch / "code")
        caveats = [
            *_changed_since(workspace, made, recorded),
            *lock_caveats(code, origin),
            *machine_caveats(workspace.registry, made),
            *label_caveats(workspace.store, task, origin),
        ]
        log.info("%s %s: training again with seed %s, %s effort, code %s", task, version, origin.seed, origin.effort,
                 origin.commit[:12] if code.recorded else "as it is now")  # fmt: skip
        repeated = _train_again(workspace, made, origin, base, code, scratch)
        result = _compare(task, version, recorded, repeated, code, caveats)
    _write_down(workspace, result, now)
    return result


def text(result: Mapping[str, Any]) -> str:
    """A reproduction's result for people."""
    metrics = [{"metric": name} | values for name, values in result["metrics"].items()]
    files = [
        {
            "file": item["name"],
            "compared": item["state"].replace("identical_but", "identical but for")
            + (f" {item['note']}" if item["state"] == "identical_but" else ""),
            "weights differ by": "" if item["greatest_difference"] is None else f"{item['greatest_difference']:.3g}",
        }
        for item in result["files"]
    ]
    predictions = result["predictions"]
    parts = [
        f"{result['task']} {result['version']} trained again: {result['verdict']} ({result['reason']})",
        *([] if result["data"]["same"] else [_data_text(result["data"])]),
        *(["\n".join(f"! {caveat}" for caveat in result["caveats"])] if result["caveats"] else []),
        table(metrics, ["metric", "recorded", "repeated", "difference"]),
        *(
            [
                f"predictions on {predictions['rows']} unseen rows: {predictions['same_label']:.2%} the same label, "
                f"probabilities within {predictions['greatest_difference']:.3g}"
            ]
            if predictions
            else []
        ),
        table(files, ["file", "compared", "weights differ by"]),
    ]
    return "\n\n".join(parts)


def find_version(workspace: Workspace, task: str, version: int) -> ModelVersion:
    """The registered version.

    Raises:
        RegistryError: there is none, or MLflow is out of reach.
    """
    versions = {item.version: item for item in workspace.registry.versions(get_task(task).name)}
    if version not in versions:
        raise RegistryError(
            f"a registered version {version} of {task!r}",
            f"versions {', '.join(map(str, sorted(versions)))}" if versions else "none at all",
            f"see `undertone models list {task}`",
        )
    return versions[version]


def _fetch(registry: Registry, made: ModelVersion, into: Path) -> Trained:
    folder = registry.download(made.task, made.version, into)
    evaluation = json.loads(registry.read_file(made.run_id, "evaluation/holdout.json"))
    return Trained(folder, ModelCardData.read(folder), evaluation)


def _changed_since(workspace: Workspace, made: ModelVersion, recorded: Trained) -> list[str]:
    """What somebody changed in the registry after the training, a sentence each."""
    found = list(read_evidence(workspace, made.task, made.version).problems)
    row = workspace.ledger.latest(made.task, ["registered"], made.version)
    if row is not None and row.payload.get("manifest_sha256") != digest(manifest(recorded.folder)):
        found.insert(0, "the registered files are not those that the training left: they were changed")
    return found


def _train_again(
    workspace: Workspace, made: ModelVersion, origin: Lineage, base: str, code: Code, scratch: Path
) -> Trained:
    home = scratch / "home"
    threads = recorded_threads(workspace.registry, made) or workspace.settings.threads
    environment = recorded_code.training_environment(home, origin.trainer, threads)
    environment["UNDERTONE_TASKS_DIR"] = str(workspace.settings.tasks_dir)
    settings = Settings(
        home=home, mlflow_home=Path("mlruns"), state_dir=Path(".undertone"), tracking_uri="", artifact_uri="",
        store_url="", actor=origin.trainer,
    )  # fmt: skip
    if "feedback" in sources.parts(origin.source):
        # the code that will read the store makes it: its tables may be older than today's
        recorded_code.run(code, ["-c", "from undertone.workspace import Workspace; Workspace().store"], environment)
        copy_labels(workspace.store, Store(settings.database_url), made.task, origin.trained_at)
    columns = {"--text-column": origin.text_column, "--label-column": origin.label_column}
    arguments = [
        made.task,
        *("--source", origin.source, "--effort", origin.effort, "--seed", str(origin.seed), "--base-model", base),
        *(("--trunk", origin.trunk) if origin.trunk else ()),
        *(part for name, value in origin.overrides.items() for part in ("--set", f"{name}={value}")),
        *("--now", origin.trained_at.isoformat()),
        *(word for name, column in columns.items() if column is not None for word in (name, column)),
    ]
    result = recorded_code.train(code, arguments, environment)
    try:
        registry = Registry(settings)
        return _fetch(registry, registry.get(made.task, int(result["version"])), scratch / "repeated")
    finally:
        Registry(workspace.settings)  # MLflow's own idea of where it works is global: back to this workspace


def _compare(
    task: str, version: int, recorded: Trained, repeated: Trained, code: Code, caveats: list[str]
) -> dict[str, Any]:
    then, again = recorded.card.lineage, repeated.card.lineage
    files = compare_folders(recorded.folder, repeated.folder)
    metrics = compare_metrics(recorded.evaluation, repeated.evaluation)
    same_data = then.data_sha256 == again.data_sha256
    verdict, reason = judge(files, metrics, same_data=same_data)
    return {
        "task": task,
        "version": version,
        "verdict": verdict,
        "reason": reason,
        "caveats": caveats,
        "code": {"recorded": then.commit, "repeated": again.commit, "same": code.recorded},
        "lock": {"recorded": then.lock_sha256, "commit": code.lock_sha256, "installed": lineage.lock_sha256()},
        "data": {
            "recorded": then.data_sha256,
            "repeated": again.data_sha256,
            "same": same_data,
            "rows": {"recorded": then.rows, "repeated": again.rows},
        },
        "metrics": metrics,
        "tolerance": TOLERANCE,
        "predictions": compare_predictions(recorded.folder, repeated.folder) if same_data else None,
        "files": [item.as_dict() for item in files],
        "manifest": {
            side: digest(manifest(one.folder)) for side, one in (("recorded", recorded), ("repeated", repeated))
        },
    }


def _write_down(workspace: Workspace, result: dict[str, Any], now: datetime) -> None:
    kept = ("verdict", "caveats", "code", "lock", "data", "metrics", "tolerance", "predictions", "manifest")
    workspace.ledger.append(
        "reproduced",
        result["task"],
        at=now,
        actor=workspace.settings.actor,
        reason=f"{result['verdict']}: {result['reason']}",
        version=result["version"],
        payload={name: result[name] for name in kept},
    )


def _data_text(data: Mapping[str, Any]) -> str:
    return (
        f"THE DATA IS NOT THE SAME: fingerprint {data['recorded'][:12]} of {data['rows']['recorded']} rows then, "
        f"{data['repeated'][:12]} of {data['rows']['repeated']} rows now. Metrics are of different holdouts."
    )
