"""Why a credential of the profile could not be had from its vault; the words are those that ``try`` uses."""

from __future__ import annotations

from keyrelay.pam.explanations import EXPLANATIONS
from keyrelay.relay.causes.model import Cause

VAULT: tuple[Cause, ...] = tuple(
    Cause(
        id="vault-" + problem.replace("_", "-"),
        stages=("vault",),
        kinds=(problem,),
        sentence=f"{told.sentence}[ ({{detail}}.)]",
        remedy=told.remedy,
        retry=told.passing,
    )
    for problem, told in EXPLANATIONS.items()
)
