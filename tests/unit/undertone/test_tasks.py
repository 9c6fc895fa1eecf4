"""Conformance: the same checks for every task, so a fourth task needs no new test."""

import pytest
from pydantic import ValidationError

from undertone.errors import ConfigError
from undertone.tasks import FLOORS, TASKS, Cadence, DriftPolicy, Floor, TaskSpec, get_task


@pytest.mark.parametrize("spec", TASKS.values(), ids=TASKS)
def test_spec_is_usable(spec: TaskSpec) -> None:
    assert TASKS[spec.name] is spec is get_task(spec.name)
    assert list(spec.label_index()) == list(spec.labels)
    assert list(spec.label_index().values()) == list(range(len(spec.labels)))
    assert spec.cadence.min_days <= spec.cadence.max_days
    assert set(spec.drift.floors) == set(FLOORS)
    assert spec.title


def test_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="sentiment, sarcasm, emotion") as caught:
        get_task("urgency")
    assert "'urgency'" in caught.value.found


def test_specs_refuse_nonsense() -> None:
    with pytest.raises(ValidationError, match="repeat"):
        TaskSpec(name="x", labels=("a", "a"))
    with pytest.raises(ValidationError, match="max_days"):
        Cadence(min_days=10, max_days=3)
    with pytest.raises(ValidationError, match="extra"):
        TaskSpec(name="x", labels=("a", "b"), flor=1)
    with pytest.raises(ValidationError, match="must rise"):
        Floor(warn=0.5, act=0.4)
    with pytest.raises(ValidationError, match="must rise"):
        Floor(warn=0.5, severe=0.9)
    with pytest.raises(ValidationError, match="expected"):
        DriftPolicy(floors={"embedding": Floor(warn=0.5)})
    with pytest.raises(ValidationError, match="memory"):
        DriftPolicy(persist=4)
