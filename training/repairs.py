"""What is mended or left out of labelled rows. Every repair is counted and shown; none is silent.

Which of several equal rows stays never depends on the order of the rows: the earliest sent one does, then the smallest.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from undertone.errors import DataError
from undertone.records import utc
from undertone.tasks import TaskSpec
from undertone.text import normalise, repair

MAX_CHARACTERS = 20_000

#: Name of each repair and what it says to a person.
MEANINGS = {
    "unused_file": "in the folder, with a name that tells no split; not read",
    "unused_split": "in a split that is neither train, validation nor test; left out",
    "text_removed": "labelled, but retention has removed the text; left out",
    "unlabelled": "without a label for this task; left out",
    "characters": "with control characters or broken Unicode; those were replaced",
    "cut": f"longer than {MAX_CHARACTERS:,} characters; cut",
    "empty_text": "without text; left out",
    "after_until": "sent at or after the cut-off; left out",
    "repeated_id": "with the id of another row of the same file; left out",
    "relabelled": "replaced by a person's feedback on the same message",
    "frozen": "feedback on a message of the frozen holdout; left out, the holdout keeps its label",
    "aged": "feedback that is too old for the recent holdout; left out of it, and never learned from",
    "suggested": "with a label that the model suggested; left out: not in a holdout, and capped in training",
    "other_labels": "of another file with other labels: a probe does worse on the reported file with them; left out",
    "conflict": "with the same text but different labels; all left out",
    "duplicate": "with a text that stands there already; left out",
    "leak": "with (nearly) the text of a holdout or validation row; left out of the split that learns",
}

_BLANK = re.compile(r"[\s\u00ad\u200b-\u200f\u2060\ufe0f\ufeff]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Repair:
    """Something in the data that was mended or left out, how often, and the first text it happened to."""

    name: str
    count: int
    example: str = ""


def text_key(text: str) -> str:
    """What makes two texts the same: their normalised form, or the text itself where that is empty (emoji only)."""
    return normalise(text) or text


def row_id(text: str) -> str:
    """An id for a row whose source has none: it follows from the text, so the order of the rows does not matter."""
    return f"row-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def drop(frame: pd.DataFrame, which: pd.Series, name: str, repairs: list[Repair]) -> pd.DataFrame:
    """`frame` without the rows marked in `which`; a repair called `name` is added where there are any."""
    count = int(which.sum())
    if not count:
        return frame
    repairs.append(Repair(name, count, _example(frame.loc[which, "text"])))
    return frame[~which].reset_index(drop=True)


def drop_unlabelled(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """Only rows with a label."""
    return drop(frame, frame["label"].isna(), "unlabelled", repairs)


def mend_texts(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """Rows with a text that every encoder can take, at most `MAX_CHARACTERS` long."""
    texts = [text if isinstance(text, str) else "" for text in frame["text"]]
    cut = [text[:MAX_CHARACTERS] for text in texts]
    for name, marks in (
        ("cut", [len(text) > MAX_CHARACTERS for text in texts]),
        ("characters", [_CONTROL.search(text) is not None for text in cut]),
    ):
        which = pd.Series(marks, index=frame.index, dtype=bool)
        if which.any():
            repairs.append(Repair(name, int(which.sum()), _example(frame.loc[which, "text"])))
    frame = frame.assign(text=pd.Series([repair(text) for text in cut], index=frame.index, dtype=object))
    empty = pd.Series([_BLANK.fullmatch(text) is not None for text in frame["text"]], index=frame.index, dtype=bool)
    return drop(frame, empty, "empty_text", repairs)


def drop_after(frame: pd.DataFrame, until: datetime | None, repairs: list[Repair]) -> pd.DataFrame:
    """Only rows sent before `until`, or at an unknown time."""
    if until is None:
        return frame
    return drop(frame, frame["sent_at"] >= pd.Timestamp(utc(until)), "after_until", repairs)


def known_labels(labels: pd.Series, spec: TaskSpec) -> pd.Series:
    """Labels as `spec` writes them; letter case, spaces and hyphens do not matter.

    Raises:
        DataError: there are others; names up to five with their counts.
    """
    names = {_word(label): label for label in spec.labels}
    words = labels.map(_word)
    unknown = labels[~words.isin(list(names))].astype(str)
    if len(unknown):
        counts = unknown.value_counts()
        found = ", ".join(f"{value!r} ({count} rows)" for value, count in counts.head(5).items())
        more = f" and {len(counts) - 5} more" if len(counts) > 5 else ""
        numbers = unknown.str.fullmatch(r"-?\d+").all()
        raise DataError(
            f"labels of {spec.name}: {', '.join(spec.labels)}",
            found + more,
            "write labels as words: this source does not say which class a number means"
            if numbers
            else "rename them, or name another --label-column",
        )
    return words.map(names)


def drop_repeated_ids(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """One row per id within each file. Ids of different files are not compared: both may count from 1."""
    with_id = frame[frame["own_id"]]
    ranked = with_id.sort_values(["sent_at", "text", "label"], kind="stable")
    repeated = ranked.duplicated(["file", "message_id"]).reindex(frame.index, fill_value=False)
    return drop(frame, repeated, "repeated_id", repairs)


def share_named_splits(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows without a named split take that of a row with the same text: a holdout text's copy stays in the holdout."""
    ranks = {"test": 0, "val": 1, "train": 2}
    named = frame.loc[frame["split"].notna(), ["key", "split"]]
    if named.empty or len(named) == len(frame):
        return frame
    named = named.assign(rank=named["split"].map(ranks)).sort_values("rank", kind="stable").drop_duplicates("key")
    shared = frame["key"].map(named.set_index("key")["split"])
    return frame.assign(split=frame["split"].astype(object).where(frame["split"].notna(), shared))


