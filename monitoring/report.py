"""The drift report: Evidently's HTML and JSON, and a page that a governance lead reads in a minute.

The only module that imports Evidently. No customer's text is written.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monitoring.page import render
from monitoring.policy import RetrainDecision
from monitoring.signals import auc_test, domain_scores
from monitoring.windows import Window
from undertone.records import DriftVerdict
from undertone.tasks import TaskSpec

#: The column that carries the domain classifier's held-out scores into Evidently.
DOMAIN = "embedding domain score"
AUC = "undertone_auc"


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where a report's files are. ``html`` is Evidently's and missing when too few rows gave nothing to compare."""

    page: Path
    json: Path
    html: Path | None

    def paths(self) -> list[Path]:
        """The files that exist."""
        return [path for path in (self.page, self.json, self.html) if path is not None]


def write_report(
    spec: TaskSpec,
    reference: Window,
    current: Window,
    verdict: DriftVerdict,
    into: Path,
    *,
    decision: RetrainDecision | None = None,
    synthetic: bool = False,
) -> ReportFiles:
    """Write ``index.html`` (our page), ``report.json`` (all numbers) and ``evidently.html`` into `into`.

    Args:
        synthetic: the model was trained on generated messages; the page says so.
    """
    into.mkdir(parents=True, exist_ok=True)
    html: Path | None = None
    evidently: dict[str, Any] | None = None
    if reference.rows and current.rows:
        html = into / "evidently.html"
        evidently = _run_evidently(spec, reference, current, verdict, html)
    page, data = into / "index.html", into / "report.json"
    page.write_text(render(spec, reference, current, verdict, decision, html, synthetic), encoding="utf-8")
    content = {
        "synthetic": synthetic,
        "verdict": asdict(verdict),
        "decision": asdict(decision) if decision else None,
        "left_out": {"reference": reference.left_out, "current": current.left_out},
        "evidently": evidently,
    }
    data.write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
    return ReportFiles(page, data, html)


def _run_evidently(
    spec: TaskSpec, reference: Window, current: Window, verdict: DriftVerdict, html: Path
) -> dict[str, Any]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Evidently's own imports and numpy arithmetic warn; our numbers do not come from it
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import RowCount, ValueDrift
        from evidently.tests import gte

        frames = _frames(reference, current)
        metrics: list[Any] = [RowCount(tests=[gte(spec.drift.min_rows)])]
        policy = spec.drift
        checks = {
            DOMAIN: (_auc_method(), policy.embedding_auc),
            "label": ("psi", policy.label_psi),
            "confidence": ("wasserstein", policy.confidence_wasserstein),
            "length": ("wasserstein", policy.length_wasserstein),
            "channel": ("psi", 0.1),
            "segment": ("psi", 0.1),
        }
        # a column that one side lacks, or that is all gaps, would end the whole report
        usable = [name for name in checks if name in frames[0] and all(frame[name].notna().any() for frame in frames)]
        metrics += [ValueDrift(column=name, method=checks[name][0], threshold=checks[name][1]) for name in usable]
        numbers = [name for name in usable if name in {DOMAIN, "confidence", "length"}]
        definition = DataDefinition(
            numerical_columns=numbers, categorical_columns=[name for name in usable if name not in numbers]
        )
        first, second = (Dataset.from_pandas(frame[usable], data_definition=definition) for frame in frames)
        report = Report(
            metrics, include_tests=True, metadata={"task": spec.name, "version": str(verdict.model_version)}
        )
        snapshot = report.run(second, first, name=f"{spec.name} {verdict.window_end:%Y-%m-%d}")
        snapshot.save_html(str(html))
        found: dict[str, Any] = json.loads(snapshot.json())
    return found


def _frames(reference: Window, current: Window) -> tuple[pd.DataFrame, pd.DataFrame]:
    frames = tuple(side.frame.reset_index(drop=True).copy() for side in (reference, current))
    scores = domain_scores(reference, current)
    if scores is not None:
        for frame, values in zip(frames, scores, strict=True):
            frame[DOMAIN] = values
    return frames[0], frames[1]


def _auc_method() -> str:
    """Teach Evidently our test. `legacy` is where its registry of tests still lives in 0.7."""
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def auc(reference: pd.Series, current: pd.Series, feature_type: Any, threshold: float) -> tuple[float, bool]:
        value, _ = auc_test(np.asarray(reference), np.asarray(current))
        return value, value >= threshold

    register_stattest(
        StatTest(
            name=AUC,
            display_name="AUC of a domain classifier",
            allowed_feature_types=[ColumnType.Numerical],
            default_threshold=0.58,
        ),
        auc,
    )
    return AUC
