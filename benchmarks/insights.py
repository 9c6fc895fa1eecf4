"""How far the figures of insights can be believed, and how fast they come. Figures are printed as Markdown.

    python benchmarks/insights.py coverage              95 % bands over prevalences, volumes and error counts
    python benchmarks/insights.py alarms                false alerts in eight steady weeks
    python benchmarks/insights.py power                 shifts that are told, and how soon
    python benchmarks/insights.py upsell                unhappy customers found, by lower bound and by raw share
    python benchmarks/insights.py speed [URL]           seconds for each question on a million predictions; SQLite in a
                                                        temporary folder, or the empty database that is named

All is drawn from fixed seeds. `--quick` runs a tenth.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flows.watch_insights import ALPHA, LOOKS
from insights.alerts import Alert, news
from insights.changes import HISTORY, Change, Days, Looked, changes, compare
from insights.channels import channel_performance
from insights.counts import Counts
from insights.estimate import MIN_ROWS, Corrections, ErrorCounts, Estimate, onto_simplex
from insights.latency import latency
from insights.period import Period
from insights.trend import trends
from insights.upsell import upsell
from tests.insight_rows import CHANNELS, ERRORS, SEGMENTS, SHARES, add_holdout, fill
from undertone.store import Store
from undertone.tasks import get_task

START = datetime(2026, 6, 1, tzinfo=UTC)
Floats = NDArray[np.float64]


def confusion(rng: np.random.Generator, task: str, rows: int) -> ErrorCounts:
    """The error counts that a holdout of so many rows gives."""
    true = rng.multinomial(rows, SHARES[task])
    return ErrorCounts(1, "holdout", np.stack([rng.multinomial(n, p) for n, p in zip(true, ERRORS[task], strict=True)]))


# coverage ---------------------------------------------------------------------------------------------------------

PREVALENCES = {
    "sentiment": ((0.02, 0.90, 0.08), (0.10, 0.60, 0.30), (0.25, 0.50, 0.25), (0.60, 0.30, 0.10)),
    "sarcasm": ((0.98, 0.02), (0.90, 0.10), (0.75, 0.25), (0.60, 0.40)),
    "emotion": ((0.30, 0.30, 0.15, 0.25), (0.70, 0.10, 0.05, 0.15), (0.05, 0.80, 0.05, 0.10)),
}
VOLUMES = (50, 500, 5_000)
HOLDOUTS = (300, 2_000)


def coverage(repeats: int) -> None:
    """How often the band, and the binomial one of the predicted labels (Wilson), hold the true share."""
    line("task", "error counts", "messages", "cases", "band holds", "worst label", "naive holds", "width", "too few")
    line(*["---"] * 9)
    whole: list[Floats] = []
    for task, shares in PREVALENCES.items():
        for holdout in HOLDOUTS:
            for rows in VOLUMES:
                found = [_covered(task, np.array(p), rows, holdout, repeats, i) for i, p in enumerate(shares)]
                held, naive, width = (np.concatenate([item[k] for item in found]) for k in (0, 1, 2))
                told = np.concatenate([item[3] for item in found])
                whole.append(np.array([held.sum(), naive.sum(), told.sum()]))
                line(task, holdout, rows, int(told.sum()), share(held.sum() / told.sum()),
                     share(np.min(held / np.maximum(told, 1), where=told > 0.5 * repeats, initial=1)),
                     share(naive.sum() / told.sum()), f"{100 * width.sum() / told.sum():.0f} points",
                     share(1 - told.mean() / repeats))  # fmt: skip
    held, naive, told = np.sum(whole, axis=0)
    print(f"\nAll {told:.0f} bands: {share(held / told)} hold the true share; naive ones: {share(naive / told)}.")


def _covered(task: str, p: Floats, rows: int, holdout: int, repeats: int, seed: int) -> tuple[Floats, ...]:
    """For each label: bands that hold, naive ones that hold, their widths' sum, and how many were told."""
    rng = np.random.default_rng((seed, rows, holdout))
    held, naive, width, told = (np.zeros(len(p)) for _ in range(4))
    labels = get_task(task).labels
    for repeat in range(repeats):
        said = rng.multinomial(rows, p @ np.array(ERRORS[task]))
        found = Corrections(labels, {1: confusion(rng, task, holdout)}, seed=repeat).estimate({1: said})
        low, high = proportion_confint(said, rows, method="wilson")
        for i, label in enumerate(labels):
            estimate = found[label]
            if estimate.low is not None and estimate.high is not None:
                told[i] += 1
                held[i] += estimate.low <= p[i] <= estimate.high
                naive[i] += low[i] <= p[i] <= high[i]
                width[i] += estimate.high - estimate.low
    return held, naive, width, told


