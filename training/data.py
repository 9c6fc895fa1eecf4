"""Labelled messages for training: read, checked, repaired with a count, fingerprinted and split without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from training.leaks import near_duplicates
from training.sources import COLUMNS, read
from undertone.errors import DataError
from undertone.records import utc
from undertone.store import Store
from undertone.tasks import TaskSpec
from undertone.text import fingerprint, normalise, repair

MAX_CHARACTERS = 20_000

#: Shares of train, validation and holdout where the source does not name its splits.
SHARES = (0.70, 0.15, 0.15)


@dataclass(frozen=True, slots=True)
class Repair:
    """Something in the data that was mended or left out, and how often."""

    name: str
    count: int
    example: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Checked rows of all sources. Columns: message_id, text, label, channel, segment, sent_at, split."""

    rows: pd.DataFrame
    source: str
    synthetic: bool
    repairs: tuple[Repair, ...]


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to learn from, to choose by, and to report on. No text stands in two of them."""

    train: pd.DataFrame
    validation: pd.DataFrame
    holdout: pd.DataFrame
    source: str
    data_sha256: str
    rows: int
    synthetic: bool
    repairs: tuple[Repair, ...]
    newest_at: datetime | None

    def parts(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Name and rows of each split."""
        yield from (("train", self.train), ("validation", self.validation), ("holdout", self.holdout))


def load(
    source: str,
    spec: TaskSpec,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    store: Store | None = None,
    until: datetime | None = None,
) -> Table:
    """Read and check labelled messages for `spec`.

    Args:
        source: ``sample[:WEEKS]`` (synthetic), ``hf:NAME[:CONFIG][@REVISION]``, ``feedback`` (labels in `store`), a
            CSV, TSV, JSONL or Parquet file, or a folder of such files with train, val and test in their names; several
            joined by ``+``, the later winning where two label the same text.
        text_column: column with the message, where it has no usual name.
        label_column: column with the label, likewise.
        until: messages sent at or after this moment are left out.

    Raises:
        DataError: a source cannot be read, lacks a column, holds a label that `spec` does not have, or leaves
            too few rows of a class.
    """
    parts = [
        read(part, spec, text_column=text_column, label_column=label_column, store=store, until=until)
        for part in source.split("+")
    ]
    frame = pd.concat([part.frame.assign(order=number) for number, part in enumerate(parts)], ignore_index=True)
    repairs: list[Repair] = []
    frame = _drop(frame, _empty(frame["label"]), "unlabelled", repairs)
    frame["text"] = [_clean(text) for text in frame["text"]]
    frame = _drop(frame, frame["text"].str.strip() == "", "empty text", repairs)
    frame = _cut(frame, repairs)
    if until is not None:
        frame = _drop(frame, frame["sent_at"] >= pd.Timestamp(utc(until)), "sent after the cut-off", repairs)
    frame["label"] = _known(frame["label"], spec)
    frame = _drop(
        frame, frame.duplicated("message_id") & ~frame["message_id"].str.startswith("row-"), "repeated id", repairs
    )
    frame = _without_duplicates(frame, repairs)
    _require_classes(frame, spec, spec.min_rows_per_class, source)
    return Table(frame[list(COLUMNS)].reset_index(drop=True), source, any(p.synthetic for p in parts), tuple(repairs))


def split(table: Table, spec: TaskSpec, seed: int) -> Splits:
    """Divide the rows of `table` into train, validation and holdout.

    Splits that the source names are kept: a test file is the holdout; without one the validation file is, and
    validation is taken from the training rows, so that nothing is chosen on the rows that are reported. Other
    rows go 70/15/15 by a hash of seed and text: a row keeps its place when more rows come later. What nearly repeats a
    holdout text leaves train and validation; what nearly repeats a validation text leaves train.

    Raises:
        DataError: a class has too few rows in a split.
    """
    frame = table.rows.copy()
    named = set(frame["split"].dropna())
    keys = [_place(seed, text) for text in frame["text"]]
    frame["part"] = [
        _part(split_name if isinstance(split_name, str) else None, named, key)
        for split_name, key in zip(frame["split"], keys, strict=True)
    ]
    repairs = list(table.repairs)
    for part, others in (("holdout", ("train", "validation")), ("validation", ("train",))):
        frame = _without_leaks(frame, part, others, repairs)
    frame = frame.sort_values(["part", "text", "label"], kind="stable").reset_index(drop=True)
    parts = {name: frame[frame["part"] == name].drop(columns="part").reset_index(drop=True) for name in _PARTS}
    for name, rows in parts.items():
        _require_classes(
            rows, spec, spec.min_rows_per_class if name == "train" else 2, f"{name} split of {table.source}"
        )
    newest = frame["sent_at"].max()
    return Splits(
        train=parts["train"],
        validation=parts["validation"],
        holdout=parts["holdout"],
        source=table.source,
        data_sha256=fingerprint(frame[["part", "text", "label"]].itertuples(index=False, name=None)),
        rows=len(frame),
        synthetic=table.synthetic,
        repairs=tuple(repairs),
        newest_at=None if pd.isna(newest) else newest.to_pydatetime(),
    )


