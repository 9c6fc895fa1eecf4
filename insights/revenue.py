"""How customers' spending and survey scores differ with what they write: joined by customer, segment and period.

These are associations. Nothing here says what spending would be if customers wrote otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sqlalchemy import Connection, case, func, select

from insights.associate import CONFIDENCE, FLIPS, MIN_CUSTOMERS, Estimate, Model, compare
from insights.orders import Orders
from undertone import views
from undertone.errors import ConfigError, DataError
from undertone.multiplicity import holm
from undertone.store import Store

Step = Literal["week", "month", "quarter"]
STEPS: tuple[Step, ...] = ("week", "month", "quarter")

#: What can be compared, and what of it.
OUTCOMES: Mapping[str, tuple[tuple[str, Model, str], ...]] = {
    "spend": (
        ("spend", "ratio", "mean spending per customer and period, those who spent nothing included"),
        ("ordered", "difference", "share of customers with an order in the period"),
    ),
    "nps": (
        ("nps", "difference", "net promoter score, -100 to 100: promoters (9, 10) less detractors (0 to 6)"),
        ("nps_score", "difference", "mean answer, 0 to 10"),
    ),
    "csat": (
        ("csat_satisfied", "difference", "share of answers 4 and 5"),
        ("csat_score", "difference", "mean answer, 1 to 5"),
    ),
}
WHENS = ("same", "following")
ALL = "all"
NO_SEGMENT = "(none)"

#: Least labelled rows of a model's error table that a correction rests on.
MIN_ERROR_ROWS = 100
ALPHA = 1 - CONFIDENCE

CAVEATS = (
    "These figures are associations. They do not say what spending or scores would be if customers wrote otherwise.",
    "Customers who write and those who do not differ in ways that no column here shows, so only customers who wrote"
    " are compared with each other. What makes people complain (a late parcel, a higher price) may change spending by"
    " itself.",
    "Within one period an order may come before or after the message. The following period keeps the order of time,"
    " and is still an association.",
    "To learn what a change would do, make it for customers drawn at random and compare them with the rest.",
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One outcome of customers with the label beside the others', in one segment and period.

    Attributes:
        outcome: a name of `OUTCOMES`.
        when: same: the outcome of the period of the messages; following: of the period after.
        segment: or `ALL`.
        kind: ratio or difference.
        estimate: with its interval and p-values.
        adjusted_p: after Holm's correction over all comparisons of the answer.
        verdict: differs, not_shown, too_few or no_estimate.
        corrected: the value with the model's errors taken out; None: they are not known well enough.
    """

    outcome: str
    when: str
    segment: str
    kind: Model
    estimate: Estimate
    adjusted_p: float | None = None
    verdict: str = "no_estimate"
    corrected: float | None = None


@dataclass(frozen=True, slots=True)
class Errors:
    """How often a model's label is wrong, and how far that pulls a comparison towards no difference.

    Attributes:
        source: audit or holdout.
        rows: labelled messages it rests on.
        sensitivity: share of messages with the label that get it.
        specificity: share of the others that do not get it.
        share: of messages that got the label.
        kept: share of a true difference that a comparison of single messages shows; None: it cannot be told.
    """

    source: str
    rows: int
    sensitivity: float
    specificity: float
    share: float
    kept: float | None


@dataclass(frozen=True, slots=True)
class Relation:
    """The whole answer.

    Attributes:
        counts: rows on both sides, and what did not match.
        tests: comparisons that the correction counted.
    """

    task: str
    label: str
    step: Step
    start: str
    end: str
    source: str
    counts: Mapping[str, int]
    unusable: Mapping[str, int]
    comparisons: tuple[Comparison, ...]
    errors: Errors | None
    tests: int
    caveats: tuple[str, ...] = CAVEATS

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        about = {name: text for parts in OUTCOMES.values() for name, _, text in parts}
        used = {comparison.outcome for comparison in self.comparisons}
        return asdict(self) | {
            "outcomes": {name: text for name, text in about.items() if name in used},
            "method": {
                "unit": f"a customer in a {self.step} in which they wrote",
                "with_the_label": f"at least half of the customer's messages of the {self.step}",
                "ratio": "Poisson pseudo-maximum likelihood, errors clustered by customer",
                "difference": "least squares, errors clustered by customer",
                "adjusted_for": f"{self.step}, segment, number of messages; for spend also spending the {self.step}"
                " before",
                "interval": f"{CONFIDENCE:.0%}, of each comparison alone",
                "p_value": f"the larger of the regression's and of up to {FLIPS:,} sign flips by customer",
                "correction": "Holm, over all comparisons that have an estimate",
                "min_customers": MIN_CUSTOMERS,
            },
        }


