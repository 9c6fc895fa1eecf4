"""A trunk: the layers of a trained model below its last, on which other tasks train heads of their own.

The trunk stays as it is, byte for byte, so a worker runs it once for all tasks on it. Versions, gates, approvals and
signatures are each task's own: see docs/decisions/0019.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from training.base_model import WEIGHTS, resolve
from training.effort import Effort
from undertone import model_folder
from undertone.errors import ConfigError
from undertone.registry import Registry

#: In place of another model's: a training whose own layers may become a trunk.
OWN = "own"

_REGISTERED = "models:/"


def checkpoint(name: str, registry: Registry, into: Path) -> str:
    """The folder of the model called `name`, to fine-tune from.

    Args:
        name: ``models:/TASK/VERSION``, or the folder of a model or of a checkpoint.
        registry: has the registered ones.
        into: what has to be copied together is put under it, by its weights' digest.

    Raises:
        ConfigError: there is no such model.
        RegistryError: the version is not registered.
    """
    if not name.startswith(_REGISTERED):
        return _complete(Path(name).expanduser().resolve(), into)
    task, _, version = name.removeprefix(_REGISTERED).partition("/")
    if not version.isdigit():
        raise ConfigError("a trunk like models:/sentiment/3", f"{name!r}", "name a task and one of its versions")
    fetched = into / f"{task}-{version}"
    shutil.rmtree(fetched, ignore_errors=True)
    try:
        return _complete(registry.download(task, int(version), fetched), into)
    finally:
        shutil.rmtree(fetched, ignore_errors=True)


def freeze(effort: Effort, base_model: Path) -> Effort:
    """`effort` with all layers of `base_model` frozen but the last, which is the head's."""
    config = json.loads((base_model / "config.json").read_text(encoding="utf-8"))
    layers = config.get("num_hidden_layers", config.get("n_layers", 0))  # DistilBERT has its own word
    if layers < 2:
        raise ConfigError("a trunk of at least one layer and a head's", f"{layers} layers", "use another model")
    return effort.model_copy(update={"frozen_layers": layers - 1})


def _complete(folder: Path, into: Path) -> str:
    """`folder` where it is a checkpoint; a model folder's weights and tokenizer are copied side by side."""
    if not (folder / model_folder.METADATA).is_file():
        return str(resolve(str(folder)).path)
    model_folder.refuse_code(folder)
    parts = {
        name: folder / "model" / name for name in (WEIGHTS, "config.json")
    } | {path.name: path for path in (folder / "components" / "tokenizer").glob("*.json")}  # fmt: skip
    parts["tokenizer.json"] = folder / model_folder.TOKENIZER
    into.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=into, ignore_cleanup_errors=True) as scratch:
        staged = Path(scratch) / "model"
        staged.mkdir()
        for name, path in parts.items():
            shutil.copyfile(path, staged / name)
        kept = into / resolve(str(staged)).sha256[:16]
        if not kept.is_dir():  # another training may be reading it
            staged.rename(kept)
    return str(kept)
