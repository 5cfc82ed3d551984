"""A network service with nothing in it: Tempest skips whatever boots a server unless the catalog has one."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_LISTS: Final = ("networks", "ports", "security-groups", "extensions", "floatingips", "subnets", "routers")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        name = path.rpartition("/")[2]
        if path == "":
            version = {"id": "v2.0", "status": "CURRENT", "links": []}
            self._answer(200, {"versions": [version]})
        elif path.startswith("/v2.0/") and name in _LISTS:
            self._answer(200, {name.replace("-", "_"): []})
        else:
            self._answer(404, {"NeutronError": {"message": f"{path} is not there", "type": "NotFound", "detail": ""}})

    def _answer(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class EmptyNetwork:
    """The service, on a port of its own until `close`."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
