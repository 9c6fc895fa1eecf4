"""What a training costs: time, memory and energy, added up over every time that it was resumed."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

#: Watts of one busy core where the processor's own counters cannot be read: about the thermal design power of a server
#: processor, shared among its cores. Energy is power times time, as in Lacoste et al., 2019,
#: https://arxiv.org/abs/1910.09700.
WATTS_PER_CORE = 10.0

#: Where Linux shows the processors' energy counters, https://docs.kernel.org/power/powercap/powercap.html.
POWERCAP = Path("/sys/class/powercap")

#: Seconds between two looks. A counter runs over after minutes to hours, and a killed process loses what came since.
EVERY_S = 60.0

Method = Literal["rapl", "estimate", "mixed"]


@dataclass(frozen=True, slots=True)
class Spent:
    """Time, memory and energy of one training.

    Attributes:
        wall_s: seconds on the clock.
        cpu_s: seconds of all cores together, of this process and the children it waited for.
        peak_memory_bytes: most memory the process held; 0 where the system does not tell.
        energy_wh: watt-hours.
        energy_method: ``rapl``: the processors' own counters, other programs' work included; ``estimate``: `cpu_s` at
            `WATTS_PER_CORE`; ``mixed``: resumed on another kind of machine, some of each.
        gpu: a GPU was at hand; its energy was not measured.
        sessions: times the training was begun or resumed.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_memory_bytes: int = 0
    energy_wh: float = 0.0
    energy_method: Method = "estimate"
    gpu: bool = False
    sessions: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return asdict(self)


@contextmanager
def measure(file: Path) -> Iterator[None]:
    """Add what the block spends to `file`, a JSON file that `read` reads; also when the block ends in an error.

    The file is brought up to date once a minute, so that a killed process loses no more than that.
    """
    before = read(file)
    meter = _Meter()
    stopped = threading.Event()

    def keep() -> None:
        _write(file, _sum(before, meter.spent()))

    def watch() -> None:
        while not stopped.wait(EVERY_S):
            keep()

    watcher = threading.Thread(target=watch, name="spent", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stopped.set()
        watcher.join()
        keep()


def read(file: Path) -> Spent:
    """What was spent so far; nothing where the file is not there or is broken."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Spent(**found)
    except (OSError, ValueError, TypeError):
        return Spent()


class _Meter:
    """Counts from the moment it is made."""

    def __init__(self) -> None:
        self.began, self.cpu = time.monotonic(), _cpu_s()
        self.counters = _counters()
        self.joules = 0.0

    def spent(self) -> Spent:
        cpu_s = _cpu_s() - self.cpu
        if self.counters:
            now = _counters()
            self.joules += _joules(self.counters, now)
            self.counters = now or self.counters
        return Spent(
            wall_s=time.monotonic() - self.began,
            cpu_s=cpu_s,
            peak_memory_bytes=_peak_memory(),
            energy_wh=(self.joules if self.counters else cpu_s * WATTS_PER_CORE) / 3_600,
            energy_method="rapl" if self.counters else "estimate",
            gpu=_has_gpu(),
            sessions=1,
        )


def _sum(one: Spent, other: Spent) -> Spent:
    methods = {item.energy_method for item in (one, other) if item.sessions}
    return Spent(
        wall_s=one.wall_s + other.wall_s,
        cpu_s=one.cpu_s + other.cpu_s,
        peak_memory_bytes=max(one.peak_memory_bytes, other.peak_memory_bytes),
        energy_wh=one.energy_wh + other.energy_wh,
        energy_method="mixed" if len(methods) > 1 else other.energy_method,
        gpu=one.gpu or other.gpu,
        sessions=one.sessions + other.sessions,
    )


def _write(file: Path, spent: Spent) -> None:
    fresh = file.with_name(f"{file.name}.new")
    with suppress(OSError):  # the bill never ends a training, nor hides what did
        fresh.write_text(json.dumps(spent.as_dict(), indent=2) + "\n", encoding="utf-8")
        os.replace(fresh, file)


def _cpu_s() -> float:
    return sum(os.times()[:4])


def _peak_memory() -> int:
    try:
        import resource
    except ImportError:  # not on Windows
        return 0
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1_024


def _has_gpu() -> bool:
    torch = sys.modules.get("torch")  # a training that used a GPU has loaded it
    return torch is not None and bool(torch.cuda.is_available())


def _counters(root: Path | None = None) -> dict[str, tuple[int, int]]:
    """Microjoules and the value at which they start again from 0, of each processor; empty where nobody may look.

    A processor is ``intel-rapl:0`` (AMD's too); ``intel-rapl:0:0`` is a part of it.
    """
    found = {}
    for zone in sorted((root or POWERCAP).glob("intel-rapl:*")):
        if zone.name.count(":") != 1:
            continue
        try:
            if not (zone / "name").read_text().startswith("package"):
                continue  # "psys" counts the packages again
            found[zone.name] = (int((zone / "energy_uj").read_text()), int((zone / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            return {}
    return found


def _joules(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float:
    """Joules between two looks; a counter that came out lower started again once."""
    total = 0
    for name, (start, size) in before.items():
        end = after.get(name, (start, size))[0]
        total += end - start if end >= start else end - start + size
    return total / 1e6
