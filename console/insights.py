"""The pages that analysts look at: what customers say, how sure that is, and how soon it is seen.

Every page answers one question about one period. Its address names all of the question, so it is a link that
reproduces the page; with ``.csv`` behind the page's name the same address gives the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter
from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console import charts
from console.asked import DAYS, LASTS, Asked, Found, ask, back, found, in_words
from console.charts import Dot, Hover, Line, Mark, Span
from console.render import Console, figure, lasting, page, points, share
from console.sheets import Column, Sheet
from insights.alerts import read_alerts
from insights.cadence import TaskCadence, cadence
from insights.changes import ALPHA, MIN_EFFECT, Change, changes
from insights.channels import SHOWN, Channel, channel_performance
from insights.counts import error_source, read_errors, view
from insights.estimate import ErrorSource, Estimate
from insights.latency import LIMIT_S, MINUTE_S, Latency, latency
from insights.period import CUTS, Cut, Period
from insights.trend import MOST_SERIES, Trend, trends
from insights.upsell import Upsell, upsell
from undertone.store import Store
from undertone.tasks import TASKS, get_task

router = APIRouter(prefix="/insights")

#: Most lines with bands that one chart holds; more labels get a chart each.
MOST_LINES = 4
#: Colours of lines by label, where a label has one of its own; others take the free ones in order.
TONES = {"negative": "b", "neutral": "c", "positive": "a", "anger": "b", "joy": "a", "optimism": "c", "sadness": "d"}
_FREE = ("a", "b", "c", "d")
#: Days of a comparison with the days before it, where nobody says otherwise.
COMPARED_DAYS = 7
#: Messages of a change that are shown.
EXAMPLES = 5
#: Alerts that people were told, the newest.
MOST_ALERTS = 12
#: Changes on the front page.
HEADLINES = 4

#: What the counts of a model's errors rest on, in a sentence that begins with their number.
SOURCES: Mapping[ErrorSource, str] = {
    "audit": "messages that it had answered, drawn at random and labelled by people (audit)",
    "holdout": "labelled messages kept back from its training (holdout); messages of today may be harder",
    "mixed": "labelled messages: audits of its answers where there were enough, else the holdout of its training",
    "none": "none",
}


@router.get("")
def front(request: Request) -> Response:
    """Today's answers at a glance."""
    console: Console = request.app.state.console
    store, now = console.workspace.store, _now()
    asked = ask(request, store, now, {}, days=COMPARED_DAYS, narrow=False)
    month = Period(back(asked.period.end, DAYS), asked.period.end)
    lines = []
    for task in TASKS:
        label = _first(task)
        overall = trends(store, task, month)[0]
        lines.append((task, label, overall, _panel(f"glance-{task}", overall, label)))
    found_changes = changes(store, tuple(TASKS), asked.period, examples=0)
    return _page(
        request,
        "insights.html",
        asked=asked,
        month=month,
        lines=lines,
        changed=[change for change in found_changes if change.verdict == "changed"][:HEADLINES],
        looked=_looked(found_changes),
        channels=channel_performance(store, asked.period),
        latencies=latency(store, asked.period),
        upsell=upsell(store, month, evidence=0),
        cadences=cadence(store, TASKS.values(), now),
    )


@router.get("/trend")
@router.get("/trend.csv")
def trend(request: Request) -> Response:
    """Labels over time."""
    store: Store = request.app.state.console.workspace.store
    task = _task(request)
    labels = _labels(task)
    more: dict[str, tuple[str, ...]] = {"task": (task,), "cut": ("", *CUTS)}
    cut = _cut(request)
    if cut:
        more["label"] = labels
    # a label of another task is left over from before the task was changed
    asked = ask(request, store, _now(), more, loose=("label",))
    csv = request.url.path.endswith(".csv")
    if not csv and not asked.canonical:
        return _to(asked)
    series = trends(store, task, asked.period, cut)
    label = asked.more.get("label", "") if cut else ""
    shown = (label,) if cut else labels
    sheet = _trend_sheet(asked, series, shown)
    if csv:
        return sheet.csv()
    held = found(store, task, asked.period)
    marks = _versions(store, task, asked.period, held)
    overall, values = series[0], series[1:]
    return _page(
        request,
        "insight_trend.html",
        asked=asked,
        task=task,
        spec=get_task(task),
        label=label,
        labels=labels,
        cut=cut,
        overall=overall,
        series=values,
        whole=[(name, overall.whole[name]) for name in shown],
        charts=_trend_charts(overall, shown, marks) if not cut else [],
        comparison=_compared(overall, values, label, cut) if cut and values else None,
        panels=[
            (one, _panel(f"panel-{index}", one, label, overall, marks, values)) for index, one in enumerate(values)
        ],
        marks=marks,
        errors=_errors(store, (task,), asked.period, held),
        few=sum(point.estimates[shown[0]].too_few for one in values or (overall,) for point in one.points),
        steps=sum(len(one.points) for one in values or (overall,)),
        found=held,
        sheet=sheet,
        cuts=CUTS,
        most=MOST_SERIES,
    )


