"""The composition root: settings become a wired node, and a node becomes a listening server."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Self

from starlette.types import Receive, Scope, Send

from keyrelay import listening, log, settings, trusted, unlocking
from keyrelay.access.bearer import Bearers
from keyrelay.access.code_flow import CodeFlow
from keyrelay.access.identity_provider import configured
from keyrelay.access.identity_providers import IdentityProviderKeeper
from keyrelay.access.keeper import AccessKeeper
from keyrelay.access.purses import Purses
from keyrelay.access.rates import Rates
from keyrelay.access.sessions import Sessions
from keyrelay.access.sign_in import SignIn
from keyrelay.access.throttle import Throttle
from keyrelay.audit.journal import Journal
from keyrelay.audit.refusals import Refusals
from keyrelay.first_user import first_user
from keyrelay.network.trust import Trust
from keyrelay.pam.backend import Backend, Means
from keyrelay.pam.fetching import Patience, Vaults
from keyrelay.pam.providers import ProviderKeeper
from keyrelay.profile.keeper import ProfileKeeper
from keyrelay.profile.rules import Rules
from keyrelay.relay.turnstile import Turnstile
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText
from keyrelay.settings import Settings
from keyrelay.store.engine import open_store
from keyrelay.store.model import Store

if TYPE_CHECKING:
    from keyrelay.api.app import Application
    from keyrelay.outbox.outbox import Outbox
    from keyrelay.relay.credentials import Opener
    from keyrelay.relay.opening import Terms
    from keyrelay.relay.recording import Recorded


@dataclass(frozen=True)
class Node:
    """Everything a command or a server process works with.

    ``first_password``: the password just generated for the first user, to be shown once; None at all later starts.
    """

    settings: Settings
    store: Store
    keyring: Keyring
    journal: Journal
    access: AccessKeeper
    keeper: ProfileKeeper
    providers: ProviderKeeper
    identity_providers: IdentityProviderKeeper
    first_password: SecretText | None

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Open the store, the keys and, on first start, make the first user. Raises CannotStart."""
        trusted.check_certificates(settings)
        store = await open_store(settings)
        try:
            keyring = await unlocking.open_keyring(settings, store)
            journal = Journal(keyring)
            await journal.prepare(store)
            node = cls.wired(settings, store, keyring, journal)
            await node.access.prepare()
            password = await first_user(settings, store, node.access)
        except BaseException:
            await store.close()
            raise
        return replace(node, first_password=password)

    @classmethod
    def wired(cls, settings: Settings, store: Store, keyring: Keyring, journal: Journal) -> Self:
        """A node on what is open already."""
        providers = ProviderKeeper(store, keyring, backends(store, keyring), journal)
        keeper = ProfileKeeper(store, keyring, providers.confirm, journal, secrets_kept=settings.history_secrets)
        identity_providers = IdentityProviderKeeper(store, keyring, journal, configured(settings))
        access = AccessKeeper(store, journal, identity_providers.schemes)
        return cls(settings, store, keyring, journal, access, keeper, providers, identity_providers, None)

    def application(self) -> Application:
        from keyrelay.api.app import Application
        from keyrelay.api.doors import Doors
        from keyrelay.api.figures import Figures
        from keyrelay.api.operations import Services
        from keyrelay.portal.portal import Portal

        rules = Rules(allow_insecure_sign_in=self.settings.allow_insecure_sign_in)
        throttle = Throttle(self.store, self.journal)
        sessions = Sessions.of(self.settings, self.store, self.identity_providers)
        code_flow = CodeFlow(
            *(self.store, self.keyring, self.identity_providers, sessions, self.bearers.key_sets, throttle),
            trust=trusted.of_relays(self.settings).for_http,
        )
        turnstile = Turnstile.of(self.settings, Rates(self.store, self.journal))
        services = Services(
            self.settings,
            self.store,
            self.access,
            self.journal,
            self.keeper,
            rules,
            self.providers,
            self.identity_providers,
            self.vaults,
            SignIn(self.store, throttle, self.bearers),
            sessions,
            code_flow,
            self.refusals,
            turnstile,
            self._purses,
            lambda: self.diagnoses,
            lambda: self.outbox,
            Figures(),
            Doors(self.settings.connections),
        )
        return Application(services, partial(Portal, services))

    @cached_property
    def bearers(self) -> Bearers:
        """What looks at tokens that callers sign in with."""
        return Bearers(self.store, self.identity_providers, trusted.of_relays(self.settings).for_http)

    @cached_property
    def refusals(self) -> Refusals:
        """What tells the audit trail of refused accesses."""
        return Refusals(self.store, self.journal)

    @cached_property
    def _purses(self) -> Purses:
        return Purses(Rates(self.store, self.journal))

    @cached_property
    def vaults(self) -> Vaults:
        """What fetches secrets from vaults."""
        settings = self.settings
        means = Means(
            Trust(authorities=settings.ca_bundle).verified,
            trusted.of_vaults(settings).verified,
            settings.pam_seconds,
            allow_plain_http=settings.allow_insecure_sign_in,
            secret_files=settings.secret_files,
            secret_variables=settings.secret_variables,
        )
        patience = Patience(settings.pam_cache_seconds, settings.pam_stale_seconds)
        return Vaults(self.providers, means, patience)

    @cached_property
    def _opener(self) -> Opener:
        from keyrelay.relay.credentials import Opener

        return Opener(self.store, self.keyring, self.vaults, self.settings.token_authentication)

    @cached_property
    def _terms(self) -> Terms:
        from keyrelay.relay.opening import Terms
        from keyrelay.relay.token import Tokens

        trust = trusted.of_relays(self.settings)
        return Terms(
            trust,
            Tokens(trust.for_http),
            self.settings.hello_name,
            allow_insecure_sign_in=self.settings.allow_insecure_sign_in,
        )

    @cached_property
    def diagnoses(self) -> Recorded:
        """What tests the profile; made when it is needed first, because it takes longer to import than all the rest."""
        from keyrelay.relay.diagnosis import Diagnoses
        from keyrelay.relay.recording import Recorded

        made = Diagnoses(self._terms, self._opener, self.settings.name_servers)
        return Recorded(made, self.store, self.journal)

    @cached_property
    def outbox(self) -> Outbox:
        """What takes messages in and sends them; made when it is needed first, for the same reason."""
        from keyrelay import sending

        return sending.outbox(
            self.settings, self.store, self.keyring, self.journal, self.keeper, self._opener, self._terms
        )

    async def start_outbox(self, *, works: bool) -> None:
        """Begin to send what waits, or only to be there for what is handed in."""
        self.outbox.start(works=works)

    async def close(self) -> None:
        if "refusals" in self.__dict__:
            await self.refusals.close()
        if "_purses" in self.__dict__:
            await self._purses.close()
        if "outbox" in self.__dict__:
            await self.outbox.close()
        if "diagnoses" in self.__dict__:
            await self.diagnoses.close()
        if "vaults" in self.__dict__:
            await self.vaults.close()
        if "bearers" in self.__dict__:
            await self.bearers.close()
        await self.store.close()


