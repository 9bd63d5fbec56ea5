"""Sessions of the portal in the store: how long they live, what ends them, and that every node knows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from bearing import CHIEF, READ, grant, register
from keyrelay.access import accounts, passwords
from keyrelay.access.accounts import Proof
from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.identity_provider import Client
from keyrelay.access.sessions import Sessions
from keyrelay.errors import SignInRequired
from keyrelay.secrets.model import SecretText
from live import ADMIN_PASSWORD

AUTHORITY = "https://login.example.org"
MINUTE, HOUR = 60.0, 3600.0
JO = "entra:jo@example.org"
STATED = frozenset({Claim(ClaimType.OAUTH_ROLE, "Readers", "entra"), Claim(ClaimType.USER, "jo@example.org", "entra")})


@dataclass
class House:
    """The sessions of a server, with a clock of their own."""

    server: Any
    now: float = 1_800_000_000.0

    def __post_init__(self) -> None:
        self.sessions = Sessions(
            *(self.server.node.store, self.server.node.identity_providers),
            *(timedelta(minutes=30), timedelta(hours=12)),
            clock=lambda: self.now,
        )

    def open(self, authority: str = AUTHORITY) -> None:
        """People sign in through an identity provider from now on."""
        register(self.server, authority)
        self.server.run(lambda node: node.identity_providers.set_client("entra", Client("portal"), CHIEF))

    def begin(self, name: str = "admin") -> str:
        proof = self.proof(name)
        return self.server.run(lambda _: self.sessions.begin(proof)).reveal()

    def proof(self, name: str = "admin") -> Proof:
        """As whoever knows the password has it now."""
        return self.server.run(lambda node: accounts.find(node.store, [name]))

    def begin_of_provider(self, name: str = JO) -> str:
        (provider,) = self.server.run(lambda node: node.identity_providers.all())
        return self.server.run(lambda _: self.sessions.begin_of_provider(name, provider.id, STATED)).reveal()

    def find(self, token: str) -> Any:
        return self.server.run(lambda _: self.sessions.find(token))

    def is_in(self, token: str) -> bool:
        try:
            self.find(token)
        except SignInRequired:
            return False
        return True

    def rows(self) -> int:
        ((number,),) = self.server.run(lambda node: node.store.rows("SELECT COUNT(*) FROM portal_session"))
        return number


@pytest.fixture
def house(server) -> House:
    return House(server)


@pytest.fixture
def salted(monkeypatch) -> None:
    """Each password that is set gets a hash of its own, as it does outside of tests (``done_once``)."""
    monkeypatch.setattr(passwords, "hash_password", passwords.hash_password.__wrapped__)


# --- How long they live --------------------------------------------------------------------------------------


def test_one_without_a_click_ends_after_the_idle_time_and_not_before(house):
    token = house.begin()
    house.now += 30 * MINUTE - 1
    assert house.is_in(token)
    house.now += 30 * MINUTE - 1
    assert house.is_in(token)
    house.now += 30 * MINUTE
    assert not house.is_in(token)


def test_a_click_within_a_minute_of_another_is_not_written_down(house):
    token = house.begin()
    house.now += MINUTE
    house.find(token)
    house.now += 29 * MINUTE
    assert not house.is_in(token)


def test_however_much_somebody_clicks_it_ends_after_its_whole_life(house):
    token, began = house.begin(), house.now
    while house.now + 20 * MINUTE < began + 12 * HOUR:
        house.now += 20 * MINUTE
        assert house.is_in(token)
    house.now = began + 12 * HOUR
    assert not house.is_in(token)


def test_the_settings_say_how_long(sqlite_settings, start):
    server = start(replace(sqlite_settings, session_idle_minutes=7, session_hours=3))
    sessions = Sessions.of(server.settings, server.node.store, server.node.identity_providers)
    assert sessions._idle == 7 * 60 * 1_000_000
    assert sessions._life == 3 * 3600 * 1_000_000


def test_what_is_over_is_swept_away_when_another_begins(house):
    for _ in range(3):
        house.begin()
    house.now += 20 * MINUTE
    young = house.begin()
    assert house.rows() == 4
    house.now += 10 * MINUTE + 1
    house.begin()
    assert house.rows() == 2
    assert house.is_in(young)


def test_of_one_name_there_are_twenty_and_the_oldest_make_room(house):
    house.server.add_user("jo", "a password of jo", READ)
    of_jo, proof = house.begin("jo"), house.proof()

    async def begin(_) -> str:
        return (await house.sessions.begin(proof)).reveal()

    tokens = []
    for _ in range(23):
        tokens.append(house.server.run(begin))
        house.now += 1
    assert [house.is_in(token) for token in tokens] == [False] * 3 + [True] * 20
    assert house.is_in(of_jo)
    assert house.rows() == 21


def test_of_those_that_begin_at_one_moment_the_last_is_in(house):
    proof = house.proof()
    for _ in range(25):
        token = house.server.run(lambda _: house.sessions.begin(proof)).reveal()
        assert house.is_in(token)
    assert house.rows() == 20


def test_nothing_of_a_beginning_reads_all_sessions(sqlite_server):
    house = House(sqlite_server)
    steps: list[str] = []

    async def plans(node) -> None:
        class Told:
            async def run(self, statement: str, *values: Any) -> None:
                rows = await node.store.rows(f"EXPLAIN QUERY PLAN {statement}", *values)
                steps.extend(row[3] for row in rows)

        await house.sessions._sweep(Told(), 1)
        await house.sessions._make_room(Told(), "admin")

    house.server.run(plans)
    assert len([step for step in steps if "portal_session" in step]) >= 6
    assert [step for step in steps if step.startswith("SCAN")] == []


# --- What keeps them -----------------------------------------------------------------------------------------


def test_what_a_page_asks_for_by_itself_does_not_keep_it(house):
    token = house.begin()
    for _ in range(6):
        house.now += 4 * MINUTE
        house.server.run(lambda _: house.sessions.find(token, used=False))
    house.now += 6 * MINUTE
    assert not house.is_in(token)


# --- What they are -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "x", "x" * 64, "x" * 65, "\u00e4", "\ud800", "' OR 1=1 --"])
def test_a_token_that_nobody_was_given_is_none(house, token):
    house.begin()
    assert not house.is_in(token)


def test_each_is_another_and_none_can_be_read_in_the_store(house):
    tokens = {house.begin() for _ in range(5)}
    assert len(tokens) == 5
    assert all(len(token) == 43 for token in tokens)
    kept = str(house.server.run(lambda node: node.store.rows("SELECT * FROM portal_session")))
    assert not any(token in kept for token in tokens)


def test_forms_of_one_are_not_those_of_another(house):
    one, other = house.begin(), house.begin()
    assert house.find(one).form_token == house.find(one).form_token
    assert house.find(one).form_token != house.find(other).form_token
    assert house.find(one).form_token not in {one, other}


# --- What ends them ------------------------------------------------------------------------------------------


def test_signing_out_ends_one_and_everywhere_all_of_that_user(house):
    house.server.add_user("jo", "a password of jo", READ)
    one, other, of_jo = house.begin(), house.begin(), house.begin("jo")
    house.server.run(lambda _: house.sessions.end(one))
    assert (house.is_in(one), house.is_in(other)) == (False, True)
    third = house.begin()
    house.server.run(lambda _: house.sessions.end_all("admin"))
    assert (house.is_in(other), house.is_in(third), house.is_in(of_jo)) == (False, False, True)


@pytest.mark.usefixtures("salted")
def test_a_password_that_is_set_ends_them_also_when_it_is_the_same(house):
    token = house.begin()
    house.server.run(lambda node: node.access.set_password("admin", SecretText(ADMIN_PASSWORD), CHIEF))
    assert not house.is_in(token)


@pytest.mark.usefixtures("salted")
def test_a_user_who_was_removed_is_out_also_when_there_is_one_of_the_name_again(house):
    house.server.add_user("jo", "a password of jo", READ)
    token = house.begin("jo")
    house.server.run(lambda node: node.access.remove_user("jo"))
    assert not house.is_in(token)
    house.server.add_user("jo", "a password of jo")
    assert not house.is_in(token)


@pytest.mark.usefixtures("salted")
@pytest.mark.parametrize("change", ["set", "removed"])
def test_a_password_that_is_another_when_the_session_begins_has_ended_it(house, change):
    house.server.add_user("jo", "a password of jo", READ)
    proof = house.proof("jo")
    if change == "set":
        house.server.run(lambda node: node.access.set_password("jo", SecretText("another of jo"), CHIEF))
    else:
        house.server.run(lambda node: node.access.remove_user("jo"))
    token = house.server.run(lambda _: house.sessions.begin(proof)).reveal()
    assert not house.is_in(token)


@pytest.mark.parametrize("change", ["disable", "remove", "no client"])
def test_a_provider_that_lets_nobody_in_ends_those_of_its_users(house, change):
    house.open()
    local, token = house.begin(), house.begin_of_provider()
    assert house.find(token).identity.name == JO
    keeper = house.server.node.identity_providers
    work = {
        "disable": lambda _: keeper.disable("entra"),
        "remove": lambda _: keeper.remove("entra"),
        "no client": lambda _: keeper.set_client("entra", None, CHIEF),
    }
    house.server.run(work[change])
    assert not house.is_in(token)
    assert house.is_in(local)


def test_one_of_the_same_name_later_is_another_provider(house):
    house.open()
    token = house.begin_of_provider()
    house.server.run(lambda node: node.identity_providers.remove("entra"))
    house.open("https://another.example.org")
    assert not house.is_in(token)


def test_a_role_that_is_given_or_taken_away_shows_at_once(house):
    house.open()
    token = house.begin_of_provider()
    assert house.find(token).identity.roles == ()
    role = grant(house.server, "Readers", READ)
    assert house.find(token).identity.may(READ)

    async def take_away(node) -> None:
        async with node.store.change("access") as change:
            await change.run("DELETE FROM role_claim WHERE role = $1", role)

    house.server.run(take_away)
    assert house.find(token).identity.roles == ()


# --- Several nodes -------------------------------------------------------------------------------------------


def test_every_node_knows_them(fresh_settings, start, eventually):
    one, other = House(start(fresh_settings)), House(start(fresh_settings))
    one.open()
    token, of_jo = one.begin(), one.begin_of_provider()
    assert other.is_in(token)
    eventually(lambda: other.is_in(of_jo))  # the other one hears of the provider within a second
    assert other.find(token).form_token == one.find(token).form_token
    other.server.run(lambda _: other.sessions.end(token))
    assert not one.is_in(token)
    one.server.run(lambda _: one.sessions.end_all(JO))
    assert not other.is_in(of_jo)
