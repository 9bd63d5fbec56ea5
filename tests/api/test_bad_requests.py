"""Requests that fail before anybody looks at fields: bodies, versions, media types, methods, paths, credentials."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from endpoints import ENDPOINTS, TEST, V1_BASIC, each_endpoint

from complaints import OWN, complaint, nothing_changes
from live import OAUTH, SMTP, V1, V2

STATUS = ["/KeyfactorAPI/Status/Endpoints", "/KeyfactorAPI/Status/HealthCheck", "/KeyfactorAPI/Security/My/Permissions"]
FORM = V1 | {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture(autouse=True)
def _configured(module_server):
    if module_server.get_v2()["ClientId"] is None:
        module_server.put_v2(OAUTH).raise_for_status()


def bodies(whole: bytes) -> list[bytes]:
    """What is no JSON object, around a body that is one."""
    inside = whole[:-1] + b', "Extra": %s, "extra_too": 1}'
    broken = [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"true",
        b"{",
        b"}",
        b"[" + whole + b"]",
        whole + whole,
        whole[:-1],
    ]
    broken += [
        b"{} {}",
        b"{'a': 1}",
        b"{a: 1}",
        b'{"a": 1,}',
        b"<smtp/>",
        b"Host=h&Port=25",
        whole + b"\0",
        b"\0" + whole,
    ]
    broken += [b"\xff\xfe", b'{"Host": "\xff"}', b'{"Host": "\xc3"}', b'{"Host": "\xed\xa0\x80"}', b'{"\xff": 1}']
    broken += [whole.decode().encode(form) for form in ("utf-16", "utf-32", "utf-16-le")]
    broken += [b'{"Host": "a\nb"}', b'{"Host": "a\0b"}', b'{"Host": "\\x41"}', b'{"Host": "\\u12"}']
    broken += [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 40_000,
        b'{"a":' * 40_000 + b"1" + b"}" * 40_000,
    ]
    broken += [inside % number for number in (b"NaN", b"Infinity", b"-Infinity", b"9" * 5000, b"-" + b"9" * 5000)]
    broken += [inside % (b"[" * 100_000 + b"]" * 100_000), inside % (b'{"a":' * 30_000 + b"1" + b"}" * 30_000)]
    return broken


@each_endpoint
def test_a_body_that_is_no_json_object_is_refused(endpoint, module_server):
    with nothing_changes(module_server):
        for body in bodies(json.dumps(endpoint.body).encode()):
            if endpoint.method == "PATCH" and body in {b"{}", b" "}:
                continue
            complaint(endpoint.send(module_server, body), 400)


@each_endpoint
def test_nesting_that_just_fits_the_limit_is_refused_too(endpoint, module_server):
    with nothing_changes(module_server):
        for body in (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"a":' * 100_000):
            complaint(endpoint.send(module_server, body), 400, 413)


@each_endpoint
def test_a_body_that_is_too_large_is_refused(endpoint, module_server):
    whole = json.dumps(endpoint.body).encode()
    with nothing_changes(module_server):
        for size in (256 * 1024 + 1, 1_000_000):
            complaint(endpoint.send(module_server, whole + b" " * (size - len(whole))), 413)
            filled = endpoint.body | {"Extra": "x" * size}
            complaint(endpoint.send(module_server, filled), 413)


MEDIA = ["application/xml", "text/xml", "text/plain", "multipart/form-data; boundary=x", "application/octet-stream"]
MEDIA += ["json", "application/jsonx", "text/html", "", ";", "*/*", "application/json, text/json"]
MEDIA += ["application/x-ndjson"]
MEDIA += ["application/json; charset=utf-16", "application/json; charset=latin1", "text/json;charset=ebcdic"]
MEDIA += ["application/x-www-form-urlencoded"]


@each_endpoint
@pytest.mark.parametrize("media", MEDIA)
def test_other_media_types_are_refused(endpoint, media, module_server):
    if endpoint.name == "PUT v1" and "form" in media and "multipart" not in media:
        return
    headers = endpoint.headers | {"content-type": media}
    with nothing_changes(module_server):
        body = json.dumps(endpoint.body)
        complaint(module_server.request(endpoint.method, endpoint.path, headers=headers, content=body), 415)


FORMS = [
    b"",
    b"x",
    b"Host=h",
    b"Host=%00",
    b"Host=%0d%0aX:y",
    b"Host=%ff",
    b"Host=%c3",
    b"Host=h\xe4",
    b"Host=h&host=h",
]
FORMS += [b"&".join(b"a%d=1" % number for number in range(101)), b"Port=abc", b"Port=1.5", b"Port=-1", b"UseSSL=maybe"]
FORMS += [
    b"Host=h&Port=25&SenderAccount=x&SenderName=y",
    b"RelayAuthenticationType=3",
    b"Host=" + b"h" * 300,
    b"\0",
    b"&&&",
]


def test_forms_that_make_no_profile_are_refused(module_server):
    with nothing_changes(module_server):
        for form in FORMS:
            complaint(module_server.put(SMTP, headers=FORM, content=form), 400)


OPERATIONS = [("GET", SMTP), ("PUT", SMTP), ("POST", TEST), *(("GET", path) for path in STATUS)]
VERSIONS = [
    "3",
    "x",
    "0",
    "-1",
    "1.1",
    "2.1",
    "01",
    "2.00",
    "v1",
    "1,2",
    "1, 1",
    "1;2",
    "",
    "9" * 5000,
    "1.0.0",
    "\u00b2",
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_unknown_versions_are_refused_with_the_known_ones(method, path, module_server):
    offered = ["1.0", "2.0"] if path in {SMTP, TEST} else ["1.0"]
    with nothing_changes(module_server):
        for version in VERSIONS:
            headers = {"x-keyfactor-api-version": version.encode("latin-1")}
            answer = module_server.request(method, path, headers=headers, content=json.dumps(V1_BASIC))
            message = complaint(answer, 400)
            assert all(name in message for name in offered)
            assert answer.headers["api-supported-versions"] == ", ".join(offered)
        two = [("x-keyfactor-api-version", "1"), ("x-keyfactor-api-version", "2")]
        complaint(module_server.request(method, path, headers=two, content=json.dumps(V1_BASIC)), 400)


METHODS = ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND", "REPORT", "MERGE"]


@pytest.mark.parametrize("path", [SMTP, TEST, OWN, *STATUS, "/livez", "/readyz"])
def test_methods_that_a_path_does_not_offer_are_refused(path, module_server):
    offered = {SMTP: {"GET", "PUT"}, TEST: {"POST"}, OWN: {"GET", "PUT", "PATCH"}, "/livez": {"GET", "HEAD"}}
    offered["/readyz"] = offered["/livez"]
    with nothing_changes(module_server):
        for method in (
            "GET",
            "PUT",
            "POST",
            "PATCH",
            "DELETE",
            "OPTIONS",
            "HEAD",
            "TRACE",
            "PROPFIND",
            "REPORT",
            "MERGE",
        ):
            expected = offered.get(path, {"GET"})
            if method in expected:
                continue
            answer = module_server.request(method, path)
            assert answer.status_code == 405, method
            assert set(answer.headers["allow"].split(", ")) == expected
            if method != "HEAD":
                complaint(answer, 405)


PATHS = [
    "//",
    "//SMTP",
    "/KeyfactorAPI//SMTP",
    "/KeyfactorAPI/%2fSMTP",
    "/KeyfactorAPI/..%2fSMTP",
    "/KeyfactorAPI/%2e%2e/x",
]
PATHS += [
    "/KeyfactorAPI/SMTP%00",
    "/%00",
    "/KeyfactorAPI/SMTP%0a",
    "/KeyfactorAPI/SMTP;x",
    "/KeyfactorAPI/SMTP/1",
    "/%ff%fe",
]
PATHS += [
    "/KeyfactorAPI/SMTP/Test/x",
    "/KeyfactorAPI",
    "/KeyfactorAPI/",
    "/api",
    "/api/v1",
    "/api/v2/profile",
    "/favicon.ico",
]
PATHS += [
    "/KeyfactorAPI/SMTP%2fTest%2f..",
    "/" + "a" * 20_000,
    "/KeyfactorAPI/" + "a/" * 5000,
    "/etc/passwd",
    "/{}",
    "/%7b0%7d",
]
PATHS += [
    "/KeyfactorAPI/SMTP%20",
    "/\u0130",
    "/KEYFACTORAP\u0131/SMTP",
    "/.git/config",
    "/docs/../../etc/passwd",
    "/docs/%2e%2e",
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:30])
def test_odd_paths_lead_nowhere(path, module_server):
    with nothing_changes(module_server):
        for method in ("GET", "PUT", "POST"):
            answer = module_server.request(method, path, json=V1_BASIC)
            if path in {"//", "//SMTP"}:  # to some clients a host: the way to the documents
                assert answer.status_code in {307, 404, 405}
            else:
                complaint(answer, 404)


def test_a_condition_that_does_not_hold_changes_nothing(module_server):
    with nothing_changes(module_server):
        for endpoint in (ENDPOINTS[0], ENDPOINTS[1], *ENDPOINTS[4:]):
            for tag in ('"1-0"', "x", "", '""', 'W/"1-0"', '"' + "a" * 5000 + '"', '"\\"', ", ,", '"*"'):
                headers = endpoint.headers | {"if-match": tag}
                answer = module_server.request(endpoint.method, endpoint.path, headers=headers, json=endpoint.body)
                complaint(answer, 412)
            headers = endpoint.headers | {"if-none-match": "*"}
            answer = module_server.request(endpoint.method, endpoint.path, headers=headers, json=endpoint.body)
            complaint(answer, 412)


def basic(text: bytes) -> bytes:
    return b"Basic " + base64.b64encode(text)


SHAPES = [
    b"",
    b"Basic",
    b"Basic !!!",
    b"Basic a",
    b"Basic =",
    b"Bearer",
    b"Bearer a.b.c",
    b"Negotiate YII",
    b"Basic \xe4",
]
SHAPES += [
    basic(text)
    for text in (b"nocolon", b":", b":x", b"\xff\xfe:\xff", b"admin:\0", b"\0:x", b"a\r\nb:x", b"\xc3\xa4:x")
]
SHAPES += [
    basic(b"admin:" + b"x" * 10_000),
    b"Basic " + b"A" * 10_000,
    b"x" * 10_000,
    b"\xff\xfe",
    b"Digest username=x",
]
SHAPES += [
    basic(b"admin:wrong"),
    basic(b"admin:wrong") + b" more",
    b"BasicYTpi",
    b"basic\tYTpi",
    basic(b"x" * 3000 + b":x"),
]
SHAPES += [
    basic(b"admin\\:x"),
    basic(b"\\admin:x"),
    basic(b"a\\b\\c:x"),
    basic("\u202e:x".encode()),
    b"Basic Basic YTpi",
]


@pytest.mark.parametrize("path", [SMTP, OWN])
def test_credentials_of_every_wrong_shape_are_refused(path, module_server):
    for shape in SHAPES:
        answer = module_server.client.request("GET", path, headers=[(b"authorization", shape)], auth=_as_it_is)
        complaint(answer, 401, 429)
        assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
        assert ("retry-after" in answer.headers) == (answer.status_code == 429)
    complaint(module_server.client.request("GET", path, auth=_as_it_is), 401)
    assert module_server.get(path).status_code == 200  # the owner still gets in


def test_changes_without_credentials_are_refused(module_server):
    with nothing_changes(module_server):
        for endpoint in ENDPOINTS:
            for body in (json.dumps(endpoint.body), "{", "[" * 100_000):
                content = {"content": body, "headers": endpoint.headers}
                complaint(module_server.client.request(endpoint.method, endpoint.path, auth=_as_it_is, **content), 401)
    complaint(module_server.client.get(SMTP, headers=V2, auth=_as_it_is), 401)


def _as_it_is(request: Any) -> Any:
    return request
