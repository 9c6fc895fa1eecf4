"""What each version took for what on its holdout, kept in the store, so that shares can be corrected for its errors."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from undertone.errors import RegistryError
from undertone.schema import confusions
from undertone.store import Store
from undertone.tasks import TaskSpec

if TYPE_CHECKING:
    from undertone.workspace import Workspace

log = logging.getLogger("undertone.insights")

#: Where a training keeps its evaluation, among the files of its MLflow run.
EVALUATION = "evaluation/holdout.json"


def record_confusions(store: Store, spec: TaskSpec, version: int, counts: Sequence[Sequence[int]]) -> None:
    """Keep a version's counts, in place of those it had.

    Args:
        counts: messages of the holdout, true label by row and predicted label by column, in the order of the labels.
    """
    rows = [
        {"task": spec.name, "model_version": version, "label": true, "predicted": said, "rows": int(messages)}
        for true, row in zip(spec.labels, counts, strict=True)
        for said, messages in zip(spec.labels, row, strict=True)
    ]
    with store.transaction() as connection:
        connection.execute(
            delete(confusions).where(confusions.c.task == spec.name, confusions.c.model_version == version)
        )
        connection.execute(insert(confusions), rows)


def fill_confusions(workspace: Workspace, spec: TaskSpec, versions: Iterable[int]) -> tuple[int, ...]:
    """Take counts that the store lacks from the evaluations in MLflow; gives the versions that they were found for.

    A version whose training left no evaluation of these labels is told in the log, and stays without.
    """
    with workspace.store.reading() as connection:
        query = select(confusions.c.model_version).where(confusions.c.task == spec.name).distinct()
        known = set(connection.execute(query).scalars())
    filled = []
    for version in sorted(set(versions) - known):
        try:
            run_id = workspace.registry.get(spec.name, version).run_id
            counts = json.loads(workspace.registry.read_file(run_id, EVALUATION))["confusion"]
            record_confusions(workspace.store, spec, version, counts)
        except (RegistryError, ValueError, KeyError, TypeError) as error:
            log.warning("%s %s: no error counts from its training: %s", spec.name, version, error)
        else:
            filled.append(version)
    return tuple(filled)
