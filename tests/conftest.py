"""What all tests share: real databases, real servers on real sockets, and clients that talk to them."""

from __future__ import annotations

import gc
import io
import os
import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import in_memory
from absent import absent
from done_once import done_once
from keyrelay import log
from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.relay import connecting
from keyrelay.relay.diagnosis import Seconds
from keyrelay.relay.opening import Patience
from keyrelay.settings import Settings
from live import LiveServer, migrated_sqlite, settings_for
from logs import log_as_it_was
from postfix import Postfix
from postgres import Cluster
from relaying import beside
from token_server import TokenServer

# All tests, and a thousand processes they start, would compile each module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

hypothesis_settings.register_profile(
    "keyrelay",
    deadline=None,  # machines are noisy
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
hypothesis_settings.load_profile("keyrelay")


@pytest.hookimpl(optionalhook=True, wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Three processes for two processors: more than half of the time, a test waits for somebody else."""
    processors = yield
    return processors + (processors + 1) // 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long ones first, that nobody waits for the last one alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Sixteen thousand tests stay until the end: looking through them for garbage took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_configure() -> None:
    if (memory := in_memory.directory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in list(os.environ):
        if name.startswith("KEYRELAY_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _the_log_as_it_was() -> Iterator[None]:
    """Many tests run in one process what starts the log of a process of its own."""
    with log_as_it_was():
        yield


@pytest.fixture(autouse=True, scope="session")
def _done_once() -> Iterator[None]:
    with done_once():
        yield


@pytest.fixture(autouse=True, scope="session")
def _only_loopback() -> Iterator[None]:
    """Whatever host a test names: no name server is asked, and nothing but this machine is connected to."""
    look_up = connecting.look_up

    async def fenced(host: str, port: int) -> list[tuple[Any, ...]]:
        local = {"localhost", "127.0.0.1", "::1", "a.test", "b.test"}
        if host.lower() not in local:
            raise socket.gaierror(socket.EAI_NONAME, "not a name of this machine")
        return await look_up("127.0.0.1" if host.endswith(".test") else host, port)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "look_up", fenced)
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory) -> Iterator[Cluster]:
    """A PostgreSQL of our own on loopback; where none is installed, tests that need one are skipped (never in CI)."""
    if Cluster.programs() is None:
        absent("PostgreSQL is not installed; to run these tests: apt-get install postgresql")
    cluster = Cluster.start(in_memory.directory(), synced=False)
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def postfix() -> Iterator[Postfix]:
    """A Postfix of our own on loopback; where none can be run, tests that need one are skipped (never in CI)."""
    if (advice := Postfix.missing()) is not None:
        absent(advice)
    relay = Postfix.start()
    try:
        yield relay
    finally:
        relay.stop()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    return migrated_sqlite(tmp_path_factory.mktemp("template") / "keyrelay.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_settings(request, tmp_path, sqlite_template) -> Settings:
    """Settings for an empty database of each kind, with the schema already in place."""
    return settings_for(request.param, request, tmp_path, sqlite_template)


@pytest.fixture
def sqlite_settings(request, tmp_path, sqlite_template) -> Settings:
    return settings_for("sqlite", request, tmp_path, sqlite_template)


@pytest.fixture
def start(request) -> Iterator[Callable[[Settings], LiveServer]]:
    """Start servers that are stopped at the end of the test."""
    running: list[LiveServer] = []

    def start(settings: Settings) -> LiveServer:
        running.append(LiveServer.start(settings))
        return running[-1]

    yield start
    for server in reversed(running):
        server.stop()


@pytest.fixture
def server(fresh_settings, start) -> LiveServer:
    """A running server, on SQLite and on PostgreSQL."""
    return start(fresh_settings)


@pytest.fixture
def sqlite_server(sqlite_settings, start) -> LiveServer:
    """A running server on SQLite alone, for what has nothing to do with the database."""
    return start(sqlite_settings)


@pytest.fixture(scope="module")
def module_server(request, tmp_path_factory, sqlite_template) -> Iterator[LiveServer]:
    """A server on SQLite that all tests of a module share."""
    settings = settings_for("sqlite", request, tmp_path_factory.mktemp("module"), sqlite_template)
    server = LiveServer.start(settings)
    yield server
    server.stop()


@pytest.fixture
def logged(monkeypatch) -> io.StringIO:
    """The log of this process as keyrelay writes it at debug level."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    log.start("debug", "json")
    return written


@pytest.fixture
def database_text(sqlite_settings) -> Callable[[], bytes]:
    """All bytes of the SQLite database as it is on disk: main file, write-ahead log and a backup made now."""

    def read() -> bytes:
        file = sqlite_settings.sqlite_file
        assert file is not None
        backup = file.with_name("backup.db")
        with sqlite3.connect(file) as source, sqlite3.connect(backup) as target:
            source.backup(target)
        source.close()
        target.close()
        return b"".join(path.read_bytes() for path in file.parent.iterdir() if path.suffix != ".key" and path.is_file())

    return read


# --- Relays and token servers beside the server under test, each in a thread of its own ------------------------


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
