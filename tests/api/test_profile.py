"""Our own ``/api/v1/profile``: partial changes, dry runs, conditions and problem documents."""

from __future__ import annotations

import pytest

from complaints import without_id
from live import BASIC, OAUTH

PROFILE = "/api/v1/profile"
PLAIN = {"host": "mail.example.org", "port": 25, "sender_account": "pki@example.org", "sender_name": "PKI"}
SIGNED_IN = {
    **PLAIN,
    "use_ssl": True,
    "authentication": "basic",
    "relay_username": {"secret_value": "mailer"},
    "relay_password": {"secret_value": "password-1"},
}


def assert_problem(answer, status, code, *fields):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"/docs/errors#{code}"
    assert problem["detail"]
    assert problem["remedy"]
    assert [error["field"].partition(".")[0] for error in problem.get("errors", [])] == list(fields)


def test_an_unconfigured_profile_is_shown_with_every_field(server):
    document = server.get(PROFILE).json()
    assert document == {
        "host": None,
        "port": 25,
        "use_ssl": False,
        "sender_account": None,
        "sender_name": None,
        "authentication": "anonymous",
        "relay_username": None,
        "relay_password": None,
        "client_id": None,
        "client_secret": None,
        "token_endpoint": None,
        "scope": None,
        "audience": None,
        "request_headers": [],
    }


def test_a_patch_keeps_what_is_absent_replaces_what_is_given_and_clears_what_is_null(server):
    server.put_v2({**OAUTH, "Audience": "audience-1"})
    answer = server.patch(PROFILE, json={"sender_name": "New name", "request_headers": None})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["sender_name"] == "New name"
    assert document["request_headers"] == []
    assert (document["host"], document["audience"]) == (OAUTH["Host"], "audience-1")
    assert document["client_secret"]["stored"] is True
    assert server.get(PROFILE).json() == document
    assert server.get_v2()["RequestHeaders"] is None


def test_a_patch_keeps_the_number_under_which_oauth_was_configured(server):
    server.put_v2({**OAUTH, "RelayAuthenticationType": 4})
    server.patch(PROFILE, json={"sender_name": "New name"})
    assert server.get_v2()["RelayAuthenticationType"] == 4


def test_a_patch_that_clears_something_required_is_refused(server):
    server.put_v2(BASIC)
    answer = server.patch(PROFILE, json={"host": None, "relay_password": None, "sender_name": ""})
    assert_problem(answer, 400, "bad_input", "host", "sender_name", "relay_password")


def test_a_patch_can_switch_the_sign_in_and_drops_what_the_new_one_does_not_use(server):
    server.put(PROFILE, json=SIGNED_IN)
    assert server.patch(PROFILE, json={"authentication": "anonymous"}).json()["relay_password"] is None
    back = server.patch(PROFILE, json={"authentication": "basic"})
    assert_problem(back, 400, "bad_input", "relay_username", "relay_password")


def test_a_credential_that_the_sign_in_does_not_use_is_refused_and_not_lost_silently(server):
    server.put(PROFILE, json=PLAIN)
    answer = server.patch(PROFILE, json={"relay_password": {"secret_value": "x"}})
    assert_problem(answer, 400, "bad_input", "relay_password")
    assert_problem(server.put(PROFILE, json={**PLAIN, "scope": "x"}), 400, "bad_input", "scope")


def test_a_name_that_is_the_one_shown_is_no_change(server):
    server.put(PROFILE, json=SIGNED_IN)
    before = server.get(PROFILE).json()
    answer = server.patch(PROFILE, json={"relay_username": SIGNED_IN["relay_username"], "sender_name": "New"})
    assert answer.json() == {**before, "sender_name": "New"}
    newest = server.run(lambda node: node.keeper.history(limit=1))[0]
    assert [change.field for change in newest.changes] == ["sender_name"]


def test_unknown_and_misspelt_fields_are_refused(module_server):
    answer = module_server.patch(PROFILE, json={"Host": "x.example", "revision": 1})
    assert answer.status_code == 400
    assert {error["code"] for error in answer.json()["errors"] if error["field"] in {"Host", "revision"}} == {"unknown"}


