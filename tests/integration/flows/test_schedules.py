"""What runs by itself: the same deployments by `undertone up` and by ``prefect.yaml``, each automation once."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.events import DeploymentEventTrigger
from prefect.settings.models.flows import FlowsSettings

from flows.schedules import crash_dead_runs, deployments, put
from flows.up import environment
from undertone.settings import Settings
from undertone.tasks import TASKS

PREFECT_YAML = Path(__file__).parents[3] / "prefect.yaml"


def described(made: list[Any]) -> dict[str, dict[str, Any]]:
    return {
        item.name: {
            "flow": item.flow_name,
            "parameters": item.parameters,
            "crons": [entry.schedule.cron for entry in item.schedules or []],
            "description": item.description,
            "tags": item.tags,
            "triggers": [trigger.model_dump(exclude={"id"}) for trigger in item.triggers],
        }
        for item in made
    }


def written(entry: dict[str, Any]) -> dict[str, Any]:
    """A deployment of the file, as `described` tells one."""
    module, _, name = entry["entrypoint"].rpartition(".")
    triggers = [DeploymentEventTrigger.model_validate(trigger) for trigger in entry.get("triggers", [])]
    return {
        "flow": getattr(importlib.import_module(module), name).name,
        "parameters": entry.get("parameters", {}),
        "crons": [schedule["cron"] for schedule in entry.get("schedules", [])],
        "description": entry["description"],
        "tags": entry["tags"],
        "triggers": [trigger.model_dump(exclude={"id"}) for trigger in triggers],
    }


def test_the_file_has_the_same_deployments() -> None:
    file = yaml.safe_load(PREFECT_YAML.read_text(encoding="utf-8"))
    assert {entry["name"]: written(entry) for entry in file["deployments"]} == described(deployments())
    assert {entry["work_pool"]["name"] for entry in file["deployments"]} == {"undertone"}


def test_every_task_is_watched() -> None:
    assert {item.parameters["task"] for item in deployments() if item.name.startswith("watch-")} == set(TASKS)


def test_runs_give_signs_of_life_and_a_few_may_be_missed(tmp_path: Path) -> None:
    dead = crash_dead_runs().trigger.within.total_seconds()
    beat = int(environment(Settings(home=tmp_path))["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    default = FlowsSettings.model_fields["heartbeat_frequency"].default
    assert (dead >= 5 * beat, dead > default) == (True, True)


@pytest.mark.usefixtures("prefect_api")
def test_each_automation_is_there_once_however_often_they_are_made() -> None:
    (tell,) = (item for item in deployments() if item.name == "tell")
    for _ in range(2):
        tell.apply()
        put(crash_dead_runs())
    with get_client(sync_client=True) as client:
        for name in ("undertone tells incidents", "undertone crashes dead runs"):
            assert len(client.read_automations_by_name(name)) == 1
