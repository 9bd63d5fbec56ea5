"""A strict mail server in a process of its own: what it takes is written down before it says so.

``python recording_relay.py OPTIONS`` with Options as JSON. It may be killed at any time, and started again with them.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import sys
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from keyrelay.chaos.certificates import Certificates
from keyrelay.chaos.grammar import unstuffed
from keyrelay.chaos.relay import ChaosRelay
from keyrelay.chaos.script import EXTENSIONS, Script
from keyrelay.chaos.session import Session

REFUSED, GREY = "refused-", "grey-"  # how addresses begin that are not taken: never, or not at once
_LONGEST_HESITATION = 0.12
_HEADERS = re.compile(rb"(?im)^message-id:[ \t]*(\S+)[ \t]*\r\n")
_CONTENT_STAGES = frozenset({"body", "bdat"})


@dataclass(frozen=True)
class Options:
    """``certificates``: the directory of the authority. ``mechanism`` None: anybody may send, and there is no TLS.

    While the file ``silence`` exists, messages are taken and not answered.
    """

    port: int
    record: str
    certificates: str
    silence: str
    mechanism: str | None = None
    user: str = ""
    password: str = ""
    chunking: bool = False


@dataclass(frozen=True)
class Taken:
    """A message that was taken. ``answer``: what was about to be said to it, None for nothing at all."""

    message_id: str
    recipients: tuple[str, ...]
    body: str
    answer: int | None


def digest(body: bytes) -> str:
    return blake2b(body, digest_size=8).hexdigest()


def read_record(file: Path) -> tuple[list[Taken], list[str]]:
    """Everything that was taken, and the mistakes that clients made in the protocol."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    mistakes = [line["mistake"] for line in lines if "mistake" in line]
    taken = [Taken(**line | {"recipients": tuple(line["recipients"])}) for line in lines if "mistake" not in line]
    return taken, mistakes


class Record:
    """Lines in a file: what was appended outlives this process."""

    def __init__(self, file: str) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, line: dict[str, object]) -> None:
        octets = json.dumps(line).encode() + b"\n"
        assert os.write(self._descriptor, octets) == len(octets)


class _Manners:
    """What is said to recipients that are not simply taken."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def get(self, address: str) -> bytes | None:
        if address.startswith(REFUSED):
            return b"550 5.1.1 nobody of that name\r\n"
        if address.startswith(GREY) and address not in self._seen:
            self._seen.add(address)
            return b"450 4.2.0 not yet\r\n"
        return None


class _Session(Session):
    relay: RecordingRelay
    _whole: Taken | None = None

    def _finish(self, content: bytes, *, dots: bool) -> None:
        head, _, body = (unstuffed(content) if dots else content).partition(b"\r\n\r\n")
        found = _HEADERS.findall(head + b"\r\n")
        name = found[0].decode() if len(found) == 1 else f"{len(found)} of them"
        answer = None if self.relay.silent else 250
        self._whole = Taken(name, tuple(self._recipients), digest(body), answer)
        super()._finish(content, dots=dots)
        self._whole = None

    def answer(self, stage: str, usual: bytes, *, scripted: bytes | None = None) -> int:
        if stage in _CONTENT_STAGES and self._whole is not None:
            self.relay.record.append(asdict(self._whole))
            if self._whole.answer is None:
                self.over = True
            else:
                asyncio.get_running_loop().call_later(self.relay.hesitation(), self._accept, usual)
            return 0
        return super().answer(stage, usual, scripted=scripted)

    def _accept(self, reply: bytes) -> None:
        if not self.over:
            self.say(reply)
            self.flush()


class RecordingRelay(ChaosRelay):
    def __init__(self, options: Options) -> None:
        self.record = Record(options.record)
        self._silence = options.silence
        signed = options.mechanism is not None
        script = Script(
            extensions=(*EXTENSIONS, *(["CHUNKING"] if options.chunking else [])),
            starttls=signed,
            auth=(options.mechanism,) if options.mechanism is not None else (),
            auth_needs_tls=signed,
            require_auth=signed,
            users={options.user: options.password},
        )
        directory = Path(options.certificates)
        certificates = Certificates(directory) if signed else None
        super().__init__(script, certificates=certificates, port=options.port, keep_messages=False, report=self._report)
        self._manners = _Manners()

    @property
    def silent(self) -> bool:
        return os.path.exists(self._silence)  # noqa: PTH110 - asked for each message

    def hesitation(self) -> float:
        """Seconds between what is taken and its answer, in which each of us may be killed."""
        return random.uniform(0, _LONGEST_HESITATION)

    def _session(self) -> Session:
        session = _Session(self._scripts[0], self._contexts[0], self._memory)
        session.relay = self
        session._rcpt_replies = self._manners  # type: ignore[assignment]
        return session

    def _report(self, _: int, text: str) -> None:
        if "mistake" in text:
            self.record.append({"mistake": text})


async def _run(options: Options) -> None:
    async with RecordingRelay(options):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_run(Options(**json.loads(sys.argv[1]))))
