"""A server in a thread of the test process, listening on a real socket, and a client for it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2
import uvicorn

from keyrelay import listening
from keyrelay import server as keyrelay_server
from keyrelay.access import accounts, passwords, roles
from keyrelay.access.permissions import permission
from keyrelay.access.roles import Role
from keyrelay.settings import Settings
from keyrelay.store.schema import migrate_sqlite

ADMIN_PASSWORD = "correct horse battery"
SMTP = "/KeyfactorAPI/SMTP"

# A complete profile of each kind, as version 2 of the contract spells it.
ANONYMOUS = {"Host": "mail.example.org", "Port": 25, "SenderAccount": "pki@example.org", "SenderName": "PKI"}
BASIC = {
    "Host": "smtp.example.org",
    "Port": 587,
    "RelayAuthenticationType": 2,
    "UseSSL": True,
    "RelayUsername": {"SecretValue": "mailer@example.org"},
    "RelayPassword": {"SecretValue": "basic-password-1"},
    "SenderAccount": "mailer@example.org",
    "SenderName": "PKI",
}
OAUTH = {
    "Host": "smtp.example.org",
    "Port": 587,
    "RelayAuthenticationType": 3,
    "UseSSL": True,
    "SenderAccount": "mailer@example.org",
    "SenderName": "PKI",
    "ClientId": {"SecretValue": "11111111-2222-3333-4444-555555555555"},
    "ClientSecret": {"SecretValue": "client-secret-1"},
    "TokenEndpoint": "https://login.example.org/tenant/oauth2/v2.0/token",
    "Scope": "https://outlook.example.org/.default",
    "Audience": None,
    "RequestHeaders": [{"Name": "X-Tenant", "Value": "abc"}],
}
V1 = {"x-keyfactor-api-version": "1", "x-keyfactor-requested-with": "APIClient"}
V2 = {"x-keyfactor-api-version": "2", "x-keyfactor-requested-with": "APIClient"}


class LiveServer:
    """A node that serves until ``stop``. ``get``, ``put`` and so on are a signed-in administrator's requests."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.node: keyrelay_server.Node | None = None
        self.url = ""
        self.auth = ("admin", ADMIN_PASSWORD)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @classmethod
    def start(cls, settings: Settings) -> LiveServer:
        server = cls(settings)
        server._thread.start()
        if not server._ready.wait(30):
            raise TimeoutError("the server did not start")
        if server._failure is not None:
            raise server._failure
        server.client = httpx2.Client(base_url=server.url, auth=server.auth, timeout=30)
        return server

    def stop(self) -> None:
        self.client.close()
        with suppress(RuntimeError):  # it has stopped before
            self._loop.call_soon_threadsafe(self._server.told.set)
        self._thread.join(15)
        assert not self._thread.is_alive(), "the server did not stop"

    def run(self, work: Callable[[keyrelay_server.Node], Awaitable[Any]]) -> Any:
        """Run something on the node, in its event loop."""

        async def call() -> Any:
            return await work(self.node)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(30)

    def add_user(self, name: str, password: str, *permissions: str) -> None:
        """Add a user who holds a role with these permissions, or no role when there are none."""

        async def add(node: keyrelay_server.Node) -> None:
            async with node.store.change("access") as change:
                held = ()
                if permissions:
                    held = (f"role of {name}",)
                    strings = tuple(sorted({permission(text) for text in permissions}))
                    await roles.insert(change, Role(0, held[0], held[0], permissions=strings))
                await accounts.add_account(change, name, passwords.hash_password(password), held)

        self.run(add)

    def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        return self.client.request(method, path, **more)

    def get(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("GET", path, **more)

    def put(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("PUT", path, **more)

    def post(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("POST", path, **more)

    def patch(self, path: str, **more: Any) -> httpx2.Response:
        return self.request("PATCH", path, **more)

    def get_v1(self) -> dict[str, Any]:
        return self.get(SMTP, headers=V1).raise_for_status().json()

    def get_v2(self) -> dict[str, Any]:
        return self.get(SMTP, headers=V2).raise_for_status().json()

    def put_v2(self, body: Mapping[str, Any], **more: Any) -> httpx2.Response:
        return self.put(SMTP, json=body, headers=V2, **more)

    def put_v1(self, body: Mapping[str, Any], **more: Any) -> httpx2.Response:
        return self.put(SMTP, json=body, headers=V1, **more)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=listening.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            self._loop = asyncio.get_running_loop()
            self.node = await keyrelay_server.Node.open(self.settings)
            listener = listening.listen(self.settings)
            self.url = listening.url(self.settings, listener.getsockname()[1])
            options = listening.options(self.settings) | {"timeout_graceful_shutdown": 2}
            config = uvicorn.Config(keyrelay_server.Served(self.settings, self.node), **options)
            self._server = _PromptServer(config)
        except BaseException as failure:
            self._failure = failure
            raise
        finally:
            if self._failure:
                self._ready.set()
        serving = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started and not serving.done():  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.005)
        self._ready.set()
        await serving


class _PromptServer(uvicorn.Server):
    """uvicorn in a thread. It stops when it is told to; by itself it looks ten times a second, and pauses as long."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.told = asyncio.Event()

    def capture_signals(self) -> AbstractContextManager[None]:
        return nullcontext()

    async def main_loop(self) -> None:
        looping = asyncio.create_task(super().main_loop())
        await self.told.wait()
        looping.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(20):
            if not self.server_state.connections and not self.server_state.tasks:
                await self.lifespan.shutdown()
                return
            await asyncio.sleep(0.005)
        await super().shutdown(sockets)  # somebody is still connected


def settings_for(kind: str, request, directory: Path, template: Path) -> Settings:
    data_dir = directory / "data"
    data_dir.mkdir(mode=0o700)
    url = None
    if kind == "postgresql":
        cluster = request.getfixturevalue("postgres")
        url = cluster.fresh_database()
        request.addfinalizer(lambda: cluster.leave(url))
    else:
        shutil.copy(template, data_dir / "keyrelay.db")
    return Settings(
        data_dir=data_dir,
        database_url=url,
        port=0,
        admin_password=ADMIN_PASSWORD,
        name_servers=(),  # nobody outside is asked
        tests_at_once=100,
        tests_per_minute=100_000,
        address_tests_per_minute=100_000,
    )


def migrated_sqlite(file: Path) -> Path:
    """An empty database with the newest schema, to be copied: migrating takes longer than a test."""
    migrate_sqlite(file)
    return file


@dataclass
class Command:
    """The installed ``keyrelay`` command in a process of its own."""

    process: subprocess.Popen[str]
    errors: IO[str]  # a file: a pipe that nobody reads would block the server when it is full
    url: str = ""
    printed: list[str] = field(default_factory=list)

    @property
    def password(self) -> str:
        """The password that a first start printed."""
        (line,) = [line for line in self.printed if "with the password" in line]
        return line.rpartition("password")[2].strip()

    @classmethod
    def serve(cls, environment: Mapping[str, str], *options: str) -> Command:
        """Run ``keyrelay serve`` and wait until it has said where it listens."""
        errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed when the process has ended
        process = subprocess.Popen(
            [keyrelay(), "serve", *options],
            env=clean_environment() | {"KEYRELAY_PORT": "0"} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        command = cls(process, errors)
        assert process.stdout is not None
        for line in process.stdout:
            command.printed.append(line.rstrip())
            if line.startswith("keyrelay on "):
                command.url = line.split()[2]
            if line.startswith("Stop with"):
                return command
        raise AssertionError(f"keyrelay serve ended: {command.printed} {command.ended()}")

    def wait_until_alive(self) -> None:
        deadline = time.monotonic() + 15
        while True:
            try:
                if httpx2.get(self.url + "/livez", verify=False, timeout=5).status_code == 200:
                    return
            except httpx2.TransportError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def ended(self) -> tuple[str, str]:
        """Wait for the end, and give what was printed to standard output (since the start) and standard error."""
        if self.errors.closed:
            return "", ""
        output, _ = self.process.communicate(timeout=20)
        self.errors.seek(0)
        with self.errors:
            return output, self.errors.read()

    def stop(self) -> tuple[str, str]:
        """Stop it as an operator does, and give what it printed since."""
        self.process.terminate()
        return self.ended()


def run_keyrelay(environment: Mapping[str, str], *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [keyrelay(), *arguments],
        env=clean_environment() | dict(environment),
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def keyrelay() -> str:
    return str(Path(sys.executable).with_name("keyrelay"))


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KEYRELAY_")} | {"COLUMNS": "200"}
