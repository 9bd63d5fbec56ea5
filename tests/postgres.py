"""A PostgreSQL cluster that lives as long as the tests, on loopback."""

from __future__ import annotations

import asyncio
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from keyrelay.store.schema import migrate_postgresql

_TEMPLATE = "keyrelay_template"


@dataclass
class Cluster:
    """One running server. ``url(name)`` is the address of a database in it."""

    directory: Path
    port: int
    password: str
    synced: bool
    _left: list[str] = field(default_factory=list)
    _copying: str = ""

    @staticmethod
    def programs() -> Path | None:
        """Where initdb and postgres are, or None when PostgreSQL is not installed."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if found:
            return found[-1].parent
        path = shutil.which("initdb")
        return Path(path).resolve().parent if path else None

    @classmethod
    def start(cls, below: Path | None = None, *, synced: bool = True) -> Cluster:
        """Start a server that keeps its data below a directory.

        One that is not ``synced`` leaves it to the system when its files reach the disk. Whatever happens to its
        processes, nothing is lost by that: what is committed has been written, and the system has it. Only when the
        machine itself goes down something is, and no test lets that happen.
        """
        directory = Path(tempfile.mkdtemp(prefix="keyrelay-pg-", dir=below))
        password = secrets.token_hex(8)
        (directory / "password").write_text(password)
        if os.geteuid() == 0:  # initdb refuses to run as root
            owner = pwd.getpwnam("postgres")
            for path in (directory, directory / "password"):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        options = f"-U keyrelay -A scram-sha-256 --pwfile {directory / 'password'} -E UTF8 --no-sync"
        _run("initdb", "-D", directory / "data", *options.split())
        cluster = cls(directory, _free_port(), password, synced)
        cluster.resume()
        asyncio.run(cluster._make_template())
        return cluster

    def url(self, name: str) -> str:
        return f"postgresql://keyrelay:{self.password}@127.0.0.1:{self.port}/{name}"

    def fresh_database(self) -> str:
        """The address of a new database with our schema. Those that were left are gone afterwards."""
        left, self._left = self._left, []
        name = f"test_{next(_numbers)}_{secrets.token_hex(3)}"
        drops = [f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in left]
        self.execute(*drops, f'CREATE DATABASE "{name}" TEMPLATE {_TEMPLATE} {self._copying}')
        return self.url(name)

    def leave(self, url: str) -> None:
        """Nobody needs this database any more, once all that runs now has ended."""
        self._left.append(url.rpartition("/")[2])

    def empty_database(self) -> str:
        """The address of a new database with nothing in it."""
        name = f"empty_{next(_numbers)}_{secrets.token_hex(3)}"
        self.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def execute(self, *statements: str, database: str = "postgres") -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.url(database))
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        asyncio.run(run())

    def resume(self) -> None:
        """Start the server, after ``kill`` too."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.directory}"
            f" -c max_connections=200 -c log_min_messages=fatal{'' if self.synced else ' -c fsync=off'}"
        )
        _run("pg_ctl", "-D", self.directory / "data", "-l", self.directory / "log", "-o", options, "-w", "start")

    def kill(self) -> None:
        """Stop the server as a crash does."""
        pid = int((self.directory / "data" / "postmaster.pid").read_text().split()[0])
        _run("pg_ctl", "-D", self.directory / "data", "-m", "immediate", "-w", "stop")
        with_deadline = time.monotonic() + 10
        while _alive(pid) and time.monotonic() < with_deadline:
            time.sleep(0.05)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    async def _make_template(self) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
        if connection.get_server_version().major >= 15:
            # Before, there was no other way. To log each page, the default since then, costs twice as much.
            self._copying = "STRATEGY file_copy"
        await connection.close()
        await migrate_postgresql(self.url(_TEMPLATE))


_numbers = itertools.count(1)


def _run(program: str, *arguments: str | Path) -> None:
    programs = Cluster.programs()
    assert programs is not None
    command = [str(programs / program), *map(str, arguments)]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    with tempfile.TemporaryFile("w+") as errors:  # no pipe: the server that pg_ctl starts would keep it open
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            timeout=60,
            cwd="/",
            check=False,
        )
        errors.seek(0)
        assert done.returncode == 0, f"{program}: {errors.read()}"


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
