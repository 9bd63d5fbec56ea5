"""A changed or removed password stops working: at once where it was changed, within a second on other nodes."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import httpx2
import pytest

from keyrelay import server as keyrelay_server
from keyrelay.access import accounts, passwords
from keyrelay.access.passwords import PasswordChecker
from keyrelay.secrets.model import SecretText
from live import ADMIN_PASSWORD, SMTP, V2, LiveServer, run_keyrelay

_OLD, _NEW = "the old password", "the new password"
_READ = "/system_settings/read/"


@pytest.fixture
def two_nodes(fresh_settings, start) -> tuple[LiveServer, LiveServer]:
    here, there = start(fresh_settings), start(fresh_settings)
    here.add_user("reader", _OLD, _READ)
    deadline = time.monotonic() + 5
    while status(there, _OLD) != 200:
        assert time.monotonic() < deadline
    assert status(here, _OLD) == 200
    return here, there


def status(server: LiveServer, password: str) -> int:
    return httpx2.get(server.url + SMTP, headers=V2, auth=("reader", password), timeout=30).status_code


def until_it_is(wanted: int, server: LiveServer, *, within: float, since: float) -> None:
    """Whoever asks later is answered so. When a request began counts, and not how long its answer took."""
    while True:
        asked = time.monotonic()
        if status(server, _OLD) == wanted:
            return
        assert asked - since < within
        time.sleep(0.01)


def change_password(server: LiveServer) -> None:
    async def change(node) -> None:
        async with node.store.change("access") as change:
            await accounts.set_password(change, "reader", await passwords.hashed(SecretText(_NEW)))

    server.run(change)


def remove(server: LiveServer) -> None:
    async def change(node) -> None:
        async with node.store.change("access") as change:
            await accounts.remove_account(change, "reader")

    server.run(change)


@pytest.mark.parametrize("withdraw", [change_password, remove])
def test_a_withdrawn_password_stops_at_once_here_and_within_a_second_elsewhere(two_nodes, withdraw):
    here, there = two_nodes
    withdraw(here)
    began = time.monotonic()
    assert status(here, _OLD) == 401
    if there.settings.database_url is None:
        assert status(there, _OLD) == 401  # the file itself tells
    until_it_is(401, there, within=1, since=began)
    if withdraw is change_password:
        assert (status(here, _NEW), status(there, _NEW)) == (200, 200)


class Deaf:
    """A node's store which, once ``at`` is set to its marks, hears of no later change."""

    at: dict[str, int] | None = None

    def __init__(self, store: Any) -> None:
        self._store = store

    @property
    def marks(self) -> dict[str, int]:
        return self._store.marks if Deaf.at is None else Deaf.at

    def look(self) -> None:
        if Deaf.at is None:
            self._store.look()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def _hard_of_hearing(monkeypatch) -> None:
    monkeypatch.setattr(Deaf, "at", None)
    sign_in = keyrelay_server.SignIn
    monkeypatch.setattr(keyrelay_server, "SignIn", lambda store, *more: sign_in(Deaf(store), *more))


def at_the_door(server: LiveServer, password: str) -> int:
    form = {"name": "reader", "password": password}
    return httpx2.post(f"{server.url}/portal/sign-in", data=form, timeout=30).status_code


@pytest.mark.usefixtures("_hard_of_hearing")
def test_a_withdrawn_password_begins_no_session_anywhere(monkeypatch, two_nodes):
    """Also where nobody has heard of it yet, and requests are still answered by what is remembered."""
    here, there = two_nodes
    assert at_the_door(there, _OLD) == 303
    assert status(there, _OLD) == 200
    monkeypatch.setattr(Deaf, "at", there.node.store.marks)
    change_password(here)
    assert status(there, _OLD) == 200
    assert at_the_door(there, _OLD) == 401
    assert at_the_door(there, _NEW) == 303


def test_a_password_changed_on_the_command_line_stops_at_once_on_servers_of_that_file(sqlite_settings, start):
    server = start(sqlite_settings)
    server.add_user("reader", _OLD, _READ)
    assert status(server, _OLD) == 200
    environment = {"KEYRELAY_DATA_DIR": str(sqlite_settings.data_dir)}
    done = run_keyrelay(environment, "user", "passwd", "reader", "--password-file", "-", given=_NEW)
    assert done.returncode == 0, done.stderr
    assert status(server, _OLD) == 401
    assert status(server, _NEW) == 200


def test_a_check_of_the_old_password_under_way_lets_no_later_request_in(server, monkeypatch):
    """Requests with the same new header share one check; not with one that began before the password changed."""
    server.add_user("reader", _OLD, _READ)
    checking, go_on = threading.Event(), threading.Event()
    matches = PasswordChecker.matches

    async def slow(self, password, hashed):
        checking.set()
        await asyncio.to_thread(go_on.wait, 20)
        return await matches(self, password, hashed)

    monkeypatch.setattr(PasswordChecker, "matches", slow)
    earlier = threading.Thread(target=status, args=(server, _OLD))
    earlier.start()
    assert checking.wait(10)
    change_password(server)
    later: list[int] = []
    asking = threading.Thread(target=lambda: later.append(status(server, _OLD)))
    asking.start()
    time.sleep(0.2)
    go_on.set()
    asking.join(30)
    earlier.join(30)
    assert later == [401]


def test_a_role_taken_away_is_missing_at_once(two_nodes):
    here, there = two_nodes

    async def revoke(node) -> None:
        async with node.store.change("access") as change:
            await accounts.revoke_role(change, "role of reader", "reader")

    here.run(revoke)
    began = time.monotonic()
    assert status(here, _OLD) == 403
    until_it_is(403, there, within=1, since=began)


def test_the_administrators_own_requests_go_on_meanwhile(two_nodes):
    here, _ = two_nodes
    change_password(here)
    assert httpx2.get(here.url + SMTP, headers=V2, auth=("admin", ADMIN_PASSWORD), timeout=30).status_code == 200
