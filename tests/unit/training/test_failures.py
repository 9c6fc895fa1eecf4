"""What ends a training from outside is told in three parts, whatever library met it first."""

import errno
import resource
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from training.failures import RESERVE, diverged, explained, make_room, reserve
from training.work import Request
from undertone.errors import DataError, RegistryError, TrainingError

REQUEST = Request("sentiment", "sample:1", "smoke", 1, datetime(2026, 10, 5, tzinfo=UTC), "tom")


def told(root: Path, raises: Callable[[], object], request: Request = REQUEST) -> TrainingError:
    with pytest.raises(TrainingError) as caught, explained(request, root):
        raises()
    return caught.value


def write_full() -> None:
    with Path("/dev/full").open("wb") as stream:
        stream.write(b"x" * 10_000)


def through_mlflow() -> None:
    try:
        write_full()
    except OSError as error:
        raise RegistryError("a place for a file", str(error), "check that MLflow is up") from error


def words(kind: type[Exception], text: str) -> Callable[[], None]:
    def raises() -> None:
        raise kind(text)

    return raises


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("write", [write_full, through_mlflow])
def test_a_full_disk_says_how_much_to_free_and_where(tmp_path: Path, write: Callable[[], None]) -> None:
    error = told(tmp_path, write)
    assert "No space left on device" in error.found
    assert "MB at " in error.next_step
    assert "goes on from the last checkpoint" in error.next_step


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",  # safetensors
        "[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0",  # torch.save
        "PytorchStreamWriter failed writing file data/3: file write failed",
        "(sqlite3.OperationalError) database or disk is full",
        "8000 requested and 4096 written",  # numpy.savez
    ],
)
def test_libraries_that_give_no_error_number_are_understood(tmp_path: Path, text: str) -> None:
    assert "free" in told(tmp_path, words(RuntimeError, text)).next_step


def test_a_limit_on_file_size_is_no_full_disk(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        error = told(tmp_path, lambda: (tmp_path / "large").write_bytes(bytes(2 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "a limit of 1 MB" in error.found
    assert "ulimit -f unlimited" in error.next_step


def too_much() -> None:
    np.ones((1 << 45,))


@pytest.mark.parametrize(
    "raises",
    [
        too_much,
        words(
            RuntimeError, "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        words(type("OutOfMemoryError", (RuntimeError,), {}), "CUDA: tried to allocate 2.00 GiB"),
        words(RuntimeError, "std::bad_alloc"),
        words(ImportError, "onnxruntime.so: failed to map segment from shared object"),
        lambda: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")),
    ],
    ids=["numpy", "torch", "cuda", "c++", "library", "mmap"],
)
def test_out_of_memory_names_a_smaller_batch(tmp_path: Path, raises: Callable[[], object]) -> None:
    def call() -> None:
        found = raises()
        if found is not None:
            next(found)  # type: ignore[call-overload]

    error = told(tmp_path, call)
    assert "--set batch_size=8" in error.next_step
    assert "batches of 16" in error.expected


def test_with_one_row_in_a_batch_there_is_no_smaller_one(tmp_path: Path) -> None:
    one = Request("sentiment", "sample:1", "smoke", 1, REQUEST.now, "tom", overrides={"batch_size": 1})
    assert "smaller base model" in told(tmp_path, too_much, one).next_step


@pytest.mark.parametrize("error", [DataError("rows", "none", "give some"), ValueError("odd"), KeyboardInterrupt()])
def test_everything_else_goes_on_as_it_is(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, explained(REQUEST, tmp_path):
        raise error
    assert caught.value is error


def test_the_reserve_goes_where_the_disk_is_full_and_only_there(tmp_path: Path) -> None:
    work = tmp_path / "sentiment-1"
    work.mkdir()
    reserve(work)
    assert (work / RESERVE).stat().st_size > 0
    make_room(MemoryError(), tmp_path)
    assert (work / RESERVE).is_file()
    make_room(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert not (work / RESERVE).exists()


def test_a_diverged_loss_names_a_lower_learning_rate() -> None:
    assert "`--set learning_rate=3e-05`" in diverged("nan at step 20", 1e-4).next_step