@router.get("/changes")
@router.get("/changes.csv")
def changed(request: Request) -> Response:
    """What changed against the period before, beyond noise."""
    store: Store = request.app.state.console.workspace.store
    csv = request.url.path.endswith(".csv")
    asked = ask(request, store, _now(), {"task": ("", *TASKS)}, days=COMPARED_DAYS, narrow=False)
    tasks = (asked.more["task"],) if "task" in asked.more else tuple(TASKS)
    if not csv and not asked.canonical:
        return _to(asked)
    rows = changes(store, tasks, asked.period, examples=0 if csv else EXAMPLES)
    sheet = _changes_sheet(asked, rows)
    if csv:
        return sheet.csv()
    alerts = [row for row in rows if row.verdict == "changed"]
    return _page(
        request,
        "insight_changes.html",
        asked=asked,
        task=asked.more.get("task", ""),
        alerts=alerts,
        looked=_looked(rows),
        chart=_changes_chart(alerts) if alerts else None,
        sheet=sheet,
        against=in_words(asked.period.before()),
        told=read_alerts(store, MOST_ALERTS),
        errors=_errors(store, tasks, asked.period),
        least=MIN_EFFECT,
        rate=ALPHA,
        trend_link=_trend_link,
    )


@router.get("/channels")
@router.get("/channels.csv")
def channels(request: Request) -> Response:
    """How channels perform."""
    store: Store = request.app.state.console.workspace.store
    asked = ask(request, store, _now(), {}, narrow=False)
    csv = request.url.path.endswith(".csv")
    if not csv and not asked.canonical:
        return _to(asked)
    rows = channel_performance(store, asked.period)
    sheet = _channels_sheet(asked, rows)
    if csv:
        return sheet.csv()
    plots = []
    for label in (label for labels in SHOWN.values() for label in labels):
        estimates = [(row.channel or "no channel", getattr(row, label), row) for row in rows]
        spans = [_span(name, one, f"{row.messages:,} messages", _tone(label)) for name, one, row in estimates]
        top = max([one.high or 0.0 for _, one, _ in estimates], default=0.0)
        plots.append((label, charts.dot_plot(
            f"plot-{label}", f"Share of {label} messages by channel", _spans_about(spans), spans,
            charts.shares(top or 0.1), panel=True)))  # fmt: skip
    return _page(
        request, "insight_channels.html", asked=asked, rows=rows, plots=plots, sheet=sheet,
        errors=_errors(store, tuple(SHOWN), asked.period),
    )  # fmt: skip


@router.get("/upsell")
@router.get("/upsell.csv")
def upsells(request: Request) -> Response:
    """Customers who are unhappy with paying per use."""
    store: Store = request.app.state.console.workspace.store
    asked = ask(request, store, _now(), {}, narrow=False)
    csv = request.url.path.endswith(".csv")
    if not csv and not asked.canonical:
        return _to(asked)
    found_ones = upsell(store, asked.period)
    sheet = _upsell_sheet(asked, found_ones)
    if csv:
        return sheet.csv()
    spans = []
    for row in found_ones.segments:
        customers = "" if row.customers is None else f"{row.customers:,} customers, "
        spans.append(_span(row.segment.replace("_", " "), row.negative, f"{customers}{row.messages:,} messages", "b"))
    top = max([span.high or 0.0 for span in spans], default=0.0)
    names = " or ".join(found_ones.labels)
    chart = charts.dot_plot(
        "segments", f"Share of {names} messages by segment", _spans_about(spans), spans, charts.shares(top or 0.1)
    )
    return _page(
        request, "insight_upsell.html", asked=asked, upsell=found_ones, names=names, sheet=sheet,
        chart=chart if spans else None,
        errors=_errors(store, (found_ones.task,), asked.period),
    )  # fmt: skip


