"""The tables of `benchmarks.serving`, as Markdown, and the goals of the serving worker beside what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Marks in `docs/performance.md` between which a run's tables stand.
BEGIN, END = "<!-- results of benchmarks.serving -->", "<!-- end of results -->"
#: Goals of the serving worker on two cores.
GOALS = {
    "c32_mlflow": 9.0,
    "c32_batching": 3.5,
    "c32_p99": 0.5,
    "c1_best": 3.0,
    "c1_p50": 0.5,
    "cpu": 0.25,
    "memory": 1 / 3,
    "cold_s": 2.0,
    "ceiling": 0.85,
    "tasks": 1 / 3,
}


@dataclass(frozen=True)
class Goal:
    """One line of the goals: what was asked, what was found."""

    text: str
    found: str
    held: bool | None

    def row(self) -> list[str]:
        """Cells of the table."""
        return [self.text, self.found, {True: "held", False: "**not held**", None: "not measured"}[self.held]]


def report(results: dict[str, Any]) -> str:
    """Everything about a run, as Markdown."""
    parts = [_machine(results), _throughput(results), _latency(results), _costs(results)]
    failed = [row for row in results["servers"] if row.get("failed")]
    if failed:
        parts.append(
            "Not measured:\n\n" + _table(["server", "why"], [[row["title"], row["failed"]] for row in failed], words=2)
        )
    parts += [_engine(results), _tasks(results), _ratios(results)]
    parts.append(_table(["goal", "found", ""], [goal.row() for goal in goals(results)], words=3))
    return "\n\n".join(part for part in parts if part)


def into_page(page: str, text: str) -> str:
    """`page` with `text` between its two marks.

    Raises:
        ValueError: the page lacks the marks.
    """
    before, opened, rest = page.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not opened or not closed:
        raise ValueError(f"expected {BEGIN} and {END} in the page")
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{after}"


def ours(results: dict[str, Any], which: Sequence[str] = ("first", "last")) -> dict[str, Any] | None:
    """Our figures: the mean of the rows that were measured first and last, value by value."""
    rows = [row for row in results["servers"] if row.get("which") in which and not row.get("failed")]
    if not rows:
        return None
    made: dict[str, Any] = {"title": "Undertone", "phases": []}
    for name in ("cold_start_s", "memory_mb"):
        made[name] = _mean([row.get(name) for row in rows])
    for phase in rows[0]["phases"]:
        same = [_phase(row, phase["clients"], phase["messages_a_request"]) for row in rows]
        numbers = [name for name, value in phase.items() if isinstance(value, int | float)]
        made["phases"].append({name: _mean([one.get(name) for one in same if one]) for name in numbers})
    return made


def goals(results: dict[str, Any]) -> list[Goal]:
    """The goals of the serving worker, each said as held or not held by this run."""
    mine, peers = ours(results), [row for row in results["servers"] if "which" not in row and not row.get("failed")]
    plain = next((row for row in peers if row["key"] == "mlflow"), None)
    batching = _fastest([row for row in peers if row["batching"]], 32)
    single = _fastest(peers, 1)
    made = [
        _least("at 32 clients, messages/s beside `mlflow models serve`", GOALS["c32_mlflow"], mine, plain, 32),
        _least("at 32 clients, messages/s beside the best batching peer", GOALS["c32_batching"], mine, batching, 32),
        _most("at 32 clients, p99 beside that peer's", GOALS["c32_p99"], mine, batching, 32, "p99"),
        _least("at 1 client, messages/s beside the best peer", GOALS["c1_best"], mine, single, 1),
        _most("at 1 client, p50 beside that peer's", GOALS["c1_p50"], mine, single, 1, "p50"),
        _most(
            "CPU s per 1,000 messages at 32 clients beside the best batching peer's", GOALS["cpu"], mine, batching, 32,
            "server_cpu_per_1000",
        ),
        _memory(mine, batching),
        _cold(results),
        _share_of_ceiling(results, mine),
    ]  # fmt: skip
    return [*made, _three(results)]


def _least(text: str, goal: float, mine: Any, peer: Any, clients: int) -> Goal:
    text = f"{text}: at least {goal:g} times"
    found = _ratio(mine, peer, clients, "messages_s")
    return Goal(
        text, "" if found is None else f"{found:.2f} times {peer['title']}", None if found is None else found >= goal
    )


def _most(text: str, goal: float, mine: Any, peer: Any, clients: int, name: str) -> Goal:
    text = f"{text}: at most {goal:g}"
    found = _ratio(mine, peer, clients, name)
    return Goal(
        text, "" if found is None else f"{found:.2f} of {peer['title']}", None if found is None else found <= goal
    )


def _memory(mine: Any, peer: Any) -> Goal:
    text = "memory beside the best batching peer's: at most a third"
    if not mine or not peer or not mine["memory_mb"] or not peer.get("memory_mb"):
        return Goal(text, "", None)
    found = mine["memory_mb"] / peer["memory_mb"]
    return Goal(text, f"{found:.2f} of {peer['title']}", found <= GOALS["memory"])


def _cold(results: dict[str, Any]) -> Goal:
    rows = [row for row in results["servers"] if row.get("which") in ("first", "last") and not row.get("failed")]
    found = max((row["cold_start_s"] for row in rows), default=None)
    text = f"cold start to the first answer: less than {GOALS['cold_s']:g} s"
    return Goal(
        text,
        "" if found is None else f"{found:.2f} s, the slowest of {len(rows)}",
        None if found is None else found < 2,
    )


def _share_of_ceiling(results: dict[str, Any], mine: Any) -> Goal:
    text = f"at 64 clients, share of the raw engine's ceiling: at least {GOALS['ceiling']:.0%}"
    last = ours(results, ("last",)) or mine  # the ceiling is measured after the last row
    phase = _phase(last, 64) if last else None
    if not phase or "ceiling" not in results:
        return Goal(text, "", None)
    share = phase["messages_s"] / results["ceiling"]["best"]["texts_s"]
    return Goal(text, f"{share:.0%}", share >= GOALS["ceiling"])


def _three(results: dict[str, Any]) -> Goal:
    text = "three tasks a message, separate encoders: at least a third of the one-task rate"
    shares = _task_shares(results)
    if not shares:
        return Goal(text, "", None)
    found = ", ".join(f"{share:.2f} at {clients}" for clients, share in shares.items())
    return Goal(text, f"{found} clients", min(shares.values()) >= GOALS["tasks"])


def _task_shares(results: dict[str, Any]) -> dict[int, float]:
    one, three = ours(results, ("last",)) or ours(results), ours(results, ("three",))
    pairs = [(_phase(one, phase["clients"]), phase) for phase in three["phases"]] if one and three else []
    return {int(each["clients"]): each["messages_s"] / alone["messages_s"] for alone, each in pairs if alone}


def _machine(results: dict[str, Any]) -> str:
    at = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in at["versions"].items())
    loads = " / ".join(f"{value:.2f}" for value in at["load_before"])
    own = [row["phases"] for row in results["servers"] if row.get("phases")]
    client = max(
        (phase["client_cpu_ms_per_request"] for phases in own for phase in phases if phase["clients"] > 1), default=0
    )
    lines = [
        f"{results['at']}, commit {at['commit']}; {at['processor']} ({at['family']}), {at['cores']} cores, "
        f"{', '.join(at['flags'])}; without {', '.join(at['flags_missing']) or 'nothing'}. "
        f"Python {at['python']}; {versions}.",
        f"Load average before the start {loads}. {results['seconds']:g} s a phase after {results['warm_s']:g} s of "
        f"warm-up, {results['texts']:,} texts of {results['text_chars']:.0f} characters on average. The client took at "
        f"most {client:.2f} ms of CPU a request at 8 clients and more.",
    ]
    return "\n".join(lines)


def _throughput(results: dict[str, Any]) -> str:
    shown = [(clients, 1) for clients in _clients(results)] + [(1, 64)]
    heads = [
        "server",
        *(f"c{clients}" if size == 1 else f"one request of {size}" for clients, size in shown),
        "errors",
        "same label",
    ]
    rows = []
    for row in _measured(results):
        phases = [_phase(row, clients, size) for clients, size in shown]
        errors = sum(phase["errors"] for phase in row["phases"])
        same = f"{row['labels_same']} of {row['labels_compared']}"
        rows.append(
            [_name(row), *(f"{phase['messages_s']:.1f}" if phase else "" for phase in phases), f"{errors:,}", same]
        )
    return "Messages a second, one message a request (cN: N clients at once):\n\n" + _table(heads, rows)


def _latency(results: dict[str, Any]) -> str:
    clients = _clients(results)
    heads = ["server", *(f"c{count}" for count in clients), "one request of 64"]
    rows = []
    for row in _measured(results):
        phases = [*(_phase(row, count) for count in clients), _phase(row, 1, 64)]
        cells = [
            " / ".join(f"{phase[name]:.0f}" for name in ("p50", "p95", "p99")) if phase else "" for phase in phases
        ]
        rows.append([_name(row), *cells])
    return "Milliseconds to the answer, p50 / p95 / p99:\n\n" + _table(heads, rows)


def _costs(results: dict[str, Any]) -> str:
    heads = [
        "server",
        "version",
        "batching",
        "CPU s per 1,000 at c1",
        "at c32",
        "memory MB",
        "processes",
        "cold start s",
        "first start s",
        "GFLOP/s before",
        "others' share",
    ]
    rows = []
    for row in _measured(results):
        cpu = [_phase(row, count) for count in (1, 32)]
        rows.append([
            _name(row),
            row.get("version", ""),
            row["batching"] or "none",
            *(f"{phase['server_cpu_per_1000']:.1f}" if phase and phase["server_cpu_per_1000"] else "" for phase in cpu),
            f"{row['memory_mb']:.0f}" if "memory_mb" in row else "",
            str(row.get("processes", "")),
            f"{row['cold_start_s']:.1f}",
            f"{row['first_start_s']:.1f}",
            f"{row['gflop_s_before']:.0f}",
            f"{_others(row, results['machine']['cores']):.0%}",
        ])  # fmt: skip
    text = (
        "CPU of the whole process tree, memory (PSS) after 32 clients, start to first answer. Each server had been "
        "started once before (*first start*), so its files and bytecode were warm. How free the machine was: a matrix "
        "product just before, and the share of all cores that others took during the phases:"
    )
    return text + "\n\n" + _table(heads, rows, words=3)


def _engine(results: dict[str, Any]) -> str:
    if "ceiling" not in results:
        return ""
    best, limits, tried = results["ceiling"]["best"], results["limits"], results["ceiling"]["tried"]
    kinds = sorted({(row["engine"], row["lanes"]) for row in tried})
    calls = sorted({row["texts_a_call"] for row in tried})
    rate = {(row["engine"], row["lanes"], row["texts_a_call"]): row["texts_s"] for row in tried}
    rows = [[name, str(lanes), *(f"{rate[name, lanes, call]:.0f}" for call in calls)] for name, lanes in kinds]
    return (
        f"The raw engine, in-process, texts a second with tokenisation: at best **{best['texts_s']:.0f}** with the "
        f"graph that serves ({best['engine']}). Matrix products on this machine: {limits['float32_gflop_s']:.0f} "
        f"GFLOP/s float32 (NumPy), {limits['u8s8_gop_s']:.0f} GOP/s u8s8 (ONNX Runtime).\n\n"
        + _table(["graph", "calls at once", *(f"{call} a call" for call in calls)], rows)
    )


def _tasks(results: dict[str, Any]) -> str:
    shares = _task_shares(results)
    if not shares:
        return ""
    said = ", ".join(f"{share:.2f} at {clients} client{'s' * (clients > 1)}" for clients, share in shares.items())
    return f"Three tasks on each message, separate encoders, as a share of the latest one-task rate: {said}."


def _ratios(results: dict[str, Any]) -> str:
    mine = ours(results)
    peers = [row for row in results["servers"] if "which" not in row and not row.get("failed")]
    if not mine or not peers:
        return ""
    asked = [("messages_s", 1), ("messages_s", 8), ("messages_s", 32), ("messages_s", 64)]
    asked += [("p50", 1), ("p99", 32), ("server_cpu_per_1000", 32)]
    heads = ["Undertone beside", *(f"{_WORDS[name]} c{clients}" for name, clients in asked), "memory", "cold start"]
    rows = []
    for peer in peers:
        cells = [_ratio(mine, peer, clients, name) for name, clients in asked]
        cells += [
            mine[name] / peer[name] if mine[name] and peer.get(name) else None for name in ("memory_mb", "cold_start_s")
        ]
        rows.append([peer["title"], *("" if cell is None else f"{cell:.2f}" for cell in cells)])
    return (
        "Ratios, ours divided by theirs; ours is the mean of the first and the last row, theirs one row:\n\n"
        + _table(heads, rows)
    )


_WORDS = {"messages_s": "messages/s", "p50": "p50", "p99": "p99", "server_cpu_per_1000": "CPU"}


def _others(row: dict[str, Any], cores: int) -> float:
    """Share of the cores that was not the server's nor the client's, over all phases."""
    spent = sum(phase["others_cpu_s"] or 0.0 for phase in row["phases"])
    return spent / (cores * sum(phase["seconds"] for phase in row["phases"]))


def _measured(results: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in results["servers"] if not row.get("failed")]


def _clients(results: dict[str, Any]) -> list[int]:
    return sorted({p["clients"] for row in _measured(results) for p in row["phases"] if p["messages_a_request"] == 1})


def _name(row: dict[str, Any]) -> str:
    return f"**{row['title']}**" if "which" in row else str(row["title"])


def _fastest(rows: Sequence[dict[str, Any]], clients: int) -> dict[str, Any] | None:
    found = [row for row in rows if _phase(row, clients)]
    return max(found, key=lambda row: _phase(row, clients)["messages_s"], default=None)  # type: ignore[index]


def _ratio(mine: Any, peer: Any, clients: int, name: str) -> float | None:
    own, other = (_phase(row, clients) if row else None for row in (mine, peer))
    return own[name] / other[name] if own and other and own[name] and other[name] else None


def _phase(row: dict[str, Any], clients: int, size: int = 1) -> dict[str, Any] | None:
    matching = (p for p in row["phases"] if (p["clients"], p["messages_a_request"]) == (clients, size))
    return next(matching, None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int = 1) -> str:
    """A Markdown table whose first `words` columns are text, the others numbers."""
    marks = ["---"] * words + ["---:"] * (len(heads) - words)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, marks, *rows))
