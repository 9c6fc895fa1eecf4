"""What a trial has seen: counters of the answers of champion and challenger on the same messages."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Figures(BaseModel):
    """Counters; those of several workers add up.

    Attributes:
        compared: messages that both models answered.
        disagreed: of these, with another label.
        errors: messages that the challenger could not answer.
        dropped: messages of the share that were not compared, because there was no time.
        difference: summed total variation distance of both models' probabilities, 0 to 1 a message.
        timed: messages that both models scored one after the other, with processor seconds of each.
        slices: messages and disagreements by channel and by segment.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    compared: int = 0
    disagreed: int = 0
    errors: int = 0
    dropped: int = 0
    difference: float = 0.0
    timed: int = 0
    champion_s: float = 0.0
    challenger_s: float = 0.0
    champion_labels: dict[str, int] = Field(default_factory=dict)
    challenger_labels: dict[str, int] = Field(default_factory=dict)
    slices: dict[str, tuple[int, int]] = Field(default_factory=dict)

    def __add__(self, other: Figures) -> Figures:
        values: dict[str, Any] = {}
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "slices":
                keys = dict.fromkeys([*mine, *theirs])
                values[name] = {
                    key: tuple(map(sum, zip(mine.get(key, (0, 0)), theirs.get(key, (0, 0)), strict=True)))
                    for key in keys
                }
            else:
                values[name] = dict(Counter(mine) + Counter(theirs)) if isinstance(mine, dict) else mine + theirs
        return Figures(**values)

    def summary(self) -> dict[str, Any]:
        """The counters as people read them; None where nothing was compared."""
        return {
            "compared": self.compared,
            "agreement": _ratio(self.compared - self.disagreed, self.compared),
            "errors": self.errors,
            "dropped": self.dropped,
            "mean_probability_difference": _ratio(self.difference, self.compared),
            "label_shift": self.label_shift(),
            "champion_ms": _ratio(1_000 * self.champion_s, self.timed),
            "challenger_ms": _ratio(1_000 * self.challenger_s, self.timed),
            "labels": {
                label: {
                    "champion": _ratio(self.champion_labels.get(label, 0), self.compared),
                    "challenger": _ratio(self.challenger_labels.get(label, 0), self.compared),
                }
                for label in sorted({*self.champion_labels, *self.challenger_labels})
            },
            "slices": {
                name: {"compared": compared, "agreement": _ratio(compared - disagreed, compared)}
                for name, (compared, disagreed) in sorted(self.slices.items())
            },
        }

    def label_shift(self) -> float | None:
        """Total variation distance of both models' shares of labels: 0, they give each label as often."""
        labels = {*self.champion_labels, *self.challenger_labels}
        moved = sum(abs(self.champion_labels.get(name, 0) - self.challenger_labels.get(name, 0)) for name in labels)
        return _ratio(moved / 2, self.compared)


def _ratio(part: float, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None
