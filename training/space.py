"""The search space of a sweep: for each hyperparameter a range or a few choices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from training.effort import Effort, parse_overrides
from undertone.errors import ConfigError

if TYPE_CHECKING:
    from optuna.trial import Trial

Value = int | float | bool | str | None

#: A range whose end is this many times its start is drawn from on a logarithmic scale.
LOG_FROM = 10


@dataclass(frozen=True, slots=True)
class Range:
    """Every number from `low` to `high`, both included; whole ones where both are `int`."""

    low: float
    high: float

    @property
    def log(self) -> bool:
        """Whether magnitudes, not differences, are drawn evenly."""
        return 0 < self.low * LOG_FROM <= self.high

    def draw(self, trial: Trial, name: str) -> Value:
        """The value of `name` in `trial`."""
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choices:
    """One of these values."""

    values: tuple[Value, ...]

    def draw(self, trial: Trial, name: str) -> Value:
        """The value of `name` in `trial`."""
        chosen: Value = trial.suggest_categorical(name, self.values)
        return chosen

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return ", ".join("none" if value is None else str(value) for value in self.values)


Space = Mapping[str, Range | Choices]

#: Hyperparameters that change what is compared, not how well it learns.
NOT_SEARCHED = ("max_train_rows", "max_eval_rows", "save_steps", "patience")


def default_space(effort: Effort, fixed: Iterable[str] = ()) -> Space:
    """The space searched where none is asked for, around the values of `effort`; without the names in `fixed`.

    Passes are the effort's own or twice as many, so that trials of either kind meet at equal shares of their training.
    """
    rate = effort.learning_rate
    space: dict[str, Range | Choices] = {
        "learning_rate": Range(_round(rate / 4), _round(rate * 4)),
        "epochs": Choices((effort.epochs, 2 * effort.epochs)),
        "batch_size": Choices(tuple(sorted({16, 32, effort.batch_size}))),
        "balance": Range(0.0, 1.0),
        "layer_decay": Range(min(0.7, effort.layer_decay), 1.0),
    }
    return {name: part for name, part in space.items() if name not in set(fixed)}


def parse_space(assignments: Sequence[str], effort: Effort) -> Space:
    """``["learning_rate=1e-5..1e-3", "batch_size=16,32"]`` as a space, each value as `Effort` takes it.

    Raises:
        ConfigError: no NAME=SPACE, an unknown hyperparameter, a value out of its range, or an end below its start.
    """
    space: dict[str, Range | Choices] = {}
    for name, text in parse_overrides(assignments).items():
        if name in NOT_SEARCHED:
            raise ConfigError("a hyperparameter to search", name, f"fix it with --set {name}=VALUE, or leave it out")
        ends = str(text).split("..")
        space[name] = _range(name, ends, effort) if len(ends) == 2 else _choices(name, str(text), effort)
    return space


def as_json(space: Space) -> dict[str, dict[str, Any]]:
    """The space in values that JSON has, equal for equal spaces."""
    return {name: _listed(asdict(part)) for name, part in sorted(space.items())}


def draw(space: Space, trial: Trial) -> dict[str, Any]:
    """One value of each hyperparameter."""
    return {name: part.draw(trial, name) for name, part in space.items()}


def own_values(space: Space, effort: Effort) -> dict[str, Any]:
    """The effort's own values, of those names whose part of the space has them."""
    own = {name: getattr(effort, name) for name in space}
    return {name: value for name, value in own.items() if value in space[name]}


def _range(name: str, ends: list[str], effort: Effort) -> Range:
    low, high = (_value(name, end, effort) for end in ends)
    if isinstance(low, bool) or not isinstance(low, int | float) or not isinstance(high, int | float):
        raise ConfigError(f"numbers at both ends of {name}", "..".join(ends), f"list its values: {name}=A,B")
    if low >= high:
        raise ConfigError(f"a range of {name} that rises", "..".join(ends), f"write {name}=LOW..HIGH, LOW below HIGH")
    return Range(low, high)


def _choices(name: str, text: str, effort: Effort) -> Choices:
    values = tuple(dict.fromkeys(_value(name, part, effort) for part in text.split(",")))
    if len(values) < 2:
        raise ConfigError(
            f"a range or two values of {name} at least",
            text,
            f"write {name}=LOW..HIGH or {name}=A,B; to fix one value use --set {name}={text}",
        )
    return Choices(values)


def _value(name: str, text: str, effort: Effort) -> Value:
    value: Value = effort.chosen(parse_overrides([f"{name}={text}"]))[name]
    return value


def _listed(part: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in part.items()}


def _round(value: float) -> float:
    return float(f"{value:.2g}")
