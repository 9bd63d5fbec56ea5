"""The dialogues of AUTH (RFC 4954): each mechanism yields challenges and is sent the responses."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Generator, Mapping

_Check = Callable[[str, str], bool]
# Yields challenges, is sent responses, and checks what they claim.
_Dialogue = Generator[bytes, bytes, None]

_XOAUTH2 = re.compile(r"user=([^\x01]*)\x01auth=Bearer ([^\x01]*)\x01\x01")
_OAUTHBEARER = re.compile(
    r"[ny],(?:a=([^,\x01]*))?,\x01(?:[A-Za-z]+=[^\x01]*\x01)*?auth=Bearer ([^\x01]*)\x01(?:[A-Za-z]+=[^\x01]*\x01)*\x01"
)


class Malformed(Exception):
    """A response is not what its mechanism says."""


def _decoded(response: str) -> bytes:
    """A response line, or an initial response. Raises Malformed."""
    try:
        return base64.b64decode(response.encode(), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed from None


def _plain(check: _Check) -> _Dialogue:
    """RFC 4616: authorization identity, user and password with NUL between them."""
    parts = _text((yield b"")).split("\0")
    if len(parts) != 3 or not parts[1]:  # noqa: PLR2004
        raise Malformed
    _, user, password = parts
    check(user, password)


def _login(check: _Check) -> _Dialogue:
    user = _text((yield b"Username:"))
    password = _text((yield b"Password:"))
    check(user, password)


def _xoauth2(check: _Check) -> _Dialogue:
    found = _XOAUTH2.fullmatch(_text((yield b"")))
    if found is None:
        raise Malformed
    if check(found[1], found[2]):
        return
    refusal = {"status": "401", "schemes": "Bearer", "scope": "https://mail.test/.default"}
    if (yield json.dumps(refusal).encode()) != b"":
        raise Malformed


def _oauthbearer(check: _Check) -> _Dialogue:
    """RFC 7628: a GS2 header, key-value pairs; the refusal's challenge is answered by one ^A."""
    found = _OAUTHBEARER.fullmatch(_text((yield b"")))
    if found is None:
        raise Malformed
    user = (found[1] or "").replace("=2C", ",").replace("=3D", "=")
    if check(user, found[2]):
        return
    refusal = {"status": "invalid_token", "scope": "https://mail.test/.default"}
    if (yield json.dumps(refusal).encode()) != b"\x01":
        raise Malformed


def _text(response: bytes) -> str:
    try:
        return response.decode()
    except UnicodeDecodeError:
        raise Malformed from None


_DIALOGUES: Mapping[str, Callable[[_Check], _Dialogue]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    "XOAUTH2": _xoauth2,
    "OAUTHBEARER": _oauthbearer,
}

_REFUSALS: Mapping[str, bytes] = {
    "PLAIN": b"535 5.7.8 user and password do not fit\r\n",
    "LOGIN": b"535 5.7.8 user and password do not fit\r\n",
    "XOAUTH2": b"535 5.7.3 Authentication unsuccessful\r\n",
    "OAUTHBEARER": b"535 5.7.3 Authentication unsuccessful\r\n",
}


class Exchange:
    """One AUTH, from its command to its end. ``user`` is who it was about, ``accepted`` whether ``check`` agreed."""

    def __init__(self, mechanism: str, check: _Check) -> None:
        self.user: str | None = None
        self.accepted = False
        self.refusal = _REFUSALS[mechanism]
        self._check = check
        self._sent: list[str] = []
        self._dialogue = _DIALOGUES[mechanism](self._checked)
        self._challenge: bytes | None = next(self._dialogue)

    def respond(self, response: str | None) -> bytes | None:
        """The next challenge in base64, or None when the dialogue has ended. Raises Malformed.

        ``response`` is None for an AUTH without initial response; ``=`` is the empty one (RFC 4954 section 4).
        """
        if response is not None:
            self._sent.append(response)
            try:
                self._challenge = self._dialogue.send(_decoded("" if response == "=" else response))
            except StopIteration:
                self._challenge = None
        return None if self._challenge is None else base64.b64encode(self._challenge)

    def echo(self) -> bytes:
        """A refusal that repeats what was sent, as it came and decoded."""
        decoded = [_decoded(line).decode(errors="replace") for line in self._sent if line != "="]
        said = " ".join((*self._sent, *decoded))
        return f"535 5.7.8 refused: {re.sub(r'[^ -~]', ' ', said)}\r\n".encode()

    def _checked(self, user: str, secret: str) -> bool:
        self.user, self.accepted = user, self._check(user, secret)
        return self.accepted
