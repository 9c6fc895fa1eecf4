"""Texts without their labels, for what needs none: the same sources as a training's, and the messages in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from training.columns import name_classes, texts_of
from training.repairs import Repair, mend_texts, text_key
from training.sample import generate_sample
from training.sources import parts, tables
from undertone.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from undertone.store import Store

#: The source that means every message in the store that retention has left.
MESSAGES = "messages"

_HELD_OUT = ("val", "test")


def read_texts(source: str, store: Store | None = None, *, text_column: str | None = None) -> list[str]:
    """Each text of `source` once, in order, mended as a training mends them.

    Files whose names say validation or test are left out, so that nothing has read what a model is judged on.

    Args:
        source: ``messages`` (those in `store`), ``sample``, ``hf:NAME``, a file or a folder; several joined by ``+``.
        text_column: column with the message, where it has no usual name.

    Raises:
        DataError: a source cannot be read, lacks a column, or no text is left.
    """
    frames = [frame for part in parts(source) for frame in _frames(part, store, text_column)]
    if not frames:
        raise DataError("texts to learn from", f"validation and test files alone in {source}", "name a training file")
    repairs: list[Repair] = []
    texts = mend_texts(pd.concat(frames, ignore_index=True), repairs)["text"]
    return texts[~texts.map(text_key).duplicated()].tolist()


def _frames(part: str, store: Store | None, text_column: str | None) -> Iterator[pd.DataFrame]:
    if part == MESSAGES:
        if store is None:
            raise DataError("a store to read messages from", "none", "run this through `undertone adapt`")
        yield pd.DataFrame({"text": list(store.texts())}, dtype=object)
    elif part == "sample":
        yield generate_sample()[["text"]]
    else:
        found, _ = tables(part, splits=True)
        for split, name, table in found:
            if split not in _HELD_OUT:
                frame = name_classes(table.to_pandas(), table.features)
                yield pd.DataFrame({"text": texts_of(frame, name, text_column).to_numpy()})
