"""Trying a provider: whether a secret can be had, how long that takes, and never what it is."""

from __future__ import annotations

from dataclasses import dataclass

from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.explanations import EXPLANATIONS
from keyrelay.pam.fetching import Vaults
from keyrelay.secrets.model import FromPam, has_control


@dataclass(frozen=True, slots=True)
class Trial:
    """``verdict`` is found, or the problem. ``detail`` says which thing exactly, where anything does."""

    verdict: str
    milliseconds: float
    sentence: str
    detail: str | None = None
    remedy: str | None = None


async def attempt(vaults: Vaults, reference: FromPam) -> Trial:
    """Ask the vault now, whatever is kept. Raises what the store raises."""
    began = vaults.clock()
    try:
        fetched = await vaults.fetch(reference, not_before=began)
    except VaultFailed as failure:
        told = EXPLANATIONS[failure.problem]
        milliseconds = (vaults.clock() - began) * 1000
        return Trial(failure.problem, milliseconds, told.sentence, failure.detail or None, told.remedy)
    known = fetched.provider.type.levels(instance=True)
    if any(value and name not in known for name, value in reference.parameters.items()):
        # A profile that names it is refused: what was found without it may be something else than was meant.
        told = EXPLANATIONS["bad_parameter"]
        takes = f"{fetched.provider.type.name} takes {' and '.join(known)}, spelled exactly so, and nothing else"
        return Trial("bad_parameter", fetched.seconds * 1000, told.sentence, takes, told.remedy)
    detail = None
    if has_control(fetched.text.reveal()):
        detail = "the value holds line breaks or other control characters, which no user name or password may have"
    return Trial("found", fetched.seconds * 1000, "The vault gives this secret.", detail)
