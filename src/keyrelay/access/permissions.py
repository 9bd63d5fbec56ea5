"""Access-control strings: paths with a leading and a trailing slash; each grants all that begins with it.

Contract 1.8. ``/`` grants everything, ``/system_settings/`` both reading and changing the settings. One string grants
less than begins with it: ``/messages/submit/`` is the right to send in the profile's name, and in no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from keyrelay.errors import Unsuitable

EVERYTHING = "/"
READ_SETTINGS = "/system_settings/read/"
MODIFY_SETTINGS = "/system_settings/modify/"
READ_PAM = "/pam/read/"
MODIFY_PAM = "/pam/modify/"
READ_AUDIT = "/auditing/read/"
READ_METRICS = "/metrics/read/"
SUBMIT = "/messages/submit/"
SUBMIT_AS = "/messages/submit/as/"
READ_MESSAGES = "/messages/read/"
READ_CONTENT = "/messages/raw/"
MODIFY_MESSAGES = "/messages/modify/"
READ_SECURITY = "/security/read/"
MODIFY_SECURITY = "/security/modify/"

# Every string that something asks for; a test holds it against the routes.
ASKED = (
    READ_SETTINGS,
    MODIFY_SETTINGS,
    READ_PAM,
    MODIFY_PAM,
    READ_METRICS,
    SUBMIT,
    SUBMIT_AS,
    READ_MESSAGES,
    READ_CONTENT,
    MODIFY_MESSAGES,
    READ_SECURITY,
    MODIFY_SECURITY,
    READ_AUDIT,
)

# What each string grants that can be given, in words.
MEANINGS: Mapping[str, str] = {
    EVERYTHING: "everything, and whatever there will be",
    "/auditing/": "all about the audit trail",
    READ_AUDIT: "read the audit trail",
    "/messages/": "all about messages and the outbox",
    MODIFY_MESSAGES: "cancel, release and resend messages; pause and resume the outbox",
    READ_CONTENT: "see what is in a message",
    READ_MESSAGES: "see messages, their states, addresses and replies, and the state of the outbox",
    SUBMIT: "hand messages in, from the profile's sender",
    SUBMIT_AS: "hand messages in, from any address",
    "/metrics/": "all about metrics",
    READ_METRICS: "read /metrics",
    "/pam/": "all about PAM providers",
    MODIFY_PAM: "add, change and remove PAM providers and their entries",
    READ_PAM: "see PAM providers, try them, and name them in the profile",
    "/security/": "all about roles, users, claims, identity providers and API tokens",
    MODIFY_SECURITY: "change roles, users, claims, identity providers and API tokens",
    READ_SECURITY: "see roles, users, claims, identity providers and API tokens",
    "/system_settings/": "all about the profile, and see the health",
    MODIFY_SETTINGS: "change and test the profile",
    READ_SETTINGS: "see the profile, its history and the health",
}

_SEGMENT = r"[a-z0-9_.@+-]{1,254}"  # an address fits (RFC 5321 section 4.5.3.1)
_SHAPE = re.compile(rf"/(?:{_SEGMENT}/){{0,8}}", re.ASCII)
_ADDRESS = re.compile(_SEGMENT, re.ASCII)


def permission(text: str) -> str:
    """Bring a permission string into its one form: lower case, slashes at both ends. Raises Unsuitable."""
    given = text.strip().lower()
    path = given if given == EVERYTHING else "/" + given.removeprefix("/").removesuffix("/") + "/"
    if not _SHAPE.fullmatch(path):
        raise Unsuitable(
            f"{text!r} is not a permission string.", remedy="Write it as a path, such as /system_settings/read/."
        )
    return path


def granted(held: Iterable[str], needed: str) -> bool:
    """Whether one of the strings held grants the one needed."""
    return any(_covers(_meaning(string), needed) for string in held)


def every() -> list[str]:
    """Every permission string there is to give: those that something asks for, and the broader ones that grant them."""
    found = {EVERYTHING}
    for string in ASKED:
        places = [place for place, character in enumerate(string) if character == "/"]
        found.update(string[: place + 1] for place in places)
    return sorted(found)


def beyond(held: Iterable[str], strings: Iterable[str]) -> list[str]:
    """Those of the strings that grant more than what is held, sorted."""
    mine = tuple(held)
    return sorted({string for string in strings if not granted(mine, _meaning(string))})


def sending_as(address: str) -> str:
    """The string needed to send in the name of this address, whose letters may be written either way.

    For one that no string can name, it is that for all addresses.
    """
    named = address.lower() if address.isascii() else ""  # some letters beyond ASCII have one of ASCII in lower case
    return f"{SUBMIT_AS}{named}/" if _ADDRESS.fullmatch(named) else SUBMIT_AS


def broadest(held: Iterable[str]) -> list[str]:
    """The strings held, sorted, without those that a broader one among them covers."""
    strings = {_meaning(string): string for string in sorted(set(held))}  # one for each meaning
    return sorted(
        string
        for meaning, string in strings.items()
        if not any(meaning != other and _covers(other, meaning) for other in strings)
    )


def _covers(held: str, needed: str) -> bool:
    return needed.startswith(held) and not (held == SUBMIT and needed.startswith(SUBMIT_AS))


def _meaning(string: str) -> str:
    # Upstream's pages print the area both ways (contract D19).
    return (
        "/system_settings/" + string.removeprefix("/system_setting/")
        if string.startswith("/system_setting/")
        else string
    )
