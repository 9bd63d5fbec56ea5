"""Clients that hand messages in over HTTP, a certain number of them. Run as a program, in a process of its own.

Each keeps its connection and sends the same prepared request again as soon as it was answered. An answer is looked at
no more than it takes to know that it is a 202 and whole: what this process uses is not there for who is measured.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from process import Failed

HOST = "127.0.0.1"
_SECONDS = 900.0
_END_OF_HEAD = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Job:
    """``request``: a file with the whole of it, from the request line to the last byte of the body."""

    port: int
    request: str
    messages: int
    clients: int


@dataclass(frozen=True, slots=True)
class Submitted:
    """When it began and ended, by time.perf_counter, which is one clock for all processes.

    ``processor_seconds``: what it took of the processor for itself.
    """

    began: float
    ended: float
    processor_seconds: float


def request(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A POST that leaves the connection open."""
    sent = {"Host": HOST, **headers, "Content-Length": str(len(body))}
    head = "".join(f"{key}: {value}\r\n" for key, value in sent.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def submit(job: Job) -> Submitted:
    """Hand them in, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(asdict(job))],
        capture_output=True,
        text=True,
        check=False,
        timeout=_SECONDS,
    )
    if done.returncode != 0:
        raise Failed(f"Handing in failed: {done.stderr.strip()[-600:]}")
    return Submitted(**json.loads(done.stdout))


class _Clients:
    """How many requests are still to be made, and to be answered."""

    def __init__(self, job: Job) -> None:
        self.request = Path(job.request).read_bytes()
        self.to_ask = self.to_answer = job.messages
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(reason))


class _Client(asyncio.Protocol):
    def __init__(self, clients: _Clients) -> None:
        self._clients = clients
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # of TCP

    def ask(self) -> None:
        if self._clients.to_ask:
            self._clients.to_ask -= 1
            self._transport.write(self._clients.request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not _whole(self._received):
            return
        if not self._received.startswith(b"HTTP/1.1 202 "):
            self._clients.fail(f"Answered {self._received[:300]!r}")
            return
        self._received = b""
        self._clients.to_answer -= 1
        self.ask()
        if not self._clients.to_answer and not self._clients.done.done():
            self._clients.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients.fail(f"The connection was closed: {exc}")


def _whole(received: bytes) -> bool:
    head, found, body = received.partition(_END_OF_HEAD)
    if not found:
        return False
    _, _, length = head.lower().partition(b"\r\ncontent-length:")
    return len(body) >= int(length.partition(b"\r\n")[0])


async def _run(job: Job) -> Submitted:
    loop, clients = asyncio.get_running_loop(), _Clients(job)
    opened = [await loop.create_connection(lambda: _Client(clients), HOST, job.port) for _ in range(job.clients)]
    began, used = time.perf_counter(), time.process_time()
    for _, client in opened:
        client.ask()
    async with asyncio.timeout(_SECONDS):
        await clients.done
    return Submitted(began, time.perf_counter(), time.process_time() - used)


def main(told: str) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(asdict(runner.run(_run(Job(**json.loads(told)))))))


if __name__ == "__main__":
    main(sys.argv[1])
