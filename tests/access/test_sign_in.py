"""Signing in end to end: every spelling of a name, one argon2 run per credential, and guessers slowed down."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from complaints import without_id
from keyrelay.access import accounts, passwords
from keyrelay.errors import StoreUnavailable
from live import ADMIN_PASSWORD, SMTP, V2, LiveServer

READ = "/system_settings/read/"


@pytest.fixture
def checks(monkeypatch):
    """The argon2 verifications that run, one entry each."""
    made: list[str] = []
    verify = passwords._verify

    def counted(hashed: str, password: str) -> bool:
        made.append(hashed)
        return verify(hashed, password)

    monkeypatch.setattr(passwords, "_verify", counted)
    return made


def status(server: LiveServer, name: str, password: str, method: str = "GET") -> int:
    return httpx2.request(method, server.url + SMTP, auth=(name, password), headers=V2, timeout=30).status_code


def change(server: LiveServer, work, *arguments) -> None:
    async def run(node) -> None:
        async with node.store.change("access") as opened:
            await work(opened, *arguments)

    server.run(run)


# --- Names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "right", "wrong"),
    [
        ("jo", ["jo", "JO", r"EXAMPLE\jo", r"other.example.org\Jo"], ["jo@example.org", "EXAMPLE/jo"]),
        (r"example\jo", [r"example\jo", r"EXAMPLE\JO"], ["jo", r"OTHER\jo", "jo@example"]),
        # Official clients that are given user@domain send domain\user.
        ("jo@example.org", ["jo@example.org", "Jo@Example.ORG", r"example.org\jo"], ["jo", r"other.org\jo"]),
    ],
)
def test_an_account_answers_to_its_spellings_and_to_no_other(sqlite_server, account, right, wrong):
    sqlite_server.add_user(account, "the password", READ)
    assert {name: status(sqlite_server, name, "the password") for name in right} == dict.fromkeys(right, 200)
    assert {name: status(sqlite_server, name, "the password") for name in wrong} == dict.fromkeys(wrong, 401)


def test_the_most_literal_account_is_the_one_that_is_meant(sqlite_server):
    sqlite_server.add_user("jo", "password of jo", READ)
    sqlite_server.add_user(r"example\jo", "password of example", READ)
    assert status(sqlite_server, r"EXAMPLE\jo", "password of example") == 200
    assert status(sqlite_server, r"EXAMPLE\jo", "password of jo") == 401
    assert status(sqlite_server, r"OTHER\jo", "password of jo") == 200


def test_letters_of_any_language_work_in_names_and_passwords(server):
    server.add_user("jürgen", "pässwörd:パス", READ)
    auth = httpx2.BasicAuth("JÜRGEN".encode(), "pässwörd:パス".encode())
    assert httpx2.get(server.url + SMTP, auth=auth, headers=V2).status_code == 200


# --- One check per credential --------------------------------------------------------------------------------


def test_argon2_runs_once_for_many_requests(server, checks):
    assert {status(server, "admin", ADMIN_PASSWORD) for _ in range(30)} == {200}
    assert len(checks) == 1


def test_argon2_runs_once_for_many_first_requests_at_once(server, checks):
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(status, server, "admin", ADMIN_PASSWORD) for _ in range(50)]
        assert {answer.result() for answer in answers} == {200}
    assert len(checks) == 1


def test_argon2_runs_once_for_many_wrong_passwords_at_once(sqlite_server, checks):
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(status, sqlite_server, "admin", "a wrong one") for _ in range(50)]
        assert {answer.result() for answer in answers} <= {401, 429}
    assert len(checks) <= 10


def test_a_decision_is_never_shared_between_different_headers(sqlite_server):
    sqlite_server.add_user("reader", "the password", READ)
    assert status(sqlite_server, "admin", ADMIN_PASSWORD) == 200
    for name, password in [("admin", ADMIN_PASSWORD + " "), ("admin", ADMIN_PASSWORD[:-1]), ("reader", ADMIN_PASSWORD)]:
        assert status(sqlite_server, name, password) == 401
    assert status(sqlite_server, "reader", "the password", "PUT") == 403
    assert status(sqlite_server, "admin", ADMIN_PASSWORD, "PUT") == 400  # admitted, and there is no body
    assert status(sqlite_server, "reader", "the password", "PUT") == 403


def test_a_wrong_password_is_not_remembered_as_wrong_when_it_becomes_right(sqlite_server):
    assert status(sqlite_server, "admin", "the next password") == 401
    change(sqlite_server, accounts.set_password, "admin", passwords.hash_password("the next password"))
    assert status(sqlite_server, "admin", "the next password") == 200


def test_a_role_that_is_revoked_or_granted_counts_at_once(server):
    server.add_user("reader", "the password", READ)
    assert status(server, "reader", "the password") == 200
    change(server, accounts.revoke_role, "role of reader", "reader")
    assert status(server, "reader", "the password") == 403
    change(server, accounts.grant_role, "role of reader", "reader")
    assert status(server, "reader", "the password") == 200


def test_an_unknown_user_costs_as_many_checks_as_a_wrong_password(sqlite_server, checks):
    assert status(sqlite_server, "admin", "a wrong one") == 401
    assert len(checks) == 1
    assert status(sqlite_server, "nobody", "a wrong one") == 401
    assert len(checks) == 2


def test_an_unknown_user_and_a_wrong_password_get_the_same_answer(sqlite_server):
    answers = [
        httpx2.get(sqlite_server.url + SMTP, auth=(name, "a wrong one"), headers=V2) for name in ("admin", "nobody")
    ]
    assert without_id(answers[0]) == without_id(answers[1])
    assert {answer.status_code for answer in answers} == {401}
    of_each = {"date", "x-request-id"}
    names = [{name: value for name, value in answer.headers.items() if name not in of_each} for answer in answers]
    assert names[0] == names[1]


# --- Guessing ------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(sqlite_server):
    """Clients of the server at other addresses of this machine."""
    clients = []

    def client(address: str) -> httpx2.Client:
        transport = httpx2.HTTPTransport(local_address=address)
        clients.append(httpx2.Client(base_url=sqlite_server.url, transport=transport, headers=V2, timeout=30))
        return clients[-1]

    yield client
    for each in clients:
        each.close()


def hammer(client: httpx2.Client, times: int = 20) -> list[httpx2.Response]:
    return [client.get(SMTP, auth=("admin", f"guess {number}")) for number in range(times)]


def test_a_guesser_is_told_to_wait_and_the_owner_signs_in_all_the_same(sqlite_server, elsewhere):
    guesser = elsewhere("127.0.0.2")
    answers = hammer(guesser)
    assert {answer.status_code for answer in answers} == {401, 429}
    last = answers[-1]
    assert last.status_code == 429
    assert 1 <= int(last.headers["retry-after"]) <= 60
    assert last.json()["ErrorCode"] == "0xA0140004"
    assert guesser.get("/api/v1/profile", auth=("admin", "guess")).json()["code"] == "too_many_attempts"
    # The guesser's address gets nowhere even with the right password, and the owner elsewhere does.
    assert guesser.get(SMTP, auth=("admin", ADMIN_PASSWORD)).status_code == 429
    assert status(sqlite_server, "admin", ADMIN_PASSWORD) == 200


def test_the_owner_signs_in_with_a_new_password_while_a_guesser_hammers(sqlite_server, elsewhere):
    guesser = elsewhere("127.0.0.2")
    hammer(guesser)
    change(sqlite_server, accounts.set_password, "admin", passwords.hash_password("the next password"))
    hammer(guesser)
    assert status(sqlite_server, "admin", "the next password") == 200
    assert status(sqlite_server, "admin", ADMIN_PASSWORD) == 401


def test_a_crowd_of_guessers_does_not_keep_the_owner_out(sqlite_server, elsewhere):
    assert status(sqlite_server, "admin", ADMIN_PASSWORD) == 200
    crowd = [elsewhere(f"127.0.0.{number}") for number in range(2, 10)]
    assert {answer.status_code for guesser in crowd for answer in hammer(guesser, 8)} == {401, 429}
    change(sqlite_server, accounts.set_password, "admin", passwords.hash_password("the next password"))
    assert status(sqlite_server, "admin", "the next password") == 200


def test_a_script_with_an_old_password_does_not_stop_one_with_the_right_one(sqlite_server):
    """Both run on one machine: what was checked before needs no new attempt."""
    assert status(sqlite_server, "admin", ADMIN_PASSWORD) == 200
    for number in range(40):
        assert status(sqlite_server, "admin", f"old {number % 3}") in {401, 429}
        assert status(sqlite_server, "admin", ADMIN_PASSWORD) == 200


def test_many_users_who_sign_in_at_once_from_one_address_all_get_in(sqlite_server):
    names = [f"user{number}" for number in range(40)]
    for name in names:
        sqlite_server.add_user(name, "long enough 1", "/")
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: sqlite_server.get(SMTP, auth=(name, "long enough 1")), names))
    assert [answer.status_code for answer in answers] == [200] * len(names)


def test_a_database_that_is_away_is_nobodys_guess(sqlite_server, monkeypatch):
    """Programs that try again while it is away must not be locked out when it is back."""
    sqlite_server.add_user("script", "the password", READ)

    async def away(*_):
        raise StoreUnavailable("The database does not answer.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(accounts, "find", away)
        assert {status(sqlite_server, "script", "the password") for _ in range(20)} == {503}
    assert status(sqlite_server, "script", "the password") == 200
