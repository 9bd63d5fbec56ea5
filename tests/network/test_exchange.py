"""One request over HTTP: its bounds, what it does not do, and what it says when there is no answer."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import repeat

import pytest
import trustme
import uvloop

from canary import new_canary
from keyrelay.network.exchange import HttpAnswer, HttpRequest, NoAnswer, exchange

HOST = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Served = Callable[[socket.socket], None]


@cache
def authority() -> trustme.CA:
    return trustme.CA()


def trust(**of_client) -> ssl.SSLContext:
    """What trusts our authority alone. ``of_client``: the authority that issued our own certificate."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=authority().cert_pem.bytes().decode())
    for issuer in of_client.values():
        issuer.issue_cert("keyrelay.test").configure_cert(context)
    return context


class Server:
    """Serves each connection in a thread by ``serve``; with ``context``, over TLS. It is gone with its test."""

    def __init__(self, serve: Served, context: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        self.ended = threading.Event()  # the client has closed a connection
        self._serve, self._context = serve, context
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._context else ''}://{HOST}:{self.port}/path"

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                opened, _ = self._listener.accept()
            except OSError:
                return
            opened.settimeout(30)
            threading.Thread(target=self._one, args=(opened,), daemon=True).start()

    def _one(self, opened: socket.socket) -> None:
        with closing(opened), suppress(OSError):
            if self._context is None:
                self._answer(opened)
                return
            with self._context.wrap_socket(opened, server_side=True, do_handshake_on_connect=False) as secured:
                try:
                    secured.do_handshake()
                except ssl.SSLError:
                    # Gently: what we say is lost when the connection is torn down at once.
                    raw = socket.socket(fileno=secured.detach())
                    with closing(raw):
                        raw.settimeout(30)
                        raw.shutdown(socket.SHUT_WR)
                        drain(raw)
                    return
                self._answer(secured)

    def _answer(self, opened: socket.socket) -> None:
        if self._serve is not in_silence:
            self.heads.append(head(opened))
        try:
            self._serve(opened)
            drain(opened)
        finally:
            self.ended.set()


def head(opened: socket.socket) -> bytes:
    read = b""
    while b"\r\n\r\n" not in read:
        if not (piece := opened.recv(65536)):
            raise ConnectionError
        read += piece
    return read


def drain(opened: socket.socket) -> None:
    while opened.recv(65536):
        pass


def says(*octets: bytes) -> Served:
    def serve(opened: socket.socket) -> None:
        for one in octets:
            opened.sendall(one)
        opened.shutdown(socket.SHUT_WR)

    return serve


def without_end(first: bytes, more: bytes) -> Served:
    def serve(opened: socket.socket) -> None:
        opened.sendall(first)
        for one in repeat(more):
            opened.sendall(one)

    return serve


def in_silence(opened: socket.socket) -> None:
    """Reads, and says nothing; not in TLS either."""
    drain(opened)


def drips(opened: socket.socket) -> None:
    opened.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    waiting = threading.Event()
    while not waiting.wait(0.02):
        opened.sendall(b".")


@pytest.fixture
def serving() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(serve: Served, context: ssl.SSLContext | None = None) -> Server:
        running.append(Server(serve, context))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request):
    return request.param


