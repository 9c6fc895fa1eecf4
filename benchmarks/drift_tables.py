"""Tables of `benchmarks.drift`, from the rows that `drift_run` kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import chi2

from benchmarks.drift_run import STEPS

Row = dict[str, Any]
SIGNALS = ("embedding", "mmd", "labels", "confidence", "form", "channels", "segments")
WARNING, ACTING = ("warn", "act", "severe"), ("act", "severe")


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table whose columns but the first stand to the right."""
    rules = ["---", *("---:" for _ in heads[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rules, *lines))


def share(hits: Iterable[bool]) -> str:
    """A percentage; "0" where nothing hit, so that a rare event stands out."""
    found = list(hits)
    if not found:
        return ""
    value = 100 * sum(found) / len(found)
    return "0" if not value else f"{value:.1f}" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f}"


def grouped(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Rows by key, in the order in which keys appear."""
    made: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        made[key(row)].append(row)
    return dict(made)


def trials(rows: Iterable[Row]) -> list[list[Row]]:
    """Complete trials, each a list of its windows in order."""
    made = grouped(rows, lambda row: (row["model"], row["seed"], row["scenario"], row["rows"], row["trial"]))
    return [sorted(one, key=lambda row: row["step"]) for one in made.values() if len(one) == STEPS]


def watch_table(rows: Sequence[Row]) -> str:
    """By scenario and size: shares of windows by level, of trials after persistence, and what gate 0 found."""
    heads = ["scenario", "messages", "windows", "warn or more", "act or more", "severe", "gate 0"]
    heads += [f"warned within {STEPS - 1}", f"acted within {STEPS}", "CPU seconds"]
    lines = []
    for (scenario, size), found in grouped(rows, lambda row: (row["scenario"], row["rows"])).items():
        sequences = trials(found)
        few = all(row["verdict"] == "too_few" for row in found)
        cells = [
            share(row["level"] in WARNING for row in found),
            share(row["level"] in ACTING for row in found),
            share(row["level"] == "severe" for row in found),
            share(bool(row["findings"]) for row in found),
            share(any(row["verdict"] in WARNING for row in one[: STEPS - 1]) for one in sequences),
            share(any(row["verdict"] in ACTING for row in one) for one in sequences),
        ]
        if few:
            cells = ["too few", "too few", "too few", cells[3], "too few", "too few"]
        seconds = float(np.median([row["seconds"] for row in found]))
        lines.append([scenario, f"{size:,}", f"{len(found):,}", *cells, f"{seconds:.2f}"])
    return markdown(heads, lines)


def signal_table(rows: Sequence[Row], size: int) -> str:
    """By scenario at one size: share of windows in which each signal warns at least, alone or in a segment."""
    heads = ["scenario", *SIGNALS, "in a segment"]
    lines = []
    for scenario, found in grouped((r for r in rows if r["rows"] == size), lambda row: row["scenario"]).items():
        fired = [{s[0] for s in row["signals"] if s[5] != "none" and s[1] is None} for row in found]
        inside = [any(s[5] != "none" and s[1] is not None for s in row["signals"]) for row in found]
        lines.append([scenario, *(share(name in one for one in fired) for name in SIGNALS), share(inside)])
    return markdown(heads, lines)


def effect_table(rows: Sequence[Row], size: int) -> str:
    """Effects at one size: median, 99th percentile and greatest of quiet windows; least and median of others."""
    names = (*(f"mix {percent} %" for percent in (10, 20, 40, 100)), "prior 10 points", "prior 20 points", "slang")
    heads = ["signal", "quiet", *names]
    lines = []
    for signal in SIGNALS:
        by = {
            scenario: np.array([s[2] for row in found for s in row["signals"] if s[0] == signal and s[1] is None])
            for scenario, found in grouped((r for r in rows if r["rows"] == size), lambda r: r["scenario"]).items()
        }
        quiet = by.get("quiet", np.empty(0))
        if not len(quiet):
            continue
        cells = [f"{np.median(quiet):.3f} / {np.quantile(quiet, 0.99):.3f} / {quiet.max():.3f}"]
        for name in names:
            values = by.get(name, np.empty(0))
            cells.append(f"{values.min():.3f} / {np.median(values):.3f}" if len(values) else "")
        lines.append([signal, *cells])
    return markdown(heads, lines)


def summary(rows: Sequence[Row]) -> list[str]:
    """Whether the goals are reached, in sentences with numbers, by model."""
    made = []
    for model, own in grouped(rows, lambda row: row["model"]).items():
        at = [row for row in own if row["rows"] == 1_000]
        quiet = [row for row in at if row["scenario"] == "quiet"]
        acting = sum(row["level"] in ACTING for row in quiet)
        made.append(
            f"model {model}: {len(quiet)} quiet windows of 1,000: {sum(r['level'] in WARNING for r in quiet)} warn, "
            f"{acting} act alone"
        )
        for scenario, levels, within in (("mix 20 %", WARNING, 2), ("mix 40 %", ACTING, 3)):
            sequences = trials(row for row in at if row["scenario"] == scenario)
            hits = sum(any(row["verdict"] in levels for row in one[:within]) for one in sequences)
            made.append(f"model {model}: {scenario}, {levels[0]} within {within} windows: {hits} of {len(sequences)}")
    return made


def replay_table(watches: Sequence[Row], a_year: int) -> str:
    """False alarms of a healthy model, by model; a whole year of daily watches has `a_year` of them in each chain."""
    heads = [
        "model",
        "years",
        "chains of four",
        "watches settled",
        "of these judged",
        "warn or more",
        "act or more alone",
    ]
    heads += ["**act after persistence**", "a year of daily watches (95 % below)"]
    lines = []
    for model, own in [*grouped(watches, lambda row: row["model"]).items(), ("both", list(watches))]:
        chains = {(row["model"], row["seed"], row["year"], row["day"] % 4) for row in own}
        years = {key[:3] for key in chains}
        acted = sum(row["verdict"] in ACTING for row in own)
        # a chain is a quarter of the daily watches; the exact upper limit of a Poisson count
        most = float(chi2.ppf(0.95, 2 * (acted + 1))) / 2 * 4 / max(1, len(chains))
        lines.append(
            [
                model, str(len(years)), f"{len(chains) / max(1, len(years)):.2g}", f"{a_year * len(chains):,}",
                f"{len(own):,}", share(row["level"] in WARNING for row in own) + " %",
                share(row["level"] in ACTING for row in own) + " %", str(acted),
                f"{4 * acted / max(1, len(chains)):.2f} ({most:.2f})",
            ]
        )  # fmt: skip
    return markdown(heads, lines)


def peer_table(windows: Sequence[Row], peers: Sequence[Row]) -> str:
    """Share of the windows of 1,000 messages that each watch alarms about."""
    heads = ["scenario", "Undertone warns", "Undertone acts", "gate 0", "Evidently: any column", "Evidently: data set"]
    heads += ["Evidently: text", "NannyML: CBPE", "NannyML: any column", "windows (ours / theirs)"]
    theirs = grouped(peers, lambda row: (row["peer"], row["scenario"]))
    lines = []
    for scenario, found in grouped((r for r in windows if r["rows"] == 1_000), lambda r: r["scenario"]).items():
        first, second = theirs.get(("evidently", scenario), []), theirs.get(("nannyml", scenario), [])
        cells = [
            share(row["level"] in WARNING for row in found),
            share(row["level"] in ACTING for row in found),
            share(bool(row["findings"]) for row in found),
            share(bool(row["columns"]) for row in first),
            share(row["dataset"] for row in first),
            share(row["text"] for row in first),
            share(row["cbpe"] for row in second),
            share(bool(row["columns"]) for row in second),
        ]
        lines.append([scenario, *cells, f"{len(found):,} / {len(first):,}"])
    return markdown(heads, lines)
