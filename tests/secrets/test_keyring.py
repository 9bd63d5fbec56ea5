"""Encryption at rest: what is sealed opens in its own place, with its own key, and nowhere else."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from keyrelay.errors import KeyUnknown, MasterKeyMissing, MasterKeyWrong
from keyrelay.secrets.keyring import Keyring, Place, Sealed
from keyrelay.secrets.master import MasterKey
from keyrelay.secrets.model import SecretText

_MASTER = MasterKey.of(bytes(range(32)))
_OTHER = MasterKey.of(bytes(reversed(range(32))))
_PLACE = Place("stored_secret", "row-1", "relay_password", '["smtp.example.org", 587]')

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
places = st.builds(Place, texts, texts, texts, texts)


class KeyTable:
    """The table of data keys, as the keyring sees it."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, str, bytes]] = []
        self.marks = {"keys": 1}

    async def rows(self, sql: str, *values: Any) -> list[tuple]:
        if "MAX(id)" in sql:
            return [(max((row[0] for row in self.keys), default=0) + 1,)]
        if "master_id <>" in sql:
            return [row for row in self.keys if row[1] != values[0]]
        return list(self.keys)

    async def run(self, sql: str, *values: Any) -> int:
        self.marks = {"keys": self.marks["keys"] + 1}
        if sql.startswith("INSERT"):
            self.keys.append((values[0], values[1], values[2]))
        else:
            master, wrapped, number = values
            self.keys = [(number, master, wrapped) if row[0] == number else row for row in self.keys]
        return 1


def keyring_with(table: KeyTable, *masters: MasterKey, new_keys: int = 0) -> Keyring:
    async def opened() -> Keyring:
        keyring = Keyring(masters)
        for _ in range(new_keys):
            await keyring.add_key(table)
        await keyring.refresh(table)
        return keyring

    return asyncio.run(opened())


@pytest.fixture(scope="module")
def keyring() -> Keyring:
    return keyring_with(KeyTable(), _MASTER, new_keys=2)


@given(text=texts, place=places)
def test_what_is_sealed_opens_in_its_place(keyring, text, place):
    assert keyring.open(keyring.seal(SecretText(text), place), place).reveal() == text


@given(place=places, other=places)
def test_what_is_sealed_opens_in_no_other_place(keyring, place, other):
    sealed = keyring.seal(SecretText("canary"), place)
    if place == other:
        return
    with pytest.raises(KeyUnknown):
        keyring.open(sealed, other)


@pytest.mark.parametrize("part", ["table", "row", "field", "destination"])
def test_a_secret_moved_to_another_table_row_field_or_destination_does_not_open(keyring, part):
    sealed = keyring.seal(SecretText("canary"), _PLACE)
    with pytest.raises(KeyUnknown, match="moved") as raised:
        keyring.open(sealed, msgspec.structs.replace(_PLACE, **{part: "another"}))
    assert "canary" not in str(raised.value)


def test_a_secret_said_to_be_of_another_key_does_not_open(keyring):
    sealed = keyring.seal(SecretText("canary"), _PLACE)
    assert sealed.key_id == 2
    with pytest.raises(KeyUnknown):
        keyring.open(Sealed(1, sealed.content), _PLACE)


def test_the_key_id_is_bound_even_where_two_ids_name_the_same_key():
    table = KeyTable()
    keyring = keyring_with(table, _MASTER, new_keys=1)
    sealed = keyring.seal(SecretText("canary"), _PLACE)
    keyring._keys = {1: keyring._keys[1], 2: keyring._keys[1]}
    with pytest.raises(KeyUnknown):
        keyring.open(Sealed(2, sealed.content), _PLACE)


def test_a_secret_of_a_key_that_is_gone_says_so(keyring):
    with pytest.raises(KeyUnknown, match="data key 99"):
        keyring.open(Sealed(99, bytes(40)), _PLACE)


@given(content=st.binary(max_size=60))
@settings(max_examples=50)
def test_bytes_that_nobody_sealed_do_not_open(keyring, content):
    with pytest.raises(KeyUnknown):
        keyring.open(Sealed(1, content), _PLACE)


