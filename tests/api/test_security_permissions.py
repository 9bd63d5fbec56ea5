"""Which permission strings there are, and which permission sets the caller has."""

from __future__ import annotations

import re

import pytest
from security_kit import GLOBAL_SET, PASSWORD, READ, role

from complaints import complaint
from keyrelay.access.permissions import ASKED, every
from live import V1, V2, LiveServer

PERMISSIONS = "/KeyfactorAPI/Permissions"
MINE = "/KeyfactorAPI/PermissionSets/My"


def asked_by_routes(server: LiveServer) -> set[str]:
    """What the operations ask for, with what stands in braces left away."""
    needed = {
        operation.permission
        for resource in server.node.application().resources
        for operation in resource.operations.values()
    }
    return {re.sub(r"\{\w+\}/$", "", string) for string in needed if string is not None}


def test_the_list_of_permissions_is_what_the_routes_ask_for(module_server):
    # Who sends from another address than the profile's is asked about when the message is read.
    assert asked_by_routes(module_server) | {"/messages/submit/as/"} == set(ASKED)


def test_all_permissions_are_listed_with_the_broader_ones_that_grant_them(module_server):
    listed = module_server.get(PERMISSIONS, headers=V1).json()
    assert listed == sorted(set(listed)) == every()
    assert set(ASKED) < set(listed)
    assert {"/", "/system_settings/", "/pam/", "/security/", "/messages/submit/"} <= set(listed)
    for string in listed:
        assert any(asked.startswith(string) for asked in ASKED)


def test_it_is_of_version_1_alone(module_server):
    for place in (PERMISSIONS, MINE):
        refused = module_server.get(place, headers=V2)
        assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA0110013")


def test_the_one_permission_set_is_global_and_has_the_callers_roles(server):
    server.add_user("reader", PASSWORD, READ)
    answer = server.get(MINE, headers=V1, auth=("reader", PASSWORD)).json()
    (mine,) = answer
    assert list(mine) == ["Id", "Name", "Permissions", "SecurityRoles"]
    assert (mine["Id"], mine["Name"], mine["Permissions"]) == (GLOBAL_SET, "Global", ["/"])
    number = role(server, "role of reader")["Id"]
    assert mine["SecurityRoles"] == [{"Id": number, "Name": "role of reader"}]


@pytest.mark.parametrize(
    ("asked", "sets"),
    [("", 1), (READ, 1), ("System_Settings/Read", 1), (READ + "smtp/", 1), ("/system_settings/", 0), ("/", 0)],
)
def test_a_set_is_told_to_those_who_hold_what_is_asked_about(sqlite_server, asked, sets):
    sqlite_server.add_user("reader", PASSWORD, READ)
    for name in ("accessControlString", "ACCESSCONTROLSTRING"):
        answer = sqlite_server.get(MINE, params={name: asked}, auth=("reader", PASSWORD))
        assert len(answer.json()) == sets


def test_whoever_has_no_role_has_no_set(sqlite_server):
    sqlite_server.add_user("roleless", PASSWORD)
    answer = sqlite_server.get(MINE, auth=("roleless", PASSWORD))
    assert (answer.status_code, answer.json()) == (200, [])


@pytest.mark.parametrize(
    "asked", [{"accessControlString": "/[/"}, [("accessControlString", "/a/"), ("AccessControlString", "/b/")]]
)
def test_what_is_no_permission_string_is_refused(module_server, asked):
    assert "accessControlString" in complaint(module_server.get(MINE, params=asked), 400)
