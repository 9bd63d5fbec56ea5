"""Relays that take mail and throw it away: Postfix's smtp-sink, and STARTTLS before it where that is wanted.

smtp-sink speaks no TLS itself; ``starttls.py`` stands before it then. So the same smtp-sink answers everybody.
"""

from __future__ import annotations

import os
import shutil
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trustme

import starttls as starttls_program
from machine import Cores
from process import Failed, Process, free_port, running

HOST = "127.0.0.1"
_PATIENCE = 15.0
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin"))


@dataclass(frozen=True, slots=True)
class Certificates:
    """What the relay shows over TLS, and by whom it is to be trusted (PEM files)."""

    chain: Path
    authority: Path

    @classmethod
    def issue(cls, directory: Path) -> Certificates:
        certificates = cls(directory / "relay.pem", directory / "authority.pem")
        authority = trustme.CA()
        authority.cert_pem.write_to_path(certificates.authority)
        certificates.chain.touch(mode=0o600)
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(certificates.chain)
        return certificates


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay: ``authority`` is set when it offers STARTTLS."""

    port: int
    processes: tuple[Process, ...]
    authority: Path | None = None

    def processor_seconds(self) -> float:
        return sum(process.processor_seconds() for process in self.processes)


@dataclass(frozen=True, slots=True)
class Relays:
    """Starts relays, each for one measurement, in ``directory`` on the servers' core."""

    directory: Path
    cores: Cores
    certificates: Certificates

    @contextmanager
    def counting(self, count: int, *, starttls: bool) -> Iterator[Relay]:
        """A relay that must have taken exactly ``count`` messages when the block ends; raises Failed otherwise.

        smtp-sink is told to end with one message more, which is cheaper than to have it say a number after each.
        """
        with self._relay(["-M", str(count + 1)], starttls=starttls) as (relay, sink, port):
            yield relay
            try:
                _send_one(port)
            except OSError:
                raise Failed(f"The relay got more than {count} messages, or ended by itself.") from None
            try:
                sink.popen.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                raise Failed(f"The relay got fewer than {count} messages.") from None

    @contextmanager
    def keeping(self, kept: Path, *, starttls: bool) -> Iterator[Relay]:
        """A relay that writes each message into a file of its own in the new directory ``kept``: slow, to look at."""
        kept.mkdir()
        kept.chmod(0o777)  # smtp-sink gives up root's rights
        with self._relay(["-d", f"{kept}/%H%M%S."], starttls=starttls) as (relay, _, _):
            yield relay

    @contextmanager
    def _relay(self, options: list[str], *, starttls: bool) -> Iterator[tuple[Relay, Process, int]]:
        with ExitStack() as stack:
            port = free_port()
            user = ["-u", "postfix"] if os.geteuid() == 0 else []
            command = [program("smtp-sink"), *user, *options, f"{HOST}:{port}", "128"]
            sink = stack.enter_context(self._running("smtp-sink", command, port))
            if not starttls:
                yield Relay(port, (sink,)), sink, port
                return
            front = free_port()
            command = [sys.executable, starttls_program.__file__, str(front), str(port), str(self.certificates.chain)]
            tls = stack.enter_context(self._running("starttls", command, front))
            yield Relay(front, (sink, tls), self.certificates.authority), sink, port

    @contextmanager
    def _running(self, name: str, command: list[str], port: int) -> Iterator[Process]:
        log = self.directory / f"{name}.log"
        with running(name, [*self.cores.of_servers(), *command], log, {}) as process:
            deadline = time.perf_counter() + _PATIENCE
            while not _listens(port):
                process.require_alive()
                if time.perf_counter() > deadline:
                    raise Failed(f"{name} has not listened within {_PATIENCE:.0f} s.")
                time.sleep(0.005)
            yield process


def program(name: str) -> str:
    """Where a program is; raises Failed when it is not installed."""
    found = shutil.which(name, path=_PATH)
    if found is None:
        raise Failed(f"{name} is missing; install it (on Debian: apt-get install postfix) and run this again.")
    return found


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except ConnectionRefusedError:
        return False
    return True


def _send_one(port: int) -> None:
    with smtplib.SMTP(HOST, port, "bench.example.org", timeout=5) as client, suppress(smtplib.SMTPServerDisconnected):
        client.sendmail("last@example.org", "nobody@example.org", b"Subject: the last\r\n\r\n")
