"""Orders or CRM rows from a file or a database: read, checked, used for one answer and forgotten.

Nothing of them is stored by Undertone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from undertone.errors import ConfigError, DataError

if TYPE_CHECKING:
    from sqlalchemy import Engine

#: What a row may have; the first three must be there. A CRM row is an amount that a customer is worth at a time.
COLUMNS = ("customer_id", "ordered_at", "amount", "order_id", "segment", "product")
REQUIRED = COLUMNS[:3]

_READS = re.compile(r"\s*(select|with|values|table)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Orders:
    """Orders that can be used, and how many rows could not.

    Attributes:
        frame: customer_id (text), ordered_at (UTC), amount (number), and segment where the rows have one.
        rows: that were read.
        unusable: rows left out, by reason.
        source: where they came from, without a password.
    """

    frame: pd.DataFrame
    rows: int
    unusable: Mapping[str, int] = field(default_factory=dict)
    source: str = ""


def read(source: str, *, query: str = "", columns: Mapping[str, str] | None = None, product: str = "") -> Orders:
    """Orders of a CSV, JSONL or Parquet file, or of a database.

    Args:
        source: a path, or a SQLAlchemy URL.
        query: for a URL, a SELECT that gives the rows. It runs in a read-only transaction.
        columns: the source's names of `COLUMNS`, where they differ.
        product: only orders of this product; empty: all.

    Raises:
        ConfigError: a URL without a query, or a statement that is no SELECT.
        DataError: the source cannot be read, lacks a column, or has no row that can be used.
    """
    names = dict(zip(COLUMNS, COLUMNS, strict=True)) | dict(columns or {})
    if unknown := sorted(set(names) - set(COLUMNS)):
        raise ConfigError(f"columns {', '.join(COLUMNS)}", ", ".join(unknown), "write --column amount=YOUR_NAME")
    if "://" in source:
        frame, shown = _query(source, query), _shown(source)
    else:
        frame, shown = _file(source, names), source
    return usable(frame, names, shown, product)


def usable(frame: pd.DataFrame, names: Mapping[str, str], source: str, product: str = "") -> Orders:
    """The rows of `frame` as `Orders`.

    Raises:
        DataError: a column is missing, or no row can be used.
    """
    if missing := [names[name] for name in REQUIRED if names[name] not in frame]:
        raise DataError(
            f"the columns {', '.join(names[name] for name in REQUIRED)}",
            ", ".join(map(str, frame.columns)) or "none",
            f"name {missing[0]} with --column, as --column {_own(names, missing[0])}=YOUR_NAME",
        )
    there = {names[name]: name for name in COLUMNS if names[name] in frame}
    frame = frame[list(there)].rename(columns=there)
    rows, unusable = len(frame), dict[str, int]()

    def drop(reason: str, bad: pd.Series) -> None:
        nonlocal frame
        if count := int(bad.sum()):
            unusable[reason] = count
            frame = frame[~bad]

    frame["customer_id"] = _text(frame["customer_id"])
    drop("no customer", frame["customer_id"].isna())
    moments = pd.to_datetime(frame["ordered_at"], utc=True, errors="coerce", format="ISO8601")
    frame = frame.assign(ordered_at=moments, amount=pd.to_numeric(frame["amount"], errors="coerce"))
    drop("no time in ISO 8601", frame["ordered_at"].isna())
    drop("no number in amount", ~frame["amount"].abs().lt(float("inf")))
    if "order_id" in frame:
        frame["order_id"] = _text(frame["order_id"])
        drop("order id seen before", frame["order_id"].notna() & frame.duplicated("order_id"))
    if product:
        if "product" not in frame:
            raise DataError("a column product", ", ".join(there), "name it with --column product=YOUR_NAME")
        drop("another product", _text(frame["product"]) != product)
    if "segment" in frame:
        frame["segment"] = _text(frame["segment"])
    if frame.empty:
        why = ", ".join(f"{reason}: {count:,}" for reason, count in unusable.items()) or "no rows"
        raise DataError("orders that can be used", why, f"look at {source}; times are ISO 8601, as 2026-11-24T09:30Z")
    kept = [name for name in ("customer_id", "ordered_at", "amount", "segment") if name in frame]
    return Orders(frame[kept].reset_index(drop=True), rows, unusable, source)


def _file(source: str, names: Mapping[str, str]) -> pd.DataFrame:
    path, wanted = Path(source), set(names.values())
    try:
        match path.suffix.lower():
            case ".csv" | ".tsv":
                separator = "\t" if path.suffix.lower() == ".tsv" else ","
                return pd.read_csv(
                    path, dtype=str, usecols=lambda name: name in wanted, sep=separator, encoding="utf-8-sig"
                )
            case ".parquet":
                import pyarrow.parquet as pq

                there = [name for name in pq.read_schema(path).names if name in wanted]
                return pd.read_parquet(path, columns=there)
            case ".jsonl" | ".ndjson":
                return pd.read_json(path, lines=True, dtype=False, convert_dates=False)
    except (OSError, ValueError) as error:  # pandas' and pyarrow's own errors are ValueErrors
        raise DataError("a CSV, JSONL or Parquet file", f"{type(error).__name__}: {error}", f"check {path}") from error
    raise DataError("a file .csv, .tsv, .jsonl or .parquet, or a SQLAlchemy URL", source, "convert it, or query it")


def _query(url: str, query: str) -> pd.DataFrame:
    """What `query` gives, in a transaction that may not write and is rolled back."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    if not query:
        raise ConfigError("--query with a SELECT", "none", "say which rows of the database are the orders")
    if not _READS.match(query):
        raise ConfigError("a SELECT in --query", query.split()[0][:40] if query.split() else "nothing", "read only")
    engine = _engine(url)
    place = engine.url.database
    if engine.dialect.name == "sqlite" and place and place != ":memory:" and not Path(place).is_file():
        raise DataError("a SQLite file", f"none at {place}", "check the URL")  # connecting would make an empty one
    try:
        with engine.connect() as connection:
            match connection.dialect.name:
                case "postgresql" | "mysql" | "mariadb" | "oracle":
                    connection.execute(text("set transaction read only"))
                case "sqlite":
                    connection.execute(text("pragma query_only = on"))
            found = connection.execute(text(query))
            return pd.DataFrame(found.all(), columns=list(found.keys()))
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        raise DataError(
            f"rows from {_shown(url)}",
            f"{type(cause).__name__}: {str(cause).splitlines()[0]}",
            "check address, rights and query",
        ) from error
    finally:
        engine.dispose()


def _engine(url: str) -> Engine:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return create_engine(url)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        raise ConfigError(
            "a SQLAlchemy URL such as postgresql+psycopg://reader@host/shop, and its driver",
            f"{_shown(url)}: {type(error).__name__}",
            "mend the URL, or install the driver",
        ) from None  # the cause may repeat the password


def _shown(url: str) -> str:
    """`url` without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except (SQLAlchemyError, ValueError):
        return url.partition("://")[0] + "://…"


def _text(column: pd.Series) -> pd.Series:
    """`column` as text without blanks around it; nothing: NA. A whole number has no decimal point."""

    def written(value: Any) -> str | None:
        if value is None or value is pd.NA or value != value:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return str(value).strip() or None

    return column.map(written).astype("string")


def _own(names: Mapping[str, str], column: str) -> str:
    return next(name for name, given in names.items() if given == column)