@given(text=texts, position=st.integers(min_value=0), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_one_changed_bit_is_noticed(keyring, text, position, bit):
    sealed = keyring.seal(SecretText(text), _PLACE)
    changed = bytearray(sealed.content)
    changed[position % len(changed)] ^= 1 << bit
    with pytest.raises(KeyUnknown):
        keyring.open(Sealed(sealed.key_id, bytes(changed)), _PLACE)


def test_sealing_twice_never_gives_the_same_bytes(keyring):
    sealed = {keyring.seal(SecretText("same"), _PLACE).content for _ in range(200)}
    assert len(sealed) == 200
    assert len({content[:12] for content in sealed}) == 200


def test_the_newest_key_seals_and_the_older_ones_still_open():
    table = KeyTable()
    before = keyring_with(table, _MASTER, new_keys=1)
    sealed = before.seal(SecretText("canary"), _PLACE)
    after = keyring_with(table, _MASTER, new_keys=1)
    assert (before.current, after.current) == (1, 2)
    assert after.open(sealed, _PLACE).reveal() == "canary"
    assert after.seal(SecretText("canary"), _PLACE).key_id == 2


def test_a_keyring_learns_of_a_key_that_another_process_made():
    table = KeyTable()
    keyring = keyring_with(table, _MASTER, new_keys=1)
    keyring_with(table, _MASTER, new_keys=1)
    asyncio.run(keyring.refresh(table))
    assert keyring.current == 2


def test_a_needed_key_is_looked_for_before_any_mark_has_arrived():
    table = KeyTable()
    keyring = keyring_with(table, _MASTER, new_keys=1)
    keyring_with(table, _MASTER, new_keys=1)
    table.marks = {"keys": keyring._mark}
    asyncio.run(keyring.refresh(table))
    assert keyring.current == 1
    asyncio.run(keyring.reload(table))
    assert keyring.current == 2


def test_keys_of_another_master_are_refused():
    table = KeyTable()
    keyring_with(table, _MASTER, new_keys=1)
    with pytest.raises(MasterKeyWrong):
        keyring_with(table, _OTHER)


def test_keys_without_any_master_are_refused():
    table = KeyTable()
    keyring_with(table, _MASTER, new_keys=1)
    with pytest.raises(MasterKeyMissing):
        keyring_with(table)
    with pytest.raises(MasterKeyMissing):
        asyncio.run(Keyring(()).add_key(table))


@pytest.mark.parametrize("damage", [lambda wrapped: wrapped[:-1] + bytes([wrapped[-1] ^ 1]), lambda _: b"short"])
def test_a_damaged_data_key_is_noticed(damage):
    table = KeyTable()
    keyring_with(table, _MASTER, new_keys=1)
    ((number, master, wrapped),) = table.keys
    table.keys = [(number, master, damage(wrapped))]
    with pytest.raises(MasterKeyWrong, match="damaged"):
        keyring_with(table, _MASTER)


def test_a_data_key_under_another_number_does_not_open():
    table = KeyTable()
    keyring_with(table, _MASTER, new_keys=1)
    ((_, master, wrapped),) = table.keys
    table.keys = [(7, master, wrapped)]
    with pytest.raises(MasterKeyWrong):
        keyring_with(table, _MASTER)


def test_rewrapping_changes_who_protects_the_keys_and_nothing_else():
    table = KeyTable()
    sealed = keyring_with(table, _OTHER, new_keys=3).seal(SecretText("canary"), _PLACE)
    both = keyring_with(table, _MASTER, _OTHER)
    assert asyncio.run(both.rewrap(table)) == 3
    assert asyncio.run(both.rewrap(table)) == 0
    assert keyring_with(table, _MASTER).open(sealed, _PLACE).reveal() == "canary"
    with pytest.raises(MasterKeyWrong):
        keyring_with(table, _OTHER)


def test_neither_keys_nor_masters_show_themselves(keyring):
    assert _MASTER.key.hex() not in repr(_MASTER)
    assert repr(_MASTER.key) not in repr(_MASTER)
    wrapped_in_the_clear = AESGCM.generate_key(bit_length=256)
    assert repr(wrapped_in_the_clear) not in repr(MasterKey.of(wrapped_in_the_clear))
