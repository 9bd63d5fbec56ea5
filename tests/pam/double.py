"""A vault of ours: an HTTPS server on loopback that answers by a product's rules, and remembers what it was asked.

with Double(directory, rules) as vault:
    ...  # fetch from vault.url with vault.means()
    assert vault.asked[0].target == "/v1/secret/data/smtp"
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import trustme

from keyrelay.pam.backend import Means

HOST = "127.0.0.1"
_PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came. ``target`` is path and query, still encoded; ``client`` the name in its certificate."""

    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    client: str | None = None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True, strict_parsing=True))

    @property
    def form(self) -> dict[str, str]:
        assert self.headers.get("content-type") == "application/x-www-form-urlencoded"
        return dict(parse_qsl(self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True))

    @property
    def document(self) -> Any:
        assert self.headers.get("content-type") == "application/json"
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Answered:
    """What is answered, after ``wait`` seconds; ``huge``: so many more bytes of it. ``hang_up``: not even that.

    ``cookies``: each is a header Set-Cookie of its own.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0.0
    huge: int = 0
    hang_up: bool = False
    cookies: tuple[str, ...] = ()


def says(value: Any, status: int = 200, **headers: str) -> Answered:
    """A JSON answer; underscores in the names of headers are hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answered(status, json.dumps(value).encode(), {"content-type": "application/json", **named})


def page(status: int = 200) -> Answered:
    return Answered(status, b"<!doctype html><title>Sign in</title>", {"content-type": "text/html"})


@cache
def authority() -> trustme.CA:
    return trustme.CA()


class _Server(ThreadingHTTPServer):
    request_queue_size = 200  # a caller that finds no room waits for a second, and tries again
    daemon_threads = True


class Double:
    """``rules`` gives the answer to each request; a mistake in a request is an AssertionError there, told in ``wrong``.

    ``client_certificate``: whether callers must show one of our authority.
    """

    def __init__(
        self, directory: Path, rules: Callable[[Asked], Answered], *, client_certificate: bool = False
    ) -> None:
        self.rules = rules
        self.asked: list[Asked] = []
        self.wrong: list[str] = []
        self.authority = directory / "vault-authority.pem"
        authority().cert_pem.write_to_path(str(self.authority))
        self.client_certificate = directory / "vault-client.pem"
        authority().issue_cert(
            "keyrelay.test", common_name="keyrelay.test"
        ).private_key_and_cert_chain_pem.write_to_path(str(self.client_certificate))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority().issue_cert(HOST, "localhost").configure_cert(context)
        if client_certificate:
            authority().configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        self._ended = threading.Event()
        self._server = _Server((HOST, 0), self._handler(context))
        self._server.handle_error = lambda *_: None  # a client that goes away, or whose certificate is refused
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}"

    def means(self, **more: Any) -> Means:
        """Means that trust this vault, and no other."""

        def context(*, client: bool) -> ssl.SSLContext:
            made = ssl.create_default_context(cafile=self.authority)
            if client:
                made.load_cert_chain(self.client_certificate)
            return made

        return Means(lambda: context(client=False), lambda: context(client=True), **more)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        assert self.wrong == [], self.wrong

    def _handler(self, context: ssl.SSLContext) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class of several methods
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30
            disable_nagle_algorithm = True  # or a body waits behind its head until that is acknowledged

            def setup(self) -> None:
                # Here, in the thread of this connection: a slow handshake keeps no other caller waiting.
                self.request.settimeout(self.timeout)
                self.request = context.wrap_socket(self.request, server_side=True)
                super().setup()

            def finish(self) -> None:
                try:
                    super().finish()
                finally:
                    self.request.close()

            def __getattr__(self, name: str) -> Any:
                if name.startswith("do_"):
                    return self._answer
                raise AttributeError(name)

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self) -> None:
                length = int(self.headers.get("content-length", "0"))
                peer = self.request.getpeercert()
                client = dict(pair[0] for pair in peer["subject"]).get("commonName") if peer else None
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(length)
                if len(body) < length:  # cancelled between the head and the body: nothing was asked
                    self.close_connection = True
                    return
                asked = Asked(self.command, self.path, headers, body, client)
                double.asked.append(asked)
                try:
                    answered = double.rules(asked)
                except AssertionError as mistake:
                    double.wrong.append(f"{asked.method} {asked.path}: {mistake}")
                    answered = Answered(400, b"{}")
                double._ended.wait(answered.wait)
                if answered.hang_up:
                    self.close_connection = True
                    return
                self.send_response(answered.status)
                cookies = [("set-cookie", cookie) for cookie in answered.cookies]
                for name, value in [*answered.headers.items(), *cookies]:
                    self.send_header(name, value)
                self.send_header("content-length", str(len(answered.body) + answered.huge))
                self.end_headers()
                self.wfile.write(answered.body)
                for _ in range(answered.huge // _PIECE):
                    self.wfile.write(b" " * _PIECE)

        return Handler
