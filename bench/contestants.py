"""Who is measured, and how each of them is started."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import ask
from issuer import AUDIENCE, SUBJECT
from machine import Cores
from process import Failed, Process, free_port, running

HERE = Path(__file__).parent
KEYRELAY = Path(sys.executable).parent / "keyrelay"
OPENAPI = HERE.parent / "src/keyrelay/api/openapi/keyfactor-v2.json"
PRISM = HERE / "node_modules/.bin/prism"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server that answers, and the one request it is asked again and again."""

    name: str
    process: Process
    port: int
    path: str
    sent: Mapping[str, str]
    expected: bytes

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"

    def check(self) -> None:
        """Raises Failed unless the answer is 200 with the expected body."""
        self.process.require_alive()
        if (body := ask.get(self.port, self.path, self.sent)) != self.expected:
            raise Failed(f"{self.name} answered another body than expected: {body[:200]!r}")


@dataclass(slots=True)
class Field:
    """Starts the contestants, in ``directory``; ``absent`` tells who is not here, and why."""

    stack: ExitStack
    directory: Path
    cores: Cores
    password: str
    absent: dict[str, str] = field(default_factory=dict)

    def keyrelay(self, data: Path) -> list[Contestant]:
        """Both versions of the read, on a data directory that was prepared before."""
        port = free_port()
        process = self._start("keyrelay", serve(port), keyrelay_environment(data, self.password))
        found = []
        for version in (2, 1):
            sent = ask.headers(self.password, version)
            ask.first_answer(process, port, ask.PATH, sent)
            body = ask.get(port, ask.PATH, sent)
            _require_profile(json.loads(body), version)
            found.append(Contestant(f"keyrelay v{version}", process, port, ask.PATH, sent, body))
        return [*found, self._by_token(data, found[0])]

    def _by_token(self, data: Path, basic: Contestant) -> Contestant:
        """The read of version 2, signed in with the token of an identity provider."""
        log = self.directory / "issuer.log"
        issuing = self.stack.enter_context(running("issuer", [sys.executable, str(HERE / "issuer.py")], log, {}))
        issuer, token = _printed(issuing, log)
        environment = keyrelay_environment(data, self.password)
        for command in (
            ["idp", "add", "bench", "--authority", issuer, "--audience", AUDIENCE],
            ["role", "claim", "add", "Administrator", "OAuthSubject", SUBJECT, "--scheme", "bench"],
        ):
            _run(command, environment)
        sent = ask.headers(self.password, 2) | {"Authorization": f"Bearer {token}"}
        return Contestant("keyrelay v2, token", basic.process, basic.port, ask.PATH, sent, basic.expected)

    def bare(self, body: bytes) -> list[Contestant]:
        port = free_port()
        environment = keyrelay_environment(self.directory / "bare", self.password) | {"KEYRELAY_PORT": str(port)}
        command = [sys.executable, str(HERE / "bare.py"), str(self._file(body))]
        process = self._start("bare", command, environment)
        return [self._contestant("bare endpoint", process, port, ask.PATH, body)]

    def nginx(self, body: bytes) -> list[Contestant]:
        if shutil.which("nginx") is None:
            self.absent["nginx"] = "nginx is not installed"
            return []
        port = free_port()
        configuration = self.directory / "nginx.conf"
        configuration.write_text(_nginx(self.directory, self._file(body), port))
        command = ["nginx", "-p", str(self.directory), "-c", str(configuration), "-e", "stderr"]
        process = self._start("nginx", command, {})
        return [self._contestant("nginx, a file", process, port, ask.PATH, body)]

    def prism(self) -> list[Contestant]:
        """Prism, answering what the published document of version 2 shows."""
        if (reason := _install_prism()) is not None:
            self.absent["Prism"] = reason
            return []
        port = free_port()
        command = [str(PRISM), "mock", "-h", "127.0.0.1", "-p", str(port), "-m", "false", "-v", "error", str(OPENAPI)]
        process = self._start("Prism", command, {"NODE_ENV": "production"})
        path = "/SMTP"  # Prism leaves the base path out
        sent = ask.headers(self.password, 2)
        ask.first_answer(process, port, path, sent)
        body = ask.get(port, path, sent)
        if not json.loads(body).keys() >= ask.PROFILE.keys():
            raise Failed(f"Prism answered something else than a profile: {body[:200]!r}")
        return [Contestant("Prism mock", process, port, path, sent, body)]

    def _start(self, name: str, command: list[str], environment: Mapping[str, str]) -> Process:
        log = self.directory / f"{name}.log"
        return self.stack.enter_context(running(name, [*self.cores.of_servers(), *command], log, environment))

    def _contestant(self, name: str, process: Process, port: int, path: str, body: bytes) -> Contestant:
        sent = ask.headers(self.password, 2)
        ask.first_answer(process, port, path, sent)
        return Contestant(name, process, port, path, sent, body)

    def _file(self, body: bytes) -> Path:
        file = self.directory / "body.json"
        file.write_bytes(body)
        return file


def _printed(issuing: Process, log: Path) -> list[str]:
    for _ in range(1000):
        issuing.require_alive()
        if len(lines := log.read_text().splitlines()) > 1:
            return lines[:2]
        time.sleep(0.01)
    raise Failed("The identity provider has not started.")


def _run(command: list[str], environment: Mapping[str, str]) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("KEYRELAY_")}
    done = subprocess.run(
        [str(KEYRELAY), *command],
        env=clean | dict(environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if done.returncode != 0:
        raise Failed(f"keyrelay {command[0]} failed: {done.stderr.strip()[-300:]}")


def serve(port: int) -> list[str]:
    return [str(KEYRELAY), "serve", "--port", str(port), "--workers", "1"]


def keyrelay_environment(data: Path, password: str) -> dict[str, str]:
    return {"KEYRELAY_DATA_DIR": str(data), "KEYRELAY_ADMIN_PASSWORD": password}


def _require_profile(shown: Mapping[str, object], version: int) -> None:
    wanted = {key: value for key, value in ask.PROFILE.items() if key not in {"RelayUsername", "RelayPassword"}}
    if any(shown.get(key) != value for key, value in wanted.items()):
        raise Failed(f"keyrelay v{version} does not answer the profile it was given: {shown}")


def _nginx(directory: Path, file: Path, port: int) -> str:
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "\n".join(f"    {kind}_temp_path {directory}/{kind};" for kind in kinds)
    return f"""
daemon off; worker_processes 1; error_log stderr; pid {directory}/nginx.pid; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; server_tokens off; keepalive_requests 1000000000; default_type application/json;
    open_file_cache max=10;
{places}
    server {{ listen 127.0.0.1:{port}; location = {ask.PATH} {{ alias {file}; }} }}
}}
"""


def _install_prism() -> str | None:
    """Install Prism when it is not there; the reason if it cannot be had."""
    if not OPENAPI.exists():
        return "the OpenAPI document of version 2 is not there"
    if not PRISM.exists():
        if shutil.which("npm") is None:
            return "npm is not installed"
        print("Installing Prism (once)...", flush=True)
        command = ["npm", "ci", "--prefix", str(HERE), "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, capture_output=True, check=False, timeout=600)
        if done.returncode != 0:
            return "npm could not install it"
    return None
