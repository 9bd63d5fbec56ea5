"""The cause catalogue: why a stage failed, and what to do about it. Data, except for one small search.

``explain`` takes the first cause that fits, so that in every chapter the special ones come before the general.
"""

from __future__ import annotations

from collections.abc import Mapping

from keyrelay.relay.causes.envelope import ENVELOPE
from keyrelay.relay.causes.message import MESSAGE
from keyrelay.relay.causes.model import Cause, Explanation, Surroundings, fill, words
from keyrelay.relay.causes.network import NETWORK
from keyrelay.relay.causes.otherwise import OTHERWISE
from keyrelay.relay.causes.sign_in import SIGN_IN
from keyrelay.relay.causes.tls import TLS
from keyrelay.relay.causes.token import TOKEN
from keyrelay.relay.causes.token_network import TOKEN_NETWORK
from keyrelay.relay.causes.turned_away import TURNED_AWAY
from keyrelay.relay.causes.vault import VAULT
from keyrelay.relay.model import Evidence

__all__ = ["CAUSES", "CHAPTERS", "Cause", "Explanation", "Surroundings", "explain"]

CHAPTERS: Mapping[str, tuple[Cause, ...]] = {
    "Credentials from a vault": VAULT,
    "Reaching the relay": NETWORK,
    "TLS": TLS,
    "Reaching the token endpoint": TOKEN_NETWORK,
    "Getting a token": TOKEN,
    "Turned away": TURNED_AWAY,
    "Signing in": SIGN_IN,
    "Sender and recipient": ENVELOPE,
    "The message": MESSAGE,
    "Anything else": OTHERWISE,
}
CAUSES: tuple[Cause, ...] = tuple(cause for chapter in CHAPTERS.values() for cause in chapter)


def explain(evidence: Evidence, around: Surroundings) -> Explanation:
    """The cause of a failed stage, in words for this case. There is always one."""
    cause = next(cause for cause in CAUSES if cause.fits(evidence, around))
    known = words(evidence, around)
    return Explanation(cause, fill(cause.sentence, known), fill(cause.remedy, known))