def test_an_object_without_a_secret_is_refused_where_it_might_be_meant_to_keep_one(server):
    server.put(PROFILE, json=SIGNED_IN)
    for nothing in ({}, {"stored": True}, {"secret_value": ""}, {"secret_value": None}):
        answer = server.patch(PROFILE, json={"relay_password": nothing})
        assert answer.status_code == 400, nothing
        assert answer.json()["errors"][0]["field"].startswith("relay_password")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_dry_run_shows_what_would_be_and_changes_nothing(server, method):
    server.put(PROFILE, json=SIGNED_IN)
    before = server.get(PROFILE)
    changed = {**SIGNED_IN, "host": "other.example.org", "relay_password": {"secret_value": "password-2"}}
    answer = server.request(method, PROFILE, json=changed, params={"dry_run": "true"})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["dry_run"] is True
    assert document["profile"]["host"] == "other.example.org"
    assert {"host", "relay_password"} <= set(document["changes"])
    assert "password-2" not in answer.text
    assert "etag" not in answer.headers
    after = server.get(PROFILE)
    assert (after.json(), after.headers["etag"]) == (before.json(), before.headers["etag"])


def test_a_dry_run_refuses_what_the_real_one_would_refuse(server):
    server.put(PROFILE, json=SIGNED_IN)
    tag = server.get(PROFILE).headers["etag"]
    for body, status in (({"host": "evil.example.org"}, 400), ({"port": 0}, 400), ({"sender_name": "ok"}, 412)):
        headers = {"if-match": tag if status == 400 else '"stale"'}
        answers = [
            server.patch(PROFILE, json=body, params={"dry_run": dry_run}, headers=headers)
            for dry_run in ("true", "false")
        ]
        assert [answer.status_code for answer in answers] == [status, status]
        assert without_id(answers[0]) == without_id(answers[1])


@pytest.mark.parametrize("value", ["yes", "1", "", "TRUE"])
def test_a_dry_run_that_is_neither_true_nor_false_changes_nothing(server, value):
    before = server.get(PROFILE).headers["etag"]
    assert_problem(server.put(PROFILE, json=PLAIN, params={"dry_run": value}), 400, "bad_input", "dry_run")
    assert server.get(PROFILE).headers["etag"] == before


def test_the_entity_tag_guards_reads_and_changes(server):
    put = server.put(PROFILE, json=PLAIN)
    tag = put.headers["etag"]
    assert server.get(PROFILE, headers={"if-none-match": tag}).status_code == 304
    assert_problem(server.patch(PROFILE, json=PLAIN, headers={"if-match": '"stale"'}), 412, "profile_changed")
    changed = server.patch(PROFILE, json={"port": 26}, headers={"if-match": tag})
    assert changed.status_code == 200
    assert_problem(server.patch(PROFILE, json={"port": 27}, headers={"if-match": tag}), 412, "profile_changed")


def test_the_tag_of_the_compatible_api_guards_changes_here_too(server):
    tag = server.put_v2(BASIC).headers["etag"]
    assert server.patch(PROFILE, json={"sender_name": "A"}, headers={"if-match": tag}).status_code == 200


def test_a_merge_patch_may_be_called_by_its_media_type(server):
    headers = {"content-type": "application/merge-patch+json"}
    server.put(PROFILE, json=PLAIN)
    assert server.patch(PROFILE, content=b'{"port": 2525}', headers=headers).json()["port"] == 2525


def test_problems_of_signing_in_are_problem_documents_too(server):
    server.add_user("viewer", "long enough 1", "/system_settings/read/")
    assert_problem(server.get(PROFILE, auth=("admin", "wrong")), 401, "sign_in_required")
    assert_problem(server.patch(PROFILE, json={}, auth=("viewer", "long enough 1")), 403, "permission_missing")
    assert_problem(server.request("DELETE", PROFILE), 405, "method_not_allowed")
    assert_problem(server.get("/api/v1/nothing"), 404, "not_found")
