"""`undertone adapt`: a base model that has read the team's own messages."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training import adapt as adapting
from training import base_model
from training.effort import wrong_value
from training.unlabelled import MESSAGES, read_texts
from undertone.tasks import DEFAULT_BASE_MODEL
from undertone.workspace import Workspace

log = logging.getLogger("undertone.adapt")


def adapt(
    workspace: Workspace,
    out: Path,
    source: str = MESSAGES,
    *,
    base: str | None = None,
    passes: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    text_column: str | None = None,
) -> dict[str, Any]:
    """Adapt a base model to the texts of `source` and say where it is and what it learned from.

    Args:
        out: folder to write, which is then a base model's name.
        source: as `training.unlabelled.read_texts` reads it.
        base: where to start; default: the package's own base model.

    Raises:
        DataError: the source cannot be read, or has too few texts.
        ConfigError: no such base model, or a value out of range.
        TrainingError: the base model does not do, or the loss is not a number.
    """
    name = base or DEFAULT_BASE_MODEL
    found = base_model.resolve(name)
    asked = {"passes": passes, "learning_rate": learning_rate}
    given = {key: value for key, value in asked.items() if value is not None}
    try:
        how = adapting.Adaptation.model_validate(given)
    except ValidationError as error:
        raise wrong_value(error) from None
    limit = found.max_tokens or how.max_tokens
    how = how.model_copy(update={"max_tokens": min(how.max_tokens, limit)})
    texts = read_texts(source, workspace.store, text_column=text_column)
    log.info("adapting %s on %s texts, %s", name, f"{len(texts):,}", _passes(how.passes))
    folder = adapting.adapt(
        texts,
        found,
        name,
        out.expanduser().resolve(),
        how,
        seed=workspace.settings.seed if seed is None else seed,
        threads=workspace.settings.threads,
    )
    return {"folder": str(folder), "base_model": name, "texts": len(texts), "passes": how.passes}


def text(made: dict[str, Any]) -> str:
    """The result in words, with what comes next."""
    return (
        f"{made['folder']}: {made['base_model']} after {_passes(made['passes'])} over {made['texts']:,} texts\n"
        f"next: undertone train TASK --base-model {made['folder']}"
    )


def _passes(count: int) -> str:
    return "1 pass" if count == 1 else f"{count} passes"
