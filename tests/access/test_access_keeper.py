"""Users, roles and claims are changed together with what the audit trail tells of it, or not at all."""

from __future__ import annotations

import asyncio
import threading

import httpx2
import pytest

from canary import leaks, new_canary
from keyrelay.access import accounts, passwords, roles
from keyrelay.access.claims import Claim, ClaimType
from keyrelay.access.identity import Identity
from keyrelay.access.keeper import AccessKeeper
from keyrelay.access.passwords import PasswordChecker
from keyrelay.access.permissions import beyond, every
from keyrelay.access.role_claims import RoleClaim
from keyrelay.access.roles import Role
from keyrelay.audit.acting import act_as
from keyrelay.audit.chain import SELECT
from keyrelay.audit.journal import Journal
from keyrelay.audit.model import Actor
from keyrelay.errors import Immutable, InUse, LastAdministrator, NameTaken, PermissionMissing, UnknownName
from keyrelay.secrets.model import SecretText
from live import ADMIN_PASSWORD, SMTP, V2
from security_entries import entries

READ, MODIFY = "/system_settings/read/", "/system_settings/modify/"
CHIEF = Identity("chief", (), frozenset({"/"}))
JO = RoleClaim(0, Claim(ClaimType.USER, "Jo", "keyrelay"), "the user jo")


def do(server, work):
    async def run(node):
        act_as(Actor("chief", "192.0.2.1"))
        return await work(node.access)

    return server.run(run)


def add_user(server, name, *held, password="long enough 1"):
    do(server, lambda keeper: keeper.add_user(name, SecretText(password), held, CHIEF))


# --- What is told ------------------------------------------------------------------------------------------------


def test_the_first_user_is_told_of_as_made_by_keyrelay_itself(server):
    (first,) = entries(server)
    assert (first["kind"], first["operation"], first["name"], first["object"]) == ("User", 1, "admin", "admin")
    assert (first["category"], first["actor"], first["address"]) == (2010, "keyrelay", None)
    assert first["changes"] == {"password": "changed", "roles": {"added": ["Administrator"]}}


def test_every_change_of_a_user_is_told(server):
    do(server, lambda keeper: keeper.add_role(Role(0, "Reader", "reads", permissions=(READ,)), CHIEF))
    add_user(server, "Jo", "reader")
    do(server, lambda keeper: keeper.set_password("JO", SecretText("another one"), CHIEF))
    do(server, lambda keeper: keeper.grant("ADMINISTRATOR", "jo", CHIEF))
    do(server, lambda keeper: keeper.grant("administrator", "jo", CHIEF))  # has it already: nothing to tell
    do(server, lambda keeper: keeper.revoke("reader", "Jo"))
    do(server, lambda keeper: keeper.remove_user("jO"))
    told = entries(server)[2:]
    assert {(entry["kind"], entry["name"], entry["actor"], entry["address"]) for entry in told} == {
        ("User", "jo", "chief", "192.0.2.1")
    }
    assert [(entry["operation"], entry["changes"]) for entry in told] == [
        (1, {"password": "changed", "roles": {"added": ["Reader"]}}),
        (2, {"password": "changed"}),
        (2, {"roles": {"added": ["Administrator"]}}),
        (2, {"roles": {"removed": ["Reader"]}}),
        (3, {"roles": {"removed": ["Administrator"]}}),
    ]


def test_what_is_refused_is_neither_done_nor_told(server):
    refusals = [
        (UnknownName, lambda keeper: keeper.grant("Nothing", "admin", CHIEF)),
        (UnknownName, lambda keeper: keeper.grant("Administrator", "nobody", CHIEF)),
        (UnknownName, lambda keeper: keeper.add_user("jo", SecretText("long enough 1"), ("Nothing",), CHIEF)),
        (UnknownName, lambda keeper: keeper.set_password("nobody", SecretText("long enough 1"), CHIEF)),
        (UnknownName, lambda keeper: keeper.remove_user("nobody")),
        (NameTaken, lambda keeper: keeper.add_user("ADMIN", SecretText("long enough 1"), (), CHIEF)),
        (LastAdministrator, lambda keeper: keeper.remove_user("admin")),
        (LastAdministrator, lambda keeper: keeper.revoke("Administrator", "admin")),
        (Immutable, lambda keeper: keeper.remove_role("administrator")),
        (UnknownName, lambda keeper: keeper.remove_role(99)),
        (UnknownName, lambda keeper: keeper.remove_claim(99)),
    ]
    for kind, work in refusals:
        with pytest.raises(kind):
            do(server, work)
    assert len(entries(server)) == 1
    assert [account.name for account in do(server, lambda keeper: keeper.accounts())] == ["admin"]


