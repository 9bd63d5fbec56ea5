"""What keyrelay runs on, and how long that gets security fixes."""

from __future__ import annotations

from datetime import date

from keyrelay.health.finding import Finding, failure, ok, warning

# When security fixes end (devguide.python.org/versions).
_PYTHON_ENDS = {
    (3, 11): date(2027, 10, 31),
    (3, 12): date(2028, 10, 31),
    (3, 13): date(2029, 10, 31),
    (3, 14): date(2030, 10, 31),
}
_OPENSSL_3 = 3


def python_found(running: tuple[int, int, int], today: date) -> Finding:
    name = "Python " + ".".join(map(str, running))
    ends = _PYTHON_ENDS.get(running[:2])
    if running < (3, 11):
        return failure(f"{name} is too old.", "Install Python 3.11 or newer.")
    if ends is not None and today > ends:
        return warning(f"{name} gets no security fixes since {ends}.", "Install a newer Python.")
    return ok(f"This is {name}.")


def openssl_found(major: int, name: str) -> Finding:
    if major < _OPENSSL_3:
        return warning(f"{name} gets no security fixes any more.", "Use a Python that is built with OpenSSL 3.")
    return ok(f"TLS is that of {name}.")
