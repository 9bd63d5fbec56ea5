"""A throw-away Postfix with its own queue: what it accepts goes on to the relay, or stays on hold.

It is set up to be quick: no look-ups, no pauses, sessions kept, more deliveries at once than it comes with. That each
queue file is synced before the answer is no setting, and stays.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from process import Failed, free_port
from relays import HOST, program
from senders import BODY_BYTES, RECIPIENT, SENDER
from sink import Sink, sink

NAME = "Postfix"
_OWNER = "postfix"
_PATIENCE = 20.0
_SECONDS = 120.0
_WARMING = 200

_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
mail_owner = {owner}
myhostname = queue.example.org
mydestination =
mynetworks = 127.0.0.0/8
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtp_bind_address = 127.0.0.1
smtpd_peername_lookup = no
disable_dns_lookups = yes
relayhost = [127.0.0.1]:{relay}
default_transport = smtp
local_transport = error:nobody lives here
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_event_limit_exceptions = static:all
in_flow_delay = 0s
initial_destination_concurrency = {deliveries}
default_destination_concurrency_limit = {deliveries}
default_process_limit = 200
smtp_connection_cache_destinations = static:all
"""

_MASTER = """
127.0.0.1:{through} inet n - n - - smtpd
127.0.0.1:{held} inet n - n - - smtpd
  -o smtpd_data_restrictions=check_client_access,static:HOLD
postlog unix-dgram n - n - 1 postlogd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
scache unix - - n - 1 scache
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
"""
_DELIVERIES = 20  # Postfix's own number: more at once were no faster with two cores


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running one. What comes in at ``through`` goes to the relay, what comes in at ``held`` stays where it is."""

    directory: Path
    through: int
    held: int


def missing() -> str | None:
    """Why none can be started here, if so."""
    if os.geteuid() != 0:
        return "it must be started by root"
    with suppress(Failed):
        for name in ("postfix", "smtp-source"):
            program(name)
        return None
    return "it is not installed"


def accept(directory: Path, sessions: int, count: int) -> dict[str, float]:
    """How fast it takes ``count`` messages that it then keeps."""
    with _running(directory, relay=free_port()) as postfix:
        _load(postfix.held, max(sessions, _WARMING // 10), sessions)
        seconds = _load(postfix.held, count, sessions)
        kept = sum(1 for file in (postfix.directory / "queue/hold").rglob("*") if file.is_file())
        if kept < count:
            raise Failed(f"Postfix has kept {kept} messages of {count}.")
    return {"messages_per_second": count / seconds, "messages": count}


def deliver(directory: Path, sessions: int, count: int) -> dict[str, float]:
    """How fast ``count`` messages go through it, from the first at its door to the last at the relay."""
    with sink(directory, _WARMING + count) as relay, _running(directory, relay.port) as postfix:
        _warm(postfix, relay, sessions)
        started = time.perf_counter()
        accepted = _load(postfix.through, count, sessions)
        seconds = relay.wait_for_last(_SECONDS) - started
    return {"messages_per_second": count / seconds, "messages": count, "accepted_per_second": count / accepted}


def _warm(postfix: Postfix, relay: Sink, sessions: int) -> None:
    """Its processes are started by the first mail."""
    _load(postfix.through, _WARMING, sessions)
    relay.wait_for_bytes(_WARMING * BODY_BYTES, _PATIENCE)
    _wait_until(lambda: not _under_way(postfix), "Postfix has not delivered what it was warmed with")


def _load(port: int, count: int, sessions: int) -> float:
    """Seconds that smtp-source took."""
    options = f"-s {sessions} -d -m {count} -l {BODY_BYTES} -M bench.example.org".split()
    command = [program("smtp-source"), *options, "-f", SENDER, "-t", RECIPIENT, f"{HOST}:{port}"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    if done.returncode != 0:
        raise Failed(f"smtp-source failed: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - started


def _under_way(postfix: Postfix) -> bool:
    queues = (postfix.directory / "queue" / name for name in ("incoming", "active", "deferred"))
    return any(file.is_file() for queue in queues for file in queue.rglob("*"))


@contextmanager
def _running(parent: Path, relay: int) -> Iterator[Postfix]:
    directory = Path(tempfile.mkdtemp(prefix="postfix-", dir=parent))
    directory.chmod(0o755)
    postfix = Postfix(directory, free_port(), free_port())
    _configure(postfix, relay)
    _control(postfix, "start")
    master = int((directory / "queue/pid/master.pid").read_text())
    try:
        yield postfix
    finally:
        os.killpg(master, signal.SIGTERM)
        _wait_until(lambda: not _alive(master), "Postfix has not stopped")
        shutil.rmtree(directory, ignore_errors=True)


def _configure(postfix: Postfix, relay: int) -> None:
    config, data = postfix.directory / "config", postfix.directory / "data"
    config.mkdir()
    (postfix.directory / "queue").mkdir()
    data.mkdir(mode=0o700)
    shutil.chown(data, _OWNER)
    pwd.getpwnam(_OWNER)
    main = _MAIN.format(directory=postfix.directory, owner=_OWNER, relay=relay, deliveries=_DELIVERIES)
    for name, text in (("main.cf", main), ("master.cf", _MASTER.format(through=postfix.through, held=postfix.held))):
        (config / name).write_text(text)
        os.utime(config / name, (0, 0))  # Postfix reads a young file again and again


def _control(postfix: Postfix, word: str) -> None:
    with tempfile.TemporaryFile("w+") as said:  # no pipe: what Postfix starts would keep it open
        command = [program("postfix"), "-c", str(postfix.directory / "config"), word]
        done = subprocess.run(command, stdout=said, stderr=said, timeout=60, check=False)
        said.seek(0)
        if done.returncode != 0:
            raise Failed(f"Postfix does not {word}: {said.read()[-500:]}")


def _wait_until(true: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise Failed(f"{otherwise}.")
        time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:  # one that nobody has waited for is still there, with an empty command
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except (FileNotFoundError, ProcessLookupError):
        return False
