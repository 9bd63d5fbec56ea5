"""A real browser's window on a real server, which complains of whatever a page must not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from live import ADMIN_PASSWORD, LiveServer

WIDE, NARROW = 1440, 360
# Each page is looked at as it is by day and by night, on a desk and on a telephone.
LOOKS = [("light", WIDE), ("dark", WIDE), ("light", NARROW), ("dark", NARROW)]
_AXE = Axe()


@contextmanager
def window(
    chromium: Browser,
    server: LiveServer | str,
    *,
    width: int = WIDE,
    colours: str = "light",
    script: bool = True,
    user: str | None = "admin",
    password: str = ADMIN_PASSWORD,
    allowed: tuple[str, ...] = (),
) -> Iterator[Page]:
    """A page of a new browser profile, signed in as ``user``.

    In the end there must have been no error on its console, and no request to another host than those ``allowed``.
    """
    url = server if isinstance(server, str) else server.url
    context = chromium.new_context(
        base_url=url,
        viewport={"width": width, "height": 900},
        color_scheme=colours,
        java_script_enabled=script,
        reduced_motion="reduce",
        ignore_https_errors=True,
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    complaints: list[str] = []
    hosts = {urlsplit(url).netloc, *allowed}
    page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if urlsplit(asked.url).netloc not in hosts else None)
    # What a page may answer itself without being wrong: the console tells of every status from 400 on.
    try:
        if user is not None:
            sign_in(page, user, password)
        yield page
        assert [said for said in complaints if "Failed to load resource" not in said] == []
    finally:
        context.close()


def sign_in(page: Page, user: str = "admin", password: str = ADMIN_PASSWORD) -> None:
    page.goto("/portal/sign-in")
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/portal/")


def cookie_of(server: LiveServer, user: str = "admin", password: str = ADMIN_PASSWORD) -> str:
    """The header ``cookie`` of a new session, for requests without a browser."""
    answer = httpx2.post(f"{server.url}/portal/sign-in", data={"name": user, "password": password})
    assert answer.status_code == 303, answer.text
    return answer.headers["set-cookie"].partition(";")[0]


def require_well_made(page: Page) -> None:
    """The page as it is now: axe finds nothing to complain of, and nothing is wider than the window."""
    found: dict[str, Any] = _AXE.run(page, options={"resultTypes": ["violations"]}).response
    told = [
        (violation["id"], violation["help"], [node["html"][:200] for node in violation["nodes"][:5]])
        for violation in found["violations"]
    ]
    assert told == [], page.url
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0, f"{page.url} is {wider} pixels too wide"
