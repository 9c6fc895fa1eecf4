"""The drift report: Evidently's HTML and JSON, and a page that a governance lead reads in a minute.

The only module that imports Evidently. No customer's text is written.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from monitoring.page import render
from monitoring.policy import RetrainDecision
from monitoring.signals import auc_test, distance_test, domain_scores, shares_test, significant
from monitoring.windows import Window
from undertone.records import DriftVerdict, Signal
from undertone.tasks import DriftPolicy, TaskSpec

#: The column that carries the domain classifier's held-out scores into Evidently.
DOMAIN = "embedding domain score"
#: Reference and current column in, effect and p-value out.
Test = Callable[[Any, Any], tuple[float, float]]
#: Our signals by the column that shows them. Channel and segment are shown and tested by nobody: they never fire.
CARRIERS = {
    "embedding": DOMAIN,
    "labels": "label",
    "confidence": "confidence",
    "length": "length",
    "channel mix": "channel",
    "segment mix": "segment",
}


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
    data, page = into / "report.json", into / "index.html"
    evidently: dict[str, Any] | None = None
    # Evidently knows no fewest rows: its tests pass or fail on three, and would contradict "too few"
    if verdict.verdict != "too_few":
        html = into / "evidently.html"
        evidently = _run_evidently(spec, reference, current, verdict, html)
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

        # one column that a side lacks would end the whole report: a signal exists only where both sides have it
        shown = {CARRIERS[signal.name]: signal for signal in verdict.signals}
        frames = _frames(reference, current) if DOMAIN in shown else (reference.frame, current.frame)
        method = _register(spec.drift)
        metrics: list[Any] = [RowCount(tests=[gte(spec.drift.min_rows)])]
        metrics += [
            ValueDrift(column=name, method=method[signal.name], threshold=signal.floor, tests=_tests(signal))
            for name, signal in shown.items()
        ]
        numbers = [name for name in shown if name in {DOMAIN, "confidence", "length"}]
        usable = list(shown)
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
    scores = domain_scores(reference, current)
    assert scores is not None  # the verdict has this signal, so both sides have embeddings
    first, second = (
        side.frame.assign(**{DOMAIN: values}) for side, values in zip((reference, current), scores, strict=True)
    )
    return first, second


def _tests(signal: Signal) -> list[Any] | None:
    """None: Evidently's own test, which asks our method. The mixes have none."""
    return [] if signal.name.endswith(" mix") else None


def _register(policy: DriftPolicy) -> dict[str, str]:
    """Teach Evidently our tests, so that its numbers and its passes are the verdict's; gives their names by signal.

    `legacy` is where its registry of tests still lives in 0.7. It is one per process: alpha is in the
    name, so that tasks with other policies never replace one another's tests.
    """
    from evidently.legacy.calculations.stattests import StatTest, register_stattest
    from evidently.legacy.core import ColumnType

    def taught(name: str, title: str, test: Test, kind: ColumnType, fires: bool = True) -> str:
        def decide(reference: pd.Series, current: pd.Series, _: Any, floor: float) -> tuple[float, bool]:
            effect, p_value = test(reference, current)
            return effect, fires and significant(p_value, policy) and effect >= floor

        key = f"undertone_{name}_{policy.alpha:g}"
        register_stattest(StatTest(key, title, allowed_feature_types=[kind], default_threshold=0.0), decide)
        return key

    auc = taught("auc", "AUC of a domain classifier", _over_arrays(auc_test), ColumnType.Numerical)
    distance = taught(
        "distance", "Wasserstein distance / std of the reference", _over_arrays(distance_test), ColumnType.Numerical
    )
    shares = taught("shares", "population stability index", shares_test, ColumnType.Categorical)
    mix = taught(
        "mix", "population stability index (explains, never fires)", shares_test, ColumnType.Categorical, fires=False
    )
    return {
        "embedding": auc,
        "labels": shares,
        "confidence": distance,
        "length": distance,
        "channel mix": mix,
        "segment mix": mix,
    }


def _over_arrays(test: Test) -> Test:
    return lambda reference, current: test(np.asarray(reference, np.float64), np.asarray(current, np.float64))
