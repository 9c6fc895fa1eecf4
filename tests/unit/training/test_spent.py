from __future__ import annotations

import json
from pathlib import Path

import pytest

from training import spent
from training.spent import WATTS_PER_CORE, Spent, measure, read


@pytest.fixture(autouse=True)
def no_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Processors' counters in a folder of the test's own, at first without any."""
    root = tmp_path / "powercap"
    root.mkdir()
    monkeypatch.setattr(spent, "POWERCAP", root)
    return root


def processor(root: Path, name: str, microjoules: int, size: int = 1_000_000_000, called: str = "package-0") -> None:
    zone = root / name
    zone.mkdir(exist_ok=True)
    for file, value in (("name", called), ("energy_uj", microjoules), ("max_energy_range_uj", size)):
        (zone / file).write_text(f"{value}\n")


def work(stopped: bool = False) -> None:
    sum(number * number for number in range(400_000))
    if stopped:
        raise KeyboardInterrupt


def test_time_and_estimated_energy(tmp_path: Path) -> None:
    with measure(tmp_path / "spent.json"):
        work()
    found = read(tmp_path / "spent.json")
    assert found.sessions == 1
    assert found.wall_s > 0
    assert found.cpu_s > 0
    assert found.peak_memory_bytes > 10_000_000
    assert found.energy_method == "estimate"
    assert found.energy_wh == pytest.approx(found.cpu_s * WATTS_PER_CORE / 3_600)


def test_a_resumed_training_adds_up(tmp_path: Path) -> None:
    file = tmp_path / "spent.json"
    with pytest.raises(KeyboardInterrupt), measure(file):
        work(stopped=True)
    first = read(file)
    with measure(file):
        work()
    both = read(file)
    assert both.sessions == 2
    assert both.cpu_s > first.cpu_s > 0
    assert both.wall_s > first.wall_s
    assert both.energy_wh > first.energy_wh


def test_counters_of_processors_are_read_where_they_can_be(tmp_path: Path, no_counters: Path) -> None:
    processor(no_counters, "intel-rapl:0", 500_000_000)
    processor(no_counters, "intel-rapl:1", 900_000_000, called="package-1")
    processor(no_counters, "intel-rapl:0:0", 0, called="core")
    processor(no_counters, "intel-rapl:2", 0, called="psys")
    with measure(tmp_path / "spent.json"):
        processor(no_counters, "intel-rapl:0", 3_100_000_000 // 2)
        processor(no_counters, "intel-rapl:1", 100_000_000, called="package-1")  # started again from 0
        processor(no_counters, "intel-rapl:0:0", 999_000_000, called="core")
        processor(no_counters, "intel-rapl:2", 999_000_000, called="psys")
    found = read(tmp_path / "spent.json")
    assert found.energy_method == "rapl"
    assert found.energy_wh == pytest.approx((1_050 + 200) / 3_600)


def test_a_killed_process_leaves_what_it_spent_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spent, "EVERY_S", 0.001)
    file = tmp_path / "spent.json"
    with measure(file):
        while not file.is_file():
            work()
        assert read(file).sessions == 1


def test_two_kinds_of_machine_are_told(tmp_path: Path, no_counters: Path) -> None:
    file = tmp_path / "spent.json"
    with measure(file):
        work()
    processor(no_counters, "intel-rapl:0", 1)
    with measure(file):
        work()
    assert read(file).energy_method == "mixed"


@pytest.mark.parametrize("content", ["", "[]", "null", '{"wall_s": 1, "unknown": 2}'])
def test_a_broken_file_counts_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "spent.json").write_text(content)
    assert read(tmp_path / "spent.json") == Spent()


def test_as_dict_is_json() -> None:
    assert Spent(**json.loads(json.dumps(Spent(wall_s=1.5, gpu=True).as_dict()))) == Spent(wall_s=1.5, gpu=True)
