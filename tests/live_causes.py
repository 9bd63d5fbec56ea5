"""Failures on real sockets, by the cause that explains them: what stands where, and what is then tested.

Names and ports of a scene lead to servers on loopback, so that it needs neither name servers nor port 465.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
import trustme

from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.network.trust import Trust
from keyrelay.profile.model import Anonymous, Authentication, Basic, OAuthClientCredentials, SmtpProfile
from keyrelay.relay import connecting, detective
from keyrelay.relay.diagnosis import Diagnoses, Finding, Order, Report
from keyrelay.relay.model import Stage
from keyrelay.relay.opening import Patience, Terms
from keyrelay.relay.token import Tokens
from keyrelay.secrets.model import SecretText
from odd_tls import authority
from relaying import as_given, certificates
from token_server import Answer, TokenServer, issues

SENDER = "pki@example.org"
RECIPIENT = "admin@example.net"
USER, PASSWORD, TOKEN = "mailer", "hunter2-and-more", "an-opaque-token-0001"
USERS = {USER: PASSWORD, SENDER: TOKEN}
ANONYMOUS = Anonymous()
BASIC = Basic(SecretText(USER), SecretText(PASSWORD))
# A broadcast address: the kernel knows no way for TCP there, and sends nothing.
NO_WAY = "127.255.255.255"

Address = tuple[str, int]
Handler = Callable[[socket.socket], None]
Place = Script | Callable[[], AbstractContextManager[Address]] | OSError
"""What a port leads to: a chaos relay, something else that listens or does not, or a name that is not found."""


@dataclass(frozen=True)
class Endpoint:
    """The token endpoint of a scene. ``url`` is instead of a server; ``{port}`` in it is one where nobody listens.

    ``look_up``: the number of the error that looking up its name ends with.
    """

    answer: Answer = field(default_factory=lambda: issues(TOKEN))
    url: str | None = None
    names: tuple[str, ...] = ("127.0.0.1", "localhost")
    ends: datetime | None = None
    tls: bool = True
    trusted: bool = True
    look_up: int | None = None
    place: Callable[[], AbstractContextManager[Address]] | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What is tested, and what makes it fail with this cause at this stage.

    ``waits``: it is a time-out, so we have little patience. ``insecure``: credentials may go anywhere.
    ``elsewhere``: what stands on other ports of the host.
    """

    cause: str
    stage: Stage
    place: Place
    host: str = "localhost"
    port: int = 587
    use_ssl: bool = False
    authentication: Authentication = ANONYMOUS
    endpoint: Endpoint | None = None
    client_secret: str = "a-client-secret"
    sender: str = SENDER
    recipient: str = RECIPIENT
    mode: Literal["connect", "envelope", "message"] = "message"
    elsewhere: Mapping[int, Place] = field(default_factory=dict)
    insecure: bool = False
    waits: bool = False
    foreign_client: bool = False

    def __str__(self) -> str:
        return f"{self.cause}-{self.stage}"


# --- What can stand on a port --------------------------------------------------------------------------------


@contextmanager
def nobody() -> Iterator[Address]:
    """A port that stays ours and on which nobody listens."""
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()


@contextmanager
def deaf() -> Iterator[Address]:
    """A port that drops whoever knocks: its queue is full, and nobody takes anybody in."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(10):
            knocking = stack.enter_context(socket.socket())
            knocking.settimeout(0.3)
            try:
                knocking.connect(listener.getsockname())
            except TimeoutError:
                yield listener.getsockname()
                return
        pytest.fail("the queue of a listener did not fill")


@contextmanager
def without_a_way() -> Iterator[Address]:
    yield NO_WAY, 25


@contextmanager
def serving(handle: Handler) -> Iterator[Address]:
    """Threads that handle each connection, and end it."""
    listener = socket.create_server(("127.0.0.1", 0))
    running: list[tuple[threading.Thread, socket.socket]] = []

    def converse(connection: socket.socket) -> None:
        connection.settimeout(10)
        with connection, contextlib.suppress(OSError):
            handle(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                running.append((threading.Thread(target=converse, args=(connection,), daemon=True), connection))
                running[-1][0].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listener.getsockname()
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        accepting.join(15)
        listener.close()
        for thread, connection in running:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(15)
            assert not thread.is_alive()


def saying(*pieces: bytes) -> Callable[[], AbstractContextManager[Address]]:
    """Says one piece after the other, each when something has come in answer to the last; then listens in silence."""

    def handle(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
            if not connection.recv(65536):
                return
        while connection.recv(65536):
            pass

    return lambda: serving(handle)


def hanging_up() -> AbstractContextManager[Address]:
    return serving(lambda _: None)


def speaking_tls(context: Callable[[], ssl.SSLContext]) -> Callable[[], AbstractContextManager[Address]]:
    """TLS from the first byte, and a greeting."""

    def handle(connection: socket.socket) -> None:
        with context().wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(b"220 tls.test ESMTP\r\n")
            while wrapped.recv(65536):
                pass

    return lambda: serving(handle)


# --- Playing a scene -----------------------------------------------------------------------------------------


async def play(
    scene: Scene,
    directory: Path,
    finished: Callable[[Finding], None] = lambda _: None,
    name_servers: tuple[str, ...] | None = (),
) -> Report:
    """What the explained test finds, and tells ``finished``. ``directory`` gets certificates."""
    async with AsyncExitStack() as stack:
        endpoint, bundle = await stand(scene, stack, directory)
        profile = SmtpProfile(
            scene.host, scene.port, scene.use_ssl, scene.sender, "PKI", _authentication(scene, endpoint)
        )
        terms = _terms(scene, directory, bundle)
        stack.push_async_callback(terms.tokens.close)
        order = Order(profile, scene.mode, scene.recipient)
        return await Diagnoses(terms, as_given(), name_servers).run(order, finished=finished)


async def stand(scene: Scene, stack: AsyncExitStack, directory: Path) -> tuple[str, Path]:
    """Set everything up until the end of the stack; gives the token endpoint's URL and what is trusted, as PEM."""
    endpoint, trusted = _endpoint(scene, stack, directory)
    bundle = directory / "trusted.pem"
    bundle.write_bytes(b"\n".join(trusted))
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    await _lead(scene, stack, patch)
    if scene.endpoint is not None and scene.endpoint.look_up is not None:
        patch.setattr(socket, "getaddrinfo", _failing(scene.endpoint.look_up))
    patch.setattr(detective, "_SECONDS", 1.0)
    return endpoint, bundle


