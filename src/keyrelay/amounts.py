"""Amounts in words for people."""

from __future__ import annotations

_KILO = 1024
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def octets_text(octets: int) -> str:
    """So many bytes, rounded."""
    amount = float(octets)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < _KILO:
            return f"{octets} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= _KILO
    return f"{amount:.1f} TiB"


def span_text(seconds: float) -> str:
    """How long it is, in its two largest units."""
    left = max(int(seconds), 0)
    parts: list[str] = []
    for unit, length in _UNITS:
        amount, left = divmod(left, length)
        if amount or parts:
            parts.append(f"{amount} {unit}" if amount else "")
    return " ".join(part for part in parts[:2] if part) or "0 s"
