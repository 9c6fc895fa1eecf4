"""The head of a model card: what the Hugging Face hub, and tools that know it, read from it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from undertone.model_folder import Lineage
from undertone.tasks import TaskSpec

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?")

#: Our metrics, and what the hub calls them.
_METRICS = {
    "macro_f1": ("f1", "macro-F1"),
    "accuracy": ("accuracy", "accuracy"),
    "macro_recall": ("recall", "macro-recall"),
    "ece": ("expected_calibration_error", "expected calibration error"),
}


def metadata(
    spec: TaskSpec,
    lineage: Lineage,
    evaluation: Mapping[str, Any],
    *,
    licence: str | None,
    languages: Sequence[str],
) -> ModelCardData:
    """Metadata of https://huggingface.co/docs/hub/model-cards, as far as it is known.

    Data sets and a base model are named where they are on the hub; paths of this machine are not.
    """
    data_sets = hub_data_sets(lineage.source)
    results = [
        EvalResult(
            task_type="text-classification",
            task_name=spec.title or spec.name,
            dataset_type=data_sets[0]
            if len(data_sets) == 1 and "+" not in lineage.source
            else f"undertone-{spec.name}",
            dataset_name=f"{'synthetic ' if lineage.synthetic else ''}holdout of {spec.name}",
            dataset_split="holdout",
            dataset_revision=lineage.data_sha256,
            metric_type=kind,
            metric_name=title,
            metric_value=round(float(evaluation[name]), 6),
        )
        for name, (kind, title) in _METRICS.items()
        if _is_number(evaluation.get(name))
    ]
    known = licence is not None and re.fullmatch(r"[a-z0-9][a-z0-9.-]*", licence.lower()) is not None
    return ModelCardData(
        model_name=spec.name,
        language=list(languages) or None,
        license=(licence.lower() if known else "other") if licence else None,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["undertone", "mlflow", "onnx", spec.name, *(["synthetic-data"] if lineage.synthetic else [])],
        base_model=lineage.base_model if _HUB_NAME.fullmatch(lineage.base_model) else None,
        datasets=data_sets or None,
        eval_results=results or None,
    )


def hub_data_sets(source: str) -> list[str]:
    """Names of the hub's data sets in a source such as ``hf:NAME:CONFIG@REVISION+feedback``; local folders are none."""
    names = [part.strip().removeprefix("hf:") for part in source.split("+") if part.strip().startswith("hf:")]
    cut = [re.split(r"[:@]", name, maxsplit=1)[0] for name in names if not name.startswith(("/", "~", "."))]
    return list(dict.fromkeys(name for name in cut if _HUB_NAME.fullmatch(name)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
