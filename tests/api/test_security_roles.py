"""``/Security/Roles``: made, listed, read, replaced as a whole and deleted; what is built in stays."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from security_kit import (
    GLOBAL_SET,
    MODIFY,
    OTHER_SET,
    PASSWORD,
    READ,
    ROLES,
    add,
    body,
    delete,
    permissions_of,
    replace,
    request_of,
    role,
    scheme,
    told,
    user_claim,
)

from complaints import complaint
from live import V1, V2, LiveServer

KEYS = ["Id", "Name", "Description", "EmailAddress", "Immutable", "PermissionSetId", "Permissions", "Claims"]
ITEM_KEYS = ["Id", "Name", "EmailAddress", "Immutable", "PermissionSetId", "ClaimsCount"]
CLAIM_KEYS = ["Id", "Description", "ClaimType", "ClaimValue", "Provider"]
PROVIDER_KEYS = ["Id", "AuthenticationScheme", "DisplayName"]


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["Name"] for item in answer.json()]


def listed(server: LiveServer, **parameters) -> list[str]:
    return names(server.get(ROLES, params=parameters, headers=V2))


# --- Making and reading ----------------------------------------------------------------------------------------


def test_a_role_is_answered_with_its_keys_in_their_order(server):
    scheme(server)
    claims = (user_claim("jo"), user_claim("ops", ClaimType=4, ProviderAuthenticationScheme="entra"))
    made = add(server, "Reader", READ, MODIFY, claims=claims, EmailAddress="ops@example.org")
    assert list(made) == KEYS
    assert {key: made[key] for key in KEYS[:-1]} == {
        "Id": 2,
        "Name": "Reader",
        "Description": "all about Reader",
        "EmailAddress": "ops@example.org",
        "Immutable": False,
        "PermissionSetId": GLOBAL_SET,
        "Permissions": [MODIFY, READ],
    }
    assert [list(claim) for claim in made["Claims"]] == [CLAIM_KEYS] * 2
    assert [list(claim["Provider"]) for claim in made["Claims"]] == [PROVIDER_KEYS] * 2
    first, second = made["Claims"]
    assert (first["ClaimType"], first["ClaimValue"], first["Description"]) == ("User", "jo", "user jo")
    assert (first["Provider"]["AuthenticationScheme"], first["Provider"]["DisplayName"]) == ("keyrelay", "Local users")
    assert second["ClaimType"] == "OAuthRole"
    assert list(second["Provider"].values()) == ["99999999-0000-4000-8000-000000000001", "entra", "Entra ID"]
    assert server.get(f"{ROLES}/2", headers=V2).json() == made


def test_a_list_has_keys_of_its_own_and_counts_the_claims(server):
    made = add(server, "Reader", READ, claims=(user_claim("jo"), user_claim("al")))
    first, second = server.get(ROLES, headers=V2).json()
    assert list(first) == list(second) == ITEM_KEYS
    assert first == {
        "Id": 1,
        "Name": "Administrator",
        "EmailAddress": None,
        "Immutable": True,
        "PermissionSetId": GLOBAL_SET,
        "ClaimsCount": 0,
    }
    assert (second["Id"], second["ClaimsCount"]) == (made["Id"], 2)


def test_keys_are_read_in_any_case_and_unknown_ones_are_ignored(server):
    sent = {
        "name": "Reader",
        "description": "reads",
        "emailaddress": "",
        "permissionSetid": "{" + OTHER_SET.upper() + "}",
        "EnableCertOwnership": True,
        "permissions": ["System_Settings/Read"],
        "claims": [{key.lower(): value for key, value in user_claim("jo", ClaimType="0").items()}],
    }
    made = server.post(ROLES, json=sent, headers=V2).json()
    assert (made["EmailAddress"], made["PermissionSetId"], made["Permissions"]) == (None, OTHER_SET, [READ])
    assert [claim["ClaimValue"] for claim in made["Claims"]] == ["jo"]


def test_lists_may_be_null_or_missing(sqlite_server):
    sent = {"Name": "Empty", "Description": "nothing", "PermissionSetId": GLOBAL_SET}
    made = sqlite_server.post(ROLES, json=sent, headers=V2).json()
    assert (made["EmailAddress"], made["Permissions"], made["Claims"]) == (None, [], [])
    again = sqlite_server.post(ROLES, json={**sent, "Name": "Null", "Permissions": None, "Claims": None}, headers=V2)
    assert (again.json()["Permissions"], again.json()["Claims"]) == ([], [])


@pytest.mark.parametrize(
    ("method", "place", "versions"),
    [("GET", "", {2}), ("POST", "", {2}), ("PUT", "", {2}), ("GET", "/2", {2}), ("DELETE", "/77", {1, 2})],
)
def test_an_operation_that_a_version_does_not_have_names_those_that_it_has(sqlite_server, method, place, versions):
    for version in (1, 2):
        headers = {"x-keyfactor-api-version": str(version)}
        answer = sqlite_server.request(method, ROLES + place, headers=headers)
        assert ("0xA0110013" in answer.text) == (version not in versions)
        if version not in versions:
            assert answer.status_code == 400
            assert "2.0" in complaint(answer, 400)
        assert answer.headers["api-supported-versions"] == ", ".join(f"{each}.0" for each in sorted(versions))


def test_what_is_not_there_is_404(sqlite_server):
    for number in ("77", "0", "abc", "99999999999", "-1"):
        assert sqlite_server.get(f"{ROLES}/{number}", headers=V2).status_code == 404
        assert sqlite_server.request("DELETE", f"{ROLES}/{number}", headers=V2).status_code == 404
    missing = sqlite_server.put(ROLES, json={"Id": 77, **body("X", READ)}, headers=V2)
    assert missing.status_code == 404


# --- Bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"Name": None}, ["Name is required"]),
        ({"Name": ""}, ["Name is required"]),
        ({"Name": "x" * 129}, ["Name", "128"]),
        ({"Name": " x"}, ["Name"]),
        ({"Name": "a\nb"}, ["Name"]),
        ({"Name": "\ud800"}, ["Name"]),
        ({"Name": 7}, ["Name must be text"]),
        ({"Description": None}, ["Description is required"]),
        ({"Description": "x" * 513}, ["Description", "512"]),
        ({"EmailAddress": "x" * 257}, ["EmailAddress", "256"]),
        ({"PermissionSetId": None}, ["PermissionSetId is required"]),
        ({"PermissionSetId": "7"}, ["PermissionSetId must be a GUID"]),
        ({"Permissions": "/"}, ["Permissions must be a list of texts"]),
        ({"Permissions": [1]}, ["Permissions must be a list of texts"]),
        ({"Permissions": ["/[/"]}, ["Permissions", "'/[/'"]),
        ({"Permissions": [f"/a{number}/" for number in range(1001)]}, ["Permissions", "1000"]),
        ({"Claims": {}}, ["Claims must be a list of objects"]),
        ({"Claims": [user_claim("jo", ClaimType=7)]}, ["Claims", "type of item 1", "6 (OAuthClientId)"]),
        ({"Claims": [user_claim("jo", ClaimType=None)]}, ["Claims", "type of item 1 is required"]),
        ({"Claims": [user_claim("jo", ClaimType="User")]}, ["Claims: ClaimType must be a whole number"]),
        ({"Claims": [user_claim("")]}, ["Claims", "value of item 1 is required"]),
        ({"Claims": [user_claim("x" * 513)]}, ["Claims", "value of item 1", "512"]),
        ({"Claims": [user_claim("jo", Description="")]}, ["Claims", "description of item 1 is required"]),
        ({"Claims": [user_claim("jo", Description="x" * 513)]}, ["Claims", "description of item 1", "512"]),
        ({"Claims": [user_claim("jo"), user_claim("JO")]}, ["Claims", "item 2 means the same"]),
        ({"Name": None, "Description": None, "PermissionSetId": None}, ["Name", "Description", "PermissionSetId"]),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_changed(module_server, changes, named):
    before = listed(module_server)
    sent = json.dumps({**body("Reader", READ), **changes}).encode()
    for method in ("POST", "PUT"):
        answer = module_server.request(method, ROLES, content=sent, headers=V2)
        for text in named:
            assert text in complaint(answer, 400)
    assert listed(module_server) == before


def test_bounds_are_included(server):
    claim = user_claim("v" * 512, Description="d" * 512)
    made = add(server, "n" * 128, claims=(claim,), Description="d" * 512, EmailAddress="e" * 256)
    assert (len(made["Name"]), len(made["Claims"][0]["ClaimValue"])) == (128, 512)


def test_a_put_needs_the_id(sqlite_server):
    assert "Id is required" in complaint(sqlite_server.put(ROLES, json=body("X", READ), headers=V2), 400)


def test_a_claim_of_a_scheme_that_does_not_exist_is_refused_with_the_code_for_that(server):
    claim = user_claim("jo", ProviderAuthenticationScheme="nowhere")
    answer = server.post(ROLES, json=body("Reader", READ, claims=(claim,)), headers=V2)
    assert (answer.status_code, answer.json()["ErrorCode"]) == (400, "0xA0110002")
    assert "'nowhere'" in answer.json()["Message"]
    assert listed(server) == ["Administrator"]


# --- Replacing -------------------------------------------------------------------------------------------------


def test_a_put_replaces_everything(server):
    claims = (user_claim("jo"), user_claim("al"))
    made = add(server, "Reader", READ, MODIFY, claims=claims, EmailAddress="ops@example.org")
    sent = {"Id": made["Id"], **body("Reader", "/pam/read/", claims=(user_claim("al"), user_claim("kim")))}
    answer = server.put(ROLES, json={**sent, "PermissionSetId": OTHER_SET}, headers=V2)
    now = answer.json()
    assert (now["Permissions"], now["EmailAddress"], now["PermissionSetId"]) == (["/pam/read/"], None, OTHER_SET)
    assert [claim["ClaimValue"] for claim in now["Claims"]] == ["al", "kim"]
    assert server.get(f"{ROLES}/{made['Id']}", headers=V2).json() == now
    cleared = {key: value for key, value in sent.items() if key not in {"Permissions", "Claims"}}
    now = server.put(ROLES, json=cleared, headers=V2).json()
    assert (now["Permissions"], now["Claims"]) == ([], [])


def test_what_is_read_and_written_back_is_the_same(server):
    server.add_user("reader", PASSWORD, READ)  # as a node of the version before would: without a number
    for name in ("Administrator", "role of reader"):
        before = role(server, name)
        answer = replace(server, before)
        assert (answer.status_code, answer.json()) == (200, before)


def test_a_claim_keeps_its_number_whatever_role_it_gives(server):
    first = add(server, "One", READ, claims=(user_claim("jo"),))["Claims"][0]
    second = add(server, "Two", READ, claims=(user_claim("JO", Description="said anew"),))["Claims"][0]
    assert (second["Id"], second["ClaimValue"], second["Description"]) == (first["Id"], "jo", "said anew")
    assert role(server, "One")["Claims"] == [second]


def test_a_renamed_role_keeps_its_holders_its_claims_and_its_number(server):
    server.add_user("reader", PASSWORD, READ)
    server.add_user("jo", PASSWORD)
    before = role(server, "role of reader")
    assert replace(server, before, Claims=[user_claim("jo")]).status_code == 200
    for name in ("Readers", "READERS"):
        now = replace(server, role(server, "role of reader" if name == "Readers" else "Readers"), Name=name).json()
        assert (now["Id"], now["Name"]) == (before["Id"], name)
        assert permissions_of(server, "reader") == permissions_of(server, "jo") == [READ]
    assert listed(server) == ["Administrator", "READERS"]


def test_a_name_is_taken_whatever_its_case(server):
    add(server, "Reader", READ)
    other = add(server, "Ätna", READ)
    for name in ("READER", "ADMINISTRATOR", "äTNA"):
        taken = server.post(ROLES, json=body(name, READ), headers=V2)
        assert (taken.status_code, taken.json()["ErrorCode"]) == (400, "0xA0110027")
    assert replace(server, other, Name="reader").status_code == 400
    assert listed(server) == ["Administrator", "Reader", "Ätna"]


def test_numbers_are_never_given_again(server):
    first = add(server, "Reader", READ)["Id"]
    assert delete(server, ROLES, first).status_code == 204
    assert add(server, "Reader", READ)["Id"] > first


# --- Deleting --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1, V2], ids=["v1", "v2"])
def test_a_role_is_deleted_in_both_versions(server, version):
    made = add(server, "Reader", READ, claims=(user_claim("jo"),))
    gone = server.request("DELETE", f"{ROLES}/{made['Id']}", headers=version, content=b"null")
    assert (gone.status_code, gone.content) == (204, b"")
    assert server.get(f"{ROLES}/{made['Id']}", headers=V2).status_code == 404


def test_a_role_that_local_users_hold_is_not_deleted_and_they_are_named(server):
    server.add_user("reader", PASSWORD, READ)
    number = role(server, "role of reader")["Id"]
    answer = delete(server, ROLES, number)
    assert (answer.status_code, answer.json()["ErrorCode"]) == (400, "0xA0110028")
    assert "held by reader" in answer.json()["Message"]
    assert permissions_of(server, "reader") == [READ]


def test_the_built_in_role_keeps_its_name_and_what_it_allows_and_stays(server):
    server.add_user("jo", PASSWORD)
    built_in = role(server, "Administrator")
    assert built_in["Immutable"] is True
    for changes in ({"Name": "Admin"}, {"Name": "administrator"}, {"Permissions": []}, {"Permissions": ["/", READ]}):
        answer = replace(server, built_in, **changes)
        assert (answer.status_code, answer.json()["ErrorCode"]) == (400, "0xA0110004")
    assert delete(server, ROLES, built_in["Id"]).status_code == 400
    assert role(server, "Administrator") == built_in
    answer = replace(server, built_in, Claims=[user_claim("jo")], Description="all", EmailAddress="a@example.org")
    assert answer.status_code == 200
    assert permissions_of(server, "jo") == ["/"]


# --- Lists -----------------------------------------------------------------------------------------------------


@pytest.fixture
def three(sqlite_server) -> LiveServer:
    add(sqlite_server, "Beta", READ, claims=(user_claim("jo"),), EmailAddress="b@example.org")
    add(sqlite_server, "alpha", READ, PermissionSetId=OTHER_SET)
    return sqlite_server


@pytest.mark.parametrize("prefix", ["", "pq.", "PQ."])
def test_list_parameters_are_read_with_and_without_their_old_prefix(three, prefix):
    asked = {"queryString": 'name -contains "a"', "sortField": "Id", "sortAscending": "1", "returnLimit": "2"}
    assert listed(three, **{prefix + key: value for key, value in asked.items()}) == ["alpha", "Beta"]
    assert listed(three, **{prefix + key: value for key, value in {**asked, "pageReturned": "2"}.items()}) == [
        "Administrator"
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ('Name -eq "beta"', ["Beta"]),
        ("Immutable -eq true", ["Administrator"]),
        ("ClaimsCount -gt 0", ["Beta"]),
        ("Id -lt 2", ["Administrator"]),
        (f'PermissionSetId -eq "{OTHER_SET}"', ["alpha"]),
        ('EmailAddress -eq NULL AND Description -startswith "all about"', ["alpha"]),
    ],
)
def test_roles_are_searched_by_each_of_their_fields(three, query, found):
    assert listed(three, QueryString=query) == found


def test_roles_are_sorted_by_name_unless_told_otherwise_and_by_no_unknown_field(three):
    assert listed(three) == ["Administrator", "alpha", "Beta"]
    assert listed(three, SortField="ClaimsCount", SortAscending="1")[0] == "Beta"
    refused = three.get(ROLES, params={"SortField": "Permissions"}, headers=V2)
    assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA011004A")


# --- Many at once, and what is told -----------------------------------------------------------------------------


def test_two_nodes_that_replace_one_role_leave_one_of_the_two_and_an_entry_for_each(fresh_settings, start):
    here, there = start(fresh_settings), start(fresh_settings)
    made = add(here, "Reader", READ)
    known = len(told(here))

    def put(number: int) -> int:
        letter = "ab"[number % 2]
        return replace(
            (here, there)[number % 2],
            made,
            Description=f"{letter} {number}",
            Permissions=[f"/{letter}/{place}/" for place in range(20)],
            Claims=[user_claim(f"{letter}{place}") for place in range(5)],
        ).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, range(24))) == {200}
    now = role(here, "Reader")
    letter = now["Description"][0]
    assert {string[1] for string in now["Permissions"]} == {letter}
    assert {claim["ClaimValue"][0] for claim in now["Claims"]} == {letter}
    entries = [entry for entry in told(here)[known:] if entry["kind"] == "Role"]
    assert len(entries) == 24
    assert entries[-1]["changes"]["description"]["after"] == now["Description"]


def test_many_that_make_a_role_of_one_name_make_it_once(fresh_settings, start):
    nodes = [start(fresh_settings), start(fresh_settings)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: nodes[each % 2].post(ROLES, json=body("R", READ), headers=V2), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[400] * 7]


def test_each_change_of_a_role_is_told_field_by_field(server):
    made = add(server, "Reader", READ, claims=(user_claim("jo"),))
    renamed = replace(server, made, Name="Readers", Permissions=[MODIFY], Claims=[user_claim("al")]).json()
    replace(server, renamed)  # nothing changes, and nothing is told
    delete(server, ROLES, made["Id"])
    claim, added, other, changed, gone = told(server)
    assert [entry["kind"] for entry in (claim, other)] == ["Claim", "Claim"]
    assert (claim["operation"], claim["name"]) == (1, "User jo (keyrelay)")
    assert (added["category"], added["operation"], added["kind"]) == (2011, 1, "Role")
    assert (added["actor"], added["address"], added["object"]) == ("admin", "127.0.0.1", str(made["Id"]))
    assert added["changes"]["permissions"] == {"added": [READ]}
    assert added["changes"]["claims"] == {"added": ["User jo (keyrelay)"]}
    assert (changed["operation"], changed["name"], changed["object"]) == (2, "Readers", str(made["Id"]))
    assert changed["changes"] == {
        "name": {"before": "Reader", "after": "Readers"},
        "permissions": {"added": [MODIFY], "removed": [READ]},
        "claims": {"added": ["User al (keyrelay)"], "removed": ["User jo (keyrelay)"]},
    }
    assert (gone["operation"], gone["changes"]["permissions"]) == (3, {"removed": [MODIFY]})


def test_a_refused_change_is_not_told(server):
    built_in = role(server, "Administrator")
    assert replace(server, built_in, Name="X").status_code == 400
    assert server.post(ROLES, json=body("administrator"), headers=V2).status_code == 400
    assert told(server) == []


def test_a_round_trip_through_the_request_form_keeps_every_claim(server):
    scheme(server)
    claims = tuple(user_claim(f"v{kind}", ClaimType=kind, ProviderAuthenticationScheme="entra") for kind in range(7))
    made = add(server, "Reader", READ, claims=claims)
    assert request_of(made)["Claims"] == list(claims)
    assert replace(server, made).json() == made
