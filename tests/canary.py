"""Secrets that can be told from everything else, and the search for any piece of them."""

from __future__ import annotations

import base64
import secrets

WINDOW = 6
# Six of these in a row stand in no text by chance.
_LETTERS = "QXZJVKWqxzjvkwY"


_given: set[str] = set()


def new_canary() -> str:
    """A secret no piece of which stands in another one: some of them are shown, as user names are."""
    while True:
        canary = "".join(secrets.choice(_LETTERS) for _ in range(24))
        pieces = {canary[start : start + WINDOW] for start in range(len(canary) - WINDOW + 1)}
        if _given.isdisjoint(pieces):
            _given.update(pieces)
            return canary


def traces(secret: str) -> set[bytes]:
    """Every piece of a secret; and some that lie side by side in the usual disguises."""
    raw = secret.encode()
    found = {raw[start : start + WINDOW] for start in range(len(raw) - WINDOW + 1)}
    for start in range(0, len(raw) - WINDOW + 1, WINDOW):
        piece = raw[start : start + WINDOW]
        found |= {piece.hex().encode(), piece.hex().upper().encode()}
        found.add("".join(f"%{octet:02X}" for octet in piece).encode())
        found.add("".join(f"\\u{octet:04x}" for octet in piece).encode())
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")[2 * shift : -2]
        found |= {encoded[start : start + 8] for start in range(0, len(encoded) - 7, 8)}
    return found


def leaks(planted: dict[str, str], place: bytes) -> list[str]:
    """Which of the planted secrets can be seen in a place."""
    return [name for name, secret in planted.items() if any(trace in place for trace in traces(secret))]
