"""From a source's own columns to ours: which column is the text, the label, the time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from undertone.errors import DataError
from undertone.tasks import TaskSpec

#: Columns of a table of labelled messages.
COLUMNS = (
    *("message_id", "text", "label", "channel", "segment", "sent_at", "split"),
    #: a person's label on a scored message; when it was sent (labelled, where that is unknown); suggested by the model
    *("feedback", "told_at", "suggested"),
)

TEXT = ("text", "message", "body", "content", "tweet", "sentence")
TIME = ("sent_at", "created_at", "timestamp", "time")


def arrange(
    frame: pd.DataFrame, spec: TaskSpec, where: str, *, text_column: str | None = None, label_column: str | None = None
) -> pd.DataFrame:
    """`frame` with the columns of `COLUMNS` (ids and splits may be None), others dropped.

    Args:
        where: the source, for messages.
        text_column: the text's column; None: the first of `TEXT` that is there.
        label_column: the label's column; None: `label`, the task's name, the spec's own column, `target` or `class`.

    Raises:
        DataError: text or label has no column, a text is no string, or a time is none.
    """
    texts = texts_of(frame, where, text_column)
    usual = ("label", spec.name, *((spec.label_column,) if spec.label_column else ()), "target", "class")
    label = _pick(frame, (label_column,) if label_column else usual, "--label-column", where)
    made = pd.DataFrame(index=frame.index)
    made["message_id"] = _words(_first(frame, ("message_id", "id")))
    made["text"] = texts
    made["label"] = _words(frame[label])
    made["channel"] = _words(_first(frame, ("channel",)))
    made["segment"] = _words(_first(frame, ("segment",)))
    made["sent_at"] = _times(_first(frame, TIME), where)
    made["split"] = pd.Series(None, index=frame.index, dtype=object)
    made["feedback"] = False
    made["told_at"] = pd.Series(pd.NaT, index=frame.index, dtype="datetime64[us, UTC]")
    made["suggested"] = False
    return made.reset_index(drop=True)


def texts_of(frame: pd.DataFrame, where: str, text_column: str | None = None) -> pd.Series:
    """The column with the messages, checked.

    Raises:
        DataError: there is none, or a value is no string.
    """
    return _texts(frame[_pick(frame, (text_column,) if text_column else TEXT, "--text-column", where)], where)


def name_classes(frame: pd.DataFrame, features: Any) -> pd.DataFrame:
    """`frame` with class numbers as names, where the source names its classes; -1 (hidden labels) becomes None."""
    for column, feature in features.items():
        names = getattr(feature, "names", None)
        if names:
            numbers = frame[column]
            named = [names[int(n)] if pd.notna(n) and 0 <= n < len(names) else None for n in numbers]
            frame[column] = pd.Series(named, index=frame.index, dtype=object)
    return frame


def _find(frame: pd.DataFrame, names: Sequence[str]) -> Any | None:
    """The first of `names` among the columns, as written or else in other letter case."""
    for name in names:
        if name in frame.columns:
            return name
        for column in frame.columns:
            if str(column).strip().lower() == name.lower():
                return column
    return None


def _pick(frame: pd.DataFrame, names: Sequence[str], option: str, where: str) -> Any:
    found = _find(frame, names)
    if found is None:
        raise DataError(
            f"a column {' or '.join(repr(name) for name in names)} in {where}",
            f"the columns {', '.join(map(str, frame.columns)) or '(none)'}",
            f"name it with {option}",
        )
    return found


def _first(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series:
    found = _find(frame, names)
    return pd.Series(None, index=frame.index, dtype=object) if found is None else frame[found]


def _words(values: pd.Series) -> pd.Series:
    """Each value as a word without blanks around it; None where there is none."""
    return pd.Series([_word(value) for value in values], index=values.index, dtype=object)


def _word(value: object) -> str | None:
    if _missing(value):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # a column of whole numbers with gaps arrives as floats
    return str(value).strip() or None


def _missing(value: Any) -> bool:
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _texts(values: pd.Series, where: str) -> pd.Series:
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str) and not _missing(value):
            raise DataError(
                f"text in the column {values.name!r} of {where}",
                f"{type(value).__name__} {str(value)[:40]!r} in row {number}",
                "write it as text, or name another --text-column",
            )
    return values.astype(object)


def _times(values: pd.Series, where: str) -> pd.Series:
    """UTC times from ISO 8601 (without a zone: UTC) or from numbers since 1970, whose size tells their unit."""
    if isinstance(values.dtype, pd.DatetimeTZDtype) or pd.api.types.is_datetime64_dtype(values):
        return pd.to_datetime(values, utc=True).dt.as_unit("us")
    words = _words(values)
    given = words.dropna().astype(str)
    if len(given) and given.str.fullmatch(r"\d{9,19}(\.\d+)?").all():
        numbers = pd.to_numeric(words, errors="coerce")
        size = float(numbers.max())
        unit = "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"
        times = pd.to_datetime(numbers, unit=unit, utc=True, errors="coerce")  # type: ignore[call-overload]
    else:
        times = pd.to_datetime(words, format="ISO8601", utc=True, errors="coerce")
    wrong = times.isna() & words.notna()
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise DataError(
            f"times in ISO 8601 (2026-09-07T08:30:00Z) in the column {values.name!r} of {where}",
            f"{words.iloc[row]!r} in row {row + 1}",
            "mend it, or rename the column if it is not the time the message was sent",
        )
    moments: pd.Series = times.dt.as_unit("us")
    return moments
