"""What runs by itself: a daily drift watch for every task, a watch of what customers say, an hourly look at registry
and ledger, a page for every incident, and a retrain that people can start from Prefect's page.

`python -m flows.schedules` serves them until it is stopped; `undertone up` starts it. ``prefect.yaml`` has the same
deployments for a work pool.
"""

from __future__ import annotations

from datetime import timedelta
from typing import cast

import prefect
from prefect.automations import Automation, ChangeFlowRunState, EventTrigger, Posture
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.deployments.runner import RunnerDeployment
from prefect.events import DeploymentEventTrigger

from flows.alerts import tell
from flows.pick_reviews import pick_reviews
from flows.reconcile import reconcile
from flows.retention import retain
from flows.retrain import retrain
from flows.watch_drift import watch
from flows.watch_insights import watch_insights
from monitoring.incidents import EVENTS
from undertone.tasks import TASKS

WATCH_CRON = "0 3 * * *"
RECONCILE_CRON = "17 * * * *"
RETAIN_CRON = "41 1 * * *"
INSIGHTS_CRON = "5 */4 * * *"
PICK_CRON = "30 4 * * *"

#: Seconds without a sign of life after which a run is dead: many beats of our own processes, and more than one of a run
#: that somebody starts elsewhere, for which Prefect's default is 180.
DEAD_AFTER = 300.0

_ENDS = ("Completed", "Failed", "Cancelled", "Crashed", "Paused", "Suspended")


def deployments() -> list[RunnerDeployment]:
    """One scheduled watch per task, the reconciler, one retrain deployment without a schedule, and incidents' pages.

    Two retrains of one task never run at once whoever starts them: the flow holds the task's lease.
    """
    watches = [
        watch.to_deployment(
            name=f"watch-{name}",
            cron=WATCH_CRON,
            parameters={"task": name},
            description=f"Daily drift watch of {name}: verdict, retrain decision, and the retrain itself.",
            tags=["undertone", name],
        )
        for name in TASKS
    ]
    picks = [
        pick_reviews.to_deployment(
            name=f"pick-{name}",
            cron=PICK_CRON,
            parameters={"task": name},
            description=f"Fills the review queue of {name} with messages whose label would teach most.",
            tags=["undertone", name],
        )
        for name in TASKS
    ]
    reconciling = reconcile.to_deployment(
        name="reconcile",
        cron=RECONCILE_CRON,
        description="Whatever the ledger does not explain in the registry fails this run.",
        tags=["undertone", "governance"],
    )
    insights = watch_insights.to_deployment(
        name="insights",
        cron=INSIGHTS_CRON,
        description="What changed in what customers say, told once.",
        tags=["undertone", "insights"],
    )
    retaining = retain.to_deployment(
        name="retain",
        cron=RETAIN_CRON,
        description="Removes texts, customer ids and embeddings past their retention; without one, nothing.",
        tags=["undertone", "privacy"],
    )
    by_hand = retrain.to_deployment(
        name="retrain",
        description="Train a challenger now.",
        tags=["undertone"],
        parameters={"task": next(iter(TASKS))},
    )
    incidents = tell.to_deployment(
        name="tell",
        description="A page for every incident: what happened, and what to do next.",
        tags=["undertone"],
        triggers=[
            DeploymentEventTrigger(
                name="undertone tells incidents",
                description="Every event about a task's incidents puts its page, incident-TASK, into Prefect.",
                expect=set(EVENTS.values()),
                match={"prefect.resource.id": "undertone.task.*"},
                posture=Posture.Reactive,
                threshold=1,
                parameters={"message": "{{ event.payload }}"},
            )
        ],
    )
    return [
        cast("RunnerDeployment", made)
        for made in (*watches, *picks, insights, reconciling, retaining, by_hand, incidents)
    ]  # sync_compatible blurs the type


def crash_dead_runs() -> Automation:
    """The automation that calls a run crashed when its process gives no sign of life: Prefect itself never looks.

    As in https://docs.prefect.io/v3/advanced/detect-zombie-flows, for our flows only, whoever started them.
    """
    alive = {"prefect.flow-run.heartbeat", "prefect.flow-run.Running"}
    return Automation(
        name="undertone crashes dead runs",
        description=f"A run without a sign of life for {DEAD_AFTER:.0f} seconds is marked as crashed.",
        trigger=EventTrigger(
            after=alive,
            expect=alive | {f"prefect.flow-run.{end}" for end in _ENDS},
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={
                "prefect.resource.role": "flow",
                "prefect.resource.name": sorted(
                    {flow.name for flow in (watch, watch_insights, pick_reviews, reconcile, retain, retrain, tell)}
                ),
            },
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=DEAD_AFTER),
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message="no sign of life: its process is gone")],
    )


def put(automation: Automation) -> None:
    """Create an automation, in place of those of its name: `Automation.create` makes one more each time."""
    with get_client(sync_client=True) as client:
        for earlier in client.read_automations_by_name(automation.name):
            client.delete_automation(earlier.id)
    automation.create()


def main() -> None:
    """Serve the deployments; stopping leaves their schedules as they are."""
    put(crash_dead_runs())
    prefect.serve(*deployments(), pause_on_shutdown=False, limit=2)


if __name__ == "__main__":
    main()
