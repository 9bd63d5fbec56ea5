"""The catcher's inbox: bounded, and whatever a message says stands there as text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from keyrelay.chaos.memory import Received
from keyrelay.demo import inbox
from keyrelay.demo.catcher import Inbox
from keyrelay.demo.local_http import HOST, free_socket, port_of, serving

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
CODED = "=?utf-8?q?=3Cscript=3Ealert=283=29=3C/script=3E?="
HOSTILE = f"""\
From: "{SCRIPT}" <a@b.test>
Subject: {SCRIPT} {CODED}
X-<script>alert(4)</script>: \"><svg/onload=alert(5)>
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=<script>

{SCRIPT} </pre> \u202eturned around
--b
Content-Type: text/html
Content-Disposition: attachment; filename="</h2>{SCRIPT}.html"

<html><body onload="alert(6)">{SCRIPT}</body></html>
--b
Content-Type: image/svg+xml; name=<script>

<svg onload="alert(7)"/>
--b--
"""
ALLOWED = {"html", "head", "meta", "title", "link", "body", "header", "main", "h1", "h2", "p", "a", "div", "time", "dl"}
ALLOWED |= {"dt", "dd", "pre", "table", "caption", "thead", "tbody", "tr", "th", "td"}


def received(content: bytes, sender: str = "a@b.test", recipients: tuple[str, ...] = ("c@d.test",)) -> Received:
    return Received(sender, recipients, content.replace(b"\n", b"\r\n"), 1, "mailer", True, "")


def subjects(text: str) -> list[str]:
    return re.findall(r'class="subject"><a href="/messages/\d+">([^<]*)</a>', text)


def with_pages(kept: Inbox, work: Callable[[httpx2.AsyncClient], Awaitable[Any]]) -> Any:
    """Look at the pages over a real socket."""

    async def run() -> Any:
        listener = free_socket()
        url = f"http://{HOST}:{port_of(listener)}"
        async with serving(inbox.application(kept), listener), httpx2.AsyncClient(base_url=url) as client:
            return await work(client)

    return asyncio.run(run())


class Elements(HTMLParser):
    """What a browser would make of a page: its elements, their attributes, and what would be styled or run."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)


def test_a_hostile_message_stands_there_as_text_and_nothing_of_it_becomes_an_element():
    kept = Inbox()
    kept.take(received(HOSTILE.encode(), sender='"<script>"@b.test', recipients=("<img/src=x>@d.test",)))

    async def look(client):
        return [await client.get(path) for path in ("/", "/messages/1", "/messages/1/raw")]

    listed, shown, raw = with_pages(kept, look)
    for answer in (listed, shown):
        elements = Elements(answer.text)
        assert elements.names <= ALLOWED
        assert not [name for name in elements.attributes if name.startswith("on") or name in {"style", "src"}]
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; ")
        assert "unsafe" not in policy
    assert "&lt;script&gt;alert(3)&lt;/script&gt;" in listed.text
    for number in range(1, 7):
        assert f"alert({number})" in shown.text
    assert "alert(7)" not in shown.text, "what is no text is not shown"
    assert "\u202e" not in shown.text
    assert raw.headers["content-type"] == "text/plain; charset=utf-8"
    assert raw.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert raw.headers["x-content-type-options"] == "nosniff"
    assert raw.content == HOSTILE.encode().replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe no header",
        b"Subject: =?nonsense?q?=FF?=\n\nx",
        b"Subject: =?utf-8?b?A?=\n\nx",
        b"Subject: " + b"x" * 100_000 + b"\n\nx",
        b"Content-Type: text/plain; charset=\xff\xfe\n\nx",
        b"Content-Type: text/plain; charset=zip\n\nx",
        b"Content-Transfer-Encoding: base64\n\n!!!",
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2000)),
        b"Content-Type: message/rfc822\n\nContent-Type: multipart/mixed\n\nx",
        b"".join(b"X-%d: y\n" % n for n in range(20_000)),
    ],
)
def test_a_message_that_is_none_is_shown_too(content):
    kept = Inbox()
    kept.take(received(content))
    kept.take(received(b"Subject: the next one\n\nx"))

    async def look(client):
        return [(await client.get(path)).status_code for path in ("/", "/messages/1", "/messages/1/raw")]

    assert with_pages(kept, look) == [200, 200, 200]


def test_the_newest_stands_first_and_the_oldest_make_room():
    kept = Inbox(messages=3)
    for number in range(1, 6):
        kept.take(received(b"Subject: number %d\n\nx" % number))

    async def look(client):
        first = await client.get("/")
        return first.text, (await client.get("/messages/2")).status_code, (await client.get("/messages/3")).status_code

    text, gone, there = with_pages(kept, look)
    assert subjects(text) == ["number 5", "number 4", "number 3"]
    assert "2 older ones are not kept any more" in text
    assert (gone, there) == (404, 200)


def test_large_messages_make_room_for_each_other_and_the_newest_stays():
    kept = Inbox(octets=1000)
    for size in (400, 400, 400, 5000):
        kept.take(received(b"x" * size))
    assert [len(caught.received.content) for caught in kept.newest_first()] == [5000]
    kept.take(received(b"y" * 400))
    kept.take(received(b"y" * 400))
    assert len(kept.newest_first()) == 2


def test_another_hosts_name_that_leads_here_gets_nothing():
    async def look(client):
        return await client.get("/", headers={"host": "attacker.test"})

    assert with_pages(Inbox(), look).status_code == 400
