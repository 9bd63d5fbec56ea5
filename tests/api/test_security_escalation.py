"""Nobody gives more than they hold, and the last who may do everything stays, whatever road somebody takes."""

from __future__ import annotations

import pytest
from security_kit import (
    CLAIMS,
    MODIFY,
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
    told,
    user_claim,
)

from live import V1, V2, LiveServer

SECURITY = ("/security/read/", "/security/modify/")
AUTH = ("keeper", PASSWORD)


def keeper(server: LiveServer, *permissions: str) -> tuple[str, str]:
    """Somebody who may change roles, and holds these."""
    server.add_user("keeper", PASSWORD, *SECURITY, *permissions)
    return AUTH


# --- Giving ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "given", "missing"),
    [
        ((), (READ,), [READ]),
        ((READ,), (READ,), []),
        (("/system_settings/",), (READ, MODIFY), []),
        ((READ,), ("/system_settings/",), ["/system_settings/"]),
        ((READ, MODIFY), ("/system_settings/",), ["/system_settings/"]),
        ((READ,), ("/",), ["/"]),
        ((MODIFY,), ("/system_setting/modify/",), []),
        (("/system_setting/modify/",), (MODIFY,), []),
        (("/system_setting/",), (READ,), []),
        ((), ("/security/",), ["/security/"]),
        ((), SECURITY, []),
        (("/pam/read/5/",), ("/pam/read/5/",), []),
        (("/pam/read/5/",), ("/pam/read/50/",), ["/pam/read/50/"]),
        (("/pam/read/5/",), ("/pam/read/",), ["/pam/read/"]),
        (("/messages/submit/",), ("/messages/submit/",), []),
        (("/messages/submit/",), ("/messages/submit/as/",), ["/messages/submit/as/"]),
        (("/messages/submit/",), ("/messages/submit/as/a@b.c/",), ["/messages/submit/as/a@b.c/"]),
        (("/messages/",), ("/messages/submit/as/",), []),
        ((), (READ, MODIFY, "/pam/read/"), ["/pam/read/", MODIFY, READ]),
        (("/",), ("/", "/any/thing/"), []),
        ((), ("/no/such/thing/",), ["/no/such/thing/"]),
    ],
)
def test_a_role_holds_no_more_than_who_makes_it_or_adds_to_it(sqlite_server, held, given, missing):
    auth = keeper(sqlite_server, *held)
    empty = add(sqlite_server, "Empty")
    made = sqlite_server.post(ROLES, json=body("New", *given), headers=V2, auth=auth)
    changed = replace(sqlite_server, empty, auth, Permissions=list(given))
    for answer in (made, changed):
        if not missing:
            assert answer.status_code == 200
            continue
        assert (answer.status_code, answer.json()["ErrorCode"]) == (403, "0xA0140003")
        assert "keeper" in answer.json()["Message"]
        assert answer.json()["Message"].endswith(" and ".join(missing))
    assert role(sqlite_server, "Empty")["Permissions"] == ([] if missing else sorted(set(given)))


def test_who_holds_less_than_a_role_may_take_from_it_and_describe_it(server):
    auth = keeper(server)
    strong = add(server, "Strong", READ, MODIFY, claims=(user_claim("jo"), user_claim("al")))
    now = replace(server, strong, auth, Name="Stronger", Claims=[user_claim("al")], Permissions=[READ])
    assert now.status_code == 200
    assert delete(server, ROLES, strong["Id"], auth=auth).status_code == 204


@pytest.mark.parametrize("claims", [("keeper",), ("jo", "keeper")])
def test_who_holds_less_than_a_role_gives_it_to_nobody_by_a_claim(server, claims):
    auth = keeper(server)
    strong = add(server, "Strong", READ, claims=(user_claim("jo"),))
    for target in (strong, role(server, "Administrator")):
        refused = replace(server, target, auth, Claims=[user_claim(name) for name in claims])
        assert refused.status_code == 403
        assert refused.json()["Message"].endswith(target["Permissions"][0])
    # Not even together with taking away what the role allows beyond that, in two steps the other way round.
    refused = replace(server, strong, auth, Claims=[user_claim("keeper")], Permissions=[READ, "/security/read/"])
    assert refused.status_code == 403
    assert permissions_of(server, "keeper") == ["/security/modify/", "/security/read/"]
    weaker = replace(server, strong, auth, Claims=[user_claim("keeper")], Permissions=["/security/read/"])
    assert weaker.status_code == 200


def test_a_new_description_of_a_claim_gives_it_to_nobody_else(server):
    auth = keeper(server)
    claim = add(server, "Strong", READ, claims=(user_claim("jo"),))["Claims"][0]
    sent = {"Id": claim["Id"], "Description": "x", "ClaimValue": "keeper", "ClaimType": 0}
    assert server.put(CLAIMS, json=sent, headers=V1, auth=auth).status_code == 200
    assert permissions_of(server, "keeper") == ["/security/modify/", "/security/read/"]


