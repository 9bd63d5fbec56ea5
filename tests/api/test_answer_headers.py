"""Headers that every answer has to have, whatever route and whatever kind of answer: a new route cannot forget them."""

from __future__ import annotations

from dataclasses import replace

import httpx2
import pytest
import trustme

from complaints import OWN
from keyrelay.errors import StoreUnavailable
from live import ANONYMOUS, BASIC, SMTP, V2, LiveServer
from wire import connection, read_answer

HSTS = "strict-transport-security"
# The same for everybody until keyrelay is updated.
SHARED = {"/", "/docs"}
NUMBER = "3"
_PAGE_POLICY = {
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def is_shared(path):
    return path in SHARED or path.startswith("/docs/")


def routes(server):
    """Every path that is served, with something in the place of what it leaves open."""
    router = server.node.application()._router
    return [route.path.replace("{id}", NUMBER).replace("{name}", NUMBER) for route in router.routes]


def assert_well_dressed(answer, path):
    headers = answer.headers
    assert not {"server", "x-powered-by", "via"} & set(headers), path
    assert headers["x-content-type-options"] == "nosniff", path
    shared = is_shared(path) and answer.status_code < 400
    assert headers["cache-control"] == ("public, max-age=300" if shared else "no-store"), path
    assert HSTS not in headers
    if answer.status_code >= 400:
        assert headers["x-request-id"], path
        assert "json" in headers["content-type"], path
    if headers.get("content-type", "").startswith("text/html"):
        assert_is_a_strict_page(headers)


def assert_is_a_strict_page(headers):
    policy = dict(part.strip().partition(" ")[::2] for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "form-action" in policy
    assert "unsafe" not in headers["content-security-policy"]
    assert "*" not in headers["content-security-policy"]
    assert {name: headers[name] for name in _PAGE_POLICY} == _PAGE_POLICY
    assert "camera=()" in headers["permissions-policy"]


WAYS = {
    "an administrator reads": ("GET", {}),
    "an administrator asks with nothing": ("POST", {}),
    "a stranger": ("GET", {"auth": ("nobody", "wrong")}),
    "somebody unsigned": ("GET", {"auth": None}),
    "another version": ("GET", {"headers": {"x-keyfactor-api-version": "9"}}),
    "a method that nothing has": ("TRACE", {}),
    "no JSON": ("PUT", {"content": b"{", "headers": {"content-type": "application/json"}}),
    "not JSON": ("PUT", {"content": b"{", "headers": {"content-type": "text/html"}}),
    "too much": ("PUT", {"content": b" " * 300_000}),
    "another web page": ("DELETE", {"headers": {"origin": "https://elsewhere.example"}}),
}


@pytest.fixture(scope="module")
def furnished(module_server):
    module_server.put_v2(BASIC).raise_for_status()
    return module_server


@pytest.mark.parametrize("way", WAYS)
def test_every_route_says_what_it_must_in_every_kind_of_answer(way, furnished, monkeypatch):
    monkeypatch.setattr("keyrelay.api.outbox._LONGEST_SECONDS", 0.0)
    method, more = WAYS[way]
    paths = routes(furnished)
    assert len(paths) > 30
    for path in paths:
        auth = more.get("auth", furnished.auth)
        rest = {name: value for name, value in more.items() if name != "auth"}
        answer = httpx2.request(method, furnished.url + path, auth=auth, timeout=30, **rest)
        assert_well_dressed(answer, path)


@pytest.mark.parametrize("path", ["/nothing", "/KeyfactorAPI", "/KeyfactorAPI/nothing", "/api/v1", "/docs/x", "/%7f"])
def test_what_is_not_there_says_it_too(path, furnished):
    answer = furnished.get(path)
    assert answer.status_code == 404
    assert_well_dressed(answer, "")


def test_the_quick_road_says_it_too(furnished):
    answer = furnished.get(SMTP, headers=V2)
    assert answer.status_code == 200
    assert_well_dressed(answer, SMTP)
    known = furnished.get(SMTP, headers=V2 | {"if-none-match": answer.headers["etag"]})
    assert known.status_code == 304
    assert_well_dressed(known, SMTP)


@pytest.mark.parametrize(
    "octets", [b"\0\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, b"BREW / HTTP/1.1\r\n\r\n"]
)
def test_what_is_answered_before_it_is_read_says_it_too(octets, furnished):
    with connection(furnished) as opened:
        opened.sendall(octets)
        answer = read_answer(opened)
    assert answer.status_code in {400, 431}
    assert "date" in answer.headers
    assert_well_dressed(answer, "")


def test_a_server_that_cannot_says_it_too(sqlite_server, monkeypatch):
    async def gone(*_):
        raise StoreUnavailable("gone")

    async def broken(*_, **__):
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(type(sqlite_server.node.store), "ping", gone)
        assert_well_dressed(sqlite_server.get("/readyz"), "/readyz")
        answer = sqlite_server.get("/KeyfactorAPI/Status/HealthCheck")
        assert answer.status_code == 503
        assert_well_dressed(answer, "")
    monkeypatch.setattr(type(sqlite_server.node.keeper), "_write", broken)
    for answer in (sqlite_server.put_v2(ANONYMOUS), sqlite_server.put(OWN, json={"host": "x"})):
        assert_well_dressed(answer, "")


def test_a_server_that_is_full_says_it_too(sqlite_settings, start):
    server = start(replace(sqlite_settings, connections=1))
    server.client.close()
    with connection(server) as first:
        first.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        read_answer(first)
        with connection(server) as second:
            second.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = read_answer(second)
    assert answer.status_code == 503
    assert_well_dressed(answer, "")


# --- HSTS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    directory, authority = tmp_path_factory.mktemp("hsts"), trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    pair.private_key_pem.write_to_path(str(directory / "key.pem"))
    pair.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    return directory / "cert.pem", directory / "key.pem"


def asked(server: LiveServer, method: str, path: str, **more) -> httpx2.Response:
    return httpx2.request(method, server.url + path, verify=False, auth=server.auth, timeout=30, **more)


def test_with_a_certificate_of_the_operator_every_answer_says_that_https_is_the_only_way(
    sqlite_settings, start, certificate
):
    server = start(replace(sqlite_settings, tls_cert=certificate[0], tls_key=certificate[1]))
    asked(server, "PUT", SMTP, json=ANONYMOUS, headers=V2).raise_for_status()
    answers = [
        asked(server, "GET", path) for path in (SMTP, SMTP + "/", OWN, "/livez", "/docs", "/nothing", "/metrics")
    ]
    answers += [asked(server, "TRACE", SMTP), asked(server, "PUT", SMTP, content=b"{")]
    answers.append(asked(server, "GET", "/", headers={"x-long": "a" * 2_000_000}))
    assert {answer.status_code for answer in answers} == {200, 400, 404, 405, 431}
    for answer in answers:
        assert answer.headers.get_list(HSTS) == ["max-age=31536000"]


def test_with_a_certificate_made_here_no_answer_does(sqlite_settings, start):
    """A browser would then refuse plain http on localhost, for everything else that listens there."""
    server = start(replace(sqlite_settings, self_signed=True))
    assert server.url.startswith("https:")
    for path in (SMTP, "/livez", "/docs", "/nothing"):
        assert HSTS not in asked(server, "GET", path).headers
