"""`python -m serving`: run the worker. SIGTERM or Ctrl-C finishes requests under way, then ends."""

from __future__ import annotations

import logging
import os
import signal
import sys

import uvicorn

from serving import access
from serving.app import create_app
from serving.patience import PatientProtocol, PatientServer
from serving.telemetry import configure_logging
from undertone.settings import QUIET, get_settings

log = logging.getLogger("undertone.serving")

#: Seconds that requests under way may still take after a stop was asked for. What they scored so far is on disk anyway.
DRAIN_S = 20

#: Seconds that a connection may stay open without a request; longer than balancers keep theirs, so that the balancer
#: is the one that closes.
KEEP_ALIVE_S = 75


def main() -> int:
    """Serve until told to stop."""
    for name, value in QUIET.items():  # the tokenizer's own threads would spin beside the lanes, too
        os.environ.setdefault(name, value)
    settings = get_settings()
    configure_logging(settings)
    if (open_door := access.warning(settings)) is not None:
        log.warning(open_door)
    config = uvicorn.Config(
        create_app(settings),
        http=PatientProtocol,
        lifespan="on",
        host=settings.host,
        port=settings.port,
        access_log=False,
        # the peer stays who holds the connection: `serving.access` trusts a proxy by its own address
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=2048,
    )
    # uvicorn raises the signal that stopped it once more when it is done; a stop that was asked for is a success, also
    # one that comes before uvicorn listens
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    server = PatientServer(config)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
