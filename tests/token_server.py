"""A small OAuth 2.0 token server over real TLS that answers what a test wants, also what none should.

with TokenServer(tmp_path) as server:
    server.answer = refused(400, "invalid_client", "AADSTS7000215: Invalid client secret provided.")
    ...  # send to server.url, trusting server.authority
    assert server.requests[0].form["grant_type"] == "client_credentials"
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, unquote_plus

import trustme
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OctKey

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
TLS_HANDSHAKE = b"\x16"
ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"]


@dataclass(frozen=True)
class Request:
    """What a client sent, and who it proved to be. ``refusal`` says what is wrong with that proof."""

    method: str
    path: str
    headers: Mapping[str, str]  # names in lower case
    form: Mapping[str, str]
    body: bytes
    way: str | None = None
    client_id: str = ""
    assertion: jwt.Token | None = None
    refusal: str | None = None


@dataclass(frozen=True)
class Answer:
    """An answer, sent after ``wait`` seconds.

    ``raw``: bytes sent instead of it. ``cut``: the bytes after which we stop. ``hold``: seconds until we hang up then.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    raw: bytes | None = None
    wait: float = 0.0
    cut: int | None = None
    hold: float = 0.0

    def octets(self) -> bytes:
        if self.raw is not None:
            return self.raw
        headers = {
            "Date": format_datetime(datetime.now(UTC), usegmt=True),
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-store",
            "Connection": "close",
        } | dict(self.headers)
        lines = [f"HTTP/1.1 {self.status} Answer", *(f"{name}: {value}" for name, value in headers.items() if value)]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


def says(members: Any, status: int = 200, **headers: str) -> Answer:
    """JSON. A header's name is written with underscores."""
    named = {name.replace("_", "-").title(): value for name, value in headers.items()}
    return Answer(status, json.dumps(members).encode(), {"Content-Type": "application/json"} | named)


def issues(token: str = "an-opaque-token-0001", expires_in: Any = 3600, **members: Any) -> Answer:
    """A token. ``expires_in`` None leaves it out."""
    found = {"access_token": token, "token_type": "Bearer", "expires_in": expires_in} | members
    return says({name: value for name, value in found.items() if value is not None})


def signed(**claims: Any) -> str:
    """A JWT with these claims; its signature is of no interest to a client."""
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(b"k" * 32), algorithms=["HS256"])


def refused(status: int = 400, error: str = "invalid_client", description: str | None = None, **headers: str) -> Answer:
    members = {"error": error} | ({"error_description": description} if description is not None else {})
    return says(members, status, **headers)


def page(status: int = 200) -> Answer:
    return Answer(status, b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", {"Content-Type": "text/html"})


def redirect(to: str, status: int = 307) -> Answer:
    return Answer(status, b"", {"Location": to})


class TokenServer:
    """Serves in a thread until the end of the ``with`` block.

    ``directory`` gets the files. ``names``: whom the certificate is for. ``ends``: when it ends. ``tls`` False speaks
    plain HTTP. ``clients`` maps a client id to its secret or to its public key; when it is empty, anybody is served.
    ``answer`` is what everybody gets: an answer, or what makes one from a request.
    """

    def __init__(
        self,
        directory: Path,
        *,
        names: tuple[str, ...] = ("127.0.0.1", "localhost"),
        ends: datetime | None = None,
        tls: bool = True,
    ) -> None:
        self.answer: Answer | Callable[[Request], Answer] = issues()
        self.clients: dict[str, Any] = {}
        self.requests: list[Request] = []
        self.authority = directory / "token-authority.pem"
        self._context = self._certified(names, ends) if tls else None
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}/tenant/oauth2/v2.0/token"

    def trust(self) -> ssl.SSLContext:
        """A context that trusts this server's authority alone."""
        return ssl.create_default_context(cafile=self.authority)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(30), "the token server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(15)
        assert not self._thread.is_alive(), "the token server did not stop"

    def _certified(self, names: tuple[str, ...], ends: datetime | None) -> ssl.SSLContext:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names, not_after=ends).configure_cert(context)
        return context

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda *_: None)  # failed handshakes are what tests are made of
        self._serving: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        for listener in server.sockets:
            self._loop.remove_reader(listener.fileno())
        for _ in range(3):  # a closed server would lose what it has just accepted
            await asyncio.sleep(0)
        server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._converse(reader, writer)
        finally:
            self._serving.discard(task)
            writer.transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.readexactly(1)
        if first == TLS_HANDSHAKE:  # as web servers do that expected a request
            answer = page(400)
        else:
            request = await self._read(first, reader)
            self.requests.append(request)
            answer = self.answer(request) if callable(self.answer) else self.answer
            if request.refusal is not None and request.method == "POST":  # what is published is for everybody
                answer = refused(401, "invalid_client", request.refusal)
        await asyncio.sleep(answer.wait)
        writer.write(answer.octets()[: answer.cut])
        await writer.drain()
        await asyncio.sleep(answer.hold)
        writer.close()  # flushes; the abort that follows would not
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                await writer.wait_closed()

    async def _read(self, first: bytes, reader: asyncio.StreamReader) -> Request:
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.strip().split("\r\n")
        method, path, _ = line.split(" ", 2)
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        return self._identified(Request(method, path, headers, form, body))

    def _identified(self, request: Request) -> Request:
        """Who the client is, as RFC 6749 section 2.3.1 and RFC 7523 section 3 have it."""
        form = request.form
        basic = request.headers.get("authorization", "")
        assertion = None
        if "client_assertion" in form:
            way, client_id = "private_key_jwt", form.get("client_id", "")
            assertion = self._verified(form)
            proven = assertion is not None and assertion.claims["sub"] == client_id
        elif basic.startswith("Basic "):
            way = "client_secret_basic"
            pair = base64.b64decode(basic.removeprefix("Basic ")).decode().partition(":")
            client_id, secret = unquote_plus(pair[0]), unquote_plus(pair[2])
            proven = self.clients.get(client_id) == secret and "client_secret" not in form
        else:
            way, client_id = "client_secret_post", form.get("client_id", "")
            proven = "client_secret" in form and self.clients.get(client_id) == form["client_secret"]
        refusal = None if proven or not self.clients else "The client did not prove itself."
        return replace(request, way=way, client_id=client_id, assertion=assertion, refusal=refusal)

    def _verified(self, form: Mapping[str, str]) -> jwt.Token | None:
        key = self.clients.get(form.get("client_id", ""))
        if form.get("client_assertion_type") != ASSERTION_TYPE or key is None or isinstance(key, str):
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # the name EdDSA is on its way out
                token = jwt.decode(form["client_assertion"], key, algorithms=ALGORITHMS)
        except JoseError:
            return None
        claims = token.claims
        right = claims.get("iss") == claims.get("sub") and claims.get("aud") == self.url and claims.get("jti")
        return token if right and time.time() < claims.get("exp", 0) <= time.time() + 600 else None