@router.get("/latency")
@router.get("/latency.csv")
def latencies(request: Request) -> Response:
    """How long it takes from a message to its insight."""
    store: Store = request.app.state.console.workspace.store
    asked = ask(request, store, _now(), {}, days=COMPARED_DAYS, narrow=False)
    csv = request.url.path.endswith(".csv")
    if not csv and not asked.canonical:
        return _to(asked)
    rows = latency(store, asked.period)
    sheet = _latency_sheet(asked, rows)
    if csv:
        return sheet.csv()
    return _page(
        request, "insight_latency.html", asked=asked, overall=rows[0] if rows else None, rows=rows[1:], sheet=sheet,
        chart=_latency_chart(rows) if any(row.live for row in rows) else None, minute=MINUTE_S, limit=LIMIT_S,
    )  # fmt: skip


@router.get("/cadence")
@router.get("/cadence.csv")
def cadences(request: Request) -> Response:
    """Days between model updates."""
    store: Store = request.app.state.console.workspace.store
    now = _now()
    found_ones = cadence(store, TASKS.values(), now)
    sheet = _cadence_sheet(found_ones, now)
    if request.url.path.endswith(".csv"):
        return sheet.csv()
    return _page(
        request,
        "insight_cadence.html",
        cadences=[(one, _cadence_chart(one, now)) for one in found_ones],
        sheet=sheet,
        now=now,
    )


def _page(request: Request, template: str, **values: Any) -> Response:
    return page(request, template, choices=LASTS, about=about_change, **values)


def percent(estimate: Estimate) -> str:
    """A corrected share with its band, or why there is none."""
    if estimate.share is None or estimate.low is None or estimate.high is None:
        return f"too few to tell ({estimate.lacking})" if estimate.lacking else "too few to tell"
    return f"{share(estimate.share)} ({figure(100 * estimate.low, 1)} to {figure(100 * estimate.high, 1)} %)"


def _now() -> datetime:
    return datetime.now(UTC)


def _to(asked: Asked) -> Response:
    """The browser asks again under the address that names everything."""
    return RedirectResponse(asked.link(), 303)


def _task(request: Request) -> str:
    name = request.query_params.get("task", "")
    return name if name in TASKS else next(iter(TASKS))


def _cut(request: Request) -> Cut | None:
    name = request.query_params.get("cut", "")
    return next((cut for cut in CUTS if cut == name), None)


def _labels(task: str) -> tuple[str, ...]:
    """The labels that are shown: of two, one says all."""
    labels = get_task(task).labels
    return labels[1:] if len(labels) == 2 else labels


def _first(task: str) -> str:
    """The label that is shown where one has to do."""
    return _labels(task)[0]


def _tones(labels: Sequence[str]) -> dict[str, str]:
    free = iter([tone for tone in _FREE if tone not in {TONES.get(label) for label in labels}] * len(labels))
    return {label: TONES.get(label) or next(free) for label in labels}


def _tone(label: str) -> str:
    """The colour of a label that stands alone."""
    return "b" if TONES.get(label) == "b" else "a"


def _step_words(start: datetime, end: datetime) -> str:
    """A step of the time axis in words."""
    if end - start <= timedelta(hours=1):
        return f"{start:%a} {start.day} {start:%b %Y}, {start:%H:%M} to {end:%H:%M}"
    first = f"{start:%a} {start.day} {start:%b %Y}"
    if end - start <= timedelta(days=1):
        return first
    last = end - timedelta(microseconds=1)
    return f"{start.day} {start:%b} to {last.day} {last:%b %Y}"


