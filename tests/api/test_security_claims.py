"""``/Security/Claims``: what roles can be given for, and which roles a claim gives."""

from __future__ import annotations

import time

import httpx2
import pytest
from security_kit import (
    CLAIMS,
    GLOBAL_SET,
    MODIFY,
    PASSWORD,
    READ,
    ROLES,
    add,
    add_claim,
    delete,
    permissions_of,
    replace,
    role,
    scheme,
    told,
    user_claim,
)

from complaints import complaint
from keyrelay.access.role_claims import TYPE_NAMES
from live import SMTP, V1, V2, LiveServer

KEYS = ["Id", "Description", "ClaimType", "ClaimValue", "Provider"]


def values(server: LiveServer, **parameters) -> list[str]:
    answer = server.get(CLAIMS, params=parameters, headers=V1)
    assert answer.status_code == 200, answer.text
    return [claim["ClaimValue"] for claim in answer.json()]


def roles_by(server: LiveServer, kind: object, value: str, of: str = "keyrelay") -> httpx2.Response:
    asked = {"ClaimType": kind, "ClaimValue": value, "ProviderAuthenticationScheme": of}
    return server.get(f"{CLAIMS}/Roles", params=asked, headers=V1)


# --- Making, reading, describing, deleting -----------------------------------------------------------------------


def test_a_claim_is_answered_with_its_keys_in_their_order_and_its_type_as_a_word(server):
    scheme(server)
    for kind, word in TYPE_NAMES.items():
        made = add_claim(server, ClaimType=int(kind), ProviderAuthenticationScheme="entra")
        assert list(made) == KEYS
        assert list(made["Provider"]) == ["Id", "AuthenticationScheme", "DisplayName"]
        assert (made["ClaimType"], made["ClaimValue"], made["Provider"]["DisplayName"]) == (word, "ops", "Entra ID")
        assert server.get(f"{CLAIMS}/{made['Id']}", headers=V1).json() == made
    assert len(values(server)) == 7


def test_keys_are_read_in_any_case_and_digits_in_a_string(sqlite_server):
    sent = {key.swapcase(): value for key, value in user_claim("jo", ClaimType="0").items()}
    assert sqlite_server.post(CLAIMS, json=sent, headers=V1).json()["ClaimType"] == "User"


def test_a_claim_can_be_described_anew_and_nothing_else_of_it_changes(server):
    made = add_claim(server)
    sent = {"id": made["Id"], "Description": "the operators", "ClaimValue": "somebody else", "ClaimType": 4}
    now = server.put(CLAIMS, json=sent, headers=V1).json()
    assert now == {**made, "Description": "the operators"}
    assert server.get(CLAIMS, headers=V1).json() == [now]


def test_a_claim_that_gives_no_role_is_deleted(server):
    made = add_claim(server)
    gone = server.request("DELETE", f"{CLAIMS}/{made['Id']}", headers=V1, content=b"null")
    assert (gone.status_code, gone.content) == (204, b"")
    assert values(server) == []
    assert add_claim(server)["Id"] > made["Id"]


def test_a_claim_that_gives_a_role_is_not_deleted_and_the_role_is_named(server):
    made = add(server, "Reader", READ, claims=(user_claim("jo"),))
    number = made["Claims"][0]["Id"]
    refused = delete(server, CLAIMS, number)
    assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA0110028")
    assert "Reader" in refused.json()["Message"]
    assert replace(server, made, Claims=[]).status_code == 200
    assert delete(server, CLAIMS, number).status_code == 204


def test_a_claim_is_kept_once(server):
    made = add_claim(server, ClaimType=1, ClaimValue=r"EXAMPLE\Ops")
    for value in (r"EXAMPLE\Ops", r"example\OPS"):
        refused = server.post(CLAIMS, json=user_claim(value, ClaimType=1), headers=V1)
        assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA0110027")
        assert f"number {made['Id']}" in refused.json()["Message"]
    scheme(server)
    for value in ("Ops", "ops"):  # what an OAuth provider says is compared letter by letter
        add_claim(server, ClaimType=4, ClaimValue=value, ProviderAuthenticationScheme="entra")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ClaimType": None}, ["ClaimType is required"]),
        ({"ClaimType": -1}, ["ClaimType must be one of 0 (User), 1 (Group)"]),
        ({"ClaimType": 7}, ["ClaimType must be one of"]),
        ({"ClaimValue": None}, ["ClaimValue is required"]),
        ({"ClaimValue": "x" * 513}, ["ClaimValue", "512"]),
        ({"ClaimValue": "a\0b"}, ["ClaimValue"]),
        ({"ProviderAuthenticationScheme": ""}, ["ProviderAuthenticationScheme is required"]),
        ({"ProviderAuthenticationScheme": "x" * 513}, ["ProviderAuthenticationScheme", "512"]),
        ({"Description": ""}, ["Description is required"]),
        ({"Description": "x" * 513}, ["Description", "512"]),
        ({"ClaimValue": 1, "ClaimType": True}, ["ClaimType must be a whole number", "ClaimValue must be text"]),
    ],
)
def test_what_is_wrong_with_a_claim_is_named(module_server, changes, named):
    message = complaint(module_server.post(CLAIMS, json=user_claim("jo", **changes), headers=V1), 400)
    for text in named:
        assert text in message
    assert values(module_server) == []


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ({}, ["Id is required", "Description is required"]),
        ({"Id": "x", "Description": "y"}, ["Id must be a whole number"]),
        ({"Id": 1, "Description": "x" * 513}, ["Description", "512"]),
    ],
)
def test_what_is_wrong_with_a_description_is_named(module_server, sent, named):
    message = complaint(module_server.put(CLAIMS, json=sent, headers=V1), 400)
    for text in named:
        assert text in message


