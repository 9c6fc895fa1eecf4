"""The true share of a label, from how often a model says it: corrected for the model's errors, with a 95 % band.

A model that takes label i for label j with chance C[i, j] says j with share q = Cᵀ p where p are the true shares; so
p = (Cᵀ)⁻¹ q: the adjusted count of Rogan and Gladen (1978, https://doi.org/10.1093/oxfordjournals.aje.a112510) and
Forman (2008, https://doi.org/10.1007/s10618-008-0097-y), for any number of labels. C and q are known from counts alone,
so both are drawn from their Dirichlet posteriors; the band is the middle 95 % of what the draws come to. A draw that is
no share is moved to the nearest shares (Duchi and others, 2008, https://doi.org/10.1145/1390156.1390191).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Where the counts of a model's errors come from: audits of what it served, its holdout, either by version, or nowhere.
ErrorSource = Literal["audit", "holdout", "mixed", "none"]

#: Fewer messages are not estimated.
MIN_ROWS = 30
#: A band that is wider says nothing.
WIDEST = 0.5
#: Ends of the band.
BAND = (0.025, 0.975)
DRAWS = 1_000
SEED = 7

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What share of messages truly has a label.

    Attributes:
        rows: messages.
        observed: share that the model gave the label; None: no message.
        share: corrected for the model's errors; None: too few to tell, and `lacking` says of what.
        low: lower end of the 95 % band; None with `share`.
        high: upper end of the 95 % band; None with `share`.
        lacking: what there is too little of, in words for a reader; empty where nothing is.
    """

    rows: int
    observed: float | None
    share: float | None
    low: float | None
    high: float | None
    lacking: str = ""

    @property
    def too_few(self) -> bool:
        """Whether there is too little to tell."""
        return self.share is None


@dataclass(frozen=True, slots=True, eq=False)
class ErrorCounts:
    """What a version took for what: messages by true label (row) and predicted label (column)."""

    version: int
    source: Literal["audit", "holdout"]
    counts: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """Labelled messages."""
        return int(self.counts.sum())


