"""How the model folders of two trainings compare, file by file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from undertone.model_folder import GRAPHS, METADATA, SPLIT_GRAPHS, manifest

State = Literal["identical", "identical_but", "different", "missing", "added"]

_GRAPHS = {*GRAPHS.values(), *(name for names in SPLIT_GRAPHS.values() for name in names)}

#: What MLflow draws anew whenever it saves a model.
_DRAWN = ("model_uuid", "utc_time_created")


@dataclass(frozen=True, slots=True)
class FileLikeness:
    """One file of the two model folders.

    Attributes:
        name: path in the model folder.
        state: ``identical_but``: identical apart from what `note` names; ``missing``: only in the recorded folder;
            ``added``: only in the repeated one.
        note: what differs, in words; empty where nothing does or nobody can say.
        greatest_difference: between weights, absolute; None where the file holds no weights, or other ones.
    """

    name: str
    state: State
    note: str = ""
    greatest_difference: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        finite = self.greatest_difference is not None and math.isfinite(self.greatest_difference)
        return asdict(self) | {"greatest_difference": self.greatest_difference if finite else None}

    @property
    def has_weights(self) -> bool:
        """Whether the file holds the model's weights."""
        return _has_weights(self.name)


def compare_folders(recorded: Path, repeated: Path) -> list[FileLikeness]:
    """Every file of two model folders, by name.

    Weights (safetensors and the ONNX graphs') are compared as numbers, ``MLmodel`` without the id and the time that
    MLflow draws, graphs also without the exporter's notes (they hold paths of the machine).

    Raises:
        VerificationError: a folder is missing or holds a symbolic link.
    """
    ours, theirs = manifest(recorded), manifest(repeated)
    found = []
    for name in sorted(ours | theirs):
        if name not in theirs or name not in ours:
            found.append(FileLikeness(name, "missing" if name in ours else "added"))
        elif ours[name] == theirs[name]:
            found.append(FileLikeness(name, "identical", greatest_difference=0.0 if _has_weights(name) else None))
        else:
            found.append(_look_inside(name, recorded / name, repeated / name))
    return found


def _look_inside(name: str, ours: Path, theirs: Path) -> FileLikeness:
    try:
        if name == "MLmodel":
            return _compare_mlmodel(name, ours, theirs)
        if name == METADATA:
            return FileLikeness(name, "different", _changed_fields(*(_fields(path) for path in (ours, theirs))))
        if name.endswith(".safetensors"):
            return _compare_weights(name, _tensors(ours), _tensors(theirs))
        if name in _GRAPHS:
            return _compare_graphs(name, ours, theirs)
    except Exception as error:  # noqa: BLE001 - a file that its own library cannot read is different, whatever it raises
        return FileLikeness(name, "different", f"not readable ({type(error).__name__})")
    return FileLikeness(name, "different")


def _compare_mlmodel(name: str, ours: Path, theirs: Path) -> FileLikeness:
    import yaml

    one, other = (yaml.safe_load(path.read_text(encoding="utf-8")) for path in (ours, theirs))
    changed = [key for key in one | other if one.get(key) != other.get(key)]
    state: State = "identical_but" if set(changed) <= set(_DRAWN) else "different"
    return FileLikeness(name, state, ", ".join(changed))


def _compare_weights(name: str, ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]]) -> FileLikeness:
    if {key: (value.shape, value.dtype) for key, value in ours.items()} != {
        key: (value.shape, value.dtype) for key, value in theirs.items()
    }:
        return FileLikeness(name, "different", "weights of other names or shapes")
    greatest = max((_greatest(ours[key], theirs[key]) for key in ours), default=0.0)
    if greatest == 0.0:
        return FileLikeness(name, "different", "the same weights in other bytes", 0.0)
    changed = sum(_greatest(ours[key], theirs[key]) > 0 for key in ours)
    return FileLikeness(name, "different", f"{changed} of {len(ours)} tensors differ", greatest)


def _compare_graphs(name: str, ours: Path, theirs: Path) -> FileLikeness:
    import onnx
    from onnx import numpy_helper

    one, other = (_without_notes(onnx.load(path)) for path in (ours, theirs))
    if one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True):
        return FileLikeness(name, "identical_but", "the exporter's notes", 0.0)
    tensors = [{item.name: numpy_helper.to_array(item) for item in model.graph.initializer} for model in (one, other)]
    found = _compare_weights(name, *tensors)
    for model in (one, other):
        del model.graph.initializer[:]
    if one.SerializeToString(deterministic=True) != other.SerializeToString(deterministic=True):
        return FileLikeness(name, "different", "another graph around the weights")
    return found


def _without_notes(model: Any) -> Any:
    """`model` without what the exporter wrote about its source code: file names, lines, module paths."""
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    return model


def _tensors(path: Path) -> dict[str, NDArray[Any]]:
    from safetensors.numpy import load_file

    found: dict[str, NDArray[Any]] = load_file(path)
    return found


def _greatest(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Greatest absolute difference; infinity where one is not finite and the other is."""
    if one.size == 0 or np.array_equal(one, other, equal_nan=one.dtype.kind == "f"):
        return 0.0
    gap = np.abs(one.astype(np.float64) - other.astype(np.float64)).max()
    return float(gap) if np.isfinite(gap) else math.inf


def _fields(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in found.items() if key != "lineage"} | {
        f"lineage.{key}": value for key, value in found.get("lineage", {}).items()
    }


def _changed_fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return ", ".join(key for key in {**one, **other} if one.get(key) != other.get(key))


def _has_weights(name: str) -> bool:
    return name.endswith(".safetensors") or name in _GRAPHS
