"""Labelled messages for training: read, checked, repaired with a count, fingerprinted and split without leaks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from training import other_files
from training import repairs as mend
from training.columns import COLUMNS
from training.feedback import FEEDBACK, FeedbackPolicy, beyond_cap, is_aged, newest_feedback, weigh
from training.leaks import near_duplicates
from training.repairs import MEANINGS, Repair, require_classes, row_id, text_key
from training.sources import have_splits, parts, read
from undertone.store import Store
from undertone.tasks import TaskSpec
from undertone.text import fingerprint

__all__ = ["SHARES", "Repair", "Splits", "Table", "load", "split", "summary"]

#: Shares of train, validation and holdout where the source does not name its splits.
SHARES = (0.70, 0.15, 0.15)

#: Share of the training rows that becomes validation where the source names a holdout but no validation.
CARVED = 0.10

_PARTS = ("train", "validation", "holdout")


@dataclass(frozen=True, slots=True)
class Table:
    """Checked rows of all sources, columns as in `training.columns.COLUMNS`.

    A text stands once in each named split, and once more among the feedback.
    """

    rows: pd.DataFrame
    source: str
    synthetic: bool
    repairs: tuple[Repair, ...]


@dataclass(frozen=True, slots=True)
class Splits:
    """Rows to learn from, to choose by, and to report on. No text stands in two of them.

    Rows of `train` have a ``weight``; those of `holdout` say in ``holdout`` whether they are ``frozen`` or ``recent``.
    """

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
    rows_until: datetime | None = None,
) -> Table:
    """Read and check labelled messages for `spec`.

    Args:
        source: ``sample[:WEEKS]`` (synthetic), ``hf:NAME[:CONFIG][@REVISION]``, ``feedback`` (labels in `store`), a
            CSV, TSV, JSONL or Parquet file, or a folder of such files with train, val and test in their names; several
            joined by ``+``, where train.csv and val.csv are splits as in a folder. Feedback wins over other rows with
            the same text (`split`). Training files beside the one reported on stay where they help
            (`training.other_files`).
        text_column: column with the message, where it has no usual name.
        label_column: column with the label, likewise.
        until: labels that people gave after this moment are left out, and messages sent at or after it.
        rows_until: so are messages sent at or after this earlier moment.

    Raises:
        DataError: a source cannot be read, lacks a column, holds a label that `spec` does not have, or leaves
            too few rows of a class.
    """
    named = parts(source)
    raw = [
        read(
            part,
            spec,
            text_column=text_column,
            label_column=label_column,
            store=store,
            until=until,
            splits=have_splits(named),
        )
        for part in named
    ]
    repairs = [item for part in raw for item in part.repairs]
    frame = pd.concat([part.frame for part in raw], ignore_index=True).astype({"feedback": bool, "suggested": bool})
    frame = mend.drop_unlabelled(frame, repairs)
    frame = mend.mend_texts(frame, repairs)
    for moment in (until, rows_until):
        frame = mend.drop_after(frame, moment, repairs)
    frame["label"] = mend.known_labels(frame["label"], spec)
    frame["key"] = [text_key(text) for text in frame["text"]]
    frame["own_id"] = frame["message_id"].notna()
    frame["message_id"] = frame["message_id"].where(frame["own_id"], frame["text"].map(row_id))
    frame = mend.drop_repeated_ids(frame, repairs)
    frame = mend.share_named_splits(frame)
    frame = other_files.leave_out(frame, repairs)
    frame = mend.prefer_independent(frame, repairs)
    frame = mend.drop_duplicates(frame, repairs)
    require_classes(frame, spec, spec.min_rows_per_class, source)
    return Table(frame[list(COLUMNS)], source, any(part.synthetic for part in raw), _merged(repairs))


def split(table: Table, spec: TaskSpec, seed: int, policy: FeedbackPolicy = FEEDBACK) -> Splits:
    """Divide the rows of `table` into train, validation and holdout.

    Splits that the source names are kept: a test file is the holdout; without one the validation file is, and a tenth
    of the training rows becomes validation, so that nothing is chosen on the rows that are reported. Other rows (a
    source without named splits, or with train alone) go 70/15/15.

    A row's place follows from a hash of seed and normalised text alone. So every label is shared out alike (up to
    chance), the order of rows does not matter, and rows that come later never move a row to another split; they can
    only make one leave, as a leak or a conflict. What (nearly) repeats a holdout text leaves train and validation;
    what (nearly) repeats a validation text leaves train.

    The holdout has two parts. The *frozen* one is of rows that are no feedback; none leaves it, and feedback neither
    enters nor relabels it. The *recent* one is of feedback that the hash puts there; after ``policy.holdout_days`` a
    row leaves it, but is never learned from, so no champion of the same seed has trained on a row of either part.
    (A champion of another seed has: the comparison then errs on its side.) Labels that the model suggested go to train
    alone, capped (`training.feedback`).

    Raises:
        DataError: a class has too few rows in a split.
    """
    named = set(table.rows["split"].dropna())
    frame = table.rows.assign(key=[text_key(text) for text in table.rows["text"]])
    frame["part"] = [
        _part(name if isinstance(name, str) else None, named, _place(seed, key))
        for name, key in zip(frame["split"], frame["key"], strict=True)
    ]
    repairs, latest = list(table.repairs), newest_feedback(frame)
    frame = mend.prefer_feedback(frame, repairs)
    frame = mend.drop(frame, frame["suggested"] & (frame["part"] != "train"), "suggested", repairs)
    frame = mend.drop(frame, is_aged(frame, latest, policy) & (frame["part"] == "holdout"), "aged", repairs)
    for part, others in (("holdout", ("train", "validation")), ("validation", ("train",))):
        frame = _without_leaks(frame, part, others, repairs)
    frame = _capped(frame, seed, policy, repairs)
    frame = frame.assign(
        weight=np.where(frame["part"] == "train", weigh(frame, latest, policy), 1.0),
        holdout=np.where(frame["feedback"], "recent", "frozen"),
    )
    frame = frame.sort_values(["part", "text", "label"], kind="stable").reset_index(drop=True)
    rows = {name: frame[frame["part"] == name].drop(columns=_not_in(name)).reset_index(drop=True) for name in _PARTS}
    for name in _PARTS:
        least = spec.min_rows_per_class if name == "train" else 2
        require_classes(rows[name], spec, least, f"the {name} split of {table.source}")
    newest = frame["sent_at"].max()
    return Splits(
        train=rows["train"],
        validation=rows["validation"],
        holdout=rows["holdout"],
        source=table.source,
        data_sha256=fingerprint(_facts(frame)),
        rows=len(frame),
        synthetic=table.synthetic,
        repairs=_merged(repairs),
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
        lines.append(f"- {item.name}: {item.count:,} {MEANINGS.get(item.name, '')}{example}")
    if splits.synthetic:
        lines.append("- synthetic: these messages were generated, nobody wrote them")
    return "\n".join(lines)


def _merged(repairs: Iterable[Repair]) -> tuple[Repair, ...]:
    """One repair per name, with the sum of the counts and the first example."""
    found: dict[str, Repair] = {}
    for item in repairs:
        before = found.get(item.name, Repair(item.name, 0))
        found[item.name] = Repair(item.name, before.count + item.count, before.example or item.example)
    return tuple(found.values())


def _place(seed: int, key: str) -> float:
    """A fixed random number in [0, 1) for a normalised text."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _part(name: str | None, named: set[str], place: float) -> str:
    """The part for a row of the source's split `name`, where the sources name the splits `named`."""
    if name is None or named == {"train"}:
        return "train" if place < SHARES[0] else "validation" if place < SHARES[0] + SHARES[1] else "holdout"
    if name == "test":
        return "holdout"
    if name == "val":
        return "validation" if "test" in named else "holdout"
    return "validation" if place < CARVED and not {"test", "val"} <= named else "train"