@contextmanager
def standing(scene: Scene, directory: Path) -> Iterator[tuple[str, Path]]:
    """The same beside the caller, for a command that has an event loop of its own."""
    loop, stack = asyncio.new_event_loop(), AsyncExitStack()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(stand(scene, stack, directory), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(stack.aclose(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(15)
        loop.close()


async def _lead(scene: Scene, stack: AsyncExitStack, patch: pytest.MonkeyPatch) -> None:
    """Let the names and ports of the scene lead to what stands there, until the end of the stack."""
    nowhere = stack.enter_context(nobody())
    known: dict[int, Address | OSError] = {}
    for port, place in {**scene.elsewhere, scene.port: scene.place}.items():
        known[port] = await _stand(place, stack)

    async def look_up(host: str, port: int) -> list[tuple[Any, ...]]:
        await asyncio.sleep(0)
        local = host in {scene.host, "127.0.0.1"}  # a second look goes to the addresses that were found
        found = known.get(port, nowhere) if local else socket.gaierror(socket.EAI_NONAME, "unknown")
        if isinstance(found, OSError):
            raise found
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", found)]

    patch.setattr(connecting, "look_up", look_up)


async def _stand(place: Place, stack: AsyncExitStack) -> Address | OSError:
    if isinstance(place, OSError):
        return place
    if isinstance(place, Script):
        made = certificates() if place.uses_tls else None
        relay = await stack.enter_async_context(ChaosRelay(place, certificates=made))
        return "127.0.0.1", relay.port
    return stack.enter_context(place())


def _endpoint(scene: Scene, stack: AsyncExitStack, directory: Path) -> tuple[str, list[bytes]]:
    """The URL of the token endpoint, and the authorities that are trusted."""
    trusted = [certificates().authority.read_bytes(), authority().cert_pem.bytes()]
    endpoint = scene.endpoint
    if endpoint is None:
        return "", trusted
    if endpoint.place is not None:
        return f"https://127.0.0.1:{stack.enter_context(endpoint.place())[1]}/token", trusted
    if endpoint.url is not None:
        return endpoint.url.format(port=stack.enter_context(nobody())[1]), trusted
    server = TokenServer(directory, names=endpoint.names, ends=endpoint.ends, tls=endpoint.tls)
    server.answer = endpoint.answer
    stack.enter_context(server)
    if endpoint.tls and endpoint.trusted:
        trusted.append(server.authority.read_bytes())
    return server.url.replace("http://", "https://"), trusted


def _failing(number: int) -> Callable[..., Any]:
    def getaddrinfo(*_: object, **__: object) -> Any:
        raise socket.gaierror(number, "as a resolver says it")

    return getaddrinfo


def _authentication(scene: Scene, endpoint: str) -> Authentication:
    if not endpoint:
        return scene.authentication
    return OAuthClientCredentials(SecretText("a-client"), SecretText(scene.client_secret), endpoint)


def patience(scene: Scene) -> Patience:
    seconds = 1.0 if scene.waits else 10.0
    return Patience(seconds, seconds, seconds)


def _terms(scene: Scene, directory: Path, bundle: Path) -> Terms:
    shown = None
    if scene.foreign_client:
        shown = directory / "client.pem"
        shown.write_bytes(trustme.CA().issue_cert("client.test").private_key_and_cert_chain_pem.bytes())
    trust = Trust(authorities=bundle, client_certificate=shown, client_key=shown)
    return Terms(
        trust,
        Tokens(trust.for_http, seconds=patience(scene).reply),
        "client.test",
        allow_insecure_sign_in=scene.insecure,
        patience=patience(scene),
    )
