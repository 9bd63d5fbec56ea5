"""The same as what the form does, for a terminal: with keyrelay smtp set, and with curl."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keyrelay.portal.smtp_form import NAMES
from keyrelay.profile.model import HIDDEN_FIELDS
from keyrelay.profile.patch import SIGN_IN_FIELDS, USES
from keyrelay.secrets.model import FromPam, SecretText


@dataclass(frozen=True, slots=True)
class Lines:
    """What to type. A placeholder stands for each secret."""

    command: str
    curl: str


def lines(values: Mapping[str, Any], *, user: str, url: str | None, tag: str) -> Lines:
    """``values`` are those of ``smtp_form.given``; ``url`` is the root of this server, a variable if None.

    Only ``public_url`` knows it: what a browser asks for may lack the prefix that a proxy has taken away.
    """
    address = '"$KEYRELAY_URL/api/v1/profile"' if url is None else shlex.quote(url.rstrip("/") + "/api/v1/profile")
    used = USES.get(str(values["authentication"]), frozenset())
    document = {
        field: _plain(field, values[field])
        for field in NAMES
        if field in values and (field in used or field not in SIGN_IN_FIELDS)
    }
    # Nothing in JSON can be a line END of its own: what is inside a text stands in quotes.
    body = json.dumps(document, ensure_ascii=False, indent=2) + "\nEND"
    unchanged = shlex.quote(f'if-match: "{tag}"')
    curl = (
        f"curl -u {shlex.quote(user)} -X PATCH {address} \\\n"
        f"  -H 'content-type: application/json' -H {unchanged} --data-binary @- <<'END'\n{body}"
    )
    return Lines(f"keyrelay smtp set - <<'END'\n{body}", curl)


def _plain(field: str, value: Any) -> Any:
    match value:
        case SecretText():
            return {"secret_value": f"<{NAMES[field].lower()}>" if field in HIDDEN_FIELDS else value.reveal()}
        case FromPam():
            return {"provider": value.provider, "parameters": dict(value.parameters)}
        case tuple():
            return [{"name": header.name, "value": header.value} for header in value]
    return value
