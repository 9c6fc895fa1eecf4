"""The page that says in a minute what a drift watch saw and decided: HTML and SVG, no script, all of it escaped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from monitoring.policy import RetrainDecision
from monitoring.windows import Window
from undertone.records import DriftVerdict
from undertone.tasks import TaskSpec

_TEMPLATES = Path(__file__).parent / "templates"
#: Bars in one group, those that changed most.
MOST_BARS = 12
#: Letters of a name that fit beside its bars; a group with a longer one has its names above the bars.
MOST_BESIDE = 20


def render(
    spec: TaskSpec,
    reference: Window,
    current: Window,
    verdict: DriftVerdict,
    decision: RetrainDecision | None,
    html: Path | None,
    synthetic: bool,
) -> str:
    """The page as one self-contained HTML document of a few kilobytes."""
    groups = [_shares("Predicted labels", reference.frame["label"], current.frame["label"], list(spec.labels))]
    for name in ("channel", "segment"):
        first, second = reference.frame[name].dropna(), current.frame[name].dropna()
        if len(first) or len(second):
            names = sorted(set(first) | set(second))
            names.sort(key=lambda value: -abs(_share(first, value) - _share(second, value)))  # stable: ties by name
            groups.append(_shares(name.capitalize() + "s", first, second, names))
    return (
        Environment(autoescape=True, loader=FileSystemLoader(_TEMPLATES))
        .get_template("drift.html")
        .render(
            v=verdict,
            spec=spec,
            decision=decision,
            synthetic=synthetic,
            signals=[_bar(signal) for signal in verdict.signals],
            groups=[group for group in groups if group["rows"]],
            html=html.name if html else None,
        )
    )


def _bar(signal: Any) -> dict[str, Any]:
    """Widths in pixels of 160; an AUC's bar starts at one half, where nothing can be told."""
    base, top = (0.5, 1.0) if "AUC" in signal.method else (0.0, max(4 * signal.floor, 0.4))
    scaled = [round(160 * min(1.0, max(0.0, (value - base) / (top - base)))) for value in (signal.effect, signal.floor)]
    values = {name: getattr(signal, name) for name in ("name", "method", "effect", "floor", "p_value", "fired")}
    return values | {"bar": scaled[0], "mark": scaled[1] if signal.floor else 0}


def _shares(title: str, first: Any, second: Any, names: list[str]) -> dict[str, Any]:
    rows = [{"name": name, "before": _share(first, name), "now": _share(second, name)} for name in names]
    top = 18 if any(len(name) > MOST_BESIDE for name in names[:MOST_BARS]) else 0
    return {"title": title, "rows": rows[:MOST_BARS], "more": max(0, len(rows) - MOST_BARS), "top": top}


def _share(values: Any, name: str) -> float:
    return float((values == name).mean()) if len(values) else 0.0
