"""The conversation of a session: lines and flights in, replies out, as the script has it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping

from keyrelay.chaos.connection import Connection
from keyrelay.chaos.grammar import Mistake
from keyrelay.chaos.memory import Memory
from keyrelay.chaos.script import MECHANISMS, MID, Script, reply_bytes, reply_code

_LONGEST_COMMAND = 1024  # RFC 5321 section 4.5.3.1.4 has 512, and extensions add to it
_LONGEST_LINE = 12288  # RFC 4954 section 4, for tokens

# Each waits for its own answer before anything may follow (RFC 2920 section 3.1, RFC 3207, RFC 4954).
_LAST_IN_FLIGHT = frozenset({"EHLO", "HELO", "DATA", "STARTTLS", "AUTH", "VRFY", "NOOP", "QUIT"})


class Conversation(Connection):
    """Reads what the client says, piece by piece; ``commands`` answer it.

    What is read next decides ``read``: a command, and then whatever the command made of it. It takes a piece from
    ``buffer``, or gives False when it needs more.
    """

    commands: Mapping[str, Callable[[str], None]]

    def __init__(self, script: Script, context: ssl.SSLContext | None, memory: Memory) -> None:
        super().__init__(script, context, memory)
        self.replies = {stage: reply_bytes(reply) for stage, reply in script.replies.items()}
        self.offered: Mapping[str, str] = {}  # extensions, as the client was told: upper-case name and parameters
        self.buffer = bytearray()
        self.read = self.read_command
        self.verbs: list[str] = []  # of the flight that is being read
        self.shown = ""  # what is being answered, without credentials

    # --- Reading -----------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        self.buffer += data
        try:
            while self.buffer and not self.over and self.read():
                pass
        except Mistake as mistake:  # one after which nothing that follows can be understood
            self.note(mistake)
            self.hang_up(politely=True)
        if self.verbs:
            self.memory.flight(self.number, self.verbs)
            self.verbs.clear()

    def line(self) -> str | None:
        """The next line, or None when it is not complete yet. Raises Mistake."""
        buffer = self.buffer
        end = buffer.find(b"\n", 0, _LONGEST_LINE)
        if end < 0:
            if len(buffer) >= _LONGEST_LINE:
                raise Mistake(b"500 5.5.2 line too long\r\n")
            return None
        if buffer[end - 1] != 13 or end == 0 or buffer.find(b"\r", 0, end - 1) >= 0:  # noqa: PLR2004 - CR
            raise Mistake(b"500 5.5.2 a line ends with CRLF, and with nothing else\r\n")
        line = bytes(buffer[: end - 1])
        del buffer[: end + 1]
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise Mistake(b"500 5.5.2 this is not UTF-8\r\n") from None

    def read_command(self) -> bool:
        line = self.line()
        if line is None:
            return False
        word, _, argument = line.partition(" ")
        verb = word.upper()
        is_auth = verb == "AUTH"
        self.shown = self._without_credentials(verb, line)
        self.verbs.append(verb)
        self.memory.command(self.number, line, self.shown)
        if self.buffer and verb != "BDAT":
            self.check_flight(alone=verb in _LAST_IN_FLIGHT)
        command = self.commands.get(verb, _unknown)
        try:
            (_too_long if len(line) > _LONGEST_COMMAND and not is_auth else command)(argument)
        except Mistake as mistake:
            self.note(mistake)
        return True

    def _without_credentials(self, verb: str, line: str) -> str:
        if verb == "AUTH":
            mechanism = line[5:].partition(" ")[0].upper()
            return f"AUTH {mechanism if mechanism in MECHANISMS else ''} (credentials)"
        # What is no command may be a password that came too late.
        return line if verb in self.commands else "(unknown command)"

    def check_flight(self, *, alone: bool = False) -> None:
        """More has arrived than what is being answered. Raises Mistake where the client had to wait."""
        if alone or "PIPELINING" not in self.offered:
            raise Mistake(b"503 5.5.0 improper use of pipelining\r\n")

    def note(self, mistake: Mistake) -> None:
        self.say(mistake.reply)
        self.memory.mistake(self.number, self.shown, mistake.reply.decode().rstrip())

    # --- Answering ---------------------------------------------------------------------------------------------

    def answer(self, stage: str, usual: bytes, *, scripted: bytes | None = None) -> int:
        """Say what the script has for this stage, or the usual. Gives the code said; 0 when none was."""
        script = self.script
        if stage == script.stall:
            self.over = True
            return 0
        if stage == script.close:
            self.hang_up()
            return 0
        reply = scripted or self.replies.get(stage, usual)
        if script.close is not None and script.close == MID + stage:
            self.say(reply[: len(reply) // 2])
            self.hang_up()
            return 0
        self.say(reply)
        code = reply_code(reply)
        if code == 421:  # noqa: PLR2004 - RFC 5321 section 3.8
            self.hang_up(politely=True)
        return code


def _unknown(_: str) -> None:
    raise Mistake(b"500 5.5.2 unknown command\r\n")


def _too_long(_: str) -> None:
    raise Mistake(b"500 5.5.2 line too long\r\n")
