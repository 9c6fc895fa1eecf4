from __future__ import annotations

import pytest
from pydantic import ValidationError

from training.effort import EFFORTS, Effort, get_effort, parse_overrides
from undertone.errors import ConfigError


def test_efforts_grow():
    smoke, standard, thorough = (get_effort(name) for name in ("smoke", "standard", "thorough"))
    assert smoke.epochs < standard.epochs < thorough.epochs
    assert smoke.max_train_rows is not None
    assert smoke.max_eval_rows is not None
    assert standard.max_train_rows is None
    assert thorough.patience is not None


def test_names_are_keys():
    assert all(effort.name == name for name, effort in EFFORTS.items())


def test_an_unknown_effort_names_the_known_ones():
    with pytest.raises(ConfigError, match="smoke, standard, thorough"):
        get_effort("heroic")


def test_an_effort_is_frozen_and_forbids_unknown_keys():
    with pytest.raises(ValidationError):
        Effort(name="x", epochs=1, learning_rate=1e-4, momentum=0.9)
    with pytest.raises(ValidationError):
        get_effort("smoke").epochs = 9


def test_small_data_is_passed_over_until_the_least_steps_are_made():
    effort = Effort(name="toy", epochs=2, learning_rate=1e-3, batch_size=32, min_steps=600)
    assert effort.passes(2_856) == 7  # 90 steps a pass
    assert effort.passes(42_779) == 2


def test_r_drop_is_for_small_data():
    effort = get_effort("standard")
    assert effort.r_drop_of(2_856) == effort.r_drop > 0
    assert effort.r_drop_of(42_779) == 0
    assert get_effort("smoke").r_drop_of(50) == 0


def test_overrides_are_checked_by_name_and_range():
    effort = get_effort("standard")
    assert effort.chosen(parse_overrides(["epochs = 4", "dropout=none"])) == {"dropout": None, "epochs": 4}
    with pytest.raises(ConfigError, match="epoch"):
        effort.having({"epoch": 4})
    with pytest.raises(ConfigError, match="learning_rate"):
        effort.having({"learning_rate": "fast"})
    with pytest.raises(ConfigError, match="NAME=VALUE"):
        parse_overrides(["epochs"])
