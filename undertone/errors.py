"""What went wrong, in three parts: what was expected, what was found, what to do next."""

from __future__ import annotations


class UndertoneError(Exception):
    """Base of every error a person is meant to read.

    Args:
        expected: what the code needed, as a short clause.
        found: what it met instead.
        next_step: one thing the reader can do now, a command where there is one.
    """

    def __init__(self, expected: str, found: str, next_step: str) -> None:
        super().__init__(expected, found, next_step)
        self.expected = expected
        self.found = found
        self.next_step = next_step

    def __str__(self) -> str:
        return f"expected {self.expected}; found {self.found}. Next: {self.next_step}"

    def as_dict(self) -> dict[str, str]:
        """The three parts by name, the shape in which HTTP and ``--json`` return an error."""
        return {"expected": self.expected, "found": self.found, "next_step": self.next_step}


class DataError(UndertoneError):
    """Input rows or files that cannot be used as they are."""


class ConfigError(UndertoneError):
    """Settings, a task name or an argument that does not fit."""


class RegistryError(UndertoneError):
    """MLflow is out of reach, or lacks what was asked for."""


class StoreError(UndertoneError):
    """The prediction store is out of reach or broken."""


class TrainingError(UndertoneError):
    """Training stopped and left no usable model."""


class VerificationError(UndertoneError):
    """Bytes, signature or statement of a model do not hold; it must not be served."""


class DecisionError(UndertoneError):
    """A decision that policy forbids (approving what the gate refused, two retrains at once)."""