def relate(
    store: Store,
    orders: Orders | None,
    outcomes: Sequence[str] = ("spend",),
    *,
    task: str = "sentiment",
    label: str = "negative",
    step: Step = "month",
    start: datetime | None = None,
    end: datetime | None = None,
) -> Relation:
    """Compare customers whose messages got `label` with other customers who wrote.

    Args:
        store: its views are read: messages (final sentiment) or predictions (another task's label), surveys.
        orders: what was spent; needed for the outcome spend.
        outcomes: names of `OUTCOMES`.
        task: sentiment: the final one, sarcasm heard; else that task's own answer.
        label: what counts.
        step: length of a period; weeks begin on Mondays, all in UTC.
        start: messages from then on; None: all.
        end: messages before then; None: all.

    Raises:
        ConfigError: an outcome or a step that is none, or spend without orders.
        DataError: no messages of customers, or none of customers with orders or answers.
    """
    if unknown := sorted(set(outcomes) - set(OUTCOMES)):
        raise ConfigError(f"outcomes {', '.join(OUTCOMES)}", ", ".join(unknown), "choose among these")
    if step not in STEPS:
        raise ConfigError(f"a period: {', '.join(STEPS)}", repr(step), "choose one")
    if "spend" in outcomes and orders is None:
        raise ConfigError("--orders for the outcome spend", "none", "give a file or a URL, or --outcome nps")
    dialect = store.engine.dialect.name
    with store.reading() as connection:
        wrote, counts = _messages(connection, dialect, task, label, start, end)
        surveys = {kind: _answers(connection, dialect, kind) for kind in ("nps", "csat") if kind in outcomes}
        errors = _errors(connection, dialect, task, label, wrote, start, end)
    if wrote.empty:
        raise DataError(
            f"messages with a customer_id and an answer of {task}",
            f"{counts['messages']:,} messages, {counts['messages_without_customer']:,} without a customer",
            "send customer_id with the messages, or choose other dates",
        )
    panel = _panel(wrote, step)
    parts: list[tuple[Comparison, pd.DataFrame, bool]] = []
    if orders is not None and "spend" in outcomes:
        spending, more = _spending(panel, orders, step)
        counts |= more
        parts += _parts("spend", spending, previous=True)
    for kind, answers in surveys.items():
        scored, more = _scores(panel, answers, step, kind)
        counts |= more
        parts += _parts(kind, scored, previous=False)
    kept = errors.kept if errors else None
    comparisons = _judged([_estimated(*part) for part in parts], kept)
    return Relation(
        task=task,
        label=label,
        step=step,
        start=str(wrote["day"].min()),
        end=str(wrote["day"].max()),
        source=orders.source if orders else "",
        counts=counts,
        unusable=dict(orders.unusable) if orders else {},
        comparisons=comparisons,
        errors=errors,
        tests=sum(comparison.adjusted_p is not None for comparison in comparisons),
    )


# what customers wrote ---------------------------------------------------------------------------


