"""How hard to train: one dial that fixes every other number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from undertone.errors import ConfigError


class Effort(BaseModel):
    """Everything that one effort level decides.

    Rows are texts. Where rows are capped, the sample keeps every label's share. ``warmup`` is the
    fraction of all steps during which the learning rate rises; it falls linearly to zero afterwards.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0, lt=1)
    batch_size: int = Field(32, ge=1)
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    head_factor: float = Field(10.0, ge=1, description="the new head learns this many times faster than the encoder")
    balance: float = Field(0.5, ge=0, le=1, description="rare labels weigh share**-balance in the loss; 0: all alike")
    max_train_rows: int | None = Field(None, ge=1, description="rows trained on; None: all")
    max_eval_rows: int | None = Field(None, ge=1, description="rows of validation and of holdout looked at; None: all")
    min_steps: int = Field(
        0, ge=0, description="least optimizer steps: small data is passed over more often than epochs says, till these"
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each layer learns this many times as fast as the one above it; 1: all alike"
    )
    averaging: float = Field(
        0.0, ge=0, lt=1, description="share of the steps over which the weights are averaged (EMA); 0: the last weights"
    )
    r_drop: float = Field(
        0.0,
        ge=0,
        description="weight of R-Drop: two dropout masks a row, their answers held together; twice the time, so on"
        " small data alone, which is passed over more often than epochs says",
    )
    frozen_embeddings: bool = Field(False, description="word embeddings are left as they are")
    frozen_layers: int = Field(
        0, ge=0, description="lowest encoder layers left as they are, and the embeddings with them"
    )
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout in training; None: the base model's own")
    save_steps: int = Field(100, ge=1, description="optimizer steps between two checkpoints")
    patience: int | None = Field(
        None, ge=1, description="evaluate each epoch, stop after this many without gain, keep the best; None: neither"
    )

    def passes(self, rows: int) -> int:
        """Passes over `rows` training rows: ``epochs``, or as many as make ``min_steps``.

        Small data needs more of them for a stable result (Mosbach et al., 2021, https://arxiv.org/abs/2006.04884).
        """
        return max(self.epochs, -(-self.min_steps // -(-rows // self.batch_size)))

    def r_drop_of(self, rows: int) -> float:
        """Weight of R-Drop on `rows` training rows: ``r_drop``, or 0 where data is not small."""
        return self.r_drop if self.passes(rows) > self.epochs else 0.0

    def having(self, overrides: Mapping[str, Any]) -> Effort:
        """This effort with other values for the hyperparameters that `overrides` names.

        Raises:
            ConfigError: there is no such hyperparameter, or a value is out of its range.
        """
        known = [name for name in type(self).model_fields if name != "name"]
        if unknown := sorted(set(overrides) - set(known)):
            raise ConfigError(f"hyperparameters ({', '.join(known)})", ", ".join(unknown), "use these names")
        try:
            return type(self).model_validate(self.model_dump() | dict(overrides))
        except ValidationError as error:
            raise wrong_value(error) from None

    def chosen(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """`overrides` with each value as `having` takes it, such as 4 for ``"4"``."""
        changed = self.having(overrides)
        return {name: getattr(changed, name) for name in sorted(overrides)}


EFFORTS: dict[str, Effort] = {
    effort.name: effort
    for effort in (
        # 25 s of fine-tuning on two cores, so that a whole `undertone train` ends within a minute. One pass overfits
        # nothing, so dropout only costs time; two frozen layers buy more rows in that time.
        Effort(
            name="smoke",
            epochs=1,
            learning_rate=3e-4,
            batch_size=16,
            max_train_rows=2_000,
            max_eval_rows=2_000,  # of 500 the gate can hardly tell equal models (docs/gate.md)
            frozen_layers=2,
            dropout=0.0,
            save_steps=50,
        ),
        # how it was chosen: docs/experiments.md
        Effort(
            name="standard",
            epochs=2,
            min_steps=360,
            learning_rate=1e-4,
            max_eval_rows=4_000,
            averaging=0.2,
            r_drop=2.0,
            frozen_embeddings=True,
        ),
        Effort(
            name="thorough",
            epochs=4,
            min_steps=720,
            learning_rate=1e-4,
            averaging=0.1,
            r_drop=2.0,
            patience=2,
        ),
    )
}


def wrong_value(error: ValidationError) -> ConfigError:
    """What pydantic found first, in three parts."""
    wrong = error.errors()[0]
    name = ".".join(map(str, wrong["loc"]))
    return ConfigError(f"{name}: {wrong['msg']}", repr(wrong["input"]), f"give {name} another value")


def get_effort(name: str) -> Effort:
    """The effort called `name`.

    Raises:
        ConfigError: there is no such effort.
    """
    try:
        return EFFORTS[name]
    except KeyError:
        raise ConfigError(f"an effort ({', '.join(EFFORTS)})", f"{name!r}", "use one of these names") from None


def parse_overrides(assignments: Sequence[str]) -> dict[str, Any]:
    """``["epochs=4", "dropout=none"]`` as names and values; `Effort.having` checks both.

    Raises:
        ConfigError: an assignment without a name or a value.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, value = (part.strip() for part in assignment.partition("="))
        if not (name and equals and value):
            raise ConfigError("a hyperparameter like epochs=4", repr(assignment), "write NAME=VALUE")
        values[name] = None if value.lower() == "none" else value
    return values
