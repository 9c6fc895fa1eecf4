"""Where trainings keep customers' texts: unfinished work on this machine, and files of their MLflow runs."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from undertone.evidence import FOLDER, WITH_TEXTS
from undertone.lease import live
from undertone.redaction import Sought, redact
from undertone.registry import Registry
from undertone.workspace import Workspace

#: Files of a run that may hold texts, by their folders. The summary of the data had examples in it until version 0006
#: of the store.
_SUMMARY = "summary.md"
IN_RUNS = {FOLDER: WITH_TEXTS, "data": (_SUMMARY,)}
#: Characters of an example there.
_EXAMPLE = 60


@dataclass(frozen=True, slots=True)
class Redaction:
    """A run's file without texts: its digests before and after, and how many texts are gone."""

    run_id: str
    file: str
    old: str
    new: str
    texts: int
    content: bytes

    def as_dict(self) -> dict[str, Any]:
        """What the ledger keeps; never the content."""
        return {"run_id": self.run_id, "file": self.file, "old": self.old, "new": self.new, "texts": self.texts}


def redactions(
    registry: Registry, sought: Sought, progress: Callable[[int, int], None] = lambda done, of: None
) -> list[Redaction]:
    """What files of MLflow's runs would be without the texts; nothing is written.

    Args:
        registry: whose runs, those of deleted trainings too.
        sought: whose texts.
        progress: gets how many runs were looked at, of how many.

    Raises:
        RegistryError: MLflow is out of reach.
    """
    found = []
    cut = frozenset(text[:_EXAMPLE] for text in sought.texts)
    shown = Sought(sought.customer, sought.message_ids, sought.texts | cut)
    runs = registry.run_ids()
    for number, run_id in enumerate(runs, 1):
        for path in _files(registry, run_id):
            data = registry.read_file(run_id, path)
            made, count = redact(data, Path(path).suffix, shown if path.endswith(_SUMMARY) else sought)
            if count:
                old, new = (hashlib.sha256(content).hexdigest() for content in (data, made))
                found.append(Redaction(run_id, path, old, new, count, made))
        progress(number, len(runs))
    return found


def write_redactions(registry: Registry, made: list[Redaction]) -> None:
    """Put these files in place of those that their runs have. The ledger must know them before."""
    with tempfile.TemporaryDirectory(prefix="undertone-erase-") as scratch:
        for item in made:
            path = Path(scratch, Path(item.file).name)
            path.write_bytes(item.content)
            registry.put_file(item.run_id, path, str(Path(item.file).parent))


class WorkFolders:
    """Unfinished trainings and sweeps, and what killed reproductions left, as a place of `undertone.privacy`.

    One with a message of the customer is removed whole: its checkpoints have learned from it. The same command begins
    anew.
    """

    name = "unfinished trainings on this machine"

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        state = workspace.settings.state_dir
        self._roots = {"work": state / "work", "sweeps": state / "sweeps", "reproduce": state / "reproduce"}

    def find(self, sought: Sought) -> dict[str, int]:
        """Folders with a message of the customer."""
        count = sum(1 for folder in self._folders() if holds(folder, sought))
        return {"folders": count} if count else {}

    def erase(self, sought: Sought) -> tuple[dict[str, int], list[str]]:
        """Remove these folders; gives their number, and which are in use and left."""
        count, left = 0, []
        for folder in self._folders():
            if not holds(folder, sought):
                continue
            if self._in_use(folder):
                left.append(f"a training is at work in {folder}: stop it, or let it end, and run this again")
            else:
                shutil.rmtree(folder)
                count += 1
        return ({"folders": count} if count else {}), left

    def expire(self, before: datetime) -> int:
        """Remove folders that nobody has touched since then and nobody uses; gives their number."""
        old = [folder for folder in self._folders() if _newest(folder) < before.timestamp()]
        old = [folder for folder in old if not self._in_use(folder)]
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
        return len(old)

    def _folders(self) -> Iterator[Path]:
        for name, root in self._roots.items():
            inside = root.glob("*/*" if name == "sweeps" else "*")
            yield from (path for path in sorted(inside) if path.is_dir())

    def _in_use(self, folder: Path) -> bool:
        if folder.parent == self._roots["work"]:
            task = folder.name.rpartition("-")[0]
            return live(self._workspace.store, f"train {task}", datetime.now(UTC))
        lock = folder / "lock"  # of a sweep's process
        if not lock.exists():
            return False
        from filelock import FileLock, Timeout

        try:
            with FileLock(lock, blocking=False):
                return False
        except Timeout:
            return True


def holds(folder: Path, sought: Sought) -> bool:
    """Whether a table in the folder has one of the messages, by id or by text."""
    import pyarrow.parquet as pq
    from pyarrow.lib import ArrowException

    for path in sorted(folder.rglob("*.parquet")):
        with suppress(ArrowException, OSError):  # half written: `whole` tables alone are trained on
            names = [name for name in pq.read_schema(path).names if name in {"message_id", "text"}]
            table = pq.read_table(path, columns=names)
            ids = table["message_id"].to_pylist() if "message_id" in names else []
            texts = table["text"].to_pylist() if "text" in names else []
            if not sought.message_ids.isdisjoint(ids) or any(map(sought.is_text, texts)):
                return True
    return any(_has_rows(path, sought) for path in folder.rglob("undertone.db"))


def _has_rows(database: Path, sought: Sought) -> bool:
    """Whether the store of a reproduction has a message of the customer; its rows know no customer."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection, suppress(sqlite3.Error):
        return any(row[0] in sought.message_ids for row in connection.execute("select id from messages"))
    return False


def _newest(folder: Path) -> float:
    return max(path.stat().st_mtime for path in [folder, *folder.rglob("*")] if not path.is_symlink())


def _files(registry: Registry, run_id: str) -> list[str]:
    there = {path for folder in IN_RUNS for path in registry.file_names(run_id, folder)}
    return sorted(path for folder, names in IN_RUNS.items() for name in names if (path := f"{folder}/{name}") in there)
