"""The OpenAPI documents say what the server does, and nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from typing import NamedTuple
from urllib.parse import urlencode

import httpx2
import jsonschema_rs
import msgspec
import pytest
from pam_kit import PROVIDERS, TYPES, entries, entry, provider
from security_kit import CLAIMS, ROLES, add, add_claim, delete, user_claim

from keyrelay.api import openapi, outbox, wire_audit, wire_pam, wire_security, wire_v1, wire_v2
from keyrelay.api.problems import SHOWN
from live import ANONYMOUS, BASIC, OAUTH

BASE = "/KeyfactorAPI"
MESSAGES = "/api/v1/messages"
VERSIONS = {"keyfactor-v1": 1, "keyfactor-v2": 2, "keyrelay": 1}
BODIES = {
    "SMTPV1Response": wire_v1.SMTPV1Response,
    "SMTPV1TestResponse": wire_v1.SMTPV1TestResponse,
    "SMTPResponse": wire_v2.SMTPResponse,
    "Secret": wire_v2.Secret,
    "TypeParameter": wire_pam.TypeParam,
    "InnerTypeParameter": wire_pam.InnerTypeParam,
    "ProviderType": wire_pam.TypeAnswer,
    "InnerProviderType": wire_pam.InnerType,
    "ParameterValue": wire_pam.ParamValue,
    "Entry": wire_pam.EntryAnswer,
    "Role": wire_security.RoleAnswer,
    "RoleItem": wire_security.RoleItem,
    "RoleOfClaim": wire_security.RoleOfClaim,
    "RoleInSet": wire_security.RoleInSet,
    "PermissionSet": wire_security.PermissionSet,
    "Claim": wire_security.ClaimAnswer,
    "ClaimProvider": wire_security.ClaimProvider,
    "AuditEntry": wire_audit.AuditEntry,
}
PROVIDER = {"keyfactor-v1": wire_pam.ProviderV1, "keyfactor-v2": wire_pam.ProviderV2}
# What the examples speak of: number 3 is a local provider with this entry.
EXAMPLE_PROVIDER, EXAMPLE_ENTRY = 3, "smtp-pass"
# Number 1 is the built-in role; number 2 is given by the claim number 1, of this user.
BUILT_IN_ROLE, EXAMPLE_ROLE, EXAMPLE_CLAIM, EXAMPLE_USER = 1, 2, 1, "jo"
SUCCESS = {MESSAGES: 202}
EXAMPLES = {}  # the id of a message, once it is handed in
UNUSED_TYPE = {"Name": "Unused", "Parameters": []}
EVENT_DATA = {"stage": "DiagnosedStage", "report": "Diagnosis"}
UNSIGNED = {"sender_account": "pki@example.org", "sender_name": "PKI", "authentication": "anonymous"}


@cache
def document(name):
    return openapi.load(name, BASE)


def follow(name, node):
    """What a reference of a document refers to."""
    if "$ref" not in node:
        return node
    _, group, each = node["$ref"].removeprefix("#/").split("/")
    return document(name)["components"][group][each]


class Listed(NamedTuple):
    """An operation of one of the documents."""

    document: str
    method: str
    path: str
    operation: dict

    def at(self, number=None):
        """Its path, with an id in its place."""
        if number is None:
            examples = {ROLES: EXAMPLE_ROLE, CLAIMS: EXAMPLE_CLAIM}
            number = examples.get(self.path.rpartition("/")[0], EXAMPLE_PROVIDER)
        return self.path.replace("{id}", EXAMPLES.get("message", "") if self.is_about_a_message else str(number))

    @property
    def is_about_a_message(self):
        return self.path.startswith(MESSAGES + "/{id}")

    @property
    def headers(self):
        return {} if self.document == "keyrelay" else {"x-keyfactor-api-version": str(VERSIONS[self.document])}

    @property
    def query(self):
        """What has to be asked, as the document shows it."""
        parameters = [follow(self.document, each) for each in self.operation.get("parameters", [])]
        needed = [each for each in parameters if each["in"] == "query" and each.get("required")]
        return {each["name"]: each["example"] for each in needed}

    def examples(self):
        """The bodies of requests that the document shows, by name."""
        content = next(iter(self.operation["requestBody"]["content"].values()))
        return {title: follow(self.document, each)["value"] for title, each in content["examples"].items()}


def _operations():
    for name in VERSIONS:
        base = document(name)["servers"][0]["url"].rstrip("/")
        for path, methods in document(name)["paths"].items():
            for method, operation in methods.items():
                yield Listed(name, method.upper(), base + path, operation)


OPERATIONS = list(_operations())


def each_operation(*methods, which=lambda _: True):
    """Run a test for every operation, or for those of some methods."""
    chosen = [each for each in OPERATIONS if (not methods or each.method in methods) and which(each)]
    return pytest.mark.parametrize("listed", chosen, ids=lambda each: each.operation["operationId"])


# What is done to a message depends on its state; test_messages.py looks at that.
each_request = each_operation("PUT", "POST", "PATCH", which=lambda each: not each.is_about_a_message)
# Those of a relay; trying a provider is a test too, and goes to a vault.
each_test_of_a_relay = each_operation(which=lambda each: each.path.endswith(("/Test", "/diagnoses")))
each_test = each_operation(which=lambda each: each.path.endswith(("/Test", "/diagnoses", "/try")))


@pytest.fixture(autouse=True, scope="module")
def _examples_have_what_they_speak_of(module_server):
    while (number := provider(module_server, f"Provider for {len(OPERATIONS)}")) < EXAMPLE_PROVIDER:
        module_server.request("DELETE", f"{PROVIDERS}/{number}").raise_for_status()
    entry(module_server, number, EXAMPLE_ENTRY)
    claim = user_claim(EXAMPLE_USER, Description="The operator jo")
    role = add(module_server, "Mail operators", "/messages/", claims=(claim,))
    assert (role["Id"], role["Claims"][0]["Id"]) == (EXAMPLE_ROLE, EXAMPLE_CLAIM)
    module_server.put_v2(ANONYMOUS).raise_for_status()
    module_server.post("/api/v1/outbox/pause").raise_for_status()
    EXAMPLES["message"] = module_server.post(MESSAGES, json={"to": "ops@example.org", "text": "x"}).json()["id"]


@pytest.fixture(autouse=True)
def _events_come_to_an_end(monkeypatch):
    monkeypatch.setattr(outbox, "_LONGEST_SECONDS", 0.0)


def undo(server, listed, answer):
    """Take away what a POST has made, so that it can be made again."""
    if listed.method != "POST" or not answer.is_success:
        return
    if listed.path == PROVIDERS:
        server.request("DELETE", f"{PROVIDERS}/{answer.json()['Id']}").raise_for_status()
    elif listed.path in {ROLES, CLAIMS}:
        delete(server, listed.path, answer.json()["Id"]).raise_for_status()
    elif listed.path.endswith("/Entries"):
        query = {"secretName": answer.json()["SecretName"]}
        server.request("DELETE", entries(EXAMPLE_PROVIDER), params=query).raise_for_status()


def schema_errors(name, schema, value):
    whole = {**schema, "components": document(name)["components"]}
    return [error.message for error in jsonschema_rs.Draft202012Validator(whole).iter_errors(value)]


def assert_documented(listed, answer):
    """The status, the headers and the body are as the document says."""
    name = listed.document
    assert str(answer.status_code) in listed.operation["responses"]
    response = follow(name, listed.operation["responses"][str(answer.status_code)])
    for header, reference in response.get("headers", {}).items():
        says = follow(name, reference)
        assert header in answer.headers or not says.get("required")
        if header in answer.headers and "pattern" in says["schema"]:
            assert re.search(says["schema"]["pattern"], answer.headers[header])
    if "content" not in response:
        assert answer.content == b""
        return
    media = answer.headers["content-type"].partition(";")[0]
    body = answer.json() if "json" in media else answer.text
    assert schema_errors(name, response["content"][media]["schema"], body) == []


# --- The documents and the application -------------------------------------------------------------------------


def test_the_documents_list_every_operation_and_no_other(module_server):
    application = module_server.node.application()
    offered = {
        (method, resource.path, version)
        for resource in application.resources
        for method, operation in resource.operations.items()
        for version in operation.versions
    } | {("GET", "/livez", 1), ("GET", "/readyz", 1)}
    listed = {(each.method, each.path, VERSIONS[each.document]) for each in OPERATIONS}
    assert listed == offered


def test_the_documents_name_the_permission_and_deprecation_of_each_operation(module_server):
    resources = {resource.path: resource for resource in module_server.node.application().resources}
    for each in OPERATIONS:
        if each.path in resources:
            does = resources[each.path].operations[each.method]
            assert each.operation.get("x-permission") == does.permission
            assert each.operation.get("deprecated", False) == (does.deprecated and each.document == "keyfactor-v1")


@pytest.mark.parametrize("name", [name for name, body in VERSIONS.items() if name != "keyrelay"])
def test_published_answers_have_the_keys_of_the_server_in_their_order(name):
    schemas = document(name)["components"]["schemas"]
    for schema in BODIES.keys() & schemas.keys():
        keys = [field.encode_name for field in msgspec.structs.fields(BODIES[schema])]
        assert list(schemas[schema]["properties"]) == keys
    keys = [field.encode_name for field in msgspec.structs.fields(PROVIDER[name])]
    assert list(schemas["Provider"]["properties"]) == keys


@pytest.mark.parametrize("name", VERSIONS)
def test_the_examples_fit_their_schemas(name):
    def walk(node):
        if isinstance(node, dict):
            if "schema" in node:
                examples = [node["example"]] if "example" in node else []
                examples += [follow(name, each)["value"] for each in node.get("examples", {}).values()]
                for example in examples:
                    assert schema_errors(name, node["schema"], example) == [], example
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(document(name))


def examples_of_errors(name):
    for response in document(name)["components"]["responses"].values():
        for content in response.get("content", {}).values():
            examples = [content.get("example", {})]
            examples += [follow(name, each)["value"] for each in content.get("examples", {}).values()]
            yield from (each for each in examples if isinstance(each, dict) and {"ErrorCode", "code"} & each.keys())


@pytest.mark.parametrize("name", VERSIONS)
def test_the_examples_of_errors_are_what_the_server_would_say(name):
    shown = {kind.code: (kind, how) for kind, how in SHOWN.items()}
    by_error_code = {how.error_code: (kind, how) for kind, how in SHOWN.items()}
    remedies_of_their_own = {"permission_missing", "test_failed", "too_many_messages", "unknown_name"}
    for example in examples_of_errors(name):
        if "ErrorCode" in example:
            kind, _ = by_error_code[example["ErrorCode"]]
            assert kind.remedy in example["Message"] or kind.code in remedies_of_their_own
        else:
            kind, how = shown[example["code"]]
            assert example["title"] == kind.__doc__.partition("\n")[0]
            assert example["status"] == how.status
            assert example["remedy"] == kind.remedy or kind.code in remedies_of_their_own


def test_every_schema_and_response_kept_is_referred_to():
    for name in VERSIONS:
        text = json.dumps(document(name))
        kept = document(name)["components"]
        for group in ("parameters", "headers", "responses", "schemas", "examples"):
            for each in kept[group]:
                assert f'"#/components/{group}/{each}"' in text, f"{name}: {each}"


# --- The documents and the answers -----------------------------------------------------------------------------


@each_operation()
def test_each_operation_asks_for_sign_in_as_documented(module_server, listed):
    answer = httpx2.request(listed.method, module_server.url + listed.at())
    if listed.operation.get("security") == []:
        assert answer.is_success
    else:
        assert answer.status_code == 401
    assert_documented(listed, answer)


@pytest.fixture(scope="module")
def roleless(module_server):
    module_server.add_user("nobody", "password of nobody")
    return "nobody", "password of nobody"


@each_operation()
def test_a_user_without_a_role_is_answered_as_documented(module_server, roleless, listed):
    url = module_server.url + listed.at()
    answer = httpx2.request(listed.method, url, auth=roleless, headers=listed.headers)
    assert answer.status_code in {200, 403}
    assert_documented(listed, answer)


@each_operation()
def test_another_method_is_answered_as_documented(module_server, listed):
    offered = {each.method for each in OPERATIONS if each.path == listed.path}
    other = next(method for method in ("DELETE", "PATCH", "POST") if method not in offered)
    answer = module_server.request(other, listed.at(), headers=listed.headers)
    assert answer.status_code == 405
    assert_documented(listed, answer)


@each_request
def test_every_example_of_a_request_is_answered_as_documented(module_server, module_relay, listed):
    module_server.put_v2(BASIC).raise_for_status()
    for example in listed.examples().values():
        sent = example
        if listed.path.endswith("/Test"):
            sent = {**example, "Host": "localhost", "Port": module_relay.port}
        answer = module_server.request(listed.method, listed.at(), json=sent, headers=listed.headers)
        refused = listed.path.endswith("/Test") and sent["UseSSL"]  # this relay has no TLS
        assert answer.status_code == (400 if refused else SUCCESS.get(listed.path, 200)), answer.text
        assert_documented(listed, answer)
        undo(module_server, listed, answer)


@each_operation("DELETE")
def test_deletions_are_answered_as_documented(module_server, listed):
    module_server.put_v2(BASIC).raise_for_status()
    kind = module_server.post(TYPES, json=UNUSED_TYPE).raise_for_status().json()["Id"]
    number = provider(module_server, "To be deleted")
    entry(module_server, number, "to be deleted")
    made = {
        TYPES: kind,
        ROLES: add(module_server, "To be deleted")["Id"],
        CLAIMS: add_claim(module_server, ClaimValue="to be deleted")["Id"],
    }
    place = listed.at(made.get(listed.path.rpartition("/")[0], number))
    query = {"secretName": "to be deleted"} if listed.path.endswith("/Entries") else {}
    for status in (204, 404):
        answer = module_server.request("DELETE", place, params=query, headers=listed.headers)
        assert answer.status_code == status
        assert_documented(listed, answer)
    if listed.path != PROVIDERS + "/{id}":
        module_server.request("DELETE", f"{PROVIDERS}/{number}").raise_for_status()
    for path in {ROLES, CLAIMS} - {listed.path.rpartition("/")[0]}:
        delete(module_server, path, made[path]).raise_for_status()


@each_operation("DELETE")
def test_a_deletion_of_what_is_in_use_is_refused_as_documented(module_server, listed):
    reference = {"Provider": EXAMPLE_PROVIDER, "Parameters": {"SecretName": EXAMPLE_ENTRY}}
    module_server.put_v2({**BASIC, "RelayPassword": reference}).raise_for_status()
    (kind,) = [kind["Id"] for kind in module_server.get(TYPES).json() if kind["Name"] == "LocalDB"]
    place = listed.at({TYPES: kind, ROLES: BUILT_IN_ROLE}.get(listed.path.rpartition("/")[0]))
    query = {"secretName": EXAMPLE_ENTRY} if listed.path.endswith("/Entries") else {}
    answer = module_server.request("DELETE", place, params=query, headers=listed.headers)
    assert answer.status_code == 400
    assert_documented(listed, answer)


@each_test_of_a_relay
def test_every_example_of_a_test_fails_as_documented_where_there_is_no_relay(module_server, listed):
    module_server.put_v2(BASIC).raise_for_status()
    for example in listed.examples().values():
        answer = module_server.post(listed.path, json=example, headers=listed.headers)
        assert "resolve" in answer.text
        assert answer.status_code == (400 if listed.path.endswith("/Test") else 200)
        assert_documented(listed, answer)


def test_a_diagnosis_is_as_documented_whether_it_went_well_or_not(module_server, relay):
    (listed,) = [each for each in OPERATIONS if each.operation["operationId"] == "diagnose"]
    troubles = [{}, {"replies": {"rcpt": "550 no"}}, {"starttls": True, "certificate": "expired"}, {"close": "ehlo"}]
    for rules in troubles:
        profile = {"host": "localhost", "port": relay(**rules).port, **UNSIGNED}
        for body in ({"profile": profile}, {"profile": profile, "recipient": "ops@example.org"}):
            answer = module_server.post(listed.path, json=body)
            assert answer.status_code == 200
            assert_documented(listed, answer)
            events = module_server.post(listed.path, json=body, headers={"accept": "text/event-stream"})
            assert_documented(listed, events)
            for name, data in re.findall(r"event: (\w+)\ndata: (.*)\n\n", events.text):
                schema = {"$ref": f"#/components/schemas/{EVENT_DATA[name]}"}
                assert schema_errors("keyrelay", schema, json.loads(data)) == []


def test_an_order_without_any_profile_is_answered_as_documented(sqlite_server):
    (listed,) = [each for each in OPERATIONS if each.operation["operationId"] == "diagnose"]
    answer = sqlite_server.post(listed.path, json={})
    assert answer.status_code == 409
    assert_documented(listed, answer)


@each_test
def test_too_many_tests_are_answered_as_documented(sqlite_settings, start, module_relay, listed):
    server = start(replace(sqlite_settings, tests_per_minute=1))
    server.put_v2({**ANONYMOUS, "Host": "localhost", "Port": module_relay.port}).raise_for_status()
    place = listed.at(provider(server))
    body = {} if listed.document == "keyrelay" else next(iter(listed.examples().values()))
    first, second = (server.post(place, json=body, headers=listed.headers) for _ in range(2))
    assert (first.status_code != 429, second.status_code) == (True, 429)
    assert_documented(listed, second)


def test_too_many_messages_are_answered_as_documented(sqlite_settings, start):
    (listed,) = [each for each in OPERATIONS if each.path == MESSAGES and each.method == "POST"]
    server = start(replace(sqlite_settings, worker=False, submissions_per_minute=1))
    server.put_v2(ANONYMOUS).raise_for_status()
    body = next(iter(listed.examples().values()))
    first, second = (server.post(listed.path, json=body, headers=listed.headers) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 429)
    assert_documented(listed, second)


@each_request
def test_every_media_type_documented_is_read_alike(module_server, listed):
    content = dict(listed.operation["requestBody"]["content"])
    content.pop("message/rfc822", None)  # not another way to write the same, but the message itself
    example = next(iter(listed.examples().values()))
    module_server.put_v2(BASIC).raise_for_status()
    schemas = [each["schema"] for each in content.values()]
    assert all(schema == schemas[0] for schema in schemas)
    form = content.pop("application/x-www-form-urlencoded", None)
    bodies = {media.replace("*", "vnd.example"): json.dumps(example) for media in content}
    if form:
        bodies["application/x-www-form-urlencoded"] = urlencode(example)
    for media, body in bodies.items():
        headers = {"content-type": media, **listed.headers}
        answer = module_server.request(listed.method, listed.at(), content=body, headers=headers)
        assert answer.is_success or "resolve" in answer.text  # a test goes as far as the relay, which is none here
        assert_documented(listed, answer)
        undo(module_server, listed, answer)


@each_operation("GET")
@pytest.mark.parametrize("profile", [ANONYMOUS, BASIC, OAUTH], ids=["anonymous", "basic", "oauth"])
def test_reads_are_answered_as_documented_for_every_kind_of_profile(module_server, profile, listed):
    module_server.put_v2(profile).raise_for_status()
    answer = module_server.get(listed.at(), headers=listed.headers, params=listed.query)
    assert answer.is_success
    assert_documented(listed, answer)
    if "etag" in answer.headers:
        known = {"if-none-match": answer.headers["etag"], **listed.headers}
        again = module_server.get(listed.at(), headers=known)
        assert again.status_code == 304
        assert_documented(listed, again)


@each_operation("POST")
@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [({"content-type": "application/xml"}, b"<profile/>", 415), ({}, b" " * 300_000, 413), ({}, b"[", 400)],
    ids=["not JSON", "too large", "broken off"],
)
def test_refused_posts_are_answered_as_documented(module_server, listed, headers, content, status):
    if listed.path == MESSAGES and status == 413:
        content *= 150  # files go with a message
    answer = module_server.post(listed.at(), content=content, headers={**listed.headers, **headers})
    assert answer.status_code == status
    assert_documented(listed, answer)


@each_operation("PUT", "PATCH")
@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({"if-match": '"another"'}, None, 412),
        ({"content-type": "application/xml"}, b"<profile/>", 415),
        ({}, b" " * 300_000, 413),
        ({}, b"[", 400),
    ],
    ids=["changed meanwhile", "not JSON", "too large", "broken off"],
)
def test_refused_changes_are_answered_as_documented(module_server, listed, headers, content, status):
    if str(status) not in listed.operation["responses"]:
        return  # only the profile has entity tags
    module_server.put_v2(ANONYMOUS).raise_for_status()
    body = content or json.dumps(next(iter(listed.examples().values())))
    sent = {**listed.headers, **headers}
    answer = module_server.request(listed.method, listed.at(), content=body, headers=sent)
    assert answer.status_code == status
    assert_documented(listed, answer)
