"""Texts that say the same: exact and near duplicates, within a table and across splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Jaccard similarity of word bigrams from which two texts count as nearly the same.
SIMILAR = 0.8

#: Shorter texts share bigrams by chance; only exact duplicates count for them.
MIN_WORDS = 5

_CHUNK = 500


def near_duplicates(candidates: Sequence[str], fixed: Sequence[str]) -> NDArray[np.bool_]:
    """Which of `candidates` say the same as one of `fixed`, or nearly.

    Both hold normalised texts (`training.repairs.text_key`). The same: equal. Nearly: a Jaccard index of their sets of
    word bigrams (Broder, 1997, *On the resemblance and containment of documents*) of at least 0.8, by sparse matrix
    products over hashed bigrams (2**22 slots).

    Returns:
        bool [len(candidates)].
    """
    same = set(fixed)
    found = np.array([text in same for text in candidates], dtype=np.bool_)
    rows = np.flatnonzero(~found & _long(candidates))
    others = [text for text, long in zip(fixed, _long(fixed), strict=True) if long]
    if not len(rows) or not others:
        return found
    left, right = _bigrams([candidates[int(row)] for row in rows]), _bigrams(others)
    left_sizes, right_sizes = np.asarray(left.sum(axis=1)).ravel(), np.asarray(right.sum(axis=1)).ravel()
    transposed = right.T.tocsr()
    for start in range(0, len(rows), _CHUNK):
        shared = (left[start : start + _CHUNK] @ transposed).tocoo()
        union = left_sizes[start + shared.row] + right_sizes[shared.col] - shared.data
        hits = np.unique(shared.row[shared.data >= SIMILAR * union])
        found[rows[start + hits]] = True
    return found


def _bigrams(texts: Sequence[str]) -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=2**22, ngram_range=(2, 2), binary=True, norm=None, alternate_sign=False, lowercase=False,
        token_pattern=r"\S+", dtype=np.float32,
    )  # fmt: skip
    return vectorizer.transform(texts)


def _long(texts: Sequence[str]) -> NDArray[np.bool_]:
    return np.array([len(text.split()) >= MIN_WORDS for text in texts], dtype=np.bool_)
