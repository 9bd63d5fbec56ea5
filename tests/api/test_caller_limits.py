"""What is answered to who hands in or tests more than it may."""

from __future__ import annotations

from dataclasses import replace

import pytest

from complaints import complaint
from keyrelay.audit.journal import Journal
from keyrelay.errors import StoreUnavailable
from keyrelay.secrets import rotation
from live import ANONYMOUS, V2, LiveServer, run_keyrelay
from submissions import MESSAGES, hand_in, keyed, refused, taken_in

TEST = "/KeyfactorAPI/SMTP/Test"
DIAGNOSES = "/api/v1/diagnoses"
NOWHERE = ANONYMOUS | {
    "Host": "localhost",
    "Port": 9,
    "RelayAuthenticationType": 0,
    "TestRecipient": "ops@example.org",
}


@pytest.fixture
def limited(fresh_settings, start):
    """Start a server that sends nothing, with these limits."""

    def go(**limits: int) -> LiveServer:
        server = start(replace(fresh_settings, worker=False, **limits))
        server.put_v2(ANONYMOUS).raise_for_status()
        return server

    return go


def test_more_messages_than_a_user_may_hand_in_are_refused_with_the_setting_and_a_wait(limited):
    server = limited(submissions_per_minute=3)
    server.add_user("other", "long enough 1", "/messages/")
    for _ in range(3):
        taken_in(hand_in(server))
    answer = hand_in(server)
    said = refused(answer, 429, "too_many_messages")
    assert "no more than 3 in any minute" in said
    assert "KEYRELAY_SUBMISSIONS_PER_MINUTE" in answer.json()["remedy"]
    assert 1 <= int(answer.headers["retry-after"]) <= 66
    taken_in(hand_in(server, auth=("other", "long enough 1")))


def test_more_messages_than_an_address_may_hand_in_are_refused_whoever_asks(limited):
    server = limited(address_submissions_per_minute=3)
    server.add_user("other", "long enough 1", "/messages/")
    for _ in range(3):
        taken_in(hand_in(server))
    answer = hand_in(server, auth=("other", "long enough 1"))
    assert "Messages from one address" in refused(answer, 429, "too_many_messages")
    assert "KEYRELAY_ADDRESS_SUBMISSIONS_PER_MINUTE" in answer.json()["remedy"]


def test_a_message_that_was_taken_in_is_not_refused_when_it_comes_again(limited):
    server = limited(submissions_per_minute=1)
    name = taken_in(hand_in(server, **keyed("one")))
    refused(hand_in(server, **keyed("two")), 429, "too_many_messages")
    again = hand_in(server, **keyed("one"))
    assert taken_in(again) == name
    assert again.headers["idempotency-replayed"] == "true"


def test_the_command_line_is_not_limited(limited):
    server = limited(submissions_per_minute=1, address_submissions_per_minute=1)
    taken_in(hand_in(server))
    refused(hand_in(server), 429, "too_many_messages")
    environment = {"KEYRELAY_DATA_DIR": str(server.settings.data_dir), "KEYRELAY_SUBMISSIONS_PER_MINUTE": "1"}
    if server.settings.database_url:
        environment["KEYRELAY_DATABASE_URL"] = server.settings.database_url
    for _ in range(2):
        sent = run_keyrelay(environment, "send", "--subject", "x", "ops@example.org", given="Hello.\n")
        assert sent.returncode == 0, sent.stderr


@pytest.mark.parametrize("whose", ["user", "address"])
def test_tests_of_both_apis_count_together_and_say_which_limit_it_is(limited, whose):
    server = limited(tests_per_minute=2 if whose == "user" else 9, address_tests_per_minute=9 if whose == "user" else 2)
    assert server.post(DIAGNOSES, json={"profile": {"host": "localhost", "port": 9}}).status_code == 200
    assert server.post(TEST, json=NOWHERE, headers=V2).status_code == 400
    refusal = complaint(server.post(TEST, json=NOWHERE, headers=V2), 429)
    setting = {"user": "KEYRELAY_TESTS_PER_MINUTE", "address": "KEYRELAY_ADDRESS_TESTS_PER_MINUTE"}[whose]
    assert setting in str(refusal)
    problem = server.post(DIAGNOSES, json={})
    assert (problem.status_code, problem.json()["code"]) == (429, "too_many_tests")
    assert setting in problem.json()["remedy"]
    assert 1 <= int(problem.headers["retry-after"]) <= 63


def test_while_the_database_is_away_nobody_is_told_that_there_were_too_many(limited, monkeypatch):
    server = limited(submissions_per_minute=2, tests_per_minute=2)
    assert server.get("/api/v1/profile").status_code == 200  # and signed in

    async def away(*_, **__):
        raise StoreUnavailable("The database does not answer.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(server.node.store, "perform", away)
        assert {hand_in(server).status_code for _ in range(5)} == {503}
        assert {server.post(TEST, json=NOWHERE, headers=V2).status_code for _ in range(5)} == {503}
        assert {server.get(MESSAGES, auth=("admin", f"guess {number}")).status_code for number in range(20)} == {503}
    taken_in(hand_in(server))
    assert server.post(TEST, json=NOWHERE, headers=V2).status_code == 400
    assert server.get(MESSAGES, auth=("admin", "wrong")).status_code == 401


def test_a_trail_that_has_lost_its_key_keeps_nobody_out_and_lets_limits_hold(limited):
    server = limited(submissions_per_minute=2)
    server.add_user("other", "long enough 1", "/messages/")

    async def lose(node) -> None:
        async with node.store.change("keys") as change:
            await change.run("UPDATE audit_head SET sealed = $1 WHERE id = 1", b"damaged")
        node.journal._signer = None

    server.run(lose)
    for _ in range(2):
        taken_in(hand_in(server, auth=("other", "long enough 1")))
    refused(hand_in(server, auth=("other", "long enough 1")), 429, "too_many_messages")


def test_a_rotation_of_the_keys_leaves_the_counts_where_they_are(limited):
    """What stands for users and addresses in the database is made with a key that no rotation changes."""
    server = limited()

    async def names(node) -> tuple[str, str]:
        before = await Journal(node.keyring).pseudonym(node.store, "jo")
        await rotation.rotate(node.store, node.keyring)
        return before, await Journal(node.keyring).pseudonym(node.store, "jo")

    before, after = server.run(names)
    assert before == after
    assert "jo" not in before
