"""Secrets in environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import ClassVar

from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.secrets.model import SecretText
from keyrelay.setting_values import PREFIX


class Environment:
    """Reads the environment ``Variable``, if its name begins as KEYRELAY_SECRET_VARIABLES says.

    The settings of keyrelay itself are never read. One newline at the end is not part of the secret. The environment
    is that of the server's start, so a changed secret needs a restart; prefer ``Mounted-File``.

    Source: POSIX.1-2024, "Environment Variables"; Kubernetes, "Distribute Credentials Securely Using Secrets", whose
    names may hold dots and hyphens too.
    """

    name: ClassVar[str] = "Environment"
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("Variable", "Environment variable", instance=True),)

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:  # noqa: ARG002 - nothing is given with the provider
        if not means.secret_variables:
            raise VaultFailed("bad_parameter", "no variable may be read, because KEYRELAY_SECRET_VARIABLES is not set")
        name = wanted["Variable"]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", name, re.ASCII):
            raise VaultFailed("bad_parameter", "Variable is no name of an environment variable")
        if name.upper().startswith(PREFIX):
            raise VaultFailed("denied", "the settings of keyrelay are not read as secrets")
        if not name.startswith(means.secret_variables):
            raise VaultFailed("denied", "Variable does not begin as KEYRELAY_SECRET_VARIABLES says")
        text = os.environ.get(name, "").removesuffix("\n").removesuffix("\r")
        if not text:
            raise VaultFailed("not_found", "the variable is not set, or empty")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise VaultFailed("bad_answer", "the variable is not UTF-8 text")
        return SecretText(text)
