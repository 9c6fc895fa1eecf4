"""Rows as CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

#: Cells that begin so are run as a formula by spreadsheets (https://owasp.org/www-community/attacks/CSV_Injection).
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """`rows` as the content of a CSV file: what has no column is left out, what is missing is empty."""
    made = io.StringIO(newline="")
    writer = csv.DictWriter(made, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return made.getvalue()


def inert_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with every text `inert`."""
    return {name: inert(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def inert(value: str | None) -> str:
    """`value` as a cell that a spreadsheet shows and does not run."""
    return f"'{value}" if value and value.startswith(FORMULA) else value or ""