def of_server(*names: str, issuer: trustme.CA | None = None, ends: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (issuer or authority()).issue_cert(*(names or (HOST,)), not_after=ends).configure_cert(context)
    return context


def demanding(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A server that wants a certificate of our authority."""
    context = of_server()
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    context.minimum_version = context.maximum_version = version
    return context


async def asked(url: str, *, within: float = 20, limit: int = 1000, context=None, **request) -> HttpAnswer:
    sent = HttpRequest(request.get("method", "GET"), url, request.get("headers", ()), request.get("content", b""))
    return await exchange(sent, context or trust(), within=within, limit=limit)


def failure(run, url: str, **more) -> NoAnswer:
    with pytest.raises(NoAnswer) as failed:
        run(asked(url, **more))
    return failed.value


def test_an_answer_comes_with_what_may_be_shown_about_it(serving, run):
    server = serving(says(b"HTTP/1.1 418 Teapot\r\nX-Kind: tea\r\nContent-Length: 3\r\n\r\nhot"), of_server())
    answer = run(asked(server.url))
    assert (answer.status, answer.headers["x-kind"], answer.body) == (418, "tea", b"hot")
    assert answer.facts == {"encrypted": True, "address": HOST, "tls": "TLSv1.3"}


def test_without_tls_the_facts_say_so(serving, run):
    assert run(asked(serving(says(OK)).url)).facts["encrypted"] is False


def test_what_is_sent_is_what_was_given(serving, run):
    server = serving(says(OK))
    run(asked(server.url + "?a=b;c=%2F", method="POST", headers=[("X-One", "1"), ("X-One", "2")], content=b"body"))
    assert server.heads[0].startswith(b"POST /path?a=b;c=%2F HTTP/1.1\r\n")
    assert server.heads[0].count(b"X-One: ") == 2


@pytest.mark.parametrize("serve", [in_silence, drips], ids=["silence", "drops"])
def test_the_time_is_bounded_in_all(serving, run, serve):
    server = serving(serve)
    assert failure(run, server.url, within=0.5).kind == "timeout"
    assert server.ended.wait(20), "the connection was left open"


def test_the_time_of_a_handshake_is_bounded_and_its_connection_closed(serving, run):
    server = serving(in_silence)
    assert failure(run, server.url.replace("http:", "https:"), within=0.5).kind == "timeout"
    assert server.ended.wait(20), "the connection was left open"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whoever_is_cancelled_leaves_no_connection_open(serving, run, scheme):
    server = serving(in_silence)

    async def cancelled() -> None:
        task = asyncio.create_task(asked(server.url.replace("http", scheme)))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.ended.wait, 20), "the connection was left open"

    run(cancelled())


ENDLESS = {
    "told": without_end(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", b" " * 65536),
    "in pieces": without_end(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"8000\r\n" + b" " * 32768 + b"\r\n"
    ),
    "until the end": without_end(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536),
}


@pytest.mark.parametrize("serve", ENDLESS.values(), ids=ENDLESS)
def test_a_body_is_not_read_beyond_its_bound(serving, run, serve):
    server = serving(serve)
    answer = run(asked(server.url, limit=100_000))
    assert (answer.status, answer.body) == (200, None)
    assert server.ended.wait(20), "the connection was left open"


@pytest.mark.parametrize(("length", "read"), [(1000, True), (1001, False)])
def test_the_bound_itself_is_allowed(serving, run, length, read):
    server = serving(says(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length, b"x" * length))
    assert (run(asked(server.url, limit=1000)).body is not None) is read


def test_a_small_body_is_not_unpacked_to_a_large_one(serving, run):
    packed = gzip.compress(b" " * 10_000_000)
    headers = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    assert run(asked(serving(says(headers, packed)).url, limit=100_000)).body == packed


def test_headers_are_bounded_too(serving, run):
    server = serving(without_end(b"HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 8000 + b"\r\n"))
    assert failure(run, server.url).kind == "not_http"
    assert server.ended.wait(20), "the connection was left open"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_answer_like_others(serving, run, status):
    elsewhere = serving(says(OK))
    to = b"HTTP/1.1 %d Elsewhere\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere.url.encode())
    assert run(asked(serving(says(to)).url)).status == status
    assert elsewhere.heads == []


@pytest.mark.parametrize("encrypted", [True, False])
def test_nothing_is_taken_from_the_environment(serving, run, monkeypatch, tmp_path, encrypted):
    proxy = serving(says(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:{proxy.port}")
        monkeypatch.setenv(name.lower(), f"http://{HOST}:{proxy.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text(f"machine {HOST} login somebody password something\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serving(says(OK), of_server() if encrypted else None)
    assert run(asked(server.url)).body == b"ok"
    assert proxy.heads == []
    assert b"authorization" not in server.heads[0].lower()


def test_no_cookie_of_one_request_is_sent_with_another(serving, run):
    server = serving(says(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1\r\nContent-Length: 0\r\n\r\n"))

    async def both() -> None:
        await asked(server.url)
        await asked(server.url)

    run(both())
    assert len(server.heads) == 2
    assert b"cookie" not in server.heads[1].lower()


@pytest.mark.parametrize("content", [b"", b"x" * 100_000], ids=["no body", "a body"])
def test_a_server_that_demands_a_certificate_is_told_from_one_that_hangs_up(serving, run, content):
    """Under TLS 1.3 the handshake is over for us when the server looks at it (RFC 8446 section 4.4.2.4)."""
    server = serving(says(OK), demanding(ssl.TLSVersion.TLSv1_3))
    no_answer = failure(run, server.url, content=content)
    assert (no_answer.kind, no_answer.detail) == ("client_certificate", "tlsv13 alert certificate required")
    assert server.heads == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_so_is_one_that_does_not_know_the_authority_of_ours(serving, run, version):
    server = serving(says(OK), demanding(version))
    no_answer = failure(run, server.url, context=trust(issuer=trustme.CA()))
    assert (no_answer.kind, no_answer.detail) == ("client_certificate", "tlsv1 alert unknown ca")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_is_demanded_is_shown(serving, run, version):
    server = serving(says(OK), demanding(version))
    assert run(asked(server.url, context=trust(issuer=authority()))).body == b"ok"


def test_tls_1_2_does_not_say_that_a_certificate_is_missing(serving, run):
    server = serving(says(OK), demanding(ssl.TLSVersion.TLSv1_2))
    assert failure(run, server.url).kind == "handshake"


YESTERDAY = datetime.now(UTC) - timedelta(days=1)
NOT_TRUSTED = {
    "expired": lambda: of_server(ends=YESTERDAY),
    "name_mismatch": lambda: of_server("elsewhere.example"),
    "unknown_issuer": lambda: of_server(issuer=trustme.CA()),
}


@pytest.mark.parametrize("kind", NOT_TRUSTED)
def test_a_certificate_that_is_not_trusted_is_told_by_its_kind(serving, run, kind):
    server = serving(says(OK), NOT_TRUSTED[kind]())
    assert failure(run, server.url).kind == kind
    assert server.heads == []


WITHOUT_AN_ANSWER = {
    "nothing": (says(), "closed"),
    "half of a head": (says(b"HTTP/1.1 200 OK\r\nContent-"), "closed"),
    "half of a body": (says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), "closed"),
    "half of a piece": (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nhalf"), "closed"),
    "mail": (says(b"220 mail.example ESMTP\r\n250 ok\r\n\r\n"), "not_http"),
    "noise": (says(b"\0\xff" * 100 + b"\r\n\r\n"), "not_http"),
}


@pytest.mark.parametrize("which", WITHOUT_AN_ANSWER)
@pytest.mark.parametrize("encrypted", [True, False])
def test_what_is_no_answer_is_told_by_its_kind(serving, run, which, encrypted):
    serve, kind = WITHOUT_AN_ANSWER[which]
    assert failure(run, serving(serve, of_server() if encrypted else None).url).kind == kind


def test_a_server_without_tls_is_told(serving, run):
    server = serving(says(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    server._answer = server._serve  # without waiting for the head of a request
    assert failure(run, server.url.replace("http:", "https:")).kind == "not_tls"


def test_a_port_where_nobody_listens_is_told(run):
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    assert failure(run, f"https://{HOST}:{port}/").kind == "refused"


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///path",
        "ftp://127.0.0.1/",
        "https://127.0.0.1:99999/",
        "https://127.0.0.1:-1/",
        "https://[/",
    ],
)
def test_a_url_that_is_none_is_told(run, url):
    assert failure(run, url).kind == "name_unknown"


def test_a_failure_holds_nothing_of_the_request(serving, run, caplog):
    caplog.set_level("DEBUG")
    secrets = [new_canary() for _ in range(3)]
    server = serving(says(b"noise\r\n\r\n"))
    more = {"headers": [("Authorization", secrets[0])], "content": secrets[1].encode()}
    no_answer = failure(run, f"{server.url}?{secrets[2]}", **more)
    said = "".join(traceback.format_exception(no_answer)) + repr(vars(no_answer)) + caplog.text
    said += repr(HttpRequest("GET", server.url + secrets[2], more["headers"], more["content"]))
    assert no_answer.__context__ is None
    assert [secret for secret in secrets if secret in said] == []
