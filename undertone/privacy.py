"""Erase one customer everywhere, with a receipt; and, by the clock, what is past its retention.

Files come before rows: a text is known by its row, and an erasure that is stopped half way finds everything again. The
ledger's row comes before the evidence files that it lets change.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import select

from undertone import erasure, retention, tombstones
from undertone.errors import ConfigError
from undertone.ledger import EVERY_TASK
from undertone.records import utc
from undertone.redaction import Sought, readable_files, redact
from undertone.retention import Removed
from undertone.schema import feedback
from undertone.training_files import IN_RUNS, Redaction, WorkFolders, redactions, write_redactions
from undertone.workspace import Workspace

#: Texts that a file of an unknown kind is searched for; the customer's id always is.
NEEDLES = 50
#: Files that hold numbers only.
_NUMBERS = {".onnx", ".safetensors", ".npz", ".npy", ".pt", ".bin", ".png", ".pub", ".key", ".lock"}

#: What no command on this machine can reach.
BEYOND = (
    "backups and snapshots of the store, of MLflow and of the disks",
    "Kafka topics and Kinesis streams, dead letters included, until their own retention ends; what was sent before the"
    " erasure is not stored again when they are read anew",
    "copies outside: BI extracts, Parquet and CSV exports, Label Studio projects, files that trainings began with",
    "workers on other machines: what they hold is not stored, and their files with unreadable lines stay there",
    "blocks of a disk that a file system has given back: SSDs and journals may keep them for a while",
)


class Place(Protocol):
    """Somewhere beside the store where messages may be."""

    @property
    def name(self) -> str:
        """For people."""

    def find(self, sought: Sought) -> dict[str, int]:
        """How much is there, by kind; nothing gives no entry."""

    def erase(self, sought: Sought) -> tuple[dict[str, int], list[str]]:
        """Take it away: how much, by kind, and what is left, a sentence each."""

    def expire(self, before: datetime) -> int:
        """Delete what nobody has touched since that moment and has texts; gives how much."""


@dataclass(frozen=True, slots=True)
class Step:
    """One place: what was found there, what was removed, what is left."""

    place: str
    found: dict[str, int] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    left: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure did. It names the customer by hash only.

    Attributes:
        customer: the hash under which the ledger knows them.
        at: what they sent until then does not come back.
        by: who ran it.
        ledger_row: its number; None: nothing was there, and none was written.
        steps: every place that was looked at.
        models: versions that may have learned from these messages.
        cannot_undo: what stays beyond reach, a sentence each.
        redacted: files of MLflow's runs whose texts were taken out, with digests before and after.
    """

    customer: str
    at: datetime
    by: str
    ledger_row: int | None
    steps: tuple[Step, ...]
    models: tuple[dict[str, Any], ...] = ()
    cannot_undo: tuple[str, ...] = BEYOND
    redacted: tuple[dict[str, Any], ...] = ()

    @property
    def found(self) -> bool:
        """Whether there was anything to erase."""
        return any(step.found or step.removed or step.left for step in self.steps)

    @property
    def complete(self) -> bool:
        """Whether nothing is left within reach."""
        return not any(step.left for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self) | {"at": self.at.isoformat(), "found": self.found, "complete": self.complete}


STORE, RUNS, FILES, LEDGER, OTHERS = (
    "the store",
    "files of MLflow's runs",
    "pages, tables and logs",
    "the ledger",
    "other files",
)


