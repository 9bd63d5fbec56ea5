"""What the relay said of a recipient, in words for a person: the cause, and what to do about it."""

from __future__ import annotations

from functools import lru_cache

from keyrelay.outbox.model import Recipient, Said
from keyrelay.profile.draft import draft_of
from keyrelay.profile.model import OAuthClientCredentials, SmtpProfile
from keyrelay.relay.causes import Explanation, Surroundings, explain
from keyrelay.relay.model import Evidence, Reply


def explained(recipient: Recipient, sender: str, profile: SmtpProfile | None) -> Explanation | None:
    """Why the recipient has not got its message yet; None when it has, or when nobody has said anything.

    ``sender`` is that of the message. Without a profile there is no relay to speak of.
    """
    said = recipient.said
    if said is None or profile is None or recipient.state == "accepted" or _is_positive(said):
        return None
    return explained_words(said, recipient.address, sender, profile)


def explained_words(said: Said, address: str | None, sender: str, profile: SmtpProfile) -> Explanation:
    """The cause of what was said. ``address``: of whom, if of one recipient."""
    return _explained(said, _surroundings(profile, sender, address))


def _is_positive(said: Said) -> bool:
    """The relay took this recipient, and then the whole message came to nothing."""
    return said.kind == "reply" and (said.code or 0) // 100 == 2  # noqa: PLR2004 - RFC 5321 section 4.2.1


@lru_cache(maxsize=4096)  # looking through the catalogue takes a while, and the same is said of many
def _explained(said: Said, around: Surroundings) -> Explanation:
    reply = Reply(said.code or 0, (said.text,)) if said.kind == "reply" else None
    facts = {"status": said.code} if reply is None and said.code is not None else {}
    return explain(Evidence(said.stage, said.kind, reply, said.text if reply is None else "", facts), around)


def _surroundings(profile: SmtpProfile, sender: str, recipient: str | None) -> Surroundings:
    oauth = profile.authentication if isinstance(profile.authentication, OAuthClientCredentials) else None
    return Surroundings(
        host=profile.host.removesuffix("."),
        port=profile.port,
        security=profile.security,
        sign_in=draft_of(profile).authentication,
        sender=sender,
        recipient=recipient,
        token_endpoint=oauth.token_endpoint if oauth else None,
    )
