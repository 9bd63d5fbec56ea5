"""What a back end is: the part of a provider type that knows how to ask one product for one secret.

A plug-in implements ``Backend`` and names it in the entry-point group ``keyrelay.pam_providers``. Everything it needs
stands in this module and in ``secrets.model`` (docs/pam-plug-ins.md).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Protocol

from keyrelay.secrets.model import SecretText

Problem = Literal[
    "not_found",  # the vault answers, and has no such secret, version, or field in it
    "denied",  # the vault refuses: credentials wrong or expired, or no right to this secret
    "sealed",  # the vault runs and cannot serve: sealed, standby, in maintenance, or told us to come later
    "unreachable",  # no connection: name, network, TLS; the detail says which
    "timeout",  # no answer in time
    "bad_answer",  # an answer that is none: HTML, too long, a redirect, JSON without what was asked for
    "parameter_missing",  # a parameter that this needs has no value
    "bad_parameter",  # a parameter has a value that cannot be used
    "extra_missing",  # a library that this type needs is not installed; the detail is the command that installs it
]


class VaultFailed(Exception):
    """There is no secret, and why. ``detail`` may be shown to anybody: nothing secret, and no words of the vault."""

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__(f"{problem}: {detail}" if detail else problem)
        self.problem = problem
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a provider type (contract 4.1). Its name is data, and keeps its case.

    ``secret``: DataType 2, kept encrypted and never shown. ``instance``: given at each use of the provider (True), or
    once with the provider. ``required``: whether something must be given; ``default`` stands in for what is not.
    """

    name: str
    display_name: str
    secret: bool = False
    instance: bool = False
    required: bool = True
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Means:
    """What the operator gives to all back ends.

    ``trust`` makes a TLS context with the system's authorities and the operator's own, for one request;
    ``client_trust`` the same with the client certificate for vaults, if one is configured. ``seconds``: how long one
    fetch may take in all. ``secret_files``: the directory that secrets may be read from, ``secret_variables``: how
    the names of environment variables begin that may be read; None forbids it.
    """

    trust: Callable[[], ssl.SSLContext]
    client_trust: Callable[[], ssl.SSLContext]
    seconds: float = 10.0
    allow_plain_http: bool = False
    secret_files: Path | None = None
    secret_variables: str | None = None


class Backend(Protocol):
    """A provider type's code. One object serves all providers of the type, in one event loop, for the whole process.

    ``name`` and ``parameters`` are what ``GET /PamProviders/Types`` shows.
    """

    name: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:
        """The secret that ``wanted`` (instance-level values) names, from the provider that ``given`` describes.

        Both hold texts that are not empty, by the parameters' names; defaults are filled in, and what is required is
        there. In ``given``, parameters that are secret come as SecretText. Raises VaultFailed, and nothing else.
        It may be cancelled at any point. Nothing is cached here but what the sign-in gave (a token, a session).
        """