def test_an_unknown_scheme_is_refused_with_the_code_for_that(sqlite_server):
    refused = sqlite_server.post(CLAIMS, json=user_claim("jo", ProviderAuthenticationScheme="ENTRA"), headers=V1)
    assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA0110002")
    assert "ProviderAuthenticationScheme" in refused.json()["Message"]


def test_a_claim_of_an_identity_provider_that_is_gone_stays_where_it_is_and_goes_nowhere_else(server):
    scheme(server)
    made = add(server, "Reader", READ, claims=(user_claim("jo", ProviderAuthenticationScheme="entra"),))

    async def forget(node) -> None:
        async with node.store.change("access") as change:
            await change.run("DELETE FROM identity_provider")

    server.run(forget)
    now = role(server, "Reader")
    assert now["Claims"][0]["Provider"] == {
        "Id": "00000000-0000-0000-0000-000000000000",
        "AuthenticationScheme": "entra",
        "DisplayName": "entra",
    }
    assert replace(server, now, Description="still there").status_code == 200
    elsewhere = [user_claim("jo", ProviderAuthenticationScheme="entra")]
    assert replace(server, role(server, "Administrator"), Claims=elsewhere).status_code == 400
    assert made["Id"] == now["Id"]


def test_what_is_not_there_is_404(sqlite_server):
    for number in ("77", "0", "abc", "99999999999"):
        assert sqlite_server.get(f"{CLAIMS}/{number}", headers=V1).status_code == 404
        assert sqlite_server.request("DELETE", f"{CLAIMS}/{number}", headers=V1).status_code == 404
    assert sqlite_server.put(CLAIMS, json={"Id": 77, "Description": "x"}, headers=V1).status_code == 404


@pytest.mark.parametrize(
    ("method", "place"),
    [("GET", ""), ("POST", ""), ("PUT", ""), ("GET", "/1"), ("DELETE", "/1"), ("GET", "/Roles")],
)
def test_claims_are_of_version_1_alone(sqlite_server, method, place):
    answer = sqlite_server.request(method, CLAIMS + place, headers=V2)
    assert (answer.status_code, answer.json()["ErrorCode"]) == (400, "0xA0110013")
    assert "0xA0110013" not in sqlite_server.request(method, CLAIMS + place).text


# --- Lists -----------------------------------------------------------------------------------------------------


def test_claims_are_searched_as_clients_do_and_sorted(sqlite_server):
    for kind, value in [(0, "jo"), (1, "ops"), (1, "admins")]:
        add_claim(sqlite_server, ClaimType=kind, ClaimValue=value)
    assert values(sqlite_server) == ["jo", "ops", "admins"]
    for prefix in ("", "pq."):
        asked = {prefix + "QueryString": '((ClaimValue -eq "ops" and ClaimType -eq 1))'}
        assert values(sqlite_server, **asked) == ["ops"]
        asked = {prefix + "SortField": "ClaimValue", prefix + "ReturnLimit": "1", prefix + "PageReturned": "2"}
        assert values(sqlite_server, **asked) == ["jo"]
    assert values(sqlite_server, QueryString='ProviderAuthenticationScheme -eq "keyrelay"', SortAscending="1") == [
        "admins",
        "ops",
        "jo",
    ]
    refused = sqlite_server.get(CLAIMS, params={"SortField": "Provider"}, headers=V1)
    assert refused.json()["ErrorCode"] == "0xA011004A"


# --- Which roles a claim gives -----------------------------------------------------------------------------------


