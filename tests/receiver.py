"""An HTTP server on loopback that webhooks are posted to."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Part of the address: it must stand in no log and no ledger row.
SECRET = "T0K3N"


class Receiver:
    """An HTTP server that keeps what is posted to it, and answers with `statuses` in turn, then with `status`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self.status = 200
        self.pause = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(receiver.pause)
                status = receiver.statuses.pop(0) if receiver.statuses else receiver.status
                if status == 200:
                    receiver.got.append(json.loads(body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/{SECRET}"

    @property
    def events(self) -> list[str]:
        return [body["event"].removeprefix("undertone.") for body in self.got]
