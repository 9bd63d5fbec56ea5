"""The part of the composition root that opens the keys: settings become master keys, and these open the key ring."""

from __future__ import annotations

from keyrelay.errors import MasterKeyMissing
from keyrelay.secrets import master
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.master import MasterKey
from keyrelay.settings import Settings
from keyrelay.store.model import Store


async def open_keyring(settings: Settings, store: Store) -> Keyring:
    """The key ring of a node; a first start makes the key file and the first data key. Raises CannotStart."""
    known = masters(settings)
    first_start = not await store.rows("SELECT 1 FROM data_key LIMIT 1")
    if first_start and not known:
        known = (master.create_file(settings.data_dir),)
    keyring = Keyring(known)
    if first_start:
        async with store.change("keys") as change:
            if not await change.rows("SELECT 1 FROM data_key LIMIT 1"):  # another node may have been faster
                await keyring.add_key(change)
    await keyring.refresh(store)
    return keyring


def masters(settings: Settings) -> tuple[MasterKey, ...]:
    """The master key, then the previous one while it is being replaced; nothing where there is none yet.

    Raises SettingsInvalid, DataDirUnusable or MasterKeyMissing.
    """
    if settings.master_key is not None:
        newest: MasterKey | None = MasterKey.read(settings.master_key, "KEYRELAY_MASTER_KEY")
    else:
        newest = master.read_file(settings.data_dir)
    if settings.previous_master_key is None:
        return (newest,) if newest else ()
    if newest is None:
        raise MasterKeyMissing("KEYRELAY_PREVIOUS_MASTER_KEY is set, and there is no new master key.")
    return newest, MasterKey.read(settings.previous_master_key, "KEYRELAY_PREVIOUS_MASTER_KEY")
