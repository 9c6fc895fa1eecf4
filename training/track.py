"""The MLflow run of one training: parameters, curves, dataset lineage, pictures.

Everything goes by run id through the client, never through MLflow's thread-local active run, so a
resumed training writes on in the run it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training import lineage
from training.evaluate import Evaluation
from training.work import Work
from undertone.registry import Registry


def open_run(registry: Registry, work: Work, parameters: dict[str, Any]) -> str:
    """The run id of `work`: the run it began earlier, or a new one with parameters and dataset."""
    client = registry.client
    if work.run_file.is_file():
        run_id = work.run_file.read_text().strip()
        client.update_run(run_id, status="RUNNING")
        return run_id
    request = work.request
    run = client.create_run(
        registry.experiment_id(),
        run_name=f"{request.task}-{request.effort}",
        tags={
            "undertone.task": request.task,
            "undertone.trainer": request.trainer,
            "undertone.data_sha256": work.data_sha256,
            "undertone.synthetic": str(work.synthetic).lower(),
            "mlflow.source.git.commit": lineage.commit(),
        },
    )
    run_id = str(run.info.run_id)
    for key, value in (parameters | lineage.machine()).items():
        client.log_param(run_id, key, value)
    _log_dataset(registry, work, run_id)
    client.log_text(run_id, "\n".join(lineage.distributions()) + "\n", "environment/installed.txt")
    client.log_text(run_id, work.summary, "data/summary.md")
    if lineage.LOCK.is_file():
        client.log_artifact(run_id, str(lineage.LOCK), "environment")
    work.run_file.write_text(run_id)
    return run_id


@contextmanager
def run_status(registry: Registry, run_id: str) -> Iterator[None]:
    """Mark the run finished, failed, or killed (Ctrl-C: it can be resumed) when the block ends."""
    try:
        yield
    except KeyboardInterrupt:
        registry.client.set_terminated(run_id, "KILLED")
        raise
    except BaseException:
        registry.client.set_terminated(run_id, "FAILED")
        raise
    registry.client.set_terminated(run_id, "FINISHED")


def log_curve(registry: Registry, run_id: str, values: dict[str, float], step: int) -> None:
    """One point of the training curves."""
    for key, value in values.items():
        registry.client.log_metric(run_id, key, value, step=step)


def log_evaluation(registry: Registry, run_id: str, evaluation: Evaluation, pictures: Path) -> None:
    """Holdout metrics as numbers, the whole evaluation as JSON, and the pictures."""
    for key, value in evaluation.metrics().items():
        registry.client.log_metric(run_id, f"holdout_{key}", value)
    registry.client.log_dict(run_id, evaluation.as_dict(), "evaluation/holdout.json")
    registry.client.log_artifacts(run_id, str(pictures), "evaluation")


def _log_dataset(registry: Registry, work: Work, run_id: str) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.pandas_dataset import from_pandas
    from mlflow.entities import DatasetInput, InputTag

    inputs = []
    for part, context in (("train", "training"), ("validation", "validation"), ("holdout", "evaluation")):
        frame = work.rows_of(part)[["text", "label"]]
        # MLflow's own digest sees 10,000 rows at most: ours covers all of them (36 characters fit)
        dataset = from_pandas(
            frame,
            source=CodeDatasetSource({"undertone.source": work.request.source}),
            targets="label",
            name=f"{work.request.task}-{part}",
            digest=work.data_sha256[:36],
        )
        inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", context)]))
    registry.client.log_inputs(run_id, inputs)
