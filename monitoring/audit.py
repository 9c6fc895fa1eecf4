"""The label audit: how many random labels, which messages, and what the labels say of the model's answers."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from heapq import heappush, heappushpop
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.windows import Window
from undertone.audit_figures import FEWEST, RESAMPLES, counted, resampled, scores
from undertone.records import LEVELS, WARNINGS, DriftVerdict, LedgerEntry
from undertone.reviews import AuditedAnswer, Pick
from undertone.tasks import AuditPolicy, TaskSpec


@dataclass(frozen=True, slots=True)
class AuditResult:
    """What audited labels of one model version say, against its reference (the holdout it was registered with).

    Drops are reference minus audit, so a positive drop is a loss. The two intervals hold together: the chance that
    *either* lower end lies above the true drop is the policy's level (5 %), so that looking at both numbers finds no
    more drops by chance than looking at one. Each is a little wider than a two-sided 90 % interval.

    Attributes:
        rows: audited labels that count; `wanted` is what the power asked for.
        complete: `rows` reaches `wanted`; an audit that is not proves no drop, lest looking daily finds one by chance.
        confirmed: complete, and the lower end of the accuracy or the macro-F1 drop is above zero.
        first_at, newest_at: when the audited messages were labelled.
    """

    task: str
    version: int
    rows: int
    wanted: int
    complete: bool
    accuracy: float
    macro_f1: float
    reference_accuracy: float
    reference_macro_f1: float
    accuracy_drop: float
    accuracy_interval: tuple[float, float]
    macro_f1_drop: float
    macro_f1_interval: tuple[float, float]
    confirmed: bool
    first_at: datetime | None = None
    newest_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self) | {
            "accuracy_interval": list(self.accuracy_interval),
            "macro_f1_interval": list(self.macro_f1_interval),
            "first_at": self.first_at.isoformat() if self.first_at else None,
            "newest_at": self.newest_at.isoformat() if self.newest_at else None,
        }


def audit_size(policy: AuditPolicy, accuracy: float) -> int:
    """Labels that see a drop of ``policy.drop`` below `accuracy` with ``policy.power``, one-sided at ``policy.level``.

    The one-sample test of a proportion in its normal approximation (Fleiss, Levin and Paik, 2003, Statistical Methods
    for Rates and Proportions, chapter 2)::

        n = ((z(1 - level) * sqrt(p0 (1 - p0)) + z(power) * sqrt(p1 (1 - p1))) / (p0 - p1))²,  p1 = p0 - drop

    A drop of 6 points from 0.75 needs 338. The reference's own noise is left out here and is in the interval, so the
    power is a little less: 0.74 was measured with 360 labels against 3,000 (docs/how-to/label-an-audit.md).
    """
    before = min(max(accuracy, 0.0), 1.0)
    after = max(before - policy.drop, 0.0)
    noise = NormalDist().inv_cdf(1 - policy.level) * math.sqrt(before * (1 - before))
    noise += NormalDist().inv_cdf(policy.power) * math.sqrt(after * (1 - after))
    return max(FEWEST, math.ceil((noise / policy.drop) ** 2))


def opened(looks: Sequence[LedgerEntry], verdict: DriftVerdict | None, now: datetime) -> datetime | None:
    """When the incident began that an audit at `now` is about; audits drawn before it say nothing of it.

    An incident is a run of watches that warned, none later than one and a half windows after the one before. It counts
    from the first of them that reached its highest level: that all was well while a difference was small does not tell
    that all is well now that it is large.

    Args:
        looks: ledger rows of kind "drift" of one version, oldest first.
        verdict: of the watch at `now`, which the ledger does not have yet; None: it has.

    Returns:
        None where no watch ever warned.
    """
    warned: list[tuple[datetime, int, timedelta]] = []
    for row in looks:
        if row.payload.get("verdict") in WARNINGS and "window" in row.payload:
            start, end = map(datetime.fromisoformat, row.payload["window"])
            warned.append((row.at, LEVELS.index(row.payload.get("level", "none")), end - start))
    if verdict is not None and verdict.drifted:
        warned.append((now, LEVELS.index(verdict.level), verdict.window_end - verdict.window_start))
    if not warned:
        return None
    run = [warned[-1]]
    for look in reversed(warned[:-1]):
        if run[-1][0] - look[0] > 1.5 * run[-1][2]:
            break
        run.append(look)
    highest = max(level for _, level, _ in run)
    return min(at for at, level, _ in run if level == highest)


def draw(rows: Iterable[Mapping[Any, Any]], wanted: int, *, seed: int) -> list[Pick]:
    """At most `wanted` random rows, in proportion to each segment's share of them (largest remainder).

    One pass, which keeps at most `wanted` rows of a segment: a million rows may stream by. A row's luck is a hash of
    the seed and its id, so the draw is the same in any order of rows. Picks come in random order.

    Args:
        rows: with message_id, label (the model's answer) and segment; those without one are a stratum too.
        wanted: picks; all rows where there are no more.
        seed: of the draw.
    """
    counts: dict[str | None, int] = defaultdict(int)
    kept: dict[str | None, list[tuple[int, str, str]]] = defaultdict(list)  # heaps, the unluckiest on top
    for row in rows:
        stratum, identifier = row["segment"], row["message_id"]
        counts[stratum] += 1
        item = (-_luck(seed, identifier), identifier, row["label"])
        heap = kept[stratum]
        if len(heap) < wanted:
            heappush(heap, item)
        elif heap and item > heap[0]:
            heappushpop(heap, item)
    picks: list[tuple[int, str, Pick]] = []
    for stratum, share in _shares(counts, wanted).items():
        for negative, identifier, label in sorted(kept[stratum], reverse=True)[:share]:
            picks.append((-negative, identifier, Pick(identifier, stratum, counts[stratum] / share, label)))
    return [pick for _, _, pick in sorted(picks, key=lambda item: item[:2])]


def assess(
    spec: TaskSpec, reference: Window, answers: Sequence[AuditedAnswer], *, wanted: int, version: int, seed: int = 0
) -> AuditResult | None:
    """Accuracy and macro-F1 of audited answers, each standing for the messages of its weight, against the reference.

    Both sides are resampled 2,000 times: the reference's rows as a multinomial over its confusion matrix; audited rows
    within strata by the rescaled bootstrap of Rao and Wu (1988, https://doi.org/10.1080/01621459.1988.10478591), which
    knows the spread of small strata. The intervals are simultaneous percentile intervals (Beran, 1988,
    https://doi.org/10.1080/01621459.1988.10478649, in the form of one-sided ranks).

    Returns:
        None where nothing can be said: no audited label counts, or the reference has no true labels (models trained
        before version 0.2).
    """
    index = spec.label_index()
    kept = [answer for answer in answers if answer.label in index and answer.predicted in index]
    before = measured(spec, reference)
    if before is None or not kept:
        return None
    cells, weights, strata = counted(kept, index)
    labels = len(index)
    now = np.bincount(cells, weights, minlength=labels**2)
    points = scores(before.ravel(), labels) - scores(now, labels)
    intervals = np.array([[-1.0, 1.0], [-1.0, 1.0]])
    if len(kept) >= FEWEST:
        random = np.random.default_rng(seed)
        drawn = resampled(cells, weights, strata, labels, random)
        old = random.multinomial(int(before.sum()), before.ravel() / before.sum(), size=RESAMPLES)
        intervals = _together(scores(old, labels) - scores(drawn, labels), spec.audit.level)
    complete = len(kept) >= wanted
    accuracy, f1 = (float(value) for value in scores(now, labels))
    old_accuracy, old_f1 = (float(value) for value in scores(before.ravel(), labels))
    times = [answer.labelled_at for answer in kept]
    return AuditResult(
        task=spec.name,
        version=version,
        rows=len(kept),
        wanted=wanted,
        complete=complete,
        accuracy=accuracy,
        macro_f1=f1,
        reference_accuracy=old_accuracy,
        reference_macro_f1=old_f1,
        accuracy_drop=float(points[0]),
        accuracy_interval=(float(intervals[0, 0]), float(intervals[0, 1])),
        macro_f1_drop=float(points[1]),
        macro_f1_interval=(float(intervals[1, 0]), float(intervals[1, 1])),
        confirmed=complete and bool((intervals[:, 0] > 0).any()),
        first_at=min(times),
        newest_at=max(times),
    )


def measured(spec: TaskSpec, window: Window) -> NDArray[np.float64] | None:
    """Confusion matrix [true, predicted] of a window's rows with a true label; None where there is none."""
    index = spec.label_index()
    if "truth" not in window.frame:
        return None
    rows = window.frame[window.frame["truth"].isin(index) & window.frame["label"].isin(index)]
    if rows.empty:
        return None
    truth, label = rows["truth"].map(index).to_numpy(int), rows["label"].map(index).to_numpy(int)
    return confusion(truth, label, len(index))


def confusion(truth: NDArray[Any], label: NDArray[Any], labels: int) -> NDArray[np.float64]:
    """Counts [true, predicted] of class indices."""
    counts = np.bincount(truth * labels + label, minlength=labels**2)
    return counts.reshape(labels, labels).astype(np.float64)


def _luck(seed: int, identifier: str) -> int:
    data = f"{seed}:{identifier}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def _shares(counts: Mapping[str | None, int], wanted: int) -> dict[str | None, int]:
    """How many of `wanted` each stratum gets, by largest remainder; strata that get none are left out."""
    total = sum(counts.values())
    wanted = min(wanted, total)
    names = sorted(counts, key=lambda name: (name is not None, name or ""))
    shares = {name: wanted * counts[name] // total for name in names}
    by_remainder = sorted(names, key=lambda name: -(wanted * counts[name] % total))
    for name in by_remainder[: wanted - sum(shares.values())]:
        shares[name] += 1
    return {name: share for name, share in shares.items() if share}


def _together(drops: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Intervals [2, low and high] of resampled `drops` [resamples, 2].

    The share of resamples with any drop below its lower end is `level`, and so is that above the upper ends.
    """
    ranks = (drops.argsort(axis=0).argsort(axis=0) + 0.5) / len(drops)
    low = np.quantile(ranks.min(axis=1), level)
    high = np.quantile(ranks.max(axis=1), 1 - level)
    return np.stack([np.quantile(drops, low, axis=0), np.quantile(drops, high, axis=0)], axis=1)
