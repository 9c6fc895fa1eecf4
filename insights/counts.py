"""How often each model version said each label, by step, channel and segment; and what versions take for what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Integer, Table, cast, extract, func, select

from insights.estimate import Corrections, ErrorCounts, ErrorSource
from insights.period import STEPS, Cut, Period
from undertone.store import Store
from undertone.tasks import TaskSpec
from undertone.views import get_view

#: An audit's error counts are used from so many labelled messages on, and so many of each label; else the holdout's.
AUDIT_ROWS = 200
AUDIT_ROWS_OF_A_LABEL = 15

#: Counts of labels, in the order of the task's, by model version.
Said = dict[int, NDArray[np.int64]]


def view(store: Store, name: str) -> Table:
    """A view of `undertone.views` for queries."""
    return get_view(name).table(store.engine.dialect.name)


def within(table: Table, period: Period) -> list[ColumnElement[bool]]:
    """Rows of a view that the period is about."""
    wanted: list[ColumnElement[bool]] = [table.c.event_at >= period.start, table.c.event_at < period.end]
    for name in ("channel", "segment", "model_version"):
        if (value := getattr(period, name)) is not None and name in table.c:
            wanted.append(table.c[name] == value)
    return wanted


def step_of(table: Table, period: Period) -> ColumnElement[int]:
    """Number of the period's step that a row falls in, from 0."""
    first = _first_step(period)
    seconds = int(STEPS[period.step].total_seconds())
    return cast(func.floor((extract("epoch", table.c.event_at) - first) / seconds), Integer)


def _first_step(period: Period) -> int:
    """Start of the first whole step, in seconds: that of `Period.steps` before it is cut."""
    seconds = int(STEPS[period.step].total_seconds())
    began = int(period.start.timestamp())
    return began if period.step == "week" else began - began % seconds


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Messages of a period by step, label, version and the columns asked for.

    Attributes:
        rows: (cells,) messages of each cell.
        step: (cells,) number of the period's step.
        label: (cells,) class index.
        version: (cells,) model version.
        values: (cells,) of each column asked for, as text or None.
    """

    labels: tuple[str, ...]
    rows: NDArray[np.int64]
    step: NDArray[np.int64]
    label: NDArray[np.int64]
    version: NDArray[np.int64]
    values: Mapping[str, NDArray[np.object_]]

    @classmethod
    def empty(cls, spec: TaskSpec, columns: Iterable[Cut] = ()) -> Counts:
        """No message."""
        none = np.zeros(0, dtype=np.int64)
        return cls(spec.labels, none, none, none, none, {name: np.zeros(0, dtype=object) for name in columns})

    def said(self, where: NDArray[np.bool_] | None = None) -> Said:
        """Label counts by version, over all cells or over some."""
        found: Said = {}
        rows = self.rows if where is None else np.where(where, self.rows, 0)
        for version in np.unique(self.version):
            mine = self.version == version
            counts = np.bincount(self.label[mine], weights=rows[mine], minlength=len(self.labels)).astype(np.int64)
            if counts.any():
                found[int(version)] = counts
        return found

    def by_step(self, steps: int, where: NDArray[np.bool_] | None = None) -> list[Said]:
        """Label counts by version, for each step."""
        rows = self.rows if where is None else np.where(where, self.rows, 0)
        found: list[Said] = [{} for _ in range(steps)]
        size = steps * len(self.labels)
        for version in np.unique(self.version):
            mine = self.version == version
            at = self.step[mine] * len(self.labels) + self.label[mine]
            table = np.bincount(at, weights=rows[mine], minlength=size).astype(np.int64).reshape(steps, -1)
            for number, counts in enumerate(table):
                if counts.any():
                    found[number][int(version)] = counts
        return found

    def largest(self, column: str, most: int) -> list[str | None]:
        """The values of a column with the most messages, largest first."""
        sizes: Counter[str | None] = Counter()
        for value, rows in zip(self.values[column].tolist(), self.rows.tolist(), strict=True):
            sizes[value] += rows
        return sorted(sizes, key=lambda value: (-sizes[value], value is None, value or ""))[:most]


def read_counts(
    store: Store, spec: TaskSpec, period: Period, columns: Iterable[Cut] = (), steps: bool = True
) -> Counts:
    """Count a task's answers in a period, in one query.

    Args:
        columns: what to count apart.
        steps: False: the whole period is one step.
    """
    table, cuts = view(store, "predictions"), tuple(columns)
    step = step_of(table, period) if steps else cast(0, Integer)
    keys: list[ColumnElement[Any]] = [table.c.label, table.c.model_version]
    more = [table.c[name] for name in cuts if name != "model_version"]
    query = (
        select(step.label("step"), *keys, *more, func.count().label("messages"))
        .where(table.c.task == spec.name, *within(table, period))
        .group_by(*([step] if steps else []), *keys, *more)
    )
    with store.reading() as connection:
        found = [row for row in connection.execute(query).mappings() if row["label"] in spec.labels]
    index = spec.label_index()
    last = sum(1 for _ in period.steps()) - 1 if steps else 0
    version = np.array([row["model_version"] for row in found], dtype=np.int64)
    values: dict[str, NDArray[np.object_]] = {
        column.name: np.array([row[column.name] for row in found], dtype=object) for column in more
    }
    if "model_version" in cuts:
        values["model_version"] = np.array([str(number) for number in version], dtype=object)
    return Counts(
        spec.labels,
        np.array([row["messages"] for row in found], dtype=np.int64),
        np.array([min(max(row["step"], 0), last) for row in found], dtype=np.int64),
        np.array([index[row["label"]] for row in found], dtype=np.int64),
        version,
        values,
    )


def read_errors(store: Store, spec: TaskSpec) -> dict[int, ErrorCounts]:
    """Error counts of each version of a task: its audits' where these are enough, else its holdout's."""
    table, index = view(store, "model_errors"), spec.label_index()
    with store.reading() as connection:
        rows = connection.execute(select(table).where(table.c.task == spec.name)).mappings().all()
    found: dict[tuple[int, str], NDArray[np.int64]] = {}
    for row in rows:
        if row["label"] in index and row["predicted"] in index:
            size = len(spec.labels)
            counts = found.setdefault((row["model_version"], row["source"]), np.zeros((size, size), dtype=np.int64))
            counts[index[row["label"]], index[row["predicted"]]] += row["rows"]
    chosen: dict[int, ErrorCounts] = {}
    for (version, source), counts in found.items():
        if source == "holdout" and version not in chosen:
            chosen[version] = ErrorCounts(version, "holdout", counts)
        elif source == "audit" and counts.sum() >= AUDIT_ROWS and counts.sum(axis=1).min() >= AUDIT_ROWS_OF_A_LABEL:
            chosen[version] = ErrorCounts(version, "audit", counts)
    return chosen


def corrections(store: Store, spec: TaskSpec) -> Corrections:
    """What corrects the answers of a task's versions."""
    return Corrections(spec.labels, read_errors(store, spec))


def error_source(errors: Mapping[int, ErrorCounts], versions: Sequence[int]) -> tuple[ErrorSource, int]:
    """Where the error counts of these versions come from, and labelled messages behind them."""
    known = [errors[version] for version in versions if version in errors]
    sources = sorted({item.source for item in known})
    rows = sum(item.rows for item in known)
    return ("none" if not sources else sources[0] if len(sources) == 1 else "mixed"), rows
