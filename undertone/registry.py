"""The registry of model versions: the only module that talks to MLflow's model registry.

MLflow's alias ``champion`` says *which* version a task wants served; whether it may be served is
the signature's business (`undertone.signing`), never a tag's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undertone.aliases import CHAMPION
from undertone.errors import RegistryError
from undertone.model_folder import CARD, MODEL, STATEMENT
from undertone.settings import QUIET, Settings, without_password
from undertone.signing import ORDER, SIGNATURE

#: Folders of a run: what approvers signed, for serving and for a trial.
APPROVALS = "approvals"
TRIALS = "trials"

#: Tag of a version and of its logged model: the digest of its files' manifest.
MANIFEST = "undertone.manifest_sha256"


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One registered model version, as MLflow knows it."""

    task: str
    version: int
    run_id: str
    model_id: str
    created_at: datetime
    tags: dict[str, str] = field(default_factory=dict)
    champion: bool = False

    @property
    def gate(self) -> str:
        """``passed``, ``failed`` or ``none``: a hint for lists, never an authorisation."""
        return self.tags.get("undertone.gate", "none")


class Registry:
    """Versions of every task's registered model.

    Args:
        settings: names the tracking URI and artifact root.
        patient: False for the serving worker: one short try instead of MLflow's minutes of retries.
    """

    def __init__(self, settings: Settings, *, patient: bool = True) -> None:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        if not patient:
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
        import mlflow
        from mlflow import MlflowClient

        self.settings = settings
        self.uri = settings.mlflow_uri
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_registry_uri(self.uri)
        with self._translated("an answer"), _one_at_a_time(self.uri):
            self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
            raise RegistryError(
                f"{what} from MLflow at {without_password(self.uri)}",
                f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
                "check that MLflow is up and that UNDERTONE_TRACKING_URI names it",
            ) from error

    def experiment_id(self) -> str:
        """The experiment that runs are logged to, made on first use with the settings' artifact root."""
        with self._translated("an experiment"):
            found = self.client.get_experiment_by_name(self.settings.experiment)
            if found:
                return str(found.experiment_id)
            local = self.uri.startswith("sqlite:///") or bool(self.settings.artifact_uri)
            return str(
                self.client.create_experiment(
                    self.settings.experiment, artifact_location=self.settings.artifact_root if local else None
                )
            )

    # versions -------------------------------------------------------------------------------

    def create(self, task: str, folder: Path, run_id: str, tags: dict[str, str], description: str = "") -> ModelVersion:
        """Upload `folder` bit by bit as a logged model of `run_id` and register it as the next version of `task`."""
        import mlflow

        with self._translated(f"a new version of {task!r}"):
            model = self._begun(task, run_id, tags) or mlflow.initialize_logged_model(
                name=task,
                source_run_id=run_id,
                model_type="undertone",
                experiment_id=self.experiment_id(),
                tags={MANIFEST: tags[MANIFEST]} if MANIFEST in tags else None,
            )
            self.client.log_model_artifacts(model.model_id, str(folder))
            self.client.finalize_logged_model(model.model_id, "READY")
            if not self._exists(task):
                self.client.create_registered_model(task)
            made = self.client.create_model_version(
                task,
                source=f"models:/{model.model_id}",
                run_id=run_id,
                tags=tags,
                model_id=model.model_id,
                description=description,
            )
            return self.get(task, int(made.version))

    def made_by(self, run_id: str, task: str, manifest_sha256: str) -> ModelVersion | None:
        """The version of `task` that a run registered with these bytes, or None."""
        own = (item for item in self.versions(task) if item.run_id == run_id)
        return next((item for item in own if item.tags.get(MANIFEST) == manifest_sha256), None)

    def _begun(self, task: str, run_id: str, tags: dict[str, str]) -> Any:
        """The logged model of these bytes that a killed upload left, or None: it is filled up, not made twice."""
        if MANIFEST not in tags:
            return None
        found = self.client.search_logged_models(
            [self.experiment_id()],
            filter_string=f"source_run_id = '{run_id}' AND name = '{task}' AND tags.`{MANIFEST}` = '{tags[MANIFEST]}'",
        )
        used = {item.model_id for item in self.versions(task)} if found else set()
        return next((model for model in found if model.model_id not in used), None)

    def versions(self, task: str) -> list[ModelVersion]:
        """All versions of `task`, newest first; none registered gives an empty list."""
        with self._translated(f"versions of {task!r}"):
            found = self.client.search_model_versions(f"name = '{task}'", max_results=10_000)
            champion = self._champion_version(task)
            versions = [_version(task, item, champion) for item in found]
        return sorted(versions, key=lambda item: -item.version)

    def get(self, task: str, version: int) -> ModelVersion:
        """One version.

        Raises:
            RegistryError: there is none, or MLflow is out of reach.
        """
        with self._translated(f"version {version} of {task!r}"):
            return _version(task, self.client.get_model_version(task, str(version)), self._champion_version(task))

    def champion(self, task: str) -> ModelVersion | None:
        """The version the alias points at, or None."""
        with self._translated(f"the champion of {task!r}"):
            version = self._champion_version(task)
            return None if version is None else self.get(task, version)

    def champion_version(self, task: str) -> int | None:
        """The version number the alias points at: one cheap question, for polling."""
        with self._translated(f"the champion of {task!r}"):
            return self._champion_version(task)

    def _champion_version(self, task: str) -> int | None:
        from mlflow.exceptions import MlflowException

        try:
            return int(self.client.get_model_version_by_alias(task, CHAMPION).version)
        except MlflowException as error:
            if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                return None
            # basic-auth forbids what does not exist
            if error.error_code == "PERMISSION_DENIED" and not self._exists(task):
                return None
            raise

    def _exists(self, task: str) -> bool:
        return any(found.name == task for found in self.client.search_registered_models(f"name = '{task}'"))

    def set_champion(self, task: str, version: int) -> None:
        """Point the alias at `version`. Only `undertone.governance` calls this, after the signature is in place."""
        with self._translated(f"the alias {CHAMPION!r} of {task!r}"):
            self.client.set_registered_model_alias(task, CHAMPION, str(version))

    def tag(self, task: str, version: int, tags: dict[str, str]) -> None:
        """Set tags on a version: hints for people reading MLflow."""
        with self._translated(f"tags on {task!r} {version}"):
            for key, value in tags.items():
                self.client.set_model_version_tag(task, str(version), key, value)

    def describe(self, task: str, version: int, markdown: str) -> None:
        """Set a version's description."""
        with self._translated(f"a description of {task!r} {version}"):
            self.client.update_model_version(task, str(version), markdown)

    # files ----------------------------------------------------------------------------------

    def download(self, task: str, version: int, into: Path) -> Path:
        """Copy a version's files into the new folder `into`."""
        import mlflow

        found = self.get(task, version)
        with self._translated(f"the files of {task!r} {version}"):
            into.mkdir(parents=True, exist_ok=True)
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{found.model_id}", dst_path=str(into), tracking_uri=self.uri
            )
        (into / "registered_model_meta").unlink(
            missing_ok=True
        )  # MLflow's note about the download, no file of the model
        return into

    def download_file(self, task: str, version: int, name: str, into: Path) -> Path:
        """Copy one file of a version, by its path in the model folder, under `into`."""
        import mlflow

        with self._translated(f"{name} of {task!r} {version}"):
            into.mkdir(parents=True, exist_ok=True)
            mlflow.artifacts.download_artifacts(
                artifact_uri=f"models:/{task}/{version}/{name}", dst_path=str(into), tracking_uri=self.uri
            )
        return into / name

    def put_approval(self, task: str, version: int, *files: Path) -> None:
        """Keep an approval's files (statement, signature, order, model card) with the run that made the version."""
        self._put_signed(task, version, APPROVALS, *files)

    def put_trial(self, task: str, version: int, *files: Path) -> None:
        """Keep a trial's statement and signature with the run that made the version."""
        self._put_signed(task, version, TRIALS, *files)

    def fetch_approval(self, task: str, version: int, into: Path) -> None:
        """Put a version's statement into ``into/model``, and signature, order and card beside it.

        Raises:
            RegistryError: the version carries no approval, or MLflow is out of reach.
        """
        self._fetch_signed(task, version, APPROVALS, into)

    def fetch_trial(self, task: str, version: int, into: Path) -> None:
        """Put a trial's statement into ``into/model``, and its signature beside it.

        Raises:
            RegistryError: the version carries none, or MLflow is out of reach.
        """
        self._fetch_signed(task, version, TRIALS, into)

    def _put_signed(self, task: str, version: int, what: str, *files: Path) -> None:
        found = self.get(task, version)
        with self._translated(f"the {what[:-1]} of {task!r} {version}"):
            for path in files:
                self.client.log_artifact(found.run_id, str(path), f"{what}/{task}-{version}")

    def _fetch_signed(self, task: str, version: int, what: str, into: Path) -> None:
        found = self.get(task, version)
        article = "an" if what == APPROVALS else "a"
        with self._translated(f"{article} {what[:-1]} of {task!r} {version}"), tempfile.TemporaryDirectory() as scratch:
            path = Path(self.client.download_artifacts(found.run_id, f"{what}/{task}-{version}", scratch))
            (into / MODEL).mkdir(parents=True, exist_ok=True)
            (into / MODEL / STATEMENT).write_bytes((path / STATEMENT).read_bytes())
            for name in (SIGNATURE, ORDER, CARD):
                if (path / name).is_file():
                    (into / name).write_bytes((path / name).read_bytes())

    def put_file(self, run_id: str, path: Path, under: str) -> None:
        """Keep a file (a report, a picture) with a run."""
        with self._translated(f"a place for {path.name}"):
            self.client.log_artifact(run_id, str(path), under)

    def read_file(self, run_id: str, path: str) -> bytes:
        """One file of a run, whole.

        Raises:
            RegistryError: there is none, or MLflow is out of reach.
        """
        with self._translated(f"{path} of run {run_id}"), tempfile.TemporaryDirectory() as scratch:
            return Path(self.client.download_artifacts(run_id, path, scratch)).read_bytes()

    def read_files(self, run_id: str, folder: str) -> dict[str, bytes]:
        """The files right in a folder of a run, by name; no such folder gives none.

        Raises:
            RegistryError: there is no such run, or MLflow is out of reach.
        """
        with self._translated(f"{folder} of run {run_id}"), tempfile.TemporaryDirectory() as scratch:
            if not self.client.list_artifacts(run_id, folder):
                return {}
            path = Path(self.client.download_artifacts(run_id, folder, scratch))
            return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}

    def run_ids(self) -> list[str]:
        """Every run of the experiment, those that were deleted too, which keep their files."""
        from mlflow.entities import ViewType

        found: list[str] = []
        with self._translated("its runs"):
            experiment = self.client.get_experiment_by_name(self.settings.experiment)
            token, more = None, True
            while more and experiment is not None:
                page = self.client.search_runs(
                    [experiment.experiment_id], run_view_type=ViewType.ALL, max_results=1_000, page_token=token
                )
                found += [str(run.info.run_id) for run in page]
                token = page.token
                more = bool(token)
        return found

    def file_names(self, run_id: str, folder: str) -> list[str]:
        """Paths of the files right in a folder of a run; no such folder gives none."""
        with self._translated(f"{folder} of run {run_id}"):
            return [item.path for item in self.client.list_artifacts(run_id, folder) if not item.is_dir]


@contextmanager
def _one_at_a_time(uri: str) -> Iterator[None]:
    """MLflow makes a new SQLite database's tables without a lock: two processes that start together would collide."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    from filelock import FileLock

    database = Path(uri.removeprefix("sqlite:///"))
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=120):
        yield


def _version(task: str, item: Any, champion: int | None) -> ModelVersion:
    source = item.source or ""
    return ModelVersion(
        task=task,
        version=int(item.version),
        run_id=item.run_id or "",
        model_id=item.model_id or source.removeprefix("models:/"),
        created_at=datetime.fromtimestamp(item.creation_timestamp / 1000, tz=UTC),
        tags=dict(item.tags or {}),
        champion=int(item.version) == champion,
    )
