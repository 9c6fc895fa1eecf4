"""What ends a training from outside, told in three parts: a full disk, no memory left, a loss that is no number.

The libraries below say each of these in their own ways, and others wrap them again; here they are found by looking
through the chain of causes.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from undertone.errors import TrainingError

if TYPE_CHECKING:
    from training.work import Request

#: A file in each work folder that holds bytes for nothing but this: where the disk is full it goes, so that the ledger
#: and MLflow can still write down what happened.
RESERVE = "reserve"
RESERVE_BYTES = 4 << 20

#: Copies of the weights that a training writes at most: three checkpoints with two moments each, the best and the
#: final weights, two graphs and the registered copy.
COPIES = 14

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_WORDS = ("no space left on device", "os error 28", "disk is full", "quota exceeded", "os error 122")
_LIMIT_WORDS = ("file too large", "os error 27")
#: torch and NumPy say of a short write no more than that it was short; SQLite of a limit that input or output failed.
_SHORT_WRITE = ("pytorchstreamwriter failed", "inline_container.cc", "requested and", "disk i/o error")
_MEMORY_WORDS = (
    "allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "failed to allocate",
    "failed to map segment",
)
_MEGABYTE = 1 << 20


@contextmanager
def explained(request: Request, *folders: Path) -> Iterator[None]:
    """Turn what a full disk or a lack of memory raised in the block into a `TrainingError`; all else goes on as it is.

    Args:
        request: what is trained: the advice names its hyperparameters.
        folders: where a training writes, the one with the work folders first.

    Raises:
        TrainingError: the disk is full, a file may not grow further, or memory ran out.
    """
    try:
        yield
    except Exception as error:
        told = _explain(error, request, folders)
        if told is None:
            raise
        make_room(error, folders[0])
        raise told from error


def make_room(error: BaseException, root: Path) -> None:
    """Delete the reserves under `root`, where `error` comes of a full disk: the failure itself needs to be recorded."""
    if _disk(error) is not None:
        for reserve in root.glob(f"*/{RESERVE}"):
            with suppress(OSError):
                reserve.unlink()


def reserve(folder: Path) -> None:
    """Put the reserve into a work folder, where it is not there.

    Raises:
        OSError: the disk has no room for it.
    """
    path = folder / RESERVE
    if not path.is_file() or path.stat().st_size < RESERVE_BYTES:
        path.write_bytes(bytes(RESERVE_BYTES))


def diverged(found: str, learning_rate: float) -> TrainingError:
    """The error of a training whose loss or weights stopped being numbers."""
    return TrainingError(
        "a finite loss", found, f"lower the learning rate: `--set learning_rate={learning_rate / 3:.1g}`"
    )


def _explain(error: BaseException, request: Request, folders: tuple[Path, ...]) -> TrainingError | None:
    if (cause := _disk(error)) is not None:
        return _disk_error(cause, request, folders)
    if (cause := _memory(error)) is not None:
        return _memory_error(cause, request)
    return None


def _disk_error(cause: BaseException, request: Request, folders: tuple[Path, ...]) -> TrainingError:
    limit = _file_limit()
    if limit is not None and (getattr(cause, "errno", None) == errno.EFBIG or not _says(cause, _FULL_WORDS)):
        return TrainingError(
            f"files of any size in {folders[0]}",
            f"a limit of {limit / _MEGABYTE:.0f} MB for one file ({_line(cause)})",
            "lift it with `ulimit -f unlimited` and give the same command: it goes on from the last checkpoint",
        )
    named = getattr(cause, "filename", None)
    places = [*folders, Path(tempfile.gettempdir()), *([Path(os.fsdecode(named)).parent] if named else [])]
    path, free = min(((place, _free(place)) for place in places), key=lambda item: item[1])
    return TrainingError(
        f"room for the training on the disk of {path}",
        f"{free / _MEGABYTE:.0f} MB left ({_line(cause)})",
        f"free {_wanted(request, folders[0], free) / _MEGABYTE:.0f} MB at {path} and give the same command: it goes on"
        " from the last checkpoint",
    )


def _memory_error(cause: BaseException, request: Request) -> TrainingError:
    batch = request.hyperparameters.batch_size
    lower = f"lower the batch: `--set batch_size={batch // 2}`, or " if batch > 1 else "take a smaller base model, or "
    return TrainingError(
        f"memory for batches of {batch} messages",
        _line(cause),
        f"{lower}end what else fills the memory and give the same command: it goes on from the last checkpoint",
    )


def _disk(error: BaseException) -> BaseException | None:
    """What in the chain of `error` says that the disk or a file is full."""
    found = list(_chain(error))
    for cause in found:
        if isinstance(cause, OSError) and cause.errno in _FULL | {errno.EFBIG}:
            return cause
    for cause in found:
        if _says(cause, _FULL_WORDS + _LIMIT_WORDS):
            return cause
    return next((cause for cause in found if _says(cause, _SHORT_WRITE)), None)


def _memory(error: BaseException) -> BaseException | None:
    """What in the chain of `error` says that memory ran out."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return cause
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return cause
        if _says(cause, _MEMORY_WORDS):
            return cause
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _says(error: BaseException, words: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)


def _line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__


def _file_limit() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def _free(place: Path) -> int:
    while not place.exists() and place != place.parent:
        place = place.parent
    return shutil.disk_usage(place).free


def _wanted(request: Request, root: Path, free: int) -> int:
    """Bytes to free: what a training writes, less what is free or its own already; one checkpoint at least."""
    from training import base_model
    from undertone.tasks import get_task

    weights = 100 * _MEGABYTE
    with suppress(Exception):  # an estimate must not hide the error it is for
        folder = base_model.resolve(request.base_model or get_task(request.task).base_model).path
        weights = (folder / "model.safetensors").stat().st_size
    own = sum(path.stat().st_size for path in root.glob(f"{request.task}-*/**/*") if path.is_file())
    return max(COPIES * weights + 2 * RESERVE_BYTES - free - own, 3 * weights + RESERVE_BYTES, _MEGABYTE)