# alarms -----------------------------------------------------------------------------------------------------------

HOURS = 4
BLOCKS = 24 // HOURS
WEEKS = 8


@dataclass(frozen=True)
class Traffic:
    """What messages come: a day, and how their true shares vary from day to day (logit scale)."""

    messages: int
    day_sd: float
    memory: float = 0.0
    weekend: float = 0.0

    @property
    def name(self) -> str:
        """In words."""
        more = [f"remembered by {self.memory}"] * (self.memory > 0) + [f"weekends {self.weekend}"] * (self.weekend > 0)
        return f"{self.messages} a day, day sd {self.day_sd}" + "".join(f", {word}" for word in more)


class Pointed(Corrections):
    """Corrections without bands of the shares, which no verdict uses: a simulation takes half as long."""

    def estimate(self, said: Mapping[int, NDArray[np.int64]]) -> dict[str, Estimate]:
        """Each label's share, with a band of no width."""
        total = sum(said.values(), np.zeros(len(self.labels), dtype=np.int64))
        rows = int(total.sum())
        if words := self.lacking(said):
            return dict.fromkeys(self.labels, Estimate(rows, None, None, None, None, words))
        point = sum(self.plain(version) @ (counts / rows) for version, counts in said.items())
        shares = onto_simplex(np.asarray(point)[None])[0]
        return {label: Estimate(rows, None, p, p, p) for label, p in zip(self.labels, shares.tolist(), strict=True)}


