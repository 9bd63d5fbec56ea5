"""References in the profile: mixtures with stored secrets, what each version shows, and what storing them checks."""

from __future__ import annotations

import json

import pytest
from pam_kit import PROVIDERS, basic, entry, local, oauth, provider, vault

from canary import leaks, new_canary
from complaints import OWN, complaint
from live import ANONYMOUS, BASIC, OAUTH, SMTP, V1, V2

TEST = SMTP + "/Test"
LITERAL = "UnsupportedPAMSecret"
V1_BASIC = BASIC | {"RelayUsername": "mailer", "RelayPassword": "secret-1"}


def shown(reference: dict) -> dict:
    return {"SecretValue": None, **{key: reference[key] for key in ("Parameters", "Provider")}}


def code(answer) -> str:
    return answer.json()["ErrorCode"]


# --- Mixtures, in both versions --------------------------------------------------------------------------------

USERS = {"stored": {"SecretValue": "mailer@example.org"}, "from a PAM": None}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("password", ["stored", "from a PAM"])
def test_each_mixture_of_stored_and_referenced_secrets_is_shown_as_decided(server, user, password):
    number = provider(server)
    sent = {
        **BASIC,
        "RelayUsername": USERS[user] or local(number, "smtp-user"),
        "RelayPassword": {"SecretValue": "p"} if password == "stored" else local(number),
    }
    put = server.put_v2(sent)
    assert put.status_code == 200, put.text
    expected = {
        "RelayUsername": {"SecretValue": "mailer@example.org", "Parameters": None, "Provider": None}
        if user == "stored"
        else shown(sent["RelayUsername"]),
        "RelayPassword": None if password == "stored" else shown(sent["RelayPassword"]),
    }
    for answer in (put.json(), server.get_v2()):
        assert {key: answer[key] for key in expected} == expected
    old = server.get_v1()
    assert old["RelayUsername"] == ("mailer@example.org" if user == "stored" else LITERAL)
    assert "RelayPassword" not in old
    own = server.get(OWN).json()
    assert own["relay_password"].get("provider") == (None if password == "stored" else number)


@pytest.mark.parametrize("kind", [3, 4])
def test_oauth_takes_references_for_both_and_for_one_of_its_secrets(server, kind):
    number = provider(server)
    both = server.put_v2(oauth(number, RelayAuthenticationType=kind)).json()
    assert both["ClientId"] == shown(local(number, "client"))
    assert both["ClientSecret"] == shown(local(number, "client-secret"))
    assert both["RelayAuthenticationType"] == kind
    one = server.put_v2({**OAUTH, "ClientSecret": local(number)}).json()
    assert one["ClientId"]["SecretValue"] == OAUTH["ClientId"]["SecretValue"]
    assert one["ClientSecret"] == shown(local(number))
    other = server.put_v2({**OAUTH, "ClientId": local(number)}).json()
    assert (other["ClientId"], other["ClientSecret"]) == (shown(local(number)), None)
    old = server.get_v1()
    assert old["RelayUsername"] is None
    assert LITERAL not in json.dumps(old)


def test_a_version_1_put_replaces_references_by_what_it_gives(server):
    number = provider(server)
    server.put_v2(basic(number)).raise_for_status()
    put = server.put_v1(V1_BASIC)
    assert put.json()["RelayUsername"] == "mailer"
    assert server.get_v2()["RelayPassword"] is None
    assert server.request("DELETE", f"{PROVIDERS}/{number}").status_code == 204


@pytest.mark.parametrize("put", [True, False], ids=["PUT", "Test"])
@pytest.mark.parametrize("password", ["secret", None])
def test_the_literal_is_no_user_name_in_version_1(server, put, password):
    number = provider(server)
    server.put_v2(basic(number)).raise_for_status()
    before = server.get(SMTP, headers=V2).content
    sent = {**V1_BASIC, "RelayUsername": LITERAL, "RelayPassword": password, "TestRecipient": "ops@example.org"}
    answer = server.put_v1(sent) if put else server.post(TEST, json=sent, headers=V1)
    assert LITERAL in complaint(answer, 400)
    assert server.get(SMTP, headers=V2).content == before


def test_reading_in_version_1_and_writing_back_destroys_no_reference(server):
    number = provider(server)
    server.put_v2(basic(number)).raise_for_status()
    before = server.get(SMTP, headers=V2)
    read = server.get_v1()
    assert LITERAL in complaint(server.put_v1({**read, "RelayPassword": "anything"}), 400)
    assert server.get(SMTP, headers=V2).headers["etag"] == before.headers["etag"]


def test_reading_in_version_2_and_writing_back_keeps_references(server):
    number = provider(server)
    server.put_v2(basic(number)).raise_for_status()
    read = server.get_v2()
    back = server.put_v2(read)
    assert (back.status_code, back.json()) == (200, read)


# --- What is checked when a reference is stored ----------------------------------------------------------------


@pytest.fixture(scope="module")
def numbers(module_server) -> dict[str, int]:
    return {"local": provider(module_server), "vault": vault(module_server)}


