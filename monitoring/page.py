"""The page that says in a minute what a drift watch saw and decided: HTML and SVG, no script, all of it escaped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template

from monitoring.audit import AuditResult
from monitoring.estimate import Estimate
from monitoring.policy import Asked, RetrainDecision
from monitoring.terms import Term
from monitoring.windows import Window
from undertone.records import LEVELS, DriftVerdict, Level, Signal, Verdict, utc
from undertone.tasks import TaskSpec

_TEMPLATES = Path(__file__).parent / "templates"
#: Rows of a group of shares, those that changed most; rows of the table of segments, and names in a list of segments.
MOST_SHARES, MOST_SEGMENTS, MOST_NAMES = 12, 20, 20
#: Windows of the history, the newest.
MOST_PAST = 60
#: Letters of a name, and of a reason, that are shown.
MOST_LETTERS, MOST_REASON = 80, 1_500


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier watch of this model version.

    Attributes:
        at: end of its window.
        effects: by signal, over all messages.
    """

    at: datetime
    verdict: Verdict
    level: Level
    rows: int
    effects: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Story:
    """What page one tells beside the windows and the verdict.

    Attributes:
        history: earlier watches of this version, oldest first.
        approver, approved_at: who let this version serve, and when; `override`: although the gate refused it.
        overrides: orders of people to retrain whatever the cadence says.
        terms: words that changed, `monitoring.terms.changed`.
        examples: ids of the messages that look least like the reference; never their texts.
        synthetic: the model was trained on generated messages.
        asked_labels: messages that wait in the review queue for this audit.
    """

    decision: RetrainDecision | None = None
    audit: AuditResult | None = None
    estimate: Estimate | None = None
    history: tuple[Past, ...] = ()
    trained_at: datetime | None = None
    approver: str | None = None
    approved_at: datetime | None = None
    override: bool = False
    overrides: tuple[Asked, ...] = ()
    terms: tuple[Term, ...] = ()
    examples: tuple[str, ...] = ()
    synthetic: bool = False
    asked_labels: int = 0


def render(
    spec: TaskSpec,
    reference: Window,
    current: Window,
    verdict: DriftVerdict,
    story: Story,
    html: Path | None,
    problem: str = "",
) -> str:
    """The page as one self-contained HTML document of some tens of kilobytes.

    Args:
        html: Evidently's report, in the page's folder; `problem`: why there is none.
    """
    own = [signal for signal in verdict.signals if signal.segment is None]
    segments = sorted((signal for signal in verdict.signals if signal.segment is not None), key=_worst_first)
    return _template().render(
        v=verdict,
        spec=spec,
        story=story,
        html=html.name if html else None,
        problem=problem,
        now=verdict.window_end,
        days=_days(spec, verdict, story),
        quality=_quality(spec, story),
        signals=[_bar(signal) for signal in own],
        segments=[_bar(signal) for signal in segments[:MOST_SEGMENTS]],
        more_segments=max(0, len(segments) - MOST_SEGMENTS),
        named={"new": _names(verdict.new_segments), "vanished": _names(verdict.vanished_segments)},
        groups=[group for group in _groups(spec, reference, current) if group["rows"]],
        rose=[term for term in story.terms if term.z > 0],
        fell=[term for term in story.terms if term.z < 0],
        history=_history(spec, verdict, story.history),
    )


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, loader=FileSystemLoader(_TEMPLATES), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"sentence": _sentence, "points": _points, "name": _name, "p": _chance, "ago": _ago}
    return environment.get_template("drift.html")


def _days(spec: TaskSpec, verdict: DriftVerdict, story: Story) -> dict[str, float] | None:
    """Days since training and where they stand on a bar of 300 units that ends at the cadence's last day, or later."""
    days = story.decision.days_since if story.decision else None
    if days is None and story.trained_at is not None:
        days = (utc(verdict.window_end) - utc(story.trained_at)).total_seconds() / 86_400
    if days is None:
        return None
    days = max(0.0, days)
    unit = 300 / max(spec.cadence.max_days, days, 1)
    return {
        "days": days,
        "bar": round(unit * days, 1),
        "first": round(unit * spec.cadence.min_days, 1),
        "last": round(unit * spec.cadence.max_days, 1),
    }


def _quality(spec: TaskSpec, story: Story) -> dict[str, Any]:
    """What is known of the answers' quality. Changes are of the reference's value; a loss is negative.

    ``tone``: "bad" for a drop that a complete audit confirms, "good" where it rules out the drop that the policy asks
    it to see, else "". An estimate has none.
    """
    audit = story.audit
    if audit is None:
        return {"tone": "", "rows": []}
    measured = [
        ("accuracy", audit.accuracy, audit.accuracy_drop, audit.accuracy_interval),
        ("macro-F1", audit.macro_f1, audit.macro_f1_drop, audit.macro_f1_interval),
    ]
    if spec.primary_metric == "macro_f1":
        measured.reverse()
    ruled_out = max(high for _, _, _, (_, high) in measured) < spec.audit.drop
    tone = "" if not audit.complete else "bad" if audit.confirmed else "good" if ruled_out else ""
    widest = max([0.1, *(abs(value) for _, _, _, interval in measured for value in interval)])

    def place(change: float) -> float:
        return round(150 + 140 * change / widest, 1)

    rows = [
        {
            "name": name, "value": value, "change": -drop, "low": -high, "high": -low,
            "x": place(-drop), "left": place(-high), "right": place(-low),
        }
        for name, value, drop, (low, high) in measured
    ]  # fmt: skip
    return {"tone": tone, "rows": rows, "limit": place(-spec.audit.drop), "widest": widest, "ruled_out": ruled_out}


