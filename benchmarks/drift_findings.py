"""Two findings that the drift watch was built on, looked at again: what harm looks like without labels, usual rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from benchmarks.drift_scenarios import Pool
from benchmarks.drift_tables import ACTING, WARNING, Row, grouped, markdown, share
from benchmarks.drift_texts import SPEC, Scored
from monitoring.estimate import estimate
from monitoring.signals import labels
from training.evaluate import class_scores, confusion_matrix


def domain_table(models: Iterable[Scored]) -> str:
    """What each kind of message costs a model, all of it that was scored, and what confidence says of that."""
    heads = ["model", "messages", "rows", "accuracy", "macro-F1", *(f"recall {label}" for label in SPEC.labels)]
    heads += ["accuracy change, points", "CBPE says", "label PSI"]
    return markdown(heads, [cells for scored in models for cells in _domains(scored)])


def _domains(scored: Scored) -> Iterator[list[str]]:
    pool, index = Pool(scored, 1), SPEC.label_index()
    reference, base = pool.reference(), None
    for kind, name in (("tweet", "tweets"), ("airline", "airline"), ("cut", "cut tweets"), ("slang", "slang")):
        rows = pool.healthy if kind == "tweet" else scored.numbers(kind)
        truth, said = (np.array([index[label] for label in side[rows]]) for side in (pool.truth, pool.label))
        confusion = confusion_matrix(truth, said, len(index))
        _, recall, f1 = class_scores(confusion)
        accuracy = float((truth == said).mean())
        base = accuracy if base is None else base
        current = pool.window(rows)
        guess, shares = estimate(reference, current, SPEC), labels(reference, current, SPEC.labels)
        yield [
            scored.name, name, f"{len(rows):,}", f"{accuracy:.3f}", f"{f1.mean():.3f}", *(f"{r:.2f}" for r in recall),
            f"{100 * (accuracy - base):+.1f}", f"{100 * guess.accuracy_change:+.1f}" if guess else "",
            f"{shares.effect:.3f}" if shares else "",
        ]  # fmt: skip


def harm_table(windows: Sequence[Row], peers: Sequence[Row]) -> str:
    """What a change of domain costs, and what watches without labels make of it."""
    heads = ["model", "scenario", "accuracy", "change, points", "our CBPE says", "NannyML's CBPE says", "label PSI"]
    heads += ["PSI > 0.1", "embedding AUC"]
    at = [row for row in windows if row["rows"] == 1_000]
    names = ("quiet", "mix 20 %", "mix 40 %", "mix 100 %", "prior 20 points", "truncated")
    lines = []
    for model, own in grouped(at, lambda row: row["model"]).items():
        base = float(np.mean([row["accuracy"] for row in own if row["scenario"] == "quiet"]))
        for scenario in names:
            found = [row for row in own if row["scenario"] == scenario]
            nanny = [r for r in peers if (r["peer"], r["model"], r["scenario"]) == ("nannyml", model, scenario)]
            if not found:
                continue
            accuracy = float(np.mean([row["accuracy"] for row in found]))
            effects = {
                name: np.array([s[2] for row in found for s in row["signals"] if s[0] == name and s[1] is None])
                for name in ("labels", "embedding")
            }
            said = [row["accuracy"] - row["reference_accuracy"] for row in nanny]
            lines.append(
                [
                    model, scenario, f"{accuracy:.3f}", f"{100 * (accuracy - base):+.1f}",
                    f"{100 * np.mean([row['estimated'] for row in found]):+.1f}",
                    f"{100 * np.mean(said):+.1f}" if said else "", f"{effects['labels'].mean():.3f}",
                    share(effects["labels"] > 0.1), f"{effects['embedding'].mean():.2f}",
                ]
            )  # fmt: skip
    return markdown(heads, lines)


def usual_table(watches: Sequence[Row]) -> str:
    """Quiet months, four windows of a replayed year that share no day: how many alarm under usual rules."""
    heads = ["rule", "quiet windows that alarm", "quiet months that alarm", "months with two alarms in a row"]
    months = []
    for own in grouped(watches, lambda row: (row["model"], row["seed"], row["year"])).values():
        days = {row["day"]: row for row in own}
        # every twelfth day of the first chain is judged in any case (`drift_replay`)
        starts = [day for day in range(0, 365, 48) if all(day + 12 * step in days for step in range(4))]
        months += [[days[day + 12 * step] for step in range(4)] for day in starts]
    lines = []
    rules: dict[str, Callable[[Row], bool]] = {
        "any of nine tests, p < 0.05": lambda row: min(_nine(row)) < 0.05,
        "any of nine, Bonferroni 0.05": lambda row: min(_nine(row)) < 0.05 / 9,
        "Undertone, warn or more": lambda row: row["level"] in WARNING,
        "Undertone, act or more": lambda row: row["level"] in ACTING,
    }
    for name, rule in rules.items():
        hits = [[rule(row) for row in month] for month in months]
        twice = [any(one and two for one, two in pairwise(month)) for month in hits]
        lines.append([name, share(hit for month in hits for hit in month), share(map(any, hits)), share(twice)])
    return f"{len(months)} months.\n\n" + markdown(heads, lines)


def _nine(row: Row) -> list[float]:
    return [*row["raw"].values(), *(s[3] for s in row["signals"] if s[0] == "embedding" and s[1] is None)]
