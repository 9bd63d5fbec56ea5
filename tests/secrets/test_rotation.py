"""Rotating keys: everything readable before, between and after, wherever it is interrupted."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from keyrelay.errors import CannotStart, MasterKeyWrong
from keyrelay.secrets import stored
from keyrelay.secrets.keyring import Keyring
from keyrelay.secrets.model import SecretText, Stored
from keyrelay.secrets.rotation import Rotated, rotate
from keyrelay.secrets.stored import reveal as resolve
from keyrelay.server import Node
from keyrelay.settings import Settings
from live import BASIC, LiveServer, clean_environment, keyrelay, run_keyrelay

_DESTINATION = '["smtp.example.org", 587, "starttls-required", null]'
_OLD = base64.b64encode(bytes(32)).decode()
_NEW = base64.b64encode(bytes(range(32))).decode()


class Interrupted(Exception):
    """What ends a rotation half-way here; elsewhere it would be a signal or a power cut."""


class InterruptedStore:
    """A store whose changes fail from the given one on, either just before they are committed or just after."""

    def __init__(self, store: Any, *, after: int, committed: bool) -> None:
        self._store = store
        self._left = after
        self._committed = committed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @asynccontextmanager
    async def change(self, *topics: Any):
        self._left -= 1
        async with self._store.change(*topics) as change:
            yield change
            if self._left < 0 and not self._committed:
                raise Interrupted
        if self._left < 0:
            raise Interrupted


def on_node(settings: Settings, work: Callable[[Node], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        node = await Node.open(settings)
        try:
            return await work(node)
        finally:
            await node.close()

    return asyncio.run(run())


async def keep_many(node: Node, number: int) -> list[Stored]:
    async with node.store.change("profile") as change:
        return [
            await stored.keep(
                change, node.keyring, SecretText(f"secret {each}"), field="relay_password", destination=_DESTINATION
            )
            for each in range(number)
        ]


async def revealed(node: Node, sources: list[Stored]) -> list[str]:
    return [
        (await resolve(node.store, node.keyring, source, field="relay_password", destination=_DESTINATION)).reveal()
        for source in sources
    ]


async def key_ids(node: Node) -> list[int]:
    return [key for (key,) in await node.store.rows("SELECT id FROM data_key ORDER BY id")]


def expected(number: int) -> list[str]:
    return [f"secret {each}" for each in range(number)]


def refused(settings: Settings) -> CannotStart:
    with pytest.raises(CannotStart) as raised:
        on_node(settings, key_ids)
    return raised.value


def environment_of(settings: Settings) -> dict[str, str]:
    chosen = {"KEYRELAY_DATA_DIR": str(settings.data_dir)}
    return chosen if settings.database_url is None else chosen | {"KEYRELAY_DATABASE_URL": settings.database_url}


def test_after_a_rotation_everything_is_readable_and_the_old_key_is_gone(fresh_settings):
    async def work(node: Node) -> None:
        sources = await keep_many(node, 120)
        heard: list[int] = []
        assert await rotate(node.store, node.keyring, heard.append) == Rotated(2, 120, 0, 1)
        assert heard == [50, 100, 120]
        assert await key_ids(node) == [2]
        assert await revealed(node, sources) == expected(120)
        assert await rotate(node.store, node.keyring) == Rotated(3, 120, 0, 1)

    on_node(fresh_settings, work)


@pytest.mark.parametrize("committed", [True, False])
def test_a_rotation_may_be_interrupted_at_every_transaction(fresh_settings, committed):
    sources = on_node(fresh_settings, lambda node: keep_many(node, 120))

    async def interrupted_after(node: Node, changes: int) -> bool:
        try:
            await rotate(InterruptedStore(node.store, after=changes, committed=committed), node.keyring)
        except Interrupted:
            return True
        return False

    # A new key, three batches, one look for more, the key of the audit trail, the old keys dropped.
    for changes in range(7):
        assert on_node(fresh_settings, partial(interrupted_after, changes=changes))
        assert on_node(fresh_settings, lambda node: revealed(node, sources)) == expected(120)
    assert not on_node(fresh_settings, partial(interrupted_after, changes=7))
    on_node(fresh_settings, lambda node: rotate(node.store, node.keyring))
    assert len(on_node(fresh_settings, key_ids)) == 1
    assert on_node(fresh_settings, lambda node: revealed(node, sources)) == expected(120)


def test_a_rotation_that_is_killed_leaves_everything_readable_and_the_next_one_ends_it(fresh_settings):
    number = 1500
    sources = on_node(fresh_settings, lambda node: keep_many(node, number))
    for _ in range(3):
        killed = kill_half_way(fresh_settings)
        assert on_node(fresh_settings, lambda node: revealed(node, sources[::30])) == expected(number)[::30]
        assert killed == -signal.SIGKILL
    left_behind = on_node(fresh_settings, key_ids)
    assert len(left_behind) > 1
    done = run_keyrelay(environment_of(fresh_settings), "keys", "rotate")
    assert done.returncode == 0, done.stderr
    assert on_node(fresh_settings, key_ids) == [left_behind[-1] + 1]
    assert on_node(fresh_settings, lambda node: revealed(node, sources)) == expected(number)


def kill_half_way(settings: Settings) -> int:
    """Run ``keyrelay keys rotate`` and kill it when it has told of its first batches."""
    environment = clean_environment() | environment_of(settings) | {"PYTHONUNBUFFERED": "1"}
    rotation = subprocess.Popen([keyrelay(), "keys", "rotate"], env=environment, stdout=subprocess.PIPE, text=True)
    assert rotation.stdout is not None
    rotation.stdout.readline()
    rotation.kill()
    rotation.communicate(timeout=20)
    return rotation.returncode


def test_a_running_server_goes_on_while_keys_are_rotated(fresh_settings, start):
    server = start(fresh_settings)
    done = threading.Event()
    statuses: list[int] = []

    def put() -> None:
        number = 0
        while not done.is_set():
            number += 1
            name = f"PKI {threading.get_ident()} {number}"
            statuses.append(server.put_v2(BASIC | {"SenderName": name}).status_code)
            statuses.append(server.get("/KeyfactorAPI/SMTP").status_code)

    threads = [threading.Thread(target=put) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert run_keyrelay(environment_of(fresh_settings), "keys", "rotate").returncode == 0
    done.set()
    for thread in threads:
        thread.join(30)
    assert set(statuses) == {200}
    assert password_of(server) == "basic-password-1"
    server.run(lambda node: rotate(node.store, node.keyring))
    assert len(server.run(key_ids)) == 1
    newest = server.run(lambda node: node.keeper.snapshot()).revision
    server.run(lambda node: node.keeper.restore(newest - 5, by="tester"))
    assert password_of(server) == "basic-password-1"


@pytest.mark.parametrize("fresh_settings", ["postgresql"], indirect=True)
def test_a_node_that_heard_nothing_of_a_rotation_still_stores_what_it_is_given(fresh_settings, start, monkeypatch):
    here, there = start(fresh_settings), start(fresh_settings)
    there.put_v2(BASIC)
    # Nothing is heard of the rotation until after the next PUT.
    monkeypatch.setattr("keyrelay.store.postgresql._POLL_SECONDS", 5)
    there.run(silence)
    here.run(lambda node: rotate(node.store, node.keyring))
    assert there.put_v2(BASIC | {"SenderName": "After"}).status_code == 200
    assert password_of(there) == "basic-password-1"
    assert here.run(key_ids) == [2]


async def silence(node: Node) -> None:
    node.store._watching.cancel()
    await asyncio.sleep(0.1)


def test_two_rotations_at_once_both_end_and_lose_nothing(fresh_settings, start):
    here, there = start(fresh_settings), start(fresh_settings)
    sources = here.run(lambda node: keep_many(node, 300))
    with ThreadPoolExecutor(2) as threads:
        rotations = [
            threads.submit(server.run, lambda node: rotate(node.store, node.keyring)) for server in (here, there)
        ]
    assert {rotation.result().key_id for rotation in rotations} <= {2, 3}
    assert here.run(lambda node: revealed(node, sources)) == expected(300)
    here.run(lambda node: rotate(node.store, node.keyring))
    assert len(here.run(key_ids)) == 1


def test_the_master_key_is_changed_with_the_help_of_the_previous_one(fresh_settings):
    old = dataclasses.replace(fresh_settings, master_key=_OLD)
    both = dataclasses.replace(fresh_settings, master_key=_NEW, previous_master_key=_OLD)
    new = dataclasses.replace(fresh_settings, master_key=_NEW)
    sources = on_node(old, lambda node: keep_many(node, 60))
    assert isinstance(refused(new), MasterKeyWrong)
    assert on_node(both, lambda node: revealed(node, sources)) == expected(60)
    assert on_node(old, lambda node: revealed(node, sources)) == expected(60)  # nothing was changed by looking
    assert on_node(both, lambda node: rotate(node.store, node.keyring)) == Rotated(2, 60, 1, 1)
    assert on_node(new, lambda node: revealed(node, sources)) == expected(60)
    assert isinstance(refused(old), MasterKeyWrong)


@pytest.mark.parametrize("changes", range(3))
def test_a_change_of_the_master_key_may_be_interrupted(fresh_settings, changes):
    old = dataclasses.replace(fresh_settings, master_key=_OLD)
    both = dataclasses.replace(fresh_settings, master_key=_NEW, previous_master_key=_OLD)
    sources = on_node(old, lambda node: keep_many(node, 60))

    async def interrupted(node: Node) -> None:
        with pytest.raises(Interrupted):
            await rotate(InterruptedStore(node.store, after=changes, committed=True), node.keyring)

    on_node(both, interrupted)
    assert on_node(both, lambda node: revealed(node, sources)) == expected(60)
    on_node(both, lambda node: rotate(node.store, node.keyring))
    new = dataclasses.replace(fresh_settings, master_key=_NEW)
    assert on_node(new, lambda node: revealed(node, sources)) == expected(60)


def test_a_running_keyring_with_both_master_keys_follows_the_change(fresh_settings, start):
    first = on_node(dataclasses.replace(fresh_settings, master_key=_OLD), lambda node: keep_many(node, 5))
    both = dataclasses.replace(fresh_settings, master_key=_NEW, previous_master_key=_OLD)
    server = start(both)
    done = run_keyrelay(
        environment_of(both) | {"KEYRELAY_MASTER_KEY": _NEW, "KEYRELAY_PREVIOUS_MASTER_KEY": _OLD}, "keys", "rotate"
    )
    assert "KEYRELAY_PREVIOUS_MASTER_KEY can go" in done.stdout
    assert server.run(lambda node: revealed(node, first)) == expected(5)
    assert server.put_v2(BASIC).status_code == 200


def test_a_rotation_by_another_keyring_is_noticed_at_the_moment_of_need(sqlite_settings):
    async def work(node: Node) -> None:
        (source,) = await keep_many(node, 1)
        elsewhere = Keyring(tuple(node.keyring._masters.values()))
        await elsewhere.refresh(node.store)
        await rotate(node.store, elsewhere)
        assert await revealed(node, [source]) == ["secret 0"]

    on_node(sqlite_settings, work)


def password_of(server: LiveServer) -> str:
    async def read(node: Node) -> str:
        profile = (await node.keeper.snapshot()).profile
        source = dict(profile.secrets())["relay_password"]
        to = profile.destination.text()
        secret = await resolve(node.store, node.keyring, source, field="relay_password", destination=to)
        return secret.reveal()

    return server.run(read)
