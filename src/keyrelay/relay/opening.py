"""Opening a session: resolve, connect, greeting, hello, tls, token, auth, each a stage that can fail and say why."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from keyrelay.network.failures import tls_kind
from keyrelay.network.trust import Trust
from keyrelay.profile.model import SmtpProfile, TransportSecurity
from keyrelay.relay import certificate, extensions, sign_in
from keyrelay.relay.connecting import Address, ascii_host, connect, resolve
from keyrelay.relay.dialogue import Dialogue
from keyrelay.relay.extensions import Extensions
from keyrelay.relay.hello import hello_name
from keyrelay.relay.model import Kind, Reply, StageFailed, failed
from keyrelay.relay.session import Session
from keyrelay.relay.sign_in import Bearer, Credentials, NoSignIn, PasswordSignIn, TokenSignIn
from keyrelay.relay.token import Token, Tokens
from keyrelay.relay.transcript import Redactor, Transcript
from keyrelay.relay.wire import ConnectionEnded, NotSmtp, Wire

_READY = 220
_COMPLETED = 250
# Failures that another look without verification gets over.
_CERTIFICATE_KINDS: frozenset[Kind] = frozenset(
    {"expired", "not_yet_valid", "name_mismatch", "unknown_issuer", "self_signed", "weak", "certificate"}
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds each thing may take."""

    resolve: float = 5.0
    connect: float = 8.0
    reply: float = 15.0


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms we talk to relays: whom we trust, what we are called, what is allowed, how long we wait."""

    trust: Trust
    tokens: Tokens
    hello_name: str | None
    allow_insecure_sign_in: bool = False
    patience: Patience = Patience()


async def open_session(
    profile: SmtpProfile, credentials: Credentials, terms: Terms, transcript: Transcript | None = None
) -> Session:
    """A session that is ready for messages. Raises StageFailed, or TrustUnusable.

    ``credentials`` are for this profile's destination; ``transcript`` gets the stages.
    """
    redactor = transcript.redactor if transcript is not None else Redactor()
    _blacken(redactor, credentials, terms.tokens)
    opening = _Opening(profile, credentials, terms, redactor, transcript or Transcript(redactor))
    try:
        await opening.reach()
        await opening.sign_in()
    except BaseException:
        opening.abort()
        raise
    return Session(opening.wire, opening.extensions, redactor, transcript)


def _blacken(redactor: Redactor, credentials: Credentials, tokens: Tokens) -> None:
    # User name and client id are shown to whoever may test (contract D2), and the sender is most often the user.
    match credentials:
        case PasswordSignIn():
            redactor.add(credentials.password)
        case TokenSignIn():
            redactor.add(credentials.request.client_secret)
            if (kept := tokens.kept(credentials.request)) is not None:  # a relay may know it from earlier sessions
                redactor.add(kept.access)


class _Opening:
    """One session on its way."""

    def __init__(
        self, profile: SmtpProfile, credentials: Credentials, terms: Terms, redactor: Redactor, transcript: Transcript
    ) -> None:
        self._profile = profile
        self._credentials = credentials
        self._terms = terms
        self._redactor = redactor
        self._transcript = transcript
        self._addresses: list[Address] = []
        self._verified = False
        self._encrypted = False
        self._dialogue: Dialogue | None = None
        self._ssl: ssl.SSLObject  # from the handshake on
        self.extensions = Extensions()

    @property
    def dialogue(self) -> Dialogue:
        assert self._dialogue is not None  # noqa: S101 - connecting comes first
        return self._dialogue

    @property
    def wire(self) -> Wire:
        return self.dialogue.wire

    def abort(self) -> None:
        if self._dialogue is not None:
            self._dialogue.wire.abort()

    @property
    def _lenient(self) -> bool:
        """Whether the session goes on without a verified certificate (contract P8)."""
        if self._terms.allow_insecure_sign_in:
            return True
        opportunistic = self._profile.security is TransportSecurity.STARTTLS_WHEN_OFFERED
        return opportunistic and isinstance(self._credentials, NoSignIn)

    # --- Reaching the relay ----------------------------------------------------------------------------------

    async def reach(self) -> None:
        """Everything up to a connection that is as safe as the profile asks for."""
        transcript = self._transcript
        with transcript.stage("resolve") as learned:
            self._addresses = await resolve(
                self._profile.host, self._profile.port, seconds=self._terms.patience.resolve
            )
            learned["addresses"] = [str(address) for address in self._addresses]
        with transcript.stage("connect") as learned:
            await self._connect(learned)
        if self._profile.security is TransportSecurity.IMPLICIT_TLS:
            await self._tls()
            await self._greet()
        else:
            await self._greet()
            await self._starttls()

    async def _connect(self, learned: dict[str, Any]) -> None:
        connected, address, others = await connect(self._addresses, seconds=self._terms.patience.connect)
        learned["address"] = str(address)
        learned["family"] = "IPv6" if address.family == socket.AF_INET6 else "IPv4"
        if others:
            learned["other_attempts"] = others
        await self._over(connected)

    async def _over(self, connected: socket.socket) -> None:
        seconds = self._terms.patience.reply
        _, wire = await asyncio.get_running_loop().create_connection(lambda: Wire(seconds), sock=connected)
        self._dialogue = Dialogue(wire, self._transcript)

    async def _greet(self) -> None:
        with self._transcript.stage("greeting") as learned:
            learned["greeting"] = self._redactor.clean((await self._greeting()).text)
        with self._transcript.stage("hello") as learned:
            await self._hello()
            learned["extensions"] = self._offered()
            learned["name"] = self._hello_name()

    def _offered(self) -> list[str]:
        return sorted(map(self._redactor.clean, self.extensions.names))

    def _hello_name(self) -> str:
        return hello_name(self._terms.hello_name, self.wire.transport.get_extra_info("sockname"))

    async def _greeting(self) -> Reply:
        reply = await self.dialogue.listen("greeting")
        if reply.code != _READY:
            raise failed("greeting", "reply", reply=reply)
        return reply

    async def _hello(self) -> None:
        name = self._hello_name()
        reply = await self.dialogue.say("hello", f"EHLO {name}")
        old = reply
        if reply.transient:
            raise failed("hello", "reply", reply=reply)
        if reply.code != _COMPLETED:
            with suppress(StageFailed):
                old = await self.dialogue.say("hello", f"HELO {name}")  # RFC 5321 section 4.1.4
            if old.code != _COMPLETED:
                raise failed("hello", "reply", reply=reply)
            reply = Reply(old.code, old.lines[:1])
        self.extensions = extensions.read(reply)

    # --- TLS -------------------------------------------------------------------------------------------------

    async def _starttls(self) -> None:
        offered = self.extensions.starttls
        required = self._profile.security is TransportSecurity.STARTTLS_REQUIRED
        if not offered and not required:
            self._transcript.skip("tls", "The relay does not offer STARTTLS, and the profile does not ask for it.")
            return
        await self._tls(opportunistic=not required)

    async def _tls(self, *, opportunistic: bool = False) -> None:
        with self._transcript.stage("tls") as learned:
            try:
                if not await self._ask_for_tls(opportunistic=opportunistic):
                    learned["encrypted"] = False
                    return
                await self._handshake(verify=True)
            except StageFailed as failure:
                if failure.evidence.kind not in _CERTIFICATE_KINDS or not self._lenient:
                    raise
                learned["not_verified"] = failure.evidence.kind
                await self._again_unverified(opportunistic=opportunistic)
            learned.update(certificate.tls_facts(self._ssl))
            learned["encrypted"], learned["verified"] = True, self._verified
            if self._profile.security is not TransportSecurity.IMPLICIT_TLS:
                with self._transcript.again("hello"):
                    await self._hello()  # what was said before TLS does not count (RFC 3207 section 4.2)
                learned["extensions"] = self._offered()

    async def _ask_for_tls(self, *, opportunistic: bool) -> bool:
        """STARTTLS where it is needed; whether the handshake may begin."""
        if self._profile.security is not TransportSecurity.IMPLICIT_TLS:
            if not self.extensions.starttls:
                raise failed("tls", "not_offered", detail="STARTTLS", offered=self._offered())
            reply = await self.dialogue.say("tls", "STARTTLS")
            if reply.code != _READY:
                if opportunistic and isinstance(self._credentials, NoSignIn):
                    return False
                raise failed("tls", "reply", reply=reply)
        if self.wire.unread or isinstance(self.wire.ended, NotSmtp):
            implicit = self._profile.security is TransportSecurity.IMPLICIT_TLS
            raise failed("tls", "not_tls" if implicit else "injected", detail="SMTP in the clear")
        return True

    async def _handshake(self, *, verify: bool) -> None:
        trust = self._terms.trust
        context = trust.verified() if verify else trust.unverified()
        try:
            self._ssl = await self.wire.start_tls(context, ascii_host(self._profile.host))
        except (OSError, ssl.CertificateError, ConnectionEnded) as problem:
            kind, words = tls_kind(problem)
            raise failed("tls", kind, detail=words) from None
        self._encrypted, self._verified = True, verify

    async def _again_unverified(self, *, opportunistic: bool) -> None:
        """A second connection that takes the certificate as it is; the first has ended with the handshake."""
        self.abort()
        await self._connect({})
        if self._profile.security is not TransportSecurity.IMPLICIT_TLS:
            await self._greeting()
            await self._hello()
        await self._ask_for_tls(opportunistic=opportunistic)
        await self._handshake(verify=False)

    # --- Signing in ------------------------------------------------------------------------------------------

    async def sign_in(self) -> None:
        """Token and auth, where the profile signs in at all."""
        credentials = self._credentials
        if isinstance(credentials, NoSignIn):
            self._transcript.skip("token", "The profile does not sign in.")
            self._transcript.skip("auth", "The profile does not sign in.")
            return
        if not (self._verified or self._terms.allow_insecure_sign_in):
            self._transcript.skip("token", "It could not be used on this connection.")
            with self._transcript.stage("auth"):
                raise failed("auth", "insecure", detail="unverified" if self._encrypted else "unencrypted")
        if isinstance(credentials, PasswordSignIn):
            self._transcript.skip("token", "The profile signs in with a password.")
            with self._transcript.stage("auth") as learned:
                mechanism = learned["mechanism"] = sign_in.choose(credentials, self.extensions.auth)
                await sign_in.with_password(self.dialogue, mechanism, credentials)
            return
        with self._transcript.stage("token") as learned:
            token = await self._terms.tokens.token(credentials.request)
            self._redactor.add(token.access)
            learned.update(token.facts)
        with self._transcript.stage("auth") as learned:
            mechanism = learned["mechanism"] = sign_in.choose(credentials, self.extensions.auth)
            bearer = Bearer(credentials.user, token.access, ascii_host(self._profile.host), self._profile.port)
            try:
                await sign_in.with_token(self.dialogue, mechanism, bearer, self._redactor.clean)
            except StageFailed as failure:
                self._terms.tokens.forget(credentials.request)
                evidence = failure.evidence
                raise StageFailed(replace(evidence, facts={**_said_of(token), **evidence.facts})) from None


def _said_of(token: Token) -> dict[str, Any]:
    """What a token says of itself, as far as it can explain why a relay refuses it."""
    return {name: token.facts[name] for name in ("format", "audience", "roles") if name in token.facts}