def _middle(start: datetime, end: datetime, step: str) -> datetime:
    """Where a step's dot stands: a day that is not over stands where whole days do."""
    return start + timedelta(hours=12) if step == "day" and start.hour == 0 else start + (end - start) / 2


def _dots(series: Trend, label: str) -> tuple[Dot, ...]:
    return tuple(
        Dot(
            _middle(point.start, point.end, series.period.step),
            point.estimates[label].share,
            point.estimates[label].low,
            point.estimates[label].high,
        )
        for point in series.points
    )


def _hovers(series: Trend, labels: Sequence[str]) -> list[Hover]:
    made = []
    for point in series.points:
        words = [f"{_step_words(point.start, point.end)}: {point.rows:,} message{'s' if point.rows != 1 else ''}"]
        words += [f"{label.replace('_', ' ')}: {percent(point.estimates[label])}" for label in labels]
        empty = all(point.estimates[label].too_few for label in labels)
        end = point.end
        if series.period.step == "day" and point.start.hour == 0:
            end = point.start + timedelta(days=1)
        made.append(Hover(point.start, end, "\n".join(words), empty))
    return made


def _between(period: Period) -> tuple[datetime, datetime]:
    """Ends of the time axis: a last day that is not over is drawn whole, so that its dot stands in its middle."""
    if period.step != "day":
        return period.start, period.end
    steps = list(period.steps())
    return period.start, max(period.end, steps[-1][0].replace(hour=0, minute=0) + timedelta(days=1))


def _trend_charts(overall: Trend, labels: Sequence[str], marks: Sequence[Mark]) -> list[tuple[str, Any]]:
    """One chart with every label, or one for each where they are many; with the label where it is one for each."""
    tones = _tones(labels)
    groups = [labels] if len(labels) <= MOST_LINES else [(label,) for label in labels]
    top = max([estimate.high or 0.0 for point in overall.points for estimate in
               (point.estimates[label] for label in labels)], default=0.0)  # fmt: skip
    made = []
    for number, group in enumerate(groups):
        lines = [Line(label.replace("_", " "), _dots(overall, label), tones[label]) for label in group]
        about = "; ".join(f"{label.replace('_', ' ')}: {percent(overall.whole[label])}" for label in group)
        made.append((
            group[0] if len(groups) > 1 else "",
            charts.over_time(
                f"trend-{number}",
                f"{overall.task}: {' and '.join(label.replace('_', ' ') for label in group)} over time",
                f"Share of messages with 95 % bands. Over the whole period {about}. The table holds every figure.",
                lines,
                charts.shares(top or 0.1),
                _between(overall.period),
                hovers=_hovers(overall, group),
                marks=marks,
                noon=overall.period.step == "day",
                panel=len(groups) > 1,
            ),
        ))  # fmt: skip
    return made


def _panel(
    key: str,
    series: Trend,
    label: str,
    overall: Trend | None = None,
    marks: Sequence[Mark] = (),
    beside: Sequence[Trend] = (),
) -> Any:
    """One series as a small chart, all messages behind it as a thin line, on an axis that holds those `beside` it."""
    all_of_them = [one for one in (series, overall, *beside) if one is not None]
    highs = [point.estimates[label].high or 0.0 for one in all_of_them for point in one.points]
    lines = [Line(series.name, _dots(series, label), _tone(label))]
    if overall is not None:
        lines.append(Line("all", _dots(overall, label), "c", back=True))
    words = label.replace("_", " ")
    return charts.over_time(
        key,
        f"{words} over time, {series.name}",
        f"Share of messages with 95 % bands; over the whole period {percent(series.whole[label])}.",
        lines,
        charts.shares(max(highs, default=0.0) or 0.1),
        _between(series.period),
        hovers=_hovers(series, (label,)),
        marks=marks,
        noon=series.period.step == "day",
        panel=True,
    )


def _compared(overall: Trend, values: Sequence[Trend], label: str, cut: Cut) -> Any:
    """The whole period's share of each value of the cut."""
    spans = [_span(one.name, one.whole[label], f"{one.rows:,} messages", _tone(label)) for one in values]
    top = max([span.high or 0.0 for span in spans] + [overall.whole[label].share or 0.0])
    words = label.replace("_", " ")
    return charts.dot_plot(
        "compared",
        f"Share of {words} messages by {cut.replace('_', ' ')}",
        _spans_about(spans),
        spans,
        charts.shares(top or 0.1),
        None if (everywhere := overall.whole[label].share) is None else (everywhere, "all"),
    )


