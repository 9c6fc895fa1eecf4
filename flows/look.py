"""What one drift watch looks at: the champion's reference, the messages of the window, and counts of all of them.

Reading only, with the clock passed in: the watch and its replay look with the same eyes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from monitoring import quality
from monitoring.drift import judge
from monitoring.signals import Texts, domain_scores
from monitoring.windows import REVIEWERS, ReferenceTerms, Window, reach, read_reference, read_terms
from undertone import model_folder
from undertone.errors import RegistryError
from undertone.model_folder import ModelCardData
from undertone.records import DriftVerdict, Level, utc
from undertone.registry import ModelVersion
from undertone.store import Store
from undertone.tasks import Floor, TaskSpec
from undertone.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Served:
    """A model version with what a watch compares its messages with."""

    version: ModelVersion
    card: ModelCardData
    reference: Window
    terms: ReferenceTerms | None

    @property
    def trained_at(self) -> datetime:
        """When it was trained."""
        return utc(self.card.lineage.trained_at)


@dataclass(frozen=True, slots=True)
class Look:
    """One window beside the reference.

    Attributes:
        reference: with the review disagreement of the messages before the window.
        start: earlier than asked where `merged` windows were taken together.
        texts: messages of the version's first days and of the window, where there are no embeddings to compare.
    """

    served: Served
    reference: Window
    current: Window
    facts: quality.Facts
    start: datetime
    end: datetime
    length: timedelta
    merged: int
    texts: Texts | None = None

    @property
    def version(self) -> int:
        """Number of the model version."""
        return self.served.version.version

    def judge(
        self, spec: TaskSpec, floors: Mapping[str, Floor] | None = None, history: Sequence[Level] = ()
    ) -> DriftVerdict:
        """The verdict, with gate 0's findings; see `monitoring.drift.judge`."""
        return judge(
            spec,
            self.reference,
            self.current,
            model_version=self.version,
            start=self.start,
            end=self.end,
            floors=floors,
            quality=quality.check(spec, self.reference, self.current, self.facts),
            history=history,
            merged=self.merged,
            texts=self.texts,
        )


def read_champion(workspace: Workspace, spec: TaskSpec) -> Served:
    """The champion with its reference.

    Raises:
        RegistryError: the task has no champion, its files are gone, or MLflow is out of reach.
        DataError: its reference is not what training writes.
    """
    champion = workspace.registry.champion(spec.name)
    if champion is None:
        raise RegistryError(
            f"a champion for {spec.name!r}",
            "none",
            f"train and approve one: `undertone train {spec.name}`, `undertone models approve {spec.name} VERSION`",
        )
    return read_version(workspace, spec, champion)


def read_version(workspace: Workspace, spec: TaskSpec, version: ModelVersion) -> Served:
    """One version with its reference; errors as `read_champion`."""
    with tempfile.TemporaryDirectory(prefix="undertone-watch-") as scratch:
        folder = Path(scratch)
        for name in (model_folder.METADATA, model_folder.REFERENCE):
            workspace.registry.download_file(spec.name, version.version, name, folder)
        try:
            workspace.registry.download_file(spec.name, version.version, model_folder.REFERENCE_TERMS, folder)
        except RegistryError:  # the two files before it came: this version was trained before it was written
            (folder / model_folder.REFERENCE_TERMS).unlink(missing_ok=True)
        card = ModelCardData.read(folder)
        return Served(version, card, read_reference(folder, spec), read_terms(folder))


def look(store: Store, spec: TaskSpec, served: Served, now: datetime, days: float) -> Look:
    """The window of `days` before `now`, with earlier ones where it is too small. Labels of later are not seen."""
    length, number = timedelta(days=days), served.version.version
    asked = now - length
    # windows are merged back to the model's training and not further: what it learned from is no traffic
    opened = min(served.trained_at, asked)
    current, start, merged = reach(store, spec, asked, now, model_version=number, opened=opened, until=now)
    facts = quality.facts(store, spec, asked, now)
    before = store.truths(spec.name, served.trained_at, start, version=number, until=now)
    disagreed = [row["label"] != row["predicted"] for row in before if row["origin"] in REVIEWERS]
    reference = replace(served.reference, reviewed=(sum(disagreed), len(disagreed)))
    seen = Look(served, reference, current, facts, start, now, length, merged)
    return replace(seen, texts=_texts(store, spec, seen))


def window_texts(store: Store, spec: TaskSpec, seen: Look) -> dict[str, str]:
    """The messages of the window's sample by id, read live: what was erased is not among them."""
    rows = store.sample(spec.name, seen.start, seen.end, version=seen.version, limit=spec.drift.max_rows)
    return {row["message_id"]: row["text"] for row in rows}


def most_unlike(seen: Look, count: int) -> tuple[str, ...]:
    """Ids of the window's messages that a domain classifier finds most unlike the reference, the most unlike first."""
    scores = domain_scores(seen.reference, seen.current)
    if scores is None:
        return ()
    ranked = np.argsort(np.where(np.isnan(scores[1]), -np.inf, scores[1]))[::-1]
    known = int(np.isfinite(scores[1]).sum())
    return tuple(str(seen.current.frame["message_id"].iloc[row]) for row in ranked[: min(count, known)])


def _texts(store: Store, spec: TaskSpec, seen: Look) -> Texts | None:
    """Where embeddings are missing: the messages of the version's first window, and those of this one."""
    if seen.reference.embeddings is not None and seen.current.embeddings is not None:
        return None
    first = store.first_event(spec.name)
    if first is None:
        return None
    began = max(first, seen.served.trained_at)
    ended = min(began + seen.length, seen.start)
    early = store.sample(spec.name, began, ended, version=seen.version, limit=spec.drift.max_rows)
    return [row["text"] for row in early], list(window_texts(store, spec, seen).values())
