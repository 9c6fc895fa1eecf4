"""Figures of a chart as a table: the page's and the CSV's rows are the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from starlette.responses import Response

from insights.estimate import Estimate
from undertone.csv_cells import as_csv, inert_row

#: How a cell is written on the page. An "estimate" is a corrected share with its band, and the model's own share; the
#: page leaves that out of a "band".
Kind = Literal[
    "text", "count", "share", "signed", "seconds", "days", "number", "moment", "estimate", "band", "pace", "step"
]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name in the CSV, its words on the page, and what it holds; without words it is in the CSV alone."""

    name: str
    title: str
    kind: Kind = "text"

    @property
    def right(self) -> bool:
        """Whether it holds numbers, which stand at the right."""
        return self.kind not in {"text", "moment", "pace", "step"}


@dataclass(frozen=True, slots=True)
class Sheet:
    """Rows by column name.

    Attributes:
        name: of the file, without ``.csv``.
        caption: what the table holds, for its reader.
    """

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]

    @property
    def shown(self) -> list[Column]:
        """The page's columns."""
        return [column for column in self.columns if column.title]

    def csv(self) -> Response:
        """The rows as a file. An estimate takes five columns; texts that a spreadsheet would run are made inert."""
        columns = [name for column in self.columns for name in _csv_names(column)]
        content = as_csv(columns, (inert_row(_csv_row(self.columns, row)) for row in self.rows))
        return Response(
            content,
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{self.name}.csv"'},
        )


def _csv_names(column: Column) -> list[str]:
    if column.kind in {"estimate", "band"}:
        return [f"{column.name}_{part}" for part in ("share", "low", "high", "observed", "lacking")]
    return [column.name]


def _csv_row(columns: Iterable[Column], row: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for column in columns:
        value = row.get(column.name)
        if column.kind in {"estimate", "band"}:
            found: Estimate = row[column.name]
            parts = (found.share, found.low, found.high, found.observed, found.lacking)
            made |= zip(_csv_names(column), map(_plain, parts), strict=True)
        else:
            made[column.name] = _plain(value)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return value
