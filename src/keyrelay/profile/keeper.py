"""Keeping the profile: read, replace, history, restore.

Every revision is a row that is never changed; the newest is the profile. A replacement is one transaction, and all
readers of this process share one snapshot of the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import zip_longest

from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Category, Deed, Kind, Operation
from keyrelay.errors import BadInput, KeyUnknown, ProfileChanged, SecretGone, StoreUnavailable, UnknownName
from keyrelay.profile import document
from keyrelay.profile.document import FieldChange
from keyrelay.profile.model import HIDDEN_FIELDS, SECRET_FIELDS, SmtpProfile
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import FromPam, SecretText, Stored
from keyrelay.store.model import Change, Conflict, Reader, Row, Store

_SELECT = "SELECT revision, document, changed_at, changed_by, restored_from FROM profile_revision"
_TRIES = 3
_LAST = 2**31 - 1  # beyond that the databases have no such number


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The profile as it is at one revision.

    ``profile`` is None as long as nobody has configured one (revision 0). ``visible`` holds the user name and the
    client id where they are stored here: the contract shows those two in clear (D2), and they are opened once for
    all readers.
    """

    revision: int
    profile: SmtpProfile | None
    changed_at: datetime | None
    changed_by: str | None
    restored_from: int | None
    visible: dict[str, str]

    @property
    def tag(self) -> str:
        """Differs between any two revisions, also of a database that was set back and went on from there."""
        return _tag(self.revision, self.changed_at)

    def is_still(self, other: Snapshot) -> bool:
        """Whether both are the same revision."""
        return self.tag == other.tag


@lru_cache(maxsize=16)
def _tag(revision: int, changed_at: datetime | None) -> str:
    stamp = 0 if changed_at is None else int(changed_at.timestamp() * 1_000_000)
    return f"{revision}-{stamp:x}"


