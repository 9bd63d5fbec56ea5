"""A back end that counts and fails as it is told, and a node that fetches from it by a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from canary import new_canary
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.fetching import Fetched, Patience, Vaults
from keyrelay.pam.local import LocalDb
from keyrelay.pam.model import GivenValue, ProviderDraft
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.secrets.model import FromPam, SecretText
from keyrelay.server import Node

PASSING = ["unreachable", "timeout", "sealed"]
LASTING = ["not_found", "denied", "bad_answer", "parameter_missing", "bad_parameter", "extra_missing"]
TOKEN = new_canary()


class Fake:
    """A back end that does what a test says, and counts."""

    name: ClassVar[str] = "Fake"
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("Host", "Host"),
        Parameter("Token", "Token", secret=True),
        Parameter("Region", "Region", required=False, default="eu"),
        Parameter("Pin", "Pin", secret=True, required=False, default="0000"),
        Parameter("Namespace", "Namespace", required=False),
        Parameter("Secret", "Secret", instance=True),
        Parameter("Version", "Version", instance=True, required=False, default="latest"),
        Parameter("Field", "Field", instance=True, required=False),
    )

    def __init__(self) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, SecretText | str]]] = []
        self.gives: Any = "first"
        self.opened: asyncio.Event | None = None
        self.cancelled = 0

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, Any], means: Means) -> Any:
        self.asked.append((dict(wanted), dict(given)))
        gives = self.gives
        if self.opened is not None:
            try:
                await self.opened.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if isinstance(gives, BaseException):
            raise gives
        if callable(gives):
            gives = gives(wanted, given)
        return SecretText(gives) if type(gives) is str else gives


class Newer(Fake):
    parameters = (*Fake.parameters, Parameter("Account", "Account"))


class Clock:
    """A clock that a test turns on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Kit:
    """What a test works with: a real store, a provider of the fake type in it, and what fetches."""

    node: Node
    providers: ProviderKeeper
    vaults: Vaults
    backend: Fake
    clock: Clock
    provider: int
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    def reference(self, secret: str = "smtp", **more: str | None) -> FromPam:
        return FromPam(self.provider, {"Secret": secret, **more})

    async def fetch(self, secret: str = "smtp", not_before: float | None = None, **more: str | None) -> Fetched:
        return await self.vaults.fetch(self.reference(secret, **more), not_before=not_before)

    async def text(self, secret: str = "smtp", **more: Any) -> str:
        return (await self.fetch(secret, **more)).text.reveal()

    async def failure(self, secret: str = "smtp", **more: Any) -> VaultFailed:
        with pytest.raises(VaultFailed) as failed:
            await self.fetch(secret, **more)
        return failed.value

    def start(self, secret: str = "smtp", **more: Any) -> asyncio.Task[Fetched]:
        self.tasks.append(asyncio.create_task(self.fetch(secret, **more)))
        return self.tasks[-1]

    async def asked(self, times: int) -> None:
        """Wait until the back end has been asked so often."""
        async with asyncio.timeout(20):
            while len(self.backend.asked) < times:  # noqa: ASYNC110 - it is the test's own back end
                await asyncio.sleep(0.001)

    async def settle(self) -> None:
        """Let everything that can go on go on."""
        for _ in range(20):
            await asyncio.sleep(0)


Work = Callable[[Kit], Awaitable[Any]]
VALUES = {"Host": "https://vault.example.org", "Token": TOKEN}


def draft(kind: str, name: str = "Vault", values: Mapping[str, str] = VALUES, **more: Any) -> ProviderDraft:
    given = tuple(GivenValue(None, each, value) for each, value in values.items())
    return ProviderDraft(name=name, type_id=kind, values=given, **more)


async def type_id(providers: ProviderKeeper, name: str = "Fake") -> str:
    kind = (await providers.catalogue()).type_named(name)
    assert kind is not None
    return kind.id


async def worked(settings, work: Work, seconds: float = 30.0, backend: Fake | None = None, **patience: float) -> Any:
    node = await Node.open(settings)
    backend, clock = backend or Fake(), Clock()
    backends = {backend.name: backend, LocalDb.name: LocalDb(node.store, node.keyring)}
    providers = ProviderKeeper(node.store, node.keyring, lambda: backends, node.journal)

    def no_tls() -> Any:
        raise AssertionError("nothing is connected to")

    vaults = Vaults(providers, Means(no_tls, no_tls, seconds), Patience(**patience), clock)
    try:
        known = (await providers.catalogue()).providers
        made = next(iter(known.values()), None) or await providers.add(draft(await type_id(providers)))
        kit = Kit(node, providers, vaults, backend, clock, made.id)
        return await work(kit)
    finally:
        await vaults.close()
        await node.close()


def logged(caplog) -> bytes:
    return "\n".join([caplog.text, *(repr(vars(record)) for record in caplog.records)]).encode()