def test_a_change_whose_entry_cannot_be_written_is_not_made(server, monkeypatch):
    async def fails(*_):
        raise KeyError(4)

    monkeypatch.setattr(Journal, "write", fails)
    with pytest.raises(KeyError):
        add_user(server, "jo")
    assert [account.name for account in do(server, lambda keeper: keeper.accounts())] == ["admin"]


def test_no_entry_holds_a_password_or_its_hash(server):
    planted = {name: new_canary() for name in ("first", "second")}
    add_user(server, "jo", password=planted["first"])
    do(server, lambda keeper: keeper.set_password("jo", SecretText(planted["second"]), CHIEF))

    async def everything(node):
        return str(await node.store.rows(SELECT)).encode()

    text = server.run(everything)
    assert b"jo" in text
    assert leaks(planted, text) == []
    assert b"argon2" not in text


# --- The last administrator -----------------------------------------------------------------------------------------


@pytest.fixture
def by_claim(server):
    """``jo`` is the only administrator, by a claim."""
    add_user(server, "jo")
    do(server, lambda keeper: keeper.add_role(Role(0, "Chiefs", "all", permissions=("/",), claims=(JO,)), CHIEF))
    do(server, lambda keeper: keeper.revoke("Administrator", "admin"))
    return server


def test_a_user_with_a_claim_may_be_the_last_administrator_and_is_not_removed(by_claim):
    with pytest.raises(LastAdministrator):
        do(by_claim, lambda keeper: keeper.remove_user("JO"))
    do(by_claim, lambda keeper: keeper.grant("Administrator", "admin", CHIEF))
    do(by_claim, lambda keeper: keeper.remove_user("jo"))


def test_a_claim_of_somebody_elsewhere_does_not_count_as_an_administrator(server):
    elsewhere = RoleClaim(0, Claim(ClaimType.USER, "ghost", "keyrelay"), "nobody here")
    do(server, lambda keeper: keeper.add_role(Role(0, "Chiefs", "all", permissions=("/",), claims=(elsewhere,)), CHIEF))
    with pytest.raises(LastAdministrator):
        do(server, lambda keeper: keeper.revoke("Administrator", "admin"))


@pytest.mark.parametrize(
    "make", [lambda role: Role(role.id, role.name, "x"), lambda role: Role(0, "X", "x", permissions=("/",))]
)
def test_a_role_is_not_reworked_to_leave_nobody(by_claim, make):
    with pytest.raises(LastAdministrator):
        do(by_claim, lambda keeper: keeper.rework_role("chiefs", make, CHIEF))