def prefer_independent(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """A label that the model suggested never stands against, or in place of, one that it did not."""
    told = frame["suggested"]
    return drop(frame, told & frame["key"].isin(frame.loc[~told, "key"]), "suggested", repairs)


def prefer_feedback(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """A person's feedback takes the place of other rows with its text, except in the frozen holdout.

    Rows of the holdout that are no feedback are never touched, neither text nor label: else the same figure would mean
    another thing from month to month. Feedback on such a message is left out altogether.
    """
    told = frame["feedback"]
    frozen = frame.loc[~told & (frame["part"] == "holdout"), "key"]
    frame = drop(frame, told & frame["key"].isin(frozen), "frozen", repairs)
    told = frame["feedback"]
    return drop(frame, ~told & frame["key"].isin(frame.loc[told, "key"]), "relabelled", repairs)


def drop_duplicates(frame: pd.DataFrame, repairs: list[Repair]) -> pd.DataFrame:
    """One row per text in each named split, feedback apart; texts with two labels go altogether.

    Nobody knows which of two labels is right.
    """
    place = ["split", "key", "feedback"]
    labels = frame.groupby(place, dropna=False)["label"].transform("nunique")
    frame = drop(frame, labels > 1, "conflict", repairs)
    ranked = frame.sort_values(["sent_at", "text", "message_id"], kind="stable")
    return drop(frame, ranked.duplicated(place).reindex(frame.index), "duplicate", repairs)


def require_classes(frame: pd.DataFrame, spec: TaskSpec, least: int, where: str) -> None:
    """Raise `DataError` unless every label of `spec` has at least `least` rows."""
    counts = frame["label"].value_counts()
    short = [f"{label} ({counts.get(label, 0)} rows)" for label in spec.labels if counts.get(label, 0) < least]
    if short:
        raise DataError(
            f"at least {least} rows of every label in {where}", ", ".join(short), "add labelled rows of these labels"
        )


def _example(texts: pd.Series) -> str:
    return next((repair(text[:60]) for text in texts if isinstance(text, str)), "")


def _word(label: object) -> str:
    return re.sub(r"[\s\-]+", "_", str(label).strip().lower())
