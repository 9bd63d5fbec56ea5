"""How much a browser gets to show a page for the first time."""

from __future__ import annotations

from browsing import window

from keyrelay.portal.portal import ROOMS

MOST = 100_000  # bytes on the wire, with style, modules and icon
NO_PAGES = {"/audit/download"}  # a file


def test_the_first_load_of_every_page_is_small(chromium, module_server):
    paths = {path for room in ROOMS for path, rights in room.items() if "GET" in rights and "{" not in path}
    with window(chromium, module_server) as page:
        network = page.context.new_cdp_session(page)
        network.send("Network.enable")
        sizes: list[float] = []
        network.on("Network.loadingFinished", lambda told: sizes.append(told["encodedDataLength"]))
        for path in sorted(paths - NO_PAGES):
            network.send("Network.clearBrowserCache")
            sizes.clear()
            page.goto(f"/portal{path}", wait_until="load")
            assert len(sizes) > 1, path
            assert sum(sizes) < MOST, (path, sizes)
