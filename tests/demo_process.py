"""``keyrelay demo`` in a process of its own, as somebody who tries it starts it."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import httpx2

from live import clean_environment, keyrelay


@dataclass
class DemoProcess:
    """A demo that runs. ``passing``: where it puts what goes away."""

    process: subprocess.Popen[str]
    errors: IO[str]
    passing: Path
    printed: str = ""
    clients: list[httpx2.Client] = field(default_factory=list)

    def _said(self, pattern: str) -> str:
        found = re.search(pattern, self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    @property
    def portal(self) -> str:
        return self._said(r"^  The portal +(\S+)$")

    @property
    def url(self) -> str:
        return self.portal.removesuffix("/portal/")

    @property
    def inbox(self) -> str:
        return self._said(r"^  The mail catcher +(\S+)$")

    @property
    def documents(self) -> str:
        return self._said(r"^  The API +(\S+)$")

    @property
    def issuer(self) -> str:
        return self._said(r"identity provider \((\S+)\)")

    @property
    def data_dir(self) -> Path:
        return Path(self._said(r"KEYRELAY_DATA_DIR=(\S+)$"))

    @property
    def authority(self) -> Path:
        return Path(self._said(r"KEYRELAY_CA_BUNDLE=(\S+)"))

    def password(self, user: str) -> str:
        return self._said(rf"^  {user} +(\S{{23}})$")

    def client(self, user: str = "admin") -> httpx2.Client:
        """A client of the API that is signed in as this user."""
        auth = (user, self.password(user))
        self.clients.append(httpx2.Client(base_url=self.url, auth=auth, timeout=30, trust_env=False))
        return self.clients[-1]

    def family(self) -> set[int]:
        """The process and all that it has started, directly or not."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = status.read_text()
            except OSError:  # it has ended
                continue
            parents[int(status.parent.name)] = int(text.rpartition(")")[2].split()[1])
        found = {self.process.pid}
        while more := {child for child, parent in parents.items() if parent in found} - found:
            found |= more
        return found

    def end(self, sign: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Send the signal, and give the exit code and what was said on standard error."""
        for client in self.clients:
            client.close()
        self.process.send_signal(sign)
        self.process.communicate(timeout=20)
        self.errors.seek(0)
        return self.process.returncode, self.errors.read()


@contextmanager
def started(directory: Path, *options: str, environment: Mapping[str, str] = {}) -> Iterator[DemoProcess]:
    passing = directory / "passing"
    passing.mkdir()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [keyrelay(), "demo", "--port", "0", *options],
            env=clean_environment() | {"TMPDIR": str(passing)} | dict(environment),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        demo = DemoProcess(process, errors, passing)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                demo.printed += line
                if line.startswith("Stop with"):
                    break
            yield demo
        finally:
            if process.poll() is None:
                demo.end()


def eventually(look: Callable[[], Any], *, seconds: float = 20) -> Any:
    """What is looked for, once it is there."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found
