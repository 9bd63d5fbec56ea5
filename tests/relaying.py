"""What tests of the relay's session share: terms, profiles, relays beside the client, and loops that are left clean."""

from __future__ import annotations

import asyncio
import atexit
import functools
import gc
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import uvloop

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import Script
from keyrelay.network.trust import Trust
from keyrelay.profile.model import SUBMISSIONS_PORT, Anonymous, Authentication, SmtpProfile
from keyrelay.relay import connecting
from keyrelay.relay.credentials import Opener
from keyrelay.relay.model import Envelope, Evidence, StageFailed
from keyrelay.relay.opening import Patience, Terms, open_session
from keyrelay.relay.session import Session
from keyrelay.relay.sign_in import Credentials, NoSignIn, PasswordSignIn
from keyrelay.relay.token import Tokens
from keyrelay.relay.transcript import Transcript
from keyrelay.secrets.model import SecretText

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
both_loops = pytest.mark.parametrize("loop", LOOPS)

PLAIN = ("SIZE 10485760", "8BITMIME", "SMTPUTF8")
PIPELINED = ("PIPELINING", *PLAIN)
CHUNKED = ("PIPELINING", "CHUNKING", *PLAIN)
OFFERS = {"plain": PLAIN, "pipelining": PIPELINED, "chunking": CHUNKED, "chunking alone": ("CHUNKING", *PLAIN)}

CONTENT = b"Subject: hello\r\n\r\nOne line.\r\n"
UNSIGNED, ANONYMOUS = Anonymous(), NoSignIn()
USER, PASSWORD = "mailer", "hunter2-and-more"
_LONGEST = 60  # seconds a test may take before it counts as hanging

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result], loop: str = "asyncio") -> Result:
    """Run on a loop of this kind, and see to it that nothing was left behind: no task, and no open socket."""

    async def bounded() -> Result:
        async with asyncio.timeout(_LONGEST):
            result = await main
        await nothing_left()
        return result

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        result = runner.run(bounded())
    gc.collect(1)  # a socket that nobody has closed warns now, and a warning is an error
    return result


async def nothing_left() -> None:
    """No task but this one, once those that were cancelled have had their turns."""
    for _ in range(20):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            return
        await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def until(reached: Callable[[], bool], what: str = "it never came about") -> None:
    for _ in range(1000):
        if reached():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(what)


@functools.cache
def certificates() -> Certificates:
    directory = tempfile.TemporaryDirectory(prefix="keyrelay-tests-")
    atexit.register(directory.cleanup)
    return Certificates(Path(directory.name))


def relay(script: Script | None = None, **rules: Any) -> ChaosRelay:
    """A relay on the loop of the caller, by a script or by its arguments."""
    script = script or Script(**rules)
    return ChaosRelay(script, certificates=certificates() if script.uses_tls else None)


@functools.cache  # reading the system's authorities takes longer than a session
def _trust(*, trusted: bool, client: bool) -> Trust:
    made = certificates()
    return Trust(
        authorities=made.authority if trusted else None,
        client_certificate=made.client_certificate if client else None,
        client_key=made.client_key if client else None,
    )


def terms(*, reply: float = 10.0, trusted: bool = True, client: bool = False, **more: Any) -> Terms:
    """Terms on which the chaos relay's authority is trusted. ``client`` shows its client certificate."""
    trust = _trust(trusted=trusted, client=client)
    patience = Patience(resolve=5.0, connect=5.0, reply=reply)
    return Terms(trust, Tokens(trust.for_http), more.pop("hello_name", "client.test"), patience=patience, **more)


def profile(
    port: int,
    host: str = "127.0.0.1",
    *,
    use_ssl: bool = False,
    sender: str = "pki@example.org",
    authentication: Authentication = UNSIGNED,
) -> SmtpProfile:
    return SmtpProfile(host, port, use_ssl, sender, "PKI", authentication)


def password(user: str = USER, text: str = PASSWORD) -> PasswordSignIn:
    return PasswordSignIn(SecretText(user), SecretText(text))


def as_given(*client_authentication: Any) -> Opener:
    """Opens secrets that were given as texts; there is no store and no vault."""
    nothing: Any = SimpleNamespace(clock=time.monotonic)
    return Opener(nothing, nothing, nothing, *client_authentication)


def envelope(*recipients: str, sender: str = "pki@example.org") -> Envelope:
    return Envelope(sender, recipients or ("ops@example.org",))


@asynccontextmanager
async def session(
    port: int,
    credentials: Credentials = ANONYMOUS,
    *,
    on: Terms | None = None,
    transcript: Transcript | None = None,
    **more: Any,
) -> AsyncIterator[Session]:
    """A session that is said goodbye to, or cut when the test fails."""
    made = on or terms()
    opened = await open_session(profile(port, **more), credentials, made, transcript)
    try:
        yield opened
    except BaseException:
        opened.wire.abort()
        raise
    finally:
        await made.tokens.close()
    await opened.quit()


async def evidence_of(doing: Coroutine[Any, Any, Any]) -> Evidence:
    """What a failed stage showed. A coroutine that does not fail is a failed test."""
    try:
        result = await doing
    except StageFailed as failure:
        return failure.evidence
    if isinstance(result, Session):
        result.wire.abort()
    raise AssertionError(f"it did not fail, and gave {result}")


async def send_once(port: int, content: bytes = CONTENT, *, to: tuple[str, ...] = (), **more: Any) -> Any:
    """Open a session, send one message, give the Delivery."""
    async with session(port, **more) as opened:
        return await opened.send(envelope(*to), content)


@contextmanager
def implicit_tls_at(port: int) -> Iterator[int]:
    """TLS from the first byte goes with port 465 alone: let its connections arrive at ``port``."""
    look_up = connecting.look_up

    async def aimed(host: str, wanted: int) -> list[tuple[Any, ...]]:
        return await look_up(host, port if wanted == SUBMISSIONS_PORT else wanted)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connecting, "look_up", aimed)
        yield SUBMISSIONS_PORT


Answer = Callable[[bytes], bytes | None]
Converse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(converse: Converse) -> AsyncIterator[int]:
    """A relay without manners: every connection is a conversation, and is cut when that is over."""
    talking: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):  # cancelled below, at the end
                await converse(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()
            talking.discard(task)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(talking):
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)
        await server.wait_closed()


@asynccontextmanager
async def answering(answer: Answer, greeting: bytes = b"220 odd.test ESMTP\r\n") -> AsyncIterator[int]:
    """The same line by line: ``answer`` is given each, and says what is sent, or None to hang up."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        while line := await reader.readline():
            said = answer(line)
            if said is None:
                return
            writer.write(said)

    async with serving(converse) as port:
        yield port


@contextmanager
def running(script: Script | None = None, **rules: Any) -> Iterator[ChaosRelay]:
    """A relay in a thread of its own, for servers that are no part of the caller's loop."""
    with beside(relay(script, **rules)) as made:
        yield made


@contextmanager
def beside(made: ChaosRelay, loop: str = "asyncio") -> Iterator[ChaosRelay]:
    """The same with a relay that is made already, on a loop of this kind."""
    own = LOOPS[loop]()
    thread = threading.Thread(target=own.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(made.start(), own).result(20)
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(made.stop(), own).result(20)
        own.call_soon_threadsafe(own.stop)
        thread.join(20)
        assert not thread.is_alive(), "the relay did not stop"
        own.close()