def summary(splits: Splits) -> str:
    """Rows by split and label and what was repaired, as Markdown."""
    labels = sorted(set(splits.train["label"]))
    lines = [f"| {splits.source} | {' | '.join(labels)} | all |", "| --- |" + " ---: |" * (len(labels) + 1)]
    for name, rows in splits.parts():
        counts = rows["label"].value_counts()
        lines.append(f"| {name} | {' | '.join(str(counts.get(label, 0)) for label in labels)} | {len(rows)} |")
    for item in splits.repairs:
        example = f" (for example {item.example!r})" if item.example else ""
        lines.append(f"- {item.name}: {item.count} rows{example}")
    if splits.synthetic:
        lines.append("- synthetic: these messages were generated, nobody wrote them")
    return "\n".join(lines)


_PARTS = ("train", "validation", "holdout")


def _clean(text: object) -> str:
    return repair(text[: MAX_CHARACTERS + 1]) if isinstance(text, str) else ""


def _empty(values: pd.Series) -> pd.Series:
    return values.isna() | (values.astype(str).str.strip() == "")


def _drop(frame: pd.DataFrame, which: pd.Series, name: str, repairs: list[Repair]) -> pd.DataFrame:
    count = int(which.sum())
    if not count:
        return frame
    repairs.append(Repair(name, count, str(frame.loc[which, "text"].iloc[0])[:60]))
    return frame[~which].reset_index(drop=True)


def _cut(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    long = frame["text"].str.len() > MAX_CHARACTERS
    if long.any():
        repairs.append(
            Repair(f"cut to {MAX_CHARACTERS:,} characters", int(long.sum()), frame.loc[long, "text"].iloc[0][:60])
        )
        frame["text"] = frame["text"].str[:MAX_CHARACTERS]
    return frame


def _known(labels: pd.Series, spec: TaskSpec) -> pd.Series:
    names = {_word(label): label for label in spec.labels}
    words = labels.map(_word)
    unknown = labels[~words.isin(list(names))]
    if len(unknown):
        counts = unknown.astype(str).value_counts()
        found = ", ".join(f"{value!r} ({count} rows)" for value, count in counts.head(5).items())
        raise DataError(
            f"labels of {spec.name}: {', '.join(spec.labels)}", found, "rename them, or name another --label-column"
        )
    return words.map(names)


def _word(label: object) -> str:
    return str(label).strip().lower().replace(" ", "_").replace("-", "_")


def _without_duplicates(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """One row per normalised text in each named split.

    A later source's row takes the place of an earlier one's; within one source, two labels for one text void both.
    """
    frame["key"] = [normalise(text) or text for text in frame["text"]]
    if frame["order"].nunique() > 1:
        groups = frame.groupby("key")
        frame["split"] = frame["split"].fillna(frame["key"].map(groups["split"].first()))
        last = frame["key"].map(groups["order"].max())
        frame = _drop(frame, frame["order"] < last, "replaced by a later source", repairs)
    frame["place"] = frame["split"].fillna("") + "\0" + frame["key"]
    labels = frame["place"].map(frame.groupby("place")["label"].nunique())
    frame = _drop(frame, labels > 1, "same text, different labels", repairs)
    # which of the equal rows stays must not depend on their order: the smallest text and id do
    ranked = frame.sort_values(["place", "text", "message_id"], kind="stable")
    return _drop(frame, ranked.duplicated("place").reindex(frame.index), "duplicate", repairs)


def _require_classes(frame: pd.DataFrame, spec: TaskSpec, least: int, where: str) -> None:
    counts = frame["label"].value_counts()
    short = [f"{label} ({counts.get(label, 0)} rows)" for label in spec.labels if counts.get(label, 0) < least]
    if short:
        raise DataError(f"at least {least} rows of every label in the {where}", ", ".join(short), "add labelled rows")


def _place(seed: int, text: str) -> float:
    """A fixed random number in [0, 1) for a text."""
    digest = hashlib.sha256(f"{seed}\0{normalise(text) or text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _part(name: str | None, named: set[str], key: float) -> str:
    if name is None:
        return "train" if key < SHARES[0] else "validation" if key < SHARES[0] + SHARES[1] else "holdout"
    if name == "test":
        return "holdout"
    if name == "val":
        return "validation" if "test" in named else "holdout"
    if {"test", "val"} <= named:
        return "train"
    if named == {"train"}:
        return _part(None, named, key)
    return "validation" if key < 0.1 else "train"


def _without_leaks(frame: pd.DataFrame, part: str, others: tuple[str, ...], repairs: list[Repair]) -> pd.DataFrame:
    inside = frame["part"].isin(others)
    hits = near_duplicates(frame.loc[inside, "text"].tolist(), frame.loc[frame["part"] == part, "text"].tolist())
    leaks = pd.Series(False, index=frame.index)
    leaks[inside] = hits
    return _drop(frame, leaks, f"nearly the same as a text in {part}", repairs)
