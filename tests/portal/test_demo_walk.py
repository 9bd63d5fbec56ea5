"""A walk through the demo in a browser, as somebody who tries it goes; and the pictures of the README, made on the way.

``make pictures`` writes them anew. Without that, they have to be of the pages as they are: a page that has changed
since fails the test.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import require_well_made, sign_in, window

from demo_process import DemoProcess, started
from keyrelay.portal.assets import STATIC
from keyrelay.portal.rendering import TEMPLATES

PICTURES = Path(__file__).parents[2] / "docs/pictures"
OF = PICTURES / "pages.sha256"
WIDTH, HEIGHT = 1180, 820


# Words and shapes on the pages that come from the code.
WORDS = (
    *(f"portal/{name}.py" for name in ("navigation", "diagnosis_shown", "charts", "outbox", "smtp", "smtp_form")),
    *("profile/presets.py", "profile/on_the_wire.py", "demo/example.py", "demo/example_mail.py"),
)


def pages() -> str:
    """What the pictures are of: the same as long as no template, style, module or word has changed, nor this walk."""
    digest = hashlib.sha256()
    code = [TEMPLATES.parents[1] / name for name in WORDS]
    for file in sorted([*TEMPLATES.iterdir(), *STATIC.iterdir(), *code, Path(__file__)]):
        if file.is_file():
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest() + "\n"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[DemoProcess]:
    with started(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


@pytest.fixture
def take(tmp_path):
    """Take a picture of what the window shows."""
    made = "MAKE_PICTURES" in os.environ

    def take(page, name: str) -> None:
        page.mouse.move(0, 0)
        page.screenshot(path=(PICTURES if made else tmp_path) / f"{name}.png")

    yield take
    if made:
        OF.write_text(pages())


@pytest.mark.long
def test_a_walk_through_the_demo(chromium, demo, take):
    inbox = demo.inbox.split("/")[2]
    with window(chromium, demo.url, width=WIDTH, user=None, allowed=(inbox,)) as page:
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        sign_in(page, "admin", demo.password("admin"))
        require_well_made(page)

        page.get_by_role("link", name="SMTP configuration").first.click()
        require_well_made(page)
        take(page, "smtp")

        page.get_by_role("navigation").get_by_role("link", name="Test").click()
        page.get_by_role("radio", name="Message. ").check()
        page.get_by_label("Recipient", exact=True).fill("nobody@refused.example")
        page.get_by_role("button", name="Run the test").click()
        page.get_by_text("550 5.1.1").first.wait_for()
        require_well_made(page)
        page.get_by_role("region", name="What the test found").scroll_into_view_if_needed()
        take(page, "test")

        page.get_by_label("Recipient", exact=True).fill("ops@example.org")
        page.get_by_role("button", name="Run the test").click()
        page.get_by_role("heading", name="It works").wait_for()

        page.emulate_media(color_scheme="dark")
        page.get_by_role("navigation").get_by_role("link", name="Outbox").click()
        page.get_by_text("refused").first.wait_for()
        require_well_made(page)
        take(page, "outbox")
        page.emulate_media(color_scheme="light")

        for room in ("PAM providers", "History", "Audit", "Access", "Health"):
            page.get_by_role("navigation").get_by_role("link", name=room).click()
            page.get_by_role("heading", level=1).wait_for()
            require_well_made(page)

        page.goto(demo.inbox)
        require_well_made(page)
        newest = page.locator("table tbody tr").first
        assert "ops@example.org" in newest.inner_text()
        newest.get_by_role("link").first.click()
        require_well_made(page)


def test_alice_comes_in_through_the_identity_provider_of_the_demo(chromium, demo):
    with window(chromium, demo.url, user=None, allowed=(demo.issuer.split("/")[2],)) as page:
        page.goto(demo.portal)
        page.get_by_role("link", name="Sign in with Demo identity provider").click()
        require_well_made(page)
        page.get_by_role("link", name="Sign in as alice").click()
        page.wait_for_url("**/portal/")
        assert "demo:alice" in page.get_by_role("banner").inner_text()
        page.get_by_role("link", name="SMTP configuration").first.click()
        assert page.get_by_role("button", name="Save").is_visible()


def test_the_pictures_are_of_the_pages_as_they_are():
    names = {"smtp", "test", "outbox"}
    assert {file.stem for file in PICTURES.glob("*.png")} == names
    readme = (PICTURES.parents[1] / "README.md").read_text()
    assert all(f"(docs/pictures/{name}.png)" in readme for name in names)
    assert OF.read_text() == pages(), "the pages have changed since: make pictures"
