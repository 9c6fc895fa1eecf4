"""Signals on windows made here: what each sees, its floors, what it lacks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from monitoring.signals import level_of, measure, segment_signals
from monitoring.windows import Window, window
from undertone.records import LEVELS, Signal
from undertone.tasks import FLOORS, Floor, get_task

SPEC = get_task("sentiment")


def made(seed: int, rows: int = 600, **columns) -> Window:
    """A window without embeddings; `columns` replaces the random ones."""
    random = np.random.default_rng(seed)
    picks = random.choice(3, size=rows, p=[0.3, 0.3, 0.4])
    values = {
        "label": [SPEC.labels[pick] for pick in picks],
        "probabilities": [np.roll((top, (1 - top) / 2, (1 - top) / 2), pick)
                          for top, pick in zip(random.uniform(0.4, 1, rows), picks, strict=True)],
        "length": random.gamma(5, 20, rows),
        "words": random.gamma(5, 4, rows),
        "upper": random.beta(1, 20, rows),
        "marks": random.beta(2, 30, rows),
        "channel": random.choice(["chat", "email"], rows),
        "segment": random.choice(["a", "b"], rows),
    } | columns  # fmt: skip
    return window(({name: each[index] for name, each in values.items()} for index in range(rows)), SPEC)


def signals_of(reference: Window, current: Window, **asked) -> dict[str, Signal]:
    return {signal.name: signal for signal in measure(reference, current, SPEC, FLOORS, **asked)}


def test_every_signal_has_floors_and_an_adjusted_p() -> None:
    found = signals_of(made(1), made(2))
    assert set(found) == {"labels", "confidence", "form", "channels", "segments"}
    for name, signal in found.items():
        assert (signal.floor, signal.act, signal.severe) == (FLOORS[name].warn, FLOORS[name].act, FLOORS[name].severe)
        assert signal.p_value <= signal.adjusted_p <= 1
        assert (signal.level, signal.segment) == ("none", None)


@pytest.mark.parametrize(
    ("columns", "level", "detail"),
    [
        ({"upper": [0.0] * 600}, "act", "upper-case letters 5.1 % -> 0.0 %"),
        ({"marks": [0.3] * 600}, "act", "punctuation and emoji 6.4 % -> 30.0 %"),
        ({"words": [9] * 600}, "act", "words 20 -> 9"),
        ({"length": [150] * 600}, "act", "characters 101 -> 150"),
    ],
)
def test_form_names_the_feature_that_moved_furthest(columns: dict, level: str, detail: str) -> None:
    form = signals_of(made(1), made(2, **columns))["form"]
    assert (form.level, form.detail) == (level, detail)


def test_form_of_an_old_reference_is_its_length() -> None:
    gaps = {name: [None] * 600 for name in ("words", "upper", "marks")}
    assert "form" in signals_of(made(1, **gaps), made(2))
    assert "form" not in signals_of(made(1, **gaps, length=[None] * 600), made(2))


def test_a_feature_that_was_constant_and_is_not_any_more() -> None:
    lower = made(1, upper=[0.0] * 600)
    assert signals_of(lower, made(2, upper=[0.0] * 600))["form"].level == "none"
    moved = signals_of(lower, made(2))["form"]
    assert np.isfinite(moved.effect)
    assert moved.detail.startswith("upper-case letters 0.0 %")


def test_shares_are_those_of_all_messages_not_of_the_sample() -> None:
    current = made(2)
    whole = replace(current, total=60_000, counts=current.counts | {"label": {"negative": 60_000}})
    labels = signals_of(made(1), whole)["labels"]
    assert labels.level == "act"
    assert labels.detail.startswith("negative 30 % -> 100 %")


@pytest.mark.parametrize(
    ("right", "level"), [(352, "none"), (338, "warn"), (328, "act"), (280, "severe"), (390, "none")]
)
def test_late_labels_measure_the_drop_of_accuracy(right: int, level: str) -> None:
    reference, current = replace(made(1), labelled=(4_500, 5_000)), replace(made(2), labelled=(right, 400))
    signal = signals_of(reference, current)["late labels"]
    assert signal.effect == pytest.approx(0.9 - right / 400)
    assert signal.level == level
    assert signal.detail == f"accuracy 0.900 -> {right / 400:.3f} on 400 labels"


def test_disagreement_warns_at_most() -> None:
    reference, current = replace(made(1), reviewed=(10, 100)), replace(made(2), reviewed=(70, 100))
    signal = signals_of(reference, current)["disagreement"]
    assert (signal.level, signal.effect) == ("warn", pytest.approx(0.6))
    assert signals_of(current, reference)["disagreement"].level == "none"


@pytest.mark.parametrize(("before", "after"), [((40, 49), (10, 60)), ((40, 60), (10, 49)), ((0, 0), (10, 60))])
def test_few_labels_say_nothing(before, after) -> None:
    sides = [replace(made(1), labelled=before, reviewed=before), replace(made(2), labelled=after, reviewed=after)]
    assert not {"late labels", "disagreement"} & set(signals_of(*sides))


def test_texts_stand_in_where_there_are_no_embeddings() -> None:
    random = np.random.default_rng(0)
    words = np.array([f"word{number}" for number in range(100)])
    texts = [[" ".join(random.choice(words[start:], 8)) for _ in range(600)] for start in (0, 50)]
    assert signals_of(made(1), made(2), texts=(texts[0], texts[1]))["text"].level == "severe"
    assert "text" not in signals_of(made(1), made(2), texts=(texts[0][:400], texts[1]))
    vectors = [row.astype("<f2").tobytes() for row in random.normal(size=(600, 8))]
    embedded = [made(seed, embedding=vectors) for seed in (1, 2)]
    assert {"embedding", "mmd"} <= set(signals_of(*embedded, texts=(texts[0], texts[1])))
    assert "text" not in signals_of(*embedded, texts=(texts[0], texts[1]))


def test_the_family_is_held_at_alpha() -> None:
    """Fifty pairs of like windows: at 10 % some five warn for significance alone; 14 would be very unlikely."""
    free = {name: Floor(warn=0.0) for name in FLOORS}
    spec = SPEC.model_copy(update={"drift": SPEC.drift.model_copy(update={"alpha": 0.10, "min_rows": 100})})
    fired = [
        any(signal.fired for signal in measure(made(2 * seed, 100), made(2 * seed + 1, 100), spec, free))
        for seed in range(50)
    ]
    assert sum(fired) < 14


# segments ---------------------------------------------------------------------------------------


def test_segments_are_held_together_by_their_false_discovery_rate() -> None:
    """Adjusted p-values are those of Benjamini and Hochberg over all tests of all segments."""
    names = [f"s{index % 4}" for index in range(600)]
    moved = [300.0 if name == "s1" else 80.0 + index % 40 for index, name in enumerate(names)]
    free = {name: Floor(warn=0.0) for name in FLOORS}
    everything = SPEC.model_copy(update={"drift": SPEC.drift.model_copy(update={"segment_alpha": 0.999_999})})
    sides = (
        made(1, segment=names, length=[80.0 + index % 40 for index in range(600)]),
        made(2, segment=names, length=moved),
    )
    found = segment_signals(*sides, everything, free)
    strong = [signal for signal in segment_signals(*sides, SPEC, FLOORS) if signal.fired]
    assert [(signal.segment, signal.name, signal.level) for signal in strong] == [("s1", "form", "act")]
    assert strong[0].adjusted_p == pytest.approx(strong[0].p_value * 12)  # four segments, three tests each
    missing = 12 - len(found)
    p_values = [signal.p_value for signal in found] + [1.0] * missing
    np.testing.assert_allclose(
        [signal.adjusted_p for signal in found], stats.false_discovery_control(p_values)[: len(found)]
    )


def test_small_and_one_sided_segments_are_not_tested() -> None:
    names = ["big"] * 450 + ["small"] * 99 + ["mine"] * 51
    others = ["big"] * 450 + ["small"] * 99 + ["yours"] * 51
    sides = made(1, segment=names), made(2, segment=others, length=[900.0] * 600)
    assert {signal.segment for signal in segment_signals(*sides, SPEC, FLOORS)} == {"big"}
    assert segment_signals(made(1, segment=[None] * 600), made(2), SPEC, FLOORS) == ()


# levels -----------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0, 1), st.floats(0, 1), st.integers(1, 3))
def test_a_larger_effect_never_has_a_lower_level(limits, first, second, given_floors) -> None:
    floor = Floor(**dict(zip(("warn", "act", "severe"), sorted(limits)[:given_floors], strict=False)))
    low, high = (LEVELS.index(level_of(effect, floor)) for effect in sorted((first, second)))
    assert low <= high <= given_floors
