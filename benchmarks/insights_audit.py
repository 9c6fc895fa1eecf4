"""Bands of real messages beside the truth, before and after an audit:
`python -m benchmarks.insights_audit HOME FILE --task sentiment --audit 400`

HOME has a store (SQLite) in which FILE's messages were scored, as by `undertone stream --source FILE`; FILE is a CSV
with message_id, label and segment. A random audit is labelled with the file's labels, in a copy of the store.
"""

from __future__ import annotations

import argparse
import platform
import random
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd

from insights.period import Period
from insights.trend import Trend, trends
from undertone.reviews import Pick, Reviews
from undertone.settings import Settings
from undertone.store import Store


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("home", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--task", default="sentiment")
    parser.add_argument("--label", default="negative")
    parser.add_argument("--audit", type=int, default=400, help="messages that people label")
    parser.add_argument("--seed", type=int, default=7)
    asked = parser.parse_args()
    truth = pd.read_csv(asked.file, dtype=str).drop_duplicates("message_id").set_index("message_id")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "store.db")
        shutil.copy(Settings(home=asked.home).state_dir / "undertone.db", path)
        store = Store(f"sqlite:///{path}")
        store.migrate()
        first, last = store.first_event(asked.task), store.latest_event(asked.task)
        if first is None or last is None:
            parser.error(f"nothing of {asked.task} was scored in {asked.home}")
        period = Period(first, last + timedelta(seconds=1))
        print(f"{platform.machine()}, Python {platform.python_version()}; share of {asked.label}\n")
        print("| messages | errors from | model said | corrected | 95 % band | truth | held |\n| --- |" + " --- |" * 6)
        report(trends(store, asked.task, period, "segment"), truth, asked.label)
        audit(store, asked.task, period, truth, asked.audit, asked.seed)
        report(trends(store, asked.task, period, "segment"), truth, asked.label)


def audit(store: Store, task: str, period: Period, truth: pd.DataFrame, count: int, seed: int) -> None:
    """Draw `count` random answers of each version into an audit, and label them with the truth."""
    queue, now = Reviews(store), datetime.now(UTC)
    for version in store.by_version(task, period.start, period.end):
        rows = [dict(row) for row in queue.candidates(task, version, period.start, period.end)]
        picks = [
            Pick(row["message_id"], row["segment"], len(rows) / count, row["label"])
            for row in random.Random(seed).sample(rows, min(count, len(rows)))
        ]
        queue.add(task, f"benchmark-{version}", "audit", picks, version=version, asked_at=now)
        for item in queue.next(task, "benchmark", now, count=count):
            queue.label(item["id"], truth.loc[item["message_id"], "label"], "benchmark", now)


def report(found: tuple[Trend, ...], truth: pd.DataFrame, label: str) -> None:
    """One line for each series."""
    for series in found:
        rows = truth if series.cut is None else truth[truth["segment"] == series.value]
        share, estimate = (rows["label"] == label).mean(), series.whole[label]
        if estimate.observed is None or estimate.share is None or estimate.low is None or estimate.high is None:
            print(f"| {series.name} | {series.error_source} | | {estimate.lacking} | | {share:.1%} | |")
            continue
        print(
            f"| {series.name} | {series.error_source}, {series.error_rows:,} | {estimate.observed:.1%}"
            f" | {estimate.share:.1%} | {estimate.low:.1%} to {estimate.high:.1%} | {share:.1%}"
            f" | {'yes' if estimate.low <= share <= estimate.high else 'no'} |"
        )


if __name__ == "__main__":
    main()
