"""The join: the final sentiment from three models' probabilities, in arithmetic that training and serving share.

A multinomial logistic regression over a few numbers that can be said in words, with the sentiment model's own
log-probabilities as an offset: it starts from what that model says, and only what else is heard moves it. It is fitted
by `training.join`, lies in the sentiment model's folder as ``undertone/join.json``, and so is evaluated, signed and
served with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from undertone.errors import VerificationError
from undertone.model_folder import JOIN

#: Tasks by the part they play.
SENTIMENT, SARCASM, EMOTION = "sentiment", "sarcasm", "emotion"

#: The sarcasm model's label for a message that does not mean what it says.
SARCASTIC = "sarcastic"

#: Probabilities below are taken for this one: their logarithm stays in bounds.
LEAST = 1e-4


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Partner(_Frozen):
    """A champion that the join was fitted with."""

    version: int
    manifest_sha256: str
    labels: tuple[str, ...] = Field(min_length=2)


class Feature(_Frozen):
    """One number that the join reads: its name in words, mean and standard deviation on the rows it was fitted on."""

    name: str
    mean: float
    scale: float = Field(gt=0)


class Join(_Frozen):
    """``undertone/join.json``.

    Attributes:
        labels: of sentiment, in the order of its probabilities.
        partners: task to the champion that it was fitted with; sarcasm always, emotion where it helped.
        adopted: whether the join answers; otherwise sentiment alone does, and ``why`` says what spoke against it.
        features: as `names` gives them, empty where it was not adopted.
        weights: [labels][features], of the standardised features.
        bias: [labels].
        review_below: answers whose probability is lower need a person; None: no limit is known.
    """

    format: int = 1
    labels: tuple[str, ...] = Field(min_length=2)
    partners: dict[str, Partner]
    adopted: bool
    why: str
    features: tuple[Feature, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()
    review_below: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> Join:
        if SARCASM not in self.partners or SARCASTIC not in self.partners[SARCASM].labels:
            raise ValueError(f"a join needs a sarcasm model with a label {SARCASTIC!r}")
        if unknown := set(self.partners) - {SARCASM, EMOTION}:
            raise ValueError(f"a join reads {SARCASM} and {EMOTION}, not {', '.join(sorted(unknown))}")
        if not self.adopted:
            return self
        partners = {task: partner.labels for task, partner in self.partners.items()}
        expected, found = names(self.labels, partners), tuple(feature.name for feature in self.features)
        if found != expected:
            raise ValueError(f"features {', '.join(found)}; expected {', '.join(expected)}")
        if len(self.weights) != len(self.labels) or len(self.bias) != len(self.labels):
            raise ValueError(f"one row of weights and one bias for each of {', '.join(self.labels)}")
        numbers = [
            *self.bias,
            *(feature.mean for feature in self.features),
            *(feature.scale for feature in self.features),
        ]
        for row in self.weights:
            if len(row) != len(expected):
                raise ValueError(f"{len(row)} weights for {len(expected)} features")
            numbers.extend(row)
        if not all(math.isfinite(number) for number in numbers):
            raise ValueError("numbers that are not finite")
        return self

    def write(self, folder: Path) -> None:
        """Write ``undertone/join.json`` into a model folder."""
        path = folder / JOIN
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, labels: Sequence[str]) -> Join | None:
        """The join in a model folder; None where there is none.

        Args:
            folder: the sentiment model's.
            labels: of that model; the join's must be the same.

        Raises:
            VerificationError: the file is there and is not what this version of Undertone writes for these labels.
        """
        path = folder / JOIN
        if not path.is_file():
            return None
        try:
            join = cls.model_validate_json(path.read_text(encoding="utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError) as error:
            raise VerificationError(
                f"a join in {JOIN}", f"{type(error).__name__}: {error}", "train the model again"
            ) from error
        if join.labels != tuple(labels):
            raise VerificationError(
                f"a join of the labels {', '.join(labels)} in {JOIN}", ", ".join(join.labels), "train the model again"
            )
        return join

    def probabilities(self, own: Sequence[float], heard: Mapping[str, Sequence[float]]) -> tuple[float, ...]:
        """Probabilities of ``labels`` once the other models were heard; tens of microseconds.

        Args:
            own: the sentiment model's calibrated probabilities, in label order.
            heard: those of each of ``partners``, likewise.
        """
        values = features(self.labels, own, {task: (self.partners[task].labels, heard[task]) for task in self.partners})
        scores = [
            bias + sum(weight * value for weight, value in zip(row, values, strict=True))
            for row, bias in zip(*self._folded, strict=True)
        ]
        top = max(scores)
        exponents = [math.exp(score - top) for score in scores]
        total = sum(exponents)
        return tuple(exponent / total for exponent in exponents)

    @cached_property
    def _folded(self) -> tuple[list[list[float]], list[float]]:
        """Weights and biases for features as they are: standardising is part of them."""
        rows = [[weight / item.scale for weight, item in zip(row, self.features, strict=True)] for row in self.weights]
        shifts = [sum(weight * item.mean for weight, item in zip(row, self.features, strict=True)) for row in rows]
        return rows, [bias - shift for bias, shift in zip(self.bias, shifts, strict=True)]


def names(labels: Sequence[str], partners: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """What the join reads, in the order of `features`.

    Args:
        labels: of sentiment.
        partners: labels of sarcasm, and of emotion where it is read.
    """
    found = [f"log P({label})" for label in labels]
    found += ["sarcasm heard", *(f"sarcasm heard x P({label})" for label in _turned(labels))]
    return (*found, *(f"log P({label})" for label in partners.get(EMOTION, ())))


def features(
    labels: Sequence[str], own: Sequence[float], heard: Mapping[str, tuple[Sequence[str], Sequence[float]]]
) -> list[float]:
    """The numbers that the join reads for one message, before they are standardised.

    *Sarcasm heard* is ``-log P(not sarcastic)``: next to nothing where none is heard, so that such a message keeps its
    sentiment whatever the weights; 2.3 where it is all but sure. Its products with the share of praise (and of
    neutral words) let it turn praise and leave complaints.

    Args:
        labels: of sentiment.
        own: their probabilities.
        heard: labels and probabilities of sarcasm, and of emotion where it is read.
    """
    sarcasm = dict(zip(*heard[SARCASM], strict=True))[SARCASTIC]
    strength = -_log(1 - sarcasm)
    values = [_log(probability) for probability in own]
    values += [strength, *(strength * own[labels.index(label)] for label in _turned(labels))]
    if EMOTION in heard:
        values += [_log(probability) for probability in heard[EMOTION][1]]
    return values


def _turned(labels: Sequence[str]) -> Sequence[str]:
    """Labels that sarcasm may turn round: all but the first, the negative one."""
    return labels[1:]


def _log(probability: float) -> float:
    return math.log(max(probability, LEAST))