def _span(name: str, estimate: Estimate, more: str, tone: str = "a") -> Span:
    note = share(estimate.share) if estimate.share is not None else "too few to tell"
    return Span(name, estimate.share, estimate.low, estimate.high, f"{name}: {percent(estimate)}\n{more}", note, tone)


def _spans_about(spans: Sequence[Span]) -> str:
    return "; ".join(f"{span.name} {span.note}" for span in spans) or "nothing"


def _errors(
    store: Store, tasks: Sequence[str], period: Period, held: Found | None = None
) -> list[tuple[str, ErrorSource, int, str]]:
    """What the bands of each task rest on: source, labelled messages, in words."""
    made = []
    for task in tasks:
        versions = (held or found(store, task, period)).versions
        if period.model_version is not None:
            versions = {period.model_version: 0}
        source, rows = error_source(read_errors(store, get_task(task)), list(versions))
        if versions:
            made.append((task, source, rows, SOURCES[source]))
    return made


def _versions(store: Store, task: str, period: Period, held: Found) -> list[Mark]:
    """Where another version began to answer: decisions inside the period, else the first answer of a version."""
    updates = view(store, "model_updates")
    query = select(updates).where(updates.c.task == task, updates.c.at >= period.start, updates.c.at < period.end)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(updates.c.seq)).mappings().all()
    made = [
        Mark(
            row["at"],
            f"version {row['model_version']}",
            f"v{row['model_version']}",
            f"version {row['model_version']} {str(row['kind']).replace('_', ' ')} by {row['actor']},"
            f" {row['at']:%Y-%m-%d %H:%M} UTC",
        )
        for row in rows
    ]
    decided = {row["model_version"] for row in rows}
    answers = sorted(held.first_answers.items(), key=lambda item: item[1])
    made += [
        Mark(at, f"version {version}", f"v{version}", f"first answer of version {version}, {at:%Y-%m-%d %H:%M} UTC")
        for version, at in answers[1:]
        if version not in decided
    ]
    return sorted(made, key=lambda mark: mark.at)


def _named(kind: str, task: str, period: Period) -> str:
    return "-".join(filter(None, (kind, task, f"{period.start:%Y-%m-%d}", f"{period.end:%Y-%m-%d}")))


def _trend_sheet(asked: Asked, series: Sequence[Trend], labels: Sequence[str]) -> Sheet:
    cut = asked.more.get("cut", "")
    columns = [Column("start", asked.period.step, "step"), Column("end", "", "moment")]
    columns += [Column("series", cut.replace("_", " "))] if cut else []
    columns += [Column("messages", "messages", "count")]
    columns += [Column(label, label.replace("_", " "), "estimate") for label in labels]
    columns += [Column("errors_from", ""), Column("error_rows", "")]
    rows = [
        {"start": point.start, "end": point.end, "series": one.name, "messages": point.rows}
        | {"errors_from": one.error_source, "error_rows": one.error_rows}
        | dict(point.estimates)
        for one in series
        for point in one.points
    ]
    return Sheet(_named("trend", asked.more["task"], asked.period), "Every figure of the charts", columns, rows)


def _looked(rows: Sequence[Change]) -> dict[str, int]:
    return {verdict: sum(row.verdict == verdict for row in rows) for verdict in ("changed", "steady", "too_few")}


def about_change(row: Change) -> str:
    """What a change is about, in words: "negative sentiment, channel social"."""
    what = row.label.replace("_", " ") if row.task == "sarcasm" else f"{row.label.replace('_', ' ')} {row.task}"
    if row.cut is None:
        return f"{what}, all messages"
    return f"{what}, {row.name}" if row.value is None else f"{what}, {row.cut.replace('_', ' ')} {row.value}"


def _trend_link(row: Change) -> str:
    """The trend of what changed, both periods long."""
    period = Period(row.against.start, row.period.end, row.period.step)
    more = {"label": row.label, "cut": row.cut} if row.cut else {}
    return f"/insights/trend?{period.query(task=row.task, **more)}"


