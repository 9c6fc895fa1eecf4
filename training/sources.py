"""Where messages come from: the built-in sample, files, the hub, labels in the store. Everything becomes one table.

Reading is done by Hugging Face `datasets`; this module knows only what the names of sources mean.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from training.columns import arrange, name_classes
from training.files import read_file, read_folder, split_named
from training.repairs import Repair
from undertone.errors import DataError
from undertone.store import Store
from undertone.tasks import TaskSpec


@dataclass(frozen=True, slots=True)
class Raw:
    """Rows as read, before any check: `columns.COLUMNS` and ``file``, which tells rows of different files apart."""

    frame: pd.DataFrame
    synthetic: bool = False
    repairs: tuple[Repair, ...] = ()


def parts(source: str) -> list[str]:
    """``a+b`` as [a, b]; a path with a plus in its name stays whole if it exists."""
    pieces, found = source.split("+"), []
    while pieces:
        sizes = range(len(pieces), 1, -1)
        size = next((n for n in sizes if _path("+".join(pieces[:n]).strip()).exists()), 1)
        found.append("+".join(pieces[:size]).strip())
        del pieces[:size]
    return found


def have_splits(sources: list[str]) -> bool:
    """Whether the files among `sources` are the splits of one data set, by their names: one train, one val or test."""
    named = {split_named(path.stem) for path in map(_path, sources) if path.is_file()}
    return "train" in named and bool(named & {"val", "test"})


def located(source: str) -> str:
    """`source` with every path in it absolute, so that a later retrain finds it from any working directory.

    What does not exist stays as it was written: `read` names it in its error.
    """
    return "+".join(_absolute(part) for part in parts(source))


def read(
    source: str,
    spec: TaskSpec,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    store: Store | None = None,
    until: datetime | None = None,
    splits: bool = False,
) -> Raw:
    """Read one source, a part of ``a+b`` (`training.data.load` explains the names).

    Args:
        splits: a file's name tells its split, as it does in a folder.

    Raises:
        DataError: the source cannot be read or lacks a column.
    """
    if source == "sample" or source.startswith("sample:"):
        frame = arrange(_sample(source), spec, source, text_column="text", label_column=spec.name)
        return Raw(frame.assign(file=source), synthetic=True)
    if source == "feedback":
        return _feedback(spec, store, until)
    found, repairs = tables(source, splits=splits)
    frames = []
    for split, name, table in found:
        rows = name_classes(table.to_pandas(), table.features)
        frame = arrange(rows, spec, name, text_column=text_column, label_column=label_column)
        frames.append(frame.assign(split=pd.Series(split, index=frame.index, dtype=object), file=name))
    return Raw(pd.concat(frames, ignore_index=True), repairs=tuple(repairs))


def tables(source: str, *, splits: bool = False) -> tuple[list[tuple[str | None, str, Any]], list[Repair]]:
    """The tables of files, a folder or the hub as they are, each with its split (or None) and its name.

    Raises:
        DataError: the source cannot be read.
    """
    return _hub(source) if source.startswith("hf:") else _files(source, splits)


def _absolute(part: str) -> str:
    prefix = "hf:" if part.startswith("hf:") else ""
    path = _path(part)
    is_name = not part or part == "feedback" or part.partition(":")[0] == "sample"
    return part if is_name or not path.exists() else f"{prefix}{path.resolve()}"


def _path(part: str) -> Path:
    return Path(part.removeprefix("hf:")).expanduser()


def _sample(source: str) -> pd.DataFrame:
    from training.sample import generate_sample

    frame = generate_sample()
    if source == "sample":
        return frame
    weeks = source.partition(":")[2]
    if not (weeks.isascii() and weeks.isdigit()) or not 1 <= int(weeks) <= 8:
        raise DataError("sample:WEEKS with 1 to 8 weeks", repr(source), "for example `--source sample:5`")
    opens = frame["sent_at"].min().normalize()
    early: pd.DataFrame = frame[frame["sent_at"] < opens + pd.Timedelta(weeks=int(weeks))]
    return early


def _feedback(spec: TaskSpec, store: Store | None, until: datetime | None) -> Raw:
    if store is None:
        raise DataError("a store to read feedback from", "none", "run this through `undertone train`")
    labels = store.labelled(spec.name, until)
    columns = ["message_id", "text", "label", "channel", "segment", "sent_at"]
    rows = pd.DataFrame([dict(row) for row in labels], columns=columns)
    told_at = pd.Series([row["sent_at"] or row["labelled_at"] for row in labels], index=rows.index, dtype=object)
    frame = arrange(rows, spec, "feedback", label_column="label").assign(
        file="feedback",
        feedback=True,
        told_at=pd.to_datetime(told_at, utc=True).dt.as_unit("us"),
        suggested=pd.Series([bool(row["suggested"]) for row in labels], index=rows.index, dtype=bool),
    )
    removed = store.labelled_without_text(spec.name, until)
    return Raw(frame, repairs=(Repair("text_removed", removed),) if removed else ())


def _hub(source: str) -> tuple[list[tuple[str | None, str, Any]], list[Repair]]:
    """``hf:NAME[:CONFIG][@REVISION]``: splits by name; a lone split is no split."""
    import datasets
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    name, config, revision = _hub_name(source)
    datasets.disable_progress_bars()
    # what the hub publishes is cached as usual; a copy of a local folder would escape the retention rules
    with tempfile.TemporaryDirectory(prefix="undertone-read-") as cache:
        own = {"cache_dir": cache, "keep_in_memory": True} if Path(name).exists() else {}
        try:
            found = datasets.load_dataset(name, config, revision=revision, **own)
        except (DatasetsError, pa.ArrowException, ValueError, TypeError, OSError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise DataError(
                f"a data set {name!r} on the hub, in its cache, or in a folder",
                f"{type(error).__name__}: {reason}",
                "check name, configuration, revision and network (HF_HUB_OFFLINE=1 forbids the hub)",
            ) from error
    if len(found) == 1:
        return [(None, f"{source} ({split})", table) for split, table in found.items()], []
    named = [(split_named(str(split)), str(split), table) for split, table in found.items()]
    used: list[tuple[str | None, str, Any]] = [(s, f"{source} ({word})", table) for s, word, table in named if s]
    if not any(split == "train" for split, _, _ in used):
        raise DataError(f"a split `train` in {source}", ", ".join(map(str, found)), "name another configuration")
    return used, [Repair("unused_split", len(table), word) for split, word, table in named if split is None]


def _hub_name(source: str) -> tuple[str, str | None, str | None]:
    whole = source.removeprefix("hf:")
    if Path(whole).exists():
        return whole, None, None
    rest, _, revision = whole.partition("@")
    name, _, config = rest.partition(":")
    return name, config or None, revision or None


def _files(source: str, splits: bool) -> tuple[list[tuple[str | None, str, Any]], list[Repair]]:
    path = Path(source).expanduser()
    if not source or not path.exists():
        raise DataError(
            "sample[:WEEKS], hf:NAME, feedback, a file or a folder",
            f"{source!r}, which does not exist",
            "check the path",
        )
    files: list[tuple[str | None, Path]] = [(split_named(path.stem) if splits else None, path)]
    unused: list[Path] = []
    if path.is_dir():
        files, unused = read_folder(path)
    tables: list[tuple[str | None, str, Any]] = []
    mended: list[str] = []
    for split, file in files:
        table, lines = read_file(file)
        mended += lines
        tables.append((split, str(file), table))
    repairs = [Repair("unused_file", 1, file.name) for file in unused]
    if mended:
        repairs.append(Repair("characters", len(mended), mended[0][:60]))
    return tables, repairs
