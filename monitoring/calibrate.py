"""Effect floors from a model's own healthy windows: `undertone drift calibrate`."""

from __future__ import annotations

from dataclasses import dataclass

from undertone.tasks import Floor


@dataclass(frozen=True, slots=True)
class Calibration:
    """Floors of one model version.

    Attributes:
        floors: by signal, never below the policy's.
        healthy: by signal, the 99th percentile of the effect in healthy windows.
        rows: messages of a healthy window.
        resampled, stored: how many healthy windows were drawn from the reference, and how many read from the store.
    """

    floors: dict[str, Floor]
    healthy: dict[str, float]
    rows: int
    resampled: int
    stored: int