def _bar(signal: Signal) -> dict[str, Any]:
    """Widths in pixels of 160; an AUC's bar starts at one half, where nothing can be told."""
    floors = [("warn", signal.floor), ("act", signal.act), ("severe", signal.severe)]
    marks = [(name, value) for name, value in floors if value]
    base = 0.5 if "AUC" in signal.method else 0.0
    top = 1.0 if base else max([1.35 * value for _, value in marks] or [0.4])

    def place(value: float) -> float:
        return round(160 * min(1.0, max(0.0, (value - base) / (top - base))), 1)

    return {
        "signal": signal,
        "bar": place(signal.effect) if signal.effect == signal.effect else 0.0,
        "over": signal.effect > top,
        "marks": [{"name": name, "value": value, "x": min(158.0, place(value))} for name, value in marks],
    }


def _worst_first(signal: Signal) -> tuple[int, float, str]:
    return -LEVELS.index(signal.level), signal.adjusted_p, signal.segment or ""


def _groups(spec: TaskSpec, reference: Window, current: Window) -> Iterable[dict[str, Any]]:
    """Shares before and now, of all rows of the reference and of the window."""
    for name in ("label", "channel", "segment"):
        before, now = (
            {key: count for key, count in side.counts.get(name, {}).items() if count} for side in (reference, current)
        )
        totals = max(1, sum(before.values())), max(1, sum(now.values()))
        rows = [
            {"name": key, "before": before.get(key, 0) / totals[0], "now": now.get(key, 0) / totals[1]}
            for key in dict.fromkeys([*(spec.labels if name == "label" else ()), *sorted(set(before) | set(now))])
        ]
        if name != "label" or len(rows) > MOST_SHARES:
            rows.sort(key=lambda row: -abs(row["now"] - row["before"]))  # type: ignore[operator]  # stable: ties by name
        yield {
            "title": {"label": "Predicted labels", "channel": "Channels", "segment": "Segments"}[name],
            "rows": rows[:MOST_SHARES] if before or now else [],
            "more": max(0, len(rows) - MOST_SHARES),
            "sides": (bool(before), bool(now)),
        }


def _names(names: tuple[str, ...]) -> dict[str, Any]:
    return {"shown": names[:MOST_NAMES], "more": max(0, len(names) - MOST_NAMES)}


def _history(spec: TaskSpec, verdict: DriftVerdict, past: tuple[Past, ...]) -> dict[str, Any] | None:
    """Places of a picture of 720 by 150 units: a line of the embedding's AUC over a strip of verdicts."""
    effects = {signal.name: signal.effect for signal in verdict.signals if signal.segment is None}
    this = Past(verdict.window_end, verdict.verdict, verdict.level, verdict.total_rows, effects)
    # the watch may have written its own row already; a clock that moved back leaves rows after this window
    earlier = [one for one in past if utc(one.at) < utc(verdict.window_end)]
    shown = [*earlier[-(MOST_PAST - 1) :], this]
    if len(shown) < 2:
        return None
    step = min(660 / len(shown), 44)

    def height(auc: float) -> float:
        return round(100 - 90 * (min(1.0, max(0.45, auc)) - 0.45) / 0.55, 1)

    points = [
        {
            "at": one.at, "verdict": one.verdict, "level": one.level, "rows": one.rows,
            "auc": one.effects.get("embedding"),
            "x": round(44 + step * place, 1), "middle": round(44 + step * (place + 0.5), 1),
            "y": height(one.effects["embedding"]) if "embedding" in one.effects else None,
        }
        for place, one in enumerate(shown)
    ]  # fmt: skip
    lines: list[list[str]] = [[]]
    for point in points:
        if point["y"] is None:
            lines.append([])  # a window without embeddings breaks the line
        else:
            lines[-1].append(f"{point['middle']},{point['y']}")
    own = next((s for s in verdict.signals if s.name == "embedding" and s.segment is None), None)
    policy = spec.drift.floors["embedding"]
    floors = (own.floor, own.act, own.severe) if own else (policy.warn, policy.act, policy.severe)
    return {
        "points": points,
        "step": round(step - 2, 1),
        "lines": [" ".join(line) for line in lines if len(line) > 1],
        "floors": [
            {"name": name, "y": height(value)}
            for name, value in zip(("warn", "act", "severe"), floors, strict=True)
            if value is not None
        ],
        "seen": any(point["y"] is not None for point in points),
        "end": round(44 + step * len(shown), 1),
        "left_out": len(earlier) + 1 - len(shown),
        "counts": {
            word: count
            for word in ("stable", "warn", "act", "severe", "too_few")
            if (count := sum(point["verdict"] == word for point in points))
        },
    }


def _sentence(words: str) -> str:
    """A capital first and one full stop last; the policy's and the verdict's reasons are clauses."""
    words = words.strip().replace("->", "→")
    words = words if len(words) <= MOST_REASON else words[:MOST_REASON] + "…"
    return words[:1].upper() + words[1:].rstrip(".") + "." if words else ""


def _points(share: float) -> str:
    """A change of a share or score in points, with its sign."""
    value = f"{100 * share:+.1f}"
    return value.replace("-", "−") if value not in {"+0.0", "-0.0"} else "0.0"


def _name(value: str, most: int = MOST_LETTERS) -> str:
    return value if len(value) <= most else value[:most] + "…"


def _chance(p_value: float) -> str:
    return "< 1e-15" if p_value < 1e-15 else f"{p_value:.1g}"


def _ago(moment: datetime, now: datetime) -> str:
    """Days between two moments in words."""
    days = (utc(now) - utc(moment)).total_seconds() / 86_400
    return "today" if days < 1 else "1 day ago" if days < 2 else f"{int(days)} days ago"
