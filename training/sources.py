"""Where messages come from: the built-in sample, files, the hub, labels in the store. Everything becomes one table.

Reading is done by Hugging Face `datasets`; this module knows only names, columns and what can go wrong.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from undertone.errors import DataError
from undertone.store import Store
from undertone.tasks import TaskSpec

COLUMNS = ("message_id", "text", "label", "channel", "segment", "sent_at", "split")
TEXT_COLUMNS = ("text", "message", "body", "content", "tweet", "sentence")
TIME_COLUMNS = ("sent_at", "created_at", "timestamp", "time")
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
               "test": "test"}  # fmt: skip
FILES = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True)
class Raw:
    """Rows as read, before any check: columns as in `COLUMNS`, labels as the source writes them."""

    frame: pd.DataFrame
    synthetic: bool = False


def read(
    source: str,
    spec: TaskSpec,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    store: Store | None = None,
    until: datetime | None = None,
) -> Raw:
    """Read one source, a part of ``a+b`` (`training.data.load` explains the names).

    Raises:
        DataError: the source cannot be read or lacks a column.
    """
    if source == "sample" or source.startswith("sample:"):
        return Raw(_columns(_sample(source), spec, source, "text", spec.name), synthetic=True)
    if source == "feedback":
        return Raw(_feedback(spec, store, until))
    tables = _hub(source) if source.startswith("hf:") else _files(source)
    frames = []
    for split, table in tables:
        frame = _columns(_frame(table, spec, label_column), spec, source, text_column, label_column)
        frame["split"] = split
        frames.append(frame)
    return Raw(pd.concat(frames, ignore_index=True))


def _sample(source: str) -> pd.DataFrame:
    from training.sample import generate_sample

    frame = generate_sample()
    if ":" not in source:
        return frame
    weeks = source.partition(":")[2]
    if not weeks.isdigit() or not 1 <= int(weeks) <= 8:
        raise DataError("sample:WEEKS with 1 to 8 weeks", repr(source), "for example `--source sample:5`")
    opens = frame["sent_at"].min().normalize()
    early: pd.DataFrame = frame[frame["sent_at"] < opens + pd.Timedelta(weeks=int(weeks))]
    return early


def _feedback(spec: TaskSpec, store: Store | None, until: datetime | None) -> pd.DataFrame:
    if store is None:
        raise DataError("a store to read feedback from", "none", "run this through `undertone train`")
    rows = [dict(row) for row in store.labelled(spec.name, until)]
    frame = pd.DataFrame(rows, columns=["message_id", "text", "label", "channel", "segment", "sent_at"])
    frame["sent_at"] = pd.to_datetime(frame["sent_at"], utc=True)
    frame["split"] = None
    return frame[list(COLUMNS)]


def _hub(source: str) -> list[tuple[str | None, Any]]:
    """``hf:NAME[:CONFIG][@REVISION]``."""
    import datasets

    name, _, revision = source.removeprefix("hf:").partition("@")
    name, _, config = name.partition(":")
    try:
        datasets.disable_progress_bars()
        found = datasets.load_dataset(name, config or None, revision=revision or None)
    except Exception as error:
        raise DataError(
            f"a data set {name!r} in the hub's cache, on the hub, or in a folder",
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            "check the name, the configuration and HF_HUB_OFFLINE",
        ) from error
    return [(SPLIT_NAMES.get(str(split), "train"), table) for split, table in found.items()]


def _files(source: str) -> list[tuple[str | None, Any]]:
    path = Path(source)
    if path.is_file():
        return [(None, _file(path))]
    if not path.is_dir():
        raise DataError(
            "sample[:WEEKS], hf:NAME, feedback, a file or a folder",
            f"{source!r}, which does not exist",
            "check the path",
        )
    found = [
        (split, file)
        for file in sorted(path.iterdir())
        if file.suffix.lower() in FILES and (split := _split_of(file.stem)) is not None
    ]
    if not any(split == "train" for split, _ in found):
        names = ", ".join(sorted(file.name for file in path.iterdir())[:5]) or "nothing"
        raise DataError("a file with `train` in its name (and val, test)", f"{names} in {path}", "rename the files")
    return [(split, _file(file)) for split, file in found]


def _split_of(stem: str) -> str | None:
    words = stem.lower().replace("-", "_").replace(".", "_").split("_")
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _file(path: Path) -> Any:

    kind = FILES.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"a file that ends in {', '.join(FILES)}", path.name, "convert it to one of these")
    _check_bytes(path, kind)
    try:
        table = _load(kind, path, _csv_options(path) if kind == "csv" else {})
    except Exception as error:
        cause = error.__cause__ or error
        raise DataError(f"a readable {kind} file", f"{type(cause).__name__}: {cause}", f"check {path}") from error
    if len(table) == 0:
        raise DataError("labelled rows", f"none in {path}", "check that the file is the right one")
    return table


def _csv_options(path: Path) -> dict[str, Any]:
    """Every column is text: an id like 007 or a message like NA is not a number or a gap."""
    import datasets

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    header = pd.read_csv(path, nrows=0, sep=separator, encoding="utf-8-sig").columns
    features = datasets.Features({str(name): datasets.Value("string") for name in header})
    return {"sep": separator, "keep_default_na": False, "na_filter": False, "features": features}


def _load(kind: str, path: Path, options: dict[str, Any]) -> Any:
    import datasets

    datasets.disable_progress_bars()
    # the cache is thrown away: it would keep a copy of customers' messages outside the retention rules
    with tempfile.TemporaryDirectory(prefix="undertone-read-") as cache:
        return datasets.load_dataset(
            kind, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True, **options
        )


def _check_bytes(path: Path, kind: str) -> None:
    """Name what a reader would only stumble over: an empty file, bytes that are not UTF-8, a broken JSON line."""
    if kind == "parquet":
        return
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("a readable file", f"{type(error).__name__}: {error}", f"check {path}") from error
    if not data.strip():
        raise DataError("labelled rows", f"{path} is empty", "check that the file is the right one")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            "UTF-8 text", f"byte 0x{data[error.start]:02x} at offset {error.start} (line {line}) of {path}",
            f"convert it: `iconv -f latin1 -t utf-8 {path.name}`",
        ) from error  # fmt: skip
    if kind == "json":
        for number, line_text in enumerate(text.splitlines(), start=1):
            if line_text.strip():
                try:
                    json.loads(line_text)
                except ValueError as error:
                    raise DataError(
                        "one JSON object a line", f"{error} in line {number} of {path}", "mend it"
                    ) from error


def _frame(table: Any, spec: TaskSpec, label_column: str | None) -> pd.DataFrame:
    """A `datasets` table as a frame, with class numbers turned into their names where the source names its classes."""
    frame: pd.DataFrame = table.to_pandas()
    for name, feature in table.features.items():
        names = getattr(feature, "names", None)
        if names:
            frame[name] = [names[int(value)] if pd.notna(value) and value >= 0 else None for value in frame[name]]
    return frame


def _columns(
    frame: pd.DataFrame, spec: TaskSpec, source: str, text_column: str | None, label_column: str | None
) -> pd.DataFrame:
    text = _pick(frame, text_column, TEXT_COLUMNS, "--text-column", source)
    own = (spec.label_column,) if spec.label_column else ()
    label = _pick(frame, label_column, (*own, "label", spec.name, "target", "class"), "--label-column", source)
    lower = {str(column).lower(): column for column in frame.columns}
    time = next((lower[name] for name in TIME_COLUMNS if name in lower), None)
    made = pd.DataFrame(index=frame.index)
    identity = next((lower[name] for name in ("message_id", "id") if name in lower), None)
    numbers = pd.Series([f"row-{number}" for number in range(len(frame))], index=frame.index)
    made["message_id"] = frame[identity].astype(str) if identity is not None else numbers
    made["text"], made["label"] = frame[text], frame[label]
    for name in ("channel", "segment"):
        made[name] = frame[lower[name]] if name in lower else None
    made["sent_at"] = _times(frame[time], source) if time is not None else pd.Series(pd.NaT, index=frame.index)
    made["sent_at"] = pd.to_datetime(made["sent_at"], utc=True)
    made["split"] = None
    return made.reset_index(drop=True)


def _times(values: pd.Series, source: str) -> pd.Series:
    try:
        return pd.to_datetime(values.replace("", None), utc=True)
    except (ValueError, TypeError) as error:
        raise DataError("times in ISO 8601", f"{error}", f"mend the column {values.name!r} of {source}") from error


def _pick(frame: pd.DataFrame, asked: str | None, usual: tuple[str, ...], option: str, source: str) -> Any:
    lower = {str(column).lower(): column for column in frame.columns}
    names = (asked,) if asked else usual
    found = next((lower[name.lower()] for name in names if name and name.lower() in lower), None)
    if found is None:
        raise DataError(
            f"a column {' or '.join(repr(name) for name in names)} in {source}",
            f"the columns {', '.join(map(str, frame.columns)) or '(none)'}",
            f"name it with {option}",
        )
    return found
