"""What runs by itself: a daily drift watch for every task, an hourly look at registry and ledger, and a retrain that
people can start from Prefect's page.

`python -m flows.schedules` serves them until it is stopped; `undertone up` starts it.
"""

from __future__ import annotations

from typing import cast

import prefect
from prefect.deployments.runner import RunnerDeployment

from flows.reconcile import reconcile
from flows.retrain import retrain
from flows.watch_drift import watch
from undertone.tasks import TASKS

WATCH_CRON = "0 3 * * *"
RECONCILE_CRON = "17 * * * *"


def deployments() -> list[RunnerDeployment]:
    """One scheduled watch per task, the reconciler, and one retrain deployment without a schedule.

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
    reconciling = reconcile.to_deployment(
        name="reconcile",
        cron=RECONCILE_CRON,
        description="Whatever the ledger does not explain in the registry fails this run.",
        tags=["undertone", "governance"],
    )
    by_hand = retrain.to_deployment(
        name="retrain",
        description="Train a challenger now.",
        tags=["undertone"],
        parameters={"task": next(iter(TASKS))},
    )
    return [
        cast("RunnerDeployment", made) for made in (*watches, reconciling, by_hand)
    ]  # sync_compatible blurs the type


def main() -> None:
    """Serve the deployments; stopping leaves their schedules as they are."""
    prefect.serve(*deployments(), pause_on_shutdown=False, limit=2)


if __name__ == "__main__":
    main()
