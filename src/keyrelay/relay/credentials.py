"""The credentials of a profile, opened at the moment they are needed, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from keyrelay.pam.backend import VaultFailed
from keyrelay.pam.fetching import Fetched, Vaults
from keyrelay.profile.model import Anonymous, Basic, OAuthClientCredentials, SecretField, SmtpProfile
from keyrelay.relay.model import Evidence, StageFailed
from keyrelay.relay.sign_in import Credentials, NoSignIn, PasswordSignIn, TokenSignIn
from keyrelay.relay.token import TokenRequest
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import FromPam, GivenSecret, SecretText, Stored, has_control
from keyrelay.store.model import Reader

ClientAuthentication = Literal["client_secret_post", "client_secret_basic"]
_PRIVATE_KEY = "-----BEGIN"


@dataclass(frozen=True, slots=True)
class Opened:
    """How to sign in, and which of it came from vaults, by field."""

    credentials: Credentials
    fetched: Mapping[SecretField, Fetched]


class Opener:
    """Opens the secrets of a profile, wherever they are."""

    def __init__(
        self,
        reader: Reader,
        keyring: Keyring,
        vaults: Vaults,
        client_authentication: ClientAuthentication = "client_secret_post",
    ) -> None:
        self.clock = vaults.clock
        self._reader = reader
        self._keyring = keyring
        self._vaults = vaults
        self._client_authentication: ClientAuthentication = client_authentication

    async def open(self, profile: SmtpProfile, *, not_before: float | None = None) -> Opened:
        """How to sign in for this profile.

        ``not_before``: see ``Vaults.fetch``. Raises StageFailed at the stage vault, and what opening a stored secret
        raises.
        """
        destination = profile.destination.text()
        texts: dict[SecretField, SecretText] = {}
        fetched: dict[SecretField, Fetched] = {}
        for field, source in profile.secrets():
            if isinstance(source, FromPam):
                fetched[field] = await self._fetch(field, source, not_before)
                texts[field] = fetched[field].text
            else:
                texts[field] = await self._here(field, source, destination)
        return Opened(self._credentials(profile, texts), fetched)

    def refused(self, profile: SmtpProfile, opened: Opened) -> None:
        """Relay or token endpoint did not take these: what vaults gave is not used again."""
        for field, source in profile.secrets():
            if isinstance(source, FromPam) and field in opened.fetched:
                self._vaults.refused(source, opened.fetched[field].asked_at)

    async def _here(self, field: SecretField, source: GivenSecret, destination: str) -> SecretText:
        if isinstance(source, Stored):
            return await stored.reveal(self._reader, self._keyring, source, field=field, destination=destination)
        assert isinstance(source, SecretText)  # noqa: S101 - the third kind was looked at before
        return source

    async def _fetch(self, field: SecretField, source: FromPam, not_before: float | None) -> Fetched:
        try:
            found = await self._vaults.fetch(source, not_before=not_before)
            _require_usable(field, found.text)
        except VaultFailed as problem:
            where = {"field": field, "provider": source.provider}
            raise StageFailed(Evidence("vault", problem.problem, detail=problem.detail, facts=where)) from None
        return found

    def _credentials(self, profile: SmtpProfile, texts: Mapping[SecretField, SecretText]) -> Credentials:
        match profile.authentication:
            case Anonymous():
                return NoSignIn()
            case Basic():
                return PasswordSignIn(texts["relay_username"], texts["relay_password"])
            case OAuthClientCredentials() as oauth:
                request = TokenRequest(
                    oauth.token_endpoint,
                    texts["client_id"],
                    texts["client_secret"],
                    oauth.scope,
                    oauth.audience,
                    oauth.request_headers,
                    self._client_authentication,
                )
                return TokenSignIn(profile.sender_account, request)


def _require_usable(field: SecretField, text: SecretText) -> None:
    """Raise VaultFailed for a value that cannot be what the field needs: most often, a line break at its end."""
    revealed = text.reveal()
    if has_control(revealed) and not (field == "client_secret" and _PRIVATE_KEY in revealed):
        end = " at its end" if not has_control(revealed.rstrip("\r\n")) else ""
        raise VaultFailed("bad_answer", f"the value holds a line break or another control character{end}")
