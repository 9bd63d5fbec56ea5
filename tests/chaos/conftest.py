"""A chaos relay in a thread of its own, and a client that says exactly what it is told to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from relaying import beside


class Talk:
    """A client on a plain socket: nothing is checked, nothing is added but CRLF."""

    def __init__(self, port: int) -> None:
        self.socket: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def reply(self) -> str:
        """One reply, its lines joined by LF."""
        lines = []
        while True:
            while b"\n" not in self.buffer:
                more = self.socket.recv(65536)
                assert more, f"closed after {lines} {self.buffer!r}"
                self.buffer += more
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "\n".join(lines)

    def ask(self, *lines: str) -> str:
        """Say the lines in one write, and give the last reply (there is one for each line)."""
        self.send("".join(line + "\r\n" for line in lines).encode())
        return [self.reply() for _ in lines][-1]

    def codes(self, *lines: str) -> list[int]:
        self.send("".join(line + "\r\n" for line in lines).encode())
        return [int(self.reply()[:3]) for _ in lines]

    def hello(self) -> str:
        assert self.reply().startswith("220 ")
        return self.ask("EHLO client.test")

    def message(self, content: str = "Subject: hi\r\n\r\nhello\r\n", parameters: str = "") -> str:
        assert self.ask(f"MAIL FROM:<from@a.test>{parameters}").startswith("250")
        assert self.ask("RCPT TO:<to@b.test>").startswith("250")
        assert self.ask("DATA").startswith("354")
        return self.ask(content + ".")

    def rest(self) -> bytes:
        """Everything until the other side ends the connection."""
        while True:
            try:
                more = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError):
                more = b""
            if not more:
                return self.buffer
            self.buffer += more

    def hears_nothing(self) -> bool:
        """Whether the connection is open, and silent for a while."""
        self.socket.settimeout(0.15)
        try:
            self.buffer += self.socket.recv(1)
        except TimeoutError:
            return not self.buffer
        finally:
            self.socket.settimeout(20)
        return False

    def wrap(self, context: ssl.SSLContext, name: str = "localhost") -> None:
        self.socket = context.wrap_socket(self.socket, server_hostname=name)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def relay() -> Iterator[Callable[..., ChaosRelay]]:
    """Start relays by the arguments of a script; they stop at the end of the test."""
    with ExitStack() as stack:

        def start(script: Script | None = None, *, loop: str = "asyncio", certificates=None, **rules) -> ChaosRelay:
            made = ChaosRelay(script or Script(**rules), certificates=certificates)
            return stack.enter_context(beside(made, loop))

        yield start


@pytest.fixture
def talk() -> Iterator[Callable[[ChaosRelay], Talk]]:
    """Connect to a relay."""
    talks: list[Talk] = []

    def connect(relay: ChaosRelay) -> Talk:
        talks.append(Talk(relay.port))
        return talks[-1]

    yield connect
    for one in talks:
        one.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def trusting(certificates) -> Callable[[], ssl.SSLContext]:
    """A client's context that trusts the authority and nothing else."""

    def context() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(certificates.authority)
        return context

    return context
