"""procrastinate, a queue of tasks on PostgreSQL, with a task that sends one message: what one would have without ours.

The message is the task's argument; the sessions are keyrelay's own and stay open, as many as tasks run at once. So the
sending is as quick as keyrelay's, and what differs is the queue. Run as a program, it fills the queue or works it off.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from process import Failed, running
from senders import HELLO, HOST, RECIPIENT, SENDER, content
from sink import sink

if TYPE_CHECKING:
    from procrastinate import App

    from keyrelay.relay.session import Session

NAME = "procrastinate"
_AT_ONCE = 20
_BATCH = 500
_SECONDS = 180.0
_ROOT = Path(__file__)


def drain(directory: Path, count: int, address: str) -> dict[str, float]:
    """How fast one worker sends ``count`` messages that wait in a fresh database."""
    with sink(directory, count) as relay:
        done = subprocess.run(
            [sys.executable, str(_ROOT), "fill", address, str(count)],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode != 0:
            raise Failed(f"procrastinate could not be filled: {done.stderr.strip()[-500:]}")
        before = relay.read_bytes()
        command = [sys.executable, str(_ROOT), "work", address, str(relay.port)]
        with running(NAME, command, directory / "procrastinate.log", {}) as worker:
            started = relay.wait_for_first(before, worker, _SECONDS)
            seconds = relay.wait_for_last(_SECONDS) - started
            worker.require_alive()
    return {"messages_per_second": count / seconds, "messages": count}


async def fill(address: str, count: int) -> None:
    """Make the tables, and as many tasks as there are messages."""
    app = _app(address)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        text = content().decode()
        waiting = app.configure_task("send")
        for done in range(0, count, _BATCH):
            tasks = [dict[str, Any](recipient=RECIPIENT, text=text)] * min(_BATCH, count - done)
            await waiting.batch_defer_async(*tasks)


async def work(address: str, port: int) -> None:
    """Send until somebody ends the process."""
    app, sessions = _app(address), asyncio.Queue["Session"]()

    @app.task(name="send")
    async def send(recipient: str, text: str) -> None:
        from keyrelay.relay.model import Content, Envelope

        async with _borrowed(sessions) as session:
            if not (await session.send(Envelope(SENDER, (recipient,)), Content(text.encode()))).accepted:
                raise RuntimeError("keyrelay's session was refused a message")

    async with app.open_async():
        for _ in range(_AT_ONCE):
            sessions.put_nowait(await _session(port))
        await app.run_worker_async(concurrency=_AT_ONCE)


def _app(address: str) -> App:
    from procrastinate import App, PsycopgConnector

    return App(connector=PsycopgConnector(conninfo=address, min_size=1, max_size=_AT_ONCE))


async def _session(port: int) -> Session:
    from keyrelay.network.trust import Trust
    from keyrelay.profile.model import SmtpProfile
    from keyrelay.relay.opening import Terms, open_session
    from keyrelay.relay.sign_in import NoSignIn
    from keyrelay.relay.token import Tokens

    trust = Trust(authorities=None)
    profile = SmtpProfile(HOST, port, use_ssl=False, sender_account=SENDER, sender_name="PKI")
    return await open_session(profile, NoSignIn(), Terms(trust, Tokens(trust.for_http), HELLO))


@asynccontextmanager
async def _borrowed(sessions: asyncio.Queue[Session]) -> AsyncIterator[Session]:
    session = await sessions.get()
    try:
        yield session
    finally:
        sessions.put_nowait(session)


def main(what: str, address: str, number: str) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run({"fill": fill, "work": work}[what](address, int(number)))


if __name__ == "__main__":
    main(*sys.argv[1:])
