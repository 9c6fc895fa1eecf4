"""Judge windows for `benchmarks.drift`, and keep what was said in a file that a later run goes on with."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.drift_scenarios import SCENARIOS, Pool, Rows
from benchmarks.drift_texts import SPEC
from monitoring import drift, estimate, quality
from monitoring.calibrate import calibrate
from monitoring.two_sample import distance_test, shares_test
from monitoring.windows import Window
from undertone.form import FORM
from undertone.records import Level
from undertone.tasks import Floor

WEEK = timedelta(days=7)
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
#: Windows in a row, each drawn anew, that one trial has: persistence needs two that act among three.
STEPS = 3


@dataclass(frozen=True)
class Cell:
    """So many trials of one scenario at one size of window, for every pool."""

    scenario: str
    rows: int
    trials: int


@dataclass
class Judge:
    """One model's reference with its calibrated floors."""

    pool: Pool
    reference: Window
    floors: Mapping[str, Floor]
    healthy: Mapping[str, float]

    @classmethod
    def make(cls, pool: Pool, cache: Path) -> Judge:
        """Calibrate on the reference alone, as a model without a history is; kept in the cache."""
        reference = pool.reference()
        policy = drift.policy_sha256(SPEC, SPEC.drift.floors)[:12]
        target = cache / f"floors-{pool.scored.name}-{pool.seed}-{policy}.json"
        if target.is_file():
            found = json.loads(target.read_text(encoding="utf-8"))
            return cls(pool, reference, {k: Floor(**v) for k, v in found["floors"].items()}, found["healthy"])
        made = calibrate(SPEC, reference)
        kept = {"floors": {k: v.model_dump() for k, v in made.floors.items()}, "healthy": made.healthy}
        target.write_text(json.dumps(kept), encoding="utf-8")
        return cls(pool, reference, made.floors, made.healthy)

    def look(self, rows: Rows, history: tuple[Level, ...], week: int = 0) -> dict[str, Any]:
        """Everything about one window, JSON-ready."""
        started = time.process_time()
        current = self.pool.window(rows)
        findings = quality.check(SPEC, self.reference, current, self.pool.facts(rows))
        start = MONDAY + week * WEEK
        verdict = drift.judge(
            SPEC, self.reference, current, model_version=1, start=start, end=start + WEEK,
            floors=self.floors, quality=findings, history=history,
        )  # fmt: skip
        seconds = time.process_time() - started
        guess = estimate.estimate(self.reference, current, SPEC)
        return {
            "verdict": verdict.verdict,
            "level": verdict.level,
            "signals": [[s.name, s.segment, s.effect, s.p_value, s.adjusted_p, s.level] for s in verdict.signals],
            "raw": _raw(self.reference, current),
            "findings": [finding.check for finding in findings],
            "accuracy": self.pool.accuracy(rows),
            "estimated": guess.accuracy_change if guess else None,
            "seconds": seconds,
        }


def _raw(reference: Window, current: Window) -> dict[str, float]:
    """Plain p-values at 0.05 of which "any that fires" is a usual watch; the embedding's is among the signals."""
    numbers = ("confidence", *FORM)
    return {
        **{
            name: distance_test(reference.frame[name].to_numpy(), current.frame[name].to_numpy())[1] for name in numbers
        },
        **{
            name: shares_test(reference.frame[name].tolist(), current.frame[name].tolist())[1]
            for name in ("label", "channel", "segment")
        },
    }


def rows_of(pool: Pool, cell: Cell, trial: int, step: int) -> Rows:
    """The same messages for every model."""
    key = [pool.seed, zlib.crc32(cell.scenario.encode()), cell.rows, trial, step]
    return SCENARIOS[cell.scenario](pool, cell.rows, np.random.default_rng(key))


def run(judges: Iterable[Judge], cells: Iterable[Cell], target: Path) -> Iterator[dict[str, Any]]:
    """Judge every window that `target` does not hold yet; yields one row a window, the known ones too."""
    known = {_key(row): row for row in read(target)}
    with target.open("a", encoding="utf-8") as file:
        for judge in judges:
            for cell in cells:
                for trial in range(cell.trials):
                    levels: tuple[Level, ...] = ()
                    for step in range(STEPS):
                        row = {
                            "model": judge.pool.scored.name, "seed": judge.pool.seed, "scenario": cell.scenario,
                            "rows": cell.rows, "trial": trial, "step": step,
                            "policy": drift.policy_sha256(SPEC, judge.floors)[:12],
                        }  # fmt: skip
                        if _key(row) not in known:
                            row |= judge.look(rows_of(judge.pool, cell, trial, step), levels, step)
                            known[_key(row)] = row
                            file.write(json.dumps(row) + "\n")
                            file.flush()
                        row = known[_key(row)]
                        levels = (row["level"], *levels)[: SPEC.drift.memory]
                        yield row


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file of JSON lines; a last line that an interrupted run left half-written is not one."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("model", "seed", "scenario", "rows", "trial", "step", "policy"))
