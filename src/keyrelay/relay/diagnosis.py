"""The explained test: a session for a profile, stage by stage, and why it ended where it did."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from keyrelay.pam.fetching import Fetched
from keyrelay.profile.addresses import envelope_address
from keyrelay.profile.draft import draft_of
from keyrelay.profile.model import OAuthClientCredentials, SmtpProfile, TransportSecurity
from keyrelay.relay import causes, deliverability, message
from keyrelay.relay.causes import Explanation, Surroundings
from keyrelay.relay.credentials import Opener
from keyrelay.relay.deliverability import Advice
from keyrelay.relay.detective import Findings, investigate
from keyrelay.relay.model import STAGES, Envelope, Stage, StageFailed
from keyrelay.relay.opening import Terms, open_session
from keyrelay.relay.session import Delivery, Session
from keyrelay.relay.sign_in import Credentials
from keyrelay.relay.transcript import Redactor, StageReport, Transcript
from keyrelay.secrets.model import FromPam

_log = logging.getLogger(__name__)
Mode = Literal["connect", "envelope", "message"]
# What a second look without credentials can say something about.
_WORTH_A_LOOK: frozenset[Stage] = frozenset({"connect", "greeting", "hello", "tls"})
_NOT_REACHED = "An earlier stage failed."


@dataclass(frozen=True, slots=True)
class Order:
    """What to test: the settings, how far to go, and who gets the message (or is asked for)."""

    profile: SmtpProfile
    mode: Mode
    recipient: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One stage, and why it failed."""

    stage: StageReport
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a diagnosis has found. ``look`` is there when a second look without credentials was taken."""

    order: Order
    findings: tuple[Finding, ...]
    delivery: Delivery | None
    message_id: str | None
    look: Findings | None
    advice: tuple[Advice, ...]

    @property
    def failed(self) -> Finding | None:
        return next((finding for finding in self.findings if finding.stage.verdict == "failed"), None)


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long the parts of a test may take. Together they stay below 30."""

    session: float = 23.0
    look: float = 4.5


class Diagnoses:
    """Runs tests. ``opener`` opens the secrets of a profile; ``name_servers``: see ``deliverability.look``."""

    def __init__(
        self, terms: Terms, opener: Opener, name_servers: tuple[str, ...] | None, seconds: Seconds | None = None
    ) -> None:
        self._terms = terms
        self._opener = opener
        self._name_servers = name_servers
        self._seconds = seconds or Seconds()

    async def run(
        self, order: Order, *, advise: bool = True, finished: Callable[[Finding], None] = lambda _: None
    ) -> Report:
        """Go through the stages. ``finished`` is told of each one once it is certain, and of a failed one explained.

        ``advise``: whether to look at the sender's domain too. Raises what opening the secrets raises, BadInput for a
        message that cannot be built, and TrustUnusable; a relay that fails is no error here.
        """
        trial = _Trial(order, self._terms, finished)
        advice = asyncio.create_task(self._advice(order.profile, trial), name="keyrelay-advice") if advise else None
        try:
            try:
                async with asyncio.timeout(self._seconds.session):
                    await trial.go(self._opener)
            except (StageFailed, TimeoutError):
                pass  # recorded where it happened
            trial.resolved.set()  # or it never will be
            look = await self._look(order.profile, trial)
            trial.conclude(look)
            return Report(
                order,
                tuple(trial.findings),
                trial.delivery,
                trial.message_id,
                look,
                await advice if advice is not None else (),
            )
        finally:
            if advice is not None:
                advice.cancel()
                await asyncio.gather(advice, return_exceptions=True)

    async def close(self) -> None:
        await self._terms.tokens.close()

    async def _look(self, profile: SmtpProfile, trial: _Trial) -> Findings | None:
        last = trial.transcript.stages[-1] if trial.transcript.stages else None
        if last is None or last.evidence is None or last.stage not in _WORTH_A_LOOK:
            return None
        try:
            async with asyncio.timeout(self._seconds.look):
                return await investigate(profile, trial.addresses, self._terms.trust, self._terms.hello_name)
        except TimeoutError:
            return None
        except Exception:  # noqa: BLE001 - the test has found something, and says it without the second look
            _log.exception("The second look at a relay failed")
            return None

    async def _advice(self, profile: SmtpProfile, trial: _Trial) -> tuple[Advice, ...]:
        if self._name_servers == ():
            return ()
        await trial.resolved.wait()
        return await deliverability.look(profile.sender_account, trial.addresses, name_servers=self._name_servers)


