"""Who may do what, held against every operation the application has."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection

import httpx2
import pytest

from keyrelay.api import outbox
from live import ANONYMOUS, SMTP, V2, LiveServer

READ, MODIFY = "/system_settings/read/", "/system_settings/modify/"
BASE = "/KeyfactorAPI"
MESSAGES, OUTBOX = "/api/v1/messages", "/api/v1/outbox"
OWN, DIAGNOSES, TRY = "/api/v1/profile", "/api/v1/diagnoses", "/api/v1/pam-providers/{id}/try"
PAM = f"{BASE}/PamProviders"
PASSWORD = "long enough 1"

# Every operation and what it needs: a permission, any role at all, or to be signed in.
ANY_ROLE, SIGNED_IN = "any role", "signed in"
READ_PAM, MODIFY_PAM = "/pam/read/", "/pam/modify/"
READ_SECURITY, MODIFY_SECURITY = "/security/read/", "/security/modify/"
SECURITY = f"{BASE}/Security"
SUBMIT, READ_METRICS = "/messages/submit/", "/metrics/read/"
READ_MESSAGES, READ_CONTENT, MODIFY_MESSAGES = "/messages/read/", "/messages/raw/", "/messages/modify/"
READ_AUDIT, AUDIT = "/auditing/read/", ("", "/{id}", "/{id}/Validate", "/RelatedEntities", "/Download")
READ_ONE, MODIFY_ONE = "/pam/read/{id}/", "/pam/modify/{id}/"
# The right to one provider is enough, and what is not open to it is left out or refused later.
SOME = "some of "
NEEDS = {
    f"GET {BASE}/SMTP": READ,
    f"PUT {BASE}/SMTP": MODIFY,
    f"POST {BASE}/SMTP/Test": MODIFY,
    f"GET {BASE}/Status/Endpoints": ANY_ROLE,
    f"GET {BASE}/Status/HealthCheck": ANY_ROLE,
    f"GET {SECURITY}/My/Permissions": SIGNED_IN,
    f"GET {BASE}/PermissionSets/My": SIGNED_IN,
    f"GET {BASE}/Permissions": READ_SECURITY,
    f"GET {SECURITY}/Roles": READ_SECURITY,
    f"POST {SECURITY}/Roles": MODIFY_SECURITY,
    f"PUT {SECURITY}/Roles": MODIFY_SECURITY,
    f"GET {SECURITY}/Roles/{{id}}": READ_SECURITY,
    f"DELETE {SECURITY}/Roles/{{id}}": MODIFY_SECURITY,
    f"GET {SECURITY}/Claims": READ_SECURITY,
    f"POST {SECURITY}/Claims": MODIFY_SECURITY,
    f"PUT {SECURITY}/Claims": MODIFY_SECURITY,
    f"GET {SECURITY}/Claims/Roles": READ_SECURITY,
    f"GET {SECURITY}/Claims/{{id}}": READ_SECURITY,
    f"DELETE {SECURITY}/Claims/{{id}}": MODIFY_SECURITY,
    f"GET {OWN}": READ,
    f"PUT {OWN}": MODIFY,
    f"PATCH {OWN}": MODIFY,
    f"POST {DIAGNOSES}": MODIFY,
    f"GET {PAM}": SOME + READ_PAM,
    f"POST {PAM}": MODIFY_PAM,
    f"PUT {PAM}": SOME + MODIFY_PAM,
    f"GET {PAM}/{{id}}": READ_ONE,
    f"DELETE {PAM}/{{id}}": MODIFY_ONE,
    f"GET {PAM}/Types": SOME + READ_PAM,
    f"POST {PAM}/Types": MODIFY_PAM,
    f"GET {PAM}/Types/{{id}}": READ_ONE,
    f"DELETE {PAM}/Types/{{id}}": MODIFY_PAM,
    f"GET {PAM}/Local/{{id}}/Entries": READ_ONE,
    f"POST {PAM}/Local/{{id}}/Entries": MODIFY_ONE,
    f"PUT {PAM}/Local/{{id}}/Entries": MODIFY_ONE,
    f"DELETE {PAM}/Local/{{id}}/Entries": MODIFY_ONE,
    f"POST {TRY}": READ_ONE,
    **{f"GET {BASE}/Audit{path}": READ_AUDIT for path in AUDIT},
    f"POST {MESSAGES}": SOME + SUBMIT,
    f"GET {MESSAGES}": READ_MESSAGES,
    f"GET {MESSAGES}/{{id}}": READ_MESSAGES,
    f"GET {MESSAGES}/{{id}}/raw": READ_CONTENT,
    f"POST {MESSAGES}/resend": MODIFY_MESSAGES,
    **{f"POST {MESSAGES}/{{id}}/{action}": MODIFY_MESSAGES for action in ("cancel", "hold", "release", "resend")},
    f"GET {OUTBOX}": READ_MESSAGES,
    **{f"POST {OUTBOX}/{action}": MODIFY_MESSAGES for action in ("pause", "resume")},
    "GET /api/v1/events": READ_MESSAGES,
    "GET /metrics": READ_METRICS,
}
IN_PLACE = "5"  # of {id}
FOR_EVERYBODY = {"/", "/livez", "/readyz"}  # and /docs with all below it

# Users, named after the one permission they hold.
HOLDERS = {
    "roleless": (),
    "stranger": ("/certificates/read/",),
    "auditor": (READ_AUDIT,),
    "reader": (READ,),
    "changer": (MODIFY,),
    "old-changer": ("/system_setting/modify/",),
    "keeper": ("/system_settings/",),
    "everything": ("/",),
    "too-narrow": (READ + "smtp/", MODIFY + "smtp/"),
    "look-alike": ("/system_settings/re/", "/system/", "/pam/re/", "/pam/read/50/"),
    "vault-reader": (READ_PAM,),
    "vault-changer": (MODIFY_PAM,),
    "one-reader": (READ_PAM + "5/",),
    "one-changer": (MODIFY_PAM + "5/",),
    "message-reader": (READ_MESSAGES,),
    "content-reader": (READ_CONTENT,),
    "steerer": (MODIFY_MESSAGES,),
    "submitter": (SUBMIT,),
    "submitter-as": (SUBMIT + "as/pki@example.org/",),
    "prometheus": (READ_METRICS,),
    "security-reader": (READ_SECURITY,),
    "security-changer": (MODIFY_SECURITY,),
}
MAY = {
    READ: {"reader", "keeper", "everything"},
    MODIFY: {"changer", "old-changer", "keeper", "everything"},
    ANY_ROLE: set(HOLDERS) - {"roleless"},
    SIGNED_IN: set(HOLDERS),
    READ_PAM: {"vault-reader", "everything"},
    MODIFY_PAM: {"vault-changer", "everything"},
    READ_ONE: {"vault-reader", "one-reader", "everything"},
    MODIFY_ONE: {"vault-changer", "one-changer", "everything"},
    SOME + READ_PAM: {"vault-reader", "one-reader", "look-alike", "everything"},
    SOME + MODIFY_PAM: {"vault-changer", "one-changer", "everything"},
    READ_MESSAGES: {"message-reader", "everything"},
    READ_CONTENT: {"content-reader", "everything"},
    MODIFY_MESSAGES: {"steerer", "everything"},
    SOME + SUBMIT: {"submitter", "submitter-as", "everything"},
    READ_METRICS: {"prometheus", "everything"},
    READ_SECURITY: {"security-reader", "everything"},
    MODIFY_SECURITY: {"security-changer", "everything"},
    READ_AUDIT: {"auditor", "everything"},
}
# What a list that knows no number leaves out for them.
WITH_A_NUMBER = {"one-reader": READ_ONE, "one-changer": MODIFY_ONE}


@pytest.fixture(autouse=True)
def _events_come_to_an_end(monkeypatch):
    monkeypatch.setattr(outbox, "_LONGEST_SECONDS", 0.0)


@pytest.fixture(scope="module")
def server(module_server) -> LiveServer:
    for name, permissions in HOLDERS.items():
        module_server.add_user(name, PASSWORD, *permissions)
    return module_server


def ask(server: LiveServer, operation: str, name: str | None, address: str = "127.0.0.1", **more) -> httpx2.Response:
    """``address``: which of those of this machine to ask from."""
    method, _, path = operation.replace("{id}", IN_PLACE).partition(" ")
    auth = None if name is None else (name, PASSWORD)
    transport = httpx2.HTTPTransport(local_address=address)
    with httpx2.Client(transport=transport, auth=auth, timeout=30) as client:
        return client.request(method, server.url + path, **more)


def permissions(server: LiveServer, name: str) -> list[str]:
    return ask(server, f"GET {BASE}/Security/My/Permissions", name).raise_for_status().json()["Permissions"]


def message(answer: httpx2.Response) -> str:
    body = answer.json()
    if answer.headers["content-type"] == "application/problem+json":
        return " ".join((body["detail"], body["remedy"]))
    assert list(body) == ["ErrorCode", "Message"]
    return body["Message"]


# --- The matrix ----------------------------------------------------------------------------------------------


def test_every_operation_of_the_application_stands_in_the_table(server):
    application = server.node.application()
    offered = {f"{method} {resource.path}" for resource in application.resources for method in resource.operations}
    assert offered == set(NEEDS), "say here what a new operation needs, and who may call it"


def test_every_other_path_of_the_application_is_meant_for_everybody(server):
    application = server.node.application()
    guarded = {resource.path.lower() for resource in application.resources}
    others = {route.path for route in application._router.routes} - guarded
    assert {path for path in others if not path.startswith("/docs")} == FOR_EVERYBODY


@pytest.mark.parametrize("operation", NEEDS)
@pytest.mark.parametrize("name", HOLDERS)
def test_an_operation_admits_those_who_hold_what_it_needs_and_nobody_else(server, operation, name):
    before = server.get_v2()
    answer = ask(server, operation, name)
    if name in MAY[NEEDS[operation]]:
        # 400: admitted, and the body or version that we did not send is missed; 404, 409: there is nothing yet.
        assert answer.status_code in {200, 204, 400, 404, 409}
        return
    assert answer.status_code == 403
    assert name in message(answer)
    if name != "roleless":
        assert message(answer).endswith(NEEDS[operation].removeprefix(SOME).replace("{id}", IN_PLACE))
    assert server.get_v2() == before


@pytest.mark.parametrize("operation", NEEDS)
def test_an_operation_asks_the_unknown_to_sign_in(server, operation):
    for header in ({}, {"Authorization": "Basic"}):
        answer = ask(server, operation, None, headers=header)
        assert answer.status_code == 401
        assert answer.headers.get_list("www-authenticate") == [
            'Basic realm="keyrelay", charset="UTF-8"',
            'Bearer realm="keyrelay"',
        ]
        assert message(answer)
    # Each from an address of its own: so many bad tokens from one would have to wait.
    address = f"127.0.3.{1 + list(NEEDS).index(operation)}"
    assert ask(server, operation, None, address, headers={"Authorization": "Bearer x.y.z"}).status_code == 401


@pytest.mark.parametrize("operation", NEEDS)
def test_who_may_not_call_an_operation_learns_nothing_about_its_input(server, operation):
    """Not even that the body is broken or too large, and so nothing of it is read."""
    more = {"content": b"{", "headers": {"x-keyfactor-api-version": "9"}}
    assert ask(server, operation, None, **more).status_code == 401
    if NEEDS[operation] not in {ANY_ROLE, SIGNED_IN}:
        assert ask(server, operation, "stranger", **more).status_code == 403


def test_an_identity_without_a_role_is_told_apart_from_one_without_the_permission(server):
    codes = {name: ask(server, f"GET {BASE}/SMTP", name).json()["ErrorCode"] for name in ("roleless", "stranger")}
    assert codes == {"roleless": "0xA0140002", "stranger": "0xA0140003"}
    own = {name: ask(server, f"GET {OWN}", name).json()["code"] for name in ("roleless", "stranger")}
    assert own == {"roleless": "no_role", "stranger": "permission_missing"}
    login_probe = ask(server, f"GET {BASE}/Status/Endpoints", "roleless").json()
    assert login_probe["ErrorCode"] == "0xA0140002"
    assert "roleless" in login_probe["Message"]


@pytest.mark.parametrize("path", [f"{BASE}/SMTP", OWN])
@pytest.mark.parametrize("method", ["DELETE", "TRACE", "OPTIONS", "HEAD", "get"])
def test_a_method_that_is_not_offered_is_no_way_round(server, path, method):
    answer = httpx2.request(method, server.url + path, auth=("stranger", PASSWORD))
    assert answer.status_code in {403, 405}


@pytest.mark.parametrize(
    "path",
    [
        "/keyfactorapi/smtp/",
        "//KeyfactorAPI/SMTP",
        "/KeyfactorAPI//SMTP",
        "/KeyfactorAPI/./SMTP",
        "/docs/../KeyfactorAPI/SMTP",
        "/livez/../KeyfactorAPI/SMTP",
        "/KeyfactorAPI/%53MTP",
        "/KeyfactorAPI/SMTP%2f",
        "/KeyfactorAPI/SMTP;x=1",
        "/KeyfactorAPI/SMTP?x=/livez",
    ],
)
def test_no_spelling_of_a_path_leads_round_the_sign_in(server, path):
    with closing(HTTPConnection(server.url.removeprefix("http://"), timeout=30)) as connection:
        connection.request("GET", path)  # as it is, where a better client would tidy it
        assert connection.getresponse().status in {401, 404}


# --- What a caller may know of itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [("roleless", []), ("reader", [READ]), ("everything", ["/"]), ("too-narrow", [MODIFY + "smtp/", READ + "smtp/"])],
)
def test_my_permissions_are_sorted(server, name, shown):
    assert permissions(server, name) == shown


def test_my_permissions_leave_out_what_a_broader_one_covers_and_repeat_nothing(server):
    server.add_user("several", PASSWORD, READ, "/pam/read/", "/pam/read/7/", "/pam/", MODIFY, "/auditing/read/")
    assert permissions(server, "several") == ["/auditing/read/", "/pam/", MODIFY, READ]


def test_my_permissions_show_one_that_is_held_in_both_spellings(server):
    server.add_user("both", PASSWORD, MODIFY, "/system_setting/modify/")
    assert len(permissions(server, "both")) == 1


@pytest.mark.parametrize("name", sorted(MAY[ANY_ROLE]))
def test_the_list_of_endpoints_has_only_what_the_caller_may_use(server, name):
    mine = {needed for needed, names in MAY.items() if name in names} - {WITH_A_NUMBER.get(name)}
    expected = [
        f"{operation.replace(BASE, '')}"
        for operation, needed in NEEDS.items()
        if needed in mine and operation.partition(" ")[2].startswith(BASE)
    ]
    assert ask(server, f"GET {BASE}/Status/Endpoints", name).json() == sorted(expected)


# --- Changes that a foreign page might have made (D10) -------------------------------------------------------


CHANGES = [operation for operation in NEEDS if not operation.startswith("GET ")]
ORIGIN = {"Origin": "https://elsewhere.example.org"}


@pytest.mark.parametrize("operation", CHANGES)
def test_a_change_with_an_origin_needs_the_requested_with_header(server, operation):
    refused = ask(server, operation, "changer", headers=ORIGIN, json={})
    assert refused.status_code == 400
    assert "x-keyfactor-requested-with" in message(refused)
    code = "0xA0110007" if BASE in operation else "header_required"
    assert refused.json().get("ErrorCode", refused.json().get("code")) == code
    for headers in (ORIGIN | {"X-Keyfactor-Requested-With": "XMLHttpRequest"}, {}):
        passed = ask(server, operation, "changer", headers=headers, json={"Host": 1, "host": 1})
        assert passed.status_code in {400, 403}
        assert "x-keyfactor-requested-with" not in message(passed)


def test_a_refused_change_changes_nothing_and_a_read_needs_no_header(sqlite_server):
    before = sqlite_server.get_v2()
    assert sqlite_server.put(SMTP, json=ANONYMOUS, headers=ORIGIN).status_code == 400
    assert sqlite_server.get_v2() == before
    assert sqlite_server.get(SMTP, headers=ORIGIN).status_code == 200
    assert sqlite_server.put(SMTP, json=ANONYMOUS, headers=V2 | ORIGIN).status_code == 200
    assert sqlite_server.put(SMTP, json=ANONYMOUS).status_code == 200


def test_the_strict_setting_wants_the_header_from_everyone_on_every_road(sqlite_settings, start):
    server = start(replace(sqlite_settings, require_requested_with=True))
    for _ in range(2):  # the second is answered from memory
        refused = server.get(SMTP)
        assert (refused.status_code, refused.json()["ErrorCode"]) == (400, "0xA0110007")
        assert server.get(SMTP, headers=V2).status_code == 200
    assert server.put(SMTP, json=ANONYMOUS).status_code == 400
    assert server.get(f"{BASE}/Status/Endpoints").status_code == 400
    assert server.put(SMTP, json=ANONYMOUS, headers=V2).status_code == 200
    assert server.get(OWN).status_code == 200  # it is the compatible API's header


# --- Probes --------------------------------------------------------------------------------------------------


def test_the_health_check_answers_204_with_nothing(server):
    answer = ask(server, f"GET {BASE}/Status/HealthCheck", "stranger")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_the_probes_answer_anybody_and_are_not_cached(server, path):
    for method in ("GET", "HEAD"):
        answer = httpx2.request(method, server.url + path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    refused = httpx2.post(server.url + path)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


@pytest.fixture
def on_postgres(postgres, sqlite_settings):
    return replace(sqlite_settings, database_url=postgres.fresh_database())


def test_a_database_that_is_gone_makes_us_not_ready_and_leaves_us_alive(postgres, on_postgres, start):
    server = start(on_postgres)
    assert httpx2.get(server.url + "/readyz").status_code == 200
    postgres.kill()
    try:
        unready = httpx2.get(server.url + "/readyz", timeout=30)
        assert (unready.status_code, unready.json()["code"]) == (503, "store_unavailable")
        assert postgres.password not in unready.text
        assert httpx2.get(server.url + "/livez").status_code == 200
        assert server.get(f"{BASE}/Status/HealthCheck").status_code == 503
    finally:
        postgres.resume()
    assert httpx2.get(server.url + "/readyz", timeout=30).status_code == 200
    assert server.get(f"{BASE}/Status/HealthCheck").status_code == 204


def test_a_database_that_was_dropped_makes_us_not_ready_too(postgres, on_postgres, start):
    server = start(on_postgres)
    name = on_postgres.database_url.rpartition("/")[2]
    postgres.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    assert {httpx2.get(server.url + "/readyz", timeout=30).status_code for _ in range(3)} == {503}
