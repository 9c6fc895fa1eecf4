"""Floors from healthy windows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.calibrate import calibrate, raised
from monitoring.drift import judge
from monitoring.windows import Window, window
from undertone.errors import DataError
from undertone.tasks import FLOORS, get_task

BASE = get_task("sentiment")
SPEC = BASE.model_copy(update={"drift": BASE.drift.model_copy(update={"min_rows": 100})})


def made(seed: int, rows: int = 300, stretch: float = 1.0) -> Window:
    random = np.random.default_rng(seed)
    return window(
        [
            {
                "label": SPEC.labels[index % 3],
                "probabilities": np.roll((0.6, 0.3, 0.1), index % 3),
                "length": length,
                "embedding": vector.tobytes(),
            }
            for index, (length, vector) in enumerate(
                zip(random.gamma(5, 20 * stretch, rows), random.normal(size=(rows, 8)).astype("<f2"), strict=True)
            )
        ],
        SPEC,
    )


def test_a_calm_reference_leaves_the_policys_floors_where_they_are() -> None:
    found = calibrate(BASE, made(1, 2_000), rows=900, draws=2)
    assert found.floors == FLOORS
    assert (found.rows, found.resampled, found.stored) == (900, 2, 0)
    assert set(found.healthy) == {"embedding", "mmd", "labels", "confidence", "form"}


def test_healthy_windows_that_differ_raise_the_floors_and_are_quiet_then() -> None:
    """Weeks whose messages are longer, which a person calls healthy."""
    reference, longer = made(1), [made(seed, stretch=1.6) for seed in range(2, 6)]
    found = calibrate(SPEC, reference, longer, rows=150, draws=3)
    floor = found.floors["form"]
    assert floor.warn == pytest.approx(found.healthy["form"])
    assert floor.warn > FLOORS["form"].warn
    assert floor.act == pytest.approx(0.40 + floor.warn - 0.15)
    moment = {"start": None, "end": None, "model_version": 1}
    assert judge(SPEC, reference, longer[0], **moment).level == "act"
    one = calibrate(SPEC, reference, longer[:1], rows=150, draws=3)
    assert judge(SPEC, reference, longer[0], floors=one.floors, **moment).level == "none"
    assert found == calibrate(SPEC, reference, longer, rows=150, draws=3)


def test_a_healthy_window_is_at_most_half_of_the_reference() -> None:
    assert calibrate(SPEC, made(1, 300), rows=1_000, draws=2).rows == 150


def test_a_small_reference_needs_healthy_windows() -> None:
    with pytest.raises(DataError, match="name weeks that were healthy"):
        calibrate(SPEC, made(1, 199))
    found = calibrate(SPEC, made(1, 199), [made(2)])
    assert (found.resampled, found.stored) == (0, 1)


@given(st.dictionaries(st.sampled_from(sorted(FLOORS)), st.floats(0, 5)))
def test_floors_are_never_lowered_and_always_ordered(healthy: dict[str, float]) -> None:
    for name, floor in raised(FLOORS, healthy).items():
        assert floor.warn >= FLOORS[name].warn
        assert (floor.act is None, floor.severe is None) == (FLOORS[name].act is None, FLOORS[name].severe is None)
        if name in {"embedding", "text"}:
            assert floor.warn <= 0.99
            assert floor.severe is not None
            assert floor.severe < 1
        else:
            assert floor.warn > healthy.get(name, 0)
