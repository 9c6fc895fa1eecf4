"""The drift report: a page that a governance lead reads in a minute, and Evidently's HTML and JSON behind it.

Only this module and `monitoring.evidently_tests` import Evidently. No customer's text is written.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import uuid
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from monitoring.evidently_tests import COLUMNS, Shown, columns, frames, taught
from monitoring.page import Past as Past
from monitoring.page import Story as Story
from monitoring.page import render
from monitoring.signals import Texts
from monitoring.windows import Window
from undertone.records import DriftVerdict
from undertone.tasks import TaskSpec

log = logging.getLogger("undertone.monitoring")


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
    story: Story = Story(),  # noqa: B008  # frozen
    evidently_workspace: Path | None = None,
    texts: Texts | None = None,
) -> ReportFiles:
    """Write ``index.html`` (our page), ``report.json`` (all numbers) and ``evidently.html`` into `into`.

    Args:
        story: what the page tells beside windows and verdict.
        evidently_workspace: a folder for `evidently ui --workspace`, made where it is missing; the report is added to
            the task's project there, without any data.
        texts: those that `monitoring.drift.judge` had; none of them is written.
    """
    into.mkdir(parents=True, exist_ok=True)
    html: Path | None = into / "evidently.html"
    data, page = into / "report.json", into / "index.html"
    evidently: dict[str, Any] | None = None
    problem = ""
    # Evidently knows no fewest rows: its tests pass or fail on three, and would contradict "too few"
    if verdict.verdict == "too_few":
        html = None
    else:
        try:
            shown = columns(spec, reference, current, verdict, texts=texts)
            evidently = _run_evidently(spec, verdict, shown, (reference.rows, current.rows), html, evidently_workspace)
        except Exception as error:  # the verdict stands without Evidently, which one odd column is enough to stop
            log.exception("Evidently's report of %s could not be made", spec.name)
            problem, html = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", None
    page.write_text(render(spec, reference, current, verdict, story, html, problem), encoding="utf-8")
    content = {
        "synthetic": story.synthetic,
        "verdict": asdict(verdict),
        "story": asdict(story),
        "left_out": {"reference": reference.left_out, "current": current.left_out},
        "counts": {"reference": reference.counts, "current": current.counts},
        "evidently": evidently,
        "evidently_problem": problem,
    }
    data.write_text(json.dumps(content, indent=2, default=str), encoding="utf-8")
    return ReportFiles(page, data, html)


def _run_evidently(
    spec: TaskSpec,
    verdict: DriftVerdict,
    shown: list[Shown],
    rows: tuple[int, int],
    html: Path | None,
    workspace: Path | None,
) -> dict[str, Any]:
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Evidently's own imports and numpy arithmetic warn; our numbers do not come from it
    with warnings.catch_warnings(action="ignore"), taught(shown) as methods:
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import RowCount, ValueDrift
        from evidently.tests import gte

        metrics: list[Any] = [RowCount(tests=[gte(spec.drift.min_rows)])]
        metrics += [
            ValueDrift(
                column=one.column,
                method=methods[one.column],
                threshold=one.floor,
                tests=[] if one.fires is None else None,  # None: Evidently's own test, which asks our method
            )
            for one in shown
        ]
        definition = DataDefinition(
            numerical_columns=[one.column for one in shown if one.numbers],
            categorical_columns=[one.column for one in shown if not one.numbers],
        )
        first, second = (Dataset.from_pandas(frame, data_definition=definition) for frame in frames(shown, rows))
        metadata = {"task": spec.name, "version": str(verdict.model_version), "verdict": verdict.verdict}
        report = Report(metrics, include_tests=True, metadata=metadata)
        name = f"{spec.name} {verdict.model_version}, {verdict.window_end:%Y-%m-%d}: {verdict.verdict}"
        snapshot = report.run(second, first, name=name, timestamp=verdict.window_end)
        snapshot.save_html(str(html))
        if workspace is not None:
            keep_run(snapshot, spec, workspace)
        found: dict[str, Any] = json.loads(snapshot.json())
    return found


def keep_run(snapshot: Any, spec: TaskSpec, workspace: Path) -> None:
    """Add `snapshot` to the task's project of a local Evidently workspace.

    The project's id follows from the task's name, so that two processes mean the same one; files are moved in once they
    are whole, so that neither they nor Evidently's user interface read half of one.
    """
    from evidently.sdk.models import ProjectModel
    from evidently.ui.workspace import Workspace

    workspace.mkdir(parents=True, exist_ok=True)
    model = ProjectModel(
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:undertone:drift:{spec.name}"),
        name=f"{spec.name} drift",
        description="Drift watches of Undertone. No customer's text is in here.",
    )
    # beside the workspace: a user interface that runs watches all that happens inside
    with tempfile.TemporaryDirectory(prefix=f".{workspace.name}-", dir=workspace.parent) as scratch:
        draft = Workspace.create(scratch)
        project = draft.add_project(model)
        _draw_dashboard(project)
        draft.add_run(project.id, snapshot, include_data=False)
        files = Path(scratch, str(model.id)).rglob("*.json")
        for made in sorted(files, key=lambda path: path.name != "metadata.json"):  # the project before what is in it
            place = workspace / made.relative_to(scratch)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():  # a person may have renamed the project
                made.replace(place)


def _draw_dashboard(project: Any) -> None:
    """Two lines over time in Evidently's user interface, which shows nothing of a project without a dashboard."""
    from evidently.sdk.models import DashboardPanelPlot, PanelMetric

    for signal in ("embedding", "labels"):
        metric = PanelMetric(metric="evidently:metric_v2:ValueDrift", metric_labels={"column": COLUMNS[signal]})
        project.dashboard.add_panel(
            DashboardPanelPlot(
                title=f"{signal}: effect", subtitle="", size="half", values=[metric], plot_params={"plot_type": "line"}
            )
        )
