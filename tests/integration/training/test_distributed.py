"""Two processes on two CPU cores, started by torch's launcher: the same steps on the same rows as one process."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from training.distributed import ALONE, JOB, Launch
from training.effort import Effort
from training.finetune import finetune, last_complete
from undertone.errors import ConfigError, TrainingError
from undertone.tasks import TaskSpec

SPEC = TaskSpec(name="mood", labels=("sad", "glad"), max_tokens=24)
EFFORT = Effort(
    name="toy", epochs=2, learning_rate=5e-3, batch_size=8, save_steps=4, averaging=0.3, dropout=0.0, balance=0.0
)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    words = {"sad": "awful broken late", "glad": "love great thanks"}
    generator = np.random.default_rng(0)
    made = []
    for number in range(64):
        label = SPEC.labels[number % 2]
        said = generator.choice([*words[label].split(), "the", "parcel"], size=generator.integers(3, 9))
        made.append({"message_id": f"m{number}", "text": " ".join(said), "label": label})
    return pd.DataFrame(made)


def train(rows: pd.DataFrame, base: Path, checkpoints: Path, launch: Launch, log=None) -> dict[str, np.ndarray]:
    folder = finetune(
        rows,
        rows[:8],
        SPEC,
        EFFORT,
        base_model=base,
        seed=3,
        checkpoints=checkpoints,
        log=log,
        progress=False,
        threads=2,
        launch=launch,
    )
    return load_file(folder / "model.safetensors")


def test_two_processes_take_the_steps_of_one_and_go_on_after_an_end(rows, tiny_base_model, tmp_path):
    alone: dict[int, float] = {}
    expected = train(rows, tiny_base_model, tmp_path / "one", ALONE, lambda values, step: keep(alone, values, step))

    class StoppedError(Exception):
        pass

    def stop(values: dict[str, float], step: int) -> None:
        if step >= 8:
            raise StoppedError

    with pytest.raises(StoppedError):
        train(rows, tiny_base_model, tmp_path / "two", Launch(2), stop)
    left = last_complete(tmp_path / "two", ("rng_state_0.pth", "rng_state_1.pth", "average.safetensors"))
    assert left is not None
    shared: dict[int, float] = {}
    found = train(rows, tiny_base_model, tmp_path / "two", Launch(2), lambda values, step: keep(shared, values, step))
    assert min(shared) > int(left.rsplit("-", 1)[1])
    assert {step: alone[step] for step in shared} == pytest.approx(shared, abs=1e-3)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=5e-3)
    assert not (tmp_path / "two" / JOB).exists()


def test_several_processes_that_go_on_within_an_epoch_have_its_order():
    from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, skip_first_batches
    from torch.utils.data import BatchSampler
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from training.loop import EpochOfOrder, LengthSampler

    def loader(sampler: LengthSampler) -> DataLoaderShard:
        return DataLoaderShard(list(range(64)), batch_sampler=BatchSamplerShard(BatchSampler(sampler, 4, False), 2, 1))

    lengths = [number % 7 + 1 for number in range(64)]
    whole, resumed = LengthSampler(lengths, 8, 3), LengthSampler(lengths, 8, 3)
    uninterrupted = loader(whole)
    uninterrupted.set_epoch(1)
    expected = [batch.tolist() for batch in uninterrupted][4:]
    rest = skip_first_batches(loader(resumed), 4)
    state = TrainerState(global_step=12, max_steps=16, num_train_epochs=2)
    EpochOfOrder(resumed).on_epoch_begin(TrainingArguments(use_cpu=True), state, TrainerControl())
    rest.set_epoch(1)  # what the Trainer does, and which does not reach the sampler
    assert [batch.tolist() for batch in rest] == expected


def keep(curve: dict[int, float], values: dict[str, float], step: int) -> None:
    if "loss" in values:
        curve[step] = values["loss"]


def test_a_process_that_fails_is_told_with_its_own_words(rows, tiny_base_model, tmp_path):
    base = Path(shutil.copytree(tiny_base_model, tmp_path / "base"))
    (base / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(TrainingError, match=r"2 processes .*; found TrainingError: .* a vit, for"):
        train(rows, base, tmp_path / "run", Launch(2))


@pytest.mark.parametrize(
    ("launch", "change", "said"),
    [
        (Launch(3), {}, "batch_size=9"),
        (Launch(2, nodes=2), {}, "UNDERTONE_TRAIN_RENDEZVOUS"),
        (Launch(2), {"patience": 1}, "patience"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(launch, change, said):
    with pytest.raises(ConfigError, match=said):
        launch.check(EFFORT.having(change))


def test_machines_meet_where_they_are_told_to():
    command = Launch(4, 2, "10.0.0.5:29400").command(Path("/mnt/shared/run/job"))
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=10.0.0.5:29400"} <= set(command)
    assert command[-3:] == ["-m", "training.distributed", "/mnt/shared/run/job"]
