"""Labelled messages in CSV, TSV, JSON lines and Parquet, read by Hugging Face `datasets`.

Before `datasets` reads a file, what it would only stumble over is named: the byte, the line.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from undertone.errors import DataError
from undertone.text import repair

KINDS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}

_SPLITS = {
    "train": ("train", "training", "trainset"),
    "val": ("val", "valid", "validation", "valset", "dev", "devset"),
    "test": ("test", "testing", "testset"),
}
_LONE_ESCAPE = re.compile(r"\\u[dD][89abAB]")


def split_named(name: str) -> str | None:
    """``train``, ``val`` or ``test`` where a word of `name` says so (``isarcasm_train``, ``validation-2``)."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((split for word in words for split, known in _SPLITS.items() if word in known), None)


def without_split(name: str) -> str:
    """What is left of a file's name without the word that tells its split: nothing of ``train``, ``isarcasm`` of
    ``isarcasm_train``."""
    known = {word for words in _SPLITS.values() for word in words}
    return "-".join(word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and word not in known)


def read_folder(folder: Path) -> tuple[list[tuple[str | None, Path]], list[Path]]:
    """Files of `folder` with their splits, in order of name, and the data files whose names tell no split.

    Raises:
        DataError: no file holds training rows.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix.lower() in KINDS)
    found: list[tuple[str | None, Path]] = [
        (split, path) for path in files if (split := split_named(path.stem)) is not None
    ]
    if not any(split == "train" for split, _ in found):
        names = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
        raise DataError(
            f"a {', '.join(KINDS)} file with `train` in its name (and val, test)",
            f"{names} in {folder}",
            "rename the files, or name one file",
        )
    return found, [path for path in files if split_named(path.stem) is None]


def read_file(path: Path) -> tuple[Any, list[str]]:
    """The rows of `path` as a `datasets.Dataset`, and the lines whose lone surrogates had to be replaced to read it.

    Raises:
        DataError: not a kind of file that is known, unreadable, not UTF-8, broken, or without rows.
    """
    import datasets
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(f"a file that ends in {', '.join(KINDS)}", path.name, "convert it to one of these")
    datasets.disable_progress_bars()
    # the cache is thrown away: it would keep a copy of customers' messages outside the retention rules
    with tempfile.TemporaryDirectory(prefix="undertone-read-") as cache:
        try:
            source, mended = _check(path, kind, Path(cache))
            table = datasets.load_dataset(
                kind,
                data_files=str(source),
                split="train",
                cache_dir=cache,
                keep_in_memory=True,
                **(_csv_options(path) if kind == "csv" else {}),
            )
        except (DatasetsError, pa.ArrowException, ValueError, TypeError, OSError) as error:
            cause = error.__cause__ or error
            reason = " ".join(f"{type(cause).__name__}: {cause}".split()).rstrip(".")
            raise DataError(f"a readable {kind} file", reason, f"check {path}") from error
    return table, mended


def _check(path: Path, kind: str, folder: Path) -> tuple[Path, list[str]]:
    """The file to read (`path`, or a mended copy in `folder`) and what was mended."""
    if kind == "parquet":
        import pyarrow.parquet

        if path.stat().st_size == 0 or pyarrow.parquet.read_metadata(path).num_rows == 0:
            raise _no_rows(path)
        return path, []
    data = path.read_bytes()
    if not data.strip():
        raise _no_rows(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        charset = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin1"
        raise DataError(
            "UTF-8 text",
            f"byte 0x{data[error.start]:02x} at offset {error.start} (line {line}) of {path}",
            f"convert it: `iconv -f {charset} -t utf-8 {path.name}`",
        ) from error
    return _check_lines(path, text, folder) if kind == "json" else (path, [])


def _check_lines(path: Path, text: str, folder: Path) -> tuple[Path, list[str]]:
    lines = text.split("\n")  # not splitlines(): U+2028 and its kind may stand inside a JSON string
    mended = []
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                "one JSON object a line", f"{error} in line {index + 1} of {path}", f"mend line {index + 1}"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                "one JSON object a line",
                f"a {type(row).__name__} in line {index + 1} of {path}",
                "write one row a line",
            )
        if _LONE_ESCAPE.search(line) and (whole := _repaired(row)) != row:
            lines[index] = json.dumps(whole)
            mended.append(line.strip())
    if not mended:
        return path, []
    copy = folder / path.name
    copy.write_text("\n".join(lines), encoding="utf-8")
    return copy, mended


def _repaired(value: Any) -> Any:
    """`value` with lone surrogates, which Arrow refuses, replaced in every string."""
    if isinstance(value, dict):
        return {_repaired(key): _repaired(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_repaired(item) for item in value]
    has_lone = isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value)
    return repair(value) if has_lone else value


def _csv_options(path: Path) -> dict[str, Any]:
    """Every column is text: an id like 007 or a message like NA is not a number or a gap."""
    import datasets

    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    head = pd.read_csv(path, nrows=1, sep=separator, encoding="utf-8-sig", dtype=str)
    if head.empty:
        raise _no_rows(path)
    if not isinstance(head.index, pd.RangeIndex):  # pandas would take the first column for an index
        raise DataError(
            f"as many fields as column names in {path}",
            f"more fields in the first row than the {len(head.columns)} column names",
            "name every column, or remove the separator at the end of the rows",
        )
    features = datasets.Features({str(name): datasets.Value("string") for name in head.columns})
    return {"sep": separator, "keep_default_na": False, "na_filter": False, "features": features}


def _no_rows(path: Path) -> DataError:
    return DataError("labelled rows", f"{path} is empty", "check that the file is the right one")
