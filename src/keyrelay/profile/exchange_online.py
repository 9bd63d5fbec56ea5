"""Exchange Online and passwords: when Microsoft ends signing in with them (MC786329, update of 2026-01-27)."""

from __future__ import annotations

import re

from keyrelay.profile.draft import SignIn

HOSTS = r"(^|\.)(office365\.(com|us)|outlook\.com|partner\.outlook\.cn)$"
"""The shape of its host names, in any case."""

PASSWORDS_END = (
    "The profile signs in to Exchange Online with a password, which existing organisations can do unchanged until "
    "the end of December 2026; then it is off by default, an administrator may switch it on again, and the final "
    "date is to be announced in the second half of 2027 (MC786329, as of 2026-01-27)."
)
REMEDY = "Change the profile to OAuth client credentials before."


def is_host(host: str) -> bool:
    """Whether the relay is one of Exchange Online."""
    return re.search(HOSTS, host.removesuffix("."), re.IGNORECASE) is not None


def password_ends(host: str, sign_in: SignIn | str) -> bool:
    """Whether what ``PASSWORDS_END`` says is true of a profile with this host and sign-in."""
    return sign_in == "basic" and is_host(host)