BAD = [
    ({"Provider": 99}, "PAM provider 99 does not exist", "0xA0110002"),
    ({"Provider": 0, "Parameters": {"SecretName": "a"}}, "PAM provider 0 does not exist", "0xA0110002"),
    ({"Provider": -1}, "PAM provider -1 does not exist", "0xA0110002"),
    ({"Provider": "local"}, "whole number", "0xA0110010"),
    ({"Provider": 1.5}, "whole number", "0xA0110010"),
    ({"Provider": True}, "whole number", "0xA0110010"),
    ({"Provider": 2**31}, "32 bits", "0xA0110010"),
    ({"local": {}}, "needs the parameter SecretName", "0xA0110010"),
    ({"local": None}, "needs the parameter SecretName", "0xA0110010"),
    ({"local": {"SecretName": None}}, "needs the parameter SecretName", "0xA0110010"),
    ({"local": {"SecretName": ""}}, "needs the parameter SecretName", "0xA0110010"),
    ({"local": {"secretname": "a"}}, "needs the parameter SecretName", "0xA0110010"),
    ({"local": {"SecretName": "a", "Secret": "b"}}, "parameter that LocalDB does not know", "0xA0110010"),
    ({"local": {"SecretName": 5}}, "object of texts", "0xA0110010"),
    ({"local": "SecretName=a"}, "object of texts", "0xA0110010"),
    ({"local": {"SecretName": "a\nb"}}, "control character", "0xA0110010"),
    ({"local": {"SecretName": "\ud800"}}, "control character", "0xA0110010"),
    ({"local": {"SecretName": "n" * 4097}}, "4096", "0xA0110010"),
    ({"local": {"SecretName": "a"} | {f"p{n}": "x" for n in range(40)}}, "32 parameters", "0xA0110010"),
    ({"vault": {"Secret": "a"}}, "needs the parameter Key", "0xA0110010"),
    ({"vault": {"Secret": "a", "Key": "b", "Token": "c"}}, "does not know", "0xA0110010"),
    ({"local": {"SecretName": "a"}, "SecretValue": "x"}, "SecretValue", "0xA0110010"),
    ({"SecretValue": "x", "Parameters": {"SecretName": "a"}}, "SecretValue", "0xA0110010"),
    ({"Parameters": {"SecretName": "a"}}, "is required", "0xA0110010"),
    ({}, "is required", "0xA0110010"),
]


def secret_object(bad: dict, numbers: dict[str, int]) -> dict:
    made = {key: value for key, value in bad.items() if key not in numbers}
    for name in numbers.keys() & bad.keys():
        made |= {"Provider": numbers[name], "Parameters": bad[name]}
    return made


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[1])
@pytest.mark.parametrize("place", ["PUT", "Test"])
def test_a_reference_that_can_never_give_a_secret_is_refused(module_server, numbers, place, bad):
    given, said, number = bad
    before = module_server.get(SMTP, headers=V2).content
    sent = {**BASIC, "RelayPassword": secret_object(given, numbers), "TestRecipient": "ops@example.org"}
    method, path = ("PUT", SMTP) if place == "PUT" else ("POST", TEST)
    headers = {**V2, "content-type": "application/json"}
    answer = module_server.request(method, path, content=json.dumps(sent), headers=headers)
    message = complaint(answer, 400)
    assert said in message
    assert "RelayPassword" in message
    assert code(answer) == number
    assert module_server.get(SMTP, headers=V2).content == before


def test_the_names_of_parameters_are_data_and_told_apart_by_case(module_server, numbers):
    both = '{"SecretName":"a","secretname":"b"}'
    for parameters, said in ((both, "does not know"), ('{"SecretName":"a","SecretName":"b"}', "more than once")):
        secret = f'{{"Provider":{numbers["local"]},"Parameters":{parameters}}}'
        body = json.dumps({**BASIC, "RelayPassword": 0}).replace('"RelayPassword": 0', f'"RelayPassword": {secret}')
        headers = {**V2, "content-type": "application/json"}
        assert said in complaint(module_server.put(SMTP, content=body, headers=headers), 400)


def test_every_bad_reference_is_named_at_once(module_server, numbers):
    sent = {**BASIC, "RelayUsername": local(98), "RelayPassword": {"Provider": numbers["local"]}}
    message = complaint(module_server.put_v2(sent), 400)
    assert "RelayUsername: PAM provider 98 does not exist" in message
    assert "RelayPassword needs the parameter SecretName" in message
    both = module_server.put_v2({**BASIC, "RelayUsername": local(98), "RelayPassword": local(99)})
    assert code(both) == "0xA0110002"


def test_an_entry_need_not_exist_when_it_is_referred_to(server):
    number = provider(server)
    assert server.put_v2({**BASIC, "RelayPassword": local(number, "not yet")}).status_code == 200


def test_digits_in_a_text_are_a_provider_and_come_back_as_a_number(server):
    number = provider(server)
    put = server.put_v2({**BASIC, "RelayPassword": {"provider": str(number), "parameters": {"SecretName": "a"}}})
    assert put.json()["RelayPassword"] == shown(local(number, "a"))
    assert put.json()["RelayPassword"]["Provider"] == number


