"""The search space of a sweep: what `--space` may say, and what is searched where it says nothing."""

from __future__ import annotations

import pytest
from optuna.trial import FixedTrial

from training.effort import EFFORTS, get_effort
from training.space import Choices, Range, as_json, default_space, draw, own_values, parse_space
from undertone.errors import ConfigError

SMOKE = get_effort("smoke")


def test_ranges_and_choices_are_read_as_the_effort_takes_them() -> None:
    space = parse_space(["learning_rate=1e-5..1e-3", "epochs=2..4", "batch_size=16, 32", "dropout=none,0.1"], SMOKE)
    assert space == {
        "learning_rate": Range(1e-5, 1e-3),
        "epochs": Range(2, 4),
        "batch_size": Choices((16, 32)),
        "dropout": Choices((None, 0.1)),
    }
    assert [str(part) for part in space.values()] == ["1e-05..0.001 (log)", "2..4", "16, 32", "none, 0.1"]


@pytest.mark.parametrize(("low", "high", "log"), [(1e-5, 1e-4, True), (1e-5, 9e-5, False), (0.0, 1.0, False)])
def test_magnitudes_are_drawn_where_they_differ(low: float, high: float, log: bool) -> None:
    assert Range(low, high).log is log


def test_whole_numbers_stay_whole() -> None:
    space = parse_space(["epochs=2..4", "balance=0..1"], SMOKE)
    drawn = draw(space, FixedTrial({"epochs": 3, "balance": 0.25}))
    assert drawn == {"epochs": 3, "balance": 0.25}
    assert isinstance(drawn["epochs"], int)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("momentum=0.1..0.9", "momentum"),
        ("epochs=4..2", "a range of epochs that rises"),
        ("epochs=2..2", "a range of epochs that rises"),
        ("balance=0..3", "less than or equal to 1"),
        ("dropout=none..0.2", "numbers at both ends"),
        ("epochs=3", "--set epochs=3"),
        ("epochs=3,3", "two values of epochs"),
        ("patience=1..4", "--set patience="),
        ("epochs", "NAME=VALUE"),
    ],
)
def test_misuse_is_told(assignment: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_space([assignment], SMOKE)


@pytest.mark.parametrize("effort", EFFORTS.values(), ids=str)
def test_the_default_space_holds_the_efforts_own_values(effort) -> None:
    space = default_space(effort)
    assert set(own_values(space, effort)) == set(space)
    for name, part in space.items():  # and no value in it that the effort would refuse
        for value in part.values if isinstance(part, Choices) else (part.low, part.high):
            effort.having({name: value})


def test_what_is_fixed_is_not_searched() -> None:
    assert set(default_space(SMOKE)) - set(default_space(SMOKE, {"epochs": 4})) == {"epochs"}


def test_equal_spaces_read_alike_and_others_do_not() -> None:
    one, two = ["epochs=2..4", "batch_size=16,32"], ["batch_size=16,32", "epochs=2..4"]
    assert as_json(parse_space(one, SMOKE)) == as_json(parse_space(two, SMOKE))
    assert as_json(parse_space(one, SMOKE)) != as_json(parse_space(["epochs=2..5", "batch_size=16,32"], SMOKE))
