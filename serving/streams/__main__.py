"""`python -m serving.streams`: `undertone stream` where only the serving worker is installed, as in its image."""

from __future__ import annotations

import argparse
import json
import os
import sys

from serving.streams.reading import schema
from serving.streams.run import BATCH, Plan, run
from serving.telemetry import configure_logging
from undertone.errors import ConfigError, UndertoneError
from undertone.settings import QUIET, get_settings


def main() -> int:
    """Score a stream until it ends or is stopped; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m serving.streams", description=__doc__)
    parser.add_argument("--source", default="-")
    parser.add_argument("--sink", default="-")
    parser.add_argument("--dead-letters", default="")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--metrics-port", type=int)
    parser.add_argument("--with-values", action="store_true")
    parser.add_argument("--schema", action="store_true")
    asked = vars(parser.parse_args())
    if asked.pop("schema"):
        print(json.dumps(schema(), indent=2))  # noqa: T201
        return 0
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    settings = get_settings()
    configure_logging(settings)
    try:
        run(settings, Plan(**asked | {"sink": "" if asked["sink"] == "none" else asked["sink"]}))
    except UndertoneError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
