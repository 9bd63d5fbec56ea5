"""The local type: entries that are kept in our own database, encrypted (contract 4.6, D13)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from keyrelay.errors import BadInput, Violation
from keyrelay.pam.backend import Means, Parameter, VaultFailed
from keyrelay.pam.model import LOCAL_TYPE, Entry
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText, Stored, has_control, is_mask
from keyrelay.store.model import Change, Reader, Store

_FIELD = "pam_entry"
_NAME_CHARACTERS = 400
_DESCRIPTION_CHARACTERS = 2000
_SECRET_CHARACTERS = 16_384
# One statement: between two, the entry may be replaced and the secret it had be erased.
_SEALED = (
    "SELECT stored_secret.id, key_id, sealed FROM pam_entry JOIN stored_secret ON stored_secret.id = pam_entry.secret"
    " WHERE provider = $1 AND name = $2"
)


class LocalDb:
    """The back end of the type LocalDB: the entry of one provider that has the name wanted."""

    name: ClassVar[str] = LOCAL_TYPE
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("SecretName", "Secret name", instance=True),)

    def __init__(self, store: Store, keyring: Keyring, provider: int = 0) -> None:
        self._store = store
        self._keyring = keyring
        self._provider = provider

    def of(self, provider: int) -> LocalDb:
        """The same for another provider."""
        return LocalDb(self._store, self._keyring, provider)

    async def fetch(self, wanted: Mapping[str, str], given: Mapping[str, SecretText | str], means: Means) -> SecretText:  # noqa: ARG002 - nothing is outside
        """As ``Backend.fetch``; besides, raises what the store and the keyring raise."""
        provider, name = self._provider, wanted["SecretName"]
        found = None
        if not has_control(name):  # PostgreSQL has no such text
            destination = _destination(provider, name)
            found = await stored.reveal_found(
                self._store, self._keyring, _SEALED, provider, name, field=_FIELD, destination=destination
            )
        if found is None:
            raise VaultFailed("not_found", "the provider has no entry of that name")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryDraft:
    """An entry as a caller gives it. ``secret`` None keeps the one that is there."""

    name: str | None
    description: str | None
    secret: SecretText | None


def check(draft: EntryDraft, *, new: bool) -> None:
    """Raise BadInput with everything that is wrong with an entry."""
    if found := tuple(_violations(draft, new=new)):
        raise BadInput(found)


def _violations(draft: EntryDraft, *, new: bool) -> Iterator[Violation]:
    yield from _text("secret_name", draft.name, _NAME_CHARACTERS)
    if not draft.name:
        yield Violation("secret_name", "missing", "{field} is required.")
    yield from _text("description", draft.description, _DESCRIPTION_CHARACTERS, lines=True)
    secret = "" if draft.secret is None else draft.secret.reveal()
    if not secret and (new or draft.secret is not None):
        yield Violation("secret_value", "missing", "{field} is required, and must not be empty.")
    yield from _text("secret_value", secret, _SECRET_CHARACTERS, lines=True)
    if is_mask(secret):
        yield Violation("secret_value", "mask", "{field} is a row of mask characters, a picture of a secret.")


def _text(field: str, text: str | None, longest: int, *, lines: bool = False) -> Iterator[Violation]:
    if text and has_control(text.replace("\r", "").replace("\n", "").replace("\t", "") if lines else text):
        yield Violation(field, "control_character", "{field} holds a control character, such as a line break.")
    elif text and len(text) > longest:
        yield Violation(field, "too_long", f"{{field}} has more than {longest} characters.")


# --- Rows ----------------------------------------------------------------------------------------------------


async def entries(reader: Reader, provider: int) -> list[Entry]:
    """The entries of a provider, without their secrets."""
    rows = await reader.rows("SELECT name, description FROM pam_entry WHERE provider = $1 ORDER BY name", provider)
    return [Entry(provider, name, description) for name, description in rows]


async def entry(reader: Reader, provider: int, name: str) -> Entry | None:
    """One of them."""
    if has_control(name):  # PostgreSQL has no such text
        return None
    sql = "SELECT description FROM pam_entry WHERE provider = $1 AND name = $2"
    rows = await reader.rows(sql, provider, name)
    return Entry(provider, name, rows[0][0]) if rows else None


async def count(reader: Reader) -> int:
    """How many entries there are, of all providers."""
    ((number,),) = await reader.rows("SELECT COUNT(*) FROM pam_entry")
    return int(number)


async def insert(change: Change, keyring: Keyring, provider: int, draft: EntryDraft) -> bool:
    """Keep a new entry; False when there is one of that name."""
    assert draft.name is not None and draft.secret is not None  # noqa: S101, PT018 - checked
    if await _source(change, provider, draft.name) is not None:
        return False
    kept = await _keep(change, keyring, provider, draft.name, draft.secret)
    await change.run(
        "INSERT INTO pam_entry (provider, name, description, secret, changed_at) VALUES ($1, $2, $3, $4, $5)",
        provider,
        draft.name,
        draft.description,
        kept.id,
        kept.given_at.isoformat(timespec="seconds"),
    )
    return True


async def update(change: Change, keyring: Keyring, provider: int, draft: EntryDraft) -> bool:
    """Replace an entry; a secret that is not given stays. False when there is none of that name."""
    assert draft.name is not None  # noqa: S101 - checked
    old = await _source(change, provider, draft.name)
    if old is None:
        return False
    if draft.secret is None:
        await change.run(
            "UPDATE pam_entry SET description = $1 WHERE provider = $2 AND name = $3",
            draft.description,
            provider,
            draft.name,
        )
        return True
    kept = await _keep(change, keyring, provider, draft.name, draft.secret)
    await change.run(
        "UPDATE pam_entry SET description = $1, secret = $2, changed_at = $3 WHERE provider = $4 AND name = $5",
        draft.description,
        kept.id,
        kept.given_at.isoformat(timespec="seconds"),
        provider,
        draft.name,
    )
    await stored.erase(change, [old.id])
    return True


async def delete(change: Change, provider: int, name: str) -> bool:
    """Erase an entry and its secret; False when there is none of that name."""
    old = await _source(change, provider, name)
    if old is None:
        return False
    await change.run("DELETE FROM pam_entry WHERE provider = $1 AND name = $2", provider, name)
    await stored.erase(change, [old.id])
    return True


async def delete_all(change: Change, provider: int) -> int:
    """Erase all entries of a provider, and their secrets. Gives how many."""
    rows = await change.rows("SELECT secret FROM pam_entry WHERE provider = $1", provider)
    await change.run("DELETE FROM pam_entry WHERE provider = $1", provider)
    await stored.erase(change, [secret for (secret,) in rows])
    return len(rows)


async def _source(reader: Reader, provider: int, name: str) -> Stored | None:
    if has_control(name):  # PostgreSQL has no such text
        return None
    rows = await reader.rows(
        "SELECT secret, changed_at FROM pam_entry WHERE provider = $1 AND name = $2", provider, name
    )
    return Stored(rows[0][0], datetime.fromisoformat(rows[0][1]).astimezone(UTC)) if rows else None


async def _keep(change: Change, keyring: Keyring, provider: int, name: str, secret: SecretText) -> Stored:
    return await stored.keep(change, keyring, secret, field=_FIELD, destination=_destination(provider, name))


def _destination(provider: int, name: str) -> str:
    """A stored entry opens for its own name and provider, and for no other."""
    return json.dumps(["pam_entry", provider, name])
