"""Handing one message over, and what came of it: whatever happens, somebody can settle it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime

from keyrelay import traces
from keyrelay.errors import KeyrelayError, KeyUnknown, NoProfile, StoreUnavailable
from keyrelay.outbox import content
from keyrelay.outbox.figures import outcome_of
from keyrelay.outbox.office import Office
from keyrelay.outbox.parts import seven_bit
from keyrelay.outbox.settling import Claim, Found, How
from keyrelay.relay.mailing import Mailer
from keyrelay.relay.model import Content, Envelope, Evidence, StageFailed, failed
from keyrelay.relay.session import Delivery, Session

_logger = logging.getLogger(__name__)

_NOT_BEGUN = Evidence("connect", "closed", detail="it was not begun")


@dataclass(slots=True)
class Attempt:
    """One try with one message. ``revision`` is that of the profile; ``content`` what was found at a quick look."""

    office: Office
    mailer: Mailer
    claim: Claim
    revision: int
    content: Content | None
    begun: bool = False

    async def make(self) -> Found:
        """Try. Raises nothing; when it is cancelled, what it gives says how far it had come."""
        with traces.span("outbox attempt") as span:
            found = await self._try()
            if traces.recorded():
                span.note(_told(found))
        return found

    async def _try(self) -> Found:
        started_at = datetime.now(UTC)
        how: How = "attempted"
        result: Delivery | Evidence
        try:
            result = await self._hand_over(self.content or await self._reveal())
        except StageFailed as failure:
            result = failure.evidence
        except asyncio.CancelledError:
            result, how = (Evidence("data", "outcome_unknown"), how) if self.begun else (_NOT_BEGUN, "not_begun")
        except (NoProfile, StoreUnavailable):
            result, how = _NOT_BEGUN, "not_begun"
        except Exception as problem:  # one message must never stop the others
            _logger.exception("a message cannot be sent", extra={"facts": {"message": self.claim.id}})
            why = problem.message if isinstance(problem, KeyrelayError) else "keyrelay fails at this message."
            result, how = Evidence("data", "not_offered", detail=why), "failed_at"
        return Found(self.claim, result, self.revision, started_at, datetime.now(UTC), how)

    async def _reveal(self) -> Content:
        """The content, looked for thoroughly. Raises KeyUnknown, or StoreUnavailable."""
        found = await content.reveal(self.office.store, self.office.keyring, self.claim.id)
        if found is None:
            raise KeyUnknown("The content of the message is not kept any more.", remedy="Cancel the message.")
        return found

    async def _hand_over(self, octets: Content) -> Delivery:
        submission = self.claim.submission
        envelope = Envelope(submission.sender, tuple(one.address for one in self.claim.recipients))

        async def send(session: Session) -> Delivery:
            if self.office.watch.age > self.office.lease:
                raise StoreUnavailable("The lease is over, and somebody else may have the message.")
            self.begun = True
            fitting = octets
            if submission.needs_8bit and not session.extensions.eight_bit:
                fitting = _in_seven_bits(octets)
            return await session.send(envelope, fitting, needs_smtputf8=submission.needs_smtputf8)

        try:
            return await self.mailer.with_session(send)
        except (NoProfile, StoreUnavailable):
            raise
        except KeyrelayError as problem:  # a stored credential that cannot be opened is no fault of the message's
            raise failed("vault", "not_found", detail=problem.message) from None


def _told(found: Found) -> traces.Attributes:
    """What a span tells of an attempt: how far it came and how it ended, and nobody's address."""
    evidence = found.result if isinstance(found.result, Evidence) else found.result.evidence()
    return {
        "keyrelay.message": found.claim.id,
        "keyrelay.recipients": len(found.claim.recipients),
        "keyrelay.stage": "data" if evidence is None else evidence.stage,
        "keyrelay.outcome": outcome_of(found),
    }


def not_begun(claim: Claim, revision: int) -> Found:
    """What is to be settled when a message could not even be tried."""
    now = datetime.now(UTC)
    return Found(claim, _NOT_BEGUN, revision, now, now, "not_begun")


def _in_seven_bits(octets: Content) -> Content:
    """For a relay without 8BITMIME (RFC 6152 section 3). Raises StageFailed when that cannot be."""
    converted = seven_bit(octets)
    if converted is None:
        raise failed("sender", "not_offered", detail="8BITMIME")
    return converted
