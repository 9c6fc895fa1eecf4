"""Quiet for the libraries that training drives, so that a person sees one clean progress bar."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

_NOISY = ("transformers", "mlflow", "torch.onnx", "onnxscript", "onnx_ir", "onnxruntime", "accelerate")


@contextmanager
def hush(*, prints: bool = False) -> Iterator[None]:
    """Mute warnings, log lines and progress bars of Transformers, MLflow and the ONNX tools inside the block.

    Everything is as before afterwards. Errors are raised as ever.

    Args:
        prints: also swallow what the block prints to stdout and stderr (the ONNX exporter prints its progress).
    """
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    transformers_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if prints:
                with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
                    yield
            else:
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