def _capped(frame: pd.DataFrame, seed: int, policy: FeedbackPolicy, repairs: list[Repair]) -> pd.DataFrame:
    suggested, told = frame["suggested"].to_numpy(dtype=bool), frame["feedback"].to_numpy(dtype=bool)
    places = np.array([_place(seed, f"suggested {key}") for key in frame["key"]], dtype=np.float64)
    learned = told & (frame["part"] == "train").to_numpy(dtype=bool)
    gone = beyond_cap(suggested & learned, learned, places, policy.max_suggested)
    return mend.drop(frame, pd.Series(gone, index=frame.index), "suggested", repairs)


def _facts(frame: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    """What decides a training, row by row: split, text and label; for feedback what it weighs, too."""
    for part, text, label, told, weight in zip(
        frame["part"], frame["text"], frame["label"], frame["feedback"], frame["weight"], strict=True
    ):
        yield (part, text, label, f"{weight:.6f}") if told else (part, text, label)


def _not_in(part: str) -> list[str]:
    """Columns that a split's rows do not have."""
    return ["part", "key", *({"train": ["holdout"], "holdout": ["weight"]}.get(part, ["holdout", "weight"]))]


def _without_leaks(frame: pd.DataFrame, part: str, others: tuple[str, ...], repairs: list[Repair]) -> pd.DataFrame:
    inside = frame["part"].isin(others)
    leaks = pd.Series(False, index=frame.index)
    leaks[inside] = near_duplicates(frame.loc[inside, "key"].tolist(), frame.loc[frame["part"] == part, "key"].tolist())
    return mend.drop(frame, leaks, "leak", repairs)