def _changes_sheet(asked: Asked, rows: Sequence[Change]) -> Sheet:
    columns = [
        Column("verdict", "verdict"),
        Column("task", "task"),
        Column("label", "label"),
        Column("cut", "cut by"),
        Column("value", "value"),
        Column("before", "before", "band"),
        Column("after", "after", "band"),
        Column("difference", "difference, points", "signed"),
        Column("difference_low", "from", "signed"),
        Column("difference_high", "to", "signed"),
        Column("adjusted_p", "adjusted p", "number"),
        Column("messages_before", "messages before", "count"),
        Column("messages_after", "after", "count"),
        Column("lacking", ""),
    ]
    made = [
        {
            "verdict": row.verdict.replace("_", " "),
            "task": row.task,
            "label": row.label.replace("_", " "),
            "cut": (row.cut or "").replace("_", " "),
            "value": row.name,
            "messages_before": row.before.rows,
            "before": row.before,
            "messages_after": row.after.rows,
            "after": row.after,
            "difference": row.difference,
            "difference_low": row.low,
            "difference_high": row.high,
            "adjusted_p": row.adjusted_p,
            "lacking": row.lacking,
        }
        for row in rows
    ]
    return Sheet(_named("changes", asked.more.get("task", ""), asked.period), "Every series that was looked at",
                 columns, made)  # fmt: skip


def _changes_chart(alerts: Sequence[Change]) -> Any:
    spans = [
        Span(
            about_change(row),
            row.difference,
            row.low,
            row.high,
            f"{about_change(row)}: {percent(row.before)} before, {percent(row.after)} after",
            points(row.difference),
            "b" if (row.difference or 0.0) > 0 else "a",
        )
        for row in alerts
    ]
    reach = max(abs(end) for row in alerts for end in (row.low or 0.0, row.high or 0.0, 0.01))
    return charts.dot_plot(
        "changes",
        "What changed, in percentage points",
        _spans_about(spans),
        spans,
        charts.differences(reach),
        wordy=True,
    )


def _channels_sheet(asked: Asked, rows: Sequence[Channel]) -> Sheet:
    columns = [Column("channel", "channel"), Column("messages", "messages", "count"),
               Column("messages_before", "before", "count")]  # fmt: skip
    labels = [label for group in SHOWN.values() for label in group]
    for label in labels:
        columns += [Column(label, label, "estimate"), Column(f"{label}_change", "change", "signed"),
                    Column(f"{label}_verdict", "real?")]  # fmt: skip
    columns += [Column("unsure", "need a person", "share"), Column("p50", "time to insight, p50", "seconds"),
                Column("p99", "p99", "seconds")]  # fmt: skip
    made = []
    for row in rows:
        values: dict[str, Any] = {
            "channel": row.channel or "no channel",
            "messages": row.messages,
            "messages_before": row.messages_before,
            "unsure": row.unsure,
            "p50": row.latency.p50,
            "p99": row.latency.p99,
        }
        for label in labels:
            change = row.changes.get(label)
            values |= {
                label: getattr(row, label),
                f"{label}_change": change.difference if change else None,
                f"{label}_verdict": change.verdict.replace("_", " ") if change else "",
            }
        made.append(values)
    return Sheet(_named("channels", "", asked.period), "Every channel of the period", columns, made)


def _upsell_sheet(asked: Asked, found_ones: Upsell) -> Sheet:
    columns = [
        Column("customer_id", "customer"),
        Column("segment", "segment"),
        Column("messages", "messages", "count"),
        Column("negative", "unhappy, says the model", "count"),
        Column("share", "expected share", "share"),
        Column("low", "at least", "share"),
        Column("evidence", "evidence, by message id"),
    ]
    rows = [
        {
            "customer_id": one.customer_id,
            "segment": one.segment,
            "messages": one.messages,
            "negative": one.negative,
            "share": one.share,
            "low": one.low,
            "evidence": [example.message_id for example in one.evidence],
        }
        for one in found_ones.candidates
    ]
    return Sheet(_named("upsell", "", asked.period), "Candidates, the surest first", columns, rows)


