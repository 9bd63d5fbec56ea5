"""What each problem with a vault means, and what to do: told by ``try``, by the explained test, and on its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from keyrelay.pam.backend import Problem


@dataclass(frozen=True, slots=True)
class Explanation:
    """``passing``: whether trying again later can help, with nothing changed."""

    sentence: str
    remedy: str
    passing: bool = False


EXPLANATIONS: Mapping[Problem, Explanation] = {
    "not_found": Explanation(
        "The vault answers, and has no such secret.",
        "Compare the parameters with the vault, letter by letter: path or engine, name, field, version. Some vaults "
        "say the same of a secret that the credentials of the provider may not see.",
    ),
    "denied": Explanation(
        "The vault refuses: the credentials of the provider are wrong or have expired, or may not read this secret.",
        "Look in the vault whether the token, key or application of the provider is valid and may read this secret; "
        "give the provider new credentials.",
    ),
    "sealed": Explanation(
        "The vault runs, and cannot serve now: it is sealed, in maintenance, or overloaded.",
        "Unseal it, or wait until it serves again; keyrelay goes on by itself then.",
        passing=True,
    ),
    "unreachable": Explanation(
        "The vault cannot be reached.",
        "Check the address of the provider, the way there from this machine (firewall, DNS), and whether its "
        "certificate is from an authority that KEYRELAY_CA_BUNDLE names.",
        passing=True,
    ),
    "timeout": Explanation(
        "The vault did not answer in time.",
        "Look whether the vault is overloaded or a firewall drops packets; KEYRELAY_PAM_SECONDS says how long keyrelay "
        "waits.",
        passing=True,
    ),
    "bad_answer": Explanation(
        "What came back is no secret that can be used.",
        "Look whether the address of the provider is the vault's API, and not a page to sign in, a proxy or another "
        "service; and whether the value in the vault is a text without line breaks.",
    ),
    "parameter_missing": Explanation(
        "A parameter that this provider type needs has no value.",
        "Give the parameter where the secret is named, spelled as the provider type shows it.",
    ),
    "bad_parameter": Explanation(
        "A parameter of the provider, or of the reference to the secret, cannot be used.",
        "Correct the parameter that is named.",
    ),
    "extra_missing": Explanation(
        "A library that this provider type needs is not installed.",
        "Install it on every node with the command that is named, and restart keyrelay.",
    ),
}
