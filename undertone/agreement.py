"""How far two people give a message the same label: a model can hardly be better than its labels are."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: With fewer messages no interval is given: there are too few to tell.
FEWEST = 20

_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True, slots=True)
class Twice:
    """One message that two people labelled, neither knowing of the other's label.

    Attributes:
        item, second: numbers of the two items in the review queue.
        first_label: as it stood when the second label was given; a correction afterwards changes nothing here.
        same_guideline: both followed one version of the guideline.
    """

    item: int
    second: int
    message_id: str
    first_label: str
    second_label: str
    first_reviewer: str
    second_reviewer: str
    labelled_at: datetime
    same_guideline: bool = True


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of two labels a message.

    Attributes:
        rows: messages.
        observed: share of them with twice the same label; its interval is Wilson's (1927,
            https://doi.org/10.1080/01621459.1927.10502953).
        kappa: Cohen's; None: not defined, every label being the same one.
        kappa_interval: 95 %; None: fewer than `FEWEST` messages, no kappa, or one that says nothing because one of the
            two always gave the same label.
    """

    rows: int
    observed: float
    observed_interval: tuple[float, float]
    kappa: float | None
    kappa_interval: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """Agreement on one label.

    Attributes:
        given: times that it was given, by the first person and by the second one.
        both: messages on which both gave it.
        specific: ``2 both / given``, the chance that one person gives it where the other one does (Cicchetti and
            Feinstein, 1990, https://doi.org/10.1016/0895-4356(90)90159-M); None: nobody gave it.
        instead: what the other person said where only one gave it, most frequent first.
    """

    label: str
    given: int
    both: int
    specific: float | None
    instead: tuple[tuple[str, int], ...]


def agree(labels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Agreement | None:
    """Agreement of pairs of labels; None: there is no pair.

    Cohen's kappa (1960, https://doi.org/10.1177/001316446002000104) with the large-sample variance of Fleiss, Cohen and
    Everitt (1969, https://doi.org/10.1037/h0028106). Where all pairs agree that variance is zero, which no sample
    proves: then the lower end comes from the interval of the observed agreement, chance agreement being as observed.

    Args:
        labels: of the task; pairs with another one do not count.
        pairs: the first person's label and the second one's.
    """
    table = confusion(labels, pairs)
    rows = int(table.sum())
    if not rows:
        return None
    observed = float(np.trace(table) / rows)
    interval = wilson(int(np.trace(table)), rows)
    shares, first, second = table / rows, table.sum(axis=1) / rows, table.sum(axis=0) / rows
    by_chance = float(first @ second)
    if by_chance >= 1 - 1e-12:
        return Agreement(rows, observed, interval, None, None)
    kappa = (observed - by_chance) / (1 - by_chance)
    if rows < FEWEST:
        return Agreement(rows, observed, interval, kappa, None)
    if observed == 1:
        low = (interval[0] - by_chance) / (1 - by_chance)
        return Agreement(rows, observed, interval, kappa, (max(low, -1.0), 1.0))
    right = float((np.diag(shares) * (1 - (first + second) * (1 - kappa)) ** 2).sum())
    crossed = shares * (second[:, None] + first[None, :]) ** 2
    wrong = (1 - kappa) ** 2 * float(crossed.sum() - np.trace(crossed))
    variance = (right + wrong - (kappa - by_chance * (1 - kappa)) ** 2) / ((1 - by_chance) ** 2 * rows)
    if variance < 1e-12:  # one of the two gave everything the same label: kappa is 0 whatever the other one said
        return Agreement(rows, observed, interval, kappa, None)
    reach = _Z * math.sqrt(variance)
    return Agreement(rows, observed, interval, kappa, (max(kappa - reach, -1.0), min(kappa + reach, 1.0)))


def agree_by_label(labels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[LabelAgreement]:
    """Agreement on each of `labels`, in their order."""
    table = confusion(labels, pairs)
    found = []
    for place, label in enumerate(labels):
        given, both = int(table[place].sum() + table[:, place].sum()), int(table[place, place])
        others = {other: int(table[place, n] + table[n, place]) for n, other in enumerate(labels) if n != place}
        instead = sorted(((name, count) for name, count in others.items() if count), key=lambda one: (-one[1], one[0]))
        found.append(LabelAgreement(label, given, both, 2 * both / given if given else None, tuple(instead)))
    return found


def by_people(twice: Sequence[Twice]) -> Mapping[tuple[str, str], list[tuple[str, str]]]:
    """Pairs of labels by the two people who gave them, in order of their names, whoever was first."""
    found: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for one in twice:
        sides = sorted([(one.first_reviewer, one.first_label), (one.second_reviewer, one.second_label)])
        found[sides[0][0], sides[1][0]].append((sides[0][1], sides[1][1]))
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def confusion(labels: Sequence[str], pairs: Sequence[tuple[str, str]]) -> NDArray[np.int64]:
    """Counts [first label, second label]."""
    index = {label: place for place, label in enumerate(labels)}
    table = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for first, second in pairs:
        if first in index and second in index:
            table[index[first], index[second]] += 1
    return table


def wilson(hits: int, rows: int) -> tuple[float, float]:
    """95 % interval of a share."""
    share, weight = hits / rows, _Z**2 / rows
    middle = (share + weight / 2) / (1 + weight)
    reach = _Z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)
