"""``keyrelay demo``."""

from __future__ import annotations

import asyncio
import shlex
import signal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from keyrelay.demo.catcher import LOST
from keyrelay.demo.start import Demo, started
from keyrelay.errors import Unsuitable


def demo(
    *,
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535))] = 8080,
    data_dir: Path | None = None,
) -> None:
    """Run keyrelay with all it needs, and with example data, to try it: nothing has to be set up.

    It brings a mail server that catches all mail and shows it, a token server, an identity provider and a vault. All
    of it listens on this machine alone, and is gone when it ends.

    Parameters
    ----------
    port
        Port of the server; 0 takes any free one. The others take free ones.
    data_dir
        An empty or new directory for its data, which is kept. Otherwise they are removed at the end.
    """
    asyncio.run(_run(port, data_dir))


async def _run(port: int, data_dir: Path | None) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - it runs
    loop = asyncio.get_running_loop()
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signals = [sign for sign in asked if signal.getsignal(sign) is not signal.SIG_IGN]  # as nohup has it

    def end() -> None:
        for sign in signals:  # what is ending already is not ended once more
            loop.add_signal_handler(sign, lambda: None)
        task.cancel()

    for sign in signals:
        loop.add_signal_handler(sign, end)
    try:
        print("Starting the demo.", flush=True)
        async with started(port, data_dir) as running:
            _announce(running, kept=data_dir is not None)
            await running.server.process.wait()
            raise Unsuitable("The server has ended by itself.", remedy="Look into its log with --data-dir.")
    except asyncio.CancelledError:
        print("Stopped.")


def _announce(running: Demo, *, kept: bool) -> None:
    passwords = {name: password.reveal() for name, password in running.passwords.items()}
    width = max(map(len, passwords))
    lines = [
        "",
        f"  The portal        {running.url}/portal/",
        f"  The mail catcher  {running.inbox}",
        f"  The API           {running.url}/docs",
        "",
        "Sign in with one of these passwords, shown only now:",
        *(f"  {name:{width}}  {password}" for name, password in passwords.items()),
        f"or with the demo's identity provider ({running.around.issuer}), as alice, who may do everything, or bob.",
        "",
        "What to try:",
        "  - Test the profile with ops@example.org, and find the message at the catcher. The same with curl:",
        f'    curl -u admin {running.url}/api/v1/diagnoses --json \'{{"recipient": "ops@example.org"}}\'',
        "  - Look at the outbox: some messages were refused, some are tried again, one is held.",
        "  - Send to somebody at refused.example, blocked.example, full.example or busy.example, and see what becomes",
        f"    of it; at {LOST} the connection ends before the answer.",
        "  - Change the sign-in to Basic: the user mailer, with the entry smtp-password of the PAM provider Kept here.",
        "  - Sign in as the auditor or as helpdesk, and see what they may not.",
        f"  - Use the command line: export KEYRELAY_DATA_DIR={shlex.quote(str(running.data_dir))}",
        f"    KEYRELAY_CA_BUNDLE={shlex.quote(str(running.authority))} KEYRELAY_NAME_SERVERS=none",
        "",
        f"Its data stays in {running.data_dir}." if kept else "When it ends, its data is removed.",
        "Stop with Ctrl+C.",
    ]
    print("\n".join(lines), flush=True)