class _Trial:
    """One test under way."""

    def __init__(self, order: Order, terms: Terms, finished: Callable[[Finding], None]) -> None:
        self.findings: list[Finding] = []
        self.delivery: Delivery | None = None
        self.message_id: str | None = None
        self.transcript = Transcript(Redactor(), self._noted)
        self.addresses: tuple[str, ...] = ()  # of the relay, once ``resolved``
        self.resolved = asyncio.Event()
        self._order = order
        self._terms = terms
        self._finished = finished
        # What follows may still prove them wrong: inside TLS EHLO is said again, and under TLS 1.3 a relay judges our
        # certificate only in its first answer. So they are told when the next stage is over.
        implicit = order.profile.security is TransportSecurity.IMPLICIT_TLS
        self._in_doubt: frozenset[Stage] = frozenset({"tls"} if implicit else {"hello", "tls"})
        self._held: list[Finding] = []
        # Before anything is connected: what cannot be written must not get that far.
        self._mail = None if order.mode == "connect" else _mail(order)

    def _noted(self, stage: StageReport) -> None:
        if stage.stage == "resolve":
            self.addresses = tuple(stage.learned.get("addresses", ()))
            self.resolved.set()
        if stage.evidence is None and stage.stage in self._in_doubt:
            self._held.append(Finding(stage))
            return
        for held in self._held:
            if held.stage.stage != stage.stage:
                self._tell(held)
        self._held.clear()
        if stage.evidence is None:  # one that failed is told when it is explained
            self._tell(Finding(stage))

    def _tell(self, finding: Finding) -> None:
        self.findings.append(finding)
        self._finished(finding)

    async def go(self, opener: Opener) -> None:
        credentials = await self._credentials(opener)
        session = await open_session(self._order.profile, credentials, self._terms, self.transcript)
        try:
            if self._mail is not None:
                await self._hand_over(session, self._mail)
        except BaseException:
            session.wire.abort()
            raise
        await session.quit()

    async def _credentials(self, opener: Opener) -> Credentials:
        profile = self._order.profile
        if not any(isinstance(source, FromPam) for _, source in profile.secrets()):
            self.transcript.skip("vault", "No credential of the profile is in a vault.")
            return (await opener.open(profile)).credentials
        with self.transcript.stage("vault") as learned:
            # Whatever is kept: a test must find out that the vault is down before mail does.
            opened = await opener.open(profile, not_before=opener.clock())
            learned["fetched"] = [_shown_fetch(field, one) for field, one in opened.fetched.items()]
        return opened.credentials

    async def _hand_over(self, session: Session, mail: _Mail) -> None:
        if self._order.mode == "envelope":
            self.delivery = await session.try_envelope(mail.envelope, needs_smtputf8=mail.needs_smtputf8)
        else:
            self.message_id = mail.message_id
            self.delivery = await session.send(mail.envelope, mail.content, needs_smtputf8=mail.needs_smtputf8)

    def conclude(self, look: Findings | None) -> None:
        """Explain the stage that failed, with what the second look has shown, and name those not reached."""
        last = self.transcript.stages[-1] if self.transcript.stages else None
        if last is not None and last.evidence is not None:
            evidence = replace(last.evidence, facts=_facts(last, look))
            learned = {**last.evidence.facts, **last.learned}
            if look is not None:
                learned |= _shown_look(look)
            stage = replace(last, learned=learned, evidence=evidence)
            # The second connection of a test that takes any certificate can fail where the first went well.
            self.findings = [finding for finding in self.findings if finding.stage.stage != stage.stage]
            self._tell(Finding(stage, causes.explain(evidence, self._surroundings(look))))
        told = {finding.stage.stage for finding in self.findings}
        why = (
            _NOT_REACHED if self.transcript.stages and last is not None and last.evidence else "Not part of this test."
        )
        for missing in (stage for stage in STAGES if stage not in told):
            self._tell(Finding(StageReport(missing, "skipped", 0.0, {"why": why})))

    def _surroundings(self, look: Findings | None) -> Surroundings:
        profile = self._order.profile
        oauth = profile.authentication if isinstance(profile.authentication, OAuthClientCredentials) else None
        return Surroundings(
            host=profile.host.removesuffix("."),
            port=profile.port,
            security=profile.security,
            sign_in=draft_of(profile).authentication,
            sender=profile.sender_account,
            recipient=self._order.recipient,
            token_endpoint=oauth.token_endpoint if oauth else None,
            look=look.look if look else None,
            better_port=look.better_port if look else None,
        )


