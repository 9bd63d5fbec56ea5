"""What comes between us and any vault over HTTP, and what it is told as."""

from __future__ import annotations

from double import Answered, page

from keyrelay.pam.backend import Problem

HUGE = 100 * 1024 * 1024

BROKEN: dict[str, tuple[Answered, Problem]] = {
    "a page of HTML": (page(), "bad_answer"),
    "nothing": (Answered(), "bad_answer"),
    "a list": (Answered(200, b"[]"), "bad_answer"),
    "JSON that ends early": (Answered(200, b'{"token": "'), "bad_answer"),
    "100 MB": (Answered(200, b'"', huge=HUGE), "bad_answer"),
    "a redirect": (Answered(302, headers={"location": "https://other.example/"}), "bad_answer"),
    "an error of its own": (page(500), "bad_answer"),
    "a refusal": (page(401), "denied"),
    "too many requests": (page(429), "sealed"),
    "a gateway without a vault": (page(502), "sealed"),
    "maintenance": (page(503), "sealed"),
    "a gateway that waited": (page(504), "timeout"),
    "the end of the connection": (Answered(hang_up=True), "unreachable"),
    "silence": (Answered(wait=30.0), "timeout"),
}
