"""From a first start to a test mail that was delivered: what somebody does who has read nothing but the terminal."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack, contextmanager

from browsing import require_well_made, sign_in, window

from keyrelay.chaos.certificates import Certificates
from keyrelay.demo.catcher import Inbox
from keyrelay.demo.credentials import MAILER, Credentials
from keyrelay.demo.start import surroundings
from live import Command
from relaying import beside

MOST_CLICKS = 6


@contextmanager
def first_start(environment):
    command = Command.serve(environment)
    try:
        yield command
    finally:
        command.stop()


class Catcher:
    """What the demo has around a keyrelay, without the keyrelay."""

    def __init__(self, directory) -> None:
        self.certificates = Certificates(directory)
        self.credentials = Credentials()

    async def start(self) -> None:
        self.stack = AsyncExitStack()
        running = surroundings(Inbox(), self.certificates, self.credentials)
        self.inbox, self.around = await self.stack.enter_async_context(running)

    async def stop(self) -> None:
        await self.stack.aclose()


def test_it_takes_no_more_than_six_clicks_after_signing_in(chromium, tmp_path, record_property):
    catcher = Catcher(tmp_path / "tls")
    environment = {
        "KEYRELAY_DATA_DIR": str(tmp_path / "data"),
        "KEYRELAY_CA_BUNDLE": str(catcher.certificates.authority),
        "KEYRELAY_NAME_SERVERS": "none",
    }
    began = time.monotonic()
    with (
        beside(catcher),
        first_start(environment) as command,
        window(chromium, command.url, user=None, allowed=(catcher.inbox.split("/")[2],)) as page,
    ):
        sign_in(page, "admin", command.password)
        clicks = 0

        def click(found) -> None:
            nonlocal clicks
            clicks += 1
            found.click()

        click(page.get_by_role("link", name="Configure SMTP"))
        page.get_by_label("Host", exact=True).fill("127.0.0.1")
        page.get_by_label("Port", exact=True).fill(str(catcher.around.relay_port))
        page.get_by_label("Sender account", exact=True).fill("pki@example.org")
        page.get_by_label("Sender name", exact=True).fill("PKI")
        assert page.get_by_role("checkbox", name="UseSSL").is_checked()
        click(page.get_by_role("radio", name="Basic"))
        page.locator("[name='relay_username.secret_value']").fill(MAILER)
        page.locator("[name='relay_password.secret_value']").fill(catcher.credentials.mailer_password.reveal())
        click(page.get_by_role("radio", name="Message. "))
        page.get_by_label("Recipient", exact=True).fill("tired.admin@example.org")
        click(page.get_by_role("button", name="Test these settings"))
        page.get_by_role("heading", name="It works").wait_for()
        click(page.get_by_role("button", name="Save", exact=True))
        page.get_by_role("status").filter(has_text="Saved").wait_for()
        taken = time.monotonic() - began
        require_well_made(page)
        page.goto(catcher.inbox)
        assert "tired.admin@example.org" in page.locator("table tbody tr").first.inner_text()
    record_property("seconds", round(taken, 1))
    assert clicks <= MOST_CLICKS
