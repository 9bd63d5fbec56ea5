"""The OpenAPI documents held against a running server, with data that fits them and data that does not."""

from __future__ import annotations

import pytest
import schemathesis
from schemathesis.specs.openapi.checks import allow_header_conformance, unsupported_method

from keyrelay.api import openapi, outbox
from live import ANONYMOUS
from submissions import MESSAGES

CHECKS = {
    "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx"]},
    "negative_data_rejection": {"expected-statuses": [400, 404, 412, 413, 415]},
    # The rules for names and addresses say more than a schema can.
    "positive_data_acceptance": {"enabled": False},
    # It guesses passwords until it is slowed down; test_documents.py looks at sign-in.
    "ignored_auth": {"enabled": False},
}
# The compatible API is lenient by contract: null counts as missing, texts of digits as numbers (P3, D21).
LENIENT = CHECKS | {"negative_data_rejection": {"enabled": False}}

# Not all of their methods are in both versions, and Allow tells of all.
MIXED = {"/PamProviders/Types/{id}", "/Security/Roles/{id}"}

# Other names for JSON, which test_documents.py shows are read alike; and messages, which have tests of their own.
ALIKE = {"application/json-patch+json", "text/json", "application/*+json", "message/rfc822"}


@pytest.fixture(autouse=True)
def _events_come_to_an_end(monkeypatch):
    monkeypatch.setattr(outbox, "_LONGEST_SECONDS", 0.0)


def _validate(case, server):
    excluded = [allow_header_conformance, unsupported_method] if case.path in MIXED else []
    case.call_and_validate(base_url=server.url + "/KeyfactorAPI", auth=server.auth, excluded_checks=excluded)


def _schema(name: str, checks: dict):
    generation = {"mode": "all", "max-examples": 40, "no-shrink": True, "with-security-parameters": False}
    config = schemathesis.Config.from_dict({"generation": generation, "checks": checks})
    document = openapi.load(name, "/KeyfactorAPI")
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {})
            for media in ALIKE & content.keys():
                del content[media]
    return schemathesis.openapi.from_dict(document, config=config)


version_1 = _schema("keyfactor-v1", LENIENT)
version_2 = _schema("keyfactor-v2", LENIENT)
own = _schema("keyrelay", CHECKS)


@version_1.parametrize()
def test_version_1_behaves_as_documented(case, module_server):
    _validate(case, module_server)


@version_2.parametrize()
def test_version_2_behaves_as_documented(case, module_server):
    if "x-keyfactor-api-version" not in case.headers:
        return  # a request of version 1, then
    _validate(case, module_server)


@own.parametrize()
def test_our_own_api_behaves_as_documented(case, module_server):
    # Without a profile, a submission is answered 409 before anybody looks at it; which test came first is not known.
    if case.path == MESSAGES and module_server.get_v2()["Host"] is None:
        module_server.put_v2(ANONYMOUS).raise_for_status()
    case.call_and_validate(base_url=module_server.url, auth=module_server.auth)
