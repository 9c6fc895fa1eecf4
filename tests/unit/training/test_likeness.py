from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from training.file_likeness import FileLikeness, compare_folders
from training.likeness import compare_metrics, judge

WEIGHTS = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
SAME = {name: {"recorded": 0.8, "repeated": 0.8, "difference": 0.0} for name in ("macro_f1", "accuracy", "ece")}


def folder_of(
    folder: Path, *, uuid: str = "a", note: str = "a.py", shift: float = 0.0, operator: str = "MatMul"
) -> Path:
    extras = folder / "undertone"
    extras.mkdir(parents=True)
    (folder / "MLmodel").write_text(f"flavors: {{}}\nmodel_uuid: {uuid}\nutc_time_created: '{uuid}'\n")
    (extras / "model.json").write_text(json.dumps({"task": "sentiment", "lineage": {"seed": 7, "commit": note}}))
    save_file({"head": WEIGHTS + np.float32(shift)}, folder / "model.safetensors")
    node = helper.make_node(operator, ["x", "head"], ["y"])
    node.metadata_props.add(key="stack_trace", value=note)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(WEIGHTS + np.float32(shift), "head")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), extras / "model.onnx")
    return folder


def compared(tmp_path: Path, **changes: object) -> dict[str, FileLikeness]:
    one, other = folder_of(tmp_path / "one"), folder_of(tmp_path / "other", **changes)
    return {item.name: item for item in compare_folders(one, other)}


def test_the_same_bytes_are_identical(tmp_path: Path) -> None:
    files = compared(tmp_path)
    assert {item.state for item in files.values()} == {"identical"}
    assert judge(list(files.values()), SAME, same_data=True)[0] == "identical"


def test_what_mlflow_draws_anew_does_not_count(tmp_path: Path) -> None:
    files = compared(tmp_path, uuid="b")
    assert files["MLmodel"] == FileLikeness("MLmodel", "identical_but", "model_uuid, utc_time_created")
    verdict, reason = judge(list(files.values()), SAME, same_data=True)
    assert verdict == "identical"
    assert "model_uuid" in reason


def test_another_place_of_the_code_leaves_the_same_weights(tmp_path: Path) -> None:
    files = compared(tmp_path, note="/elsewhere/a.py")
    assert files["undertone/model.onnx"] == FileLikeness(
        "undertone/model.onnx", "identical_but", "the exporter's notes", 0.0
    )
    assert files["undertone/model.json"].note == "lineage.commit"
    assert judge(list(files.values()), SAME, same_data=True)[0] == "same weights"


def test_other_weights_are_measured(tmp_path: Path) -> None:
    files = compared(tmp_path, shift=0.25)
    for name in ("model.safetensors", "undertone/model.onnx"):
        assert files[name].state == "different"
        assert files[name].greatest_difference == pytest.approx(0.25)
    assert files["model.safetensors"].note == "1 of 1 tensors differ"
    near = SAME | {"ece": {"recorded": 0.05, "repeated": 0.06, "difference": 0.01}}
    far = SAME | {"macro_f1": {"recorded": 0.8, "repeated": 0.78, "difference": -0.02}}
    gone = SAME | {"accuracy": {"recorded": 0.8, "repeated": None, "difference": None}}
    assert judge(list(files.values()), near, same_data=True)[0] == "equivalent"
    assert judge(list(files.values()), far, same_data=True)[0] == "different"
    assert judge(list(files.values()), gone, same_data=True)[0] == "different"


def test_another_graph_around_the_same_weights_is_no_same_model(tmp_path: Path) -> None:
    files = compared(tmp_path, operator="Gemm")
    assert files["undertone/model.onnx"].note == "another graph around the weights"
    assert judge(list(files.values()), SAME, same_data=True)[0] == "equivalent"


def test_other_data_repeats_nothing(tmp_path: Path) -> None:
    files = compared(tmp_path)
    assert judge(list(files.values()), SAME, same_data=False)[0] == "different"


def test_files_of_one_side_and_broken_files(tmp_path: Path) -> None:
    one, other = folder_of(tmp_path / "one"), folder_of(tmp_path / "other")
    (one / "conda.yaml").write_text("a")
    (other / "LICENSE.txt").write_text("b")
    (other / "model.safetensors").write_bytes(b"broken")
    files = {item.name: item for item in compare_folders(one, other)}
    assert files["conda.yaml"].state == "missing"
    assert files["LICENSE.txt"].state == "added"
    assert files["model.safetensors"].state == "different"
    assert "not readable" in files["model.safetensors"].note


def test_weights_that_are_no_numbers_stay_json() -> None:
    assert FileLikeness("model.safetensors", "different", "", math.inf).as_dict()["greatest_difference"] is None


def test_metrics_side_by_side() -> None:
    one = {"macro_f1": 0.8, "accuracy": 0.9, "ece": float("nan"), "per_class": {"joy": {"f1": 0.7}}}
    other = {"macro_f1": 0.75, "accuracy": 0.9, "ece": 0.1, "per_class": {"fear": {"f1": 0.2}}}
    found = compare_metrics(one, other)
    assert found["macro_f1"]["difference"] == pytest.approx(-0.05)
    assert found["accuracy"]["difference"] == 0
    assert found["ece"] == {"recorded": None, "repeated": 0.1, "difference": None}
    assert found["f1.joy"] == {"recorded": 0.7, "repeated": None, "difference": None}
    assert found["f1.fear"]["repeated"] == 0.2
