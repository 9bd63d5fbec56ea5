"""A report as text: one line for each thing, whatever a relay has said."""

from __future__ import annotations

from typing import Any

from keyrelay.api import report_text

STAGE: dict[str, Any] = {
    "stage": "recipient",
    "verdict": "failed",
    "milliseconds": 12.34,
    "learned": {},
    "dialogue": ["> RCPT TO:<ops@example.org>", "< 550 no\x1b[2J\u202e\nTesting nothing."],
    "reply": {"code": 550, "enhanced": None, "lines": ["no\x1b[2J", "never\r\nIt works."]},
    "cause": {"id": "recipient-unknown", "sentence": "Nobody of that name.", "remedy": "Look it up."},
}
REPORT: dict[str, Any] = {
    "mode": "message",
    "message_id": None,
    "cause": STAGE["cause"],
    "stages": [STAGE],
    "advice": [{"topic": "spf", "verdict": "attention", "sentence": "There is none.", "remedy": "Publish one."}],
}


def test_a_report_is_lines_without_a_control_character():
    text = report_text.text(REPORT, report_text.opening("localhost", 25, "message", "ops@example.org"))
    assert text.splitlines() == [
        "Testing localhost, port 25, and mail ops@example.org.",
        " ✗ recipient    12.3 ms",
        "      > RCPT TO:<ops@example.org>",
        "      < 550 no [2J  Testing nothing.",
        " ! spf                   There is none.",
        "                         Publish one.",
        "It failed at the stage recipient. Nobody of that name.",
        "The relay said: 550 no [2J",
        "                    never  It works.",
        "What to do: Look it up.",
        "[recipient-unknown]",
    ]


def test_a_mode_says_what_its_success_means():
    said = {
        mode: report_text.success(REPORT | {"mode": mode, "message_id": "<1@x>"})
        for mode in ("connect", "envelope", "message")
    }
    assert said == {
        "connect": "The relay lets us in.",
        "envelope": "The relay would take the message.",
        "message": "The relay has taken the message <1@x>.",
    }
