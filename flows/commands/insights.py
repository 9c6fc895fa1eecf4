"""`undertone insights`: what customers say, by channel and segment, with how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.commands.options import Json, Task

if TYPE_CHECKING:
    from insights.estimate import Estimate
    from insights.period import Period

app = typer.Typer(
    help="What customers say: trend, changes, channels, upsell, latency, cadence, revenue, surveys, export.",
    no_args_is_help=True,
)

Start = Annotated[
    str, typer.Option("--from", help="first moment, ISO 8601; default: --days before --to", metavar="TIME")
]
End = Annotated[str, typer.Option("--to", help="end, ISO 8601; default: now", metavar="TIME")]
Channel = Annotated[str | None, typer.Option(help="messages of this channel alone")]
Segment = Annotated[str | None, typer.Option(help="messages of this segment alone")]
Csv = Annotated[Path | None, typer.Option("--csv", help="write the rows to this file too", metavar="FILE")]


@app.command()
def trend(
    task: Task,
    cut: Annotated[str, typer.Option(help="channel, segment or model_version: a series for each value")] = "",
    step: Annotated[str, typer.Option(help="hour, day or week")] = "day",
    days: Annotated[float, typer.Option(help="length of the period")] = 28,
    start: Start = "",
    end: End = "",
    channel: Channel = None,
    segment: Segment = None,
    version: Annotated[int | None, typer.Option(help="answers of this model version alone")] = None,
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """Each label's share over time, corrected for the model's errors, with 95 % bands."""
    from insights.period import CUTS
    from insights.trend import trends
    from undertone.errors import ConfigError
    from undertone.workspace import Workspace

    chosen = next((name for name in CUTS if name == cut), None)
    if cut and chosen is None:
        raise ConfigError(f"a cut: {', '.join(CUTS)}", repr(cut), "choose one")
    period = _period(days, start, end, step=step, channel=channel, segment=segment, model_version=version)
    found = trends(Workspace().store, task, period, chosen)
    rows = [
        {
            "series": series.name,
            "start": point.start,
            "end": point.end,
            "label": label,
            **_columns(estimate),
            "errors_from": series.error_source,
            "error_rows": series.error_rows,
        }
        for series in found
        for point in series.points
        for label, estimate in point.estimates.items()
    ]
    _show(found, rows, [*_TREND, "label", *_ESTIMATE, "errors_from", "error_rows"], as_json, csv)


@app.command()
def changes(
    tasks: Annotated[list[str] | None, typer.Argument(help="tasks; default: all", metavar="[TASK]...")] = None,
    days: Annotated[float, typer.Option(help="length of the period, and of the one before it")] = 7,
    start: Start = "",
    end: End = "",
    channel: Channel = None,
    segment: Segment = None,
    every: Annotated[bool, typer.Option("--all", help="steady series too")] = False,
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """What changed against the period before, and is more than noise; with messages that show it."""
    from insights.changes import changes as find
    from undertone.tasks import TASKS
    from undertone.workspace import Workspace

    period = _period(days, start, end, channel=channel, segment=segment)
    found = find(Workspace().store, tasks or list(TASKS), period)
    shown = [item for item in found if every or item.verdict == "changed"]
    rows = [
        {
            "task": item.task,
            "label": item.label,
            "cut": item.cut,
            "series": item.name,
            "verdict": item.verdict,
            "before": item.before.share,
            "after": item.after.share,
            "difference": item.difference,
            "low": item.low,
            "high": item.high,
            "adjusted_p": item.adjusted_p,
            "messages": item.after.rows,
            "lacking": item.lacking,
            "examples": " ".join(example.message_id for example in item.examples),
        }
        for item in shown
    ]
    count = {verdict: sum(item.verdict == verdict for item in found) for verdict in ("changed", "steady", "too_few")}
    note = f"{count['changed']} changed, {count['steady']} steady, {count['too_few']} with too few messages to tell"
    _show(shown, rows, list(rows[0]) if rows else ["task", "label", "series", "verdict"], as_json, csv, note)


@app.command()
def channels(
    days: Annotated[float, typer.Option(help="length of the period")] = 7,
    start: Start = "",
    end: End = "",
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """How channels perform: what is said there, how much of it is unsure, and how soon it is seen."""
    from insights.channels import SHOWN, channel_performance
    from undertone.workspace import Workspace

    found = channel_performance(Workspace().store, _period(days, start, end))
    rows = []
    for item in found:
        row: dict[str, Any] = {"channel": item.channel, "messages": item.messages, "before": item.messages_before}
        for label in (label for labels in SHOWN.values() for label in labels):
            estimate: Estimate = getattr(item, label)
            row |= {label: estimate.share, f"{label}_low": estimate.low, f"{label}_high": estimate.high}
            change = item.changes.get(label)
            row[f"{label}_change"] = change.difference if change else None
            row[f"{label}_verdict"] = change.verdict if change else None
        row |= {"unsure": item.unsure, "seconds_p50": item.latency.p50, "seconds_p99": item.latency.p99}
        rows.append(row)
    shown = ["channel", "messages", "negative", "positive", "sarcastic", "unsure", "seconds_p50", "seconds_p99"]
    _show(found, rows, list(rows[0]) if rows else shown, as_json, csv, shown=shown)


@app.command()
def upsell(
    days: Annotated[float, typer.Option(help="length of the period")] = 28,
    start: Start = "",
    end: End = "",
    segment: Annotated[
        list[str] | None, typer.Option(help="segment without a subscription; repeatable; default: pay_per_use")
    ] = None,
    task: Annotated[str, typer.Option(help="task whose labels count")] = "sentiment",
    label: Annotated[list[str] | None, typer.Option(help="label of the unhappy; repeatable; default: negative")] = None,
    most: Annotated[int, typer.Option(min=1, help="candidates at most")] = 50,
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """Customers who are unhappy with paying per use, the surest first, with their messages."""
    from insights.upsell import NEGATIVE, SEGMENTS
    from insights.upsell import upsell as find
    from undertone.workspace import Workspace

    found = find(
        Workspace().store,
        _period(days, start, end),
        segments=segment or SEGMENTS,
        task=task,
        labels=label or NEGATIVE,
        most=most,
    )
    rows = [
        {
            "customer": item.customer_id,
            "segment": item.segment,
            "messages": item.messages,
            "negative": item.negative,
            "share": item.share,
            "low": item.low,
            "evidence": " ".join(example.message_id for example in item.evidence),
        }
        for item in found.candidates
    ]
    columns = ["customer", "segment", "messages", "negative", "share", "low", "evidence"]
    note = f"too few to tell: {found.lacking}" if found.lacking else f"{len(rows)} of {found.customers} customers"
    _show(found, rows, columns, as_json, csv, note)


@app.command()
def latency(
    days: Annotated[float, typer.Option(help="length of the period")] = 7,
    start: Start = "",
    end: End = "",
    channel: Channel = None,
    segment: Segment = None,
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """Time to insight: seconds from when a message was sent to when it can be seen."""
    from dataclasses import asdict

    from insights.latency import latency as find
    from undertone.workspace import Workspace

    found = find(Workspace().store, _period(days, start, end, channel=channel, segment=segment))
    rows = [asdict(item) | {"channel": item.name} for item in found]
    _show(found, rows, [name for name in rows[0] if name != "all"], as_json, csv)


@app.command()
def cadence(
    now: Annotated[str, typer.Option(help="the clock, ISO 8601; default: this moment", metavar="TIME")] = "",
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """Days between model updates, and since the last, against those that each task wants."""
    from datetime import UTC, datetime

    from flows.terminal import moment
    from insights.cadence import cadence as find
    from undertone.tasks import TASKS
    from undertone.workspace import Workspace

    found = find(Workspace().store, TASKS.values(), moment(now) if now else datetime.now(UTC))
    rows = [
        {
            "task": item.task,
            "wanted": f"{item.min_days} to {item.max_days}",
            "updates": len(item.updates),
            "intervals": item.intervals,
            "within": item.within,
            "median_days": item.median_days,
            "days_now": item.days_now,
            "now": item.pace_now,
        }
        for item in found
    ]
    _show(found, rows, list(rows[0]), as_json, csv)


@app.command()
def errors(
    task: Task,
    fill: Annotated[
        bool, typer.Option("--fill", help="first take what is missing from the trainings in MLflow")
    ] = False,
    as_json: Json = False,
    csv: Csv = None,
) -> None:
    """What each model version takes for what: the counts by which shares are corrected."""
    from flows.terminal import talk
    from insights.counts import read_errors
    from undertone.confusions import fill_confusions
    from undertone.tasks import get_task
    from undertone.workspace import Workspace

    talk()
    workspace, spec = Workspace(), get_task(task)
    if fill:
        fill_confusions(workspace, spec, [made.version for made in workspace.registry.versions(task)])
    rows = [
        {"version": version, "source": found.source, "label": label, **dict(zip(spec.labels, counts, strict=True))}
        for version, found in sorted(read_errors(workspace.store, spec).items())
        for label, counts in zip(spec.labels, found.counts.tolist(), strict=True)
    ]
    _show(rows, rows, ["version", "source", "label", *spec.labels], as_json, csv)


_TREND = ("series", "start", "end")
_ESTIMATE = ("messages", "observed", "share", "low", "high", "lacking")


def _columns(estimate: Estimate) -> dict[str, Any]:
    values = (estimate.rows, estimate.observed, estimate.share, estimate.low, estimate.high, estimate.lacking)
    return dict(zip(_ESTIMATE, values, strict=True))


def _period(days: float, start: str, end: str, **more: Any) -> Period:
    """Messages sent from `start` to `end`, or in the `days` before that."""
    from datetime import UTC, datetime, timedelta

    from flows.terminal import moment
    from insights.period import Period

    ends = moment(end) if end else datetime.now(UTC)
    return Period(moment(start) if start else ends - timedelta(days=days), ends, **more)


def _show(
    found: Any,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    as_json: bool,
    csv: Path | None,
    note: str = "",
    shown: Sequence[str] = (),
) -> None:
    """The records as JSON or the rows as a table (of the columns `shown`), and as CSV where a file is named."""
    from flows.terminal import emit, say, table
    from undertone.csv_cells import as_csv, inert_row

    if csv is not None:
        csv.write_text(as_csv(columns, map(inert_row, rows)), encoding="utf-8")
        say(f"wrote {len(rows)} rows to {csv}")
    text = table(rows, shown or columns)
    emit(_plain(found), as_json=as_json, text=f"{text}\n\n{note}" if note else text)


def _plain(value: Any) -> Any:
    """Records as JSON has them."""
    from dataclasses import asdict, is_dataclass
    from datetime import datetime

    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value.isoformat() if isinstance(value, datetime) else value
