"""Behind nginx with TLS, at a path of its own: every page and link works, and nothing leaves that path."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
import trustme
from browsing import require_well_made, window

from absent import absent
from live import ADMIN_PASSWORD

PREFIX = "/mail/relay"
PAGE = Path(__file__).parents[2] / "docs/portal.md"


@pytest.fixture
def proxied(sqlite_server, tmp_path) -> Iterator[str]:
    """The URL of a running nginx that hands what is below the prefix to the server."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        absent("nginx is not installed; to run these tests: apt-get install nginx-light")
    port = free_port()
    (tmp_path / "nginx.conf").write_text(configuration(tmp_path, port, urlsplit(sqlite_server.url).netloc))
    command = [program, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-e", str(tmp_path / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            wait_for(port)
            yield f"https://127.0.0.1:{port}{PREFIX}/"
        finally:
            process.terminate()


def configuration(directory: Path, port: int, server: str) -> str:
    certificate = trustme.CA().issue_cert("127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(directory / "proxy.pem"))
    temporary = "\n".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; worker_processes 1; pid {directory}/nginx.pid;
events {{ worker_connections 128; }}
http {{
  access_log off; {temporary}
  server {{
    listen 127.0.0.1:{port} ssl; ssl_certificate {directory}/proxy.pem; ssl_certificate_key {directory}/proxy.pem;
    {advised().replace("/mail/", PREFIX + "/").replace("127.0.0.1:8080", server)}
  }}
}}
"""


def advised() -> str:
    """What the page about the portal advises to tell nginx."""
    (found,) = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert time.monotonic() < deadline, "nginx did not start"
            time.sleep(0.02)
        else:
            return


def test_every_page_works_below_the_path_of_a_proxy(chromium, proxied):
    with window(chromium, proxied, user=None) as page:
        page.goto(proxied)
        assert page.url == proxied + "portal/sign-in"
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.wait_for_url(proxied + "portal/")
        require_well_made(page)
        links = page.locator("nav a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
        assert len(links) > 1
        for link in links:
            answer = page.goto(urljoin(proxied + "portal/", link))
            assert answer is not None
            assert answer.status == 200, link
            assert page.url.startswith(proxied + "portal/")
            for way in page.locator("a, link, form, script").evaluate_all(
                """all => all.flatMap(one => ["href", "action", "src"].map(name => one.getAttribute(name)))
                    .filter(way => way && !way.startsWith("#")).map(way => new URL(way, document.baseURI).href)"""
            ):
                assert way.startswith(proxied), way
        page.get_by_role("button", name="Sign out", exact=True).click()
        page.wait_for_url(proxied + "portal/sign-in")


def test_forms_the_live_test_and_the_live_outbox_work_behind_the_proxy(chromium, proxied, sqlite_server, relay):
    sink = relay()
    with window(chromium, proxied, user=None) as page:
        page.goto(proxied)
        page.get_by_label("User name").fill("admin")
        page.get_by_label("Password").fill(ADMIN_PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.get_by_role("link", name="Configure SMTP").click()
        for label, text in {
            "Host": "127.0.0.1",
            "Port": str(sink.port),
            "Sender account": "pki@example.org",
            "Sender name": "PKI",
        }.items():
            page.get_by_label(label, exact=True).fill(text)
        page.get_by_role("checkbox", name="UseSSL").uncheck()
        page.get_by_role("button", name="Test these settings").click()
        page.get_by_role("heading", name="It works").wait_for()
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_text("Saved.").wait_for()
        page.get_by_role("navigation").get_by_role("link", name="Outbox").click()
        page.get_by_text("Live: what is shown here is kept up to date.").wait_for()
        handed = sqlite_server.post("/api/v1/messages", json={"to": ["live@example.org"], "subject": "x", "text": "x"})
        assert handed.status_code == 202
        page.get_by_text("live@example.org").first.wait_for()


def test_the_path_without_its_slash_leads_to_the_same_page(chromium, proxied):
    with window(chromium, proxied, user=None) as page:
        page.goto(proxied + "portal")
        assert page.url == proxied + "portal/sign-in"
        page.goto(proxied + "portal/sign-in/")
        assert page.get_by_label("User name").is_visible()
        assert page.evaluate("getComputedStyle(document.body).marginTop") == "0px"  # the style came along
