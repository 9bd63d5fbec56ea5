"""One SMTP session (RFC 5321) as the script has it, strict with the client: a mistake is answered and remembered."""

from __future__ import annotations

import ssl

from keyrelay.chaos import grammar
from keyrelay.chaos.conversation import Conversation
from keyrelay.chaos.grammar import Mail, Mistake
from keyrelay.chaos.memory import Memory, Received
from keyrelay.chaos.script import AFTER_DOT, MID, Script, reply_bytes
from keyrelay.chaos.sign_in import Exchange, Malformed

NAME = "chaos.test"
_LARGEST_MESSAGE = 64 << 20  # where the script has no SIZE
_MOST_RECIPIENTS = 1000


class Session(Conversation):
    """What the client said so far, and what that allows it to say next."""

    def __init__(self, script: Script, context: ssl.SSLContext | None, memory: Memory) -> None:
        super().__init__(script, context, memory)
        self._rcpt_replies = {address: reply_bytes(reply) for address, reply in script.rcpt_replies.items()}
        self._chunks_scripted = "bdat" in {*script.replies, script.stall, (script.close or "").removeprefix(MID)}
        self.commands = {
            "EHLO": self._ehlo,
            "HELO": self._helo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail_from,
            "RCPT": self._rcpt_to,
            "DATA": self._data,
            "BDAT": self._bdat,
            "RSET": self._rset,
            "NOOP": self._noop,
            "VRFY": self._vrfy,
            "QUIT": self._quit,
        }
        self._forget_client()

    def _forget_client(self) -> None:
        self.offered = {}
        self._hello: str | None = None
        self._user: str | None = None
        self._forget_mail()

    def _forget_mail(self) -> None:
        self._mail: Mail | None = None
        self._recipients: list[str] = []
        self._refused = False  # whether a recipient was
        self._content = bytearray()  # of the chunks so far
        self._chunked = False
        self._missing, self._is_last = 0, False  # of the chunk that is arriving
        self._searched = 0
        self._too_large = False

    # --- Beginnings ---------------------------------------------------------------------------------------------

    def connected(self) -> None:
        if self.script.raw_greeting is not None:
            self.say(self.script.raw_greeting)
            self.over = True
            return
        self.answer("greeting", b"220 chaos.test ESMTP\r\n")

    def secured(self) -> None:
        self._forget_client()
        if self.script.implicit_tls:
            self.connected()

    # --- Commands ----------------------------------------------------------------------------------------------

    def _ehlo(self, argument: str) -> None:
        grammar.hello_name(argument)
        extensions = self._extensions()
        if _positive(self.answer("ehlo", reply_bytes(tuple(f"250 {line}" for line in (NAME, *extensions))))):
            self._forget_mail()
            self._hello = argument
            self.offered = {name.upper(): rest for name, _, rest in (line.partition(" ") for line in extensions)}

    def _helo(self, argument: str) -> None:
        grammar.hello_name(argument)
        if _positive(self.answer("helo", b"250 chaos.test\r\n")):
            self._forget_mail()
            self._hello = argument
            self.offered = {}

    def _extensions(self) -> list[str]:
        script = self.script
        extensions = list(script.extensions)
        if script.starttls and not self.tls:
            extensions.append("STARTTLS")
        if script.auth and (self.tls or not script.auth_needs_tls):
            extensions.append(" ".join(("AUTH", *script.auth)))
        return extensions

    def _starttls(self, argument: str) -> None:
        if argument:
            raise Mistake(b"501 5.5.4 STARTTLS takes no argument\r\n")
        if self.tls:
            raise Mistake(b"503 5.5.1 TLS is on already\r\n")
        if not self.script.starttls:
            raise Mistake(b"502 5.5.1 STARTTLS was not offered\r\n")
        if self.answer("starttls", b"220 2.0.0 begin TLS\r\n" + self.script.inject) == 220:  # noqa: PLR2004
            self.begin_tls()

    def _mail_from(self, argument: str) -> None:
        if self._hello is None:
            raise Mistake(b"503 5.5.1 say EHLO first\r\n")
        if self._mail is not None:
            raise Mistake(b"503 5.5.1 there is a sender already\r\n")
        if self.script.require_auth and self._user is None:
            self.answer("mail", b"530 5.7.0 Authentication required\r\n")
            return
        mail = grammar.mail(argument, self.offered)
        if mail.size is not None and mail.size > self._limit:
            self.answer("mail", b"552 5.3.4 message larger than the limit\r\n")
        elif _positive(self.answer("mail", b"250 2.1.0 ok\r\n")):
            self._mail = mail

    def _rcpt_to(self, argument: str) -> None:
        if self._mail is None:
            raise Mistake(b"503 5.5.1 say MAIL first\r\n")
        address = grammar.recipient(argument, utf8=self._mail.utf8)
        usual = b"250 2.1.5 ok\r\n"
        if len(self._recipients) >= _MOST_RECIPIENTS:
            usual = b"452 4.5.3 too many recipients\r\n"
        if _positive(self.answer("rcpt", usual, scripted=self._scripted(address))):
            self._recipients.append(address)
        else:
            self._refused = True

    def _scripted(self, recipient: str) -> bytes | None:
        return self._rcpt_replies.get(recipient) or self._rcpt_replies.get("@" + _domain(recipient))

    def _rset(self, _: str) -> None:
        if _positive(self.answer("rset", b"250 2.0.0 ok\r\n")):
            self._forget_mail()

    def _noop(self, _: str) -> None:
        self.say(b"250 2.0.0 ok\r\n")

    def _vrfy(self, _: str) -> None:
        self.say(b"252 2.5.0 send some mail, and see\r\n")

    def _quit(self, _: str) -> None:
        self.answer("quit", b"221 2.0.0 bye\r\n")
        if not self.over:
            self.hang_up(politely=True)

    # --- Content -----------------------------------------------------------------------------------------------

    def _data(self, argument: str) -> None:
        if argument:
            raise Mistake(b"501 5.5.4 DATA takes no argument\r\n")
        if self._mail is None:
            raise Mistake(b"503 5.5.1 say MAIL first\r\n")
        if self._chunked or self._mail.binary:
            raise Mistake(b"503 5.5.1 this message comes by BDAT\r\n")
        usual = b"354 end with a dot\r\n" if self._recipients else b"554 5.5.1 no valid recipients\r\n"
        if self.answer("data", usual) == 354:  # noqa: PLR2004
            self.shown = "content"
            self.read = self._read_content

    def _read_content(self) -> bool:
        buffer = self.buffer
        if buffer.startswith(b".\r\n") and not self._too_large:
            end, following = 0, 3
        else:
            end = buffer.find(b"\r\n.\r\n", max(0, self._searched - 4)) + 2
            following = end + 3
        if end == 1:
            if len(buffer) > self._limit:
                self._too_large = True
                del buffer[:-4]
            self._searched = len(buffer)
            return False
        content = bytes(buffer[:end])
        del buffer[:following]
        self._too_large = self._too_large or end > self._limit
        self.read = self.read_command
        self.verbs.append(".")
        if buffer:
            self.check_flight()
        self._finish(content, dots=True)
        return True

    def _bdat(self, argument: str) -> None:
        size, last = grammar.chunk(argument)
        if "CHUNKING" not in self.offered:
            raise Mistake(b"502 5.5.1 CHUNKING was not offered\r\n")
        self._missing, self._is_last = size, last
        self._chunked = True
        self.read = self._read_chunk
        if not size:
            self._read_chunk()

    def _read_chunk(self) -> bool:
        part = self.buffer[: self._missing]
        self._missing -= len(part)
        self._too_large = self._too_large or len(self._content) + len(part) > self._limit
        if self._recipients and not self._too_large:
            self._content += part
        del self.buffer[: len(part)]
        if self._missing:
            return False
        self.read = self.read_command
        if self.buffer:
            self.check_flight()
        if self._refused and not self._recipients:  # who pipelines learns it too late (RFC 2920 section 3.1)
            self.say(b"503 5.5.1 no valid recipients\r\n")
        elif not self._recipients:
            self.note(Mistake(b"503 5.5.1 say MAIL and RCPT first\r\n"))
            self._forget_mail()
        elif self._is_last:
            self._finish(bytes(self._content), dots=False)
        else:
            self.answer("bdat", b"250 2.0.0 chunk received\r\n")
        return True

    def _finish(self, content: bytes, *, dots: bool) -> None:
        """The whole message is here."""
        mail, recipients, too_large = self._mail, tuple(self._recipients), self._too_large
        assert mail is not None  # noqa: S101 - there are recipients
        self._forget_mail()
        try:
            if dots:
                content = grammar.unstuffed(content)
            grammar.check_content(content, mail)
        except Mistake as mistake:
            if not too_large:
                self.note(mistake)
                return
        message = Received(mail.sender, recipients, content, self.number, self._user, self.tls, mail.parameters)
        if self.script.close == AFTER_DOT or not self.script.lost.isdisjoint(map(_domain, recipients)):
            self.memory.message(message)
            self.hang_up()
            return
        usual = b"552 5.3.4 message larger than the limit\r\n" if too_large else b"250 2.0.0 ok, taken\r\n"
        stage = "body" if dots or not self._chunks_scripted else "bdat"
        if _positive(self.answer(stage, usual)):
            self.memory.message(message)

    @property
    def _limit(self) -> int:
        return int(self.offered.get("SIZE") or 0) or _LARGEST_MESSAGE

    # --- Signing in --------------------------------------------------------------------------------------------

    def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        mechanism = mechanism.upper()
        if self._user is not None:
            raise Mistake(b"503 5.5.1 you are signed in already\r\n")
        if self._mail is not None:
            raise Mistake(b"503 5.5.1 not within a message\r\n")
        if self.script.auth_needs_tls and not self.tls:
            raise Mistake(b"538 5.7.11 Encryption required for this mechanism\r\n")
        if "AUTH" not in self.offered:
            raise Mistake(b"502 5.5.1 AUTH was not offered\r\n")
        if mechanism not in self.script.auth:
            raise Mistake(b"504 5.5.4 this mechanism was not offered\r\n")
        if self.script.stall == "auth" or self.script.close in {"auth", MID + "auth"}:
            self.answer("auth", b"334 \r\n")
            return
        self._exchange = Exchange(mechanism, self._fits)
        self._continue(initial or None)

    def _read_response(self) -> bool:
        line = self.line()
        if line is None:
            return False
        self.shown = "(credentials)"
        self.memory.command(self.number, line, self.shown)
        self.verbs.append(self.shown)
        if self.buffer:
            self.check_flight(alone=True)
        self.read = self.read_command
        if line == "*":
            self.say(b"501 5.0.0 given up, as you wish\r\n")
            return True
        try:
            self._continue(line)
        except Mistake as mistake:
            self.note(mistake)
        return True

    def _continue(self, response: str | None) -> None:
        exchange = self._exchange
        try:
            challenge = exchange.respond(response)
        except Malformed:
            raise Mistake(b"501 5.5.2 this is not what the mechanism says\r\n") from None
        if challenge is not None:
            self.say(b"334 " + challenge + b"\r\n")
            self.read = self._read_response
            return
        usual = b"235 2.7.0 welcome\r\n" if exchange.accepted else exchange.refusal
        if self.script.echo_credentials:
            usual = exchange.echo()
        if self.answer("auth", usual) == 235:  # noqa: PLR2004 - RFC 4954 section 6
            self._user = exchange.user

    def _fits(self, user: str, secret: str) -> bool:
        if "auth" in self.replies:
            return True  # the verdict is scripted; no challenge comes before it
        if self.script.echo_credentials:
            return False
        return self.script.users.get(user) == secret or (
            self.script.admits is not None and self.script.admits(user, secret)
        )


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _positive(code: int) -> bool:
    return 200 <= code < 300  # noqa: PLR2004 - RFC 5321 section 4.2.1
