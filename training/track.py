"""The MLflow run of one training: parameters, curves, dataset lineage, pictures.

Everything goes by run id through the client, never through MLflow's thread-local active run, so a
resumed training writes on in the run it began.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training import failures, lineage
from training.evaluate import Evaluation
from training.work import Work, whole
from undertone.registry import Registry

log = logging.getLogger("undertone.training")

#: Tag that names the work folder of a run.
_WORK = "undertone.work"


def open_run(registry: Registry, work: Work, parameters: dict[str, Any]) -> str:
    """The run id of `work`: the run it began earlier, or a new one with parameters and dataset.

    `Work.run_file` is written last. A kill before that leaves a run that is found again by the id of the work folder;
    it gets what it lacks.
    """
    client = registry.client
    run = _begun(registry, work)
    if run is None:
        run = _create(registry, work)
    else:
        client.update_run(run.info.run_id, status="RUNNING")
        if work.run_file.is_file():
            return str(run.info.run_id)
    run_id = str(run.info.run_id)
    with _failure(registry, run_id):
        for key, value in (parameters | lineage.machine()).items():
            if key not in run.data.params:
                client.log_param(run_id, key, value)
        if not run.inputs.dataset_inputs:
            _log_dataset(registry, work, run_id)
        client.log_text(run_id, "\n".join(lineage.distributions()) + "\n", "environment/installed.txt")
        client.log_text(run_id, work.summary, "data/summary.md")
        if lineage.LOCK.is_file():
            client.log_artifact(run_id, str(lineage.LOCK), "environment")
        with whole(work.run_file) as fresh:
            fresh.write_text(run_id)
    return run_id


@contextmanager
def run_status(registry: Registry, run_id: str) -> Iterator[None]:
    """Mark the run finished, failed, or killed (Ctrl-C: it can be resumed) when the block ends."""
    with _failure(registry, run_id):
        yield
    registry.client.set_terminated(run_id, "FINISHED")


def curves(registry: Registry, run_id: str) -> Callable[[dict[str, float], int], None]:
    """Writes points of the training curves, as `log_curve` does, but none a second time.

    What came after the last checkpoint was written before a kill; the resumed training comes by it again.
    """
    client = registry.client
    last = {
        key: max(point.step for point in client.get_metric_history(run_id, key))
        for key in client.get_run(run_id).data.metrics
    }

    def log_new(values: dict[str, float], step: int) -> None:
        log_curve(registry, run_id, {key: value for key, value in values.items() if step > last.get(key, -1)}, step)

    return log_new


def log_curve(registry: Registry, run_id: str, values: dict[str, float], step: int) -> None:
    """One point of the training curves."""
    for key, value in values.items():
        registry.client.log_metric(run_id, key, value, step=step)


def log_evaluation(registry: Registry, run_id: str, evaluation: Evaluation, pictures: Path) -> None:
    """Holdout metrics as numbers, the whole evaluation as JSON, and the pictures."""
    known = registry.client.get_run(run_id).data.metrics
    for key, value in evaluation.metrics().items():
        if known.get(f"holdout_{key}") != value:  # a resumed training measures again what it logged before a kill
            registry.client.log_metric(run_id, f"holdout_{key}", value)
    registry.client.log_dict(run_id, evaluation.as_dict(), "evaluation/holdout.json")
    registry.client.log_artifacts(run_id, str(pictures), "evaluation")


@contextmanager
def _failure(registry: Registry, run_id: str) -> Iterator[None]:
    """Mark the run where the block ends with an error."""
    try:
        yield
    except BaseException as error:
        failures.make_room(error, registry.settings.state_dir / "work")
        try:
            registry.client.set_terminated(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except Exception as second:  # noqa: BLE001 - the first error goes on, whatever this one is
            log.warning("MLflow still shows the run %s as running: %s", run_id, second)
        raise


def _begun(registry: Registry, work: Work) -> Any:
    """The run that `work` began earlier and nobody deleted; None: there is none."""
    from mlflow.exceptions import MlflowException

    client = registry.client
    if not work.run_file.is_file():
        found = client.search_runs([registry.experiment_id()], f"tags.`{_WORK}` = '{work.id}'")
        return found[0] if found else None
    try:
        run = client.get_run(work.run_file.read_text().strip())
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        run = None
    if run is None or run.info.lifecycle_stage != "active":
        work.run_file.unlink()
        return None
    return run


def _create(registry: Registry, work: Work) -> Any:
    request = work.request
    return registry.client.create_run(
        registry.experiment_id(),
        run_name=f"{request.task}-{request.effort}",
        tags={
            _WORK: work.id,
            "undertone.task": request.task,
            "undertone.trainer": request.trainer,
            "undertone.data_sha256": work.data_sha256,
            "undertone.synthetic": str(work.synthetic).lower(),
            "mlflow.source.git.commit": lineage.commit(),
        },
    )


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
