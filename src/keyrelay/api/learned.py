"""What a stage of a test has learned, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

_CLOCKS_AGREE_SECONDS = 5  # an HTTP answer dates itself in whole seconds, and takes its time


def shown(value: object) -> str:
    """One line that no terminal takes as a command: much of it was said by strangers."""
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


def briefly(learned: Mapping[str, Any]) -> str:
    """What goes on the line of the stage."""
    return "; ".join(_written(learned, _BRIEF))


def in_detail(learned: Mapping[str, Any]) -> list[str]:
    """What goes below it: what a remedy asks to compare, and what else can tell why the stage failed."""
    seen = learned.get("seen_without_verification") or {}
    return list(_written({**seen, **learned}, _DETAIL))


def _written(learned: Mapping[str, Any], words: Mapping[str, Callable[[Any], str]]) -> Iterator[str]:
    for name, write in words.items():
        value = learned.get(name)
        if value is not None and (text := write(value)):
            yield shown(text)


def _list(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list) else str(values)


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _after(label: str, write: Callable[[Any], str] = _list) -> Callable[[Any], str]:
    def written(value: Any) -> str:
        text = write(value)
        return f"{label}: {text}" if text else ""

    return written


def _skew(seconds: int) -> str:
    if abs(seconds) < _CLOCKS_AGREE_SECONDS:
        return ""
    return f"our clock is {abs(seconds)} s {'ahead of' if seconds > 0 else 'behind'} the token endpoint's"


def _chain(certificates: list[Mapping[str, Any]]) -> str:
    """The certificate of the server, and how many came with it."""
    if not certificates:
        return ""
    own, days = certificates[0], certificates[0]["days_left"]
    end = f"{days} days left" if days >= 0 else f"ended {-days} days ago"
    rest = f", with {len(certificates) - 1} more" if len(certificates) > 1 else ", alone"
    return (
        f"for {_list(own['names']) or own['subject']}, issued by {own['issuer']}, "
        f"from {own['not_before'][:10]} to {own['not_after'][:10]} ({end}){rest}"
    )


_BRIEF: Mapping[str, Callable[[Any], str]] = {
    "addresses": _list,
    "address": str,
    "family": str,
    "greeting": str,
    "extensions": _list,
    "protocol": str,
    "cipher": str,
    "not_verified": lambda kind: f"certificate not verified: {kind}",
    "mechanism": str,
    "lifetime": lambda seconds: f"token for {seconds} s",
    "status": lambda status: f"HTTP {status}",
    "answer": str,
}
_DETAIL: Mapping[str, Callable[[Any], str]] = {
    "other_attempts": _after("other addresses", _pairs),
    "attempts": _after("addresses tried", _pairs),
    "certificates": _after("certificate", _chain),
    "offered": _after("offered"),
    "mechanisms": _after("mechanisms offered"),
    "other_ports": _after("other ports", _pairs),
    "audience": _after("the token is for"),
    "roles": _after("its roles"),
    "scopes": _after("its scopes"),
    "clock_skew": _skew,
    "error": _after("error"),
    "error_description": _after("the token endpoint said"),
    "explained": _after("the relay explained", _pairs),
}