class Corrections:
    """From what versions of a task's model say to what is true.

    Args:
        labels: of the task, in its order.
        errors: by version.
        draws: of each version's error rates; the same for every estimate, as one model makes them.
    """

    def __init__(
        self, labels: Sequence[str], errors: Mapping[int, ErrorCounts], draws: int = DRAWS, seed: int = SEED
    ) -> None:
        self.labels = tuple(labels)
        self.errors = dict(errors)
        self.draws = draws
        self.seed = seed
        self._plain: dict[int, Floats] = {}
        self._drawn: dict[int, Floats] = {}

    def rates(self, version: int) -> Floats:
        """Chances (true label, said label) by the error counts as they are."""
        counts = _prior(len(self.labels)) + self.errors[version].counts
        return np.asarray(counts / counts.sum(axis=1, keepdims=True))

    def plain(self, version: int) -> Floats:
        """The map (label, label) from said to true shares by the error counts as they are."""
        if version not in self._plain:
            self._plain[version] = _inverse(self.rates(version))
        return self._plain[version]

    def drawn(self, version: int) -> Floats:
        """That map, (draws, label, label), by error rates that the counts allow."""
        if version not in self._drawn:
            rng = np.random.default_rng((self.seed, version))
            rates = _dirichlet(rng, self.errors[version].counts, self.draws)
            self._drawn[version] = _inverse(rates)
        return self._drawn[version]

    def lacking(self, said: Mapping[int, NDArray[np.int64]]) -> str:
        """Why shares of these messages cannot be estimated, before it is tried; empty where they can."""
        rows = sum(int(counts.sum()) for counts in said.values())
        if rows < MIN_ROWS:
            return f"{rows} of {MIN_ROWS} messages"
        unknown = [version for version, counts in said.items() if counts.any() and version not in self.errors]
        if unknown:
            return f"no error counts of version {', '.join(map(str, sorted(unknown)))}"
        unseen = {
            label
            for version, counts in said.items()
            if counts.any()
            for label, row in zip(self.labels, self.errors[version].counts, strict=True)
            if not row.any()
        }
        return f"no labelled message of {', '.join(sorted(unseen))}" if unseen else ""

    def estimate(self, said: Mapping[int, NDArray[np.int64]]) -> dict[str, Estimate]:
        """Each label's share among messages, given how often each version said each label.

        Args:
            said: counts in the order of `labels`, by version.
        """
        return self.estimate_groups(said, {label: (label,) for label in self.labels})

    def estimate_groups(
        self, said: Mapping[int, NDArray[np.int64]], groups: Mapping[str, Sequence[str]]
    ) -> dict[str, Estimate]:
        """The share of messages that have one of a group's labels, by name of the group."""
        total = np.asarray(sum(said.values(), np.zeros(len(self.labels), dtype=np.int64)))
        rows = int(total.sum())
        members = {name: [self.labels.index(label) for label in labels] for name, labels in groups.items()}
        observed = {name: float(total[of].sum() / rows) if rows else None for name, of in members.items()}
        if words := self.lacking(said):
            return {name: Estimate(rows, seen, None, None, None, words) for name, seen in observed.items()}
        point, drawn = self._shares(said, rows)
        return {
            name: _told(rows, observed[name], point[of].sum(), drawn[:, of].sum(axis=1)) for name, of in members.items()
        }

    def _shares(self, said: Mapping[int, NDArray[np.int64]], rows: int) -> tuple[Floats, Floats]:
        """True shares, (labels,) by the counts as they are and (draws, labels)."""
        rng = np.random.default_rng((self.seed, rows))
        point, drawn = np.zeros(len(self.labels)), np.zeros((self.draws, len(self.labels)))
        for version, counts in said.items():
            weight = counts.sum() / rows
            if weight:
                point += weight * self.plain(version) @ (counts / counts.sum())
                shares = _dirichlet(rng, counts, self.draws)
                drawn += weight * np.einsum("dij,dj->di", self.drawn(version), shares)
        return onto_simplex(point[None])[0], onto_simplex(drawn)


def onto_simplex(points: Floats) -> Floats:
    """The nearest point with entries of at least 0 that sum to 1, for each row of (n, labels)."""
    ordered = -np.sort(-points, axis=1)
    excess = np.cumsum(ordered, axis=1) - 1
    kept = (ordered - excess / np.arange(1, points.shape[1] + 1) > 0).sum(axis=1)
    shift = excess[np.arange(len(points)), kept - 1] / kept
    return np.asarray(np.maximum(points - shift[:, None], 0.0))


def _told(rows: int, observed: float | None, share: float, drawn: Floats) -> Estimate:
    low, high = (float(end) for end in np.quantile(drawn, BAND))
    if high - low > WIDEST:
        words = f"a band of {100 * (high - low):.0f} points: more messages, or more labelled ones, make it narrower"
        return Estimate(rows, observed, None, None, None, words)
    return Estimate(rows, observed, float(np.clip(share, low, high)), low, high)


def _prior(labels: int) -> float:
    """Pseudo-count of each cell: one message in all for a row, so that rare labels are not drowned (Perks, 1947)."""
    return 1.0 / labels


def _dirichlet(rng: np.random.Generator, counts: NDArray[np.int64], draws: int) -> Floats:
    """Draws of shares given counts, over the last axis."""
    drawn = rng.standard_gamma(counts + _prior(counts.shape[-1]), size=(draws, *counts.shape))
    return np.asarray(drawn / drawn.sum(axis=-1, keepdims=True))


def _inverse(rates: Floats) -> Floats:
    """From said to true shares, of rates (…, true, said). A model that tells nothing apart gives huge entries."""
    transposed = np.swapaxes(rates, -1, -2)
    return np.asarray(np.linalg.inv(transposed + 1e-9 * np.eye(rates.shape[-1])))
