"""Subscription-upsell candidates: customers who are unhappy with paying per use, with the messages that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from insights.counts import Said, corrections, read_counts, view, within
from insights.estimate import Corrections, Estimate, Floats
from insights.examples import Example, examples_of
from insights.period import Period
from undertone.errors import ConfigError
from undertone.store import Store
from undertone.tasks import TaskSpec, get_task

#: Segments of customers without a subscription.
SEGMENTS = ("pay_per_use", "pay-per-use")
NEGATIVE = ("negative",)
#: What all other segments are called together.
OTHERS = "others"
#: Fewer customers do not tell what is usual among them.
MIN_CUSTOMERS = 10
#: Chance that a customer's share is below its lower bound.
LOW = 0.05

_GRID = (np.arange(200) + 0.5) / 200
#: Weights of a segment's share beside a customer's own messages, in messages; the likeliest is taken.
_STRENGTHS = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A customer to talk to.

    Attributes:
        messages: that the customer sent in the period.
        negative: of these, how many the model took for one of the negative labels.
        share: expected true share of negative ones, drawn towards the segment's where messages are few.
        low: lower bound of it (one-sided 95 %), by which candidates are ranked.
        evidence: the customer's negative messages, newest first.
    """

    customer_id: str
    segment: str
    messages: int
    negative: int
    share: float
    low: float
    evidence: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class UpsellSegment:
    """One segment: how its messages are, beside everybody else's. ``customers`` of the others are not counted."""

    segment: str
    customers: int | None
    messages: int
    negative: Estimate


@dataclass(frozen=True, slots=True)
class Upsell:
    """Candidates of a period.

    Attributes:
        segments: those asked for, and all others as one with the name "others".
        candidates: by `Candidate.low`, highest first; only customers whose bound is above their segment's share.
        customers: of the segments asked for.
        anonymous: messages of these segments that name no customer.
        lacking: what there is too little of to name candidates, in words; empty where nothing is.
    """

    task: str
    labels: tuple[str, ...]
    period: Period
    segments: tuple[UpsellSegment, ...]
    candidates: tuple[Candidate, ...]
    customers: int
    anonymous: int
    lacking: str = ""


def upsell(
    store: Store,
    period: Period,
    *,
    segments: Sequence[str] = SEGMENTS,
    task: str = "sentiment",
    labels: Sequence[str] = NEGATIVE,
    most: int = 50,
    evidence: int = 5,
) -> Upsell:
    """Customers of `segments` who are unhappy more often than their segment, and surely so.

    Args:
        most: candidates at most.
        evidence: messages of each candidate at most.

    Raises:
        ConfigError: no such task or label.
        StoreError: the store is out of reach.
    """
    spec = get_task(task)
    if unknown := [label for label in labels if label not in spec.labels] or not labels:
        raise ConfigError(f"labels of {task}: {', '.join(spec.labels)}", str(unknown or "none"), "name one of them")
    corrected = corrections(store, spec)
    counts = read_counts(store, spec, period, ("segment",), steps=False)
    there = [name for name in counts.largest("segment", len(counts.rows)) if name is not None and name in segments]
    parts = {name: np.asarray(counts.values["segment"] == name, dtype=np.bool_) for name in there}
    parts[OTHERS] = ~np.isin(counts.values["segment"].astype(str), there)
    shares = {
        name: corrected.estimate_groups(counts.said(where), {"any": labels})["any"] for name, where in parts.items()
    }
    customers, anonymous = _customers(store, spec, period, segments)
    of_segment = {name: [item for item in customers if item.segment == name] for name in parts}
    told = tuple(
        UpsellSegment(name, len(of_segment[name]) if name != OTHERS else None, share.rows, share)
        for name, share in shares.items()
    )
    found: list[Candidate] = []
    for name, share in shares.items():
        if name != OTHERS and share.share is not None:
            chances = _chances(corrected, spec, counts.said(parts[name]), labels)
            found += _rank(of_segment[name], chances, spec, labels, share.share)
    found.sort(key=lambda item: (-item.low, -item.messages, item.customer_id))
    lacking = _lacking(customers, {name: share for name, share in shares.items() if name != OTHERS}, segments)
    chosen = [] if lacking else _with_evidence(store, spec, period, segments, labels, found[:most], evidence)
    return Upsell(task, tuple(labels), period, told, tuple(chosen), len(customers), anonymous, lacking)


@dataclass(frozen=True, slots=True, eq=False)
class _Customer:
    """What the model said of one customer's messages: label counts by version."""

    customer_id: str
    segment: str
    said: Said


def _customers(store: Store, spec: TaskSpec, period: Period, segments: Sequence[str]) -> tuple[list[_Customer], int]:
    """Customers of these segments, each in the one where it wrote most, and how many messages name none."""
    table = view(store, "predictions")
    keys = table.c.customer_id, table.c.segment, table.c.model_version, table.c.label
    query = (
        select(*keys, func.count().label("messages"))
        .where(table.c.task == spec.name, table.c.segment.in_(segments), *within(table, period))
        .group_by(*keys)
    )
    index, anonymous = spec.label_index(), 0
    said: dict[str, Said] = {}
    places: dict[str, Counter[str]] = {}
    with store.reading() as connection:
        for customer, segment, version, label, messages in connection.execute(query):
            if customer is None:
                anonymous += messages
            elif label in index:
                counts = said.setdefault(customer, {}).setdefault(version, np.zeros(len(index), dtype=np.int64))
                counts[index[label]] += messages
                places.setdefault(customer, Counter())[segment] += messages
    return [_Customer(name, _home(places[name]), said[name]) for name in sorted(said)], anonymous