def _latency_sheet(asked: Asked, rows: Sequence[Latency]) -> Sheet:
    columns = [
        Column("channel", "channel"),
        Column("messages", "messages", "count"),
        Column("live", "live", "count"),
        Column("p50", "p50", "seconds"),
        Column("p99", "p99", "seconds"),
        Column("under_minute", "within a minute", "share"),
        Column("under_limit", "within 4 hours", "share"),
        Column("store_p50", "Undertone's part, p50", "seconds"),
        Column("store_p99", "p99", "seconds"),
        Column("backfilled", "loaded later", "count"),
        Column("clock_wrong", "clock wrong", "count"),
        Column("unknown", "not timed", "count"),
    ]
    names = [column.name for column in columns[1:]]
    made = [{"channel": row.name} | {name: getattr(row, name) for name in names} for row in rows]
    return Sheet(_named("latency", "", asked.period), "Every channel of the period", columns, made)


def _latency_chart(rows: Sequence[Latency]) -> Any:
    live = [row for row in rows if row.p50 is not None and row.p99 is not None]
    spans = [
        Span(
            row.name,
            row.p99,
            row.p50,
            row.p99,
            f"{row.name}: half within {lasting(row.p50)}, 99 of 100 within {lasting(row.p99)}, {row.live:,} messages",
            f"{lasting(row.p50)} · {lasting(row.p99)}",
        )
        for row in live
    ]
    axis = charts.seconds(min(row.p50 or 0.0 for row in live), max([row.p99 or 0.0 for row in live] + [MINUTE_S]))
    return charts.dot_plot(
        "latency", "Time to insight by channel, p50 to p99", _spans_about(spans), spans, axis,
        (MINUTE_S, "goal: 1 min"),
    )  # fmt: skip


def _cadence_sheet(found_ones: Sequence[TaskCadence], now: datetime) -> Sheet:
    columns = [
        Column("task", "task"),
        Column("model_version", "version", "count"),
        Column("kind", "what"),
        Column("at", "when", "moment"),
        Column("actor", "who"),
        Column("days_since_approval", "days since the last approval", "days"),
        Column("pace", "pace", "pace"),
        Column("days_since_last", "days since any update", "days"),
    ]
    rows = [
        {
            "task": one.task,
            "model_version": update.model_version,
            "kind": update.kind.replace("_", " "),
            "at": update.at,
            "actor": update.actor,
            "days_since_approval": update.days_since_approval,
            "days_since_last": update.days_since_last,
            "pace": update.pace,
        }
        for one in found_ones
        for update in reversed(one.updates)
    ]
    return Sheet(f"cadence-{now:%Y-%m-%d}", "Every update, newest first", columns, rows)


def _cadence_chart(one: TaskCadence, now: datetime) -> Any:
    """Days between a task's approvals, each at its moment, against those wanted; the days since the last at the end."""
    if one.days_now is None:
        return None
    dots = [Dot(item.at, item.days_since_approval) for item in one.updates if item.days_since_approval is not None]
    since = Dot(now, one.days_now)
    most = max([dot.value or 0.0 for dot in (*dots, since)] + [one.max_days * 1.25])
    start, room = one.updates[0].at, (now - one.updates[0].at) / 30 + timedelta(hours=1)
    hovers = [
        Hover(dot.at - room, dot.at + room, f"{dot.at:%Y-%m-%d}: {dot.value or 0.0:.1f} days after the one before")
        for dot in dots
    ]
    marks = [
        Mark(
            item.at, "rolled back", "back", f"version {item.model_version} put back by {item.actor}, {item.at:%Y-%m-%d}"
        )
        for item in one.updates
        if item.kind == "rolled_back"
    ]
    return charts.over_time(
        f"cadence-{one.task}",
        f"Days between updates of {one.task}",
        f"{one.min_days} to {one.max_days} days are wanted; {one.within} of {one.intervals} intervals were.",
        [Line("approvals", tuple(dots), "a"), Line("now", (since,), "b")],
        charts.numbers(most),
        (start, now + room),
        hovers=hovers,
        marks=marks,
        goal=(one.min_days, one.max_days),
        joined=False,
        panel=True,
    )
