"""Tasks that are not built in: each TOML file in a folder is one, and the file's name is the task's.

The fields are those of `undertone.tasks.TaskSpec`. What a file leaves out is as in the built-in tasks.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from undertone.errors import ConfigError
from undertone.tasks import BUILT_IN, FLOORS, TaskSpec

#: A row of the ledger about all tasks has this name in place of one.
_TAKEN = "all"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@lru_cache(maxsize=16)
def tasks_in(folder: Path) -> Mapping[str, TaskSpec]:
    """The built-in tasks, then those of ``<folder>/*.toml`` by name. Each folder is read once in a process.

    Raises:
        ConfigError: a file is not a task; it names file and field.
    """
    specs = dict(BUILT_IN)
    for file in sorted(folder.glob("*.toml")):
        specs[file.stem] = read_task(file)
    return MappingProxyType(specs)


def read_task(file: Path) -> TaskSpec:
    """The task in `file`.

    A relative path in ``source`` or ``base_model`` that is there beside the file is taken from there. ``drift.floors``
    may name some of the signals; the others keep their floors.

    Raises:
        ConfigError: it is not a task; names file and field.
    """
    name = file.stem
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "a task's name for a file: small letters, digits and _, such as urgency.toml", str(file), "rename the file"
        )
    if name in BUILT_IN or name == _TAKEN:
        raise ConfigError(
            "a file named for a task that is not there yet",
            f"{file}, and {name} is taken",
            f"rename the file; requirements of a built-in task are changed by `[gate.{name}]` in undertone.toml",
        )
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"a task as TOML in {file}", str(error), "correct the file") from error
    if values.setdefault("name", name) != name:
        raise ConfigError(
            f"name = {name!r} in {file}, or none", f"{values['name']!r}", "let the file alone name the task"
        )
    try:
        return _titled(TaskSpec.model_validate(_complete(values, file.parent)))
    except ValidationError as error:
        wrong = error.errors()[0]
        field = ".".join(map(str, wrong["loc"])) or "the fields together"
        raise ConfigError(
            f"{field} of the task in {file} to be right",
            f"{wrong['msg']}" + ("" if wrong["type"] == "missing" else f": {str(wrong['input'])[:100]}"),
            f"correct {field} in the file; docs/reference/tasks.md lists what a task has",
        ) from None


def _complete(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`values` with paths beside the file made absolute, and with the floors that are not named."""
    if isinstance(source := values.get("source"), str):
        values["source"] = "+".join(_beside(part, folder) for part in source.split("+"))
    if isinstance(base := values.get("base_model"), str):
        values["base_model"] = _beside(base, folder)
    drift = values.get("drift")
    if isinstance(drift, dict) and isinstance(floors := drift.get("floors"), dict):
        drift["floors"] = {name: floor.model_dump() for name, floor in FLOORS.items()} | floors
    return values


def _beside(name: str, folder: Path) -> str:
    path = folder / name.strip()
    return str(path.resolve()) if name.strip() and path.exists() else name


def _titled(spec: TaskSpec) -> TaskSpec:
    """`spec` with a title made of its labels, where it has none."""
    if spec.title:
        return spec
    words = spec.name.replace("_", " ").capitalize()
    return spec.model_copy(update={"title": f"{words}: {', '.join(spec.labels[:-1])} or {spec.labels[-1]}?"})
