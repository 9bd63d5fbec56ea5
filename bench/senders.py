"""Who sends. Run as a program, in a process of its own, it sends as one of them and prints what that took.

All Python senders check the relay's certificate, send the same message, and get an answer to each. Those with an event
loop run on uvloop, as keyrelay's server does; ``smtplib`` has a thread for each session. Persistent senders keep their
sessions to the end; the others have a connection for each message, as many at a time.
"""

from __future__ import annotations

import asyncio
import json
import smtplib
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
SESSIONS = 8
BODY_BYTES = 4096
SENDER = "pki@example.org"
RECIPIENT = "someone@example.org"
HELLO = "bench.example.org"
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """``messages`` to be sent, one for each number that is taken from it; by STARTTLS when there is an authority."""

    port: int
    messages: Iterator[int]
    authority: Path | None

    @property
    def starttls(self) -> bool:
        return self.authority is not None

    def trust(self) -> ssl.SSLContext | None:
        return _trust(self.authority) if self.authority else None


@cache
def _trust(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


@cache
def _keyrelay_trust(authority: Path | None) -> Any:
    from keyrelay.network.trust import Trust

    return Trust(authorities=authority)


def content() -> bytes:
    """A message with BODY_BYTES bytes of lines, as smtp-source sends it."""
    lines = (b"X" * 78 + b"\r\n") * (BODY_BYTES // 80 + 1)
    head = f"From: <{SENDER}>\r\nTo: <{RECIPIENT}>\r\nMessage-Id: <0001.0002@{HELLO}>\r\nSubject: figures\r\n\r\n"
    return head.encode() + lines[:BODY_BYTES] + b"\r\n"


def keyrelay(job: Job) -> None:
    from keyrelay.profile.model import SmtpProfile
    from keyrelay.relay.model import Content, Envelope
    from keyrelay.relay.opening import Terms, open_session
    from keyrelay.relay.sign_in import NoSignIn
    from keyrelay.relay.token import Tokens

    profile = SmtpProfile(HOST, job.port, job.starttls, SENDER, "PKI")
    trust = _keyrelay_trust(job.authority)
    terms = Terms(trust, Tokens(trust.for_http), HELLO)
    envelope, message = Envelope(SENDER, (RECIPIENT,)), Content(content())

    async def send() -> None:
        session = await open_session(profile, NoSignIn(), terms)
        for _ in job.messages:
            if not (await session.send(envelope, message)).accepted:
                raise RuntimeError("keyrelay was refused a message")
        await session.quit()

    _run_tasks(send)


def aiosmtplib_persistent(job: Job) -> None:
    import aiosmtplib

    trust, message = job.trust(), content()

    async def send() -> None:
        client = aiosmtplib.SMTP(
            hostname=HOST,
            port=job.port,
            local_hostname=HELLO,
            start_tls=job.starttls,
            tls_context=trust,
            timeout=_SECONDS,
        )
        async with client:
            for _ in job.messages:
                await client.sendmail(SENDER, RECIPIENT, message)

    _run_tasks(send)


def aiosmtplib_each(job: Job) -> None:
    import aiosmtplib

    trust, message = job.trust(), content()

    async def send() -> None:
        for _ in job.messages:
            client = aiosmtplib.SMTP(
                hostname=HOST,
                port=job.port,
                local_hostname=HELLO,
                start_tls=job.starttls,
                tls_context=trust,
                timeout=_SECONDS,
            )
            async with client:
                await client.sendmail(SENDER, RECIPIENT, message)

    _run_tasks(send)


def smtplib_persistent(job: Job) -> None:
    trust, message = job.trust(), content()

    def send() -> None:
        with _smtplib(job, trust) as client:
            for _ in job.messages:
                client.sendmail(SENDER, RECIPIENT, message)

    _run_threads(send)


def smtplib_each(job: Job) -> None:
    trust, message = job.trust(), content()

    def send() -> None:
        for _ in job.messages:
            with _smtplib(job, trust) as client:
                client.sendmail(SENDER, RECIPIENT, message)

    _run_threads(send)


SENDERS: dict[str, Callable[[Job], None]] = {
    "keyrelay": keyrelay,
    "aiosmtplib": aiosmtplib_persistent,
    "smtplib": smtplib_persistent,
    "aiosmtplib, a connection each": aiosmtplib_each,
    "smtplib, a connection each": smtplib_each,
}


def _smtplib(job: Job, trust: ssl.SSLContext | None) -> smtplib.SMTP:
    client = smtplib.SMTP(HOST, job.port, HELLO, timeout=_SECONDS)
    if trust is not None:
        client.starttls(context=trust)
    return client


def _run_tasks(send: Callable[[], Coroutine[None, None, None]]) -> None:
    import uvloop

    async def run() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(SESSIONS):
                group.create_task(send())

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _run_threads(send: Callable[[], None]) -> None:
    with ThreadPoolExecutor(SESSIONS) as threads:
        for done in [threads.submit(send) for _ in range(SESSIONS)]:
            done.result()


def main(name: str, port: str, count: str, authority: str) -> None:
    """Send ``count`` messages, and first none: what importing and reading certificates takes counts for nobody."""
    SENDERS[name](Job(int(port), iter(()), Path(authority) if authority else None))
    job = Job(int(port), iter(range(int(count))), Path(authority) if authority else None)
    started, used = time.perf_counter(), time.process_time()
    SENDERS[name](job)
    found = {"seconds": time.perf_counter() - started, "processor_seconds": time.process_time() - used}
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
