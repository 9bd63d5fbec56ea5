"""Signing in at the relay: one AUTH with one mechanism, once (RFC 4954).

PLAIN is RFC 4616, LOGIN a draft that everybody speaks, XOAUTH2 Google's and Microsoft's, OAUTHBEARER RFC 7628.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keyrelay.relay.dialogue import CONTINUE, Dialogue
from keyrelay.relay.model import Reply, failed
from keyrelay.relay.token import TokenRequest
from keyrelay.secrets.model import SecretText


@dataclass(frozen=True, slots=True)
class NoSignIn:
    """The relay takes our mail as it is."""


@dataclass(frozen=True, slots=True)
class PasswordSignIn:
    """A user name and a password."""

    user: SecretText
    password: SecretText


@dataclass(frozen=True, slots=True)
class TokenSignIn:
    """A token from the identity provider, for the user that the mail is from."""

    user: str
    request: TokenRequest


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token, whose it is, and the relay it is shown to."""

    user: str
    token: SecretText
    host: str
    port: int


Credentials = NoSignIn | PasswordSignIn | TokenSignIn
"""How to sign in, with the secrets in the clear: made at the moment of use, and not kept."""


def choose(credentials: PasswordSignIn | TokenSignIn, offered: frozenset[str]) -> str:
    """The mechanism for these credentials. Raises StageFailed at ``auth`` when there is none."""
    usable = ("PLAIN", "LOGIN") if isinstance(credentials, PasswordSignIn) else ("XOAUTH2", "OAUTHBEARER")
    chosen = next((mechanism for mechanism in usable if mechanism in offered), None)
    if chosen is None:
        kind = "no_mechanism" if offered else "not_offered"
        raise failed("auth", kind, detail=", ".join(sorted(offered)) or "AUTH", offered=sorted(offered))  # type: ignore[arg-type]
    return chosen


async def with_password(dialogue: Dialogue, mechanism: str, credentials: PasswordSignIn) -> None:
    """AUTH PLAIN or LOGIN. Raises StageFailed with the relay's reply."""
    user, password = credentials.user.reveal().encode(), credentials.password.reveal().encode()
    if mechanism == "PLAIN":
        reply = await dialogue.say_hidden(
            _initial("PLAIN", b"\0%s\0%s" % (user, password)), "AUTH PLAIN with credentials"
        )
    else:
        reply = await dialogue.say_hidden(b"AUTH LOGIN", "AUTH LOGIN")
        if reply.code == CONTINUE:
            reply = await dialogue.say_hidden(base64.b64encode(user), "user name")
        if reply.code == CONTINUE:
            reply = await dialogue.say_hidden(base64.b64encode(password), "password")
    if not reply.positive:
        raise failed("auth", "reply", reply=_shown(reply), mechanism=mechanism)


async def with_token(dialogue: Dialogue, mechanism: str, bearer: Bearer, clean: Callable[[str], str]) -> None:
    """AUTH XOAUTH2 or OAUTHBEARER. Raises StageFailed with the relay's reply and what it explained in JSON."""
    token = b"auth=Bearer " + bearer.token.reveal().encode()
    if mechanism == "XOAUTH2":
        response, goodbye = b"user=%s\x01%s\x01\x01" % (bearer.user.encode(), token), b""
    else:
        # RFC 5801 section 4: these two are written otherwise.
        name = bearer.user.replace("=", "=3D").replace(",", "=2C").encode()
        response = b"n,a=%s,\x01host=%s\x01port=%d\x01%s\x01\x01" % (name, bearer.host.encode(), bearer.port, token)
        goodbye = base64.b64encode(b"\x01")
    reply = await dialogue.say_hidden(_initial(mechanism, response), f"AUTH {mechanism} with a token")
    challenge: dict[str, Any] = {}
    if reply.code == CONTINUE:  # a refusal, explained; the relay says no after we have taken note
        challenge = _decoded(reply, clean)
        reply = await dialogue.say_hidden(goodbye, "an empty answer to the relay's explanation")
    if not reply.positive:
        detail = "; ".join(f"{name} {value}" for name, value in challenge.items())
        raise failed("auth", "reply", reply=_shown(reply), detail=detail, mechanism=mechanism, explained=challenge)


def _initial(mechanism: str, response: bytes) -> bytes:
    return b"AUTH %s %s" % (mechanism.encode(), base64.b64encode(response))


def _shown(reply: Reply) -> Reply:
    """A refusal as people may read it. The text of a 334 is for us alone: it may hold what we have just sent."""
    return Reply(CONTINUE, ()) if reply.code == CONTINUE else reply


def _decoded(reply: Reply, clean: Callable[[str], str]) -> dict[str, Any]:
    try:
        explained = json.loads(base64.b64decode(reply.text, validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    if not isinstance(explained, dict):
        return {}
    known = ("status", "schemes", "scope", "openid-configuration")
    return {name: clean(str(explained[name]))[:300] for name in known if name in explained}
