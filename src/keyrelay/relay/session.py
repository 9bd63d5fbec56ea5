"""One signed-in SMTP session for a profile (RFC 5321), and messages handed over in as few round trips as it allows.

A test, a diagnosis and real delivery all go through here.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext, suppress

import msgspec

from keyrelay.relay import commands
from keyrelay.relay.commands import RESET, Body, dotted
from keyrelay.relay.extensions import Extensions
from keyrelay.relay.model import Content, Envelope, Evidence, Kind, Reply, Stage, StageFailed, failed
from keyrelay.relay.transcript import Redactor, Transcript
from keyrelay.relay.wire import ConnectionEnded, NotSmtp, Unasked, Wire

_GO_AHEAD = 354
_CLOSING = 421
_QUIT_SECONDS = 2.0


class Delivery(msgspec.Struct, frozen=True):
    """What the relay said to one message: to its sender, to each recipient, to its content.

    ``recipients`` has the recipients the relay was asked about, in order; ``data`` is None when no content was sent.
    ``round_trips``: how often we waited for the relay.
    """

    sender: Reply
    recipients: tuple[tuple[str, Reply], ...] = ()
    data: Reply | None = None
    round_trips: int = 0

    @property
    def accepted(self) -> tuple[str, ...]:
        """The recipients for whom the relay has taken the message on (a 2xx after the content)."""
        if self.data is None or not self.data.positive:
            return ()
        return tuple(address for address, reply in self.recipients if reply.positive)

    def evidence(self) -> Evidence | None:
        """Of the first refusal that kept the message from everybody; None when nothing did."""
        if not self.sender.positive:
            return Evidence("sender", "reply", self.sender)
        if not any(reply.positive for _, reply in self.recipients):
            return _all_refused(self.recipients)
        if self.data is not None and not self.data.positive:
            return Evidence("data", "reply", self.data)
        return None


class Session:
    """An open session; ``opening.open_session`` makes one. Not for two messages at once.

    ``transcript`` records what is said, stage by stage, where somebody wants to know.
    """

    def __init__(
        self, wire: Wire, extensions: Extensions, redactor: Redactor, transcript: Transcript | None = None
    ) -> None:
        self.wire = wire
        self.extensions = extensions
        self._redactor = redactor
        self.opened_at = self.used_at = time.monotonic()
        self.messages = 0
        self._transcript = transcript
        self._unfinished = False  # whether the relay may still hold parts of a transaction
        self._handed_over = False  # whether the relay may have a whole message, and has not said yes or no to it
        self._round_trips = 0
        self._farewell: Reply | None = None

    @property
    def idle(self) -> bool:
        """Whether it can take a message: the connection stands, and the relay has not said goodbye meanwhile."""
        return self._farewell is None and self.wire.idle

    async def send(self, envelope: Envelope, content: bytes, *, needs_smtputf8: bool = False) -> Delivery:
        """Hand one message over. ``content`` that is no Content yet is made one, which raises ValueError.

        Raises StageFailed when the relay does not say yes or no: ``data`` with ``outcome_unknown`` when it may
        have taken the message on.
        """
        if not isinstance(content, Content):
            content = Content(content)
        self.messages += 1
        self.used_at = time.monotonic()
        with self._failures():
            self._enter("sender")
            mail = commands.mail(envelope.sender, content, self.extensions, needs_smtputf8=needs_smtputf8)
            return await self._transaction(mail, envelope, content)

    async def try_envelope(self, envelope: Envelope, *, needs_smtputf8: bool = False) -> Delivery:
        """Ask the relay about sender and recipients, and take everything back: nobody gets mail."""
        with self._failures():
            self._enter("sender")
            mail = commands.mail(envelope.sender, b"", self.extensions, needs_smtputf8=needs_smtputf8)
            delivery = await self._transaction(mail, envelope, None)
            try:
                self._unfinished = not (await self._ask("recipient", RESET, written=False)).positive
            except StageFailed:
                self.wire.abort()  # what we asked was answered; the session is over
            return delivery

    async def quit(self) -> None:
        """End the session as the protocol asks for, whatever the relay makes of it."""
        try:
            if self.wire.idle:
                self.wire.seconds = min(self.wire.seconds, _QUIT_SECONDS)
                self.wire.write(b"QUIT\r\n")
                with suppress(TimeoutError, ConnectionEnded, NotSmtp):
                    await self.wire.reply()
            await self.wire.close()
        except BaseException:
            self.wire.abort()
            raise

    # --- One message -----------------------------------------------------------------------------------------

    async def _transaction(self, mail: bytes, envelope: Envelope, content: bytes | None) -> Delivery:
        """MAIL, RCPT and the content, in one write where the relay can take that (RFC 2920)."""
        self._round_trips, self._handed_over = 0, False
        together = self.extensions.pipelining
        recipients = list(map(commands.rcpt, envelope.recipients))
        body = None if content is None else commands.body(content, self.extensions)
        reset, self._unfinished = self._unfinished, True
        if together:
            early = [] if body is None else body.early
            self._write("sender", *([RESET] if reset else []), mail, *recipients, *early)
            self._handed_over = body is not None and body.chunk and bool(early)
        if reset:
            await self._ask("sender", RESET, written=together)
        sender = (self._ready() if together else None) or await self._ask("sender", mail, written=together)
        self._leave(None if sender.positive else Evidence("sender", "reply", sender))
        if not (sender.positive or together):
            return Delivery(sender, round_trips=self._round_trips)
        asked: tuple[tuple[str, Reply], ...] = ()
        data, wanted = None, sender.positive
        try:
            asked = await self._recipients(envelope, recipients, sender, written=together, last=body is None)
            wanted = wanted and _somebody_accepted(asked)
            self._handed_over = self._handed_over and wanted
            if body is not None and (wanted or (together and body.early)):
                data = await self._hand_over(body, written=together and bool(body.early), wanted=wanted)
        except StageFailed:
            if wanted:
                raise
            # Nobody gets the message; that the rest was not answered changes nothing of it, but ends the session.
            self.wire.abort()
        self._unfinished = data is None or not data.positive
        return Delivery(sender, asked, data, self._round_trips)

    async def _recipients(
        self, envelope: Envelope, lines: list[bytes], sender: Reply, *, written: bool, last: bool
    ) -> tuple[tuple[str, Reply], ...]:
        """What the relay said to each recipient. ``last``: that nothing but a reset follows."""
        if sender.positive:
            self._enter("recipient")
        if written:
            said = [self._ready() or await self._answer("recipient", line) for line in lines]
        else:
            said = [await self._ask("recipient", line, written=False) for line in lines]
        if last:
            self._ensure_in_step("recipient")
        asked = tuple(zip(envelope.recipients, said, strict=True))
        if sender.positive and self._transcript is not None:
            self._leave(None if _somebody_accepted(asked) else _all_refused(asked))
        return asked

    async def _hand_over(self, body: Body, *, written: bool, wanted: bool) -> Reply | None:
        """The relay's answer to the content; None when nobody wants it."""
        if wanted:
            self._enter("data")
        if body.chunk:
            if not written:
                self._write("data", body.command)
                self._handed_over = await self._write_much(body.content) and wanted
            reply = await self._answer("data", body.command)
            self._ensure_in_step("data")
        else:
            reply = (self._ready(go_ahead=True) if written else None) or await self._ask(
                "data", body.command, written=written
            )
            if reply.positive:
                raise failed("data", "not_smtp", detail="an answer that DATA cannot have")
            if reply.code == _GO_AHEAD:
                # When nobody wants it after all, nothing but the end of it follows (RFC 2920 section 3.1).
                self._handed_over = await self._write_much(dotted(body.content) if wanted else b".\r\n") and wanted
                self._round_trips += 1
                reply = await self._answer("data", None)
        if not wanted:
            return None
        if self._transcript is not None:
            self._transcript.learned["answer"] = str(reply)
        self._leave(None if reply.positive else Evidence("data", "reply", reply))
        return reply

    # --- Lines and replies -----------------------------------------------------------------------------------

    def _ready(self, *, go_ahead: bool = False) -> Reply | None:
        """A reply that needs neither waiting nor a second look: the common case in a busy session."""
        return self.wire.ready(go_ahead=go_ahead) if self._transcript is None else None

    async def _ask(self, stage: Stage, line: bytes, *, written: bool) -> Reply:
        if not written:
            self._write(stage, line)
        return await self._answer(stage, line)

    def _write(self, stage: Stage, *pieces: bytes) -> None:
        """Commands, with a message perhaps, each of which gets an answer."""
        self._round_trips += 1
        try:
            self.wire.write(b"".join(pieces), len(pieces))
        except Unasked as problem:
            raise failed(stage, "not_smtp", detail=str(problem)) from None

    def _ensure_in_step(self, stage: Stage) -> None:
        """The last answer was read. Raises StageFailed when there is one more: then each may be another's."""
        if self.wire.unasked:
            raise self._lost(stage, "not_smtp", str(Unasked()))

    async def _write_much(self, content: bytes) -> bool:
        """Whether all of it was sent. Why not is found when the answer is read."""
        try:
            await self.wire.write_much(content)
        except Unasked as problem:
            raise failed("data", "not_smtp", detail=str(problem)) from None
        except TimeoutError:
            raise failed("data", "timeout") from None
        except (ConnectionEnded, NotSmtp):
            return False
        return True

    async def _answer(self, stage: Stage, line: bytes | None) -> Reply:
        """The reply to ``line``, which has been written; None stands for the message."""
        if self._transcript is not None:
            _note(line, self._transcript)
        try:
            reply = await self.wire.reply()
        except asyncio.CancelledError:
            if self._handed_over:
                self._leave(Evidence("data", "outcome_unknown"))
            raise
        except (TimeoutError, ConnectionEnded, NotSmtp) as problem:
            reply = self._unanswered(stage, problem)
        # What people will read may repeat what was sent to sign in.
        if self._transcript is not None:
            reply = self._transcript.received(reply)
        elif not reply.positive or stage == "data":
            reply = self._redactor.reply(reply)
        if reply.code == _CLOSING:
            self._farewell = reply
        return reply

    def _unanswered(self, stage: Stage, problem: Exception) -> Reply:
        """What counts as the answer when none has come. Raises StageFailed when nothing does."""
        if isinstance(problem, ConnectionEnded):
            if self._farewell is not None:
                return self._farewell  # was the answer to everything after it, too (RFC 5321 section 3.8)
            raise self._lost(stage, "closed") from None
        if isinstance(problem, NotSmtp):
            raise self._lost(stage, "not_smtp", str(problem)) from None
        raise self._lost(stage, "timeout") from None

    def _lost(self, stage: Stage, kind: Kind, detail: str = "") -> StageFailed:
        if self._handed_over:
            return failed("data", "outcome_unknown", detail=detail)
        return failed(stage, kind, detail=detail)

    # --- Stages, where somebody wants to know ----------------------------------------------------------------

    def _failures(self) -> AbstractContextManager[None]:
        return nullcontext() if self._transcript is None else self._transcript.failures()

    def _enter(self, stage: Stage) -> None:
        if self._transcript is not None:
            self._transcript.enter(stage)

    def _leave(self, evidence: Evidence | None = None) -> None:
        if self._transcript is not None:
            self._transcript.leave(evidence)


def _note(line: bytes | None, transcript: Transcript) -> None:
    if line is None:
        transcript.hidden("the message")
    else:
        transcript.sent(line.decode("utf-8", "replace").rstrip())


def _somebody_accepted(asked: tuple[tuple[str, Reply], ...]) -> bool:
    for _, reply in asked:  # noqa: SIM110 - half the time of any(), for each message
        if reply.positive:
            return True
    return False


def _all_refused(asked: tuple[tuple[str, Reply], ...]) -> Evidence:
    address, reply = asked[0]
    return Evidence("recipient", "reply", reply, facts={"recipient": address})
