"""What happens to the messages of a window in `benchmarks.drift`, and windows made of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.drift_texts import ABROAD, CHANGED, SPEC, Scored
from monitoring.quality import Facts
from monitoring.windows import COLUMNS, WORDS, Window

REFERENCE_ROWS = 4_000
ABROAD_SHARE, SLANG_SHARE, REPEATED_SHARE = 0.5, 0.15, 0.30

#: Rows of a window, by number in the table of `Scored`.
Rows = NDArray[np.int64]


class Pool:
    """Messages of one model, divided by `seed` into a reference and the rest that windows are drawn from.

    A window holds no message twice (unless repetition is its scenario); two windows may share messages.
    """

    def __init__(self, scored: Scored, seed: int) -> None:
        self.scored, self.seed = scored, seed
        self.table = scored.table
        tweets = scored.numbers("tweet")
        generator = np.random.default_rng([seed, 1])
        self.reference_rows = np.sort(generator.choice(tweets[CHANGED:], REFERENCE_ROWS, replace=False))
        self.healthy = np.setdiff1d(tweets, self.reference_rows)
        self.truth = self.table["truth"].to_numpy(dtype=object)
        self.label = self.table["label"].to_numpy(dtype=object)
        self.segment = self.table["segment"].to_numpy(dtype=object)
        self.text = self.table["text"].to_numpy(dtype=object)
        frame = self.table.assign(origin=None)[list(COLUMNS)]
        for name in (*WORDS, "label", "message_id"):
            frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
        self._labelled = Window(frame, scored.embeddings, probabilities=scored.probabilities)
        blank = frame.assign(truth=pd.Series(None, index=frame.index, dtype=object))
        self._every = Window(blank, scored.embeddings, probabilities=scored.probabilities)

    def reference(self) -> Window:
        """The reference window, with its labels."""
        return self._labelled.take(self.reference_rows)

    def window(self, rows: Rows) -> Window:
        """`rows` as the watch would read them before anybody labelled one."""
        return self._every.take(rows)

    def facts(self, rows: Rows) -> Facts:
        """What gate 0 counts; four healthy windows of the same size went before."""
        texts = self.text[rows]
        empty = sum(not text.strip() for text in texts)
        return Facts(len(texts), empty, len(texts) - len(set(texts)), 0, (len(texts),) * 4, (0.0,) * 4)

    def accuracy(self, rows: Rows) -> float:
        """Share of right answers among the messages whose label is known (all but the foreign ones)."""
        known = rows[pd.notna(self.truth[rows])]
        return float((self.label[known] == self.truth[known]).mean()) if len(known) else float("nan")


Scenario = Callable[[Pool, int, np.random.Generator], Rows]


def quiet(pool: Pool, size: int, generator: np.random.Generator) -> Rows:
    """Tweets like the reference's."""
    return generator.choice(pool.healthy, size, replace=False)


def _mixed(kind: str, share: float) -> Scenario:
    """`share` of the messages are of `kind`."""

    def draw(pool: Pool, size: int, generator: np.random.Generator) -> Rows:
        count = round(size * share)
        others = generator.choice(pool.scored.numbers(kind), count, replace=False)
        return np.concatenate([quiet(pool, size - count, generator), others])

    return draw


def _prior(points: int) -> Scenario:
    """`points` percentage points of the messages are negative in place of positive, by their true label."""

    def draw(pool: Pool, size: int, generator: np.random.Generator) -> Rows:
        truth = pool.truth[pool.healthy]
        shares = {label: float((truth == label).mean()) for label in SPEC.labels}
        shares["negative"] += points / 100
        shares["positive"] -= points / 100
        counts = [round(size * shares[label]) for label in SPEC.labels[:-1]]
        counts.append(size - sum(counts))
        return np.concatenate(
            [
                generator.choice(pool.healthy[truth == label], count, replace=False)
                for label, count in zip(SPEC.labels, counts, strict=True)
            ]
        )

    return draw


def language(pool: Pool, size: int, generator: np.random.Generator) -> Rows:
    """Half of the messages of the segment `ABROAD` are foreign."""
    rows = quiet(pool, size, generator)
    inside = np.flatnonzero(pool.segment[rows] == ABROAD)
    turned = generator.choice(inside, round(len(inside) * ABROAD_SHARE), replace=False)
    rows[turned] = generator.choice(pool.scored.numbers("foreign"), len(turned), replace=False)
    return rows


def repeated(pool: Pool, size: int, generator: np.random.Generator) -> Rows:
    """An upstream sends messages twice: three in ten rows repeat another one."""
    count = round(size * REPEATED_SHARE)
    rows = quiet(pool, size - count, generator)
    return np.concatenate([rows, generator.choice(rows, count)])


SCENARIOS: dict[str, Scenario] = {
    "quiet": quiet,
    **{f"mix {share} %": _mixed("airline", share / 100) for share in (5, 10, 20, 40, 100)},
    **{f"prior {points} points": _prior(points) for points in (10, 20)},
    "slang": _mixed("slang", SLANG_SHARE),
    "language in one segment": language,
    "lower-cased": _mixed("lower", 1.0),
    "truncated": _mixed("cut", 1.0),
    "duplicated": repeated,
}