def test_a_role_of_the_name_of_a_deleted_one_has_neither_its_claims_nor_its_holders(server):
    server.add_user("jo", PASSWORD)
    strong = add(server, "Strong", READ, claims=(user_claim("jo"),))
    assert delete(server, ROLES, strong["Id"]).status_code == 204
    add(server, "Strong", MODIFY)
    assert permissions_of(server, "jo") == []


def test_a_role_renamed_to_that_of_another_area_stays_what_it_is(server):
    """Names say nothing: only the strings do."""
    auth = keeper(server)
    own = server.post(ROLES, json=body("Own", *SECURITY), headers=V2, auth=auth).json()
    for name in ("Administrator", "ADMINISTRATOR"):
        assert replace(server, own, auth, Name=name).status_code == 400
    assert permissions_of(server, "keeper") == ["/security/modify/", "/security/read/"]


def test_reading_is_not_changing_and_changing_is_not_reading(server):
    for name, own in (("sees", "/security/read/"), ("changes", "/security/modify/")):
        server.add_user(name, PASSWORD, own)
    for place, version in ((ROLES, V2), (CLAIMS, V1)):
        assert server.get(place, headers=version, auth=("sees", PASSWORD)).status_code == 200
        assert server.get(place, headers=version, auth=("changes", PASSWORD)).status_code == 403
        assert server.post(place, headers=version, json={}, auth=("sees", PASSWORD)).status_code == 403
        assert server.post(place, headers=version, json={}, auth=("changes", PASSWORD)).status_code == 400


def test_a_refusal_changes_nothing_and_is_told_as_no_change(server):
    auth = keeper(server)
    strong = add(server, "Strong", READ)
    before = told(server)
    assert replace(server, strong, auth, Name="X", Claims=[user_claim("keeper")]).status_code == 403
    assert server.post(ROLES, json=body("Y", "/"), headers=V2, auth=auth).status_code == 403
    assert role(server, "Strong") == strong
    assert told(server) == before


# --- The last administrator --------------------------------------------------------------------------------------


@pytest.fixture
def by_claim(server) -> LiveServer:
    """A server whose only administrator is the local user ``jo``, by a claim, through a role of another name."""
    server.add_user("jo", PASSWORD)
    add(server, "Chiefs", "/", claims=(user_claim("Jo"),))

    async def demote(node) -> None:
        await node.access.revoke("Administrator", "admin")

    server.run(demote)
    server.client.auth = ("jo", PASSWORD)
    return server


def test_a_local_user_may_be_the_last_administrator_by_a_claim(by_claim):
    assert permissions_of(by_claim, "jo") == ["/"]


@pytest.mark.parametrize(
    "changes",
    [
        {"Claims": []},
        {"Claims": [user_claim("nobody-here")]},
        {"Claims": [user_claim("jo", ClaimType=1)]},
        {"Permissions": []},
        {"Permissions": ["/system_settings/", "/security/"]},
    ],
)
def test_no_change_of_a_role_takes_the_last_administrator_away(by_claim, changes):
    chiefs = role(by_claim, "Chiefs")
    refused = replace(by_claim, chiefs, **changes)
    assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA011002E")
    assert role(by_claim, "Chiefs") == chiefs
    assert permissions_of(by_claim, "jo") == ["/"]


def test_no_deletion_takes_the_last_administrator_away(by_claim):
    chiefs = role(by_claim, "Chiefs")
    assert delete(by_claim, ROLES, chiefs["Id"]).json()["ErrorCode"] == "0xA011002E"
    assert delete(by_claim, CLAIMS, chiefs["Claims"][0]["Id"]).status_code == 400
    assert permissions_of(by_claim, "jo") == ["/"]


def test_with_another_administrator_each_of_these_is_allowed(by_claim):
    chiefs = role(by_claim, "Chiefs")
    built_in = role(by_claim, "Administrator")
    assert replace(by_claim, built_in, Claims=[user_claim("admin")]).status_code == 200
    assert replace(by_claim, chiefs, Claims=[]).status_code == 200


def test_a_renamed_role_goes_on_being_that_of_the_last_administrator(by_claim):
    assert replace(by_claim, role(by_claim, "Chiefs"), Name="Heads").status_code == 200
    assert permissions_of(by_claim, "jo") == ["/"]


def test_the_request_form_of_the_built_in_role_is_accepted_from_who_holds_everything(server):
    built_in = role(server, "Administrator")
    assert server.put(ROLES, json=request_of(built_in), headers=V2).json() == built_in
