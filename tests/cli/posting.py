"""What tests of sending by command share: a configured outbox, processes that work on it, and what was written."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import re
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import asyncpg

from keyrelay import settings
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.outbox import content, listing
from keyrelay.outbox.letter import Allowance
from keyrelay.outbox.model import Submission
from keyrelay.outbox.queue import Order
from keyrelay.outbox.reading import read
from keyrelay.server import Node
from live import clean_environment
from live import keyrelay as program

SENDER = "pki@example.org"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY_SENDS = "keyrelay: No server or worker gives a sign of life: the message is safe, and waits until one runs.\n"
MESSAGE = "From: pki@example.org\nTo: ops@example.org\nSubject: Disk\n\nIt is full.\n"

Done = subprocess.CompletedProcess[bytes]


@dataclass(frozen=True)
class Post:
    """The command on an outbox whose profile names a relay on loopback."""

    environment: Mapping[str, str] = field(repr=False)

    def run(self, *arguments: str, given: bytes | str = b"", **variables: str) -> Done:
        """``variables``: more settings, named without their prefix."""
        more = {"KEYRELAY_" + name: value for name, value in variables.items()}
        return subprocess.run(
            [program(), *arguments],
            env=clean_environment() | dict(self.environment) | more,
            input=given.encode() if isinstance(given, str) else given,
            capture_output=True,
            timeout=60,
            check=False,
        )

    def ok(self, *arguments: str, given: bytes | str = b"", **variables: str) -> str:
        """What a command printed that has to succeed."""
        done = self.run(*arguments, given=given, **variables)
        assert done.returncode == 0, done
        return done.stdout.decode()

    def profile(self, port: int) -> None:
        document = {"host": "127.0.0.1", "port": port, "sender_account": SENDER, "sender_name": "PKI"}
        self.ok("smtp", "set", "-", given=json.dumps(document))

    def send(self, *arguments: str, given: bytes | str = "It is full.\n", **variables: str) -> str:
        """Hand a message in, and give its id."""
        printed = self.ok("send", *arguments, given=given, **variables)
        assert ID.fullmatch(printed.rstrip("\n")), printed
        return printed.rstrip("\n")

    def refused(self, code: int, *arguments: str, given: bytes | str = "It is full.\n", **variables: str) -> str:
        """The one line of a ``send`` that has to end with this code, having taken nothing in."""
        done = self.run("send", *arguments, given=given, **variables)
        return one_line((done.returncode, done.stdout.decode(), done.stderr.decode()), code)

    def read(self, *arguments: str) -> Any:
        """What ``keyrelay outbox`` gives as JSON."""
        return json.loads(self.ok("outbox", *arguments, "--json"))

    def raw(self, name: str) -> bytes:
        done = self.run("outbox", "raw", name)
        assert (done.returncode, done.stderr) == (0, b""), done
        return done.stdout

    def octets(self, name: str) -> bytes:
        """What was taken in."""

        async def reveal(node: Node) -> bytes:
            octets = await content.reveal(node.store, node.keyring, name)
            assert octets is not None
            return bytes(octets)

        return self.on_a_node(reveal)

    def message(self, name: str) -> EmailMessage:
        """The same as a mail program reads it."""
        parsed = email.message_from_bytes(self.octets(name), policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        return parsed

    def submission(self, name: str) -> Submission:
        async def look(node: Node) -> Submission:
            detail = await listing.one(node.store, name)
            assert detail is not None
            return detail.kept.shown

        return self.on_a_node(look)

    def recipients(self, name: str) -> list[str]:
        return [recipient.address for recipient in self.submission(name).recipients]

    def states(self, name: str) -> dict[str, str]:
        return {recipient.address: recipient.state for recipient in self.submission(name).recipients}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What the database says, without a word of keyrelay's."""
        url = self.environment.get("KEYRELAY_DATABASE_URL")
        if url is None:
            with closing(sqlite3.connect(Path(self.environment["KEYRELAY_DATA_DIR"], "keyrelay.db"))) as database:
                return database.execute(sql).fetchall()

        async def fetch(url: str) -> list[tuple[Any, ...]]:
            connection = await asyncpg.connect(url)
            try:
                return [tuple(row.values()) for row in await connection.fetch(sql)]
            finally:
                await connection.close()

        return asyncio.run(fetch(url))

    def counts(self) -> dict[str, int]:
        """The messages in each state that any is in."""
        return dict(self.rows("SELECT state, COUNT(*) FROM message GROUP BY state"))

    def nodes(self) -> list[bool]:
        """Of each node that is there, whether it works."""
        return sorted(bool(works) for (works,) in self.rows("SELECT works FROM node"))

    def until(self, reached: Callable[[Post], bool], seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not reached(self):
            assert time.monotonic() < deadline, f"it never came about: {self.counts()}, {self.ok('outbox', 'status')}"
            time.sleep(0.05)

    def fill(self, count: int, **more: Any) -> list[str]:
        """Hand many messages in at once, and give their ids."""

        async def submit(node: Node) -> list[str]:
            allowance = Allowance(sender_account=SENDER, sender_name="PKI")
            letters = [
                read(MESSAGE.encode(), allowance, now=datetime.now(UTC), recipients=[f"ops{number}@example.org"])
                for number in range(count)
            ]
            order = Order("test", **more)
            return [
                receipt.id
                for receipt in await asyncio.gather(*(node.outbox.queue.submit(one, order) for one in letters))
            ]

        return self.on_a_node(submit)

    def on_a_node(self, work: Callable[[Node], Any]) -> Any:
        """Do something on a node of the test's own."""

        async def run() -> Any:
            node = await Node.open(settings.read(dict(self.environment)))
            try:
                return await work(node)
            finally:
                await node.close()

        return asyncio.run(run())

    @contextmanager
    def running(self, *command: str, **variables: str) -> Iterator[Running]:
        """A command that runs until it is told to stop; however the test ends, it is gone."""
        more = {"KEYRELAY_" + name: value for name, value in variables.items()}
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [program(), *command],
                env=clean_environment() | {"KEYRELAY_PORT": "0"} | dict(self.environment) | more,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                # A shell that runs the tests in the background has them ignore Ctrl+C, and all that they start.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
            )
            try:
                yield Running(process, errors)
            finally:
                process.kill()
                with suppress(ValueError):  # it was closed when it was read
                    process.communicate(timeout=20)

    @contextmanager
    def worker(self, relay: ChaosRelay | None = None, **variables: str) -> Iterator[Running]:
        """``keyrelay worker``, once it has begun; if a relay is given, the profile names it before that."""
        if relay is not None:
            self.profile(relay.port)
        with self.running("worker", **variables) as process:
            assert "sends what waits" in process.line()
            assert "Ctrl+C" in process.line()
            yield process


@dataclass(frozen=True)
class Running:
    """A command under way."""

    process: subprocess.Popen[str]
    errors: Any

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def stop(self, number: int | None = None) -> int:
        """Tell it to stop, as an operator does, and give the exit code."""
        if number is None:
            self.process.terminate()
        else:
            self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def said(self) -> str:
        """What it wrote to standard error."""
        self.errors.seek(0)
        return str(self.errors.read())


def one_line(ended: tuple[int, str, str], code: int) -> str:
    """The line of a command that has said nothing else, and ended with this code."""
    returned, stdout, stderr = ended
    assert (returned, stdout) == (code, ""), ended
    assert stderr.startswith("keyrelay: "), ended
    assert stderr.count("\n") == 1, ended
    assert stderr.rstrip("\n").isprintable(), ended
    return stderr