def backends(store: Store, keyring: Keyring) -> Callable[[], Mapping[str, Backend]]:
    """The installed back ends, imported when somebody asks for them first: a start needs none."""

    @cache
    def load() -> Mapping[str, Backend]:
        from keyrelay.pam import registry
        from keyrelay.pam.local import LocalDb

        return registry.load(LocalDb(store, keyring))

    return load


# --- Listening -----------------------------------------------------------------------------------------------


class Served:
    """A node as an ASGI application with a life cycle, for one server process."""

    def __init__(
        self, settings: Settings, node: Node | None = None, traced: AbstractContextManager[None] | None = None
    ) -> None:
        self._settings = settings
        self._node = node
        self._traced = traced or nullcontext()
        self._application: Application | None = None if node is None else node.application()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        await self.application(scope, receive, send)

    @property
    def application(self) -> Application:
        """There is one before anybody can connect: the server waits for the start-up to complete."""
        assert self._application is not None  # noqa: S101 - as told
        return self._application

    async def _live(self, receive: Receive, send: Send) -> None:
        with self._traced:
            await self._serve(receive, send)

    async def _serve(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._node is None:
            self._node = await Node.open(self._settings)
            self._application = self._node.application()
        await send({"type": "lifespan.startup.complete"})
        outbox = asyncio.create_task(self._node.start_outbox(works=self._settings.worker), name="keyrelay-start")
        await receive()
        await outbox
        await self._node.close()
        await send({"type": "lifespan.shutdown.complete"})


def _traced(chosen: Settings) -> AbstractContextManager[None]:
    """What records the traces of a process, if that is wanted. Raises TracesUnusable."""
    if chosen.otlp_endpoint is None:
        return nullcontext()
    from keyrelay import otlp  # only who wants it has it

    return otlp.recording(chosen.otlp_endpoint)


async def _announce(announce: Callable[[str, Node], None], url: str, node: Node) -> None:
    try:
        announce(url, node)
    except BaseException:
        await node.close()
        raise


def worker() -> Served:
    """The application of one of several server processes; the first process has passed the settings on."""
    first = multiprocessing.parent_process()
    if first is not None:
        # Left alone, this process would keep the port, and the next start would find it in use.
        threading.Thread(target=_end_after, args=(first,), daemon=True).start()
    # The server's own handlers are in place now; until here a Ctrl+C would have ended in a traceback.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    read = settings.read(os.environ)
    log.start(read.log_level, read.log_format)
    served = Served(read, traced=_traced(read))
    _spare_the_collector()
    return served


def _spare_the_collector() -> None:
    """What a process is made of stays: looking through it again and again for garbage took a tenth of its time."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _end_after(other: BaseProcess) -> None:
    other.join()
    os.kill(os.getpid(), signal.SIGTERM)


def work(chosen: Settings, announce: Callable[[Node], None]) -> None:
    """Send what waits in the outbox, and nothing else, until told to stop. ``announce`` is told the node.

    Raises CannotStart.
    """
    import uvloop

    log.start(chosen.log_level, chosen.log_format)

    async def run() -> None:
        stop = asyncio.Event()
        for sign in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(sign, stop.set)
        node = await Node.open(chosen)
        try:
            announce(node)
            node.outbox.start(works=True)
            _spare_the_collector()
            await stop.wait()
        finally:
            await node.close()

    with _traced(chosen), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def serve(chosen: Settings, announce: Callable[[str, Node], None]) -> None:
    """Listen until told to stop. ``announce`` is told the URL and the node once the port is ours.

    Raises CannotStart for everything that keeps the server from starting.
    """
    import uvicorn

    log.start(chosen.log_level, chosen.log_format)
    options = listening.options(chosen)
    traced = _traced(chosen)
    listening.make_room(chosen.connections)
    listener = listening.listen(chosen)
    url = listening.url(chosen, listener.getsockname()[1])

    async def run_one() -> None:
        node = await Node.open(chosen)
        await _announce(announce, url, node)
        server = uvicorn.Server(uvicorn.Config(Served(chosen, node, traced), **options))
        _spare_the_collector()
        await server.serve(sockets=[listener])

    async def prepare() -> None:
        node = await Node.open(chosen)
        await _announce(announce, url, node)
        await node.close()

    runner = asyncio.Runner(loop_factory=listening.new_event_loop)
    if chosen.workers == 1:
        with runner:
            runner.run(run_one())
        return
    with runner:
        runner.run(prepare())
    from keyrelay.workers import Workers

    config = uvicorn.Config("keyrelay.server:worker", factory=True, workers=chosen.workers, **options)
    Workers(config, sockets=[listener]).run()
