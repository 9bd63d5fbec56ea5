"""The master key: made once, kept safe, never replaced silently."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from keyrelay.errors import CannotStart, MasterKeyMissing, MasterKeyWrong, SettingsInvalid
from keyrelay.secrets import master
from keyrelay.secrets.master import MasterKey
from keyrelay.server import Node
from keyrelay.settings import Settings
from live import ANONYMOUS, BASIC

_KEY = base64.b64encode(bytes(range(32))).decode()


def refusal(settings: Settings) -> CannotStart:
    """Why a node with these settings does not start."""

    async def open_node() -> None:
        await (await Node.open(settings)).close()

    with pytest.raises(CannotStart) as raised:
        asyncio.run(open_node())
    return raised.value


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
def test_the_first_key_file_is_readable_by_its_owner_alone(tmp_path, umask):
    before = os.umask(umask)
    try:
        key = master.create_file(tmp_path / "data")
    finally:
        os.umask(before)
    assert mode(tmp_path / "data" / "master.key") == 0o600
    assert mode(tmp_path / "data") == 0o700
    assert master.read_file(tmp_path / "data") == key
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["master.key"]


def test_a_key_that_is_there_is_never_overwritten(tmp_path):
    first = master.create_file(tmp_path)
    assert master.create_file(tmp_path) == first
    assert master.read_file(tmp_path) == first


def test_threads_that_make_a_key_at_once_agree_on_one(tmp_path):
    pids = iter(range(1000, 1100))
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(8) as threads:
        patch.setattr(os, "getpid", lambda: next(pids))  # each stands for a process
        made = list(threads.map(lambda _: master.create_file(tmp_path), range(24)))
    assert {key.id for key in made} == {master.read_file(tmp_path).id}
    assert [path.name for path in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("text", [_KEY, _KEY + "\n", "  " + _KEY, base64.urlsafe_b64encode(bytes([251] * 32)).decode()])
def test_a_key_may_be_given_in_either_base64_alphabet(text):
    assert len(MasterKey.read(text, "KEYRELAY_MASTER_KEY").key) == 32


@pytest.mark.parametrize("text", ["", "short", _KEY[:-4], _KEY + "AAAA", "!" * 44, "ключ"])
def test_a_key_that_is_none_is_refused_without_being_repeated(text):
    with pytest.raises(SettingsInvalid, match="32 bytes") as raised:
        MasterKey.read(text, "KEYRELAY_MASTER_KEY")
    assert not text or text not in str(raised.value)


def test_a_start_with_another_key_is_refused(fresh_settings, start):
    start(fresh_settings).put_v2(BASIC)
    problem = refusal(dataclasses.replace(fresh_settings, master_key=_KEY))
    assert isinstance(problem, MasterKeyWrong)
    assert _KEY not in str(problem)


def test_a_start_without_the_key_file_is_refused_and_makes_no_new_one(fresh_settings, start):
    server = start(fresh_settings)
    server.put_v2(ANONYMOUS)
    file = fresh_settings.data_dir / "master.key"
    kept = file.read_bytes()
    file.unlink()
    assert isinstance(refusal(fresh_settings), MasterKeyMissing)
    assert not file.exists()
    file.write_bytes(kept)
    assert start(fresh_settings).get_v2() == server.get_v2()


@pytest.mark.parametrize("content", [b"", b"damaged", b"\xff\xfe\x00", _KEY[:-8].encode()])
def test_a_damaged_key_file_is_named_and_left_alone(sqlite_settings, start, content):
    start(sqlite_settings).put_v2(BASIC)
    file = sqlite_settings.data_dir / "master.key"
    file.write_bytes(content)
    problem = refusal(sqlite_settings)
    assert isinstance(problem, SettingsInvalid)
    assert "master.key" in str(problem)
    assert file.read_bytes() == content


def test_a_key_file_of_another_installation_is_refused(fresh_settings, start):
    start(fresh_settings).put_v2(BASIC)
    file = fresh_settings.data_dir / "master.key"
    file.unlink()
    master.create_file(fresh_settings.data_dir)
    assert isinstance(refusal(fresh_settings), MasterKeyWrong)


def test_a_previous_key_without_a_new_one_is_refused(sqlite_settings):
    problem = refusal(dataclasses.replace(sqlite_settings, previous_master_key=_KEY))
    assert isinstance(problem, MasterKeyMissing)


def test_with_a_key_from_the_settings_no_file_is_made(fresh_settings, start):
    server = start(dataclasses.replace(fresh_settings, master_key=_KEY))
    assert server.put_v2(BASIC).status_code == 200
    assert not (fresh_settings.data_dir / "master.key").exists()
