"""keyrelay with its outbox, as it is installed: a server, a worker, and what is handed to them."""

from __future__ import annotations

import http.client
import json
import secrets
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ask
import submitting
from contestants import KEYRELAY
from process import Failed, Process, free_port, running
from senders import RECIPIENT, SENDER, content

CLIENTS = 64
_MESSAGES = "/api/v1/messages"
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Submission:
    """A message as it is handed in."""

    path: str
    kind: str
    body: bytes


def _as_json() -> bytes:
    text = content().partition(b"\r\n\r\n")[2].decode()
    return json.dumps({"to": [RECIPIENT], "subject": "figures", "text": text}).encode()


RFC822 = Submission(f"{_MESSAGES}?sender={SENDER}&recipient={RECIPIENT}", "message/rfc822", content())
JSON = Submission(_MESSAGES, "application/json", _as_json())


@dataclass(frozen=True, slots=True)
class Keyrelay:
    """One installation: ``data`` is its directory, ``database`` its address if that is not SQLite in there."""

    data: Path
    database: str | None = None
    more: Mapping[str, str] = field(default_factory=dict)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    @classmethod
    @contextmanager
    def fresh(cls, directory: Path, database: str | None = None, **more: str) -> Iterator[Keyrelay]:
        """A new one, until the block ends. ``more``: settings by the names of their variables."""
        with tempfile.TemporaryDirectory(prefix="keyrelay-", dir=directory) as data:
            yield cls(Path(data), database, more)

    @property
    def environment(self) -> dict[str, str]:
        database = {"KEYRELAY_DATABASE_URL": self.database} if self.database else {}
        return {
            "KEYRELAY_DATA_DIR": str(self.data),
            "KEYRELAY_ADMIN_PASSWORD": self.password,
            # What protects against a program that repeats itself must not protect against a benchmark.
            "KEYRELAY_SUBMISSIONS_PER_MINUTE": "1000000000",
            "KEYRELAY_ADDRESS_SUBMISSIONS_PER_MINUTE": "1000000000",
            **database,
            **self.more,
        }

    @contextmanager
    def serving(self, relay: int, *, worker: bool = False) -> Iterator[Serving]:
        """``keyrelay serve``, with a profile that leads to that port of loopback."""
        port = free_port()
        command = [str(KEYRELAY), "serve", "--port", str(port), *(() if worker else ("--no-worker",))]
        with running("keyrelay serve", command, self.data / "serve.log", self.environment) as process:
            ask.first_answer(process, port, "/readyz", {})
            serving = Serving(self, port, process)
            serving.set_profile(relay)
            yield serving
            process.require_alive()

    @contextmanager
    def working(self) -> Iterator[Process]:
        """``keyrelay worker``."""
        log = self.data / "worker.log"
        with running("keyrelay worker", [str(KEYRELAY), "worker"], log, self.environment) as process:
            yield process
            process.require_alive()


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server."""

    of: Keyrelay
    port: int
    process: Process

    def set_profile(self, relay: int) -> None:
        profile = {"Host": "127.0.0.1", "Port": relay, "SenderAccount": SENDER, "SenderName": "PKI"}
        self._ask("PUT", ask.PATH, "application/json", json.dumps(profile).encode(), 200)

    def headers(self, submission: Submission) -> dict[str, str]:
        basic = b64encode(f"{ask.USER}:{self.of.password}".encode()).decode()
        return {"Authorization": f"Basic {basic}", "Content-Type": submission.kind}

    def check(self, submission: Submission) -> None:
        """Raises Failed unless one of them is taken."""
        told = json.loads(self._ask("POST", submission.path, submission.kind, submission.body, 202))
        if not {"id", "state"} <= told.keys():
            raise Failed(f"A submission was answered with {told}")

    def submit(self, submission: Submission, messages: int, clients: int = CLIENTS) -> submitting.Submitted:
        """Hand in that many; raises Failed unless all are taken."""
        prepared = self.of.data / "request"
        prepared.write_bytes(submitting.request(submission.path, self.headers(submission), submission.body))
        return submitting.submit(submitting.Job(self.port, str(prepared), messages, clients))

    def _ask(self, method: str, path: str, kind: str, body: bytes, status: int) -> bytes:
        headers = ask.headers(self.of.password, 2) | {"Content-Type": kind}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            received = answer.read()
        finally:
            connection.close()
        if answer.status != status:
            raise Failed(f"{method} {path} was answered {answer.status}: {received[:300]!r}")
        return received
