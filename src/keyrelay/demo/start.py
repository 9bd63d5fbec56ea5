"""A demo as a whole: what is started, in which order, and what its keyrelay is told."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from keyrelay import listening, log, settings
from keyrelay.chaos.certificates import Certificates
from keyrelay.demo import example, example_mail, identity_provider, inbox, server_process, token_server, vault
from keyrelay.demo.catcher import Inbox, catcher
from keyrelay.demo.credentials import Credentials
from keyrelay.demo.local_http import HOST, free_socket, port_of, serving
from keyrelay.demo.signing import Signer
from keyrelay.errors import DataDirUnusable
from keyrelay.first_user import FIRST_USER
from keyrelay.secrets.model import SecretText
from keyrelay.server import Node
from keyrelay.setting_values import PREFIX

_LOG = "server.log"


@dataclass(frozen=True, slots=True)
class Demo:
    """A demo that runs. ``passwords``: of its local users, by name, the administrator first."""

    url: str
    inbox: str
    around: example.Around
    passwords: Mapping[str, SecretText]
    data_dir: Path
    authority: Path
    server: server_process.Running


@asynccontextmanager
async def started(port: int, data_dir: Path | None) -> AsyncIterator[Demo]:
    """Start everything, and end it with the block; without a directory given, nothing is left of it.

    Raises PortInUse, CannotListen, DataDirUnusable, or Unsuitable.
    """
    credentials = Credentials()
    async with AsyncExitStack() as stack:
        passing = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="keyrelay-demo-")))
        certificates = Certificates(passing / "tls")
        kept = passing / "data" if data_dir is None else _empty(data_dir)
        environment = _environment(port, kept, certificates.authority)
        chosen = settings.read(environment)
        log.start("error", "text")
        listening.bound(chosen).close()  # now, before anything is made: the server itself would say so late
        caught = Inbox()
        around_it = surroundings(caught, certificates, credentials)
        inbox_url, around = await stack.enter_async_context(around_it)
        node = await Node.open(chosen)
        try:
            await example.fill(node, around, credentials)
        finally:
            await node.close()
        assert node.first_password is not None  # noqa: S101 - the directory was empty
        running = await stack.enter_async_context(server_process.serving(environment, kept / _LOG))
        await example_mail.hand_in(running.url, FIRST_USER, node.first_password)
        passwords = {FIRST_USER: node.first_password, **credentials.users}
        yield Demo(running.url, inbox_url, around, passwords, kept, certificates.authority, running)


@asynccontextmanager
async def surroundings(
    caught: Inbox, certificates: Certificates, credentials: Credentials
) -> AsyncIterator[tuple[str, example.Around]]:
    """The catcher, the token server, the identity provider and the vault, until the block ends.

    Gives the URL of the catcher's inbox, and where the others are.
    """
    async with AsyncExitStack() as stack:
        sockets = [stack.enter_context(free_socket()) for _ in range(4)]
        inbox_at, tokens_at, people_at, vault_at = (f"{HOST}:{port_of(each)}" for each in sockets)
        tokens, people = Signer(f"https://{tokens_at}"), Signer(f"http://{people_at}")
        relay = await stack.enter_async_context(catcher(caught, credentials, tokens, certificates))
        for application, listener, secure in (
            (inbox.application(caught), sockets[0], False),
            (token_server.application(credentials, tokens), sockets[1], True),
            (identity_provider.application(people), sockets[2], False),
            (vault.application(credentials), sockets[3], True),
        ):
            context = certificates.server_context() if secure else None
            await stack.enter_async_context(serving(application, listener, context))
        around = example.Around(relay.port, tokens.issuer + token_server.PATH, f"https://{vault_at}", people.issuer)
        yield f"http://{inbox_at}/", around


def _environment(port: int, data_dir: Path, authority: Path) -> dict[str, str]:
    """What the server is told; what is set here for another keyrelay is none of its business."""
    chosen = {
        "DATA_DIR": str(data_dir),
        "HOST": HOST,
        "PORT": str(port),
        "CA_BUNDLE": str(authority),
        "NAME_SERVERS": "none",
        "RETRY_WAITS": "30,60,300",
        "UNKNOWN_OUTCOME": "hold",
        "TESTS_PER_MINUTE": "100",
        "LOG_LEVEL": "warning",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return others | {PREFIX + name: value for name, value in chosen.items()}


def _empty(data_dir: Path) -> Path:
    """The directory, made if need be. Raises DataDirUnusable."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        empty = not any(data_dir.iterdir())
    except OSError as problem:
        raise DataDirUnusable(f"{data_dir} cannot be used: {problem.strerror}.") from None
    if not empty:
        raise DataDirUnusable(
            f"{data_dir} is not empty, and a demo makes its data anew.", remedy="Name a directory that is empty or new."
        )
    return data_dir.resolve()
