"""How the answers of `insights.revenue`, `insights.surveys` and `insights.export` read at a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import Progress, TextColumn

from flows.terminal import progress, table
from insights.associate import CONFIDENCE, MIN_CUSTOMERS
from insights.export import Exported
from insights.revenue import OUTCOMES, Comparison, Relation, shown
from insights.surveys import Imported

_VERDICTS = {
    "differs": "differs",
    "not_shown": "no difference shown",
    "too_few": f"too few (under {MIN_CUSTOMERS} customers on a side)",
    "no_estimate": "no estimate",
}


def relation_text(found: Relation) -> str:
    """The answer with everything that it rests on, caveats included."""
    about = {name: words for parts in OUTCOMES.values() for name, _, words in parts}
    rows = [_row(comparison) for comparison in found.comparisons]
    parts = [
        f"Customers whose {found.task} was {found.label} in at least half of their messages of a {found.step},"
        f" beside the other customers who wrote; messages of {found.start} to {found.end}"
        + (f"; orders of {found.source}" if found.source else ""),
        "",
        ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in found.counts.items()),
        *_left_out("orders left out", found.unusable),
        "",
        table(rows, ["outcome", "period", "segment", "customers", "mean", "difference", "95 %", "p", "Holm", "verdict"])
        if rows
        else "nothing to compare",
        "",
        *(f"{name}: {about[name]}" for name in dict.fromkeys(item.outcome for item in found.comparisons)),
        "period: of the outcome; same: that of the messages, following: the one after."
        " customers and mean: with the label / the others, unadjusted.",
        f"difference: a ratio of means (x) or a difference of means (+, -), adjusted for {found.step}, segment, number"
        f" of messages and, for spending, the {found.step} before; with its {CONFIDENCE:.0%} interval.",
        f"Holm: the p-value after correction over {found.tests} comparisons; the intervals are not corrected.",
        *_errors(found),
        "",
        *(f"! {caveat}" for caveat in found.caveats),
    ]
    return "\n".join(parts)


def import_text(found: Imported) -> str:
    """What became of a file of answers."""
    lines = [
        f"{found.rows:,} rows, {found.stored:,} answers stored, {found.new:,} of them new",
        "columns: " + ", ".join(f"{field} = {column}" for field, column in found.columns.items()),
    ]
    if found.without_customer:
        lines.append(f"{found.without_customer:,} answers name no customer and cannot be joined with messages")
    return "\n".join([*lines, *_left_out("left out", found.left_out)])


def export_text(done: Sequence[Exported]) -> str:
    """What was written of each view."""
    return table(
        [{"view": item.view, "rows": item.rows, "files": item.files, "kB": item.bytes // 1_000} for item in done],
        ["view", "rows", "files", "kB"],
    )


@contextmanager
def export_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each view, on standard error."""
    with progress() as shown_bars:
        bars: dict[str, Any] = {}

        def told(view: str, done: int, total: int) -> None:
            if view not in bars:
                bars[view] = shown_bars.add_task(view, total=total)
            shown_bars.update(bars[view], completed=done, total=total)

        yield told


@contextmanager
def rows_progress(title: str) -> Iterator[Callable[[int], None]]:
    """A running count of rows, on standard error."""
    columns = (TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"))
    with Progress(*columns, console=Console(stderr=True)) as counter:
        bar = counter.add_task(title, total=None)
        yield lambda rows: counter.update(bar, completed=rows)


def _row(item: Comparison) -> dict[str, Any]:
    found = item.estimate
    interval = "" if found.low is None else f"{shown(found.low, item.kind)} to {shown(found.high, item.kind)}"
    return {
        "outcome": item.outcome,
        "period": item.when,
        "segment": item.segment,
        "customers": f"{found.customers:,} / {found.others:,}",
        "mean": f"{_mean(found.mean)} / {_mean(found.mean_others)}",
        "difference": shown(found.value, item.kind),
        "95 %": interval,
        "p": "" if found.p_value is None else f"{found.p_value:.4f}",
        "Holm": "" if item.adjusted_p is None else f"{item.adjusted_p:.4f}",
        "verdict": _VERDICTS[item.verdict] + (f": {found.problem}" if item.verdict == "no_estimate" else ""),
    }


def _errors(found: Relation) -> list[str]:
    if found.errors is None:
        return [
            f"The model's errors on {found.label!r} are not known (no audit and no holdout of the versions that"
            " answered): wrong labels make true differences look smaller, here by an unknown part."
        ]
    errors = found.errors
    said = (
        f"Model errors ({errors.source}, {errors.rows:,} messages): it finds {errors.sensitivity:.0%} of messages that"
        f" are {found.label}, and leaves {errors.specificity:.0%} of the others alone."
    )
    if found.task == "sentiment":
        said += " That is the sentiment model alone; the final sentiment, which has heard sarcasm, may differ."
    if errors.kept is None:
        return [said, "How much smaller they make a difference cannot be told from these figures."]
    corrected = [
        f"{item.outcome} {item.when} {item.segment} {shown(item.corrected, item.kind)}"
        for item in found.comparisons
        if item.verdict == "differs"
    ]
    return [
        said,
        f"About {errors.kept:.0%} of a true difference is then seen, if errors have nothing to do with the outcome."
        + (f" Corrected so: {'; '.join(corrected)} (roughly; the intervals are not)." if corrected else ""),
    ]


def _left_out(title: str, counts: Mapping[str, int]) -> list[str]:
    return [f"{title}: " + ", ".join(f"{reason} ({count:,})" for reason, count in counts.items())] if counts else []


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:,.2f}"
