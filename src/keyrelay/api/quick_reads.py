"""GET /SMTP from memory: the read that clients poll.

The answers are kept as they go over the wire, and the protocol sends them without a task of their own. Only what is
plain is answered so: the usual spelling of the path, credentials that were checked before, no condition, a profile that
has not changed. Everything else takes the long road, which gives the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.types import Scope

from keyrelay.access.permissions import READ_SETTINGS
from keyrelay.api.operations import Resource
from keyrelay.api.smtp import read_answer
from keyrelay.errors import StoreUnavailable
from keyrelay.profile.keeper import UNCONFIGURED, Snapshot

_VERSIONS = {None: 1, b"1": 1, b"1.0": 1, b"2": 2, b"2.0": 2}


class QuickReads:
    """The answers of the newest revision, encoded once."""

    def __init__(self, smtp: Resource) -> None:
        self.path = smtp.path
        self._smtp = smtp
        self._services = smtp.services
        self._figures = smtp.services.figures
        self._strict = smtp.services.settings.require_requested_with
        self._snapshot: Snapshot | None = None
        self._encoded: Mapping[int, bytes] = {}
        self._encode(UNCONFIGURED)

    def answer(self, scope: Scope) -> bytes | None:
        """What to send after the status line 200, or None when the long road has to be taken."""
        if scope["path"] != self.path or scope["method"] != "GET":
            return None
        given = scope["headers"]
        headers = dict(given)
        authorization = headers.get(b"authorization")
        version = _VERSIONS.get(headers.get(b"x-keyfactor-api-version"))
        if version is None or authorization is None or b"if-none-match" in headers or len(headers) != len(given):
            return None
        if self._strict and b"x-keyfactor-requested-with" not in headers:
            return None
        store, keeper = self._services.store, self._services.keeper
        try:
            store.look()
        except StoreUnavailable:
            return None
        identity = self._services.sign_in.remembered(authorization)
        if identity is None or not identity.may(READ_SETTINGS) or keeper.loaded_mark != store.marks["profile"]:
            return None
        if keeper.loaded is not self._snapshot:
            self._encode(keeper.loaded)
        self._figures.quick_reads += 1
        return self._encoded[version]

    def _encode(self, snapshot: Snapshot) -> None:
        operation = self._smtp.operations["GET"]
        answers = {version: read_answer(snapshot, version) for version in operation.versions}
        self._encoded = {
            version: answer.with_headers(*self._smtp.style.headers(operation, version, self.path)).encoded
            for version, answer in answers.items()
        }
        self._snapshot = snapshot
