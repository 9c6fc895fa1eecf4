"""The BI views as Parquet files, for those who read files and not databases. Customers' words only where asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Boolean, ColumnElement, Connection, Date, Float, Integer, String, Table, func, select

from undertone import views
from undertone.errors import DataError
from undertone.schema import UtcDateTime
from undertone.store import Store
from undertone.views import View

#: Views with a folder for each day, as ``messages/day=2026-11-03/part-0.parquet``; the others are one file.
BY_DAY = ("messages", "predictions", "hourly_labels", "message_texts")
PART = "part-0.parquet"
BATCH = 20_000

_TYPES: tuple[tuple[type[Any], pa.DataType], ...] = (
    (UtcDateTime, pa.timestamp("us", tz="UTC")),
    (Boolean, pa.bool_()),
    (Date, pa.date32()),
    (Integer, pa.int64()),
    (Float, pa.float64()),
    (String, pa.string()),
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written of one view."""

    view: str
    rows: int
    files: int
    bytes: int


def export(
    store: Store,
    folder: Path,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    texts: bool = False,
    progress: Callable[[str, int, int], None] = lambda view, done, total: None,
) -> list[Exported]:
    """Write every view below `folder`; a file appears whole or not at all, and takes the place of the one before.

    With `start` or `end`, days within are replaced and the other days' files stay; views without days are always whole.

    Args:
        store: whose views are read, all in one transaction: what one file says, the others say too.
        folder: made where needed.
        start: days from that one's on (UTC).
        end: days before it.
        texts: also what customers wrote.
        progress: told view, rows done and rows in all after each batch.

    Raises:
        DataError: the folder cannot be written.
    """
    done = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with store.reading() as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("set transaction isolation level repeatable read, read only")
            for view in views.VIEWS:
                if not view.texts or texts:
                    done.append(_view(connection, view, folder, start, end, progress))
    except OSError as error:
        raise DataError(
            f"room and rights to write in {folder}", f"{type(error).__name__}: {error}", "choose another folder"
        ) from error
    return done


def schema_of(view: View, *, by_day: bool) -> pa.Schema:
    """The Parquet schema of a view: what it and its columns hold stands in the metadata of file and fields.

    A day is not a column of the files in its folder: readers take it from the folder's name.
    """
    columns = [column for column in view.columns if not (by_day and column.name == "day")]
    fields = [pa.field(column.name, _type(column.type), metadata={"description": column.about}) for column in columns]
    described = {column.name: column.about for column in view.columns}
    return pa.schema(fields, metadata={"description": view.about, "columns": json.dumps(described, ensure_ascii=False)})


def _view(
    connection: Connection,
    view: View,
    folder: Path,
    start: datetime | None,
    end: datetime | None,
    progress: Callable[[str, int, int], None],
) -> Exported:
    by_day = view.name in BY_DAY
    table = view.table(connection.dialect.name)
    columns, source, day = _source(table, view, connection.dialect.name)
    limits: list[ColumnElement[bool]] = []
    if by_day and start is not None:
        limits.append(day >= _day(start))
    if by_day and end is not None:
        limits.append(day < _day(end))
    total = connection.execute(select(func.count()).select_from(source).where(*limits)).scalar_one()
    query = select(*columns, day.label("__day")).select_from(source).where(*limits)
    if by_day:
        query = query.order_by(day)
    schema = schema_of(view, by_day=by_day)
    writer = _Writer(folder / view.name if by_day else folder, schema, by_day, view.name)
    progress(view.name, 0, total)
    rows = 0
    try:
        streamed = connection.execute(query, execution_options={"yield_per": BATCH})
        for part in streamed.partitions():
            for of, same_day in _days(part):
                writer.write(of, same_day)
            rows += len(part)
            progress(view.name, rows, total)
        writer.finish()
    except BaseException:
        writer.abandon()
        raise
    if by_day:
        _remove_others(folder / view.name, writer.days, start, end)
    return Exported(view.name, rows, writer.files, writer.bytes)


def _source(table: Table, view: View, dialect: str) -> tuple[list[Any], Any, Any]:
    """A view's columns but its day, where they come from, and the column with the day; null where it has no day."""
    columns = [column for column in table.c if column.name != "day" or view.name not in BY_DAY]
    if view.name != "message_texts":
        return columns, table, table.c.day if "day" in table.c else _no_day()
    messages = views.get_view("messages").table(dialect)  # texts have the day of their message
    return columns, table.join(messages, messages.c.message_id == table.c.message_id), messages.c.day


def _no_day() -> Any:
    from sqlalchemy import literal_column

    return literal_column("null", Date)


def _days(rows: Sequence[Any]) -> Iterator[tuple[date | None, list[Any]]]:
    """Consecutive rows of one day; the day is each row's last value."""
    begin = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place][-1] != rows[begin][-1]:
            yield rows[begin][-1], list(rows[begin:place])
            begin = place


class _Writer:
    """Writes rows in order of their day into temporary files, each of which takes its name when it is whole."""

    def __init__(self, folder: Path, schema: pa.Schema, by_day: bool, name: str) -> None:
        self._folder, self._schema, self._by_day, self._name = folder, schema, by_day, name
        self._path: Path | None = None
        self._file: pq.ParquetWriter | None = None
        self.days: set[str] = set()
        self.files = self.bytes = 0
        if not by_day:
            self._begin(folder / f"{name}.parquet")

    def write(self, day: date | None, rows: Sequence[Any]) -> None:
        """Write rows of one day."""
        if self._by_day:
            named = f"day={day}"
            if named not in self.days:
                self.finish()
                self.days.add(named)
                self._begin(self._folder / named / PART)
        columns = list(zip(*rows, strict=True))[:-1]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        assert self._file is not None
        self._file.write_batch(pa.record_batch(arrays, schema=self._schema))

    def finish(self) -> None:
        """End the file in hand and give it its name."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._file = None
            self.bytes += self._temporary.stat().st_size
            self.files += 1
            os.replace(self._temporary, self._path)

    def abandon(self) -> None:
        """Leave no half file behind."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._temporary.unlink(missing_ok=True)

    def _begin(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # readers of Parquet folders skip names that begin with a dot
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        self._file = pq.ParquetWriter(self._temporary, self._schema, compression="zstd")


def _remove_others(folder: Path, written: set[str], start: datetime | None, end: datetime | None) -> None:
    """Remove days of an earlier export that are within the period and have no rows any more."""
    first = f"day={_day(start)}" if start is not None else ""
    after = f"day={_day(end)}" if end is not None else "day=~"
    for old in folder.glob("day=*"):
        if old.name not in written and first <= old.name < after:
            (old / PART).unlink(missing_ok=True)
            if not any(old.iterdir()):
                old.rmdir()


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()


def _type(kind: Any) -> pa.DataType:
    made = kind() if isinstance(kind, type) else kind
    return next(arrow for sort, arrow in _TYPES if isinstance(made, sort))
