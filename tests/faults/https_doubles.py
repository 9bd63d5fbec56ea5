"""A vault and a token endpoint, each in a process of its own that may be killed and started again.

``python https_doubles.py OPTIONS`` with Options as JSON.
"""

from __future__ import annotations

import json
import ssl
import sys
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

VAULT_PATH = "v1/secret/data"
SECRET = "mailing"
TOKEN_PATH = "/oauth2/v2.0/token"
TOKEN_SECONDS = 2  # so short that nearly every sign-in needs a new one


@dataclass(frozen=True)
class Options:
    """``certificate``: a PEM file with the key too. ``token``: what opens the vault, or what the endpoint gives.

    ``secrets``: what is kept in the vault; what a client shows to the endpoint.
    """

    port: int
    certificate: str
    token: str
    secrets: dict[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 200
    options: Options

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed, or that gives us up while we are stalled."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True  # or a body waits behind its head until that is acknowledged
    server: _Server
    context: ssl.SSLContext

    def setup(self) -> None:
        self.request.settimeout(self.timeout)
        self.request = self.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        options = self.server.options
        if self.headers.get("x-vault-token") != options.token:
            self._say({"errors": ["permission denied"]}, 403)
        elif self.path == "/v1/auth/token/lookup-self":
            self._say({"data": {"ttl": 0, "renewable": False, "type": "service"}})
        elif self.path == f"/{VAULT_PATH}/{SECRET}":
            facts = {"version": 1, "created_time": "2026-03-22T02:24:06Z", "deletion_time": "", "destroyed": False}
            self._say({"data": {"data": options.secrets, "metadata": facts}})
        else:
            self._say({"errors": []}, 404)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        shown = {name: form.get(f"client_{name}", [""])[0] for name in ("id", "secret")}
        if self.path != TOKEN_PATH or shown != self.server.options.secrets:
            self._say({"error": "invalid_client"}, 401)
        else:
            self._say({"access_token": self.server.options.token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS})

    def _say(self, members: Any, status: int = 200) -> None:
        octets = json.dumps(members).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)


def _run(options: Options) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate)
    server = _Server(("127.0.0.1", options.port), type("Handler", (_Handler,), {"context": context}))
    server.options = options
    server.serve_forever()


if __name__ == "__main__":
    _run(Options(**json.loads(sys.argv[1])))
