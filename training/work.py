"""The work folder of one training: data, checkpoints and the model folder that grows in it.

Its name is a hash of everything that decides the result, so the same command finds the same
folder again: after Ctrl-C or a kill it goes on where it stopped, in the same MLflow run. Every file whose presence
means that something is done takes its name in one step, when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training import failures, sources
from training.base_model import located
from training.effort import Effort, get_effort
from undertone.records import utc
from undertone.settings import Settings
from undertone.tasks import get_task

if TYPE_CHECKING:
    from pandas import DataFrame

    from training.data import Splits

PARTS = ("train", "validation", "holdout")

#: In front of the name of a work folder that is done with, while its files go.
_DONE = ".done-"


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asked to be trained. Rows sent at or after `rows_until` (None: `now`) are not used.

    ``trunk``: `training.trunk.OWN`, or the model that ``base_model`` was taken from, to stay as it is below the head.
    ``overrides``: hyperparameters in place of the effort's own, as `training.effort.Effort` names them.
    """

    task: str
    source: str
    effort: str
    seed: int
    now: datetime
    trainer: str
    text_column: str | None = None
    label_column: str | None = None
    base_model: str | None = None
    rows_until: datetime | None = None
    trunk: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hyperparameters(self) -> Effort:
        """The effort with the overrides.

        Raises:
            ConfigError: there is no such effort or hyperparameter, or a value is out of its range.
        """
        return get_effort(self.effort).having(self.overrides)


def asked(
    settings: Settings,
    task: str,
    *,
    source: str = "",
    effort: str,
    seed: int | None = None,
    now: datetime | None = None,
    trainer: str = "",
    base_model: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    **more: Any,
) -> Request:
    """What was asked for, with the task's and the settings' own in place of what was not said, and paths absolute.

    Args:
        settings: seed and actor.
        task: its name.
        more: other fields of `Request`, as they are.

    Raises:
        ConfigError: there is no such task, effort or hyperparameter, or a value is out of its range.
    """
    return Request(
        task=task,
        source=sources.located(source or get_task(task).source),
        effort=effort,
        seed=settings.seed if seed is None else seed,
        now=now or datetime.now(UTC),
        trainer=trainer or settings.actor,
        base_model=located(base_model) if base_model else None,
        overrides=get_effort(effort).chosen(overrides or {}),
        **more,
    )


@dataclass(frozen=True, slots=True)
class Work:
    """Paths inside one work folder, and the facts about its data."""

    folder: Path
    request: Request
    data_sha256: str
    rows: int
    synthetic: bool
    newest_at: datetime | None
    summary: str

    @property
    def checkpoints(self) -> Path:
        """Where fine-tuning keeps its checkpoints."""
        return self.folder / "checkpoints"

    @property
    def finetuned(self) -> Path:
        """A file that names the fine-tuned Hugging Face folder once it is complete."""
        return self.folder / "finetuned.txt"

    @property
    def model(self) -> Path:
        """The model folder that is registered."""
        return self.folder / "model"

    @property
    def spent(self) -> Path:
        """What the training cost so far (`training.spent`)."""
        return self.folder / "spent.json"

    @property
    def run_file(self) -> Path:
        """Holds the id of the MLflow run."""
        return self.folder / "run_id"

    @property
    def scores(self) -> Path:
        """The answers on validation and holdout; once they are there, the model folder is complete but for its card."""
        return self.folder / "scores.npz"

    @property
    def settled(self) -> Path:
        """An empty file that says: the model folder is what gets registered, and changes no more."""
        return self.folder / "settled"

    @property
    def id(self) -> str:
        """What this folder is called in MLflow: its run is found by it where a kill came before `run_file`."""
        return (self.folder / "id").read_text(encoding="utf-8")

    def rows_of(self, part: str) -> DataFrame:
        """One split, as it was written."""
        import pandas as pd

        return pd.read_parquet(self.folder / f"{part}.parquet")

    def remove(self) -> None:
        """Delete the folder: the model is registered, nothing in it is needed any more.

        It loses its name first: of a folder half deleted by a kill, no training goes on.
        """
        done = self.folder.with_name(f"{_DONE}{self.folder.name}-{uuid.uuid4().hex[:8]}")
        self.folder.rename(done)
        shutil.rmtree(done, ignore_errors=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Gives a path to write to; the file takes the name `path` when the block ends well, and not before."""
    fresh = path.with_name(f"new-{path.name}")
    yield fresh
    fresh.replace(path)


def open_work(root: Path, request: Request, splits: Splits, base_model_sha256: str, summary: str) -> Work:
    """The work folder for `request` on `splits`, written if it is new.

    The clock and the trainer are not part of its name: the same command an hour later resumes.
    """
    decides: list[Any] = [request.task, request.effort, request.seed, splits.data_sha256, base_model_sha256]
    decides += [request.trunk] if request.trunk else []
    decides += [dict(sorted(request.overrides.items()))] if request.overrides else []
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:16]
    folder = root / f"{request.task}-{key}"
    work = Work(
        folder=folder,
        request=request,
        data_sha256=splits.data_sha256,
        rows=splits.rows,
        synthetic=splits.synthetic,
        newest_at=splits.newest_at,
        summary=summary,
    )
    for left in root.glob(f"{_DONE}{request.task}-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    failures.reserve(folder)
    if not (folder / "request.json").is_file():
        for part in PARTS:
            getattr(splits, part).to_parquet(folder / f"{part}.parquet")
    if not (folder / "id").is_file():
        with whole(folder / "id") as fresh:
            fresh.write_text(uuid.uuid4().hex, encoding="utf-8")
    if not (folder / "request.json").is_file():
        with whole(folder / "request.json") as fresh:
            fresh.write_text(json.dumps(asdict(request), default=_plain, indent=2), encoding="utf-8")
    return work


def _plain(value: Any) -> str:
    return utc(value).isoformat() if isinstance(value, datetime) else str(value)