def _shown_fetch(field: str, fetched: Fetched) -> dict[str, Any]:
    return {
        "field": field,
        "provider": fetched.provider.id,
        "name": fetched.provider.name,
        "type": fetched.provider.type.name,
        "milliseconds": round(fetched.seconds * 1000, 1),
    }


@dataclass(frozen=True, slots=True)
class _Mail:
    envelope: Envelope
    content: bytes
    needs_smtputf8: bool
    message_id: str


def _mail(order: Order) -> _Mail:
    """The test message and its envelope. Raises BadInput."""
    profile, recipient = order.profile, order.recipient or ""
    sender, foreign_sender = envelope_address(profile.sender_account, field="sender_account")
    receiver, foreign_recipient = envelope_address(recipient, field="recipient")
    now = datetime.now(UTC)
    written = message.Message(
        sender_name=profile.sender_name,
        sender_account=profile.sender_account,
        to=(recipient,),
        subject="Test message from keyrelay",
        text=(
            "Somebody is testing the SMTP settings of keyrelay, and they work: this message came through\n"
            f"{profile.host}, port {profile.port}, at {now:%Y-%m-%d %H:%M:%S} UTC.\n\n"
            "Nothing else is needed from you.\n"
        ),
        message_id=message.new_message_id(profile.sender_account),
        date=now,
        headers=(("Auto-Submitted", "auto-generated"),),
    )
    built = message.build(written)
    foreign = foreign_sender or foreign_recipient or (order.mode == "message" and built.needs_smtputf8)
    return _Mail(Envelope(sender, (receiver,)), built.content, foreign, written.message_id)


def _facts(failed: StageReport, look: Findings | None) -> Mapping[str, Any]:
    """What the cause's sentence may name: from the failure itself, and from the certificate that was seen."""
    assert failed.evidence is not None  # noqa: S101
    facts: dict[str, Any] = {}
    certificates = look.tls["certificates"] if look is not None and look.tls is not None else []
    if certificates:
        leaf = certificates[0]
        facts |= {
            "names": leaf["names"],
            "issuer": leaf["issuer"],
            "days": _days(leaf),
            "certificates": len(certificates),
        }
    if failed.evidence.kind == "timeout":
        facts["seconds"] = round(failed.milliseconds / 1000)
    return facts | dict(failed.evidence.facts)


def _days(leaf: Mapping[str, Any]) -> int:
    """Days since it has ended, or until it begins."""
    begins = datetime.fromisoformat(leaf["not_before"])
    now = datetime.now(UTC)
    ends = datetime.fromisoformat(leaf["not_after"])
    return (begins - now).days if begins > now else (now - ends).days


def _shown_look(look: Findings) -> dict[str, Any]:
    shown: dict[str, Any] = {"second_look": look.look}
    if look.ports:
        shown["other_ports"] = {str(port): found for port, found in look.ports.items()}
    if look.tls is not None:
        shown["seen_without_verification"] = look.tls
    return shown