def _home(places: Counter[str]) -> str:
    return min(places, key=lambda segment: (-places[segment], segment))


def _chances(
    corrected: Corrections, spec: TaskSpec, said: Said, labels: Sequence[str]
) -> dict[int, tuple[Floats, Floats]]:
    """By version: chances (labels,) of what it says of a message that has one of `labels`, and of one that has not."""
    names = {label: (label,) for label in spec.labels}
    shares = np.array([item.share or 0.0 for item in corrected.estimate_groups(said, names).values()])
    inside = np.isin(spec.labels, list(labels))
    found = {}
    for version in said:
        rates = corrected.rates(version)
        found[version] = _mixed(rates, shares * inside, inside), _mixed(rates, shares * ~inside, ~inside)
    return found


def _mixed(rates: Floats, shares: Floats, part: NDArray[np.bool_]) -> Floats:
    weights = shares / shares.sum() if shares.sum() > 0 else part / part.sum()
    return np.asarray(weights @ rates)


def _rank(
    customers: Sequence[_Customer],
    chances: dict[int, tuple[Floats, Floats]],
    spec: TaskSpec,
    labels: Sequence[str],
    mean: float,
) -> list[Candidate]:
    """Customers whose share is surely above `mean`, their segment's.

    A customer's share has a beta prior around the segment's, as concentrated as the customers' own counts say; what the
    model said of the customer's messages moves it, with the model's errors in the likelihood.
    """
    if not customers:
        return []
    versions = sorted(chances)
    none = np.zeros(len(spec.labels), dtype=np.int64)
    table = np.stack([np.concatenate([item.said.get(version, none) for version in versions]) for item in customers])
    kinds, kind_of, sizes = np.unique(table, axis=0, return_inverse=True, return_counts=True)
    inside, outside = (np.concatenate([chances[version][i] for version in versions]) for i in (0, 1))
    logs = np.log(np.outer(_GRID, inside) + np.outer(1 - _GRID, outside))
    likelihood = kinds @ logs.T
    likelihood = np.exp(likelihood - likelihood.max(axis=1, keepdims=True))
    priors = [_beta(np.clip(mean, 0.01, 0.99), strength) for strength in _STRENGTHS]
    fits = [float(sizes @ np.log(likelihood @ prior)) for prior in priors]
    posterior = likelihood * priors[int(np.argmax(fits))]
    posterior /= posterior.sum(axis=1, keepdims=True)
    shares = posterior @ _GRID
    lows = _GRID[(posterior.cumsum(axis=1) >= LOW).argmax(axis=1)]
    inside_columns = np.tile(np.isin(spec.labels, list(labels)), len(versions))
    return [
        Candidate(
            customer.customer_id,
            customer.segment,
            int(counts.sum()),
            int(counts[inside_columns].sum()),
            float(shares[kind]),
            float(lows[kind]),
            (),
        )
        for customer, counts, kind in zip(customers, table, kind_of.ravel(), strict=True)
        if lows[kind] > mean
    ]


def _beta(mean: float, strength: float) -> Floats:
    """Weights over `_GRID` of a beta distribution with that mean and the weight of so many messages."""
    logs = (mean * strength - 1) * np.log(_GRID) + ((1 - mean) * strength - 1) * np.log1p(-_GRID)
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _lacking(customers: Sequence[_Customer], shares: Mapping[str, Estimate], segments: Sequence[str]) -> str:
    if not shares:
        return f"no message of segment {' or '.join(segments)}"
    if len(customers) < MIN_CUSTOMERS:
        return f"{len(customers)} of {MIN_CUSTOMERS} customers"
    words = [f"{name}: {share.lacking}" for name, share in shares.items() if share.too_few]
    return "; ".join(words) if len(words) == len(shares) else ""


def _with_evidence(
    store: Store,
    spec: TaskSpec,
    period: Period,
    segments: Sequence[str],
    labels: Sequence[str],
    found: Sequence[Candidate],
    most: int,
) -> list[Candidate]:
    """Candidates with the newest messages that make them so."""
    table = view(store, "predictions")
    place = func.row_number().over(
        partition_by=table.c.customer_id, order_by=(table.c.event_at.desc(), table.c.message_id)
    )
    ranked = (
        select(table.c.customer_id, table.c.message_id, place.label("place"))
        .where(
            table.c.task == spec.name,
            table.c.label.in_(labels),
            table.c.segment.in_(segments),
            table.c.customer_id.in_([item.customer_id for item in found]),
            *within(table, period),
        )
        .subquery()
    )
    query = select(ranked.c.customer_id, ranked.c.message_id).where(ranked.c.place <= most).order_by(ranked.c.place)
    with store.reading() as connection:
        rows = connection.execute(query).all()
    examples = {item.message_id: item for item in examples_of(store, [row.message_id for row in rows])}
    shown: dict[str, list[Example]] = {}
    for customer, message in rows:
        if message in examples:
            shown.setdefault(customer, []).append(examples[message])
    return [replace(item, evidence=tuple(shown.get(item.customer_id, ()))) for item in found]
