"""The pages under /docs show everything, and need nothing from elsewhere."""

from __future__ import annotations

import re
import shlex
from html.parser import HTMLParser
from urllib.parse import urlsplit

import httpx2
import pytest
from pam_kit import PROVIDERS, entry, local, provider

from keyrelay.api import openapi, outbox
from keyrelay.api.problems import SHOWN
from keyrelay.errors import catalogue
from keyrelay.settings import Settings
from live import BASIC

EXAMPLE_PROVIDER = 3


class Page(HTMLParser):
    """The addresses a page refers to, its anchors, the text of its curl lines, and what a strict policy forbids."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors, self.curls, self.forbidden, self._in_curl = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.links += [attributes[key] for key in ("href", "src", "action", "data") if attributes.get(key)]
        self.anchors += [attributes["id"]] if "id" in attributes else []
        self.forbidden += [tag] if tag in {"script", "style", "iframe", "form", "img"} else []
        self.forbidden += [key for key in attributes if key == "style" or key.startswith("on")]
        if attributes.get("class") == "curl":
            self._in_curl = True
            self.curls.append("")

    def handle_endtag(self, tag):
        self._in_curl = self._in_curl and tag != "pre"

    def handle_data(self, data):
        if self._in_curl:
            self.curls[-1] += data


@pytest.mark.parametrize("path", ["/docs", "/docs/", "/docs/errors", "/DOCS/Errors"])
def test_a_page_refers_to_nothing_elsewhere_and_every_link_of_it_leads_somewhere(module_server, path):
    answer = httpx2.get(module_server.url + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert page.forbidden == []
    assert len(set(page.anchors)) == len(page.anchors)
    for link in set(page.links):
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc) == ("", "")
        if parts.path:
            assert httpx2.get(module_server.url + parts.path).status_code == 200
        else:
            assert parts.fragment in page.anchors


@pytest.mark.parametrize("path", ["/docs", "/docs/errors"])
def test_pages_forbid_browsers_whatever_they_do_not_need(module_server, path):
    headers = httpx2.get(module_server.url + path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "max-age" in headers["cache-control"]


def test_the_style_refers_to_nothing_elsewhere(module_server):
    answer = httpx2.get(module_server.url + "/docs/style.css")
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert not re.search(r"url\(|@import|https?:", answer.text)


def test_the_page_shows_every_operation_and_schema(module_server):
    page = Page(httpx2.get(module_server.url + "/docs").text)
    for name in openapi.NAMES:
        document = openapi.load(name, "/KeyfactorAPI")
        shown = [f"schema-{schema}" for schema in document["components"]["schemas"]]
        shown += [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
        assert {f"{name}-{each}" for each in shown} <= set(page.anchors)


def test_every_curl_line_on_the_page_works(module_server, monkeypatch):
    monkeypatch.setattr(outbox, "_LONGEST_SECONDS", 0.0)  # of a stream of events
    number = provider(module_server)
    while number < EXAMPLE_PROVIDER:
        module_server.request("DELETE", f"{PROVIDERS}/{number}").raise_for_status()
        number = provider(module_server)
    for name in ("smtp-pass", "smtp-old"):
        entry(module_server, number, name)
    lines = Page(httpx2.get(module_server.url + "/docs").text).curls
    assert lines
    for line in lines:
        module_server.put_v2({**BASIC, "RelayPassword": local(number)}).raise_for_status()
        answer = as_curl_would(module_server, shlex.split(line.replace("\\\n", "")))
        # A test goes as far as the relay, which is none here; the profile needs the provider of the examples, and there
        # is no message and no role like those in them.
        reached = (
            *("failed at the stage resolve", "is used by", "no such provider type", "no message of this id"),
            "There is no role number 2",
        )
        assert answer.is_success or any(each in answer.text for each in reached), f"{line}: {answer.text}"
        if "--request POST" in line and line.endswith(PROVIDERS):  # both versions show the same example
            module_server.request("DELETE", f"{PROVIDERS}/{answer.json()['Id']}").raise_for_status()


def as_curl_would(server, words):
    assert words.pop(0) == "curl"
    method, auth, headers, content = "GET", None, {}, None
    while words[0].startswith("--"):
        option, value = words.pop(0), words.pop(0)
        match option:
            case "--user":
                assert value == "admin"
                auth = server.auth
            case "--request":
                method = value
            case "--header":
                name, _, text = value.partition(": ")
                headers[name] = text
            case "--data":
                content = value
    (url,) = words
    assert url.startswith("http://127.0.0.1:0/")  # the test's settings ask for any free port
    there = server.url + url.removeprefix("http://127.0.0.1:0")
    return httpx2.request(method, there, auth=auth, headers=headers, content=content)


def test_the_errors_page_explains_every_code(module_server):
    answer = httpx2.get(module_server.url + "/docs/errors")
    page = Page(answer.text)
    assert {kind.code for kind in catalogue()} <= set(page.anchors)
    for kind, how in SHOWN.items():
        entry = answer.text.partition(f'id="{kind.code}"')[2].partition("</article>")[0]
        assert how.error_code in entry
        assert str(how.status) in entry


def test_a_problem_leads_to_its_entry_on_the_errors_page(module_server):
    problem = module_server.put("/api/v1/profile", json={}).json()
    path, _, anchor = problem["type"].partition("#")
    assert anchor in Page(httpx2.get(module_server.url + path).text).anchors


def test_the_documents_are_served_with_the_configured_base_path(sqlite_settings, start):
    served = start(Settings(data_dir=sqlite_settings.data_dir, port=0, admin_password="x" * 12, base_path="/Mail/API"))
    for name in ("keyfactor-v1", "keyfactor-v2"):
        found = httpx2.get(f"{served.url}/docs/{name}.json").json()
        assert found["servers"] == [{"url": "/Mail/API"}]
        assert found["paths"] == openapi.load(name, "/KeyfactorAPI")["paths"]
    assert "/Mail/API/SMTP" in httpx2.get(served.url + "/docs").text


def test_the_start_page_leads_to_the_portal_below_whatever_path_a_proxy_has(module_server):
    answer = httpx2.get(module_server.url + "/")
    assert (answer.status_code, answer.headers["location"]) == (307, "portal/")