def find(
    workspace: Workspace,
    customer: str,
    places: Sequence[Place] = (),
    also: Sequence[Path] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[Step, ...]:
    """Where something of the customer is; nothing is changed.

    Args:
        workspace: store, MLflow, state folder.
        customer: their id.
        places: beside these.
        also: folders with exports.
        progress: gets a line now and then.
    """
    sought = erasure.collect(workspace.store, _named(customer))
    return _look(workspace, sought, places, also, redactions(workspace.registry, sought, _told(progress)))


def erase(
    workspace: Workspace,
    customer: str,
    now: datetime,
    places: Sequence[Place] = (),
    also: Sequence[Path] = (),
    *,
    reason: str = "",
    progress: Callable[[str], None] = lambda text: None,
) -> Receipt:
    """Erase the customer everywhere. Stopped half way, the same call goes on.

    Args:
        workspace: store, MLflow, state folder.
        customer: their id.
        now: what they sent until then does not come back, by whatever way.
        places: beside these; `serving.spool_erasure.Spool` is one.
        also: folders with exports, whose texts are taken out too.
        reason: goes into the ledger; it must not name the customer.
        progress: gets a line now and then.

    Raises:
        ConfigError: no customer, or a reason that names them.
        StoreError, RegistryError: store or MLflow are out of reach; what is done stays done.
    """
    store, now = workspace.store, utc(now)
    if _named(customer) in reason:
        raise ConfigError("a reason that does not name the customer", "their id in it", "the ledger keeps it for good")
    with store.transaction() as connection:
        hashed = tombstones.bury(connection, customer, now)
    sought = erasure.collect(store, customer)
    progress(f"{len(sought.message_ids)} messages in the store; looking through files")
    made = redactions(workspace.registry, sought, _told(progress))
    places = [WorkFolders(workspace), *places]
    steps = {step.place: step for step in _look(workspace, sought, places[1:], also, made)}
    models = _learners(workspace, sought)
    row = None
    if any(step.found for step in steps.values() if step.place != LEDGER):
        row = workspace.ledger.append(
            "erased",
            EVERY_TASK,
            at=now,
            actor=workspace.settings.actor,
            reason=reason or "one customer is erased",
            payload={
                "customer": hashed,
                "found": {step.place: step.found for step in steps.values() if step.found},
                "redacted": [item.as_dict() for item in made],
                "models": [f"{item['task']} {item['version']}" for item in models],
            },
        ).seq
    write_redactions(workspace.registry, made)
    if made:
        steps[RUNS] = Step(RUNS, steps[RUNS].found, {"files": len(made)})
    for place in places:
        progress(f"erasing in {place.name}")
        removed, left = place.erase(sought)
        steps[place.name] = Step(place.name, steps[place.name].found, removed, tuple(left))
    steps[FILES] = Step(FILES, steps[FILES].found, _redact_files(workspace, sought, also))
    progress("erasing rows, and their bytes")
    removed = erasure.delete_rows(store, sought)
    remains = erasure.shred(store) if removed or _is_sqlite(workspace) else []
    beyond = [*BEYOND, *(remains if not _is_sqlite(workspace) else [])]
    steps[STORE] = Step(STORE, steps[STORE].found, removed, tuple(remains) if _is_sqlite(workspace) else ())
    rows = steps[LEDGER].found
    if rows:
        beyond.append(f"{rows['rows']} rows of the ledger that have the id in them: nobody can change these")
    others = _others(workspace, sought)
    steps[OTHERS] = Step(OTHERS, steps[OTHERS].found, left=tuple(f"{path} has it in it" for path in others))
    if models:
        named = ", ".join(f"{item['task']} {item['version']}" for item in models)
        beyond.append(
            "what model versions learned, rows of numbers in their signed reference windows, and there words that stand"
            f" in five messages and more: {named}; train anew and reject these versions where that must go too"
        )
    return Receipt(
        hashed,
        now,
        workspace.settings.actor,
        row,
        tuple(steps.values()),
        tuple(models),
        tuple(beyond),
        tuple(item.as_dict() for item in made),
    )


def retain(
    workspace: Workspace,
    now: datetime,
    days: float,
    places: Sequence[Place] = (),
    *,
    batch: int = retention.BATCH,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Remove what is past its retention, and write down how much.

    Args:
        workspace: store, MLflow, state folder.
        now: the clock.
        days: of retention.
        places: beside the store; unfinished trainings are among them anyway.
        batch: messages in one transaction.
        progress: gets a line now and then.

    Returns:
        before (ISO 8601), counts by kind, files and ledger_row (None: nothing was due).

    Raises:
        ConfigError: `days` is no positive number.
    """
    if not days > 0:
        raise ConfigError("days of retention, such as 365", f"{days:g}", "set UNDERTONE_RETENTION_DAYS, or say --days")
    store, now = workspace.store, utc(now)
    before = now - timedelta(days=days)
    texts = retention.labelled_texts(store, before)
    sought = Sought(None, frozenset(texts), frozenset(texts.values()))
    made = redactions(workspace.registry, sought, _told(progress)) if sought else []
    every = [WorkFolders(workspace), *places]
    expired = {place.name: count for place in every if (count := place.expire(before))}
    left: list[str] = []
    if sought:
        for place in every:
            gone, stays = place.erase(sought)
            left += stays
            if gone:
                expired[place.name] = expired.get(place.name, 0) + sum(gone.values())
    due = retention.due(store, before)
    row = None
    if due or made or expired:
        row = workspace.ledger.append(
            "erased",
            EVERY_TASK,
            at=now,
            actor=workspace.settings.actor,
            reason=f"texts received before {before:%Y-%m-%d %H:%M} UTC are past {days:g} days of retention",
            payload={
                "retention_days": days,
                "before": before.isoformat(),
                "removed": asdict(due),
                "files": expired,
                "redacted": [item.as_dict() for item in made],
            },
        ).seq
    write_redactions(workspace.registry, made)
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        progress(f"{done:,} of {due.texts:,} messages")

    removed = retention.remove_texts(store, before, now, batch=batch, progress=tell) if due else Removed()
    if removed and _is_sqlite(workspace):
        left += erasure.shred(store, whole=False)
    return {
        "before": before.isoformat(),
        **asdict(removed),
        "files": expired,
        "redacted": len(made),
        "left": left,
        "ledger_row": row,
    }


def _look(
    workspace: Workspace, sought: Sought, places: Sequence[Place], also: Sequence[Path], made: list[Redaction]
) -> tuple[Step, ...]:
    rows = erasure.ledger_rows(workspace.store, sought)
    files = sum(1 for _ in _readable(workspace, sought, also))
    others = _others(workspace, sought)
    return (
        Step(STORE, erasure.count_rows(workspace.store, sought)),
        Step(RUNS, {"files": len(made)} if made else {}),
        *(Step(place.name, place.find(sought)) for place in (WorkFolders(workspace), *places)),
        Step(FILES, {"files": files} if files else {}),
        Step(LEDGER, {"rows": len(rows)} if rows else {}),
        Step(OTHERS, {"files": len(others)} if others else {}),
    )


def _named(customer: str) -> str:
    if not customer.strip():
        raise ConfigError("a customer's id", "nothing", "name one, as messages have it in customer_id")
    return customer


def _is_sqlite(workspace: Workspace) -> bool:
    return bool(workspace.store.url.get_backend_name() == "sqlite")


def _readable(workspace: Workspace, sought: Sought, also: Sequence[Path]) -> Iterator[tuple[Path, bytes]]:
    """Files of words that have something of the customer, with what they would be without it."""
    state = workspace.settings.state_dir
    # these are places of their own, or hold what others have signed
    apart = {"spool", "keys", "served", "work", "sweeps", "reproduce", "trials", "trunks"}
    roots = [path for path in state.iterdir() if path.is_dir() and path.name not in apart] if state.is_dir() else []
    for path in readable_files(*roots, *also):
        data = path.read_bytes()
        made, count = redact(data, path.suffix, sought)
        if count:
            yield path, made


def _redact_files(workspace: Workspace, sought: Sought, also: Sequence[Path]) -> dict[str, int]:
    count = 0
    for path, made in _readable(workspace, sought, also):
        path.write_bytes(made)  # in place: a link or a mount keeps its name, and its old bytes go
        count += 1
    return {"files": count} if count else {}


def _others(workspace: Workspace, sought: Sought) -> list[str]:
    """Other files on this machine that have the id or a long text in them; the store's own files are not among them."""
    settings = workspace.settings
    needles = sought.needles(NEEDLES)
    if not needles:
        return []
    own = Path(workspace.store.url.database or "").resolve() if _is_sqlite(workspace) else None
    apart = [settings.state_dir / name for name in ("spool", "work", "sweeps", "reproduce")]
    known = {f"{folder}/{name}" for folder, names in IN_RUNS.items() for name in names}
    found = []
    for root in (settings.state_dir, settings.mlflow_home):
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            if not path.is_file() or path.is_symlink() or path.suffix in _NUMBERS:
                continue
            if own is not None and str(path.resolve()).startswith(str(own)):
                continue
            if any(path.is_relative_to(folder) for folder in apart) or "/".join(path.parts[-2:]) in known:
                continue
            if _has(path, needles):
                found.append(str(path))
    return found


def _has(path: Path, needles: Sequence[bytes]) -> bool:
    if not path.stat().st_size:
        return False
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(needle) >= 0 for needle in needles)


def _learners(workspace: Workspace, sought: Sought) -> list[dict[str, Any]]:
    """Versions that were trained with feedback after the customer's messages were labelled: task, version, labels."""
    labels: list[tuple[str, datetime]] = []
    ids = sorted(sought.message_ids)
    with workspace.store.reading() as connection:
        for start in range(0, len(ids), erasure.BATCH):
            part = feedback.c.message_id.in_(ids[start : start + erasure.BATCH])
            rows = connection.execute(select(feedback.c.task, feedback.c.labelled_at).where(part))
            labels += [(row.task, row.labelled_at) for row in rows]
    found = []
    for row in workspace.ledger.entries(kinds=["registered"]):
        sources = row.reason.partition(" training on ")[2].split("+")
        count = sum(task == row.task and at <= row.at for task, at in labels)
        if count and "feedback" in sources:
            found.append({"task": row.task, "version": row.version, "labels": count})
    return found


def _told(progress: Callable[[str], None]) -> Callable[[int, int], None]:
    def tell(done: int, of: int) -> None:
        if done % 50 == 0 or done == of:
            progress(f"{done} of {of} runs of MLflow")

    return tell
