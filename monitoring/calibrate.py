"""Effect floors from a model's own healthy windows: `undertone drift calibrate`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from monitoring.signals import measure
from monitoring.windows import Window
from undertone.errors import DataError
from undertone.tasks import Floor, TaskSpec

#: The percentile of healthy effects that a floor is not below.
PERCENTILE = 99
#: An effect that is an area under a curve ends at 1: its floors stay below, so that a whole change still reaches them.
CEILINGS = {"embedding": 0.99, "text": 0.99}


@dataclass(frozen=True, slots=True)
class Calibration:
    """Floors of one model version.

    Attributes:
        floors: by signal, never below the policy's.
        healthy: by signal, the 99th percentile of the effect in healthy windows.
        rows: messages of a healthy window.
        resampled, stored: how many healthy windows were drawn from the reference, and how many read from the store.
    """

    floors: dict[str, Floor]
    healthy: dict[str, float]
    rows: int
    resampled: int
    stored: int


def calibrate(
    spec: TaskSpec,
    reference: Window,
    healthy: Sequence[Window] = (),
    *,
    rows: int = 1_000,
    draws: int = 30,
    seed: int = 0,
) -> Calibration:
    """Raise each floor to the 99th percentile of its effect in windows without drift.

    These are `draws` samples of `rows` from the reference, each against the rest of it (at most half of the reference,
    so that the rest stays the larger side), and `healthy`, windows of the store that a person vouches for, against the
    whole reference. Resamples hold sampling noise alone; what differs from week to week without being drift is in
    `healthy` only, so the percentiles of both are taken apart and the higher one counts. Of 30 windows the 99th
    percentile lies between the two highest effects (NumPy's linear rule), near the highest; of one it is that one.
    It takes some hundreds to tell it from the 98th. ``act`` and ``severe`` move up by as much as ``warn``.

    Raises:
        DataError: the reference has fewer than twice ``drift.min_rows`` rows and no healthy window was given.
    """
    taken = min(rows, reference.rows // 2)
    resampled = draws if taken >= spec.drift.min_rows else 0
    if not resampled and not healthy:
        raise DataError(
            f"a reference of at least {2 * spec.drift.min_rows} rows, or healthy windows",
            f"{reference.rows} rows and no healthy window",
            "name weeks that were healthy, or train on more rows so that the reference grows",
        )
    reached: dict[str, float] = {}
    for pairs in (_resamples(reference, taken, resampled, seed), ((reference, one) for one in healthy)):
        for name, effects in _effects(spec, pairs).items():
            highest = float(np.percentile(effects, PERCENTILE))
            reached[name] = max(reached.get(name, 0.0), highest)
    return Calibration(raised(spec.drift.floors, reached), reached, taken, resampled, len(healthy))


def raised(floors: Mapping[str, Floor], healthy: Mapping[str, float]) -> dict[str, Floor]:
    """`floors`, each moved up as a whole until ``warn`` is not below what healthy windows reach."""
    made = {}
    for name, floor in floors.items():
        # an effect that equals its floor counts, so a floor is just above what was healthy
        warn = max(floor.warn, float(np.nextafter(healthy.get(name, 0.0), np.inf)))
        limits = {"warn": warn} | {
            field: value + (warn - floor.warn)
            for field, value in (("act", floor.act), ("severe", floor.severe))
            if value is not None
        }
        ceiling = CEILINGS.get(name, np.inf)
        made[name] = Floor(**{field: min(value, ceiling) for field, value in limits.items()})
    return made


def _effects(spec: TaskSpec, pairs: Iterable[tuple[Window, Window]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for first, second in pairs:
        for signal in measure(first, second, spec, spec.drift.floors):
            found.setdefault(signal.name, []).append(signal.effect)
    return found


def _resamples(reference: Window, rows: int, draws: int, seed: int) -> Iterator[tuple[Window, Window]]:
    random = np.random.default_rng(seed)
    for _ in range(draws):
        order = random.permutation(reference.rows)
        yield reference.take(order[rows:]), reference.take(order[:rows])
