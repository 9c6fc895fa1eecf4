"""A workspace: the settings with the store, ledger and registry they name, each opened when first used."""

from __future__ import annotations

import hashlib
from functools import cached_property

from undertone.ledger import Ledger
from undertone.registry import Registry
from undertone.reviews import Reviews
from undertone.settings import Settings, get_settings
from undertone.store import Store


class Workspace:
    """What every command and flow works in.

    Args:
        settings: where things live; by default those of this process.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or get_settings()

    @cached_property
    def store(self) -> Store:
        """The prediction store, migrated."""
        return Store.open(self.settings)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger in the store, with this machine's witness of it."""
        database = hashlib.sha256(self.settings.database_url.encode()).hexdigest()[:8]
        return Ledger(self.store, self.settings.state_dir / f"ledger-{database}.head")

    @cached_property
    def reviews(self) -> Reviews:
        """The review queue, with the settings' guideline and share of second labels."""
        return Reviews(self.store, self.settings.guideline or None, self.settings.second_share)

    @cached_property
    def registry(self) -> Registry:
        """The model registry."""
        return Registry(self.settings)
