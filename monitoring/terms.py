"""Which words a window has more or less of than the reference, from shares of messages; nobody's text is kept.

Log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn, 2008, https://doi.org/10.1093/pan/mpn018),
on the number of messages that a word stands in: one long message does not make a word common.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.stats import false_discovery_control, norm

from undertone.model_folder import TERM_ROWS
from undertone.text import terms

#: Weight of the prior, in messages.
PRIOR = 100
#: Share of the named words that chance may have put there (Benjamini and Hochberg, 1995); where no word changed, the
#: chance that any is named.
LEVEL = 0.05


class Shares(Protocol):
    """What `monitoring.windows.ReferenceTerms` has: how many rows, and each word's share of them."""

    @property
    def rows(self) -> int:
        """Messages of the reference."""

    @property
    def shares(self) -> dict[str, float]:
        """Share of rows that a word stands in, for words of `TERM_ROWS` rows and more."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word that became more or less common.

    Attributes:
        before: share of the reference's messages that it stands in; 0.0: fewer than `TERM_ROWS` messages, or none.
        now: share of the window's messages.
        z: standard errors that the log-odds ratio lies from zero; positive: more common now.
    """

    term: str
    before: float
    now: float
    z: float


def changed(reference: Shares, texts: Sequence[str], limit: int = 12) -> tuple[Term, ...]:
    """The words that changed most and beyond chance: at most `limit` that rose, then at most `limit` that fell.

    A word that the reference does not name counts as one of ``TERM_ROWS - 1`` rows there, so that it must be clearly
    new; words in fewer than `TERM_ROWS` messages of the window are named only if the reference names them.
    """
    if not texts or not reference.rows:
        return ()
    counts = Counter(word for text in texts for word in terms(text))
    words = sorted(set(reference.shares) | {word for word, count in counts.items() if count >= TERM_ROWS})
    if not words:
        return ()
    scores = []
    for word in words:
        before = reference.shares.get(word, 0.0)
        seen = before * reference.rows if before else min(TERM_ROWS - 1, reference.rows)
        scores.append(_z(counts[word], len(texts), seen, reference.rows))
    adjusted = false_discovery_control(2 * norm.sf(np.abs(scores)))
    found = [
        Term(word, reference.shares.get(word, 0.0), counts[word] / len(texts), z)
        for word, z, p_value in zip(words, scores, adjusted, strict=True)
        if p_value < LEVEL
    ]
    found.sort(key=lambda term: (-abs(term.z), term.term))
    rose, fell = [term for term in found if term.z > 0], [term for term in found if term.z < 0]
    return (*rose[:limit], *fell[:limit])


def _z(now: float, rows_now: int, before: float, rows_before: int) -> float:
    """The paper's z-score; the prior is the pooled share with the weight of `PRIOR` messages.

    The variance has its four terms: a word's share of messages is not small, as its share of all words is.
    """
    share = (now + before) / (rows_now + rows_before)
    yes, no = PRIOR * share, PRIOR * (1 - share)
    # a word of every message leaves nothing on the side without it: half a message stands there
    a, b, c, d = (max(x, 0.5) for x in (now + yes, rows_now - now + no, before + yes, rows_before - before + no))
    return (math.log(a / b) - math.log(c / d)) / math.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