def test_parameters_that_are_null_are_shown_as_they_were_given(server):
    number = provider(server)
    given = {"Provider": number, "Parameters": {"SecretName": "a", "Other": None}}
    put = server.put_v2({**BASIC, "RelayPassword": given})
    assert put.status_code == 200
    assert put.json()["RelayPassword"]["Parameters"]["SecretName"] == "a"


def test_credentials_that_the_type_does_not_use_leave_no_use_behind(server):
    number = provider(server)
    server.put_v2({**ANONYMOUS, "RelayPassword": local(number)}).raise_for_status()
    assert server.request("DELETE", f"{PROVIDERS}/{number}").status_code == 204


def test_no_answer_holds_a_fetched_secret(trusting_server, relay):
    server = trusting_server
    number, planted = provider(server), {"user": new_canary(), "password": new_canary()}
    entry(server, number, "smtp-user", planted["user"])
    entry(server, number, "smtp-pass", planted["password"])
    sent = basic(number, Host="localhost", Port=relay().port)
    answers = [
        server.put_v2(sent),
        server.get(SMTP, headers=V1),
        server.get(SMTP, headers=V2),
        server.get(OWN),
        server.get(f"{PROVIDERS}/{number}"),
        server.post(TEST, json={**sent, "TestRecipient": "ops@example.org"}, headers=V2),
        server.post(TEST, json={**sent, "TestRecipient": "ops@example.org"}, headers=V1),
        server.post("/api/v1/diagnoses", json={"recipient": "ops@example.org"}),
        server.post("/api/v1/diagnoses", json={}, headers={"accept": "text/event-stream"}),
    ]
    for answer in answers:
        assert leaks(planted, answer.content + str(answer.headers).encode()) == []


def test_the_echo_of_a_version_1_test_shows_the_literal_for_a_user_name_from_a_pam(trusting_server, relay):
    server = trusting_server
    number = provider(server)
    entry(server, number, "smtp-user", "mailer")
    entry(server, number, "smtp-pass", "right")
    place = relay(starttls=True, auth=("PLAIN",), users={"mailer": "right"})
    sent = basic(number, Host="localhost", Port=place.port, TestRecipient="ops@example.org")
    answer = server.post(TEST, json=sent, headers=V1)
    assert answer.status_code == 200, answer.text
    assert answer.json()["RelayUsername"] == LITERAL
    assert "RelayPassword" not in answer.json()
    # Text and objects may stand side by side.
    mixed = {**sent, "RelayUsername": "mailer"}
    assert server.post(TEST, json=mixed, headers=V1).json()["RelayUsername"] == "mailer"
    new = server.post(TEST, json=sent, headers=V2)
    assert (new.status_code, new.content) == (200, b"")


# --- Our own API -----------------------------------------------------------------------------------------------


def own_basic(number: int) -> dict:
    return {
        "host": "smtp.example.org",
        "port": 587,
        "use_ssl": True,
        "sender_account": "mailer@example.org",
        "sender_name": "PKI",
        "authentication": "basic",
        "relay_username": {"secret_value": "mailer"},
        "relay_password": {"provider": number, "parameters": {"SecretName": "smtp-pass"}},
    }


def test_our_own_api_takes_and_shows_references(server):
    number = provider(server)
    put = server.put(OWN, json=own_basic(number))
    assert put.status_code == 200, put.text
    assert put.json()["relay_password"] == own_basic(number)["relay_password"]
    refused = server.patch(OWN, json={"host": "other.example.org"})
    assert complaint(refused, 400)
    assert refused.json()["code"] == "secret_required"
    moved = server.patch(OWN, json={"host": "other.example.org", "relay_password": put.json()["relay_password"]})
    assert moved.status_code == 200, moved.text
    assert server.get_v2()["RelayPassword"] == shown(local(number))


def test_a_dry_run_checks_references_and_keeps_nothing(server):
    number = provider(server)
    tried = server.put(OWN + "?dry_run=true", json=own_basic(number))
    assert tried.status_code == 200
    assert server.get_v2()["Host"] is None
    wrong = server.put(OWN + "?dry_run=true", json=own_basic(number + 1))
    assert f"PAM provider {number + 1} does not exist" in complaint(wrong, 400)
    assert [error["field"] for error in wrong.json()["errors"]] == ["relay_password.provider"]


def test_a_change_that_the_profile_was_checked_against_is_looked_at_again(server, monkeypatch):
    """Between the check of a request and its change, the provider goes away."""
    number = provider(server)

    async def gone(node):
        catalogue = await node.providers.catalogue()
        confirm = node.keeper._confirm

        async def late(change, profile):
            await change.run("DELETE FROM pam_provider WHERE id = $1", number)
            await confirm(change, profile)

        node.keeper._confirm = late
        return catalogue.providers.keys()

    assert number in server.run(gone)
    for answer in (server.put_v2(basic(number)), server.put(OWN, json=own_basic(number))):
        assert f"PAM provider {number} does not exist" in complaint(answer, 400)
    assert server.get_v2()["Host"] is None
    assert server.get(f"{PROVIDERS}/{number}").status_code == 200
