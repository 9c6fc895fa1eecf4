"""A model version's effect floors: calibrated on its own healthy windows, kept in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from flows.look import Served
from monitoring.calibrate import Calibration, calibrate
from monitoring.windows import Window, current_window
from undertone.errors import DataError
from undertone.lease import hold
from undertone.tasks import Floor, TaskSpec
from undertone.text import sha256_of
from undertone.workspace import Workspace

#: Seconds to wait for another watch that sets the floors.
PATIENCE_S = 600.0


def floors_of(workspace: Workspace, spec: TaskSpec, served: Served, now: datetime, actor: str) -> dict[str, Floor]:
    """The version's floors; where none were set under the policy of today, they are calibrated on its reference.

    A reference that is too small for that leaves the policy's own, and is asked again by the next watch.
    """
    known = known_floors(workspace, spec, served.version.version)
    if known is None and not _large(spec, served):
        return dict(spec.drift.floors)
    if known is None:
        with hold(workspace.store, f"calibrate {spec.name}", wait=PATIENCE_S):
            known = known_floors(workspace, spec, served.version.version)  # the watch before this one may have set them
            if known is None:
                known = set_floors(workspace, spec, served, (), now, actor).floors
    return known


def healthy_windows(
    workspace: Workspace, spec: TaskSpec, served: Served, times: Sequence[tuple[datetime, datetime]]
) -> list[Window]:
    """The stored windows of the watch's length within each of `times`, whole ones with enough messages.

    Raises:
        DataError: there is none, though there should be.
    """
    length = timedelta(days=workspace.settings.watch_days)
    found: list[Window] = []
    for first, last in times:
        for number in range((last - first) // length):
            start = first + number * length
            window = current_window(
                workspace.store, spec, start, start + length, model_version=served.version.version, until=start + length
            )
            if window.rows >= spec.drift.min_rows:
                found.append(window)
    if times and not found:
        raise DataError(
            f"a window of {length.days} days with {spec.drift.min_rows} messages that"
            f" {spec.name} {served.version.version} scored",
            f"none in {len(times)} healthy times",
            "name other times, or leave --healthy out: the floors then rest on the reference alone",
        )
    return found


def known_floors(workspace: Workspace, spec: TaskSpec, version: int) -> dict[str, Floor] | None:
    """Floors that were calibrated for `version` under the policy of today; None: there are none."""
    row = workspace.ledger.latest(spec.name, ["calibrated"], version=version)
    if row is None or row.payload.get("drift_policy_sha256") != _drift_policy_sha256(spec):
        return None
    return {name: Floor.model_validate(floor) for name, floor in row.payload["floors"].items()}


def unset_floors(spec: TaskSpec, served: Served) -> dict[str, Floor]:
    """The floors that a first watch would set, kept nowhere."""
    return calibrate(spec, served.reference).floors if _large(spec, served) else dict(spec.drift.floors)


def set_floors(
    workspace: Workspace,
    spec: TaskSpec,
    served: Served,
    healthy: Sequence[Window],
    now: datetime,
    actor: str,
) -> Calibration:
    """Calibrate the version's floors on its reference and on `healthy` windows, and say so in the ledger."""
    made = calibrate(spec, served.reference, healthy)
    raised = sorted(name for name, floor in made.floors.items() if floor != spec.drift.floors[name])
    workspace.ledger.append(
        "calibrated",
        spec.name,
        at=now,
        actor=actor,
        version=served.version.version,
        reason=f"{made.resampled} windows drawn from the reference and {made.stored} stored ones;"
        f" raised: {', '.join(raised) or 'none'}",
        payload={
            "floors": {name: floor.model_dump() for name, floor in made.floors.items()},
            "healthy": made.healthy,
            "rows": made.rows,
            "resampled": made.resampled,
            "stored": made.stored,
            "drift_policy_sha256": _drift_policy_sha256(spec),
        },
    )
    return made


def _large(spec: TaskSpec, served: Served) -> bool:
    """Whether healthy windows can be drawn from the reference."""
    return served.reference.rows >= 2 * spec.drift.min_rows


def _drift_policy_sha256(spec: TaskSpec) -> str:
    return sha256_of(spec.drift.model_dump(mode="json"))