class Simulated:
    """Counts of eight weeks and what came before, in blocks of four hours, by channel and segment.

    Args:
        shift: added to the true share of a task's first label in one channel, or in all of them (None), from the middle
            of the eight weeks on.
    """

    def __init__(self, traffic: Traffic, seed: int, shift: float = 0.0, channel: str | None = "chat") -> None:
        self.rng = np.random.default_rng(seed)
        self.days = int(HISTORY.days) + max(LOOKS).days + 7 * WEEKS
        self.shifts_at = self.days - 7 * WEEKS // 2
        self.cells = [(c, s, a * b) for c, a in CHANNELS.items() for s, b in SEGMENTS.items()]
        self.tasks = {task: self._task(task, traffic, shift, channel) for task in SHARES}
        self.corrected = {
            task: Pointed(get_task(task).labels, {1: confusion(self.rng, task, 2_000)}, draws=200) for task in SHARES
        }

    def _task(self, task: str, traffic: Traffic, shift: float, channel: str | None) -> NDArray[np.int64]:
        """Predicted labels (blocks, cells, labels)."""
        rng, labels = self.rng, len(SHARES[task])
        said = np.zeros((self.days * BLOCKS, len(self.cells), labels), dtype=np.int64)
        # half of a day's own variation is shared by all channels
        common, own = (
            _walk(rng, self.days, labels, traffic),
            {c: _walk(rng, self.days, labels, traffic) for c in CHANNELS},
        )
        for day in range(self.days):
            for number, (where, _, part) in enumerate(self.cells):
                p = np.array(SHARES[task]) * np.exp(np.sqrt(0.5) * (common[day] + own[where][day]))
                p[0] *= np.exp(traffic.weekend * (day % 7 >= 5))
                p /= p.sum()
                if day >= self.shifts_at and shift and task == "sentiment" and channel in (None, where):
                    p = p + shift * np.array([1.0, *[-1 / (labels - 1)] * (labels - 1)])
                for block in range(BLOCKS):
                    rows = rng.poisson(traffic.messages * part / BLOCKS)
                    said[day * BLOCKS + block, number] = rng.multinomial(rows, p @ np.array(ERRORS[task]))
        return said

    def look(self, end: int, length: timedelta) -> tuple[Change, ...]:
        """What a watch at the end of block `end` finds that looks at `length`."""
        blocks, history = (int(span.total_seconds() // 3600 // HOURS) for span in (length, HISTORY))
        period = Period(self.at(end) - length, self.at(end))
        against = replace(period, start=period.start - HISTORY, end=period.start)
        empty = 0, 0
        looked = [
            Looked(get_task(task), self.corrected[task], self._days(task, *empty),
                   self._days(task, end - blocks - history, end - blocks), self._days(task, end - blocks, end))
            for task in SHARES
        ]  # fmt: skip
        return compare(looked, period, against, alpha=ALPHA)

    def at(self, block: int) -> datetime:
        """When a block starts."""
        return START + timedelta(hours=HOURS * block)

    def _days(self, task: str, first: int, last: int) -> Days:
        spec = get_task(task)
        if last <= first:
            return Days(0, Counts.empty(spec, ("channel", "segment")))
        blocks = self.tasks[task][first:last]
        starts = [0, *range(-first % BLOCKS or BLOCKS, last - first, BLOCKS)]
        said = np.add.reduceat(blocks, starts, axis=0)
        day, cell, label = np.nonzero(said)
        values = {
            name: np.array([self.cells[i][k] for i in cell], dtype=object)
            for k, name in enumerate(("channel", "segment"))
        }
        version = np.ones(len(day), dtype=np.int64)
        return Days(len(said), Counts(spec.labels, said[day, cell, label], day, label, version, values))

    def watch(self, every: int, first: int | None = None) -> Iterator[tuple[int, list[Change]]]:
        """The news of each watch, every so many blocks, from day `first` on, as the flow tells them."""
        alerts: list[Alert] = []
        begins = self.days - 7 * WEEKS if first is None else first
        for end in range(begins * BLOCKS, self.days * BLOCKS + 1, every):
            found = [change for length in LOOKS for change in self.look(end, length)]
            now = self.at(end)
            verdicts = {(change.series, change.verdict) for change in found}
            for number, alert in enumerate(alerts):
                if (
                    not alert.over
                    and (alert.series, "steady") in verdicts
                    and (alert.series, "changed") not in verdicts
                ):
                    alerts[number] = replace(alert, detail=dict(alert.detail) | {"over_at": now})
            fresh = news(found, alerts, now)
            made = [
                Alert(0, item.series, item.period.start, now, {"difference": item.difference}, None) for item in fresh
            ]
            alerts = [*made, *alerts]
            yield end, fresh


def _walk(rng: np.random.Generator, days: int, labels: int, traffic: Traffic) -> Floats:
    """A day's own shift of each label: independent, or remembering the day before; the same spread either way."""
    drawn = rng.normal(0, traffic.day_sd, (days, labels))
    for day in range(1, days):
        drawn[day] = traffic.memory * drawn[day - 1] + np.sqrt(1 - traffic.memory**2) * drawn[day]
    return drawn


#: With hours between two watches; the flow's own 4 take six times as long to try as 24.
STEADY = (
    (Traffic(2_000, 0.1), 24),
    (Traffic(2_000, 0.2), 24),
    (Traffic(500, 0.1), 24),
    (Traffic(2_000, 0.1, memory=0.5), 24),
    (Traffic(2_000, 0.1, weekend=0.2), 24),
    (Traffic(2_000, 0.1), 4),
)


def alarms(repeats: int) -> None:
    """False alerts of steady traffic."""
    series = len({change.series for change in Simulated(STEADY[0][0], 0).look(300, LOOKS[0])})
    print(f"Steady traffic, {WEEKS} weeks, {series} series, {repeats} runs each:\n")
    line(
        "traffic", "hours between watches", "alerts a run", "most in a run", "runs without", "plain daily tests at 0.05"
    )
    line(*["---"] * 6)
    for traffic, hours in STEADY:
        counts, naive = [], []
        for seed in range(repeats):
            simulated = Simulated(traffic, seed)
            counts.append(sum(len(fresh) for _, fresh in simulated.watch(hours // HOURS)))
            naive.append(_naive(simulated))
        line(traffic.name, hours, f"{np.mean(counts):.2f}", max(counts), f"{counts.count(0)} of {repeats}",
             f"{np.mean(naive):.0f}")  # fmt: skip


def power(repeats: int) -> None:
    """How many lasting shifts are told, and how soon."""
    print(
        f"A lasting shift of the share of negative messages, a watch a day, {repeats} runs each, within four weeks:\n"
    )
    line("traffic", "shift", "where", "found", "median hours", "90 % within hours", "false alerts in the week before")
    line(*["---"] * 7)
    for traffic in (Traffic(500, 0.1), Traffic(2_000, 0.1)):
        for shift, channel in ((0.05, None), (0.10, None), (0.10, "chat"), (0.20, "chat")):
            _power(traffic, shift, channel, repeats)


def _power(traffic: Traffic, shift: float, channel: str | None, repeats: int) -> None:
    wanted = f"sentiment/negative/{'all/none' if channel is None else f'channel/{channel}'}"
    hours, early = [], 0
    for seed in range(repeats):
        simulated = Simulated(traffic, 1_000 + seed, shift, channel)
        began = simulated.shifts_at * BLOCKS
        for end, fresh in simulated.watch(24 // HOURS, simulated.shifts_at - 7):
            early += len(fresh) if end <= began else 0
            if end > began and any(item.series == wanted and (item.difference or 0) > 0 for item in fresh):
                hours.append((end - began) * HOURS)
                break
    soon = f"{np.quantile([*hours, *[np.inf] * (repeats - len(hours))], 0.9, method='inverted_cdf'):.0f}"
    line(traffic.name, f"{100 * shift:.0f} points", channel or "everywhere", f"{len(hours)} of {repeats}",
         f"{statistics.median(hours):.0f}" if hours else "", soon, f"{early / repeats:.2f}")  # fmt: skip


def _naive(simulated: Simulated) -> int:
    """Alerts of plain two-sample tests of predicted labels, each day against the four weeks before, at 0.05."""
    from scipy.stats import chi2_contingency

    found = 0
    for task, said in simulated.tasks.items():
        keys = [lambda cell: True, *(lambda cell, c=c: cell[0] == c for c in CHANNELS),
                *(lambda cell, s=s: cell[1] == s for s in SEGMENTS)]  # fmt: skip
        for key in keys:
            days = said[:, [key(cell) for cell in simulated.cells]].sum(axis=1).reshape(-1, BLOCKS, len(SHARES[task]))
            days = days.sum(axis=1)
            for day in range(simulated.days - 7 * WEEKS, simulated.days):
                table = np.stack([days[day - HISTORY.days : day].sum(axis=0), days[day]])
                for label in range(1 if table.shape[1] == 2 else 0, table.shape[1]):
                    two = np.stack([table[:, label], table.sum(axis=1) - table[:, label]], axis=1)
                    if two.min() > 0 and two[1].sum() >= MIN_ROWS:
                        found += chi2_contingency(two, correction=False).pvalue < 0.05
    return found


# upsell -----------------------------------------------------------------------------------------------------------


def unhappy(repeats: int) -> None:
    """Customers who are truly unhappy among the first twenty, ranked by the lower bound and by the raw share."""
    bound, raw = [], []
    for seed in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            store = Store(f"sqlite:///{folder}/store.db")
            store.migrate()
            add_holdout(store, "sentiment", seed=seed)
            only = {"sentiment": SHARES["sentiment"]}
            angry = {"sentiment": (0.60, 0.30, 0.10)}
            pay = {"pay_per_use": 1.0}
            fill(store, START, rows=3_000, shares=only, segments=pay, customers=900, seed=seed)
            fill(
                store,
                START,
                rows=400,
                shares=angry,
                segments=pay,
                customers=40,
                first_customer=900,
                prefix="a",
                seed=seed,
            )
            found = upsell(store, Period(START, START + timedelta(days=28)), most=10_000)
            counts: dict[str, list[int]] = {}
            from sqlalchemy import text

            with store.reading() as connection:
                query = "select customer_id, count(*), sum(label = 'negative') from bi_predictions group by customer_id"
                counts = {row[0]: [row[1], row[2]] for row in connection.execute(text(query))}
            first = sorted(counts, key=lambda name: (-counts[name][1] / counts[name][0], name))[:20]
            raw.append(np.mean([int(name[1:]) >= 900 for name in first]))
            told = found.candidates[:20]
            bound.append((len(told), np.mean([int(item.customer_id[1:]) >= 900 for item in told]) if told else np.nan))
    print(f"40 of 940 customers have 60 % negative messages in place of 25 %; {repeats} runs; the first twenty:\n")
    line("ranked by", "named", "truly unhappy")
    line("---", "---", "---")
    named = np.array(bound)
    line("lower bound", f"{named[:, 0].mean():.1f}", share(float(np.nanmean(named[:, 1]))))
    line("raw share", "20.0", share(float(np.mean(raw))))


# speed ------------------------------------------------------------------------------------------------------------

DAYS, MESSAGES = 56, 333_500


def speed(url: str | None, repeats: int) -> None:
    """Seconds for each question, on about a million predictions of three tasks over eight weeks."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(url or f"sqlite:///{folder}/store.db")
        store.migrate()
        began = time.perf_counter()
        for day in range(DAYS):
            fill(store, START + timedelta(days=day), days=1, rows=MESSAGES // DAYS, prefix=f"d{day}-", seed=day,
                 customers=50_000, version=1 + (day > 30))  # fmt: skip
            print(f"\rday {day + 1} of {DAYS}", end="", file=sys.stderr)
        for task in SHARES:
            for version in (1, 2):
                add_holdout(store, task, version=version)
        print(f"\nfilled in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        end = START + timedelta(days=DAYS)
        month, week = Period(end - timedelta(days=28), end), Period(end - timedelta(days=7), end)
        questions: dict[str, Callable[[], object]] = {
            "trend, 28 days": lambda: trends(store, "sentiment", month),
            "trend, 28 days, by channel": lambda: trends(store, "sentiment", month, "channel"),
            "trend, 56 days, by segment": lambda: trends(store, "sentiment", Period(START, end), "segment"),
            "changes, 7 days against 7, three tasks": lambda: changes(store, list(SHARES), week),
            "channels, 7 days": lambda: channel_performance(store, week),
            "time to insight, 28 days": lambda: latency(store, month),
            "upsell, 28 days": lambda: upsell(store, month),
        }
        print(f"{store.engine.dialect.name}, {3 * (MESSAGES // DAYS) * DAYS:,} predictions:\n")
        line("question", "median s", "range")
        line("---", "---", "---")
        for name, ask in questions.items():
            took = []
            for _ in range(repeats):
                began = time.perf_counter()
                ask()
                took.append(time.perf_counter() - began)
            line(name, f"{statistics.median(took):.2f}", f"{min(took):.2f} to {max(took):.2f}")
        store.engine.dispose()


def line(*cells: object) -> None:
    """A row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def share(value: float) -> str:
    """In per cent."""
    return f"{100 * value:.1f} %"


def main(words: Sequence[str]) -> None:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["coverage", "alarms", "power", "upsell", "speed"])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int)
    asked = parser.parse_args(words)
    full = {"coverage": 400, "alarms": 10, "power": 20, "upsell": 20, "speed": 3}[asked.what]
    repeats = asked.repeats or max(full // 10, 1) if asked.quick or asked.repeats else full
    if asked.what == "coverage":
        coverage(repeats)
    elif asked.what == "alarms":
        alarms(repeats)
    elif asked.what == "power":
        power(repeats)
    elif asked.what == "upsell":
        unhappy(repeats)
    else:
        speed(asked.url, repeats)


if __name__ == "__main__":
    main(sys.argv[1:])