UNCONFIGURED = Snapshot(0, None, None, None, None, {})


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One revision: who made it, when, and what it changed. ``restored_from``: the revision it brought back."""

    revision: int
    changed_at: datetime
    changed_by: str
    restored_from: int | None
    changes: list[FieldChange]
    restorable: bool


async def newest_profile(reader: Reader) -> SmtpProfile | None:
    """The profile as it is now, without what it shows in clear."""
    rows = await reader.rows("SELECT document FROM profile_revision ORDER BY revision DESC LIMIT 1")
    return document.read(rows[0][0]) if rows else None


Confirm = Callable[[Reader, SmtpProfile], Awaitable[None]]
"""Says whether this may become the profile; raises why not (``ProviderKeeper.confirm``)."""


class ProfileKeeper:
    """The one place that reads and writes the profile."""

    def __init__(
        self, store: Store, keyring: Keyring, confirm: Confirm, journal: Journal, *, secrets_kept: int
    ) -> None:
        """``secrets_kept``: how many of the newest revisions keep their stored secrets."""
        self._journal = journal
        self._confirm = confirm
        self._store = store
        self._keyring = keyring
        self._secrets_kept = secrets_kept
        self._loading = asyncio.Lock()
        self.loaded: Snapshot = UNCONFIGURED
        self.loaded_mark = -1

    async def snapshot(self) -> Snapshot:
        """The profile as of now; from memory unless it has changed."""
        self._store.look()
        if self._store.marks["profile"] != self.loaded_mark:
            async with self._loading:
                if (mark := self._store.marks["profile"]) != self.loaded_mark:
                    self.loaded = await self._newest(self._store)
                    self.loaded_mark = mark
        return self.loaded

    async def replace(
        self, profile: SmtpProfile, *, by: str, expected: Callable[[Snapshot], bool] = lambda _: True
    ) -> Snapshot:
        """Make ``profile`` the profile; ``by`` says who asks. Gives the revision that this has made.

        ``expected``: the condition on what is being replaced. Raises ProfileChanged when it does not hold.
        """

        async def revision(change: Change, current: Snapshot) -> tuple[SmtpProfile, None]:
            if not expected(current):
                raise ProfileChanged("The profile has changed since you read it.")
            return await self._keep_secrets(change, profile), None

        return await self._write(revision, by=by)

    async def rework(self, make: Callable[[Snapshot], SmtpProfile], *, by: str) -> Snapshot:
        """Make the profile what ``make`` says, given what it is; nobody else changes it in between.

        A secret given as text is stored. What ``make`` raises ends it, and nothing is changed. Raises SecretGone when a
        secret that is kept has been erased meanwhile.
        """

        async def revision(change: Change, _: Snapshot) -> tuple[SmtpProfile, None]:
            return await self._keep_secrets(change, make(await self._newest(change))), None

        return await self._write(revision, by=by)

    async def restore(self, number: int, *, by: str, expected: Callable[[Snapshot], bool] = lambda _: True) -> Snapshot:
        """Make the profile what it was at revision ``number``, with the secrets it had.

        ``expected``: as for ``replace``. Raises UnknownName, ProfileChanged, or SecretGone when one of its stored
        secrets has been erased.
        """

        async def revision(change: Change, current: Snapshot) -> tuple[SmtpProfile, int]:
            profile = await _at(change, number)
            if not expected(current):
                raise ProfileChanged("The profile has changed since you read it.")
            return profile, number

        return await self._write(revision, by=by)

    async def at(self, number: int) -> SmtpProfile:
        """The profile as it was at a revision. Raises UnknownName."""
        return await _at(self._store, number)

    async def history(self, *, limit: int = 50, until: int = _LAST) -> list[HistoryEntry]:
        """The newest revisions first, at most ``limit``, up to the revision ``until``."""
        rows = await self._store.rows(
            _SELECT + " WHERE revision <= $1 ORDER BY revision DESC LIMIT $2", min(until, _LAST), limit + 1
        )
        kept = await stored.kept(self._store, fields=SECRET_FIELDS)
        entries, again = [], dict[str, bool]()  # most revisions refer to the same
        for row, before in zip_longest(rows, rows[1:]):
            profile = document.read(row[1])
            references = repr([source for _, source in profile.secrets() if isinstance(source, FromPam)])
            if references not in again:
                again[references] = await self._may_be_again(profile)
            entries.append(
                HistoryEntry(
                    revision=row[0],
                    changed_at=datetime.fromisoformat(row[2]),
                    changed_by=row[3],
                    restored_from=row[4],
                    changes=document.differences(None if before is None else document.read(before[1]), profile),
                    restorable=document.stored_ids(profile) <= kept and again[references],
                )
            )
        return entries[:limit]

    async def _may_be_again(self, profile: SmtpProfile) -> bool:
        """Whether the providers that it names are there and can be asked."""
        try:
            await self._confirm(self._store, profile)
        except BadInput:
            return False
        return True

    async def _write(
        self, revision: Callable[[Change, Snapshot], Awaitable[tuple[SmtpProfile, int | None]]], *, by: str
    ) -> Snapshot:
        await self._keyring.refresh(self._store)
        for _ in range(_TRIES):
            try:
                async with self._store.change("profile") as change:
                    # Without what it shows in clear: a secret that cannot be opened must not forbid a new profile.
                    rows = await change.rows(_SELECT + " ORDER BY revision DESC LIMIT 1")
                    current = _snapshot(rows[0], {}) if rows else UNCONFIGURED
                    profile, restored_from = await revision(change, current)
                    await self._confirm(change, profile)
                    row = await self._insert(change, current.revision + 1, profile, by, restored_from)
                    # Read here: afterwards another one may be the newest, and this one's secrets erased.
                    written = await self._snapshot_of(row, change)
                    await self._journal.write(change, _deed(current, written))
            except Conflict:
                # The data key has just been rotated away by another process: seal with the new one.
                await self._keyring.reload(self._store)
            else:
                return written
        raise StoreUnavailable("The profile could not be stored because its keys are being rotated; try again.")

    async def _insert(
        self, change: Change, number: int, profile: SmtpProfile, by: str, restored_from: int | None
    ) -> Row:
        ids = document.stored_ids(profile)
        if await stored.missing(change, ids):
            raise SecretGone("A stored secret of that profile has been erased.")
        row = (number, document.write(profile), datetime.now(UTC).isoformat(timespec="microseconds"), by, restored_from)
        await change.run(
            "INSERT INTO profile_revision (revision, document, changed_at, changed_by, restored_from)"
            " VALUES ($1, $2, $3, $4, $5)",
            *row,
        )
        newest = await change.rows(
            "SELECT document FROM profile_revision ORDER BY revision DESC LIMIT $1", self._secrets_kept
        )
        kept = ids.union(*(document.stored_ids(document.read(text)) for (text,) in newest))
        await stored.erase_all_but(change, kept, fields=SECRET_FIELDS)
        return row

    async def _keep_secrets(self, change: Change, profile: SmtpProfile) -> SmtpProfile:
        destination = profile.destination.text()
        for field, source in profile.secrets():
            if isinstance(source, SecretText):
                kept = await stored.keep(change, self._keyring, source, field=field, destination=destination)
                profile = profile.with_secret(field, kept)
        return profile

    async def _newest(self, reader: Reader) -> Snapshot:
        for _ in range(_TRIES):
            rows = await reader.rows(_SELECT + " ORDER BY revision DESC LIMIT 1")
            try:
                return await self._snapshot_of(rows[0], reader) if rows else UNCONFIGURED
            except SecretGone:
                continue  # replaced and erased between the two reads: there is a newer one
        raise KeyUnknown("A stored secret that the profile shows is not in the database.")

    async def _snapshot_of(self, row: Row, reader: Reader) -> Snapshot:
        profile = document.read(row[1])
        destination = profile.destination.text()
        visible: dict[str, str] = {}
        for field, source in profile.secrets():
            if field not in HIDDEN_FIELDS and isinstance(source, Stored):
                opened = await stored.reveal(reader, self._keyring, source, field=field, destination=destination)
                visible[field] = opened.reveal()
        return _snapshot(row, visible)


async def _at(reader: Reader, number: int) -> SmtpProfile:
    rows = await reader.rows(_SELECT + " WHERE revision = $1", number) if 0 < number <= _LAST else []
    if not rows:
        raise UnknownName(f"There is no revision {number} of the profile.")
    return document.read(rows[0][1])


def _deed(before: Snapshot, after: Snapshot) -> Deed:
    """What the audit trail tells of a revision: field by field, and of a secret only that it changed."""
    assert after.profile is not None  # noqa: S101 - it has just been written
    changes = {
        change.field: "changed" if change.secret else {"before": change.before, "after": change.after}
        for change in document.differences(before.profile, after.profile)
    }
    operation = Operation.CREATED if before.profile is None else Operation.UPDATED
    details: dict[str, int] = {"revision": after.revision}
    if after.restored_from is not None:
        operation = Operation.RECOVERED
        details["restored_from"] = after.restored_from
    return Deed(Category.SMTP, operation, Kind.PROFILE, "SMTP profile", "1", details=details, changes=changes)


def _snapshot(row: Row, visible: dict[str, str]) -> Snapshot:
    return Snapshot(row[0], document.read(row[1]), datetime.fromisoformat(row[2]), row[3], row[4], visible)