def test_the_roles_that_a_claim_gives_are_told_by_number_or_word(server):
    first = add(server, "One", READ, claims=(user_claim("Jo"),))
    second = add(server, "Two", READ, claims=(user_claim("jo"), user_claim("al")))
    for kind in (0, "0", "User", "user"):
        found = roles_by(server, kind, "JO").json()
        assert [list(each) for each in found] == [["Id", "Name", "Description", "PermissionSetId"]] * 2
        assert [each["Id"] for each in found] == [first["Id"], second["Id"]]
    assert found[0] == {
        "Id": first["Id"],
        "Name": "One",
        "Description": "all about One",
        "PermissionSetId": GLOBAL_SET,
    }
    assert roles_by(server, 1, "jo").json() == []
    assert roles_by(server, 0, "jo", "entra").json() == []


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({}, ["ClaimType is required", "ClaimValue is required", "ProviderAuthenticationScheme is required"]),
        ({"ClaimType": "0", "ClaimValue": "x" * 513, "ProviderAuthenticationScheme": "y" * 513}, ["ClaimValue", "512"]),
        ({"ClaimType": "Nobody", "ClaimValue": "x", "ProviderAuthenticationScheme": "y"}, ["ClaimType must be"]),
        ({"ClaimType": "9", "ClaimValue": "x", "ProviderAuthenticationScheme": "y"}, ["ClaimType must be one of"]),
        (
            {"ClaimType": "0", "claimtype": "1", "ClaimValue": "x", "ProviderAuthenticationScheme": "y"},
            ["ClaimType is given more than once"],
        ),
    ],
)
def test_all_three_parts_of_a_claim_are_needed(module_server, asked, named):
    message = complaint(module_server.get(f"{CLAIMS}/Roles", params=asked, headers=V1), 400)
    for text in named:
        assert text in message
    assert (
        module_server.get(
            f"{CLAIMS}/roles",
            params={"claimtype": 0, "CLAIMVALUE": "v" * 512, "providerauthenticationscheme": "s" * 512},
        ).json()
        == []
    )


# --- What claims do ----------------------------------------------------------------------------------------------


def test_a_claim_gives_a_local_user_the_role_beside_those_it_holds(server):
    server.add_user(r"example\jo", PASSWORD, READ)
    made = add(server, "Changer", MODIFY, claims=(user_claim(r"EXAMPLE\Jo"),))
    assert permissions_of(server, r"example\jo") == [MODIFY, READ]
    assert replace(server, made, Claims=[]).status_code == 200
    assert permissions_of(server, r"example\jo") == [READ]


@pytest.mark.parametrize("other", [user_claim("jo", ClaimType=1), user_claim("jo2"), user_claim("j")])
def test_only_a_user_claim_of_exactly_that_name_does(sqlite_server, other):
    sqlite_server.add_user("jo", PASSWORD)
    add(sqlite_server, "Everything", "/", claims=(other,))
    assert permissions_of(sqlite_server, "jo") == []


def test_a_claim_added_and_taken_away_counts_at_once_here_and_within_a_second_on_other_nodes(fresh_settings, start):
    here, there = start(fresh_settings), start(fresh_settings)
    here.add_user("jo", PASSWORD)
    made = add(here, "Reader", READ)

    def status(server: LiveServer) -> int:
        return httpx2.get(server.url + SMTP, headers=V2, auth=("jo", PASSWORD), timeout=30).status_code

    deadline = time.monotonic() + 5
    while status(there) != 403:
        assert time.monotonic() < deadline
    assert status(here) == 403
    for claims, expected in ([user_claim("jo")], 200), ([], 403):
        assert replace(here, made, Claims=claims).status_code == 200
        began = time.monotonic()
        assert status(here) == expected
        while status(there) != expected:
            assert time.monotonic() - began < 1
            time.sleep(0.01)


def test_every_change_of_a_claim_is_told(server):
    made = add_claim(server)
    sent = {"Id": made["Id"], "Description": "the operators"}
    server.put(CLAIMS, json=sent, headers=V1)
    server.put(CLAIMS, json=sent, headers=V1)  # nothing changes
    delete(server, CLAIMS, made["Id"])
    entries = told(server)
    assert [(entry["operation"], entry["kind"], entry["name"]) for entry in entries] == [
        (number, "Claim", "User ops (keyrelay)") for number in (1, 2, 3)
    ]
    assert {(entry["category"], entry["actor"], entry["object"]) for entry in entries} == {
        (2011, "admin", str(made["Id"]))
    }
    assert entries[1]["changes"] == {"description": {"before": "user ops", "after": "the operators"}}


def test_roles_and_claims_are_at_their_paths_in_any_case(sqlite_server):
    add_claim(sqlite_server)
    assert sqlite_server.get(CLAIMS.lower() + "/").status_code == 200
    assert sqlite_server.get(ROLES.upper(), headers=V2).status_code == 200
