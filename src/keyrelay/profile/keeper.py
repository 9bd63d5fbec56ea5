"""Keeping the profile: read, replace, history, restore.

Every revision is a row that is never changed; the newest is the profile. A replacement is one transaction, and all
readers of this process share one snapshot of the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest

from keyrelay.errors import KeyUnknown, ProfileChanged, SecretGone, StoreUnavailable, UnknownName
from keyrelay.profile import document
from keyrelay.profile.document import FieldChange
from keyrelay.profile.model import SmtpProfile
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText, Stored
from keyrelay.store.engine import Change, Conflict, Row, Store

_SELECT = "SELECT revision, document, changed_at, changed_by, restored_from FROM profile_revision"
_TRIES = 3


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
        stamp = 0 if self.changed_at is None else int(self.changed_at.timestamp() * 1_000_000)
        return f"{self.revision}-{stamp:x}"

    def is_still(self, other: Snapshot) -> bool:
        """Whether both are the same revision."""
        return self.tag == other.tag


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


class ProfileKeeper:
    """The one place that reads and writes the profile."""

    def __init__(self, store: Store, keyring: Keyring, *, secrets_kept: int) -> None:
        """``secrets_kept``: how many of the newest revisions keep their stored secrets."""
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
                    rows = await self._store.rows(_SELECT + " ORDER BY revision DESC LIMIT 1")
                    self.loaded = await self._snapshot_of(rows[0]) if rows else UNCONFIGURED
                    self.loaded_mark = mark
        return self.loaded

    async def replace(
        self, profile: SmtpProfile, *, by: str, expected: Callable[[Snapshot], bool] = lambda _: True
    ) -> Snapshot:
        """Make ``profile`` the profile; a secret given as text is stored.

        ``by``: who asks. ``expected``: the condition on what is being replaced, looked at inside the transaction.
        Raises ProfileChanged when it does not hold, and SecretGone when a kept secret has been erased meanwhile.
        """

        async def revision(change: Change, current: Snapshot) -> tuple[SmtpProfile, None]:
            if not expected(current):
                raise ProfileChanged("The profile has changed since you read it.")
            return await self._keep_secrets(change, profile), None

        return await self._write(revision, by=by)

    async def restore(self, number: int, *, by: str) -> Snapshot:
        """Make the profile what it was at revision ``number``, with the secrets it had.

        Raises UnknownName, or SecretGone when one of its stored secrets has been erased.
        """

        async def revision(change: Change, _: Snapshot) -> tuple[SmtpProfile, int]:
            known = 0 < number < 2**31  # beyond that the databases have no such number
            rows = await change.rows(_SELECT + " WHERE revision = $1", number) if known else []
            if not rows:
                raise UnknownName(f"There is no revision {number} of the profile.")
            return document.read(rows[0][1]), number

        return await self._write(revision, by=by)

    async def history(self, *, limit: int = 50) -> list[HistoryEntry]:
        """The newest revisions first, at most ``limit``."""
        rows = await self._store.rows(_SELECT + " ORDER BY revision DESC LIMIT $1", limit + 1)
        kept = {row[0] for row in await self._store.rows("SELECT id FROM stored_secret")}
        entries = []
        for row, before in zip_longest(rows, rows[1:]):
            profile = document.read(row[1])
            entries.append(
                HistoryEntry(
                    revision=row[0],
                    changed_at=datetime.fromisoformat(row[2]),
                    changed_by=row[3],
                    restored_from=row[4],
                    changes=document.differences(None if before is None else document.read(before[1]), profile),
                    restorable=document.stored_ids(profile) <= kept,
                )
            )
        return entries[:limit]

    async def _write(
        self, revision: Callable[[Change, Snapshot], Awaitable[tuple[SmtpProfile, int | None]]], *, by: str
    ) -> Snapshot:
        for _ in range(_TRIES):
            await self._keyring.refresh(self._store)
            try:
                async with self._store.change("profile") as change:
                    rows = await change.rows(_SELECT + " ORDER BY revision DESC LIMIT 1")
                    current = _bare_snapshot(rows[0]) if rows else UNCONFIGURED
                    profile, restored_from = await revision(change, current)
                    await self._insert(change, current.revision + 1, profile, by, restored_from)
            except Conflict:
                continue  # the data key has just been rotated away by another process: seal with the new one
            return await self.snapshot()
        raise StoreUnavailable("The profile could not be stored because its keys are being rotated; try again.")

    async def _insert(
        self, change: Change, number: int, profile: SmtpProfile, by: str, restored_from: int | None
    ) -> None:
        ids = document.stored_ids(profile)
        if await stored.missing(change, ids):
            raise SecretGone("A stored secret of that profile has been erased.")
        await change.run(
            "INSERT INTO profile_revision (revision, document, changed_at, changed_by, restored_from)"
            " VALUES ($1, $2, $3, $4, $5)",
            number,
            document.write(profile),
            datetime.now(UTC).isoformat(timespec="microseconds"),
            by,
            restored_from,
        )
        newest = await change.rows(
            "SELECT document FROM profile_revision ORDER BY revision DESC LIMIT $1", self._secrets_kept
        )
        await stored.erase_all_but(change, ids.union(*(document.stored_ids(document.read(row[0])) for row in newest)))

    async def _keep_secrets(self, change: Change, profile: SmtpProfile) -> SmtpProfile:
        destination = profile.destination.text()
        for field, source in profile.secrets():
            if isinstance(source, SecretText):
                kept = await stored.keep(change, self._keyring, source, field=field, destination=destination)
                profile = profile.with_secret(field, kept)
        return profile

    async def _snapshot_of(self, row: Row) -> Snapshot:
        bare = _bare_snapshot(row)
        assert bare.profile is not None  # noqa: S101 - a row has a profile
        destination = bare.profile.destination.text()
        visible: dict[str, str] = {}
        for field, source in bare.profile.secrets():
            if field in {"relay_username", "client_id"} and isinstance(source, Stored):
                try:
                    text = await stored.reveal(self._store, self._keyring, source, field=field, destination=destination)
                except SecretGone:
                    # Replaced and erased between our two reads; the next look at the marks brings the new profile.
                    raise KeyUnknown(f"The stored {field} is not there.") from None
                visible[field] = text.reveal()
        return Snapshot(bare.revision, bare.profile, bare.changed_at, bare.changed_by, bare.restored_from, visible)


def _bare_snapshot(row: Row) -> Snapshot:
    return Snapshot(row[0], document.read(row[1]), datetime.fromisoformat(row[2]), row[3], row[4], {})
