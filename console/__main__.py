"""`python -m console`: run the console. SIGTERM or Ctrl-C ends it."""

from __future__ import annotations

import ipaddress
import logging
import signal
import sys

import uvicorn

from console.app import create_app
from undertone.errors import ConfigError
from undertone.settings import Settings, get_settings

#: Seconds that a decision under way may still take after a stop was asked for.
DRAIN_S = 20


def main(host: str | None = None, port: int | None = None) -> int:
    """Show the console until told to stop.

    Args:
        host: address to listen on; None: the settings' host.
        port: None: the settings' console_port.
    """
    settings = get_settings()
    host, port = host or settings.host, settings.console_port if port is None else port
    refuse_open_door(settings, host)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("mlflow", "alembic", "httpx"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config = uvicorn.Config(
        create_app(settings, host),
        host=host,
        port=port,
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_S,
    )
    # as in serving.__main__: a stop that was asked for is a success
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    server = uvicorn.Server(config)
    server.run()
    return 0 if server.started else 1


def refuse_open_door(settings: Settings, host: str) -> None:
    """Refuse to show forms to a network on which nobody has to prove who they are.

    Raises:
        ConfigError: the address is not this machine's own, in the single profile without logins.
    """
    if settings.profile == "team" or settings.identity == "mlflow" or _own(host):
        return
    raise ConfigError(
        "a console that only this machine reaches (in the single profile whoever reaches it may approve)",
        f"the address {host}",
        "set UNDERTONE_PROFILE=team, or listen on 127.0.0.1 and reach it through an SSH tunnel",
    )


def _own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