def test_two_administrators_who_demote_each_other_at_once_leave_one(fresh_settings, start):
    here, there = start(fresh_settings), start(fresh_settings)
    add_user(here, "jo", "Administrator")
    results = []

    def revoke(server, name):
        try:
            do(server, lambda keeper: keeper.revoke("Administrator", name))
            results.append("revoked")
        except LastAdministrator:
            results.append("last")

    threads = [threading.Thread(target=revoke, args=pair) for pair in ((here, "admin"), (there, "jo"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["last", "revoked"]


# --- Numbers --------------------------------------------------------------------------------------------------------


def older_role(server, name, *permissions):
    """A role as a node of the version before makes it."""

    async def insert(node):
        async with node.store.change("access") as change:
            await change.run("INSERT INTO role (name) VALUES ($1)", name)
            for permission in permissions:
                await change.run("INSERT INTO role_permission (role, permission) VALUES ($1, $2)", name, permission)

    server.run(insert)


def numbers(server):
    async def read(node):
        return {name: number for name, number in await node.store.rows("SELECT name, id FROM role")}  # noqa: C416

    return server.run(read)


def test_a_role_of_the_version_before_is_numbered_when_somebody_lists(server):
    older_role(server, "Old", READ)
    assert numbers(server) == {"Administrator": 1, "Old": None}
    (_, old) = do(server, lambda keeper: keeper.roles())
    assert (old.id, old.name, old.description, old.permission_set) == (2, "Old", "Old", roles.GLOBAL_SET)
    assert numbers(server) == {"Administrator": 1, "Old": 2}


def test_it_is_numbered_with_the_next_change_too(server):
    older_role(server, "Old", READ)
    add_user(server, "jo")
    assert numbers(server) == {"Administrator": 1, "Old": 2}


def test_and_with_the_next_start(fresh_settings, start):
    server = start(fresh_settings)
    older_role(server, "Old", READ)
    other = start(fresh_settings)
    assert numbers(other) == {"Administrator": 1, "Old": 2}


def test_a_start_with_nothing_to_number_ends_no_sign_ins(fresh_settings, start):
    server = start(fresh_settings)

    async def mark(node):
        node.store.look()
        return (await node.store.rows("SELECT version FROM change_mark WHERE topic = $1", "access"))[0][0]

    before = server.run(mark)
    start(fresh_settings)
    assert server.run(mark) == before


def test_many_nodes_that_number_at_once_give_each_number_once(fresh_settings, start):
    here, there = start(fresh_settings), start(fresh_settings)
    for number in range(20):
        older_role(here, f"Old {number}")
    threads = [threading.Thread(target=do, args=(server, lambda keeper: keeper.roles())) for server in (here, there)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(numbers(here).values()) == list(range(1, 22))


def test_numbers_of_claims_and_roles_are_never_given_again(server):
    first = do(server, lambda keeper: keeper.add_claim(JO))
    do(server, lambda keeper: keeper.remove_claim(first.id))
    assert do(server, lambda keeper: keeper.add_claim(JO)).id > first.id
    role = do(server, lambda keeper: keeper.add_role(Role(0, "R", "r"), CHIEF))
    do(server, lambda keeper: keeper.remove_role("r"))
    assert do(server, lambda keeper: keeper.add_role(Role(0, "R", "r"), CHIEF)).id > role.id


# --- Bounds, and what strings mean ---------------------------------------------------------------------------------


def test_there_is_a_bound_on_roles_and_claims(server, monkeypatch):
    monkeypatch.setattr("keyrelay.access.role_changes.MOST_ROLES", 2)
    monkeypatch.setattr("keyrelay.access.role_claims.MOST_CLAIMS", 1)
    do(server, lambda keeper: keeper.add_role(Role(0, "R", "r", claims=(JO,)), CHIEF))
    with pytest.raises(InUse):
        do(server, lambda keeper: keeper.add_role(Role(0, "S", "s"), CHIEF))
    with pytest.raises(InUse):
        do(server, lambda keeper: keeper.add_claim(RoleClaim(0, Claim(ClaimType.GROUP, "x", "keyrelay"), "x")))


def test_every_string_there_is_grants_itself_and_is_beyond_nobody_who_holds_everything():
    for string in every():
        assert beyond({string}, {string}) == []
        assert beyond({"/"}, {string}) == []
        assert beyond((), {string}) == [string]


# --- Signing in while others change roles ---------------------------------------------------------------------------


def test_a_sign_in_that_is_being_checked_while_roles_change_is_let_in(server, monkeypatch):
    """Clients that change many roles at once would be refused for what they do themselves."""
    checking, go_on = threading.Event(), threading.Event()
    matches = PasswordChecker.matches

    async def slow(self, password, hashed):
        checking.set()
        await asyncio.to_thread(go_on.wait, 20)
        return await matches(self, password, hashed)

    monkeypatch.setattr(PasswordChecker, "matches", slow)
    answers = []

    def ask():
        answers.append(
            httpx2.get(server.url + SMTP, headers=V2, auth=("admin", ADMIN_PASSWORD), timeout=30).status_code
        )

    asking = threading.Thread(target=ask)
    asking.start()
    assert checking.wait(10)
    do(server, lambda keeper: keeper.add_role(Role(0, "Reader", "reads"), CHIEF))
    go_on.set()
    asking.join(30)
    assert answers == [200]


def test_the_identity_of_an_account_is_of_the_roles_it_holds_and_those_that_claims_give(server):
    add_user(server, "jo")
    do(server, lambda keeper: keeper.add_role(Role(0, "Held", "h", permissions=(READ,)), CHIEF))
    do(server, lambda keeper: keeper.add_role(Role(0, "Given", "g", permissions=(MODIFY,), claims=(JO,)), CHIEF))
    do(server, lambda keeper: keeper.add_role(Role(0, "Empty", "e", claims=(JO,)), CHIEF))
    do(server, lambda keeper: keeper.grant("Held", "jo", CHIEF))

    async def identity(node):
        return await accounts.identity(node.store, "jo")

    found = server.run(identity)
    assert (found.roles, found.permissions) == (("Empty", "Given", "Held"), frozenset({READ, MODIFY}))


# --- Nobody gives more than they hold ----------------------------------------------------------------------------

DEPUTY = Identity("deputy", ("Deputy",), frozenset({READ, "/security/"}))


@pytest.mark.parametrize(
    "work",
    [
        lambda keeper: keeper.add_user("jo", SecretText("long enough 1"), ("Administrator",), DEPUTY),
        lambda keeper: keeper.add_user("named", SecretText("long enough 1"), (), DEPUTY),
        lambda keeper: keeper.set_password("ADMIN", SecretText("long enough 1"), DEPUTY),
        lambda keeper: keeper.grant("administrator", "deputy", DEPUTY),
    ],
    ids=["a role of a new user", "a role that waits for the name", "a password", "a role"],
)
def test_who_may_less_cannot_make_somebody_who_may_more(server, work):
    add_user(server, "deputy")
    named = RoleClaim(0, Claim(ClaimType.USER, "Named", "keyrelay"), "whoever has this name")
    do(server, lambda keeper: keeper.add_role(Role(0, "Waits", "waits", permissions=(MODIFY,), claims=(named,)), CHIEF))
    before = entries(server)
    with pytest.raises(PermissionMissing):
        do(server, work)
    assert entries(server) == before
    assert httpx2.get(server.url + SMTP, headers=V2, auth=("admin", ADMIN_PASSWORD)).status_code == 200
    with pytest.raises(UnknownName):
        do(server, lambda keeper: keeper.remove_user("named"))


def test_who_holds_as_much_gives_it(server):
    do(server, lambda keeper: keeper.add_role(Role(0, "Reader", "reads", permissions=(READ,)), DEPUTY))
    do(server, lambda keeper: keeper.add_user("jo", SecretText("long enough 1"), ("Reader",), DEPUTY))
    do(server, lambda keeper: keeper.set_password("jo", SecretText("long enough 2"), DEPUTY))
    assert httpx2.get(server.url + SMTP, headers=V2, auth=("jo", "long enough 2")).status_code == 200


# --- Hashing -------------------------------------------------------------------------------------------------


def test_a_password_is_hashed_aside_and_before_the_database_waits_for_it(sqlite_server, monkeypatch):
    told: list[str] = []
    make, write = passwords.hash_password, AccessKeeper._write

    def hashing(password: str) -> str:
        told.append("aside" if threading.current_thread().name.startswith("keyrelay-new-passwords") else "in the loop")
        return make(password)

    async def writing(self, work):
        told.append("write")
        return await write(self, work)

    monkeypatch.setattr(passwords, "hash_password", hashing)
    monkeypatch.setattr(AccessKeeper, "_write", writing)
    add_user(sqlite_server, "jo")
    do(sqlite_server, lambda keeper: keeper.set_password("jo", SecretText("long enough 2"), CHIEF))
    assert told == ["aside", "write"] * 2
