"""Relays and token servers beside the server under test, each in a thread of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.relay.diagnosis import Seconds
from keyrelay.relay.opening import Patience
from live import LiveServer
from relaying import beside
from token_server import TokenServer


class Relays:
    """Starts relays by the arguments of a script, and stops them, one of them or all."""

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates
        self._started: list[ChaosRelay] = []
        self._running: dict[int, ExitStack] = {}

    def __call__(self, script: Script | None = None, **rules) -> ChaosRelay:
        relay = ChaosRelay(script or Script(**rules), certificates=self._certificates)
        running = self._running[id(relay)] = ExitStack()
        running.enter_context(beside(relay))
        self._started.append(relay)
        return relay

    def stop(self, relay: ChaosRelay) -> None:
        """Listen no more, and cut every connection."""
        self._running[id(relay)].close()

    @property
    def connections(self) -> int:
        """Connections ever opened to any of them."""
        return sum(relay.connections for relay in self._started)

    def stop_all(self) -> None:
        for running in self._running.values():
            running.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def relay(certificates) -> Iterator[Relays]:
    relays = Relays(certificates)
    yield relays
    relays.stop_all()


@pytest.fixture(scope="module")
def module_relay(certificates) -> Iterator[ChaosRelay]:
    """A relay that takes everything, for all tests of a module."""
    relays = Relays(certificates)
    yield relays()
    relays.stop_all()


@pytest.fixture
def token_server(tmp_path) -> Iterator[TokenServer]:
    with TokenServer(tmp_path) as server:
        yield server


@pytest.fixture
def ca_bundle(certificates, token_server, tmp_path) -> Path:
    """The authorities of the relays and of the token server: what an operator would name."""
    bundle = tmp_path / "authorities.pem"
    bundle.write_bytes(certificates.authority.read_bytes() + token_server.authority.read_bytes())
    return bundle


@pytest.fixture
def trusting_server(sqlite_settings, ca_bundle, start) -> LiveServer:
    """A server on SQLite that trusts the relays and the token server."""
    return start(replace(sqlite_settings, ca_bundle=ca_bundle))


@pytest.fixture
def hurried_server(trusting_server) -> LiveServer:
    """The same server; it loses its patience with relays after half a second."""
    diagnoses = trusting_server.node.diagnoses._diagnoses
    diagnoses._terms = replace(diagnoses._terms, patience=Patience(resolve=1, connect=1, reply=0.5))
    diagnoses._seconds = Seconds(session=3, look=0.3)
    return trusting_server


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Wait until something is true, for ten seconds at the most."""

    def wait(condition: Callable[[], object], within: float = 10.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            time.sleep(0.01)

    return wait