def _messages(
    connection: Connection, dialect: str, task: str, label: str, start: datetime | None, end: datetime | None
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Messages by customer, segment and day: how many, and how many of them got the label."""
    view = views.get_view("messages" if task == "sentiment" else "predictions").table(dialect)
    answer = view.c.sentiment if task == "sentiment" else view.c.label
    query = select(
        view.c.customer_id,
        view.c.segment,
        view.c.day,
        answer.is_(None).label("unanswered"),
        func.count().label("messages"),
        func.sum(case((answer == label, 1), else_=0)).label("hits"),
    ).group_by(view.c.customer_id, view.c.segment, view.c.day, answer.is_(None))
    if task != "sentiment":
        query = query.where(view.c.task == task)
    if start is not None:
        query = query.where(view.c.event_at >= start)
    if end is not None:
        query = query.where(view.c.event_at < end)
    found = pd.DataFrame(
        connection.execute(query).all(),
        columns=["customer", "segment", "day", "unanswered", "messages", "hits"],
    ).astype({"messages": "int64", "hits": "int64"})
    stranger, unanswered = found["customer"].isna(), found["unanswered"].astype(bool)
    counts = {
        "messages": int(found["messages"].sum()),
        "messages_without_customer": int(found.loc[stranger, "messages"].sum()),
        "messages_without_answer": int(found.loc[unanswered & ~stranger, "messages"].sum()),
    }
    return found[~stranger & ~unanswered].reset_index(drop=True), counts


def _panel(wrote: pd.DataFrame, step: Step) -> pd.DataFrame:
    """One row for each customer in each period in which they wrote."""
    period = _periods(pd.to_datetime(wrote["day"]), step)
    wrote = wrote.assign(period=period, segment=wrote["segment"].fillna(NO_SEGMENT))
    by = ["customer", "period"]
    panel = wrote.groupby(by, as_index=False)[["messages", "hits"]].sum()
    often = wrote.groupby([*by, "segment"], as_index=False)[["messages"]].sum()
    often = often.sort_values(["messages", "segment"], ascending=[False, True]).drop_duplicates(by)
    panel = panel.merge(often[[*by, "segment"]], on=by)
    return panel.assign(labelled=(2 * panel["hits"] >= panel["messages"]).astype(float))


def _periods(moments: pd.Series, step: Step) -> NDArray[np.int64]:
    """Number of the period of each moment, counted from 1970; the next period's number is one more."""
    days = moments.dt.tz_localize(None) if moments.dt.tz is not None else moments
    if step == "week":  # 1 January 1970 was a Thursday
        return (days.to_numpy("datetime64[D]").astype(np.int64) + 3) // 7
    months = days.to_numpy("datetime64[M]").astype(np.int64)
    return months // 3 if step == "quarter" else months


def period_start(number: int, step: Step) -> date:
    """First day of a period by its number."""
    if step == "week":
        return date(1970, 1, 1) + timedelta(days=7 * number - 3)
    months = number * 3 if step == "quarter" else number
    return date(1970 + months // 12, months % 12 + 1, 1)


# outcomes ---------------------------------------------------------------------------------------


def _spending(panel: pd.DataFrame, orders: Orders, step: Step) -> tuple[pd.DataFrame, dict[str, int]]:
    """`panel` with spending in the same, the following and the previous period, of customers who have orders."""
    bought = orders.frame.assign(period=_periods(orders.frame["ordered_at"], step))
    wrote, known = set(panel["customer"]), set(bought["customer_id"])
    both = wrote & known
    counts = {
        "orders_read": orders.rows,
        "orders": len(bought),
        "orders_of_customers_who_did_not_write": int((~bought["customer_id"].isin(both)).sum()),
        "customers_who_wrote": len(wrote),
        "customers_with_orders": len(known),
        "customers_with_both": len(both),
        "messages_of_customers_without_orders": int(panel.loc[~panel["customer"].isin(both), "messages"].sum()),
    }
    if not both:
        raise DataError(
            "customers that both messages and orders name",
            f"{len(wrote):,} customers wrote, {len(known):,} ordered, none is the same",
            "check that customer_id means the same in both",
        )
    first, last = int(bought["period"].min()), int(bought["period"].max())
    spent = bought.groupby(["customer_id", "period"])["amount"].sum()
    counts["customer_periods_with_more_refunds_than_orders"] = int((spent < 0).sum())
    spent = spent.clip(lower=0)
    panel = panel[panel["customer"].isin(both)]
    if "segment" in bought and bought["segment"].notna().any():
        panel = panel.assign(segment=_of_orders(panel, bought))
    counts["customer_periods"] = len(panel)
    panel = panel[panel["period"].between(first + 1, last)]
    counts["customer_periods_outside_the_orders_dates"] = counts["customer_periods"] - len(panel)
    shifted = {"same": 0, "following": 1, "previous": -1}
    for name, shift in shifted.items():
        keys = pd.MultiIndex.from_arrays([panel["customer"], panel["period"] + shift])
        panel = panel.assign(**{name: spent.reindex(keys, fill_value=0.0).to_numpy(np.float64)})
    panel.loc[panel["period"] + 1 > last, "following"] = np.nan
    return panel, counts


def _of_orders(panel: pd.DataFrame, bought: pd.DataFrame) -> pd.Series:
    """Each row's segment: the one that most of the customer's orders have, else that of the messages."""
    often = bought.groupby(["customer_id", "segment"], as_index=False).agg(orders=("amount", "size"))
    often = often.sort_values(["orders", "segment"], ascending=[False, True]).drop_duplicates("customer_id")
    return panel["customer"].map(often.set_index("customer_id")["segment"]).fillna(panel["segment"]).astype(str)


def _answers(connection: Connection, dialect: str, kind: str) -> pd.DataFrame:
    view = views.get_view("surveys").table(dialect)
    query = select(view.c.customer_id, view.c.day, view.c.score).where(view.c.kind == kind)
    return pd.DataFrame(connection.execute(query).all(), columns=["customer_id", "day", "score"])


def _scores(panel: pd.DataFrame, answers: pd.DataFrame, step: Step, kind: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """`panel` with the mean score of a customer's answers in the same and in the following period."""
    named = answers[answers["customer_id"].notna()]
    wrote, known = set(panel["customer"]), set(named["customer_id"])
    counts = {
        f"{kind}_answers": len(answers),
        f"{kind}_answers_without_customer": len(answers) - len(named),
        f"{kind}_answers_of_customers_who_did_not_write": int((~named["customer_id"].isin(wrote)).sum()),
        f"{kind}_customers_with_both": len(wrote & known),
    }
    if not wrote & known:
        raise DataError(
            f"customers that both messages and {kind} answers name",
            f"{len(wrote):,} customers wrote, {len(known):,} answered, none is the same",
            "import answers with a customer: `undertone insights surveys import FILE --customer COLUMN`",
        )
    score = named["score"].astype(float)
    if kind == "nps":
        high, low = score >= 9, score <= 6
        values = {"nps": 100.0 * high - 100.0 * low, "nps_score": score}
    else:
        values = {"csat_satisfied": (score >= 4).astype(float), "csat_score": score}
    named = named.assign(period=_periods(pd.to_datetime(named["day"]), step), **values)
    means = named.groupby(["customer_id", "period"])[list(values)].mean()
    for when, shift in (("same", 0), ("following", 1)):
        keys = pd.MultiIndex.from_arrays([panel["customer"], panel["period"] + shift])
        found = means.reindex(keys)
        panel = panel.assign(**{f"{name} {when}": found[name].to_numpy(np.float64) for name in values})
    return panel, counts


def _parts(outcome: str, panel: pd.DataFrame, *, previous: bool) -> list[tuple[Comparison, pd.DataFrame, bool]]:
    """Every comparison of an outcome that is to be made, with its rows."""
    parts = []
    segments = sorted(panel["segment"].unique())
    for name, model, _ in OUTCOMES[outcome]:
        for when in WHENS:
            if outcome == "spend":
                values = panel[when] if name == "spend" else (panel[when] > 0).astype(float).where(panel[when].notna())
            else:
                values = panel[f"{name} {when}"]
            rows = panel.assign(outcome=values)
            for segment in [ALL, *(segments if len(segments) > 1 else ())]:
                of = rows if segment == ALL else rows[rows["segment"] == segment]
                parts.append((Comparison(name, when, segment, model, Estimate()), of, previous))
    return parts


# judging ----------------------------------------------------------------------------------------


def _estimated(comparison: Comparison, rows: pd.DataFrame, previous: bool) -> Comparison:
    return replace(comparison, estimate=compare(rows, comparison.kind, previous=previous))


def _judged(comparisons: Sequence[Comparison], kept: float | None) -> tuple[Comparison, ...]:
    """With corrected p-values and verdicts."""
    p_values = [found.estimate.p_value for found in comparisons if found.estimate.p_value is not None]
    adjusted = iter(holm(p_values).tolist())
    judged = []
    for found in comparisons:
        if found.estimate.p_value is None:
            few = min(found.estimate.customers, found.estimate.others) < MIN_CUSTOMERS
            judged.append(replace(found, verdict="too_few" if few else "no_estimate"))
            continue
        p_value = next(adjusted)
        judged.append(
            replace(
                found,
                adjusted_p=p_value,
                verdict="differs" if p_value < ALPHA else "not_shown",
                corrected=_corrected(found, kept),
            )
        )
    return tuple(judged)


def _corrected(found: Comparison, kept: float | None) -> float | None:
    value = found.estimate.value
    if value is None or kept is None:
        return None
    return float(np.exp(np.log(value) / kept)) if found.kind == "ratio" else value / kept


def _errors(
    connection: Connection,
    dialect: str,
    task: str,
    label: str,
    wrote: pd.DataFrame,
    start: datetime | None,
    end: datetime | None,
) -> Errors | None:
    """The label's errors, by audits of the versions that answered, else by their holdouts; None: nobody knows.

    With a share p of true labels, a difference between messages with and without the label is the true one times
    (positive + negative predictive value - 1), if errors do not depend on the outcome (Aigner, 1973,
    https://doi.org/10.1016/0304-4076(73)90005-5).
    """
    answered, table = (views.get_view(name).table(dialect) for name in ("predictions", "model_errors"))
    versions = select(answered.c.model_version).where(answered.c.task == task).distinct()
    if start is not None:
        versions = versions.where(answered.c.event_at >= start)
    if end is not None:
        versions = versions.where(answered.c.event_at < end)
    query = select(table.c.source, table.c.label, table.c.predicted, func.sum(table.c.rows)).where(
        table.c.task == task, table.c.model_version.in_(versions)
    )
    found = connection.execute(query.group_by(table.c.source, table.c.label, table.c.predicted)).all()
    for source in ("audit", "holdout"):
        cells = [(true == label, said == label, int(rows)) for of, true, said, rows in found if of == source]
        total = sum(rows for *_, rows in cells)
        positives = sum(rows for true, _, rows in cells if true)
        if total < MIN_ERROR_ROWS or positives in (0, total) or wrote.empty:
            continue
        sensitivity = sum(rows for true, said, rows in cells if true and said) / positives
        specificity = sum(rows for true, said, rows in cells if not true and not said) / (total - positives)
        share = float(wrote["hits"].sum() / wrote["messages"].sum())
        kept = share_kept(sensitivity, specificity, share)
        return Errors(source, total, sensitivity, specificity, share, kept)
    return None


def share_kept(sensitivity: float, specificity: float, share: float) -> float | None:
    """Share of a true difference that is seen, where `share` of messages got the label; None: it cannot be told."""
    if not 0 < share < 1 or sensitivity + specificity - 1 < 0.1:
        return None
    true = (share + specificity - 1) / (sensitivity + specificity - 1)
    if not 0 < true < 1:
        return None
    kept = sensitivity * true / share + specificity * (1 - true) / (1 - share) - 1
    return kept if kept >= 0.1 else None


# showing ----------------------------------------------------------------------------------------


def shown(value: float | None, kind: Model) -> str:
    """A ratio as 0.82 times, a difference with its sign."""
    if value is None:
        return ""
    return f"{value:.2f}x" if kind == "ratio" else f"{value:+.3f}"
